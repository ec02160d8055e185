"""A payment to ourselves: one transaction begins it, only its two channels are used, and the books show one payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Amount, ChannelId, LockKey, NodeId, Seconds, Side
from channeld.core.channel import Phase, Session
from channeld.core.messages import AddLock
from channeld.node import shown
from channeld.node.asked import Asked
from channeld.node.attempts import locks_of
from channeld.node.ledger import Attempt
from channeld.node.loop import Actor
from channeld.node.payment_row import Circle, circle_of
from channeld.node.payments import Payments
from channeld.node.rebalancing import Rebalancing
from channeld.storage.store import Batch
from channeld.wire import onion, payload
from channeld.wire.failure import FailureCode
from channeld.wire.payload import FinalPayload
from tests.roles import open_pair
from tests.unit.node.parts import NODE_KEY, Parts, parts, renamed
from tests.unit.node.streets import FARTHER, FIRST, HUB, PAYEE, SECOND, THIRD, TOLL, answer, attempts, lay, street
from tests.unit.node.test_payments import service_of

HOME = ChannelId(bytes([8]) * 32)
"""Ours with the one who is the payee of other streets: it sends home."""
TABLES = ("invoices", "rebalances", "payments", "attempts", "asked")


class Owner:
    """What a caller of `rebalance` reaches."""

    def __init__(self, node: Parts) -> None:
        numbers = count(1)
        self.node = node
        self.told: list[str] = []
        self.faults: list[Refused] = []
        self.moving = Rebalancing(
            node.payments,
            node.book,
            node.world,
            Asked(node.store),
            node_key=NODE_KEY,
            domain=node.payments._domain,
            randomness=lambda length: keccak(next(numbers).to_bytes(4, "big"))[:length],
        )

    async def move(
        self, amount: int = 100, *, out: ChannelId = FIRST, into: ChannelId = HOME, key: str | None = None, **more: Any
    ) -> None:
        try:
            done = await self.moving.move(
                out, into, Amount(amount), Amount(more.get("max_fee", 50)), more.get("timeout", 30), key
            )
            self.told.append(done.state)
        except Refused as fault:
            self.faults.append(fault)


@asynccontextmanager
async def ring(nursery: trio.Nursery) -> AsyncIterator[tuple[Parts, Owner, Actor, Actor, trio.Nursery]]:
    """Two channels of ours, with the hub and with the one that sends home, and two ways between these."""
    with parts(nursery) as node, trio.fail_after(5):
        out = await street(node)
        lay(node, THIRD, HUB, FARTHER)
        lay(node, ChannelId(bytes([28]) * 32), FARTHER, PAYEE)
        home = await node.add(replace(renamed(open_pair().acceptor.channel, 8), peer=PAYEE.public))
        node.payments.ways.policy = {(HOME, Side.A): TOLL, (FIRST, Side.A): TOLL}.get
        async with trio.open_nursery() as callers:
            yield node, Owner(node), out, home, callers
            callers.cancel_scope.cancel()


def counted(node: Parts) -> list[int]:
    return [node.store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES]


def way(attempt: Attempt) -> list[bytes]:
    return [lock.direction[0] for lock in locks_of(attempt)[1]]


async def test_what_begins_it_is_one_transaction(nursery: trio.Nursery) -> None:
    """A lock of ours whose preimage is not on disk would be lost money for whoever passes it on, us at the end."""
    async with ring(nursery) as (node, owner, _, _, callers):
        saved: list[list[int]] = []
        commit = node.store.commit

        async def watched(batch: Batch) -> None:
            await commit(batch)
            saved.append(counted(node))

        node.store.commit = watched  # type: ignore[method-assign]
        callers.start_soon(lambda: owner.move(key="k"))
        await node.quiet()
        assert {tuple(one) for one in saved} == {(1, 1, 1, 1, 1)}
        ((hash_,),) = node.store.rows("SELECT hash FROM payments WHERE state = 'pending'")
        assert circle_of(node.store, hash_) == Circle(FIRST, HOME)
        assert circle_of(node.store, LockKey(bytes(32))) is None
        assert node.store.rows("SELECT lasts FROM asked") == [(1,)], "asked again it would move money again"


async def test_the_lock_goes_round_to_us_with_exact_fees(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, out, _, callers):
        callers.start_soon(owner.move)
        await node.quiet()
        (attempt,) = attempts(node)
        locks = locks_of(attempt)[1]
        assert [(*lock.direction, lock.amount) for lock in locks] == [
            (FIRST, Side.B, 106),
            (SECOND, Side.A, 103),
            (HOME, Side.A, 100),
        ]
        assert locks[-1].target == node.payments._us
        proposal = out.channel.outstanding
        assert proposal is not None
        (added,) = proposal.updates
        assert isinstance(added, AddLock)
        packet: bytes | None = added.onion
        said = b""
        for key in (HUB, PAYEE, NODE_KEY):
            assert packet is not None
            peeled = onion.peel(packet, key, attempt.hash)
            packet, said = peeled.onward, peeled.payload
        told = payload.decode(said)
        ((secret, text),) = node.store.rows("SELECT secret, text FROM invoices")
        asked = node.payments.read(text)
        assert isinstance(told, FinalPayload) and packet is None
        assert (told.amount, told.total, told.payment_secret) == (100, 100, secret) == (100, 100, asked.payment_secret)
        assert told.expiry >= node.world.now + asked.min_final_delta
        invoice_ = node.desk.invoice(attempt.hash)
        assert invoice_ is not None and invoice_.open and invoice_.amount == 100, "the desk would take it"


async def test_it_is_tried_another_way_between_the_same_two_channels(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, _, _, callers):
        callers.start_soon(owner.move)
        await node.quiet()
        (first,) = attempts(node)
        node.payments.returned(first, answer(first, 0, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        await node.quiet()
        second = attempts(node)[-1]
        assert (way(first)[1:2], len(way(second))) == ([SECOND], 4)
        assert way(second)[0] == FIRST and way(second)[-1] == HOME
        node.payments.returned(second, answer(second, 1, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        await node.quiet()
        assert owner.told == [] and len(attempts(node)) == 2
        (fault,) = owner.faults
        assert fault.code == "hop_short" and "hop 2 of 4" in fault.text and fault.hint
        assert node.store.rows("SELECT state FROM invoices") == [("open",)]


async def test_when_the_last_hop_is_short_there_is_no_other(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, _, _, callers):
        callers.start_soon(owner.move)
        await node.quiet()
        (first,) = attempts(node)
        node.payments.returned(first, answer(first, 1, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        await node.quiet()
        assert len(attempts(node)) == 1
        (fault,) = owner.faults
        assert fault.code == "hop_short" and "hop 2 of 3" in fault.text and "last hop" in fault.text


async def test_after_a_restart_it_goes_on_between_the_same_two_channels(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, _, _, callers):
        callers.start_soon(owner.move)
        await node.quiet()
        (first,) = attempts(node)
        old = node.payments
        node.book.payer = node.payments = Payments(
            node.book,
            node.store,
            node.world,
            old._graph,
            domain=old._domain,
            us=old._us,
            randomness=old._randomness,
            nursery=nursery,
        )
        node.payments.ways.policy = old.ways.policy
        node.payments.resume()
        node.payments.returned(first, answer(first, 0, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        await node.quiet()
        second = attempts(node)[-1]
        assert second is not first and (way(second)[0], way(second)[-1], len(way(second))) == (FIRST, HOME, 4)


async def test_what_has_arrived_is_not_sent_again(nursery: trio.Nursery) -> None:
    """Hops have seen its preimage: what came back was given to us, and another lock would be theirs to take."""
    async with ring(nursery) as (node, owner, _, _, callers):
        callers.start_soon(owner.move)
        await node.quiet()
        (first,) = attempts(node)
        batch = Batch()
        batch.add("UPDATE invoices SET state = 'paid', received = x'64' WHERE hash = ?", first.hash)
        await node.store.commit(batch)
        node.payments.returned(first, answer(first, 0, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        await node.quiet()
        assert len(attempts(node)) == 1
        (fault,) = owner.faults
        assert fault.code == "payment_failed" and "arrived" in fault.text


async def test_under_one_key_it_is_one(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, _, _, callers):
        disk, commit = trio.Event(), node.store.commit

        async def slow(batch: Batch) -> None:
            await disk.wait()
            await commit(batch)

        node.store.commit = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as going:
            going.start_soon(lambda: owner.move(key="k"))
            while not node.payments._running:
                await trio.lowlevel.checkpoint()
            going.cancel_scope.cancel()  # the caller goes
        await owner.move(101, key="k")
        assert counted(node) == [0, 0, 0, 0, 0], "nothing of it is saved yet"
        disk.set()
        for _ in range(3):
            callers.start_soon(lambda: owner.move(key="k"))
        await node.quiet()
        assert (owner.told, counted(node)) == ([], [1, 1, 1, 1, 1])
        (first,) = attempts(node)
        batch = Batch()
        batch.add("UPDATE payments SET state = 'succeeded'")
        await commit(batch)
        node.payments.fulfilled(first, node.store.rows("SELECT preimage FROM invoices")[0][0], node.world.now)
        await node.quiet()
        await owner.move(101, key="k")
        assert (owner.told, counted(node)) == (["succeeded"] * 3, [1, 1, 1, 1, 1])
        assert [fault.code for fault in owner.faults] == ["idempotency_conflict"] * 2


@pytest.mark.parametrize(
    ("code", "asked", "change"),
    [
        ("unknown_channel", {"into": ChannelId(bytes(32))}, {}),
        ("unknown_channel", {"out": ChannelId(bytes(32))}, {}),
        ("bad_circle", {"into": FIRST}, {}),
        ("bad_circle", {}, {"token": b"\x66" * 20}),
        ("channel_not_open", {}, {"leaving": True}),
        ("channel_not_open", {}, {"phase": Phase.FROZEN}),
        ("unreachable", {}, {"session": Session.CUT}),
        ("insufficient_balance", {"amount": 501}, {}),
        ("insufficient_balance", {"amount": 499}, {}),
        ("insufficient_balance", {"amount": 495}, {}),
        ("fee_budget", {"max_fee": 5}, {}),
        ("fee_budget", {"max_fee": 2}, {}),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_leaves(
    nursery: trio.Nursery, code: str, asked: dict[str, Any], change: dict[str, Any]
) -> None:
    async with ring(nursery) as (node, owner, _, home, _):
        home.channel = replace(home.channel, **change)
        await owner.move(**asked)
        assert [fault.code for fault in owner.faults] == [code], owner.faults
        assert owner.faults[0].hint
        assert attempts(node) == []
        if code == "insufficient_balance" and asked["amount"] > 500:
            assert FIRST.hex() in owner.faults[0].text
        if change:
            assert ("0x" + HOME.hex() in owner.faults[0].text) == (code != "bad_circle")


async def test_what_the_last_hop_lacks_is_known_beforehand(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, _, home, _):
        home.channel = replace(home.channel, told=(Amount(60), home.channel.told[1]))
        await owner.move(61)
        (fault,) = owner.faults
        assert fault.code == "hop_short" and HOME.hex() in fault.text and "60" in fault.text
        node.payments.ways.policy = lambda _: None
        await owner.move(60)
        assert owner.faults[1].code == "no_route" and HOME.hex() in owner.faults[1].text
        assert attempts(node) == []


async def test_it_is_one_payment_in_the_books_and_no_invoice(nursery: trio.Nursery) -> None:
    async with ring(nursery) as (node, owner, _, _, callers):
        callers.start_soon(owner.move)
        await node.quiet()
        (attempt,) = attempts(node)
        invoice_ = node.desk.invoice(attempt.hash)
        assert invoice_ is not None
        claim = node.desk._claim(invoice_, [], Batch())  # as it writes down what an arrival pays
        claim.add(
            "UPDATE payments SET state = 'succeeded', preimage = ? WHERE hash = ?", invoice_.preimage, attempt.hash
        )
        await node.store.commit(claim)
        assert node.store.rows("SELECT type FROM events") == [], "nobody has paid us"
        service = service_of(node, config=SimpleNamespace(network=node.world.network), node_key=NODE_KEY)
        listed = await service.list_payments(limit=10, cursor=None)
        (told,) = listed["payments"]
        assert (told["kind"], told["direction"], told["state"]) == ("rebalance", "self", "succeeded")
        assert (told["from_channel"], told["to_channel"]) == (shown.hexed(FIRST), shown.hexed(HOME))
        assert (told["amount"], told["fee"], told["hops"]) == ("100", "6", 3)
        assert await service.lookup_payment(id=attempt.hash) == told


async def test_a_plain_search_never_comes_home(nursery: trio.Nursery) -> None:
    """Only a way round may end at us; a question about ourselves has no answer."""
    async with ring(nursery) as (node, _, _, _, _):
        asked = node.payments.ways.ask(
            NodeId(NODE_KEY.public), NATIVE, Amount(100), Amount(50), final_delta=Seconds(20)
        )
        with pytest.raises(Refused) as told:
            node.payments.ways.plan(asked)
        assert told.value.code == "no_route"
