"""What past tries taught about each direction of a channel, fading with the `now` that is passed in.

Per direction we keep two bounds: the largest amount that went through, and the smallest that did not, each
with its moment. An amount up to the first is thought safe; from the second upwards it is thought hopeless;
between them lies ignorance. Each belief loses half its weight every `HALF_LIFE`, so nothing is held against a
hop for ever. The answer is a penalty in millionths of the amount, which never falls when the amount grows:
the search relies on that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from channeld.base.units import Amount, Seconds, Timestamp
from routing.fees import NEVER, NOTHING
from routing.graph import Direction

HALF_LIFE: Final = Seconds(3600)
"""LND's mission control forgives a failed pair over the same hour."""
MAX_DIRECTIONS: Final = 50_000
UNKNOWN: Final = 1_000
"""Millionths of the amount for a hop nothing is known of, when the amount is all its capacity."""
HOPELESS: Final = 500_000
"""Millionths of the amount for a hop that has just failed: half the payment, so any other way is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What is known of one direction. `passed` 0: nothing has; `failed` None: nothing did. Amounts in base units."""

    passed: Amount = NOTHING
    passed_at: Timestamp = NEVER
    failed: Amount | None = None
    failed_at: Timestamp = NEVER


class Liquidity:
    """The memory of a payer, bounded: what was learned longest ago goes first. Mutable; one owner."""

    def __init__(
        self, beliefs: Iterable[tuple[Direction, Belief]] = (), *, max_directions: int = MAX_DIRECTIONS
    ) -> None:
        """`beliefs`: as `export` gave them, oldest first."""
        self._max_directions = max_directions
        self._beliefs: OrderedDict[Direction, Belief] = OrderedDict()
        for direction, belief in beliefs:
            self._keep(direction, belief)

    def __len__(self) -> int:
        return len(self._beliefs)

    def export(self) -> tuple[tuple[Direction, Belief], ...]:
        """Everything known, oldest first."""
        return tuple(self._beliefs.items())

    def passed(self, direction: Direction, amount: Amount, now: Timestamp) -> None:
        """`amount` went through here: the hop took it, whatever became of it farther on."""
        belief = self._beliefs.get(direction, Belief())
        fresh = _faded(HOPELESS, now - belief.passed_at) >= HOPELESS // 2
        stale = belief.failed is not None and belief.failed <= amount
        keep_passed = fresh and belief.passed > amount
        self._keep(
            direction,
            Belief(
                passed=belief.passed if keep_passed else amount,
                passed_at=belief.passed_at if keep_passed else now,
                failed=None if stale else belief.failed,
                failed_at=NEVER if stale else belief.failed_at,
            ),
        )

    def failed(self, direction: Direction, amount: Amount, now: Timestamp) -> None:
        """`amount` did not go through here."""
        belief = self._beliefs.get(direction, Belief())
        fresh = _faded(HOPELESS, now - belief.failed_at) >= HOPELESS // 2
        least = min(amount, belief.failed) if fresh and belief.failed is not None else amount
        stale = belief.passed >= least
        self._keep(
            direction,
            Belief(
                passed=NOTHING if stale else belief.passed,
                passed_at=NEVER if stale else belief.passed_at,
                failed=least,
                failed_at=now,
            ),
        )

    def penalty(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> int:
        """Millionths of `amount` to add to the cost of this hop, 0 .. `HOPELESS`; never falls as `amount` grows.

        Args:
            direction: channel id and side it is sent from.
            amount: of the lock, base units.
            capacity: of the channel, base units; None: unknown.
            now: chain time.
        """
        ignorant = UNKNOWN if not capacity else UNKNOWN * min(amount, capacity) // capacity
        belief = self._beliefs.get(direction)
        if belief is None:
            return ignorant
        if belief.failed is not None and amount >= belief.failed:
            return max(ignorant, _faded(HOPELESS, now - belief.failed_at))
        if amount <= belief.passed:
            return ignorant - _faded(ignorant, now - belief.passed_at)
        return ignorant

    def _keep(self, direction: Direction, belief: Belief) -> None:
        self._beliefs[direction] = belief
        self._beliefs.move_to_end(direction)
        while len(self._beliefs) > self._max_directions:
            self._beliefs.popitem(last=False)


def _faded(weight: int, age: int) -> int:
    """`weight` halved once per `HALF_LIFE` of age, along straight lines between; integers, rounded down."""
    halvings, rest = divmod(max(age, 0), HALF_LIFE)
    start = weight >> min(halvings, 64)
    return start - start * rest // (2 * HALF_LIFE)
