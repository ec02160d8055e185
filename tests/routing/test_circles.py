"""Ways round: the cheapest of all, never through us, within limits that hold for the whole way."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.units import Amount, Seconds, Side
from routing.circles import find_circle
from routing.edges import Edge
from routing.fees import Policy
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, Route
from routing.splitting import Ask
from routing.ways import OwnChannel
from tests.routing.test_search import AMOUNT, graphs, policies, priced, ways
from tests.routing.town import NOW, PAYEE, PAYER, TOKEN, channel_id, join, node, own, toll

HOME = 200
"""The channel between us and the neighbour that sends it home."""


def home(policy: Policy | None, neighbour: int = PAYEE, capacity: int = 10**9) -> Edge:
    return Edge(
        channel_id=channel_id(HOME),
        side=Side.B,
        source=node(neighbour),
        target=node(PAYER),
        policy=policy,
        capacity=Amount(capacity),
    )


def ask(**more: Any) -> Ask:
    given_: dict[str, Any] = {
        "source": node(PAYER),
        "target": node(PAYER),
        "token": TOKEN,
        "amount": Amount(AMOUNT),
        "final_expiry_delta": Seconds(900),
        "own_channels": (),
        "max_fee": Amount(AMOUNT),
        "now": NOW,
        "liquidity": Liquidity(),
        **more,
    }
    return Ask(**given_)


@settings(max_examples=150, deadline=None)
@given(graphs(), policies(), st.integers(2, 6), st.sampled_from([1000, 90_900, 1_500_000]))
def test_it_is_the_cheapest_of_all_ways_round(
    made: tuple[Graph, list[OwnChannel]], policy: Policy, max_hops: int, max_fee: int
) -> None:
    graph, (first, *_) = made
    last, asked, learned = home(policy), ask(max_hops=max_hops, max_fee=Amount(max_fee)), Liquidity()
    due = AMOUNT + policy.fee(Amount(AMOUNT))
    every = []
    for own_, edges in ways(graph, [first]):
        found = priced(own_, edges, due, learned)
        if found is None or found[1] - AMOUNT > max_fee or found[2] + policy.expiry_delta > asked.max_expiry_delta:
            continue
        if len(edges) + 2 <= max_hops:
            every.append(found[0])
    try:
        route = find_circle(graph, asked, first, last)
    except NoRoute:
        assert not every or not last.carries(Amount(AMOUNT))
        return
    assert route.cost == min(every)
    check(graph, asked, first, last, route)


def check(graph: Graph, asked: Ask, first: OwnChannel, last: Edge, route: Route) -> None:
    """What a node would find wrong with it."""
    hops = route.hops
    assert (hops[0].channel_id, hops[-1].channel_id) == (first.channel_id, last.channel_id)
    assert hops[0].source == hops[-1].target == asked.source
    assert asked.source not in {hop.source for hop in hops[1:]}
    assert (route.amount, hops[-1].expiry_delta) == (asked.amount, asked.final_expiry_delta)
    assert hops[0].amount <= first.spendable and route.fee <= asked.max_fee and len(hops) <= asked.max_hops
    for before, hop in pairwise(hops):
        policy = last.policy if hop is hops[-1] else graph.policy(*hop.direction)
        assert policy is not None
        assert before.target == hop.source
        assert (before.amount - hop.amount, hop.fee) == (policy.fee(hop.amount),) * 2
        assert before.expiry_delta - hop.expiry_delta == policy.expiry_delta


def test_over_one_peer_both_ways() -> None:
    route = find_circle(Graph(), ask(), own(100, 3), home(toll(base=5, ppm=0), 3))
    assert [(hop.channel_id, hop.amount, hop.fee) for hop in route.hops] == [
        (channel_id(100), AMOUNT + 5, 0),
        (channel_id(HOME), AMOUNT, 5),
    ]


def street() -> Graph:
    """Our neighbour 1, then 2, then the payee's place, from where it comes home; and a dearer way over 3."""
    graph = Graph()
    join(graph, 1, 1, 2, toll(base=10, ppm=0))
    join(graph, 2, 2, PAYEE, toll(base=10, ppm=0))
    join(graph, 3, 1, PAYEE, toll(base=10_000, ppm=0))
    return graph


def test_what_was_short_is_gone_round() -> None:
    graph, last = street(), home(toll(base=1, ppm=0))
    first = find_circle(graph, ask(), own(100, 1), last)
    assert (len(first.hops), first.fee) == (4, 21)
    short = {first.hops[2].direction: first.hops[2].amount}
    assert find_circle(graph, ask(short=short), own(100, 1), last).fee == 10_001
    assert find_circle(graph, ask(exclude=frozenset({first.hops[1].direction})), own(100, 1), last).fee == 10_001


@pytest.mark.parametrize(
    ("code", "last", "spendable", "more"),
    [
        ("no_route", home(None), 10**9, {}),
        ("no_route", home(toll(disabled=True)), 10**9, {}),
        ("no_route", home(toll(max_lock=AMOUNT - 1)), 10**9, {}),
        ("no_route", home(toll(min_lock=AMOUNT + 1)), 10**9, {}),
        ("no_route", home(toll(), capacity=AMOUNT - 1), 10**9, {}),
        ("no_route", home(toll()), 10**9, {"exclude": frozenset({(channel_id(HOME), Side.B)})}),
        ("no_route", home(toll()), 10**9, {"short": {(channel_id(HOME), Side.B): Amount(AMOUNT)}}),
        ("fee_budget", home(toll(base=101, ppm=0)), 10**9, {"max_fee": Amount(100)}),
        ("fee_budget", home(toll(base=80, ppm=0)), 10**9, {"max_fee": Amount(99)}),
        ("own_channels_short", home(toll(base=1, ppm=0)), AMOUNT, {}),
        ("own_channels_short", home(toll(base=1, ppm=0)), AMOUNT + 20, {}),
        ("too_long", home(toll(base=1, ppm=0)), 10**9, {"max_hops": 2}),
        ("too_long", home(toll(base=1, ppm=0, delta=10**6)), 10**9, {"max_expiry_delta": Seconds(10**6)}),
        ("unknown_payee", home(toll(), neighbour=77), 10**9, {}),
    ],
)
def test_each_reason_why_there_is_none(code: str, last: Edge, spendable: int, more: dict[str, Any]) -> None:
    with pytest.raises(NoRoute) as told:
        find_circle(street(), ask(**more), own(100, 1, spendable), last)
    assert told.value.code == code
    assert find_circle(street(), ask(), own(100, 1), home(toll(base=1, ppm=0))).fee == 21
