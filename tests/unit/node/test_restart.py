"""What a start finds again: wherever a forwarder dies between two turns, the payment still has one end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from channeld.base.units import LockId
from channeld.core.channel import Phase
from channeld.core.effects import Learned
from channeld.core.events import Disconnected, Fail, Fulfil
from channeld.storage.store import Batch
from channeld.wire.failure import FailureCode
from tests.roles import Node
from tests.unit.node.hub import KEY, PREIMAGE, Hub, hub, packet_here, packet_on, payload_here, start


@asynccontextmanager
async def life(
    path: Path, peers: tuple[Node, Node] | None = None, *, desk: bool = True, keysend: bool = False
) -> AsyncIterator[Hub]:
    """The forwarder from one start to a death at the end of the block; what is not saved by then is gone."""
    async with trio.open_nursery() as nursery:
        with hub(nursery, path, load=peers, keysend=keysend) as node:
            if peers is None:
                saved = Batch()
                for leg in node.legs:
                    saved.channel(leg.actor.channel)
                await node.store.commit(saved)
            else:
                for peer in peers:
                    peer.do(Disconnected())
                node.book.load()
                node.desk.recover()
            if not desk:
                node.book.follow = lambda channel, notes: None  # type: ignore[method-assign]
                node.book.at_once = lambda channel, arrived, turn: None  # type: ignore[method-assign]
            await start(node)
            yield node
            nursery.cancel_scope.cancel()


def peers_of(node: Hub) -> tuple[Node, Node]:
    return node.into.peer, node.out.peer


def state(node: Hub) -> str:
    ((state,),) = node.store.rows("SELECT state FROM forwards")
    return str(state)


async def test_r8_an_arrival_nobody_has_decided_is_decided(tmp_path: Path):
    """Nobody is connected at that moment, so the payer is told to try another way, at once."""
    path = tmp_path / "node.sqlite3"
    async with life(path, desk=False) as node:
        packet = packet_on(node.out.id)
        await node.offered(packet, 103)
        assert node.waiting() == []
        assert node.answer(packet) is None
        peers = peers_of(node)
    async with life(path, peers) as node:
        await node.settle()
        assert node.answer(packet) is FailureCode.UNKNOWN_NEXT_PEER
        assert node.store.rows("SELECT count(*) FROM arrivals") == [(0,)]


async def test_an_arrival_for_an_invoice_is_kept_after_a_restart(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path, desk=False) as node:
        await node.invoice()
        await node.offered(packet_here(payload_here()), 100)
        peers = peers_of(node)
    async with life(path, peers) as node:
        await node.settle()
        assert Learned(lock_id=LockId(1), preimage=PREIMAGE) in node.into.peer.notes


async def test_a_lock_that_was_passed_on_is_passed_on_once(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await node.offered(packet_on(node.out.id), 103)
        peers = peers_of(node)
    for _ in range(3):
        async with life(path, peers) as node:
            await node.settle()
            assert [lock.id for lock in node.waiting()] == [1]
            assert state(node) == "offered"


async def forget(node: Hub, *, fulfilled: bool) -> None:
    """The payee ends the lock; the forwarder saves it, and dies before it tells upstream."""
    (out,) = node.waiting()
    reason = node.book.failure(b"s" * 32, FailureCode.UNKNOWN_PAYMENT)
    node.book.follow = lambda channel, notes: None  # type: ignore[method-assign]
    node.book.pass_back = lambda channel, learned, turn: None  # type: ignore[method-assign]
    node.out.peer.do(Fulfil(lock_id=out.id, preimage=PREIMAGE) if fulfilled else Fail(lock_id=out.id, reason=reason))
    await node.settle()


async def test_i_paid_out_and_died_the_lock_upstream_is_taken(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await node.offered(packet_on(node.out.id), 103)
        await forget(node, fulfilled=True)
        assert state(node) == "fulfilled"
        assert node.into.actor.channel.balance == 1_000
        peers = peers_of(node)
    async with life(path, peers) as node:
        await node.settle()
        assert node.into.actor.channel.balance == 1_103
        assert node.out.actor.channel.balance == 900


async def test_it_came_back_and_i_died_the_lock_upstream_is_given_back(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        packet = packet_on(node.out.id)
        await node.offered(packet, 103)
        await forget(node, fulfilled=False)
        assert state(node) == "returned"
        assert node.answer(packet) is None
        peers = peers_of(node)
    async with life(path, peers) as node:
        await node.settle()
        assert node.into.peer.channel.balance == 2_000
        assert node.into.actor.channel.balance == 1_000


async def test_without_an_outcome_nothing_is_guessed(tmp_path: Path):
    """R8: upstream is neither taken nor given back while the outgoing lock stands."""
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await node.offered(packet_on(node.out.id), 103)
        peers = peers_of(node)
    async with life(path, peers) as node:
        await node.settle()
        assert node.into.actor.channel.claims == {}
        assert node.into.actor.channel.queue == ()
        assert len(node.into.actor.channel.current.body.locks) == 1


@pytest.mark.parametrize("lives", [1, 3])
async def test_an_invoice_that_is_paid_stays_paid_once(tmp_path: Path, lives: int):
    """R21: the preimage was released; after a restart the part is claimed again, and counted once."""
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await node.invoice()
        await node.offered(packet_here(payload_here()), 100)
        peers = peers_of(node)
    for _ in range(lives):
        async with life(path, peers) as node:
            await node.settle()
            ((status, received),) = node.store.rows("SELECT state, received FROM invoices")
            assert (status, int.from_bytes(received, "big")) == ("paid", 100)
            assert node.into.actor.channel.balance == 1_100
            assert node.store.rows("SELECT count(*) FROM events WHERE type = 'payment_received'") == [(1,)]


async def test_a_channel_comes_back_as_it_was_saved_and_cut(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await node.offered(packet_on(node.out.id), 103)
        before = [leg.actor.channel for leg in node.legs]
        peers = peers_of(node)
    async with trio.open_nursery() as nursery:
        with hub(nursery, path, load=peers) as node:
            for old, leg in zip(before, node.legs, strict=True):
                now = leg.actor.channel
                assert (now.current, now.top, now.base) == (old.current, old.top, old.base)
                assert now.phase is Phase.OPEN
                assert now.session.name == "CUT"
            assert KEY in {lock.key for lock in node.into.actor.channel.current.body.locks.values()}
