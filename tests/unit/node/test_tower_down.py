"""Asking towers at the start: what happens when one does not answer. Time is simulated; the tower's port is closed."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from channeld.base.pack import pack
from channeld.node.tower_recall import ASK_WITHIN
from channeld.node.towers import Towers
from channeld.storage.store import Batch
from tests.roles import ACCEPTOR_KEY, DOMAIN, STRANGER_KEY
from tests.unit.node.parts import Parts, channel_with_lock, parts


def towers_of(node: Parts, ask_within: float = ASK_WITHIN) -> Towers:
    made = Towers(
        book=node.book,
        store=node.store,
        world=node.world,
        domain=DOMAIN,
        account_key=ACCEPTOR_KEY,
        randomness=bytes,
        nursery=node.nursery,
        ask_within=ask_within,
    )
    made.load()
    return made


@pytest.mark.parametrize("limit", [ASK_WITHIN, 3_600.0])
async def test_a_start_waits_for_a_tower_that_is_down_as_long_as_its_owner_says(
    autojump_clock: trio.testing.MockClock,
    limit: float,
) -> None:
    async with trio.open_nursery() as nursery:
        with parts(nursery) as node:
            batch = Batch()
            batch.add(
                "INSERT INTO towers VALUES (?, '127.0.0.1', 1, ?)",
                *(STRANGER_KEY.public, pack([1, None, 0, 0, False])),
            )
            await node.store.commit(batch)
            await node.add(channel_with_lock(1, 5))
            before = trio.current_time()
            towers = towers_of(node, limit)
            await trio.sleep(limit - 1)
            assert not towers.asked.is_set()
            await towers.asked.wait()
            assert trio.current_time() - before == limit
            nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()


async def test_a_node_without_towers_waits_for_none() -> None:
    async with trio.open_nursery() as nursery:
        with parts(nursery) as node:
            await node.add(channel_with_lock(1, 5))
            towers = towers_of(node)
            with trio.fail_after(1):
                await towers.asked.wait()
            nursery.cancel_scope.cancel()
