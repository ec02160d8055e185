"""Locks that are not worth resolving, kept for invoices of ours, are counted again after a restart (R21, T18)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from channeld.base.units import NATIVE, Amount, Side
from channeld.node.forwarding import Desk
from channeld.node.jamming import Limits
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from tests.roles import START
from tests.unit.node.parts import (
    FIRST,
    NODE_KEY,
    POLICY,
    SECRET,
    Parts,
    channel_with_lock,
    final_packet,
    parts,
    renamed,
)


def desk_of(node: Parts, most: int) -> Desk:
    return Desk(
        node.book,
        node.store,
        node.world,
        NODE_KEY,
        policy=lambda _: POLICY,
        max_expiry=100_000,
        limits=Limits(uneconomic_in_all=most),
        costs=lambda _: Amount(20),
    )


@pytest.mark.parametrize(("most", "state"), [(1, "open"), (2, "paid")])
async def test_what_was_kept_for_invoices_is_counted_again(
    nursery: trio.Nursery, tmp_path: Path, most: int, state: str
):
    """The first is claimed, and stands in what both have signed: its peer has not answered."""
    path = tmp_path / "node.sqlite3"
    with parts(nursery, SqliteStore(path)) as node:
        hash_ = await node.invoice(1, 15, NATIVE)
        first = await node.add(channel_with_lock(1, 15))
        lock = first.channel.current.body.locks[Side.A, FIRST]
        desk_of(node, most).arrived(first.channel, lock, final_packet(1, 15, 15, lock.expiry))
        await node.quiet()
        assert node.state(hash_) == "paid"
    with parts(nursery, SqliteStore(path)) as node:
        await node.add(first.channel)
        second = await node.add(renamed(channel_with_lock(2, 15), 9))
        hash_ = await node.invoice(2, 15, NATIVE)
        desk = node.book.arrivals = desk_of(node, most)
        desk.recover()
        lock = second.channel.current.body.locks[Side.A, FIRST]
        desk.arrived(second.channel, lock, final_packet(2, 15, 15, lock.expiry))
        await node.quiet()
        assert node.state(hash_) == state


@pytest.mark.parametrize(("most", "state"), [(1, "open"), (2, "paid")])
async def test_what_is_held_is_counted_again(nursery: trio.Nursery, tmp_path: Path, most: int, state: str):
    path = tmp_path / "node.sqlite3"
    with parts(nursery, SqliteStore(path)) as node:
        first = await node.add(channel_with_lock(1, 15))
        lock = first.channel.current.body.locks[Side.A, FIRST]
        packet = final_packet(1, 15, 15, lock.expiry)
        batch = Batch()
        batch.add(
            "INSERT INTO invoices (hash, n, preimage, secret, text, token, created, expires, hold, state) "
            "VALUES (?, 1, x'', ?, '', ?, ?, ?, 600, 'open')",
            *(lock.key, SECRET, NATIVE, START, START + 900),
        )
        batch.add("INSERT INTO arrivals VALUES (?, ?, ?)", first.channel.id, lock.id, packet)
        await node.store.commit(batch)
        desk_of(node, most).arrived(first.channel, lock, packet)
        await node.quiet()
        assert node.state(lock.key) == "held"
    with parts(nursery, SqliteStore(path)) as node:
        await node.add(first.channel)
        second = await node.add(renamed(channel_with_lock(2, 15), 9))
        hash_ = await node.invoice(2, 15, NATIVE)
        desk = node.book.arrivals = desk_of(node, most)
        desk.recover()
        lock = second.channel.current.body.locks[Side.A, FIRST]
        desk.arrived(second.channel, lock, final_packet(2, 15, 15, lock.expiry))
        await node.quiet()
        assert node.state(hash_) == state
