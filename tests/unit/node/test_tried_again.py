"""A payment that comes back from a hop with other terms, or from one that was away: what is tried next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from channeld.base.errors import Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Amount, ChannelId, Seconds, Side, Timestamp
from channeld.node import announcing
from channeld.node.attempts import locks_of
from channeld.node.lately import AWAY
from channeld.node.ledger import Attempt
from channeld.wire import failure, invoice, messages, onion
from channeld.wire.failure import Failure, FailureCode
from routing.fees import Policy
from routing.graph import Channel
from tests.roles import START, open_pair
from tests.unit.node.parts import Parts, parts, renamed
from tests.unit.node.test_parts_of_a_payment import under_way
from tests.unit.node.test_payments import PAYEE, asked

HUBS: Final = (Key(sha256(b"the cheap hub")), Key(sha256(b"the dear hub")))
STREETS: Final = tuple(ChannelId(bytes([20 + number]) * 32) for number in (0, 1))
CHEAP: Final = Policy(fee_base=Amount(1), fee_ppm=0, expiry_delta=Seconds(20), timestamp=Timestamp(START - 100))
DEAR: Final = replace(CHEAP, fee_base=Amount(9))


@asynccontextmanager
async def paying(nursery: trio.Nursery, hubs: int = 1, max_fee: int = 50) -> AsyncIterator[tuple[Parts, list[str]]]:
    """A payment under way over the first of so many hubs, each with a channel of its own with us and the payee."""
    told: list[str] = []
    with parts(nursery) as node:
        for number, (hub, street) in enumerate(zip(HUBS[:hubs], STREETS, strict=False)):
            await node.add(replace(renamed(open_pair().acceptor.channel, 7 + number), peer=hub.public))
            node.payments._graph.add(
                Channel(
                    channel_id=street,
                    node_a=hub.public,
                    node_b=PAYEE.public,
                    token=NATIVE,
                    capacity=Amount(10**6),
                    seen=START,
                )
            )
            node.payments._graph.set_policy(street, Side.A, (CHEAP, DEAR)[number])

        async def pay() -> None:
            text = invoice.encode(asked(), PAYEE)
            try:
                told.append((await node.payments.pay(text, None, Amount(max_fee), 5)).state)
            except Refused as fault:
                told.append(f"{fault.code}: {fault.text}")

        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                callers.start_soon(pay)
                await node.quiet()
                yield node, told
                callers.cancel_scope.cancel()


def route(one: Attempt) -> tuple[ChannelId, int]:
    """The channel that leads to the payee, and the fee."""
    _, locks = locks_of(one)
    return locks[-1].direction[0], locks[0].amount - locks[-1].amount


async def back(node: Parts, code: FailureCode, policy: Policy | None = None) -> None:
    """The newest lock comes back from its hub."""
    one = under_way(node)[-1]
    secrets, locks = locks_of(one)
    hub = next(hub for hub in HUBS if hub.public == locks[0].target)
    data = b"" if policy is None else messages.encode(announcing.update_of(*locks[-1].direction, policy, hub))
    node.payments.returned(one, onion.create_error(secrets[0], failure.encode(Failure(code=code, data=data))))
    await node.quiet()


def newer(fee: int, at: int = -50) -> Policy:
    return replace(CHEAP, fee_base=Amount(fee), timestamp=Timestamp(START + at))


async def test_it_goes_again_with_what_the_hop_asks_now(nursery: trio.Nursery) -> None:
    async with paying(nursery) as (node, told):
        assert [route(one) for one in under_way(node)] == [(STREETS[0], 1)]
        await back(node, FailureCode.FEE_INSUFFICIENT, newer(7))
        assert [route(one) for one in under_way(node)] == [(STREETS[0], 1), (STREETS[0], 7)]
        assert told == []


async def test_it_goes_another_way_if_that_has_become_cheaper(nursery: trio.Nursery) -> None:
    async with paying(nursery, 2) as (node, _):
        await back(node, FailureCode.FEE_INSUFFICIENT, newer(10))
        assert [route(one) for one in under_way(node)] == [(STREETS[0], 1), (STREETS[1], 9)]


async def test_a_hop_that_always_asks_more_has_one_second_chance(nursery: trio.Nursery) -> None:
    async with paying(nursery) as (node, told):
        await back(node, FailureCode.FEE_INSUFFICIENT, newer(2))
        await back(node, FailureCode.FEE_INSUFFICIENT, newer(3, at=-40))
        assert len(under_way(node)) == 2
        assert told[0].startswith("no_route: fee_insufficient at hop 1 of 2")


async def test_a_hop_that_asks_more_than_the_limit_says_so_to_the_caller(nursery: trio.Nursery) -> None:
    async with paying(nursery) as (node, told):
        await back(node, FailureCode.FEE_INSUFFICIENT, newer(51))
        assert told[0].startswith("fee_budget: fee_insufficient at hop 1 of 2")
        assert "every way costs more than 50" in told[0]


async def test_without_its_word_the_hop_is_not_tried_again(nursery: trio.Nursery) -> None:
    async with paying(nursery) as (node, told):
        await back(node, FailureCode.FEE_INSUFFICIENT)
        assert len(under_way(node)) == 1 and told[0].startswith("payment_failed")


async def test_who_was_away_is_passed_over_by_the_next_payment_too(nursery: trio.Nursery) -> None:
    async with paying(nursery, 2) as (node, _):
        await back(node, FailureCode.UNKNOWN_NEXT_PEER)
        assert [route(one)[0] for one in under_way(node)] == [*STREETS]
        other = invoice.encode(asked(payment_hash=sha256(b"another")), PAYEE)
        ((first,), _) = node.payments.plan(other, None, None)
        assert first.hops[-1].channel_id == STREETS[1]
        node.clock[0] += AWAY
        ((first,), _) = node.payments.plan(other, None, None)
        assert first.hops[-1].channel_id == STREETS[0]


async def test_who_was_away_is_tried_where_there_is_no_other_way(nursery: trio.Nursery) -> None:
    async with paying(nursery) as (node, told):
        await back(node, FailureCode.UNKNOWN_NEXT_PEER)
        assert told[0].startswith("payee_offline"), "not twice by one payment"
        other = invoice.encode(asked(payment_hash=sha256(b"another")), PAYEE)
        ((first,), _) = node.payments.plan(other, None, None)
        assert first.hops[-1].channel_id == STREETS[0]
