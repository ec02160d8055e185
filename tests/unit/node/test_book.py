"""The book under crashes and late secrets: what was told before a crash is found again, and nothing is told twice."""

from __future__ import annotations

from dataclasses import replace

import trio

from channeld.base.units import NATIVE, Timestamp, Version
from channeld.core.channel import Channel, Phase
from channeld.core.events import SeenHead, SeenSecret
from channeld.core.messages import Commit, FulfilLock
from channeld.node.loop import Actor
from channeld.storage.store import Batch, wide
from tests.roles import START, lock_key, preimage
from tests.unit.node.parts import FIRST, Parts, channel_with_lock, parts, renamed

IN_EXPIRY = START + 100
OUT_EXPIRY = START + 90


async def forwarded(node: Parts) -> tuple[Actor, Actor]:
    """A lock that came in by one channel and is offered in another."""
    came = await node.add(renamed(channel_with_lock(1, 100, IN_EXPIRY), 7))
    went = await node.add(channel_with_lock(1, 100, OUT_EXPIRY, ours=True))
    await saved_forward(node, came.channel, went.channel)
    node.book.load()
    return came, went


async def saved_forward(node: Parts, came: Channel, went: Channel) -> None:
    batch = Batch()
    batch.channel(came)
    batch.channel(went)
    batch.add(
        "INSERT INTO forwards (in_channel, in_lock, out_channel, out_lock, key, amount_in, amount_out, secret, "
        "state, at) VALUES (?, 1, ?, 1, ?, ?, ?, x'01', 'offered', 0)",
        *(came.id, went.id, lock_key(1), wide(100), wide(100)),
    )
    await node.store.commit(batch)


async def saved_attempt(node: Parts, went: Channel) -> None:
    batch = Batch()
    batch.add(
        "INSERT INTO attempts (channel, lock, hash, route, state) VALUES (?, 1, ?, x'', 'offered')",
        went.id,
        lock_key(1),
    )
    batch.add(
        "INSERT INTO payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, state, at) "
        "VALUES (?, 1, 'lnxx', ?, x'', ?, ?, ?, 0, 'pending', 0)",
        *(lock_key(1), NATIVE, wide(100), wide(0), wide(0)),
    )
    await node.store.commit(batch)


async def test_a_late_commit_with_a_wrong_preimage_is_judged_at_once(nursery: trio.Nursery) -> None:
    """Else the channel would be deaf for good: nobody can secure that secret."""
    with parts(nursery) as node:
        _, went = await forwarded(node)
        node.clock[0] = OUT_EXPIRY
        wrong = Commit(version=Version(9), base=Version(0), updates=(FulfilLock(FIRST, preimage(2)),), signature=b"")
        assert node.book.late(went.channel, wrong) == ()


async def test_what_the_chain_says_before_the_desk_is_open_is_written_to_the_right_row(nursery: trio.Nursery) -> None:
    """At start the guard catches up first: a lock of our own that came back is an attempt's, not a forward's."""
    with parts(nursery) as node:
        went = channel_with_lock(1, 100, OUT_EXPIRY, ours=True)
        await saved_attempt(node, went)
        actor = await node.add(went)
        node.book.load()
        await actor.ask(
            SeenHead(now=Timestamp(START + 200), final=Timestamp(START + 200), unregistered=frozenset({lock_key(1)}))
        )
        assert node.store.rows("SELECT state FROM attempts") == [("returned",)]


async def test_a_forward_whose_lock_is_unknown_does_not_keep_the_node_from_starting(nursery: trio.Nursery) -> None:
    """After a recovery `current` is another; the guard must run, and upstream is not failed (R8)."""
    with parts(nursery) as node:
        came = await node.add(renamed(channel_with_lock(1, 100, IN_EXPIRY), 7))
        other = await node.add(replace(channel_with_lock(2, 5), recovering=True, phase=Phase.FROZEN))
        await saved_forward(node, came.channel, other.channel)
        node.book.load()
        assert list(node.book.recover()) == []
        await node.quiet()
        assert came.channel.queue == ()


async def test_a_payment_that_succeeded_is_told_once(nursery: trio.Nursery) -> None:
    """I28: a preimage may be heard twice, from a proposal that lost and from the one that stands."""
    with parts(nursery) as node:
        went = channel_with_lock(1, 100, ours=True)
        await saved_attempt(node, went)
        actor = await node.add(went)
        node.book.load()
        for _ in range(2):
            await actor.ask(SeenSecret(key=lock_key(1), preimage=preimage(1), at=START))
        assert node.store.rows("SELECT type FROM events") == [("payment_sent",)]
