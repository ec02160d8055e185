"""What the graph keeps, what it forgets, and what it will not take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.errors import Refused
from channeld.base.units import NATIVE, Amount, Side, Timestamp
from routing.graph import MAX_AGE, Channel, Graph
from tests.routing.town import NOW, TOKEN, channel_id, join, node, toll


@pytest.fixture
def graph() -> Graph:
    made = Graph(max_channels=3)
    join(made, 1, 1, 2, toll(1), toll(2))
    join(made, 2, 1, 2, toll(3))
    return made


def test_parallel_channels_and_directions_are_kept_apart(graph: Graph) -> None:
    into = {(edge.channel_id, edge.side): edge for edge in graph.edges_into(node(2), TOKEN)}
    assert set(into) == {(channel_id(1), Side.A), (channel_id(2), Side.A)}
    assert [into[channel_id(number), Side.A].policy for number in (1, 2)] == [toll(1), toll(3)]
    assert graph.policy(channel_id(1), Side.B) == toll(2)
    assert graph.policy(channel_id(2), Side.B) is None
    assert graph.policy(channel_id(7), Side.B) is None


def test_tokens_do_not_meet(graph: Graph) -> None:
    assert graph.knows(node(1), TOKEN)
    assert not graph.knows(node(1), NATIVE)
    assert list(graph.edges_into(node(2), NATIVE)) == []
    assert sorted(graph.nodes(TOKEN)) == [node(1), node(2)]
    assert list(graph.nodes(NATIVE)) == []


def test_only_a_newer_policy_replaces_one(graph: Graph) -> None:
    assert not graph.set_policy(channel_id(1), Side.A, toll(9))
    assert graph.policy(channel_id(1), Side.A) == toll(1)
    newer = toll(9, timestamp=NOW + 1)
    assert graph.set_policy(channel_id(1), Side.A, newer)
    assert graph.policy(channel_id(1), Side.A) == newer


def test_a_full_graph_keeps_what_it_knows(graph: Graph) -> None:
    join(graph, 3, 1, 3, None)
    with pytest.raises(Refused) as refusal:
        join(graph, 4, 1, 4, None)
    assert refusal.value.code == "graph_full"
    assert len(graph) == 3
    assert channel_id(4) not in graph
    join(graph, 3, 1, 3, toll())  # known ones are renewed still


def test_a_channel_never_changes_its_nodes(graph: Graph) -> None:
    known = graph.channel(channel_id(1))
    assert known is not None
    for other in (replace(known, node_b=node(3)), replace(known, token=NATIVE)):
        with pytest.raises(Refused) as refusal:
            graph.add(other)
        assert refusal.value.code == "channel_conflict"


def test_capacity_follows_the_chain_and_policies_stay(graph: Graph) -> None:
    graph.resize(channel_id(1), Amount(5))
    graph.resize(channel_id(9), Amount(5))
    assert [edge.capacity for edge in graph.edges_into(node(1), TOKEN) if edge.channel_id == channel_id(1)] == [5]
    assert graph.policy(channel_id(1), Side.A) == toll(1)


def test_a_removed_channel_takes_lonely_nodes_with_it(graph: Graph) -> None:
    join(graph, 3, 1, 3, toll())
    graph.remove(channel_id(3))
    graph.remove(channel_id(3))
    assert not graph.knows(node(3), TOKEN)
    graph.remove(channel_id(1))
    graph.remove(channel_id(2))
    assert (len(graph), list(graph.nodes(TOKEN))) == (0, [])


def test_a_policy_needs_a_channel(graph: Graph) -> None:
    with pytest.raises(Refused) as refusal:
        graph.set_policy(channel_id(9), Side.A, toll())
    assert refusal.value.code == "unknown_channel"


def test_pruning_drops_silent_directions_then_silent_channels(graph: Graph) -> None:
    graph.set_policy(channel_id(1), Side.A, toll(timestamp=NOW + 100))
    assert graph.prune(Timestamp(NOW + MAX_AGE)) == ()
    assert graph.policy(channel_id(1), Side.B) == toll(2)
    assert graph.prune(Timestamp(NOW + MAX_AGE + 1)) == (channel_id(2),)
    assert graph.policy(channel_id(1), Side.B) is None
    assert graph.policy(channel_id(1), Side.A) is not None
    assert graph.prune(Timestamp(NOW + MAX_AGE + 101)) == (channel_id(1),)
    assert len(graph) == 0


@pytest.mark.parametrize("changed", [{"node_b": node(1)}, {"channel_id": b"x"}, {"capacity": -1}, {"token": b""}])
def test_a_channel_that_cannot_be_is_not_made(changed: dict[str, object]) -> None:
    fields: dict[str, object] = {"channel_id": channel_id(1), "node_a": node(1), "node_b": node(2), "token": TOKEN}
    with pytest.raises(ValueError, match=r"must be|different|range"):
        Channel(**{**fields, "capacity": 1, **changed})  # type: ignore[arg-type]
