"""How long the search takes on a real network of 50,808 channels, beside networkx on the same graph in the same run.

Each of 200 payers pays its payee 100,000,000 base units (100,000 sat). *Cold*: nothing is kept from an earlier search,
no bounds and no answers. *Warm*: the same is asked again. The networkx row is its `dijkstra_path` over the multigraph
that we keep, with a weight function that asks each policy and what was learned, as exact as one weight per edge can be.
Loading, memory and updates are measured in a process of their own.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from statistics import median, quantiles
from typing import Any, Final

import networkx as nx

from channeld.base.units import Amount, NodeId, Seconds, Side, Timestamp
from channeld.cli.daemon import COLLECT
from routing.cost import RISK, UNIT
from routing.edges import Edge
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import Route, find_route
from routing.splitting import Ask, divided
from tests.bench import lightning
from tests.bench.lightning import NOW, TOKEN

AMOUNT: Final = Amount(100_000_000)
LARGE: Final = Amount(1_000_000_000)
UPDATES_AN_HOUR: Final = 1_000_000
SEARCHES_A_SECOND: Final = 100
ROWS: Final = (
    "route_cold_median_ms",
    "route_cold_p99_ms",
    "route_warm_median_ms",
    "route_updates_ratio",
    "route_parts_median_ms",
    "route_load_seconds",
    "route_memory_mib",
)


@dataclass(slots=True)
class Found:
    samples: list[float] = field(default_factory=list)
    note: str = ""


def ask(graph: Graph, payer: NodeId, payee: NodeId, own: Any, liquidity: Liquidity, **limits: Any) -> Route:
    asked: dict[str, Any] = {"amount": AMOUNT, "max_fee": AMOUNT, "now": NOW, **limits}
    return find_route(
        graph,
        source=payer,
        target=payee,
        token=TOKEN,
        final_expiry_delta=Seconds(900),
        own_channels=own,
        liquidity=liquidity,
        **asked,
    )


def forget(graph: Graph) -> None:
    """Whatever an earlier search has left."""
    if (flat := graph.flat(TOKEN)) is not None:
        flat.bounds.clear()
        flat.answers.clear()


def _taken(call: Any) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def by_networkx(graph: Graph, payer: NodeId, payee: NodeId, liquidity: Liquidity) -> list[NodeId]:
    """The cheapest nodes, each edge weighed at the amount the payee gets."""

    def weigh(_: NodeId, target: NodeId, parallel: dict[Any, dict[str, Edge]]) -> int | None:
        del target
        costs = [cost for one in parallel.values() if (cost := _weight(one["edge"], liquidity)) is not None]
        return min(costs, default=None)

    found: list[NodeId] = nx.dijkstra_path(graph.network(TOKEN), payer, payee, weight=weigh)
    return found


def _weight(edge: Edge, liquidity: Liquidity) -> int | None:
    policy = edge.policy
    if policy is None or not edge.carries(AMOUNT):
        return None
    kept = policy.fee(AMOUNT)
    penalty = liquidity.penalty((edge.channel_id, edge.side), AMOUNT, edge.capacity, NOW)
    return kept * UNIT + (AMOUNT + kept) * policy.expiry_delta * RISK + AMOUNT * penalty


def measure(names: Collection[str], repeats: int) -> dict[str, Found]:
    """The rows among `names`."""
    found = {name: Found() for name in ROWS if name in names}
    if not found:
        return found
    if {"route_load_seconds", "route_memory_mib"} & found.keys():
        loads = [_loaded() for _ in range(repeats)]
        for name in ("route_load_seconds", "route_memory_mib"):
            if name in found:
                found[name].samples = [load[name] for load in loads]
        if "route_memory_mib" in found:
            found["route_memory_mib"].note = f"{loads[-1]['before']:.0f} MiB before the graph"
    graph, liquidity = lightning.load(), Liquidity()
    lines = [(payer, payee, lightning.own_channels(graph, payer)) for payer, payee in lightning.pairs()]
    if any(name.startswith(("route_cold", "route_warm")) for name in found):
        _searches(graph, liquidity, lines, repeats, found)
    if "route_updates_ratio" in found:
        _updates(graph, liquidity, lines, repeats, found["route_updates_ratio"])
    if "route_parts_median_ms" in found:
        _parts(graph, liquidity, lines, repeats, found["route_parts_median_ms"])
    return found


def _searches(graph: Graph, liquidity: Liquidity, lines: Any, repeats: int, found: dict[str, Found]) -> None:
    theirs: list[str] = []
    for _ in range(repeats):
        cold, warm, took = [], [], []
        for payer, payee, own in lines:
            forget(graph)
            cold.append(_taken(lambda: ask(graph, payer, payee, own, liquidity)))  # noqa: B023 - called at once
            warm.append(_taken(lambda: ask(graph, payer, payee, own, liquidity)))  # noqa: B023
            if len(theirs) < 1:
                took.append(_taken(lambda: by_networkx(graph, payer, payee, liquidity)))  # noqa: B023
        for name, value in (
            ("route_cold_median_ms", median(cold)),
            ("route_cold_p99_ms", quantiles(cold, n=100)[98]),
            ("route_warm_median_ms", median(warm)),
        ):
            if name in found:
                found[name].samples.append(value)
        if took:
            theirs.append(f"networkx dijkstra_path {median(took):.0f} ms, p99 {quantiles(took, n=100)[98]:.0f} ms")
    for name in ("route_cold_median_ms", "route_cold_p99_ms"):
        if name in found:
            found[name].note = f"{len(lines)} pairs; in the same run {theirs[0]}"
    if "route_warm_median_ms" in found:
        found["route_warm_median_ms"].note = "told again from memory, as nothing has changed"


def _updates(graph: Graph, liquidity: Liquidity, lines: Any, repeats: int, found: Found) -> None:
    """One payer, always another payee, with gossip between the searches and without."""
    chance = random.Random(6)
    payer, _, own = max(lines, key=lambda line: len(line[2]))
    payees = [payee for _, payee, _ in lines if payee != payer]
    each = UPDATES_AN_HOUR / 3600 / SEARCHES_A_SECOND
    channels = list(graph.channels())
    spent, later = [], 0
    for _ in range(repeats):
        times: dict[bool, list[float]] = {False: [], True: []}
        due = 0.0
        for updating in (False, True):
            forget(graph)
            for number, payee in enumerate(payees * 2):
                due += each if updating else 0
                while due >= 1:
                    due, later = due - 1, later + 1
                    spent.append(_taken(lambda: _update(graph, chance, channels, later)))  # noqa: B023
                amount = Amount(AMOUNT - number)  # so that nothing is told from memory
                took = _taken(lambda: _tried(graph, payer, payee, own, liquidity, amount))  # noqa: B023
                times[updating].append(took)
        found.samples.append(median(times[True]) / median(times[False]))
        found.note = (
            f"{median(times[False]):.2f} ms without, {median(times[True]):.2f} ms with {each:.1f} updates between two "
            f"searches, p99 {quantiles(times[True], n=100)[98]:.1f} ms; an update takes {median(spent) * 1e3:.0f} µs"
        )


def _parts(graph: Graph, liquidity: Liquidity, lines: Any, repeats: int, found: Found) -> None:
    for _ in range(repeats):
        took: list[float] = []
        counts: list[int] = []
        for payer, payee, own in lines[:60]:
            forget(graph)
            ask_ = Ask(
                source=payer,
                target=payee,
                token=TOKEN,
                amount=LARGE,
                final_expiry_delta=Seconds(900),
                own_channels=own,
                max_fee=LARGE,
                now=NOW,
                liquidity=liquidity,
            )
            began = time.perf_counter()
            routes = divided(graph, ask_, 10)
            took.append((time.perf_counter() - began) * 1e3)
            if routes is not None:
                counts.append(len(routes))
        found.samples.append(median(took))
        found.note = (
            f"{len(counts)} of {len(took)} payments found {median(counts):.0f} parts, at most {max(counts)}; "
            f"p90 {quantiles(took, n=10)[8]:.0f} ms"
        )


def _tried(graph: Graph, payer: NodeId, payee: NodeId, own: Any, liquidity: Liquidity, amount: Amount) -> None:
    ask(graph, payer, payee, own, liquidity, amount=amount)


def _update(graph: Graph, chance: random.Random, channels: list[Any], later: int) -> None:
    """A node changes its fee by up to a fifth."""
    while True:
        channel, side = chance.choice(channels), chance.choice(list(Side))
        policy = graph.policy(channel.channel_id, side)
        if policy is not None and not policy.disabled:
            break
    ppm = max(0, round(policy.fee_ppm * chance.uniform(0.8, 1.2)))
    changed = replace(policy, fee_ppm=min(ppm, 1_000_000), timestamp=Timestamp(NOW + later))
    graph.set_policy(channel.channel_id, side, changed)


def _loaded() -> dict[str, float]:
    done = subprocess.run([sys.executable, "-m", "tests.bench.routes"], check=True, capture_output=True, text=True)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """In a process of its own: read the network, and say what that took."""
    gc.set_threshold(*COLLECT)  # as in the daemon
    before = _rss()
    began = time.perf_counter()
    graph = lightning.load()
    took = time.perf_counter() - began
    gc.collect()
    if len(graph) != 50_808:
        raise AssertionError(f"{len(graph)} channels")
    print(json.dumps({"route_load_seconds": took, "route_memory_mib": _rss(), "before": before}))


if __name__ == "__main__":
    main()
