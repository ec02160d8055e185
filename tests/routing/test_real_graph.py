"""The search on a real network against the slow reference: the same cost, and an answer whenever there is one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from channeld.base.units import Amount, NodeId, Seconds, Side, Timestamp
from routing.edges import Edge
from routing.fees import Policy
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, Route, find_route
from routing.ways import OwnChannel
from tests.bench import lightning
from tests.bench.lightning import NOW, TOKEN
from tests.routing.slow import Found, slowest_best

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
AMOUNT = Amount(100_000_000)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return lightning.load()


def lines(graph: Graph, some: slice = slice(None)) -> Iterator[tuple[NodeId, NodeId, list[OwnChannel]]]:
    for payer, payee in lightning.pairs()[some]:
        yield payer, payee, lightning.own_channels(graph, payer)


def asked(payer: NodeId, payee: NodeId, own: list[OwnChannel], amount: Amount = AMOUNT) -> dict[str, Any]:
    return {
        "source": payer,
        "target": payee,
        "token": TOKEN,
        "amount": amount,
        "final_expiry_delta": Seconds(900),
        "own_channels": own,
        "now": NOW,
    }


def search(graph: Graph, what: dict[str, Any], **more: Any) -> Route | None:
    try:
        return find_route(graph, **what, **{"max_fee": Amount(10**12), **more})
    except NoRoute:
        return None


def test_the_data_is_whole(graph: Graph) -> None:
    assert len(graph) == 50_808
    assert len(list(graph.nodes(TOKEN))) == 17_324
    enabled = 0
    for channel in graph.channels():
        policies = (graph.policy(channel.channel_id, side) for side in Side)
        enabled += sum(policy is not None and not policy.disabled for policy in policies)
    assert enabled == 65_809


def taught(graph: Graph, chance: random.Random) -> Liquidity:
    """Some of everything is known, at several times."""
    learned = Liquidity()
    for channel in chance.sample(list(graph.channels()), 3_000):
        learn = chance.choice([learned.failed, learned.carried, learned.settled])
        amount = Amount(1 + chance.randrange(min(2 * AMOUNT, channel.capacity)))
        at = Timestamp(NOW - chance.randrange(20_000))
        learn((channel.channel_id, chance.choice(list(Side))), amount, channel.capacity, at)
    return learned


def test_the_cost_is_the_references_on_all_pairs(graph: Graph) -> None:
    learned, found = Liquidity(), 0
    for line in lines(graph):
        what = asked(*line)
        best, route = slowest_best(graph, **what, liquidity=learned), search(graph, what, liquidity=learned)
        assert (None if route is None else route.cost) == (None if best is None else best[0])
        found += route is not None
    assert found > 180


def test_the_cost_is_the_references_whatever_was_learned_and_changes(graph: Graph) -> None:
    """Bounds and answers kept from before are no worse than none: gossip, learning and time go on between searches."""
    chance = random.Random(6)
    learned = taught(graph, chance)
    channels = list(graph.channels())
    for number, (payer, payee, own) in enumerate(lines(graph, slice(0, 40))):
        now = Timestamp(NOW + 40 * number)
        what = {**asked(payer, payee, own, Amount(AMOUNT >> chance.randrange(12))), "now": now}
        for again in range(2):
            best, route = slowest_best(graph, **what, liquidity=learned), search(graph, what, liquidity=learned)
            assert (None if route is None else route.cost) == (None if best is None else best[0]), (number, again)
            for channel in chance.sample(channels, 30):
                _change(graph, chance, channel.channel_id, now)
            if route is not None:
                for hop in route.hops[1:]:
                    learn = chance.choice([learned.failed, learned.carried, learned.settled])
                    learn(hop.direction, hop.amount, hop.capacity, now)
                    _change(graph, chance, hop.channel_id, now)


def _change(graph: Graph, chance: random.Random, channel_id: Any, now: Timestamp) -> None:
    for side in Side:
        policy = graph.policy(channel_id, side)
        if policy is not None:
            ppm = min(1_000_000, round(policy.fee_ppm * chance.uniform(0.5, 1.5)))
            later = Timestamp(max(policy.timestamp, now) + 1)
            graph.set_policy(channel_id, side, replace(policy, fee_ppm=ppm, timestamp=later))
    channel = graph.channel(channel_id)
    if channel is not None and chance.random() < 0.3:
        graph.resize(channel_id, Amount(round(channel.capacity * chance.uniform(0.5, 1.5))))


@pytest.mark.parametrize("name", ["max_hops", "max_expiry_delta", "max_fee"])
def test_under_a_limit_there_is_an_answer_whenever_the_reference_has_one(graph: Graph, name: str) -> None:
    """The limit is set just below what the best way takes; the answer is the optimum within it, too."""
    learned, met = Liquidity(), 0
    for line in lines(graph, slice(40, 58)):
        what = asked(*line)
        free = search(graph, what, liquidity=learned)
        if free is None:
            continue
        most = {"max_hops": len(free.hops), "max_expiry_delta": free.expiry_delta, "max_fee": free.fee}[name] - 1
        if most <= 0:
            continue
        within: dict[str, Any] = {name: most}
        best: Found | None = slowest_best(graph, **what, liquidity=learned, **within)
        route = search(graph, what, liquidity=learned, **{name: most})
        assert (route is None) == (best is None)
        if route is not None and best is not None:
            assert route.cost == best[0]
            assert {"max_hops": len(route.hops), "max_expiry_delta": route.expiry_delta, "max_fee": route.fee}[
                name
            ] <= most
            met += 1
    assert met >= 5


def test_a_hint_is_a_way_like_others_and_never_hides_the_public_ones(graph: Graph) -> None:
    """A dear hint of our own neighbour to a public payee, as a shop behind a hub might give: the rest stays."""
    learned = Liquidity()
    for payer, payee, own in lines(graph, slice(0, 8)):
        for fee in (0, 10**6, 10**9):
            policy = Policy(fee_base=Amount(fee), fee_ppm=0, expiry_delta=Seconds(0))
            name = lightning.channel_id(10**6)
            hint = Edge(channel_id=name, side=Side.A, source=own[0].peer, target=payee, policy=policy)
            what = {**asked(payer, payee, own), "hints": [hint]}
            best, route = slowest_best(graph, **what, liquidity=learned), search(graph, what, liquidity=learned)
            assert best is not None and route is not None
            assert route.cost == best[0]
