"""What one neighbour may hold up: caps on the locks we forward, decided before anything is offered.

A lock that came in and was passed on binds our money in the outgoing channel until it is resolved, and whoever offered
it (or whoever it pays) may let it hang until its expiry for nothing. So of each outgoing channel one neighbour's locks
may take a share only: of its slots and of the money we could send there. A lock counts as more slots the longer it may
hang: one for every `usual` seconds to its expiry. Others always find the rest.

A lock that is worth less than resolving it on chain is a promise that nobody would enforce. Their number is capped, in
each channel by itself and in all, so that a close costs us at most that many times what resolving one costs.

A refusal here is a failure that goes back to the payer, never a fault of the peer (R6: no policy refuses a commit). A
lock counts until its *incoming* lock is gone from the state that both have signed, which a crash does not forget: what
is held is found again from the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from channeld.base.units import Amount, ChannelId, LockId, NodeId, Seconds, Timestamp

PERCENT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Shares in percent (0 .. 100) of one outgoing channel; counts of locks."""

    slots_share: int = 80
    value_share: int = 80
    usual: Seconds = Seconds(14_400)
    """A lock counts as one slot for every so many seconds it may hang."""
    uneconomic: int = 32
    """Locks not worth resolving on chain, in one channel, both ways."""
    uneconomic_in_all: int = 256


USUAL: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lock passed on. `came`: the incoming channel and its lock's number. `dust`: not worth resolving on chain."""

    came: tuple[ChannelId, LockId]
    neighbour: NodeId
    out: ChannelId
    amount: Amount
    expiry: Timestamp
    dust: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The outgoing channel as it is saved: its slots, what we can still send there, and what is passed on there."""

    slots: int
    spendable: Amount
    passed: Amount


class Traffic:
    """The locks that are passed on now. `waits`: whether an incoming lock still stands."""

    def __init__(self, limits: Limits, waits: Callable[[ChannelId, LockId], bool]) -> None:
        self._limits, self._waits = limits, waits
        self._by_out: dict[ChannelId, dict[tuple[ChannelId, LockId], Held]] = {}
        self._dust: dict[tuple[ChannelId, LockId], Held] = {}

    def add(self, held: Held) -> None:
        """It is passed on from now."""
        self._by_out.setdefault(held.out, {})[held.came] = held
        if held.dust:
            self._dust[held.came] = held

    def keep(self, held: Held) -> str | None:
        """Count a lock for an invoice of ours that is not worth resolving; why it is not taken, or None."""
        why = self._too_much_dust(held)
        if why is None:
            self._dust[held.came] = held
        return why

    def add_kept(self, held: Held) -> None:
        """A lock for an invoice of ours that was taken before a restart."""
        if held.dust:
            self._dust[held.came] = held

    def why_not(self, asked: Held, room: Room, now: Timestamp) -> str | None:
        """Why `asked` is not passed on, or None."""
        limits, out = self._limits, self._standing(asked.out)
        theirs = [held for held in out if held.neighbour == asked.neighbour]
        slots = sum(self.slots(held, now) for held in (*theirs, asked))
        if slots * PERCENT > room.slots * limits.slots_share:
            return f"one neighbour would hold {slots} of {room.slots} slots"
        could = room.spendable + room.passed  # not what is held: some of that may not be saved yet
        value = asked.amount + sum(held.amount for held in theirs)
        if value * PERCENT > could * limits.value_share:
            return f"one neighbour would hold {value} of {could}"
        return self._too_much_dust(asked) if asked.dust else None

    def slots(self, held: Held, now: Timestamp) -> int:
        """How many slots a lock counts as: one for every `usual` seconds, begun ones included."""
        return max(1, -(-(held.expiry - now) // self._limits.usual))

    def _too_much_dust(self, asked: Held) -> str | None:
        for came in [came for came in self._dust if not self._waits(*came)]:
            del self._dust[came]
        if len(self._dust) >= self._limits.uneconomic_in_all:
            return f"{len(self._dust)} locks are not worth resolving already"
        ends = (asked.out, asked.came[0])
        for end in ends:
            count = sum(end in (held.out, held.came[0]) for held in self._dust.values())
            if count >= self._limits.uneconomic:
                return f"{count} locks of one channel are not worth resolving already"
        return None

    def _standing(self, out: ChannelId) -> Iterable[Held]:
        """What still stands of what went out there; the rest is forgotten."""
        held = self._by_out.get(out, {})
        for came in [came for came in held if not self._waits(*came)]:
            del held[came]
        if not held:
            self._by_out.pop(out, None)
        return list(held.values())
