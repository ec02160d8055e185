"""The contracts and their model, led through the same plots: they agree at each step, and nothing is made or lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings

from channeld.base.units import Side
from tests.contracts.evm import Evm
from tests.contracts.plots import PLOTS, Player, Step
from tests.contracts.world import BOND, CHAIN_ID, PERIOD, START, World, key_of

REASONS = {
    "deposit: side",
    "deposit: nothing",
    "deposit: not open",
    "cooperate: dead",
    "cooperate: version",
    "cooperate: old version",
    "cooperate: expired",
    "cooperate: signature",
    "close: not open",
    "close: bond",
    "close: expired",
    "close: not a participant",
    "close: salt",
    "close: version",
    "close: signature",
    "challenge: not closing",
    "challenge: final",
    "challenge: version",
    "challenge: delegation",
    "challenge: old version",
    "challenge: signature",
    "finalize: not closing",
    "finalize: final",
    "finalize: too early",
    "finalize: other outcome",
    "settle: not closing",
    "settle: dead",
    "settle: too early",
    "settle: other outcome",
    "resolve: not settled",
    "resolve: not closing",
    "resolve: too early",
    "resolve: other outcome",
    "withdraw: not the owner",
    "withdraw: nothing",
    "withdraw: transfer",
}
"""What so many plots must have met, besides every call's success; rarer reasons have tests of their own."""
CALLS = {reason.partition(":")[0] for reason in REASONS} | {"deposit_many", "challenge_many", "register"}


def ready(evm: Evm) -> World:
    """A chain whose senders have what they need, so that all plots are alike."""
    world = World(evm)
    for role in ("payer", "payee", "anyone"):
        world.fund(key_of(role))
    return world


def play(world: World, plot: list[Step]) -> Player:
    player = Player(world)
    for name, *drawn in plot:
        player.step(name, *drawn)
    return player


@pytest.mark.slow
def test_volume_on_revm(revm: type[Evm]) -> None:
    world, seen = ready(revm(START, CHAIN_ID)), Counter[str]()

    @settings(max_examples=2_000)
    @given(plot=PLOTS)
    def run(plot: list[Step]) -> None:
        seen.update(play(world, plot).seen)

    run()
    assert REASONS | {f"{call}: ok" for call in CALLS} <= seen.keys()


def test_the_judge_is_py_evm() -> None:
    world = ready(Evm(START, CHAIN_ID))

    @settings(max_examples=60)
    @given(plot=PLOTS)
    def run(plot: list[Step]) -> None:
        play(world, plot)

    run()


def test_one_by_hand_through_most_of_the_machine(evm: type[Evm]) -> None:
    """Stale close, challenge, tie, finalize, settle, locks, and a dead id: in coin."""
    plot: list[Step] = [
        ("deposit", "payer", 0, 0, 90, False),
        ("deposit", "payee", 0, 1, 40, True),
        ("close", "payee", 0, Side.B, 2, (-20, 0, 0, 0), "right", "other", 0, None),
        ("challenge", "anyone", (0, 5, (30, 50, 20, 3), "payer", "payee", "", 0, None)),
        ("challenge", "anyone", (0, 5, (30, 50, 20, 3), "payer", "payee", "tower", 0, "payer")),
        ("finalize", 0, "right"),
        ("register", [0]),
        ("travel", PERIOD + 1),
        ("finalize", 0, "right"),
        ("settle", 0, "right"),
        ("resolve", 0, "right", []),
        ("travel", 4 * PERIOD),
        ("resolve", 0, "right", []),
        ("deposit", "payer", 0, 0, 1, False),
    ]
    player = Player(ready(evm(START, CHAIN_ID)))
    told = [player.step(name, *drawn) for name, *drawn in plot]
    assert told == ["ok"] * 5 + ["too early"] + ["ok"] * 7 + ["not open"]
    name = player.names[0]
    assert player.model.channels[name].holds == 0
    assert player.model.balance("coin", "tower") == BOND
    paid = [player.model.balance("coin", f"{name} {side}") for side in "ab"]
    assert paid == [60 - 50 + 50 - 30, 70 - 20 + 20 + 30]
