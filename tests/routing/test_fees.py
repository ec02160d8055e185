"""Fees round up, compound backwards, and stay integers."""

from __future__ import annotations

import doctest
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.units import MAX_AMOUNT, Amount, Seconds
from routing import fees
from routing.fees import fee, price
from tests.routing.town import toll

amounts = st.integers(0, MAX_AMOUNT).map(Amount)
parts = st.integers(0, 1_000_000)


@given(amounts, amounts, parts)
def test_a_fee_is_the_exact_one_rounded_up(amount: Amount, base: Amount, ppm: int) -> None:
    assert fee(amount, base=base, per_million=ppm) == ceil(base + Fraction(amount * ppm, 1_000_000))


@pytest.mark.parametrize(("amount", "base", "ppm"), [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1_000_001)])
def test_a_fee_out_of_range_is_refused(amount: Amount, base: Amount, ppm: int) -> None:
    with pytest.raises(ValueError, match="fee of"):
        fee(amount, base=base, per_million=ppm)


@given(
    st.integers(1, 10**12).map(Amount),
    st.lists(st.tuples(st.integers(0, 10**6), parts, st.integers(0, 86_400)), max_size=6),
)
def test_every_forwarder_keeps_its_fee_and_its_time(amount: Amount, tolls: list[tuple[int, int, int]]) -> None:
    policies = [toll(*numbers) for numbers in tolls]
    hops = price(amount, Seconds(900), policies)
    assert (len(hops), hops[0].fee, hops[-1].amount, hops[-1].expiry_delta) == (len(tolls) + 1, 0, amount, 900)
    for policy, before, hop in zip(policies, hops, hops[1:], strict=False):
        assert before.amount - hop.amount == hop.fee == policy.fee(hop.amount)
        assert before.expiry_delta - hop.expiry_delta == policy.expiry_delta


def test_the_examples_in_the_docstrings_hold() -> None:
    outcome = doctest.testmod(fees)
    assert outcome.attempted == 3
    assert outcome.failed == 0
