"""A forwarder that knows the preimage of what it is asked to pass on: its own invoice's hash, or one seen before.

It passes nothing on, so no lock has two outcomes: the payer has its money back, and the books say so.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from channeld.storage.store import Batch
from channeld.wire.failure import FailureCode
from tests.unit.node.hub import KEY, PREIMAGE, hub, packet_on, start


@pytest.mark.parametrize("by", ["invoice", "preimage", "nothing"])
async def test_a_lock_whose_preimage_is_known_is_not_passed_on(nursery: trio.Nursery, by: str) -> None:
    with hub(nursery) as made:
        await start(made)
        if by == "invoice":
            await made.invoice()
        elif by == "preimage":
            batch = Batch()
            batch.add("INSERT INTO preimages VALUES (?, ?)", KEY, PREIMAGE)
            await made.store.commit(batch)
        packet = packet_on(made.out.id)
        await made.offered(packet, 103)
        assert bool(made.waiting()) == (by == "nothing")
        assert made.answer(packet) == (None if by == "nothing" else FailureCode.TEMPORARY_CHANNEL_FAILURE)
        assert bool(made.store.rows("SELECT * FROM forwards")) == (by == "nothing")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("state", ["offered", "returned"])
async def test_a_restart_takes_no_lock_by_a_preimage_that_another_lock_showed(tmp_path: Path, state: str) -> None:
    """The same hash over two locks: one was paid, this one was not. It was claimed, and the books said returned."""
    path = tmp_path / "node.sqlite3"
    async with trio.open_nursery() as nursery:
        with hub(nursery, path) as made:
            await start(made)
            await made.offered(packet_on(made.out.id), 103)
            assert made.waiting()
            batch = Batch()
            batch.add("INSERT INTO preimages VALUES (?, ?)", KEY, PREIMAGE)
            batch.add("UPDATE forwards SET state = ?", state)
            await made.store.commit(batch)
            peers = made.into.peer, made.out.peer
            nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        with hub(nursery, path, load=peers) as again:
            again.book.load()
            await start(again)
            again.desk.recover()
            await again.settle()
            assert again.into.actor.channel.claims == {}
            waits = again.into.actor.channel.current.body.locks
            assert bool(waits) == (state == "offered")
            nursery.cancel_scope.cancel()
