"""What a hop takes for passing a payment on, and what that makes of amounts and expiries along a route.

A payment is priced backwards: the payee's amount and expiry are given, and each hop adds its fee and its
expiry delta to what it is asked to pass on, so fees are charged on fees. A hop charges by the policy of the
channel it pays *out* of. The payer's own hop is free. Everything is integers; rounding is up, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from channeld.base.units import MAX_AMOUNT, Amount, Seconds, Timestamp

PER_MILLION: Final = 1_000_000
NOTHING: Final = Amount(0)
ANYTHING: Final = Amount(MAX_AMOUNT)
NEVER: Final = Timestamp(0)
MAX_EXPIRY_DELTA: Final = 30 * 86_400
"""Seconds; the longest that one hop may ask for (the contract's longest challenge period)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a node asks for passing a payment out over one channel; one per direction.

    Amounts in base units of the channel's token; `fee_ppm` 0 .. 1,000,000; `expiry_delta` in seconds, at most
    `MAX_EXPIRY_DELTA`; a lock is taken if `min_lock` <= its amount <= `max_lock`. `timestamp` orders updates.
    ValueError for anything out of range.
    """

    fee_base: Amount
    fee_ppm: int
    expiry_delta: Seconds
    min_lock: Amount = NOTHING
    max_lock: Amount = ANYTHING
    disabled: bool = False
    timestamp: Timestamp = NEVER

    def __post_init__(self) -> None:
        if not (
            0 <= self.fee_base <= MAX_AMOUNT
            and 0 <= self.fee_ppm <= PER_MILLION
            and 0 <= self.expiry_delta <= MAX_EXPIRY_DELTA
            and 0 <= self.min_lock <= self.max_lock <= MAX_AMOUNT
            and 0 <= self.timestamp < 2**32
        ):
            raise ValueError(f"policy out of range: {self}")

    def fee(self, amount: Amount) -> Amount:
        """What the node keeps when `amount` leaves it under this policy."""
        return fee(amount, base=self.fee_base, per_million=self.fee_ppm)


def stricter(one: Policy, other: Policy) -> Policy:
    """What satisfies both, under the later timestamp: dear as the dearer in each part of the fee, slow as the slower,
    and for locks that both take. Disabled if either is, or if no lock is taken by both.

    Never cheaper than either, so what was worked out for one of them as the least that a hop costs still is.
    """
    least, most = max(one.min_lock, other.min_lock), min(one.max_lock, other.max_lock)
    return replace(
        one,
        fee_base=max(one.fee_base, other.fee_base),
        fee_ppm=max(one.fee_ppm, other.fee_ppm),
        expiry_delta=max(one.expiry_delta, other.expiry_delta),
        min_lock=min(least, most),
        max_lock=most,
        disabled=one.disabled or other.disabled or least > most,
        timestamp=max(one.timestamp, other.timestamp),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One hop priced: the lock's amount, its expiry less now, and what the node that offers it has kept."""

    amount: Amount
    expiry_delta: Seconds
    fee: Amount


def fee(amount: Amount, *, base: Amount, per_million: int) -> Amount:
    """What a hop keeps for sending `amount` on, rounded up in the hop's favour.

    Args:
        amount: what leaves the hop, base units, 0 or more.
        base: flat part, base units, 0 or more.
        per_million: proportional part, in millionths of `amount`, 0 .. 1,000,000.

    Returns:
        The fee in base units; the hop must receive `amount` plus this.

    Raises:
        ValueError: an argument is out of its range.

    Source:
        BOLT 7, "HTLC Fees", but rounded up: a chain of hops never owes a fraction.

    >>> fee(Amount(2_000_003), base=Amount(7), per_million=250)
    508
    """
    if amount < 0 or base < 0 or not 0 <= per_million <= PER_MILLION:
        raise ValueError(f"fee of {amount} at {base} + {per_million}/{PER_MILLION}")
    return Amount(base - (-amount * per_million // PER_MILLION))


def price(amount: Amount, final_expiry_delta: Seconds, policies: Sequence[Policy]) -> tuple[Price, ...]:
    """Lock amounts and expiries of a whole route, first hop first.

    Args:
        amount: what the payee gets, base units.
        final_expiry_delta: seconds the last lock must still have when it arrives.
        policies: of the forwarders, first to last; the payer's own hop has none, so there is one Price more.

    >>> toll = Policy(fee_base=Amount(1), fee_ppm=10_000, expiry_delta=Seconds(600))
    >>> [(hop.amount, hop.expiry_delta, hop.fee) for hop in price(Amount(1000), Seconds(60), [toll, toll])]
    [(1023, 1260, 0), (1011, 660, 12), (1000, 60, 11)]
    """
    hops, due, expiry = [], amount, final_expiry_delta
    for policy in reversed(policies):
        kept = policy.fee(due)
        hops.append(Price(amount=due, expiry_delta=expiry, fee=kept))
        due, expiry = Amount(due + kept), Seconds(expiry + policy.expiry_delta)
    hops.append(Price(amount=due, expiry_delta=expiry, fee=Amount(0)))
    return tuple(reversed(hops))
