"""What the chain shows of closing channels, folded from facts: a value that can be told again along another branch.

A `Closing` keeps the facts it is made of with their blocks, so a reorg is answered by dropping those above the fork;
what is derived from them follows. `Closings` are all that are not buried yet, and the count of closes that shows a
missing event: the contract numbers closes without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from channeld.base.units import Address, BlockNumber, ChannelId, Digest, Seconds, Version
from channeld.chain.chain import SeenChallenge, SeenClose, SeenCooperate, SeenFinal, SeenSettle
from channeld.core.watching import Case

NOBODY: Final = Address(bytes(20))

Later = SeenChallenge | SeenCooperate | SeenFinal | SeenSettle
"""What can happen to a channel after its close, as far as a tower cares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """One closing channel: its close, and what followed in the order of the chain."""

    close: SeenClose
    later: tuple[Later, ...] = ()

    @property
    def period(self) -> Seconds:
        """The challenge period as the contract clamped it, seconds."""
        return Seconds(self.close.deadline - self.close.block.timestamp)

    @property
    def answered(self) -> SeenChallenge | None:
        """The challenge that stands."""
        return next((fact for fact in reversed(self.later) if isinstance(fact, SeenChallenge)), None)

    @property
    def overtaken(self) -> bool:
        """A cooperate has voided the recorded state, and no challenge has come since."""
        for fact in reversed(self.later):
            if isinstance(fact, SeenChallenge):
                return False
            if isinstance(fact, SeenCooperate):
                return True
        return False

    @property
    def version(self) -> Version:
        """The version that a challenge must exceed."""
        for fact in reversed(self.later):
            if isinstance(fact, SeenChallenge | SeenCooperate):
                return fact.version
        return self.close.version

    @property
    def body_hash(self) -> Digest:
        """Of the recorded state, as `finalize` wants it."""
        answered = self.answered
        return self.close.body_hash if answered is None else answered.body_hash

    @property
    def bond_to(self) -> Address:
        """Whose delegation is recorded; `NOBODY` for none."""
        answered = self.answered
        return NOBODY if answered is None else answered.bond_to

    @property
    def buried_at(self) -> BlockNumber | None:
        """The block that fixed the outcome, None while it is open."""
        ends = (BlockNumber(fact.block.number) for fact in self.later if isinstance(fact, SeenFinal | SeenSettle))
        return next(ends, None)

    @property
    def case(self) -> Case:
        """What the judge is shown. A delegation can only be attached to a challenge that lacks one (tie rule)."""
        attachable = self.answered is not None and not self.overtaken and self.bond_to == NOBODY
        return Case(
            version=self.version,
            deadline=self.close.deadline,
            delegated=not attachable,
            final=self.buried_at is not None,
        )

    def before(self, height: int) -> Closing | None:
        """What is left of it when every block above `height` is gone; None if the close itself is."""
        if self.close.block.number > height:
            return None
        return replace(self, later=tuple(fact for fact in self.later if fact.block.number <= height))


@dataclass(frozen=True, slots=True)
class Gap:
    """A close is missing: the event after index `seen` has index `found`."""

    seen: int
    found: int


class Closings:
    """The closes since a block below which everything is buried, by channel."""

    def __init__(self, *, closings: int | None) -> None:
        """`closings`: how many closes there were up to the block from which facts are told; None if not known."""
        self._base = closings
        self._indices: list[tuple[BlockNumber, int]] = []
        self.open: dict[ChannelId, Closing] = {}

    @property
    def count(self) -> int | None:
        """Index of the newest close seen."""
        return self._indices[-1][1] if self._indices else self._base

    def see_close(self, close: SeenClose) -> Gap | None:
        """Add a close (one that is known is no news); the gap it leaves, if any."""
        known = self.open.get(close.channel_id)
        if known is not None and known.close == close:
            return None
        before = self.count
        gap = None if before is None or close.index == before + 1 else Gap(before, close.index)
        self._indices.append((BlockNumber(close.block.number), close.index))
        self.open[close.channel_id] = Closing(close=close)
        return gap

    def see(self, fact: Later) -> None:
        """Add what followed a close; facts of channels that are not closing are none of ours."""
        closing = self.open.get(fact.channel_id)
        if closing is not None and fact not in closing.later:
            self.open[fact.channel_id] = replace(closing, later=(*closing.later, fact))

    def rewind(self, height: int) -> tuple[ChannelId, ...]:
        """Forget the blocks above `height`; the channels whose close is gone with them."""
        self._indices = [entry for entry in self._indices if entry[0] <= height]
        gone = []
        for channel_id, closing in list(self.open.items()):
            left = closing.before(height)
            if left is None:
                del self.open[channel_id]
                gone.append(channel_id)
            else:
                self.open[channel_id] = left
        return tuple(gone)

    def bury(self, finalized: int, done: frozenset[ChannelId] = frozenset()) -> tuple[BlockNumber, int | None]:
        """Drop what was decided at or below the finalized block, and the channels in `done`.

        Returns:
            The block up to which nothing has to be read again, and the number of closes up to it.
        """
        for channel_id, closing in list(self.open.items()):
            end = closing.buried_at
            if channel_id in done or (end is not None and end <= finalized):
                del self.open[channel_id]
        first = min((closing.close.block.number for closing in self.open.values()), default=finalized + 1)
        until = BlockNumber(min(finalized, first - 1))
        passed = [index for block, index in self._indices if block <= until]
        if passed:
            self._base = passed[-1]
            self._indices = [entry for entry in self._indices if entry[0] > until]
        return until, self._base
