"""How much to offer for a transaction, and when to offer more: pure functions of chain time and prices.

EIP-1559: a first offer covers the base fee doubling; an offer is only replaced by one at least an eighth higher in
both parts (nodes want a tenth); and the nearer the deadline, the sooner it is raised. All prices in wei per gas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from channeld.base.units import Timestamp
from channeld.chain.intents import Attempt
from channeld.chain.networks import Fees

STEPS: Final = 6
"""Raises that fit into the time to a deadline, each step waiting a sixth of what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    max_fee: int
    tip: int


def first_offer(base_fee: int, suggested_tip: int, fees: Fees) -> Offer:
    """What to offer at first, within `fees`."""
    tip = min(max(suggested_tip, fees.min_tip), fees.max_fee)
    return Offer(max_fee=min(2 * base_fee + tip, fees.max_fee), tip=tip)


def raised(last: Attempt, base_fee: int, suggested_tip: int, fees: Fees) -> Offer | None:
    """The next offer after `last`, at least an eighth higher in both parts; None if `fees` allows none."""
    tip = max(_eighth_more(last.tip), suggested_tip, fees.min_tip)
    max_fee = max(_eighth_more(last.max_fee), 2 * base_fee + tip)
    if max_fee > fees.max_fee:
        max_fee = fees.max_fee
        if max_fee < _eighth_more(last.max_fee):
            return None
    tip = min(tip, max_fee)
    return None if tip < _eighth_more(last.tip) else Offer(max_fee=max_fee, tip=tip)


def is_due(attempts: Sequence[Attempt], base_fee: int, now: Timestamp, deadline: Timestamp | None, fees: Fees) -> bool:
    """Whether the newest attempt has waited long enough to be replaced."""
    last = attempts[-1]
    waited = now - last.at
    if last.max_fee < base_fee + 1:
        return waited >= 1
    patience = int(fees.replace_after)
    if deadline is not None:
        patience = min(patience, max(1, (deadline - last.at) // STEPS))
    return waited >= patience


def _eighth_more(price: int) -> int:
    """Rounded up, and by one at least."""
    return price + max(1, -(-price // 8))
