"""The plan for a set of parts against networkx's min-cost flow, with one arc for each unit."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.units import Amount, Side
from routing.arrays import Arrays
from routing.cost import UNIT as COST
from routing.cost import WEIGHT
from routing.flow import Flow
from routing.graph import Graph
from tests.routing.town import NOW, PAYEE, TOKEN, join, node, toll

UNIT = 100
PEERS = (1, 2)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to six nodes, with parallel channels, of some units' capacity."""
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from([1, 2, 3, 4, 5, PAYEE]), st.sampled_from([1, 2, 3, 4, 5, PAYEE])),
            min_size=4,
            max_size=14,
        )
    )
    graph = Graph()
    for number, (a, b) in enumerate(pairs):
        if a != b:
            there = toll(draw(st.sampled_from([0, 2, 9])), draw(st.sampled_from([0, 1_000, 90_000])), 0)
            back = toll(draw(st.sampled_from([0, 2, 9])), draw(st.sampled_from([0, 5_000, 200_000])), 0)
            join(graph, number, a, b, there, back, draw(st.sampled_from([UNIT, 2 * UNIT, 5 * UNIT, 40 * UNIT])))
    return graph


def arrays_of(graph: Graph) -> Arrays:
    flat = graph.flat(TOKEN)
    assert flat is not None
    return flat.arrays


def cost(flow: Flow, arrays: Arrays, at: int, units: int) -> float:
    """What so many units cost on a direction, all together."""
    some = np.array([at])
    steps = (flow._alone[some] + flow._doubts(some, np.array([float(done * UNIT)])) for done in range(units))
    return float(sum(step.item() for step in steps))


def reference(flow: Flow, arrays: Arrays, rooms: dict[int, int], units: int) -> float | None:
    """The least cost of so many units, in millionths to be whole."""
    network: nx.MultiDiGraph = nx.MultiDiGraph()
    network.add_node("payer", demand=-units)
    network.add_node(arrays.nodes[node(PAYEE)], demand=units)
    for peer, room in rooms.items():
        network.add_edge("payer", peer, capacity=room, weight=0)
    for at, edge in enumerate(arrays.edges):
        if edge is None:
            continue
        for done in range(units):
            step = cost(flow, arrays, at, done + 1) - cost(flow, arrays, at, done)
            if np.isfinite(step):
                ends = arrays.source.item(at), arrays.target.item(at)
                network.add_edge(*ends, capacity=1, weight=round(step * 10**6))
            else:
                break
    flat: nx.DiGraph = nx.DiGraph()  # parallel arcs by a node each: the solver takes none
    for number, (source, target, told) in enumerate(network.edges(data=True)):
        flat.add_edge(source, ("arc", number), **told)
        flat.add_edge(("arc", number), target, capacity=told["capacity"], weight=0)
    for name, told in network.nodes(data=True):
        flat.add_node(name, **told)
    try:
        return float(nx.min_cost_flow_cost(flat)) / 10**6
    except nx.NetworkXUnfeasible:
        return None


@settings(max_examples=120, deadline=None)
@given(graphs(), st.integers(1, 5), st.integers(1, 4))
def test_the_plan_is_the_cheapest_there_is(graph: Graph, units: int, room: int) -> None:
    if not graph.knows(node(PAYEE), TOKEN) or not any(graph.knows(node(peer), TOKEN) for peer in PEERS):
        return
    arrays = arrays_of(graph)
    rooms = {arrays.nodes[node(peer)]: room for peer in PEERS if node(peer) in arrays.nodes}
    flow = Flow(arrays, unit=Amount(UNIT), whole=Amount(UNIT * units), now=NOW)
    least = reference(Flow(arrays, unit=Amount(UNIT), whole=Amount(UNIT * units), now=NOW), arrays, rooms, units)
    plan = flow.send(rooms, arrays.nodes[node(PAYEE)], units)
    assert (plan.short == 0) == (least is not None)
    if least is None:
        return
    mine = sum(cost(flow, arrays, at, many) for at, many in plan.units.items())
    assert mine == pytest.approx(least, rel=1e-6, abs=1e-4)
    balance: Counter[int] = Counter()
    for at, many in plan.units.items():
        balance[arrays.source.item(at)] -= many
        balance[arrays.target.item(at)] += many
    for peer, many in plan.firsts.items():
        balance[peer] += many
    assert {place: many for place, many in balance.items() if many} == {arrays.nodes[node(PAYEE)]: units}


def test_a_later_unit_takes_an_earlier_one_back() -> None:
    """The classic: the cheapest way for one blocks the way for two."""
    graph = Graph()
    for number, (a, b, base) in enumerate([(1, 3, 1), (3, 4, 1), (4, PAYEE, 1), (1, 4, 30), (3, PAYEE, 30)]):
        join(graph, number, a, b, toll(base, 0, 0, max_lock=10**6), None, 10**9 if base == 30 else UNIT)
    arrays = arrays_of(graph)
    flow = Flow(arrays, unit=Amount(UNIT), whole=Amount(2 * UNIT), now=NOW)
    plan = flow.send({arrays.nodes[node(1)]: 2}, arrays.nodes[node(PAYEE)], 2)
    names = {(edge.source, edge.target) for at in plan.units if (edge := arrays.edges[at]) is not None}
    assert plan.short == 0
    assert names == {(node(a), node(b)) for a, b in ((1, 3), (3, PAYEE), (1, 4), (4, PAYEE))}


def test_what_was_learned_counts() -> None:
    graph = Graph()
    weak, strong = (
        join(graph, 1, 1, PAYEE, toll(0, 0, 0), None, 1000),
        join(graph, 2, 1, PAYEE, toll(5, 0, 0), None, 1000),
    )
    arrays = arrays_of(graph)
    assert WEIGHT / COST * 500 > 0
    from routing.liquidity import Liquidity

    learned = Liquidity()
    learned.failed((weak, Side.A), Amount(150), Amount(1000), NOW)
    flat = graph.flat(TOKEN)
    assert flat is not None
    flat.bounds.learn(learned)
    plan = Flow(arrays, unit=Amount(UNIT), whole=Amount(50 * UNIT), now=NOW).send(
        {arrays.nodes[node(1)]: 9}, arrays.nodes[node(PAYEE)], 3
    )
    carried = {edge.channel_id: many for at, many in plan.units.items() if (edge := arrays.edges[at]) is not None}
    assert carried.get(strong, 0) >= 2
