"""Plots by the hundred thousand on revm, and every thirtieth on py-evm too: the contracts against their model."""

from __future__ import annotations

from importlib.metadata import version
from itertools import count

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.contracts.evm import Evm
from tests.contracts.plots import PLOTS, Player, Step
from tests.contracts.revm import Revm
from tests.contracts.test_plots import ready
from tests.contracts.world import CHAIN_ID, START
from tests.verify.part import Counts, Found, Part

EACH = 1_000
JUDGED = 30
"""Every so many plots the same one is played on py-evm."""


def run(chance: int, chunk: int) -> Counts:
    """One chunk of `EACH` plots; Hypothesis shrinks what it finds and prints it."""
    volume, judge = ready(Revm(START, CHAIN_ID)), ready(Evm(START, CHAIN_ID))
    counts: Counts = {"plots": 0, "calls": 0, "of them refused": 0, "plots on py-evm": 0}
    numbers = count()

    @seed(chance * 1_000_003 + chunk)
    @settings(
        max_examples=EACH,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(plot=PLOTS)
    def play(plot: list[Step]) -> None:
        worlds = [volume, judge] if next(numbers) % JUDGED == 0 else [volume]
        for world in worlds:
            player = Player(world)
            for name, *drawn in plot:
                player.step(name, *drawn)
            counts["calls"] += len(player.seen)
            counts["of them refused"] += sum(not one.endswith(": ok") for one in player.seen)
        counts["plots"] += 1
        counts["plots on py-evm"] += len(worlds) - 1

    try:
        play()
    except AssertionError as error:
        raise Found(str(error)) from error
    return counts


def tools() -> dict[str, str]:
    return {name: version(name) for name in ("hypothesis", "pyrevm", "py-evm", "vyper")}


PART = Part(
    name="model",
    what="plots of up to 30 calls, contract against model: reasons, storage, payouts, conservation",
    chunks=100,
    run=run,
    tools=tools,
    about=("tests/contracts/model.py", "tests/contracts/plots.py"),
)
