"""What the node knows of the chain and the time just now; the guard keeps it, everybody reads it.

`now` is never behind the newest block and never behind the wall clock, so a cut-off is taken early rather than late.
What ends a lock is decided by finalized blocks alone, not by this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from channeld.base.errors import Refused
from channeld.base.units import LockKey, Seconds, Timestamp
from channeld.chain.chain import Head
from channeld.chain.networks import Network


@dataclass(slots=True)
class World:
    """`clock`: seconds since 1970 by this machine."""

    network: Network
    clock: Callable[[], float]
    max_head_age: Seconds
    head: Head | None = None
    registered: dict[LockKey, Timestamp] = field(default_factory=dict)
    """Registration times of hash-lock keys, from the registry's events."""
    fault: str | None = "the chain has not been read yet"
    """Why the chain cannot be believed now, or None."""

    @property
    def now(self) -> Timestamp:
        latest = self.head.latest.timestamp if self.head else 0
        return Timestamp(max(latest, int(self.clock())))

    @property
    def chain_time(self) -> Timestamp:
        """Time of the newest block."""
        return self.head.latest.timestamp if self.head else Timestamp(0)

    @property
    def safe_mode(self) -> str | None:
        """Why nothing new is accepted or forwarded, or None (I30)."""
        if self.fault is not None:
            return self.fault
        if self.head is None or self.head.age(int(self.clock())) > self.max_head_age:
            return f"the newest block is older than {self.max_head_age} s"
        return None

    def must_be_safe(self) -> None:
        """Refused (safe_mode) while the chain cannot be believed."""
        why = self.safe_mode
        if why is not None:
            raise Refused("safe_mode", f"nothing new is begun: {why}", "check the RPC; it ends by itself")

    def may_fulfil(self, expiry: Timestamp) -> bool:
        """R17: whether a fulfil may still go off chain alone."""
        return self.now + self.network.delta_inclusion + self.network.clock_skew < expiry
