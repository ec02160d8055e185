"""What learning is worth: payments over the real network with hidden balances (`examples/simulate.py`), seed by seed.

*Calibration*: how far the share of attempts that arrive is from what was thought, in the worst tenth of the chances
that has 200 attempts or more. *First attempts*: for each payment the daemon's own choice, the shortest path and a fixed
penalty are asked at the same moment, over the same balances, and a row says how many more first attempts arrive than by
the better of the other two: the low end of the 95 % interval, the figure, and the high end. The payers here are others
than those the tests look at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import sqrt
from typing import Final

from examples.simulate import SIZES, Guess, beside, deciles, difference, guesses, interval
from routing.graph import Graph
from tests.bench import lightning
from tests.bench.payments import Effort
from tests.bench.routes import Found

CALIBRATION: Final = "routing_calibration_points"
ROWS: Final = (CALIBRATION, *(f"first_attempts_{size}_ratio" for size in SIZES))
OTHERS: Final = ("shortest", "fixed")
PAYERS: Final = 12
JUDGED: Final = 24
"""Payers whose chances are judged: what is said of a tenth of them is then some two points wide."""
PAYMENTS: Final = 300
"""Of each payer, at the usual effort of 5 s."""
ENOUGH: Final = 200
"""Attempts in a tenth of the chances, below which nothing can be said of it."""
SEED: Final = 1_000


def measure(names: Collection[str], effort: Effort) -> dict[str, Found]:
    """The rows among `names`."""
    found = {name: Found() for name in ROWS if name in names}
    if not found:
        return found
    count = max(9, round(PAYMENTS * min(1.0, effort.seconds / Effort().seconds)))
    graph = lightning.load()
    if CALIBRATION in found:
        thought = [one for number in range(JUDGED) for one in guesses(graph, 3 * count, SEED + number)]
        _calibration(thought, found[CALIBRATION])
    if found.keys() - {CALIBRATION}:
        _first_attempts(graph, count, found)
    return found


def _calibration(thought: Sequence[Guess], found: Found) -> None:
    judged = deciles(thought)
    judged = [one for one in judged if one[2] >= ENOUGH] or judged
    found.samples = [max(abs(chance - came) * 100 for chance, came, _ in judged)]
    told = (
        f"{chance:.1%} came {came:.1%} ±{1.96 * sqrt(came * (1 - came) / count):.1%} of {count:,}"
        for chance, came, count in judged
    )
    found.note = f"{len(thought):,} attempts of {JUDGED} payers; thought {', '.join(told)}"


def _first_attempts(graph: Graph, count: int, found: dict[str, Found]) -> None:
    graphs = {"learning": graph, "shortest": graph, "fixed": lightning.load()}
    arrived: dict[str, list[set[str]]] = {size: [] for size in SIZES}
    for number in range(PAYERS):
        for size, some in beside(graphs, count, SEED + number).items():
            arrived[size] += some
    for size, some in arrived.items():
        if (row := found.get(f"first_attempts_{size}_ratio")) is not None:
            _compare(some, row)


def _compare(some: Sequence[set[str]], row: Found) -> None:
    hits = {name: sum(name in one for one in some) for name in ("learning", *OTHERS)}
    best = max(OTHERS, key=lambda name: hits[name])
    gains = {name: _gain(some, name) for name in OTHERS}
    share = max(hits[best], 1) / len(some)
    row.samples = [max(1 + gain / share, 0.001) for gain in gains[best]]
    told = (
        f"{name} {hits[name] / len(some):.1%} ({low:.1%} to {high:.1%})"
        for name in hits
        for low, high in (interval(hits[name], len(some)),)
    )
    more = (f"{gains[name][1]:+.1%} ({gains[name][0]:+.1%} to {gains[name][2]:+.1%}) than {name}" for name in OTHERS)
    row.note = f"{len(some):,} payments: {', '.join(told)}; learning {', '.join(more)}"


def _gain(some: Sequence[set[str]], other: str) -> tuple[float, float, float]:
    wins = sum("learning" in one and other not in one for one in some)
    losses = sum(other in one and "learning" not in one for one in some)
    return difference(wins, losses, len(some))
