"""The gas reserve: figures that cover what was measured, and what counts towards it (T19, I22)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.units import NATIVE, Amount, Side
from channeld.chain.networks import RESOLVING_GAS, Fees, names, network
from channeld.chain.sender import GAS_EXTRA, GAS_MARGIN
from channeld.core.channel import Channel, Phase
from channeld.node.reserve import GAS_OF_CHANNEL, GAS_OF_LOCK, LEAST, LOOKS_AGAIN, Reserve
from tests.roles import channels, offer, open_pair
from tests.unit.node.parts import Parts, parts

MEASURED = json.loads((Path(__file__).parents[2] / "contracts/gas.json").read_text())
PRICE = 10
BOND = 1_000


class Figures:
    """The two answers of the chain that the reserve asks for."""

    def __init__(self, balance: int) -> None:
        self.wei, self.price, self.asked = balance, PRICE, 0
        self.silent = False

    async def gas_price(self) -> int:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.silent:
            raise Unreachable("no price")
        return self.price

    async def balance(self, _owner: bytes) -> int:
        await trio.lowlevel.checkpoint()
        return self.wei


def reserve(
    node: Parts, figures: Figures, *, max_fee: int = 10_000, costs: Callable[[Any], int] = lambda _: 0
) -> Reserve:
    return Reserve(
        us=bytes(20),  # type: ignore[arg-type]
        chain=cast(Any, figures),
        book=node.book,
        store=node.store,
        fees=Fees(max_fee=max_fee, min_tip=0),
        bond=BOND,
        costs=lambda token: Amount(costs(token)),
        times=5,
    )


def limit(gas: int) -> int:
    """What the sender allows a transaction that takes `gas`."""
    return gas + gas // GAS_MARGIN + GAS_EXTRA


def test_the_figures_cover_what_was_measured():
    settle = MEASURED["gas_unilateral_close_erc20"] - MEASURED["gas_close"]
    resolve = MEASURED["gas_settle_eth"]  # a payout to both, and a list; more than one record of locks takes
    calls = (MEASURED["gas_close"], MEASURED["gas_challenge"], MEASURED["gas_finalize"], settle, resolve)
    assert sum(limit(gas) for gas in calls) <= GAS_OF_CHANNEL
    lock = MEASURED["gas_lock_registered"]
    assert limit(MEASURED["gas_register"]) + lock + lock // GAS_MARGIN <= GAS_OF_LOCK
    assert MEASURED["gas_register"] + lock <= RESOLVING_GAS <= GAS_OF_LOCK


def with_locks(*amounts: int) -> Channel:
    """The acceptor's channel, in which the opener has offered locks of these amounts."""
    both = open_pair()
    for number, amount in enumerate(amounts):
        both.do(Side.A, offer(amount, number + 1))
    both.settle()
    return both.acceptor.channel


async def test_i22_each_channel_and_each_lock_worth_resolving_is_counted(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        made = reserve(node, Figures(10**9), costs=lambda _: 6)
        await made.look()
        assert made.needed(3) == 0
        await node.add(with_locks(5, 6, 7))
        channel = next(iter(node.book.actors.values())).channel
        assert len(channel.current.body.locks) == 3
        both_ways = 2 * 2  # of 6 and 7, and the locks they may be passed on as
        assert made.needed(3) == 3 * PRICE * (GAS_OF_CHANNEL + both_ways * GAS_OF_LOCK) + channel.terms.close_bond
        one_more = made.needed(3, channels=1, locks=2) - made.needed(3)
        assert one_more == 3 * PRICE * (GAS_OF_CHANNEL + 2 * GAS_OF_LOCK) + BOND


async def test_the_price_counts_no_higher_than_we_would_offer(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        made = reserve(node, Figures(0), max_fee=25)
        await made.look()
        assert made.needed(5, channels=1) == 25 * GAS_OF_CHANNEL + BOND


async def test_a_channel_that_is_only_words_counts_for_who_accepts_alone(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        made = reserve(node, Figures(10**9))
        await made.look()
        _, acceptor = channels()
        await node.add(acceptor)
        assert acceptor.phase is Phase.OPENING
        assert made.needed(2) == 0
        assert made.needed(2, strangers=True) == 2 * PRICE * GAS_OF_CHANNEL + acceptor.terms.close_bond
        node.book.actors.clear()
        opener, _ = channels()
        await node.add(opener)
        assert made.needed(2) > 0


async def test_before_the_first_look_nothing_is_taken(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        made = reserve(node, Figures(10**9))
        assert made.short is not None
        with pytest.raises(Refused) as told:
            made.must_hold(0, strangers=False)
        assert told.value.code == "insufficient_gas"


async def test_an_endpoint_that_tells_no_price_leaves_the_figures_and_is_no_failure(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        figures = Figures(10**9)
        made = reserve(node, figures)
        figures.silent = True
        said = []
        for figures.silent, figures.wei in ((True, 10**9), (False, 10**9), (True, 0)):
            await made.new_head()
            said.append(made.short is None)
        assert said == [False, True, True], "nothing is taken before they are known; then what was known stays"
        with pytest.raises(Unreachable):
            await made.look()


async def test_strangers_have_the_chain_asked_a_few_times_for_each_head(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        figures = Figures(0)
        made = reserve(node, figures)
        await made.new_head()
        for _ in range(LOOKS_AGAIN + 5):
            await made.look_again()
        assert figures.asked == 1 + LOOKS_AGAIN
        figures.wei = 10**9
        await made.new_head()
        await made.look_again()
        assert figures.asked == 2 + LOOKS_AGAIN, "there is enough: no reason to ask"


async def test_a_turn_of_a_channel_is_counted_anew(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        made = reserve(node, Figures(10**9))
        await made.look()
        actor = await node.add(with_locks())
        before = made.needed(1)
        node.book.actors.begin(actor.channel)
        assert made.needed(1) == before
        actor.channel = with_locks(5)
        assert made.needed(1) > before, "also before all that follows from the turn has been told"
        actor.channel = replace(actor.channel, phase=Phase.CLOSED)
        node.book.actors.end(actor.channel.id)
        assert made.needed(1) == 0


async def test_a_turn_that_is_not_saved_yet_counts_as_it_will_be(nursery: trio.Nursery) -> None:
    """A lock may be answered in the turn that brings it: what else that turn brings, and others bring, is counted."""
    with parts(nursery) as node:
        made = reserve(node, Figures(10**9))
        await made.look()
        actor = await node.add(with_locks())
        before = made.needed(1)
        more = made.needed(1, turning=with_locks(5))
        assert more > before
        assert made.needed(1) == before
        node.book.actors.begin(with_locks(5))
        assert made.needed(1) == more
        node.book.actors.end(actor.channel.id)
        assert made.needed(1) == before


async def test_it_is_told_once_when_the_account_runs_low_and_once_when_it_is_filled(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        figures = Figures(0)
        made = reserve(node, figures)
        await made.look()
        assert not node.store.rows("SELECT type FROM events")  # no channels, nothing to be short of
        await node.add(with_locks())
        least = made.needed(LEAST) + LEAST * PRICE * 2 * GAS_OF_LOCK
        for wei in (least - 1, 0, least, least, least - 1):
            figures.wei = wei
            await made.look()
            assert (made.short is None) is (wei >= least)
        rows = node.store.rows("SELECT type FROM events ORDER BY n")
        assert rows == [("gas_low",), ("gas_enough",), ("gas_low",)]
        figures.wei, figures.price = least, PRICE + 1
        await made.look()
        assert made.short is not None


def test_what_resolving_costs_is_known_where_the_coin_is_worth_something():
    for name in names():
        shipped = network(name)
        free = name in ("dev", "sepolia", "base-sepolia")
        assert (shipped.resolving(NATIVE) == 0) is free
        assert shipped.resolving(NATIVE) == RESOLVING_GAS * shipped.fees.usual
        for token in shipped.tokens:
            assert (shipped.resolving(token.address) == 0) is free
        assert shipped.resolving(b"\x07" * 20) == 0  # type: ignore[arg-type]
    with pytest.raises(Refused, match="resolving"):
        network("base", {"tokens": {"USDC": {"resolving": -1}}})
