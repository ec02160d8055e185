"""The real network of `data/` as gossip that a node believes: signed by 17,324 nodes, with deposits on a chain.

Every node has an account and a node key of its own, made of its number; every channel has terms between the two
accounts, so its id, its storage slot and its four signatures are real, and every direction that was ever announced has
a signed policy. Signing takes a minute, so the rows are kept in `build/`, in the form of a node's own table, for the
contract and the time they were made with.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from channeld.base.digests import Domain, Terms, announcement_digest, channel_id, salt_commitment
from channeld.base.keys import Key, keccak
from channeld.base.units import NATIVE, Address, ChannelId, Seconds, Side, Timestamp
from channeld.node import announcing
from channeld.storage.store import wide
from channeld.wire import messages as wire
from channeld.wire import pages
from tests.bench import lightning

BUILD: Final = Path(__file__).parents[2] / "build"
FRESH: Final = 5 * 86_400
"""Seconds for which rows may be used: policies that are too old are forgotten."""
COMMITMENT: Final = salt_commitment(keccak(b"a"), keccak(b"b"))
PERIOD: Final = Seconds(86_400)
MSAT: Final = 1_000
"""Base units of a satoshi."""

Row = tuple[int, bytes, int, bytes]


@dataclass(frozen=True, slots=True)
class Network:
    """What was made: rows of a node's `gossip` table, and what the chain must hold for them."""

    path: Path
    channels: int
    policies: int
    nodes: int

    def storage(self) -> dict[str, str]:
        """The manager's storage: of each channel its deposit, all by side A."""
        with closing(sqlite3.connect(self.path)) as rows:
            found = rows.execute("SELECT key, bytes FROM gossip WHERE kind = ?", (pages.CHANNELS,))
            return {slot(key): hex(int.from_bytes(data[:16], "big") << 168) for key, data in found}

    def put_into(self, database: Path) -> None:
        """A node that is down has heard all of it."""
        with closing(sqlite3.connect(database)) as home:
            home.execute("ATTACH ? AS made", (str(self.path),))
            home.execute("INSERT INTO main.gossip SELECT kind, key, at, bytes FROM made.gossip")
            home.commit()


def slot(id_: bytes) -> str:
    """Where the contract keeps a channel's word: `words` is its first variable."""
    return "0x" + keccak(bytes(32) + id_).hex()


def network(domain: Domain, share: float = 1.0) -> Network:
    """The network, or the first part of it for a short look."""
    path = BUILD / f"gossip_{domain.manager.hex()[:8]}_{share:g}.sqlite3"
    if not path.exists() or time.time() - path.stat().st_mtime > FRESH:
        BUILD.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        half = path.with_suffix(".half")
        half.unlink(missing_ok=True)
        with closing(sqlite3.connect(half)) as rows:
            rows.execute("CREATE TABLE gossip (kind INTEGER, key BLOB, at INTEGER, bytes BLOB)")
            rows.executemany("INSERT INTO gossip VALUES (?, ?, ?, ?)", _rows(domain, share))
            rows.commit()
        half.rename(path)
    with closing(sqlite3.connect(path)) as rows:
        counts = dict(rows.execute("SELECT kind, count(*) FROM gossip GROUP BY kind").fetchall())
    return Network(path, counts[pages.CHANNELS], counts[pages.POLICIES], counts[pages.NODES])


@cache
def _account(number: int) -> Key:
    return Key(keccak(b"account" + number.to_bytes(4, "big")))


@cache
def _node(number: int) -> Key:
    return Key(keccak(b"node" + number.to_bytes(4, "big")))


def _rows(domain: Domain, share: float) -> Iterator[Row]:
    now, found = Timestamp(int(time.time())), list(_pairs())
    known: set[int] = set()
    for there, back in found[: round(len(found) * share)]:
        yield from _channel(domain, there, back, now)
        known |= {there[0], there[1]}
    for number in sorted(known):
        key = _node(number)
        said = announcing.node_of(now, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:9735",), "", key)
        yield pages.NODES, key.public, now, wire.encode(said)


def _pairs() -> Iterable[tuple[Any, Any]]:
    rows = lightning.rows()
    return zip(rows, rows, strict=True)


def _channel(domain: Domain, there: Any, back: Any, now: Timestamp) -> Iterator[Row]:
    a, b, number, capacity = there[:4]
    terms = Terms(
        participant_a=_account(a).address,
        participant_b=_account(b).address,
        payout_a=_account(a).address,
        payout_b=_account(b).address,
        challenge_period=PERIOD,
        salt_commitment=COMMITMENT,
        close_bond=1,
        nonce=number,
    )
    id_ = channel_id(domain, NATIVE, terms.hash)
    digest = announcement_digest(domain, id_, _node(a).public, _node(b).public)
    said = wire.ChannelAnnouncement(
        chain_id=domain.chain_id,
        manager=domain.manager,
        token=NATIVE,
        terms=terms.abi(),
        node_a=_node(a).public,
        node_b=_node(b).public,
        node_signature_a=_node(a).sign(digest),
        node_signature_b=_node(b).sign(digest),
        participant_signature_a=_account(a).sign(digest),
        participant_signature_b=_account(b).sign(digest),
    )
    yield pages.CHANNELS, id_, now, wide(capacity * MSAT) + wire.encode(said)
    for side, (source, row) in zip(Side, ((a, there), (b, back)), strict=True):
        if (policy := lightning.policy(row, now)) is not None:
            update = announcing.update_of(ChannelId(id_), side, policy, _node(source))
            yield pages.POLICIES, id_ + bytes([side]), now, wire.encode(update)


def genesis(accounts: dict[Address, bytes], manager: Address, made: Network) -> str:
    """A genesis file: contracts as they were on another chain, and the network's deposits in the manager."""
    whole: dict[str, Any] = {
        "0x" + address.hex(): {"nonce": 1, "code": "0x" + code.hex()} for address, code in accounts.items()
    }
    whole["0x" + manager.hex()] |= {"storage": made.storage(), "balance": hex(10**30)}
    return json.dumps(whole)
