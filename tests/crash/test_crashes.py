"""A death before and after a spread of points in every scenario: nobody loses a wei, nothing is signed twice.

`make verify` takes every point (Part "crashes"). That a broken order of things would be found is shown by actors that
let out before they save, or answer before they have.
"""

from __future__ import annotations

import random
from typing import Final

import pytest
import trio

from channeld.node.loop import Actor, _differs, _Item, _Turn
from tests.crash.enumerator import Tally, die_at, points, spread
from tests.crash.scenarios import SCENARIOS

EACH: Final = 8
"""Deaths of each scenario."""
AGAIN: Final = 40
"""Every third dies a second time, so many points after its return at most."""
SEED: Final = 4


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_loses_when_a_node_dies(name: str) -> None:
    every = points(name, seed=SEED)
    assert len(every) >= 30
    tally, chance = Tally(), random.Random(f"{SEED} {name}")
    for number, point in enumerate(spread(every, EACH, chance)):
        again = chance.randint(1, AGAIN) if number % 3 == 0 else None
        die_at(name, point, tally, seed=SEED, down_for=chance.choice((0.5, 1.0, 4.0)), again=again)
    assert not tally.found, "\n".join(tally.found)
    assert tally.deaths == EACH


def test_every_kind_of_point_is_met() -> None:
    """A scenario that nobody dies in would prove nothing: what they pass together is every act a node has."""
    met = {point.name for name in ("open", "forward", "together", "dispute") for point in points(name, seed=SEED)}
    assert {one for one in met if one.startswith("submit")} >= {
        "submit deposit",
        "submit cooperate",
        "submit challenge",
        "submit settle",
    }
    assert {"sign", "save intents", "send Commit", "send CommitAck", "send FulfilLock", "send CoopSign"} <= met
    assert {"send Reestablish", "send OpenChannel", "send DepositSeen"} <= met


class SaysFirst(Actor):
    """Broken: what a turn says leaves the node before the turn is saved."""

    async def _save(self, items: list[_Item]) -> _Turn:
        turn = _Turn(self.channel, self.line)
        self._decide(turn, items)
        self._ledger.record(turn.channel, tuple(turn.notes), turn.batch)
        if _differs(turn.channel, self.channel):
            turn.batch.channel(turn.channel)
        if turn.line is not None and turn.sends:
            turn.line.say(turn.channel, turn.sends)
            turn.sends = []
            await trio.sleep(0.01)  # long enough for the line to write
        if turn.batch:
            await self._store.commit(turn.batch)
        return turn


def test_saying_before_saving_is_found() -> None:
    """With an actor that does so, deaths between the two lose money or sign a version twice."""
    tally = Tally()
    for point in points("direct", seed=SEED, actor=SaysFirst):
        if point.name.startswith("save channels+signed") and point.when == "before":
            die_at("direct", point, tally, seed=SEED, actor=SaysFirst)
    assert len(tally.found) >= 3, tally.found
    assert not any("does not repeat" in one for one in tally.found)
