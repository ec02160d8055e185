"""Whatever is kept between searches, bounds, answers and arrays, an answer is what the slow reference finds then."""

from __future__ import annotations

import random

import pytest

from channeld.base.units import Amount, Seconds, Side, Timestamp
from routing import arrays, bounds
from routing.edges import Direction, Edge
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, find_route
from tests.routing.slow import slowest_best
from tests.routing.town import NOW, PAYEE, PAYER, TOKEN, channel_id, join, node, own, toll

AMOUNTS = (1_000_000, 10**21 + 7)
"""As of a token with six decimals, and of one with 18: more than 64 bits."""
PRIVATE = 20
NODES = (1, 2, 3, 4, 5, 6, PAYEE, PAYER)


class Life:
    """A small network that goes on changing, and a payer that forgets more than three channels."""

    def __init__(self, seed: int, amount: int) -> None:
        self.chance, self.amount = random.Random(seed), amount
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
            self.graph.resize(
                self.chance.choice(ids), Amount(self.chance.randrange(self.amount // 2, 10 * self.amount))
            )
        elif kind < 0.85:
            name = self.chance.choice(ids) if self.chance.random() < 0.8 else channel_id(self.made + 1)
            known = self.graph.channel(name)
            learn = self.chance.choice((self.learned.failed, self.learned.carried, self.learned.settled))
            capacity = Amount(3 * self.amount) if known is None else known.capacity
            amount = Amount(self.chance.randrange(1, 2 * self.amount))
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
        join(
            self.graph,
            self.made,
            a,
            b,
            there,
            back,
            self.chance.choice((self.amount * 3 // 2, 3 * self.amount, 1_000 * self.amount)),
        )

    def _toll(self) -> int:
        return self.chance.choice((0, 1, self.amount // 20_000, self.amount // 250))

    def _ppm(self) -> int:
        return self.chance.choice((0, 3, 900, 30_000))

    def hints(self) -> list[Edge]:
        """Mostly none; else ways over private channels, to the payee or to anybody."""
        found = []
        for number in range(self.chance.choice((0, 0, 0, 1, 3))):
            source, target = self.chance.sample((*NODES, PRIVATE, PRIVATE + 1), 2)
            policy = toll(self._toll(), self._ppm(), self.chance.choice((0, 600)))
            name = channel_id(5_000 + number)
            found.append(Edge(channel_id=name, side=Side.A, source=node(source), target=node(target), policy=policy))
        return found


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("seed", range(12))
def test_an_answer_is_what_a_search_without_memory_finds(
    seed: int, amount: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "REFRESHED", 40)  # so that small changes meet the ends of what is kept
    monkeypatch.setattr(bounds, "LOWERED", 3)
    monkeypatch.setattr(arrays, "LOGGED", 8)
    life = Life(seed, amount)
    mine = [own(1_000, 1, 1_000 * amount), own(1_001, 2, 2 * amount), own(1_002, 3, amount + amount // 10**5)]
    found = 0
    for _ in range(400):
        life.step()
        what = {
            "source": node(PAYER),
            "target": node(life.chance.choice((PAYEE, PAYEE, PRIVATE))),
            "token": TOKEN,
            "amount": Amount(amount + life.chance.choice((0, 0, 0, 5, amount // 25))),
            "final_expiry_delta": Seconds(900),
            "own_channels": mine[: life.chance.choice((1, 2, 3))],
            "now": Timestamp(life.now),
            "liquidity": life.learned,
            "exclude": frozenset(life.some(2)),
            "hints": life.hints(),
            "short": {direction: Amount(amount + life.chance.randrange(amount // 500)) for direction in life.some(2)},
        }
        best = slowest_best(life.graph, **what)  # type: ignore[arg-type]
        try:
            cost = find_route(life.graph, **what, max_fee=Amount(1_000 * amount)).cost  # type: ignore[arg-type]
        except NoRoute:
            cost = None
        assert cost == (None if best is None else best[0])
        found += best is not None
    assert found > 50
