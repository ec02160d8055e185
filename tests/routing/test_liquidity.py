"""What tries teach of a balance: never what is not so, all of it fading, and more is never likelier."""

from __future__ import annotations

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.units import Amount, Side, Timestamp
from routing.cost import HOP, WEIGHT
from routing.edges import Direction
from routing.liquidity import HALF_LIFE, HINTED, LEAST, STEP, Belief, Liquidity
from tests.routing.town import NOW, channel_id

HERE = (channel_id(1), Side.A)
BACK = (channel_id(1), Side.B)
CAPACITY = Amount(1000)


@pytest.fixture
def learned() -> Liquidity:
    return Liquidity()


def chance(
    learned: Liquidity, amount: int, later: int = 0, capacity: int | None = CAPACITY, way: Direction = HERE
) -> float:
    known = None if capacity is None else Amount(capacity)
    found = learned.chance(way, Amount(amount), known, Timestamp(NOW + later))
    return found if found == LEAST else round(found, 4)


def test_of_the_unknown_the_share_of_the_capacity_counts(learned: Liquidity) -> None:
    assert [chance(learned, amount) for amount in (1, 500, 1000, 1001)] == [0.999, 0.5005, 0.001, LEAST]
    assert chance(learned, 1, capacity=None) == HINTED


def test_a_failure_bounds_both_sides(learned: Liquidity) -> None:
    learned.failed(HERE, Amount(400), CAPACITY, NOW)
    assert [chance(learned, amount) for amount in (200, 399, 400, 900)] == [0.5, 0.0025, LEAST, LEAST]
    assert [chance(learned, amount, way=BACK) for amount in (601, 801, 1001)] == [1.0, 0.5, LEAST]


def test_what_came_back_is_still_there(learned: Liquidity) -> None:
    learned.carried(HERE, Amount(600), CAPACITY, NOW)
    assert [chance(learned, amount) for amount in (600, 801)] == [1.0, 0.4988]
    assert [chance(learned, amount, way=BACK) for amount in (200, 401)] == [0.5012, LEAST]


def test_what_was_paid_is_there_no_more(learned: Liquidity) -> None:
    learned.settled(HERE, Amount(600), CAPACITY, NOW)
    assert [chance(learned, amount) for amount in (200, 401)] == [0.5012, LEAST]
    assert chance(learned, 600, way=BACK) == 1.0


def test_what_was_learned_fades_by_half_each_half_life(learned: Liquidity) -> None:
    learned.carried(HERE, Amount(600), CAPACITY, NOW)
    unknown = 401 / 1001
    for halvings in (0, 1, 3, 90):
        holds = 0.5**halvings
        assert chance(learned, 600, halvings * HALF_LIFE) == round(holds + (1 - holds) * unknown, 4)
    assert chance(learned, 600, HALF_LIFE // 2) == round(0.75 + 0.25 * unknown, 4)


def test_time_passes_in_steps(learned: Liquidity) -> None:
    """So that an answer stays one for a while."""
    learned.carried(HERE, Amount(600), CAPACITY, Timestamp(NOW - HALF_LIFE))
    start = -NOW % STEP
    assert len({chance(learned, 600, start + later) for later in range(STEP)}) == 1
    unequal = {learned.chance(HERE, Amount(600), CAPACITY, Timestamp(NOW + start + later)) for later in (0, STEP)}
    assert len(unequal) == 2


def test_the_newest_word_wins(learned: Liquidity) -> None:
    learned.failed(HERE, Amount(400), CAPACITY, NOW)
    learned.carried(HERE, Amount(500), CAPACITY, NOW)
    assert chance(learned, 500) == 1.0
    assert chance(learned, 600) > LEAST
    learned.failed(HERE, Amount(300), CAPACITY, NOW)
    assert chance(learned, 300) == LEAST
    assert chance(learned, 100) == round(200 / 300, 4)


def test_the_stronger_of_two_beliefs_stays(learned: Liquidity) -> None:
    for amount in (300, 100):
        learned.carried(HERE, Amount(amount), CAPACITY, NOW)
    for amount in (500, 800):
        learned.failed(HERE, Amount(amount), CAPACITY, NOW)
    assert [chance(learned, amount) for amount in (300, 400, 500)] == [1.0, 0.5, LEAST]


def test_of_a_hint_only_what_passed_and_what_did_not_is_known(learned: Liquidity) -> None:
    learned.carried(HERE, Amount(300), None, NOW)
    learned.failed(HERE, Amount(700), None, NOW)
    assert [chance(learned, amount, capacity=None) for amount in (300, 301, 699, 700)] == [1.0, HINTED, HINTED, LEAST]
    assert chance(learned, 700, HALF_LIFE, capacity=None) == HINTED / 2


def test_what_is_paid_into_a_channel_may_be_on_either_side(learned: Liquidity) -> None:
    learned.failed(HERE, Amount(400), CAPACITY, NOW)
    assert chance(learned, 1_300, capacity=2_000) > LEAST
    assert chance(learned, 1_400, capacity=2_000) == LEAST
    assert chance(learned, 600, capacity=2_000, way=BACK) == 1.0


def test_the_penalty_is_how_improbable_it_is(learned: Liquidity) -> None:
    assert learned.penalty(HERE, Amount(500), CAPACITY, NOW) == HOP + int(-log(501 / 1001) * WEIGHT)


def test_memory_is_bounded_and_can_be_saved() -> None:
    small = Liquidity(max_channels=2)
    for number in range(5):
        small.failed((channel_id(number), Side.A), Amount(1 + number), CAPACITY, NOW)
    assert [channel for channel, _ in small.export()] == [channel_id(3), channel_id(4)]
    assert Liquidity(small.export()).export() == small.export()
    assert len(small) == 2
    assert [(name, belief is None) for name, belief in list(small.recent)[-2:]] == [
        (channel_id(4), False),
        (channel_id(2), True),
    ]


@pytest.mark.parametrize(
    ("capacity", "least", "most", "at"),
    [(10, -1, 5, 1), (10, 6, 5, 1), (10, 0, 11, 1), (10, 0, None, 1), (None, 5, 4, 1), (10, 0, 5, 2**32)],
)
def test_a_belief_that_cannot_be_is_refused(capacity: int | None, least: int, most: int | None, at: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Belief(capacity=None if capacity is None else Amount(capacity), least=least, most=most, at=Timestamp(at))


tries = st.lists(
    st.tuples(st.sampled_from(["lock", "pay"]), st.sampled_from(list(Side)), st.integers(1, 1200)), max_size=12
)


@given(st.integers(0, CAPACITY), tries)
def test_what_is_thought_sure_is_true(balance: int, history: list[tuple[str, Side, int]]) -> None:
    """Of a channel that nobody else uses: the balance stays within what was learned of it."""
    learned, here = Liquidity(), {Side.A: balance, Side.B: CAPACITY - balance}
    for kind, side, amount in history:
        way = channel_id(1), side
        if amount > here[side]:
            learned.failed(way, Amount(amount), CAPACITY, NOW)
        elif kind == "lock":
            learned.carried(way, Amount(amount), CAPACITY, NOW)
        else:
            learned.settled(way, Amount(amount), CAPACITY, NOW)
            here[side] -= amount
            here[side.other] += amount
        for side_ in Side:
            for more in range(1, CAPACITY + 1, 37):
                sure = learned.chance((channel_id(1), side_), Amount(more), CAPACITY, NOW)
                assert sure < 1 or more <= here[side_]
                assert sure > LEAST or more > here[side_] or more * 100 > here[side_] * 99


CAPACITIES = st.sampled_from([None, 0, 1, 50, 1_000, 1_500, 2**88])
AMOUNTS = st.one_of(st.integers(1, 1_200), st.sampled_from([10**6, 2**88 - 1]))
steps = st.lists(
    st.tuples(
        st.sampled_from(["failed", "carried", "settled"]),
        st.sampled_from([HERE, BACK]),
        AMOUNTS,
        CAPACITIES,
        st.one_of(st.integers(0, 3 * HALF_LIFE), st.just(-500)),
    ),
    max_size=8,
)


@given(steps, st.sampled_from([HERE, BACK]), AMOUNTS, AMOUNTS, st.integers(0, 9 * HALF_LIFE), CAPACITIES)
def test_whatever_is_learned_more_is_never_likelier(
    history: list[tuple[str, Direction, int, int | None, int]],
    way: Direction,
    one: int,
    other: int,
    later: int,
    capacity: int | None,
) -> None:
    """The search's optimum rests on this. A stranger chooses what we learn, hints and capacities too: nothing raises,
    or it would stop the channel in whose turn we learn."""
    learned, now = Liquidity(), 0
    for name, where, amount, told, wait in history:
        now = max(0, now + wait)
        getattr(learned, name)(where, Amount(amount), told, Timestamp(NOW + now))
    low, high = sorted((one, other))
    least, most = (
        learned.chance(
            way, Amount(amount), None if capacity is None else Amount(capacity), Timestamp(NOW + now + later)
        )
        for amount in (high, low)
    )
    assert LEAST <= least <= most <= 1
    assert Liquidity(learned.export()).export() == learned.export()
