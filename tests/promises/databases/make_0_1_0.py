"""Made `0.1.0.sqlite3`: a database as version 0.1.0 left it, with something in every table. Kept to show how.

Its statements are those of that version: the first schema alone, and rows written out. The channels are kinds that
`tests/unit/core/test_saved.py` plays, in the form in which 0.1.0 saved them; all but one go by names of their own and
can prove nothing. The file is test data and is never made again: a change here does not change what was released.

    python -m tests.promises.databases.make_0_1_0 FILE
"""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from channeld.base.units import ChannelId
from channeld.core.saved import save
from tests.unit.core.test_saved import CHANNELS


def rows(connection: sqlite3.Connection, table: str, *values: tuple[Any, ...]) -> None:
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values[0]))})", values)


def make(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA page_size = 1024")
    script = resources.files("channeld.storage").joinpath("migrations", "0001_start.sql").read_text(encoding="utf-8")
    connection.executescript(f"{script}\nPRAGMA user_version = 1;")
    busy = CHANNELS["busy"]()
    wide = (7).to_bytes(16, "big")
    closing = replace(CHANNELS["closing"](), id=ChannelId(b"\1" * 32))
    recovering = replace(CHANNELS["recovering"](), id=ChannelId(b"\2" * 32))
    ended = replace(CHANNELS["ended"](), id=ChannelId(b"\3" * 32))
    fresh = replace(CHANNELS["fresh"](), id=ChannelId(b"\4" * 32))
    rows(connection, "channels", *((one.id, save(one)) for one in (busy, closing, recovering, ended, fresh)))
    rows(connection, "signed", *((one.id, *one.top) for one in (busy, closing, recovering)))
    rows(connection, "openings", (busy.id, b"memo", wide, 1))
    rows(connection, "arrivals", (busy.id, 1, b"onion"))
    forward = (busy.id, 1, b"\2" * 32, 1, b"k" * 32, wide, wide, b"s" * 32)
    done = (b"\3" * 32, 2, busy.id, 5, *forward[4:])
    rows(connection, "forwards", (*forward, "offered", b"", 1), (*done, "fulfilled", b"", 2))
    rows(connection, "preimages", (b"k" * 32, b"p" * 32))
    rows(
        connection,
        "transfers",
        (1, busy.id, b"1" * 16, 1, wide, "pending", 0, b"", 1, 0),
        (2, busy.id, b"2" * 16, 0, wide, "succeeded", 3, b"r" * 65, 1, 2),
        (3, busy.id, b"3" * 16, 1, wide, "failed", 0, b"", 1, 2),
    )
    invoice = (b"p" * 32, b"s" * 32, "text", bytes(20), wide, 1, 2)
    rows(connection, "invoices", (b"h" * 32, 1, *invoice, "open", None, 0), (b"i" * 32, 2, *invoice, "paid", wide, 2))
    rows(connection, "parts", (busy.id, 1, b"i" * 32, wide, 1))
    payment = ("text", bytes(20), b"n" * 33, wide, wide, wide, 9, 2)
    rows(
        connection,
        "payments",
        (b"a" * 32, 1, *payment, "pending", b"", "", "", 1, 0),
        (b"b" * 32, 2, *payment, "succeeded", b"p" * 32, "", "", 1, 2),
        (b"c" * 32, 3, *payment, "failed", b"", "no_route", "none", 1, 2),
    )
    rows(connection, "attempts", (busy.id, 9, b"a" * 32, b"route", "offered", b""))
    rows(connection, "asked", ("key", "request", "answer"))
    rows(connection, "intents", (1, "open", b"saved", 1), (2, "over", b"saved", 0))
    rows(connection, "facts", (busy.id, "opened_at", wide))
    rows(connection, "notes", ("owner", b"account"), ("cursor", b"cursor"))
    rows(connection, "peers", (b"n" * 33, "127.0.0.1", 9735))
    rows(connection, "towers", (b"t" * 33, "127.0.0.1", 9736, b"saved"))
    rows(connection, "receipts", (b"t" * 33, busy.id, b"saved"))
    rows(connection, "gossip", (1, b"key", 1, b"bytes"))
    rows(connection, "events", (1, "channel_open", 1, "{}"))
    connection.commit()
    connection.execute("VACUUM")
    connection.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
