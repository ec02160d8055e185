"""Payments without an invoice: what a payee takes, and that a payer pays once, whatever dies in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from channeld.api.schema import NODE
from channeld.base.errors import Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Amount, ChannelId, Preimage, Seconds, Side
from channeld.core.effects import Arrived
from channeld.core.events import Fail, Fulfil
from channeld.node.attempts import build
from channeld.node.keysend import asked_of
from channeld.node.pruning import KEPT_ANSWERS, Pruning
from channeld.node.service import Service
from channeld.storage.store import Batch
from channeld.wire import onion, payload
from channeld.wire.failure import FailureCode
from channeld.wire.payload import FinalPayload
from routing.search import Hop, Route
from tests.roles import DOMAIN, START, Node
from tests.unit.node.hub import (
    IN_EXPIRY,
    KEY,
    NODE_KEY,
    PAYEE_KEY,
    PREIMAGE,
    Hub,
    hub,
    packet_here,
    payload_here,
    start,
)
from tests.unit.node.test_holding import ask
from tests.unit.node.test_holding import events as told_events
from tests.unit.node.test_restart import life, peers_of
from tests.unit.node.test_service import service_of

TOO_SOON = START + 20 - 2 - 1


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Hub]:
    with hub(nursery, keysend=True) as made:
        await start(made)
        yield made


def invoices(node: Hub) -> list[tuple[Any, ...]]:
    return list(node.store.rows("SELECT state, received FROM invoices"))


def received(node: Hub) -> int:
    return node.into.actor.channel.balance - 1_000


# -- the payee


async def test_it_is_taken_at_once_and_stands_in_the_books_as_paid(node: Hub):
    await node.offered(packet_here(payload_here(preimage=PREIMAGE)), 100)
    assert received(node) == 100
    rows = node.store.rows("SELECT hash, n, preimage, text, state, created, paid_at FROM invoices")
    assert rows == [(KEY, 1, PREIMAGE, "", "paid", START, START)]
    assert told_events(node) == ["payment_received"]
    assert node.store.rows("SELECT preimage FROM known WHERE key = ?", KEY) == [(PREIMAGE,)]
    assert node.store.rows("SELECT count(*) FROM arrivals") == [(0,)]


async def test_a_node_that_does_not_say_so_takes_none(nursery: trio.Nursery):
    with hub(nursery) as node:
        await start(node)
        packet = packet_here(payload_here(preimage=PREIMAGE))
        await node.offered(packet, 100)
        assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT
        assert (received(node), invoices(node)) == (0, [])


BAD = {
    "the preimage of another lock": (b"\7" * 32, 100, IN_EXPIRY, FailureCode.UNKNOWN_PAYMENT),
    "less than it says": (PREIMAGE, 99, IN_EXPIRY, FailureCode.FINAL_INCORRECT_AMOUNT),
    "without time": (PREIMAGE, 100, TOO_SOON, FailureCode.FINAL_INCORRECT_EXPIRY),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_not_taken(node: Hub, name: str):
    preimage, amount, expiry, code = BAD[name]
    packet = packet_here(payload_here(expiry=expiry, preimage=preimage))
    await node.offered(packet, amount, expiry)
    assert node.answer(packet) is code
    assert (received(node), invoices(node), node.into.actor.broken) == (0, [], None)


@pytest.mark.parametrize("state", ["open", "hold", "held", "canceled"])
async def test_it_pays_no_invoice_of_ours(node: Hub, state: str):
    """Who knows the preimage pays with the payment secret or not at all: an invoice has an amount and a state."""
    await (node.invoice(500) if state in ("open", "canceled") else ask(node))
    if state == "held":
        await node.offered(packet_here(payload_here()), 100)
    if state == "canceled":
        await node.desk.cancel(KEY)
    before = invoices(node)
    packet = packet_here(payload_here(preimage=PREIMAGE))
    await node.offered(packet, 100)
    assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT
    assert (received(node), invoices(node)) == (0, before)


async def test_the_same_is_taken_once(node: Hub):
    packet = packet_here(payload_here(preimage=PREIMAGE))
    for _ in range(2):
        await node.offered(packet, 100)
    assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT
    assert (received(node), len(invoices(node))) == (100, 1)


async def test_a_hash_whose_preimage_was_seen_before_is_not_taken(node: Hub):
    batch = Batch()
    batch.add("INSERT INTO preimages VALUES (?, ?)", KEY, PREIMAGE)
    await node.store.commit(batch)
    packet = packet_here(payload_here(preimage=PREIMAGE))
    await node.offered(packet, 100)
    assert (node.answer(packet), received(node)) == (FailureCode.UNKNOWN_PAYMENT, 0)


@pytest.mark.parametrize(("amount", "taken"), [(99, False), (100, True)])
async def test_r21_what_is_not_worth_resolving_is_given_back_however_whole(
    nursery: trio.Nursery, amount: int, taken: bool
):
    with hub(nursery, keysend=True, cost=100) as node:
        await start(node)
        packet = packet_here(payload_here(amount, amount, preimage=PREIMAGE))
        await node.offered(packet, amount)
        assert (received(node), len(invoices(node))) == ((amount, 1) if taken else (0, 0))
        assert node.answer(packet) is (None if taken else FailureCode.FINAL_INCORRECT_AMOUNT)


async def test_r21_nothing_is_taken_before_the_set_is_whole(node: Hub):
    await node.offered(packet_here(payload_here(60, preimage=PREIMAGE)), 60)
    assert (received(node), invoices(node)) == (0, [])
    for other in ({"secret": b"\1" * 32}, {"total": 120}):  # none of the set
        packet = packet_here(payload_here(**({"amount": 40, "preimage": PREIMAGE} | other)))  # type: ignore[arg-type]
        await node.offered(packet, 40)
        assert node.answer(packet) is not None
        assert received(node) == 0
    await node.offered(packet_here(payload_here(40, preimage=PREIMAGE)), 40)
    assert (received(node), [one for one, _ in invoices(node)]) == (100, ["paid"])
    assert told_events(node) == ["payment_received"]


async def test_a_part_without_the_preimage_is_of_no_set(node: Hub):
    await node.offered(packet_here(payload_here(60, preimage=PREIMAGE)), 60)
    packet = packet_here(payload_here(40))
    await node.offered(packet, 40)
    assert (node.answer(packet), received(node)) == (FailureCode.UNKNOWN_PAYMENT, 0)


async def test_an_invoice_made_meanwhile_is_not_paid_by_a_part_that_waits(node: Hub):
    """R21: one payment secret. Whoever knows a preimage that we are given as a hash sends a part of it first."""
    await node.offered(packet_here(payload_here(99, preimage=PREIMAGE, secret=b"\1" * 32)), 99)
    await ask(node)
    packet = packet_here(payload_here(1))
    await node.offered(packet, 1)
    assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT
    assert [one for one, _ in invoices(node)] == ["open"]


async def test_parts_that_wait_are_decided_again_after_a_restart(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path, keysend=True) as node:
        await node.offered(packet_here(payload_here(60, preimage=PREIMAGE)), 60)
        peers = peers_of(node)
    async with life(path, peers, keysend=True) as node:
        await node.settle()
        await node.offered(packet_here(payload_here(40, preimage=PREIMAGE)), 40)
        assert received(node) == 100
        peers = peers_of(node)
    async with life(path, peers, keysend=True) as node:
        packet = packet_here(payload_here(preimage=PREIMAGE))
        await node.offered(packet, 100)
        assert (node.answer(packet), received(node)) == (FailureCode.UNKNOWN_PAYMENT, 100)


# -- the payee's calls


async def test_it_is_shown_among_invoices_and_payments(nursery: trio.Nursery, tmp_path: Path):
    with hub(nursery, keysend=True) as node:
        await start(node)
        await node.offered(packet_here(payload_here(preimage=PREIMAGE)), 100)
        service = service_of(node, tmp_path)
        (shown,) = (await service.list_invoices(limit=10, cursor=None))["invoices"]
        assert shown == await service.lookup_invoice(payment_hash=KEY)
        assert (shown["state"], shown["invoice"], shown["keysend"]) == ("paid", "", True)
        assert (shown["amount"], shown["received"], shown["preimage"]) == ("100", "100", f"0x{PREIMAGE.hex()}")
        (paid,) = (await service.list_payments(limit=10, cursor=None))["payments"]
        assert (paid["kind"], paid["direction"], paid["amount"]) == ("keysend", "in", "100")
        methods = NODE.methods
        methods["list_invoices"].result.read({"invoices": [shown], "next": None}, "")
        methods["list_payments"].result.read({"payments": [paid], "next": None}, "")


# -- the payer


@asynccontextmanager
async def payer(
    path: Path, peers: tuple[Node, Node] | None = None, seed: int = 1
) -> AsyncIterator[tuple[Hub, Service]]:
    """A node that pays, from one start to a death at the end of the block."""
    async with life(path, peers) as node:
        service = service_of(node, path.parent, seed)
        node.book.payer = service.payments
        if peers is not None:
            service.payments.resume()
            await node.settle()
        yield node, service


async def send(
    service: Service, amount: int = 100, key: str | None = "k", to: bytes = PAYEE_KEY.public
) -> dict[str, Any]:
    return await service.pay_keysend(
        node_id=to, token="native", amount=amount, max_fee=None, timeout=5, idempotency_key=key
    )


@asynccontextmanager
async def asking(node: Hub, service: Service, calls: int = 1) -> AsyncIterator[list[str]]:
    """Calls under one key that wait for the payee; what they were told."""
    told: list[str] = []

    async def one() -> None:
        try:
            told.append((await send(service))["state"])
        except Refused as fault:
            told.append(fault.code)

    with trio.fail_after(20):
        async with trio.open_nursery() as callers:
            for _ in range(calls):
                callers.start_soon(one)
            await node.settle()
            yield told
            await node.settle()
            while len(told) < calls:
                await trio.sleep(0.01)


def rows(node: Hub) -> list[tuple[Any, ...]]:
    return list(node.store.rows("SELECT hash, drawn, state, preimage FROM payments ORDER BY n"))


def told_to_the_payee(node: Hub) -> FinalPayload:
    """What the onion of the newest lock says to the payee."""
    lock = node.waiting()[-1]
    (packet,) = [one.onion for one in node.out.peer.notes if isinstance(one, Arrived) and one.lock == lock]
    told = payload.decode(onion.peel(packet, PAYEE_KEY, lock.key).payload)
    assert isinstance(told, FinalPayload)
    return told


async def test_two_calls_under_one_key_pay_once_and_hear_the_same(tmp_path: Path):
    async with payer(tmp_path / "node.sqlite3") as (node, service):
        async with asking(node, service, 2) as told:
            (lock,), ((hash_, drawn, state, proof),) = node.waiting(), rows(node)
            assert (lock.key, lock.amount, state, proof) == (hash_, 100, "pending", b"")
            assert sha256(drawn) == hash_ == sha256(told_to_the_payee(node).preimage)
            assert not node.book.knows(hash_), "it is no proof yet"
            node.out.peer.do(Fulfil(lock_id=lock.id, preimage=drawn))
        assert told == ["succeeded", "succeeded"]
        assert rows(node) == [(hash_, drawn, "succeeded", drawn)]
        again = await send(service)
        assert (again["state"], again["kind"], again["preimage"]) == ("succeeded", "keysend", f"0x{drawn.hex()}")
        assert (await service.list_payments(limit=10, cursor=None))["payments"] == [again]
        assert await service.lookup_payment(id=hash_) == again
        with pytest.raises(Refused) as conflict:
            await send(service, 101)
        assert conflict.value.code == "idempotency_conflict"
        assert node.out.actor.channel.balance == 900


async def test_a_caller_that_went_before_anything_was_saved_may_ask_again(tmp_path: Path):
    """Its key is known all the same, and nothing is paid twice."""
    async with payer(tmp_path / "node.sqlite3") as (node, service):
        disk, commit = trio.Event(), node.store.commit

        async def slow(batch: Batch) -> None:
            await disk.wait()
            await commit(batch)

        node.store.commit = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as going:
            going.start_soon(send, service)
            while not service.payments._running:
                await trio.lowlevel.checkpoint()
            going.cancel_scope.cancel()
        assert rows(node) == []
        with pytest.raises(Refused) as conflict:
            await send(service, 101)
        assert conflict.value.code == "idempotency_conflict"
        with trio.fail_after(20):
            async with trio.open_nursery() as callers:
                callers.start_soon(send, service)
                await trio.testing.wait_all_tasks_blocked()
                disk.set()
                await node.settle()
                ((_, drawn, _, _),), (lock,) = rows(node), node.waiting()
                node.out.peer.do(Fulfil(lock_id=lock.id, preimage=drawn))
                await node.settle()
        assert len(rows(node)) == 1 and node.out.actor.channel.balance == 900


async def test_after_a_death_the_same_payment_goes_on_under_the_same_hash(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with payer(path) as (node, service):
        with trio.move_on_after(5):
            async with trio.open_nursery() as callers:
                callers.start_soon(send, service)
                await node.settle()
                callers.cancel_scope.cancel()
        ((hash_, drawn, _, _),), first = rows(node), told_to_the_payee(node)
        peers = peers_of(node)
    async with payer(path, peers, seed=50) as (node, service):
        assert len(node.waiting()) == 1
        async with asking(node, service) as told:
            assert len(node.waiting()) == 1, "asked again under its key"
            (lock,) = node.waiting()
            assert lock.key == hash_
            node.out.peer.do(Fulfil(lock_id=lock.id, preimage=drawn))
        assert told == ["succeeded"]
        assert rows(node) == [(hash_, drawn, "succeeded", drawn)]
        assert first.preimage == drawn
        assert node.out.actor.channel.balance == 900


async def test_after_a_death_a_further_lock_would_carry_the_same_preimage_and_secret(tmp_path: Path):
    """The set at the payee stays one set, whichever start sent its parts."""
    path = tmp_path / "node.sqlite3"
    async with payer(path) as (node, service):
        async with trio.open_nursery() as callers:
            callers.start_soon(send, service)
            await node.settle()
            callers.cancel_scope.cancel()
        first, ((hash_, drawn, _, _),) = told_to_the_payee(node), rows(node)
        peers = peers_of(node)
    async with payer(path, peers, seed=50) as (node, service):
        running = service.payments._running[hash_]
        again = service.payments._onion(running.asked, running.payment, direct(node, 100))
        told = payload.decode(onion.peel(again.packet, PAYEE_KEY, hash_).payload)
        assert isinstance(told, FinalPayload)
        assert (told.preimage, told.payment_secret, told.total) == (drawn, first.payment_secret, 100)


def direct(node: Hub, amount: int) -> Route:
    hop = Hop(
        channel_id=node.out.id,
        side=Side.A,
        source=NODE_KEY.public,
        target=PAYEE_KEY.public,
        amount=Amount(amount),
        expiry_delta=Seconds(60),
        fee=Amount(0),
    )
    return Route(hops=(hop,), cost=0)


async def test_a_failure_is_told_again_and_a_new_key_is_a_new_payment(tmp_path: Path):
    async with payer(tmp_path / "node.sqlite3") as (node, service):
        async with asking(node, service) as told:
            (lock,) = node.waiting()
            (packet,) = [one.onion for one in node.out.peer.notes if isinstance(one, Arrived)]
            secret = onion.peel(packet, PAYEE_KEY, lock.key).secret
            reason = node.book.failure(secret, FailureCode.UNKNOWN_PAYMENT)
            node.out.peer.do(Fail(lock_id=lock.id, reason=reason))
        assert told == ["payment_rejected"]
        with pytest.raises(Refused) as again:
            await send(service)
        assert again.value.code == "payment_rejected" and len(rows(node)) == 1
        async with trio.open_nursery() as callers:
            callers.start_soon(lambda: send(service, key="another"))
            await node.settle()
            assert len({hash_ for hash_, *_ in rows(node)}) == 2 and len(node.waiting()) == 1
            callers.cancel_scope.cancel()


async def test_nothing_is_sent_that_could_not_be_told_again(tmp_path: Path):
    """No way, and to ourselves: the first is a failed payment under its key, the second was none."""
    async with payer(tmp_path / "node.sqlite3") as (node, service):
        for _ in range(2):
            with pytest.raises(Refused) as told:
                await send(service, to=Key(sha256(b"nobody")).public)
            assert told.value.code == "unknown_payee"
        assert [state for _, _, state, _ in rows(node)] == ["failed"]
        with pytest.raises(Refused) as told:
            await send(service, key="own", to=NODE_KEY.public)
        assert told.value.code == "payee_own"
        with pytest.raises(Refused) as told:
            await service.pay_keysend(
                node_id=PAYEE_KEY.public, token="doge", amount=1, max_fee=None, timeout=5, idempotency_key=None
            )
        assert told.value.code == "unknown_token"
        assert len(rows(node)) == 1 and node.waiting() == []


async def test_a_key_is_kept_for_good(tmp_path: Path):
    """Forgotten, the same call would pay again: no invoice says that it was paid. Those that go have an index."""
    async with payer(tmp_path / "node.sqlite3") as (node, service):
        with pytest.raises(Refused):
            await send(service, to=Key(sha256(b"nobody")).public)
        batch = Batch()
        batch.add(
            "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO asked SELECT 'key ' || i, 'another', '{}', 0 FROM n",
            KEPT_ANSWERS + 10,
        )
        await node.store.commit(batch)
        await Pruning(node.store, node.world, node.book.actors).bite()
        kept = [key for (key,) in node.store.rows("SELECT key FROM asked ORDER BY rowid LIMIT 2")]
        assert kept[0] == "k" and kept[1] != "key 3"
        plan = node.store.rows(
            "EXPLAIN QUERY PLAN SELECT rowid FROM asked WHERE lasts = 0 AND rowid <= ? ORDER BY rowid LIMIT 5", 7
        )
        assert "asked_that_go" in str(plan) and "TEMP B-TREE" not in str(plan)


async def test_a_part_shows_the_preimage_to_the_payee_alone() -> None:
    """Of three hops two learn where to pass it on, and nothing else."""
    drawn, hub_ = Preimage(sha256(b"drawn")), Key(sha256(b"hub"))
    asked = asked_of(
        drawn,
        domain=DOMAIN,
        payee=PAYEE_KEY.public,
        token=NATIVE,
        amount=Amount(100),
        at=START,
        final_delta=Seconds(20),
    )
    hops = [
        Hop(
            channel_id=ChannelId(bytes([number]) * 32),
            side=Side.A,
            source=source,
            target=target,
            amount=Amount(100),
            expiry_delta=Seconds(60),
            fee=Amount(0),
        )
        for number, (source, target) in enumerate(
            ((NODE_KEY.public, hub_.public), (hub_.public, PAYEE_KEY.public)), start=1
        )
    ]
    built = build(asked, Amount(100), Route(hops=tuple(hops), cost=0), START, lambda n: b"\7" * n, drawn=drawn)
    first = onion.peel(built.packet, hub_, asked.payment_hash)
    assert first.onward is not None
    assert not any(bytes(drawn) in told for told in (built.packet, first.payload, first.onward))
    last = payload.decode(onion.peel(first.onward, PAYEE_KEY, asked.payment_hash).payload)
    assert isinstance(last, FinalPayload) and last.preimage == drawn
