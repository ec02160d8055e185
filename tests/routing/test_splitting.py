"""Parts of a payment: together the amount, each priced like a route alone, and none asked for more than it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.units import Amount, Seconds, Side
from routing.edges import Edge
from routing.fees import stricter
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, Route
from routing.splitting import Ask, chance, find_parts
from routing.ways import OwnChannel
from tests.routing.town import NOW, PAYEE, PAYER, TOKEN, channel_id, join, node, own, toll

AMOUNT = 1_000_000


def ask(own_channels: list[OwnChannel], amount: int = AMOUNT, **more: Any) -> Ask:
    given_: dict[str, Any] = {
        "source": node(PAYER),
        "target": node(PAYEE),
        "token": TOKEN,
        "amount": Amount(amount),
        "final_expiry_delta": Seconds(900),
        "own_channels": own_channels,
        "max_fee": Amount(amount),
        "now": NOW,
        "liquidity": Liquidity(),
        **more,
    }
    return Ask(**given_)


def check(graph: Graph, asked: Ask, routes: tuple[Route, ...], max_parts: int = 10) -> None:
    """What a node would find wrong with them."""
    assert sum(route.amount for route in routes) == asked.amount
    assert sum(route.fee for route in routes) <= asked.max_fee
    assert 1 <= len(routes) <= max_parts
    left = {(one.channel_id, one.side): int(one.spendable) for one in asked.own_channels}
    carried: Counter[Any] = Counter()
    hinted = {(edge.channel_id, edge.side): edge for edge in asked.hints}
    for route in routes:
        first = route.hops[0]
        left[first.direction] -= first.amount
        assert left[first.direction] >= 0 and first.source == asked.source
        assert (route.hops[-1].target, route.hops[-1].expiry_delta) == (asked.target, asked.final_expiry_delta)
        assert len({hop.source for hop in route.hops}) == len(route.hops) <= asked.max_hops
        for before, hop in pairwise(route.hops):
            edge = hinted.get(hop.direction)
            policy = graph.policy(*hop.direction) if edge is None else edge.policy
            if policy is not None and hop.direction in asked.terms:
                policy = stricter(policy, asked.terms[hop.direction])
            assert policy is not None and not policy.disabled and hop.direction not in asked.exclude
            assert before.target == hop.source and before.amount - hop.amount == policy.fee(hop.amount)
            assert before.expiry_delta - hop.expiry_delta == policy.expiry_delta
            assert policy.min_lock <= route.amount and hop.amount <= policy.max_lock
            carried[hop.direction] += hop.amount
    for direction, amount in carried.items():
        channel = graph.channel(direction[0])
        assert channel is None or amount <= channel.capacity


def three_streets() -> Graph:
    """payer - 1, 2, 3 - payee; each carries 400,000."""
    graph = Graph()
    for number in (1, 2, 3):
        join(graph, number, number, PAYEE, toll(number, 100, 600), None, 400_000)
    return graph


def test_a_payment_that_only_arrives_in_three_parts() -> None:
    graph = three_streets()
    asked = ask([own(100 + number, number, 500_000) for number in (1, 2, 3)])
    routes = find_parts(graph, asked)
    check(graph, asked, routes)
    assert {route.hops[1].source for route in routes} == {node(1), node(2), node(3)}
    with pytest.raises(NoRoute):
        find_parts(graph, asked, max_parts=2)


def test_our_own_channels_with_the_payee_are_used_together() -> None:
    asked = ask([own(100, PAYEE, 550_000), own(101, PAYEE, 460_000)])
    routes = find_parts(Graph(), asked)
    check(Graph(), asked, routes)
    assert all(len(route.hops) == 1 for route in routes)


def test_what_one_way_carries_as_well_is_not_divided() -> None:
    graph = three_streets()
    join(graph, 4, 4, PAYEE, toll(1, 100, 600), None, 10**9)
    assert len(find_parts(graph, ask([own(100 + number, number, 10**9) for number in (1, 2, 3, 4)]))) == 1


def test_a_division_that_is_likelier_is_taken() -> None:
    graph = three_streets()
    asked = ask([own(100 + number, number, 500_000) for number in (1, 2, 3)], 390_000)
    routes = find_parts(graph, asked)
    check(graph, asked, routes)
    assert len(routes) > 1
    assert chance(routes, asked) > chance(find_parts(graph, asked, max_parts=1), asked)


def test_parts_that_stand_are_counted() -> None:
    """Of a street that carries half already only the other half can be used."""
    graph = three_streets()
    asked = ask([own(100 + number, number, 500_000) for number in (1, 2, 3)], 500_000)
    standing = [((channel_id(number), Side.A), Amount(390_000)) for number in (1, 2)]
    with pytest.raises(NoRoute):
        find_parts(graph, asked, standing=standing)
    routes = find_parts(graph, asked, standing=standing[:1])
    check(graph, asked, routes)
    assert {route.hops[1].source for route in routes} == {node(2), node(3)}


def test_the_budget_of_fees_is_kept() -> None:
    """The likeliest ways are dear; the cheap ones suffice."""
    graph = three_streets()
    for number in (5, 6):
        join(graph, number, number, PAYEE, toll(0, 300_000, 600), None, 10**8)
    mine = [own(100 + number, number, 500_000) for number in (1, 2, 3, 5, 6)]
    routes = find_parts(graph, asked := ask(mine, max_fee=Amount(1_000)))
    check(graph, asked, routes)


def test_parts_are_priced_by_what_their_hops_ask_besides_gossip() -> None:
    graph = three_streets()
    terms = {(channel_id(1), Side.A): toll(900, 0, 700), (channel_id(2), Side.A): toll(0, 0, 0)}
    asked = ask([own(100 + number, number, 500_000) for number in (1, 2, 3)], terms=terms)
    routes = find_parts(graph, asked)
    check(graph, asked, routes)
    fees = {route.hops[1].source: route.fee for route in routes}
    assert fees[node(1)] >= 900 and max(fees[node(2)], fees[node(3)]) < 100


def test_no_part_leads_through_the_payer() -> None:
    graph = Graph()
    join(graph, 1, 1, PAYER, toll(0, 0, 0))
    join(graph, 2, PAYER, 2, toll(0, 0, 0))
    join(graph, 3, 2, PAYEE, toll(0, 0, 0))
    with pytest.raises(NoRoute):
        find_parts(graph, ask([own(100, 1), own(2, 2, 5)]))


def test_hints_are_ways_too() -> None:
    graph, private = Graph(), node(77)
    for number in (1, 2):
        join(graph, number, number, 3, toll(), None, 700_000)
    hint = Edge(channel_id=channel_id(50), side=Side.A, source=node(3), target=private, policy=toll(3, 0, 60))
    asked = ask([own(101, 1, 700_000), own(102, 2, 700_000)], target=private, hints=[hint])
    routes = find_parts(graph, asked)
    check(graph, asked, routes)
    assert len(routes) >= 2


@st.composite
def towns(draw: st.DrawFn) -> tuple[Graph, Ask]:
    names = [1, 2, 3, 4, PAYEE, PAYER]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), min_size=3, max_size=14))
    locks = st.sampled_from(
        [{}, {"min_lock": AMOUNT // 8}, {"min_lock": AMOUNT}, {"max_lock": AMOUNT // 6}, {"max_lock": AMOUNT // 3}]
    )
    graph, sizes = Graph(), st.sampled_from([AMOUNT // 5, AMOUNT // 2, AMOUNT * 3 // 2, 10**9])
    for number, (a, b) in enumerate(pairs):
        if a != b:
            tolls = [
                toll(
                    draw(st.sampled_from([0, 5, 400])),
                    draw(st.sampled_from([0, 20, 20_000])),
                    draw(st.sampled_from([0, 600, 600_000])),
                    **draw(locks),
                    disabled=draw(st.sampled_from([False] * 5 + [True])),
                )
                for _ in range(2)
            ]
            join(graph, number, a, b, tolls[0], tolls[1], draw(sizes))
    mine = [
        own(100 + number, peer, draw(sizes))
        for number, peer in enumerate(draw(st.lists(st.sampled_from([1, 2, PAYEE]), min_size=1, max_size=4)))
    ]
    exclude = draw(st.sets(st.sampled_from([(channel_id(number), side) for number in range(6) for side in Side])))
    hints = draw(
        st.lists(st.tuples(st.sampled_from([*names, 20, 21]), st.sampled_from([*names, 20]), sizes), max_size=5)
    )
    edges = [
        Edge(
            channel_id=channel_id(50 + number),
            side=Side.A,
            source=node(a),
            target=node(b),
            policy=toll(draw(st.sampled_from([0, 300])), draw(st.sampled_from([0, 9_000])), 0, max_lock=most),
        )
        for number, (a, b, most) in enumerate(hints)
        if a != b
    ]
    limits: dict[str, Any] = {
        "hints": edges,
        "target": node(draw(st.sampled_from([PAYEE, PAYEE, 20]))),
        "max_fee": Amount(draw(st.sampled_from([0, 500, 10**6]))),
        "max_hops": draw(st.integers(1, 5)),
        "max_expiry_delta": Seconds(draw(st.sampled_from([900, 2_000, 10**6]))),
        "terms": {
            (channel_id(draw(st.sampled_from([0, 1, 2, 3, 50]))), draw(st.sampled_from(Side))): toll(
                draw(st.sampled_from([0, 700])), 10_000, 700_000, **draw(locks)
            )
            for _ in range(draw(st.integers(0, 3)))
        },
    }
    return graph, replace(ask(mine), exclude=frozenset(exclude), **limits)


@settings(max_examples=250, deadline=None)
@given(towns(), st.integers(1, 6), st.integers(AMOUNT - 9, AMOUNT), st.sampled_from([1, AMOUNT // 7, AMOUNT]))
def test_whatever_is_found_can_be_paid(town: tuple[Graph, Ask], max_parts: int, amount: int, least: int) -> None:
    graph, asked = town
    asked = replace(asked, amount=Amount(amount))
    try:
        routes = find_parts(graph, asked, max_parts=max_parts, least=Amount(least))
    except NoRoute:
        return
    check(graph, asked, routes, max_parts)
    assert len(routes) == 1 or min(route.amount for route in routes) >= least


def test_no_part_is_what_rounding_leaves() -> None:
    """101 in units of 11: nine of them and a tenth of 2 would be as many."""
    graph = Graph()
    mine = [own(100 + number, PAYEE, 11) for number in range(10)]
    routes = find_parts(graph, ask(mine, 101), least=Amount(10))
    assert sorted(route.amount for route in routes) == [10] * 9 + [11]


def test_a_hop_that_carries_the_parts_but_not_their_fees_is_not_used() -> None:
    """Its capacity is just what must go there; the fees of the hop behind it come on top."""
    graph = Graph()
    join(graph, 1, 1, 2, toll(0, 0, 0), None, AMOUNT // 2)
    join(graph, 2, 2, PAYEE, toll(0, 1_000, 0), None, 10**9)
    join(graph, 3, 4, PAYEE, toll(0, 0, 0), None, AMOUNT // 2)
    asked = ask([own(101, 1), own(104, 4)])
    with pytest.raises(NoRoute):
        find_parts(graph, asked)
    graph.resize(channel_id(1), Amount(AMOUNT // 2 + AMOUNT // 1_000))
    routes = find_parts(graph, asked)
    check(graph, asked, routes)
    assert len(routes) == 2
