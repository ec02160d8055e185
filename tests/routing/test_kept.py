"""Whatever is kept between searches, bounds, answers and arrays, an answer is what the slow reference finds then."""

from __future__ import annotations

import random

import pytest

from channeld.base.units import Amount, Seconds, Side, Timestamp
from routing import arrays, bounds
from routing.edges import Direction
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, find_route
from tests.routing.slow import slowest_best
from tests.routing.town import NOW, PAYEE, PAYER, TOKEN, channel_id, join, node, own, toll

AMOUNT = 1_000_000
NODES = (1, 2, 3, 4, 5, 6, PAYEE, PAYER)


class Life:
    """A small network that goes on changing, and a payer that forgets more than three channels."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.graph, self.learned, self.now = Graph(), Liquidity(max_channels=3), int(NOW)
        self.made = 0

    def step(self) -> None:
        ids = [channel.channel_id for channel in self.graph.channels()]
        kind = self.chance.random()
        if kind < 0.25 or not ids:
            self._join()
        elif kind < 0.32:
            self.graph.remove(self.chance.choice(ids))
        elif kind < 0.5:
            late = Timestamp(self.now)
            policy = toll(self._toll(), self._ppm(), self.chance.choice((0, 600, 90_000)), timestamp=late)
            self.graph.set_policy(self.chance.choice(ids), self.chance.choice(list(Side)), policy)
        elif kind < 0.6:
            self.graph.resize(self.chance.choice(ids), Amount(self.chance.randrange(AMOUNT // 2, 10 * AMOUNT)))
        elif kind < 0.85:
            name = self.chance.choice(ids) if self.chance.random() < 0.8 else channel_id(self.made + 1)
            known = self.graph.channel(name)
            learn = self.chance.choice((self.learned.failed, self.learned.carried, self.learned.settled))
            capacity = Amount(3 * AMOUNT) if known is None else known.capacity
            amount = Amount(self.chance.randrange(1, 2 * AMOUNT))
            learn((name, self.chance.choice(list(Side))), amount, capacity, Timestamp(self.now))
        self.now += self.chance.choice((1, 1, 30, 700, 20_000))

    def some(self, most: int) -> list[Direction]:
        """Directions of channels, mostly none."""
        made = [(channel_id(number), side) for number in range(1, self.made + 1) for side in Side]
        return self.chance.sample(made, min(len(made), self.chance.choice((0, 0, most))))

    def _join(self) -> None:
        a, b = self.chance.sample(NODES, 2)
        there, back = (toll(self._toll(), self._ppm(), timestamp=Timestamp(self.now)) for _ in range(2))
        self.made += 1
        join(self.graph, self.made, a, b, there, back, self.chance.choice((AMOUNT * 3 // 2, 3 * AMOUNT, 10**9)))

    def _toll(self) -> int:
        return self.chance.choice((0, 1, 50, 4_000))

    def _ppm(self) -> int:
        return self.chance.choice((0, 3, 900, 30_000))


@pytest.mark.parametrize("seed", range(12))
def test_an_answer_is_what_a_search_without_memory_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REFRESHED", 40)  # so that small changes meet the ends of what is kept
    monkeypatch.setattr(bounds, "LOWERED", 3)
    monkeypatch.setattr(arrays, "LOGGED", 8)
    life = Life(seed)
    mine = [own(1_000, 1), own(1_001, 2, 2 * AMOUNT)]
    found = 0
    for _ in range(400):
        life.step()
        what = {
            "source": node(PAYER),
            "target": node(PAYEE),
            "token": TOKEN,
            "amount": Amount(AMOUNT + life.chance.choice((0, 0, 0, 5, 40_000))),
            "final_expiry_delta": Seconds(900),
            "own_channels": mine[: life.chance.choice((1, 2, 2))],
            "now": Timestamp(life.now),
            "liquidity": life.learned,
            "exclude": frozenset(life.some(2)),
            "short": {direction: Amount(AMOUNT + life.chance.randrange(2_000)) for direction in life.some(2)},
        }
        best = slowest_best(life.graph, **what)  # type: ignore[arg-type]
        try:
            cost = find_route(life.graph, **what, max_fee=Amount(10**9)).cost  # type: ignore[arg-type]
        except NoRoute:
            cost = None
        assert cost == (None if best is None else best[0])
        found += best is not None
    assert found > 50
