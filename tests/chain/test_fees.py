"""What is offered for a transaction, and when more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channeld.base.units import Seconds, Timestamp
from channeld.chain.fees import first_offer, is_due, raised
from channeld.chain.intents import Attempt
from channeld.chain.networks import Fees

FEES = Fees(min_tip=10, max_fee=10_000, replace_after=Seconds(30))


def attempt(max_fee: int, tip: int, at: int = 1_000) -> Attempt:
    return Attempt(raw=b"", hash=bytes(32), max_fee=max_fee, tip=tip, at=Timestamp(at))


def test_the_first_offer_covers_a_doubled_base_fee() -> None:
    offer = first_offer(100, 25, FEES)
    assert (offer.max_fee, offer.tip) == (225, 25)
    assert first_offer(100, 1, FEES).tip == 10
    assert first_offer(1_000_000, 25, FEES).max_fee == 10_000


@given(
    max_fee=st.integers(1, 20_000),
    tip=st.integers(0, 20_000),
    base=st.integers(0, 20_000),
    suggested=st.integers(0, 20_000),
)
def test_a_raise_is_an_eighth_at_least_and_never_above_the_cap(
    max_fee: int, tip: int, base: int, suggested: int
) -> None:
    tip = min(tip, max_fee)
    offer = raised(attempt(max_fee, tip), base, suggested, FEES)
    if offer is not None:
        assert offer.max_fee * 8 >= max_fee * 9
        assert offer.tip * 8 >= tip * 9
        assert offer.tip <= offer.max_fee <= FEES.max_fee


def test_no_raise_beyond_the_cap() -> None:
    assert raised(attempt(9_500, 10), 0, 0, FEES) is None
    assert raised(attempt(8_000, 10), 10_000, 0, FEES) is not None


def test_patience_shrinks_towards_the_deadline() -> None:
    waiting = [attempt(1_000, 10, at=1_000)]
    assert not is_due(waiting, 100, Timestamp(1_029), None, FEES)
    assert is_due(waiting, 100, Timestamp(1_030), None, FEES)
    assert is_due(waiting, 100, Timestamp(1_010), Timestamp(1_060), FEES)
    assert not is_due(waiting, 100, Timestamp(1_009), Timestamp(1_060), FEES)
    assert is_due(waiting, 100, Timestamp(1_001), Timestamp(1_001), FEES)


def test_an_offer_below_the_base_fee_is_raised_at_once() -> None:
    assert is_due([attempt(100, 10, at=1_000)], 100, Timestamp(1_001), None, FEES)
