"""The search against a brute force over all simple ways, and each of its reasons to refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.units import NATIVE, Amount, Seconds, Side
from routing.cost import RISK, UNIT
from routing.edges import Edge, hint_edges
from routing.fees import Policy, stricter
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, Route
from routing.ways import OwnChannel
from tests.routing.town import NOW, PAYEE, PAYER, TOKEN, channel_id, join, node, own, route, toll

AMOUNT = 1_000_000

# -- against brute force ---------------------------------------------------------------------------------------------


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    low = draw(st.sampled_from([0, 0, 0, AMOUNT // 2, AMOUNT * 6 // 5]))
    return toll(
        draw(st.sampled_from([0, 1, 5, 40])),
        draw(st.sampled_from([0, 3, 20, 20_000, 300_000, 1_000_000])),
        draw(st.sampled_from([0, 60, 600, 90_000, 400_000, 1_000_000])),
        min_lock=low,
        max_lock=draw(st.sampled_from([AMOUNT * 6 // 5, 2 * AMOUNT, 10**9])),
        disabled=draw(st.sampled_from([False] * 7 + [True])),
    )


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, list[OwnChannel]]:
    """Up to six nodes between payer and payee, with parallel channels, and own channels to some."""
    names = [1, 2, 3, 4, PAYEE, PAYER]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), min_size=3, max_size=12))
    graph = Graph()
    for number, (side_a, side_b) in enumerate(pairs):
        if side_a != side_b:
            capacity = draw(st.sampled_from([AMOUNT * 9 // 10, AMOUNT * 3 // 2, 10**9]))
            both = st.one_of(st.none(), policies())
            join(graph, number, side_a, side_b, draw(policies()), draw(both), capacity)
    mine = st.lists(
        st.tuples(st.sampled_from([1, 2, PAYEE]), st.sampled_from([AMOUNT * 8 // 10, AMOUNT * 13 // 10, 10**9])),
        min_size=1,
        max_size=3,
    )
    return graph, [own(100 + number, peer, balance) for number, (peer, balance) in enumerate(draw(mine))]


def ways(graph: Graph, mine: list[OwnChannel]) -> Iterator[tuple[OwnChannel, tuple[Edge, ...]]]:
    """Every simple way from payer to payee."""
    into: dict[bytes, list[Edge]] = {}
    for number in graph.nodes(TOKEN):
        for edge in graph.edges_into(number, TOKEN):
            into.setdefault(edge.source, []).append(edge)

    def onwards(edges: tuple[Edge, ...], at: bytes, been: frozenset[bytes]) -> Iterator[tuple[Edge, ...]]:
        if at == node(PAYEE):
            yield edges
            return
        for edge in into.get(at, []):
            if edge.target not in been:
                yield from onwards((*edges, edge), edge.target, been | {edge.target})

    for first in mine:
        for edges in onwards((), first.peer, frozenset({node(PAYER), first.peer})):
            yield first, edges


def priced(
    first: OwnChannel, edges: tuple[Edge, ...], amount: int, learned: Liquidity | None = None
) -> tuple[int, int, int] | None:
    """Cost, amount sent and lock time of a way; None if some hop cannot carry it. Written apart from the search."""
    due, expiry, cost = amount, 900, 0
    for edge in reversed(edges):
        policy = edge.policy
        if policy is None or policy.disabled or edge.capacity is None:
            return None
        if not (due <= edge.capacity and policy.min_lock <= amount and due <= policy.max_lock):
            return None
        if learned is not None:
            cost += due * learned.penalty((edge.channel_id, edge.side), Amount(due), edge.capacity, NOW)
        share = due * policy.fee_ppm
        kept = policy.fee_base + share // 10**6 + (1 if share % 10**6 else 0)
        due += kept
        cost += kept * UNIT + due * policy.expiry_delta * RISK
        expiry += policy.expiry_delta
    return (cost, due, expiry) if due <= first.spendable else None


@settings(max_examples=250, deadline=None)
@given(
    graphs(), st.integers(1, 5), st.sampled_from([1000, 90_900, 1_500_000]), st.sampled_from([0, 50, 10**7]), st.data()
)
def test_cost_is_the_optimum_of_all_ways_and_refusals_are_true(
    made: tuple[Graph, list[OwnChannel]], max_hops: int, max_expiry: int, max_fee: int, data: st.DataObject
) -> None:
    graph, mine = made
    learned = Liquidity()
    for channel in graph.channels():
        if data.draw(st.booleans()):
            learn = data.draw(st.sampled_from([learned.failed, learned.carried, learned.settled]))
            tried = Amount(data.draw(st.integers(AMOUNT // 2, 2 * AMOUNT)))
            learn((channel.channel_id, Side.A), tried, channel.capacity, NOW)
    prices = [(priced(first, edges, AMOUNT, learned), 1 + len(edges)) for first, edges in ways(graph, mine)]
    fit = [
        cost[0]
        for cost, hops in prices
        if cost is not None and hops <= max_hops and cost[2] <= max_expiry and cost[1] - AMOUNT <= max_fee
    ]
    asked = {"own_channels": mine, "max_hops": max_hops, "max_expiry_delta": Seconds(max_expiry), "max_fee": max_fee}
    if fit:
        found = route(graph, AMOUNT, liquidity=learned, **asked)
        assert found.cost == min(fit)
        assert len(found.hops) <= max_hops
        assert found.expiry_delta <= max_expiry
        assert found.fee <= max_fee
        check_hops(graph, found, mine)
        return
    with pytest.raises(NoRoute) as refusal:
        route(graph, AMOUNT, liquidity=learned, **asked)
    possible = [(cost, hops) for cost, hops in prices if cost is not None]
    if refusal.value.code == "fee_budget":
        assert any(cost[1] - AMOUNT > max_fee and hops <= max_hops and cost[2] <= max_expiry for cost, hops in possible)
    elif refusal.value.code == "too_long":
        assert any(cost[1] - AMOUNT <= max_fee and (hops > max_hops or cost[2] > max_expiry) for cost, hops in possible)
    elif refusal.value.code == "own_channels_short":
        deep = [priced(replace(first, spendable=Amount(10**12)), edges, AMOUNT) for first, edges in ways(graph, mine)]
        poor = all(channel.spendable < AMOUNT for channel in mine)
        assert poor or any(cost is not None and cost[1] - AMOUNT <= max_fee for cost in deep)


@settings(max_examples=150, deadline=None)
@given(graphs(), st.lists(policies(), min_size=8, max_size=8), st.data())
def test_what_is_asked_besides_gossip_is_as_if_gossip_had_said_it(
    made: tuple[Graph, list[OwnChannel]], stern: list[Policy], data: st.DataObject
) -> None:
    """The bounds know only what gossip says: the cheapest way is found all the same."""
    graph, mine = made
    directions = [
        (channel.channel_id, side)
        for channel in graph.channels()
        for side in Side
        if graph.policy(channel.channel_id, side) is not None
    ]
    some = data.draw(st.lists(st.sampled_from(directions), unique=True, max_size=8)) if directions else []
    terms = dict(zip(some, stern, strict=False))
    told = Graph()
    for channel in graph.channels():
        told.add(channel)
        for side in Side:
            policy, more = graph.policy(channel.channel_id, side), terms.get((channel.channel_id, side))
            if policy is not None:
                told.set_policy(channel.channel_id, side, policy if more is None else stricter(policy, more))
    limits = {"own_channels": mine, "max_fee": data.draw(st.sampled_from([1000, 90_900, 1_500_000]))}
    before = answer(graph, mine)
    try:
        expected: tuple[object, ...] = ("found", route(told, AMOUNT, **limits))
    except NoRoute as refusal:
        expected = ("refused", refusal.code)
    try:
        found: tuple[object, ...] = ("found", route(graph, AMOUNT, terms=terms, **limits))
    except NoRoute as refusal:
        found = ("refused", refusal.code)
    assert found == expected
    assert answer(graph, mine) == before, "nothing is kept of it"


def check_hops(graph: Graph, found: Route, mine: list[OwnChannel]) -> None:
    """Each forwarder gets its fee and its time exactly; nobody is asked to carry what it cannot."""
    first = found.hops[0]
    assert (first.source, first.fee) == (node(PAYER), 0)
    assert any(channel.channel_id == first.channel_id and first.amount <= channel.spendable for channel in mine)
    assert (found.hops[-1].target, found.amount, found.hops[-1].expiry_delta) == (node(PAYEE), AMOUNT, 900)
    assert len({hop.source for hop in found.hops}) == len(found.hops)
    for before, hop in pairwise(found.hops):
        policy = graph.policy(hop.channel_id, hop.side)
        channel = graph.channel(hop.channel_id)
        assert policy is not None
        assert channel is not None
        assert (channel.node(hop.side), channel.node(hop.side.other)) == (hop.source, hop.target)
        assert before.target == hop.source
        assert before.amount - hop.amount == hop.fee == policy.fee(hop.amount)
        assert before.expiry_delta - hop.expiry_delta == policy.expiry_delta
        assert policy.min_lock <= hop.amount <= min(policy.max_lock, channel.capacity)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_gossip_does_not_matter(made: tuple[Graph, list[OwnChannel]], random: Any) -> None:
    graph, mine = made
    other, channels = Graph(), list(graph.channels())
    random.shuffle(channels)
    for channel in channels:
        other.add(channel)
        for side in Side:
            policy = graph.policy(channel.channel_id, side)
            if policy is not None:
                other.set_policy(channel.channel_id, side, policy)
    assert answer(graph, mine) == answer(other, mine[::-1])


def answer(graph: Graph, mine: list[OwnChannel]) -> Route | str:
    try:
        return route(graph, AMOUNT, own_channels=mine)
    except NoRoute as refusal:
        return refusal.code


# -- by hand ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def line() -> Graph:
    """payer - 1 - 2 - payee."""
    graph = Graph()
    join(graph, 1, 1, 2, toll(10, 1000, 600))
    join(graph, 2, PAYEE, 2, None, toll(5, 2000, 1200))
    return graph


def test_three_hops_are_priced_from_the_payee_back(line: Graph) -> None:
    found = route(line)
    assert [hop.amount for hop in found.hops] == [
        1_003_018,
        1_002_005,
        1_000_000,
    ]  # 1_002_005 * 0.1 % = 1002.005 -> 1003
    assert [hop.fee for hop in found.hops] == [0, 1013, 2005]
    assert [hop.expiry_delta for hop in found.hops] == [2700, 2100, 900]
    assert [hop.side for hop in found.hops] == [Side.A, Side.A, Side.B]
    assert (found.sent, found.amount, found.fee, found.expiry_delta) == (1_003_018, 1_000_000, 3018, 2700)


def test_a_direct_channel_is_free_and_needs_no_graph() -> None:
    found = route(Graph(), own_channels=[own(100, PAYEE)], max_fee=0, max_hops=1)
    assert [(hop.amount, hop.expiry_delta, hop.fee) for hop in found.hops] == [(1_000_000, 900, 0)]
    assert found.cost == 0


def test_a_hop_that_asks_more_than_gossip_says_is_paid_that_or_passed_by(line: Graph) -> None:
    cheap, found = (channel_id(1), Side.A), route(line)
    assert cheap in [hop.direction for hop in found.hops]
    dear = {cheap: toll(5_000, 0, 700)}
    told = route(line, terms=dear)
    assert told.fee > found.fee + 3_000 and told.expiry_delta > found.expiry_delta
    assert route(line) == found, "for that question only"
    join(line, 9, 1, 2, toll(600, 0, 600))
    assert cheap not in [hop.direction for hop in route(line, terms=dear).hops]


def test_the_smallest_own_channel_that_suffices_is_taken() -> None:
    mine = [own(100, PAYEE, 10**9), own(101, PAYEE, 999_999), own(102, PAYEE, 1_000_000)]
    assert route(Graph(), own_channels=mine).hops[0].channel_id == channel_id(102)


def test_a_dearer_part_with_a_smaller_amount_can_win() -> None:
    """To 2 the quick way (fee 20) is cheaper than the slow one (no fee, risk 25); but 1 doubles what it carries."""
    graph = Graph()
    slow, quick = join(graph, 1, 2, PAYEE, toll(0, 0, 1_000_000)), join(graph, 2, 2, PAYEE, toll(20, 0, 0))
    join(graph, 3, 1, 2, toll(0, 1_000_000, 0))
    assert route(graph, own_channels=[own(100, 2)]).hops[-1].channel_id == quick
    assert route(graph, own_channels=[own(100, 1)], max_fee=2 * 10**6).hops[-1].channel_id == slow


def test_a_minimum_is_not_reached_by_fees_alone(line: Graph) -> None:
    line.set_policy(channel_id(1), Side.A, toll(10, 1000, 600, min_lock=1_000_001, timestamp=NOW + 1))
    with pytest.raises(NoRoute, match="can carry"):
        route(line)


@pytest.mark.parametrize("step", [1, -1])
def test_equal_ways_are_told_apart_by_their_channel_ids(step: int) -> None:
    graph = Graph()
    made = [join(graph, number, 1, PAYEE, toll()) for number in list(range(40))[::step]]
    assert route(graph).hops[-1].channel_id == min(made)


def test_no_way_leads_through_the_payer_itself() -> None:
    """Gossip knows our channel to the payee too, but only we know that it is empty."""
    graph = Graph()
    join(graph, 1, 1, PAYER, toll())
    join(graph, 101, PAYER, PAYEE, toll())
    with pytest.raises(NoRoute):
        route(graph, own_channels=[own(100, 1), own(101, PAYEE, 5)])


def test_a_hint_leads_over_a_private_channel(line: Graph) -> None:
    private = node(77)
    hint = Edge(channel_id=channel_id(50), side=Side.A, source=node(2), target=private, policy=toll(3, 0, 60))
    found = route(line, target=private, hints=[hint])
    assert [hop.channel_id for hop in found.hops] == [channel_id(100), channel_id(1), channel_id(50)]
    assert found.hops[-1].fee == 3


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("unknown_payee", {"target": node(55)}),
        ("own_channels_short", {"own_channels": [own(100, 1, 999_999)]}),
        ("own_channels_short", {"own_channels": [own(100, 1, 1_003_017)]}),
        ("own_channels_short", {"own_channels": [own(100, 1, 1), own(101, 4, 10**9)]}),
        ("fee_budget", {"max_fee": 3017}),
        ("too_long", {"max_hops": 2}),
        ("too_long", {"max_expiry_delta": 2699}),
        ("no_route", {"own_channels": []}),
        ("no_route", {"own_channels": [replace(own(100, 1), token=NATIVE)]}),
        ("no_route", {"own_channels": [own(100, 4)]}),
        ("no_route", {"exclude": {(channel_id(100), Side.A)}}),
        ("no_route", {"exclude": {(channel_id(2), Side.B)}}),
        ("no_route", {"amount": 2 * 10**9, "own_channels": [own(100, 1, 10**12)], "max_fee": 10**12}),
        ("no_route", {"target": node(PAYER)}),
    ],
)
def test_a_refusal_names_its_reason(line: Graph, code: str, asked: dict[str, Any]) -> None:
    with pytest.raises(NoRoute) as refusal:
        route(line, **asked)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "asked",
    [
        {"max_fee": 3018},
        {"max_hops": 3},
        {"max_expiry_delta": 2700},
        {"exclude": {(channel_id(2), Side.A)}},
        {"own_channels": [own(100, 1, 1_003_018)]},
    ],
)
def test_limits_are_inclusive(line: Graph, asked: dict[str, Any]) -> None:
    assert route(line, **asked).fee == 3018


@pytest.mark.parametrize("policy", [toll(disabled=True), toll(min_lock=1_000_001), toll(max_lock=999_999)])
def test_a_policy_that_forbids_the_lock_is_heeded(policy: Policy) -> None:
    graph = Graph()
    join(graph, 1, 1, PAYEE, policy)
    with pytest.raises(NoRoute, match="can carry"):
        route(graph)


def test_arguments_out_of_range_are_a_bug_of_the_caller(line: Graph) -> None:
    with pytest.raises(ValueError, match="route for 0"):
        route(line, 0)


def test_a_failed_hop_is_walked_round_until_it_is_forgiven(line: Graph) -> None:
    join(line, 3, 1, PAYEE, toll(50_000, 0, 600))
    learned = Liquidity()
    assert len(route(line, liquidity=learned).hops) == 3
    learned.failed((channel_id(1), Side.A), Amount(1_000_000), Amount(10**9), NOW)
    assert len(route(line, liquidity=learned).hops) == 2
    assert len(route(line, liquidity=learned, now=NOW + 86_400).hops) == 3


def test_a_maze_made_to_be_slow_is_answered() -> None:
    """18 streets, each sells twice the time of the one behind it: 2**18 ways, none of them better in all."""
    graph, streets = Graph(), 18
    for place in range(streets):
        weight = 2 ** (streets - 1 - place)
        join(graph, 2 * place, 10 + place, 11 + place, toll(weight, 0, 0))
        join(graph, 2 * place + 1, 10 + place, 11 + place, toll(0, 0, weight))
    limit = 900 + 2 ** (streets - 1)
    found = route(graph, target=node(10 + streets), own_channels=[own(100, 10)], max_expiry_delta=limit, max_hops=20)
    assert found.expiry_delta <= limit


def test_the_hops_of_a_hint_lead_from_one_to_the_next(line: Graph) -> None:
    private = [(node(2), channel_id(50), toll(3, 0, 60)), (node(76), channel_id(51), toll(4, 0, 60))]
    found = route(line, target=node(77), hints=hint_edges(private, node(77)))
    assert [(hop.channel_id, hop.target, hop.fee) for hop in found.hops[2:]] == [
        (channel_id(50), node(76), 3),
        (channel_id(51), node(77), 4),
    ]
