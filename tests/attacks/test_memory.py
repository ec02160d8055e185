"""What a node keeps in memory does not grow with the payments that are over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from channeld.base.keys import sha256
from channeld.base.units import LockId, LockKey, Preimage
from channeld.core.events import Fail, Fulfil
from tests.unit.node.hub import IN_EXPIRY, OUT_EXPIRY, PREIMAGE, Hub, hub, packet_here, packet_on, payload_here, start


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Hub]:
    with hub(nursery) as made:
        await start(made)
        yield made


async def forwarded(node: Hub, number: int) -> tuple[LockId, Preimage]:
    """A lock passed on: its number downstream and what opens it."""
    preimage = Preimage(sha256(bytes([number])))
    key = LockKey(sha256(preimage))
    await node.offered(packet_on(node.out.id, 20, OUT_EXPIRY, key), 30, IN_EXPIRY, key)
    return max(lock.id for lock in node.waiting()), preimage


async def test_forwards_that_are_over_are_forgotten_and_those_that_hang_are_not(node: Hub):
    for number in range(1, 6):
        lock, preimage = await forwarded(node, number)
        done = Fulfil(lock_id=lock, preimage=preimage) if number % 2 else Fail(lock_id=lock, reason=b"x" * 292)
        node.out.peer.do(done)
        await node.settle()
    hanging, preimage = await forwarded(node, 9)
    assert node.book.remembered == 6
    node.desk.sweep()
    assert node.book.remembered == 1
    node.out.peer.do(Fulfil(lock_id=hanging, preimage=preimage))
    await node.settle()
    assert node.into.actor.channel.balance == 1_000 + 4 * 30  # three fulfilled before, and this one
    node.desk.sweep()
    assert node.book.remembered == 0


async def test_a_forward_that_upstream_still_waits_for_is_kept(node: Hub):
    lock, preimage = await forwarded(node, 1)
    node.out.peer.do(Fulfil(lock_id=lock, preimage=preimage))
    node.into.line.said.clear()
    for _ in range(6):  # downstream goes on; upstream hears nothing and agrees to nothing
        await node.quiet()
        node.out.deliver()
    assert not node.waiting()
    node.desk.sweep()
    assert node.book.remembered == 1
    await node.settle()
    node.desk.sweep()
    assert node.book.remembered == 0


async def test_an_invoice_that_is_paid_on_disk_is_remembered_there_alone(node: Hub):
    await node.invoice()
    packet = packet_here(payload_here())
    await node.offered(packet, 100)
    node.desk.sweep()
    assert not node.desk._paid
    found = node.desk.invoice(LockKey(sha256(PREIMAGE)))
    assert found is not None
    assert not found.open
