"""What tries teach: safe below what passed, hopeless from what failed, and all of it fading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.units import Amount, Side, Timestamp
from routing.liquidity import HALF_LIFE, HOPELESS, UNKNOWN, Liquidity
from tests.routing.town import NOW, channel_id

HERE = (channel_id(1), Side.A)
BACK = (channel_id(1), Side.B)
CAPACITY = Amount(1000)


@pytest.fixture
def learned() -> Liquidity:
    return Liquidity()


def penalty(learned: Liquidity, amount: int, later: int = 0, capacity: Amount | None = CAPACITY) -> int:
    return learned.penalty(HERE, Amount(amount), capacity, Timestamp(NOW + later))


def test_of_the_unknown_the_share_of_the_capacity_counts(learned: Liquidity) -> None:
    assert [penalty(learned, amount) for amount in (1, 500, 1000)] == [1, UNKNOWN // 2, UNKNOWN]
    assert penalty(learned, 1, capacity=None) == UNKNOWN


def test_a_failure_counts_from_its_amount_upwards_and_one_way_only(learned: Liquidity) -> None:
    learned.failed(HERE, Amount(400), NOW)
    assert [penalty(learned, amount) for amount in (399, 400, 900)] == [399, HOPELESS, HOPELESS]
    assert learned.penalty(BACK, Amount(900), CAPACITY, NOW) == 900


def test_a_failure_fades_by_half_each_half_life(learned: Liquidity) -> None:
    learned.failed(HERE, Amount(400), NOW)
    faded = [penalty(learned, 400, later) for later in (0, HALF_LIFE // 2, HALF_LIFE, 3 * HALF_LIFE, 90 * HALF_LIFE)]
    assert faded == [HOPELESS, HOPELESS * 3 // 4, HOPELESS // 2, HOPELESS // 8, 400]


def test_what_passed_is_safe_for_a_while(learned: Liquidity) -> None:
    learned.passed(HERE, Amount(600), NOW)
    assert [penalty(learned, amount) for amount in (600, 601)] == [0, 601]
    assert [penalty(learned, 600, later) for later in (HALF_LIFE, 90 * HALF_LIFE)] == [300, 600]


def test_the_newest_word_wins(learned: Liquidity) -> None:
    learned.failed(HERE, Amount(400), NOW)
    learned.passed(HERE, Amount(500), NOW)
    assert penalty(learned, 500) == 0
    assert penalty(learned, 600) == 600
    learned.failed(HERE, Amount(300), NOW)
    assert penalty(learned, 300) == HOPELESS
    assert penalty(learned, 299) == 299


def test_the_stronger_of_two_fresh_beliefs_stays(learned: Liquidity) -> None:
    learned.passed(HERE, Amount(300), NOW)
    learned.passed(HERE, Amount(100), NOW)
    learned.failed(HERE, Amount(500), NOW)
    learned.failed(HERE, Amount(800), NOW)
    assert [penalty(learned, amount) for amount in (300, 301, 500)] == [0, 301, HOPELESS]


def test_memory_is_bounded_and_can_be_saved(learned: Liquidity) -> None:
    small = Liquidity(max_directions=2)
    for number in range(5):
        small.failed((channel_id(number), Side.A), Amount(number), NOW)
    assert [direction for direction, _ in small.export()] == [(channel_id(3), Side.A), (channel_id(4), Side.A)]
    assert Liquidity(small.export()).export() == small.export()
    assert len(small) == 2


tries = st.lists(st.tuples(st.booleans(), st.integers(1, 1200), st.integers(0, 3 * HALF_LIFE)), max_size=6)


@given(tries, st.integers(0, 1200), st.integers(0, 1200), st.integers(0, 9 * HALF_LIFE))
def test_more_is_never_penalised_less(history: list[tuple[bool, int, int]], one: int, other: int, later: int) -> None:
    """The search's optimum rests on this."""
    learned, now = Liquidity(), 0
    for went, amount, wait in history:
        now += wait
        (learned.passed if went else learned.failed)(HERE, Amount(amount), Timestamp(NOW + now))
    low, high = sorted((one, other))
    assert penalty(learned, low, now + later) <= penalty(learned, high, now + later)
