"""What is learned pays, and is what happens: payments over the real network whose balances are hidden."""

from __future__ import annotations

import pytest

from examples.simulate import deciles, simulate
from tests.bench import lightning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PAYMENTS = 420


def test_learning_arrives_more_often_and_its_chances_come_true() -> None:
    """With what stands here as seeds; `examples/simulate.py` runs more, with intervals."""
    graph = lightning.load()
    arrived = {}
    for name in ("shortest", "fixed", "learning", "parts"):
        found, guesses = simulate(graph, PAYMENTS, 1, name)
        arrived[name] = {size: sum(one.first for one in some) / len(some) for size, some in found.items()}
        if name == "learning":
            judged = [(thought, came) for thought, came, count in deciles(guesses) if count >= 200]
            assert judged and all(abs(thought - came) <= 0.05 for thought, came in judged)
            assert sum(one.chance for one in guesses) == pytest.approx(sum(one.arrived for one in guesses), rel=0.06)
    for size in ("medium", "large"):
        others = max(arrived["shortest"][size], arrived["fixed"][size])
        assert arrived["learning"][size] > others
        assert arrived["parts"][size] > others
    assert all(one["small"] > 0.9 for one in arrived.values())
