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
from routing.fees import Policy, fee, price, stricter
from tests.routing.town import toll

amounts = st.integers(0, MAX_AMOUNT).map(Amount)
parts = st.integers(0, 1_000_000)


def policy_of(base: int, ppm: int, delta: int, one: int, other: int, disabled: bool) -> Policy:
    return toll(base, ppm, delta, min_lock=min(one, other), max_lock=max(one, other), disabled=disabled)


def takes(policy: Policy, amount: int) -> bool:
    return not policy.disabled and policy.min_lock <= amount <= policy.max_lock


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


@given(st.builds(policy_of, parts, parts, st.integers(0, 86_400), amounts, amounts, st.booleans()), st.data())
def test_the_stricter_of_two_policies_asks_what_both_ask(one: Policy, data: st.DataObject) -> None:
    other = data.draw(st.builds(policy_of, parts, parts, st.integers(0, 86_400), amounts, amounts, st.booleans()))
    both, amount = stricter(one, other), data.draw(amounts)
    assert both.fee(amount) >= max(one.fee(amount), other.fee(amount))
    assert both.expiry_delta == max(one.expiry_delta, other.expiry_delta)
    assert takes(both, amount) == (takes(one, amount) and takes(other, amount))
    assert stricter(one, one) == one


def test_policies_that_take_no_lock_in_common_are_disabled_together() -> None:
    small, large = toll(max_lock=10), toll(min_lock=11)
    assert stricter(small, large).disabled and stricter(large, small).disabled
    assert not stricter(toll(max_lock=11), large).disabled
