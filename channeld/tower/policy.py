"""For whom a tower watches, how long, and what it spends on it: the operator's settings as limits.

A blind tower knows nothing of a channel when it takes an appointment, so every limit is on what it can see: rows,
bytes, rates, and the age of its own view of the chain. What a dispute may cost is limited when it happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from channeld.base.units import Seconds, Timestamp

DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits of one tower; the defaults suit a small machine (1,000,000 rows are about 1.5 GB)."""

    validity: Seconds = Seconds(30 * DAY)
    """How long a receipt promises cover, in chain seconds from the head it names."""
    grace: Seconds = Seconds(30 * DAY)
    """How long a row is kept after that: the longest challenge period, since a close may still be running."""
    room: int = 1_000_000
    """Most appointments."""
    burst: int = 1_000
    """Requests one connection may make at once."""
    per_minute: int = 6_000
    """Requests a connection may make over time, after its burst."""
    max_connections: int = 2_000
    max_from_one: int = 64
    """Connections from one address, or one IPv6 /64."""
    idle: float = 300.0
    """Seconds after which a silent connection is closed."""
    min_bond: int = 0
    """Least close bond, wei, of a channel that is defended: a bond below the price of a challenge makes every dispute
    a loss. A blind tower learns the bond only at the close, so clients must be told in advance; 0 defends all."""
    finalize_all: bool = False
    """Finalize guarded channels whose bond goes to others too, at our own cost."""

    def __post_init__(self) -> None:
        for name in ("validity", "room", "burst", "per_minute", "max_connections", "max_from_one", "idle"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        if self.min_bond < 0 or self.grace < 0:
            raise ValueError("min_bond and grace must not be below 0")

    def valid_until(self, head: Timestamp) -> Timestamp:
        """Until when an appointment taken at `head` is covered."""
        return Timestamp(min(head + self.validity, 2**32 - 1))


class Allowance:
    """A token bucket: `burst` requests at once, `per_minute` over time."""

    __slots__ = ("_left", "_policy", "_seen")

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._left = float(policy.burst)
        self._seen = now

    def take(self, now: float) -> bool:
        """Whether one more request at `now` (seconds of any steady clock) is within the limits."""
        refill = (now - self._seen) * self._policy.per_minute / 60
        self._left = min(float(self._policy.burst), self._left + refill)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
