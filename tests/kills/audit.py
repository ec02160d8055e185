"""What daemons that were killed must have kept: read from their databases while they are down, and from the chain.

`Signed` remembers, over all deaths, which content of which version each node's signature stands on, wherever it is
found: in its own channel, in its peer's, in the row of the highest version it has signed. Two contents of one version
are a theft waiting to happen. `books` compares the outcomes on both sides with each other and with what clients were
told; what each node has won by its books is what it must hold on chain at the end (`won`).
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from channeld.base.digests import state_digest
from channeld.base.keys import recover
from channeld.base.units import Address, ChannelId, Digest, Version
from channeld.core.channel import Channel
from channeld.core.saved import load
from channeld.storage.store import narrow
from tests.kills.load import Told


class Wrong(Exception):
    """A law is broken: money, a signature, an outcome or a database."""


@contextmanager
def database(home: Path) -> Iterator[sqlite3.Connection]:
    """A copy of a node's database as its death has left it; the file itself is not touched."""
    with tempfile.TemporaryDirectory() as folder:
        for path in home.glob("node.sqlite3*"):
            shutil.copy(path, folder)
        with closing(sqlite3.connect(Path(folder) / "node.sqlite3")) as opened:
            yield opened


@dataclass(slots=True)
class Signed:
    """By (account, channel, version): the digest that account has signed."""

    known: dict[tuple[Address, ChannelId, int], Digest] = field(default_factory=dict)
    tops: dict[tuple[Address, ChannelId], int] = field(default_factory=dict)
    """The highest version a node itself knows to have signed, at its last death."""
    seen: int = 0

    def look(self, home: Path) -> None:
        """A node that is down. Wrong: its database is damaged, or a version has two contents."""
        with database(home) as opened:
            ((said,),) = opened.execute("PRAGMA integrity_check").fetchall()
            if said != "ok":
                raise Wrong(f"{home.name}: the database is damaged: {said}")
            channels = [load(saved) for (saved,) in opened.execute("SELECT saved FROM channels")]
            rows = {id_: (version, digest) for id_, version, digest in opened.execute("SELECT * FROM signed")}
        for channel in channels:
            self._channel(home.name, channel, rows.get(channel.id))

    def _channel(self, name: str, channel: Channel, row: tuple[int, Digest] | None) -> None:
        us, them = channel.terms.participant(channel.we), channel.terms.participant(channel.we.other)
        version, digest = channel.top
        if (row or (0, b"")) != (version, digest if version else b""):
            raise Wrong(f"{name}: the row of what was signed differs from channel {channel.name}")
        if version < self.tops.get((us, channel.id), 0):
            raise Wrong(f"{name} has forgotten that it signed {self.tops[us, channel.id]} of {channel.name}")
        self.tops[us, channel.id] = version
        if version:
            self._add(name, us, channel, version, digest)
        current, out = channel.current, channel.outstanding
        states: list[tuple[int, Digest, tuple[Address, ...]]]
        states = [(current.version, current.body_hash, (us, them))] if current.version else []
        states += [(out.version, out.body_hash, (us,))] if out is not None else []
        for number, body_hash, signers in states:
            digest = state_digest(channel.domain, channel.id, Version(number), body_hash)
            for who in signers:
                if who == them or number == current.version:
                    side = channel.we if who == us else channel.we.other
                    if recover(digest, current.signature(side)) != who:
                        raise Wrong(f"{name}: version {number} of {channel.name} is not signed by both")
                self._add(name, who, channel, number, digest)

    def _add(self, name: str, who: Address, channel: Channel, version: int, digest: Digest) -> None:
        self.seen += 1
        if self.known.setdefault((who, channel.id, version), digest) != digest:
            raise Wrong(f"seen at {name}: version {version} of {channel.name} is signed with two contents")

    def settled(self) -> None:
        """At the end, all being down: nobody holds a signature that its owner does not remember. Wrong if so."""
        for who, channel, version in self.known:
            if version > self.tops.get((who, channel), 0):
                raise Wrong(f"a node has forgotten that it signed version {version} of {channel.hex()[:8]}")


def books(homes: Mapping[str, Path], told: Told) -> dict[str, int]:
    """What each node has won, by its own books. Wrong: two books, or a book and what was told, differ."""
    succeeded: Counter[bytes] = Counter()
    states: dict[bytes, str] = {}
    paid: set[bytes] = set()
    sent: dict[tuple[bytes, bytes], str] = {}
    got: set[tuple[bytes, bytes]] = set()
    won = {}
    for name, home in homes.items():
        with database(home) as opened:
            rows = opened.execute
            for hash_, state in rows("SELECT hash, state FROM payments"):
                if state == "pending":
                    raise Wrong(f"{name}: payment {hash_.hex()[:16]} has no outcome")
                states[hash_], succeeded[hash_] = state, succeeded[hash_] + (state == "succeeded")
            paid |= {hash_ for (hash_,) in rows("SELECT hash FROM invoices WHERE state = 'paid'")}
            for channel, id_, outgoing, state in rows("SELECT channel, id, outgoing, state FROM transfers"):
                if outgoing:
                    sent[channel, id_] = state
                elif state == "succeeded":
                    got.add((channel, id_))
            won[name] = _won(opened)
            _opened_once(name, opened, told)
    made = {hash_ for hash_, count in succeeded.items() if count}
    if made != paid or max(succeeded.values(), default=0) > 1:
        raise Wrong(f"payers say {len(made)} payments were made, payees {len(paid)}: {(made ^ paid)!r:.200}")
    if (done := {name for name, state in sent.items() if state == "succeeded"}) != got:
        raise Wrong(f"{len(done - got)} transfers were sent and not received, {len(got - done)} the other way")
    for hash_, said in told.payments.items():
        if said != "pending" and (said == "succeeded") != (states.get(hash_) == "succeeded"):
            raise Wrong(f"payment {hash_.hex()[:16]}: told {said}, it is {states.get(hash_)}")
    by_id = {id_: state for (_, id_), state in sent.items()}
    for id_, said in told.transfers.items():
        if said in ("succeeded", "pending") and (state := by_id.get(id_)) != "succeeded":
            raise Wrong(f"transfer {id_.hex()}: told {said}, it is {state}")
    return won


def _opened_once(name: str, opened: sqlite3.Connection, told: Told) -> None:
    """No more channels with a deposit of ours than we were asked for."""
    saved = [load(row) for (row,) in opened.execute("SELECT saved FROM channels")]
    ours = {f"0x{channel.id.hex()}" for channel in saved if not int(channel.we)}
    asked = {channel for (who, _), channel in told.openings.items() if who == name and channel}
    if stray := ours - asked:
        raise Wrong(f"{name} has opened {len(stray)} channels that nobody was told of")


def _won(opened: sqlite3.Connection) -> int:
    """By a node's books: received less paid."""

    def total(sql: str) -> int:
        rows: list[tuple[Any, ...]] = opened.execute(sql).fetchall()
        return sum(narrow(plus) - narrow(minus) for plus, minus in rows)

    return (
        total("SELECT received, x'' FROM invoices WHERE state = 'paid'")
        + total("SELECT amount_in, amount_out FROM forwards WHERE state = 'fulfilled'")
        + total("SELECT amount, x'' FROM transfers WHERE state = 'succeeded' AND outgoing = 0")
        - total("SELECT amount, x'' FROM transfers WHERE state = 'succeeded' AND outgoing = 1")
        - total("SELECT amount, x'' FROM payments WHERE state = 'succeeded'")
        - total("SELECT fee, x'' FROM payments WHERE state = 'succeeded'")
    )
