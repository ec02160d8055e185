"""R18, R19, R21, R22: what a forwarder and a payee may do with a lock, by time, by registry, by set."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from channeld.base.digests import Domain
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Address, Amount, NodeId, Side, Timestamp
from channeld.core.channel import Channel, Session
from channeld.core.events import Leave
from channeld.core.messages import FailLock
from channeld.node.loop import Actor
from channeld.wire import onion, payload
from tests.roles import START, lock_key
from tests.unit.node.parts import FIRST, NODE_KEY, Parts, channel_with_lock, final_packet, parts, renamed

NEXT = NodeId(Key(sha256(b"the next node")).public)
DELTA, SKEW, FORWARD = 4, 2, 10
"""Of the dev network's profile: inclusion, clock skew, and what lies between two locks on one registry."""


def forward_packet(out: Channel, amount: int, expiry: int) -> bytes:
    """An onion that asks us to pass a lock on."""
    told = payload.ForwardPayload(next_channel=out.id, amount=Amount(amount), expiry=Timestamp(expiry))
    last = payload.FinalPayload(
        amount=Amount(amount), expiry=Timestamp(expiry), payment_secret=bytes(32), total=Amount(amount)
    )
    hops = [(NodeId(NODE_KEY.public), payload.encode(told)), (NEXT, payload.encode(last))]
    return onion.build(hops, lock_key(1), b"\x07" * 32).packet


async def forwarded(node: Parts, incoming: Channel, out: Channel, expiry: int) -> bool:
    """Whether a lock that came in is offered on."""
    one = await node.add(incoming)
    two = await node.add(replace(out, session=Session.LIVE), running=False)
    lock = incoming.current.body.locks[Side.A, FIRST]
    node.desk.arrived(one.channel, lock, forward_packet(out, lock.amount, expiry))
    await node.quiet()
    offered = bool(two.backlog)
    assert offered != any(isinstance(update, FailLock) for update in one.channel.queue)
    return offered


@pytest.mark.parametrize(("spare", "passes"), [(FORWARD, True), (FORWARD - 1, False)])
async def test_r18_the_outgoing_lock_ends_a_forward_delta_earlier(
    nursery: trio.Nursery, spare: int, passes: bool
) -> None:
    with parts(nursery) as node:
        incoming = channel_with_lock(1, 100, START + 1_000)
        out = renamed(channel_with_lock(2, 100, ours=True), 9)
        assert await forwarded(node, incoming, out, START + 1_000 - spare) is passes


@pytest.mark.parametrize(("left", "passes"), [(2 * DELTA + SKEW + 1, True), (2 * DELTA + SKEW, False)])
async def test_r18_r17_an_outgoing_lock_needs_time_to_be_fulfilled(
    nursery: trio.Nursery, left: int, passes: bool
) -> None:
    with parts(nursery) as node:
        incoming = channel_with_lock(1, 100, START + 1_000)
        out = renamed(channel_with_lock(2, 100, ours=True), 9)
        assert await forwarded(node, incoming, out, START + left) is passes


async def test_r19_a_lock_is_not_passed_on_to_another_registry(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        incoming = channel_with_lock(1, 100, START + 1_000)
        out = renamed(channel_with_lock(2, 100, ours=True), 9)
        elsewhere = Domain(chain_id=out.domain.chain_id, manager=Address(b"\x55" * 20))
        assert not await forwarded(node, incoming, replace(out, domain=elsewhere), START + 500)


async def test_r19_a_lock_whose_key_is_registered_is_not_passed_on(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        node.world.registered[lock_key(1)] = Timestamp(START - 5)
        incoming = channel_with_lock(1, 100, START + 1_000)
        out = renamed(channel_with_lock(2, 100, ours=True), 9)
        assert not await forwarded(node, incoming, out, START + 500)


async def _part(node: Parts, byte: int, amount: int, expiry: int) -> Actor:
    actor = await node.add(renamed(channel_with_lock(1, amount, expiry), byte))
    lock = actor.channel.current.body.locks[Side.A, FIRST]
    node.desk.arrived(actor.channel, lock, final_packet(1, amount, 100, expiry))
    await node.quiet()
    return actor


def _claimed(actor: Actor) -> bool:
    return FIRST in actor.channel.claims


def _given_back(actor: Actor) -> bool:
    return any(isinstance(update, FailLock) for update in actor.channel.queue)


async def test_r21_nothing_is_released_before_the_set_is_whole(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        hash_ = await node.invoice(1, 100, NATIVE)
        one = await _part(node, 7, 60, START + 500)
        assert not _claimed(one)
        assert node.state(hash_) == "open"
        two = await _part(node, 8, 40, START + 500)
        assert _claimed(one)
        assert _claimed(two)
        assert node.state(hash_) == "paid"


async def test_r21_a_set_with_a_part_that_has_too_little_time_is_given_back(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        hash_ = await node.invoice(1, 100, NATIVE)
        early = await _part(node, 7, 60, START + 40)
        node.clock[0] = START + 40 - DELTA - SKEW
        late = await _part(node, 8, 40, START + 500)
        assert _given_back(early)
        assert _given_back(late)
        assert node.state(hash_) == "open"


async def test_r22_what_is_held_fails_by_itself_when_its_time_runs_out(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await node.invoice(1, 100, NATIVE)
        held = await _part(node, 7, 60, START + 30)
        node.clock[0] = START + 30 - DELTA - SKEW - 1
        node.desk.sweep()
        await node.quiet()
        assert not _given_back(held)
        node.clock[0] += 1
        node.desk.sweep()
        await node.quiet()
        assert _given_back(held)


async def test_r22_nobody_closes_together_while_a_lock_is_held(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await node.invoice(1, 100, NATIVE)
        held = await _part(node, 7, 60, START + 500)
        await held.ask(Leave(now=Timestamp(START), valid_for=600))
        assert held.channel.leaving
        assert held.channel.ask is None
        assert held.channel.coop is None
