"""What past tries taught about each channel's balance, fading with the `now` that is passed in.

Of each channel we keep between which bounds the balance of side A lies; B has the rest. A lock that went through says
that its sender had that much, one that did not that it had less; a settled one moved it. What lies between the bounds
is thought equally likely (uniform, as in Pickhardt & Richter, arXiv 2107.05322), so a channel nobody has tried has an
amount with probability 1 - amount / (capacity + 1). Balances move: after a `HALF_LIFE` what was learned is thought to
hold with one half, and with the other half nothing is known.

The chance of a larger amount is never higher, and nothing is ever held to be impossible (`LEAST`): the search relies on
the first, and the second lets it try the only way there is. Time passes in steps of `STEP`, so that within one an
answer stays an answer. A channel whose capacity is unknown (a hint of an invoice) has bounds, and between them
`HINTED`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import Final

from channeld.base.units import Amount, ChannelId, Seconds, Side, Timestamp
from routing.cost import HOP, WEIGHT
from routing.edges import Direction

HALF_LIFE: Final = Seconds(6 * 3600)
"""LDK's scorer forgets its bounds over the same six hours."""
STEP: Final = Seconds(60)
MAX_CHANNELS: Final = 50_000
LEAST: Final = 1e-6
"""The chance of what has just failed."""
HINTED: Final = 0.9
RECENT: Final = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Side A's balance was `least` .. `most` at the time `at`, base units inclusive.

    `capacity` None: unknown; only then may `most` be None, no bound. ValueError for anything out of range.
    """

    capacity: Amount | None
    least: int
    most: int | None
    at: Timestamp

    def __post_init__(self) -> None:
        most, capacity = self.most, self.capacity
        fits = capacity is None if most is None else self.least <= most and (capacity is None or most <= capacity)
        if self.least < 0 or not fits or not 0 <= self.at < 2**32:
            raise ValueError(f"belief out of range: {self}")

    def bounds(self, capacity: Amount | None, age: int = 0) -> tuple[int, int | None]:
        """Both in a channel that holds `capacity` now; after `age` seconds half as near to what nobody knows for each
        `HALF_LIFE`: what something new is learned on top of. At least 0, and at most the capacity.

        What was learned of a hint says nothing of the channel once gossip knows it, nor the other way round: whoever
        made the hint may have lied about either.
        """
        if self.capacity is None and capacity is None:
            return _faded(self.least, age), self.most if age < HALF_LIFE else None
        if self.capacity is None or capacity is None or self.most is None:
            return 0, capacity
        least = max(0, _faded(self.least, age) - max(0, self.capacity - capacity))
        most = max(0, capacity - _faded(self.capacity - self.most, age))  # what was paid in may be on either side
        return min(least, most), most

    def weight(self, capacity: Amount, now: Timestamp) -> float:
        """How much it says by now of a channel that holds `capacity`: nearly 1 that its balance is known, 0 nothing."""
        least, most = self.bounds(capacity)
        return 0.0 if most is None else left(now - self.at) * (1 - (most - least + 1) / (capacity + 1))


class Liquidity:
    """The memory of a payer, bounded: what was learned longest ago goes first. Mutable; one owner.

    `version` counts what was learned or forgotten, and `recent` holds the last of it: beliefs, None where none is left.
    `changed` names the channels of which something was since somebody last cleared it, to write it down.
    """

    def __init__(self, beliefs: Iterable[tuple[ChannelId, Belief]] = (), *, max_channels: int = MAX_CHANNELS) -> None:
        """`beliefs`: as `export` gave them, oldest first."""
        self.version = 0
        self.recent: deque[tuple[ChannelId, Belief | None]] = deque(maxlen=RECENT)
        self.changed: set[ChannelId] = set()
        self._max_channels = max_channels
        self._beliefs: OrderedDict[ChannelId, Belief] = OrderedDict()
        for channel_id, belief in beliefs:
            self._keep(channel_id, belief)

    def __len__(self) -> int:
        return len(self._beliefs)

    def export(self) -> tuple[tuple[ChannelId, Belief], ...]:
        """Everything known, oldest first."""
        return tuple(self._beliefs.items())

    def belief(self, channel_id: ChannelId) -> Belief | None:
        return self._beliefs.get(channel_id)

    # -- learning

    def carried(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> None:
        """A lock of `amount` went through here and came back: the sender has at least that much."""
        least, most = self._range(direction, capacity, now)
        at_least = max(least, min(amount, capacity) if capacity is not None else amount)
        self._learn(direction, capacity, now, at_least, None if most is None or most < at_least else most)

    def settled(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> None:
        """A lock of `amount` was paid here: the sender had at least that much, and has it no more."""
        least, most = self._range(direction, capacity, now)
        left = max(0, least - amount)
        up = None if most is None else max(left, most - amount)
        self._learn(direction, capacity, now, left, up)

    def failed(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> None:
        """The sender would not pass `amount` on here: it has less."""
        least, most = self._range(direction, capacity, now)
        at_most = amount - 1 if most is None else min(most, amount - 1)
        self._learn(direction, capacity, now, least if least <= at_most else 0, max(0, at_most))

    def told(self, channel_id: ChannelId, belief: Belief) -> None:
        """Another payer has learned this; whether it is `news` was asked before."""
        self._keep(channel_id, belief)

    # -- asked

    @property
    def room(self) -> int:
        """Of how many channels more something can be known before the oldest are forgotten."""
        return self._max_channels - len(self._beliefs)

    def news(self, channel_id: ChannelId, belief: Belief, capacity: Amount, now: Timestamp) -> bool:
        """Whether what another payer has learned says more by now, of a channel with `capacity`, than what is known."""
        known = self._beliefs.get(channel_id)
        return belief.weight(capacity, now) > (0.0 if known is None else known.weight(capacity, now))

    def chance(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> float:
        """How likely the sender of this direction has `amount`, `LEAST` .. 1; never rises as `amount` grows.

        Args:
            direction: channel id and side it is sent from.
            amount: of the lock, base units, 1 or more.
            capacity: of the channel, base units; None: unknown.
            now: chain time.
        """
        unknown = HINTED if capacity is None else max(LEAST, (capacity - amount + 1) / (capacity + 1))
        belief = self._beliefs.get(direction[0])
        if belief is None:
            return unknown
        holds = left(now - now % STEP - belief.at)
        return max(
            LEAST,
            holds * _known(_seen(belief.bounds(capacity), direction[1], capacity), amount, capacity)
            + (1 - holds) * unknown,
        )

    def penalty(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> int:
        """Cost units for each base unit of a lock of `amount` over this hop, `HOP` or more."""
        return HOP + int(-log(self.chance(direction, amount, capacity, now)) * WEIGHT)

    # -- within

    def _range(self, direction: Direction, capacity: Amount | None, now: Timestamp) -> tuple[int, int | None]:
        """Bounds of the balance on this direction's side, as far as they have not faded."""
        belief = self._beliefs.get(direction[0])
        return (
            (0, capacity) if belief is None else _seen(belief.bounds(capacity, now - belief.at), direction[1], capacity)
        )

    def _learn(
        self, direction: Direction, capacity: Amount | None, now: Timestamp, least: int, most: int | None
    ) -> None:
        """Of the balance on this direction's side, now."""
        channel_id, side = direction
        if capacity is not None:
            most = capacity if most is None else most
            if side is Side.B:
                least, most = capacity - most, capacity - least
        self._keep(channel_id, Belief(capacity=capacity, least=least, most=most, at=now))

    def _keep(self, channel_id: ChannelId, belief: Belief) -> None:
        self.version += 1
        self.recent.append((channel_id, belief))
        self.changed.add(channel_id)
        self._beliefs[channel_id] = belief
        self._beliefs.move_to_end(channel_id)
        while len(self._beliefs) > self._max_channels:
            oldest, _ = self._beliefs.popitem(last=False)
            self.version += 1
            self.recent.append((oldest, None))
            self.changed.add(oldest)


def left(age: int) -> float:
    """How much of what was learned so long ago holds: halved once per `HALF_LIFE`, along straight lines between."""
    halvings, rest = divmod(max(age, 0), HALF_LIFE)
    return float(2.0**-halvings * (1 - rest / (2 * HALF_LIFE)))


def _seen(bounds: tuple[int, int | None], side: Side, capacity: Amount | None) -> tuple[int, int | None]:
    """Side A's bounds as those of `side`."""
    least, most = bounds
    return (least, most) if side is Side.A or capacity is None or most is None else (capacity - most, capacity - least)


def _known(bounds: tuple[int, int | None], amount: int, capacity: Amount | None) -> float:
    """The chance of `amount` between bounds that hold."""
    least, most = bounds
    if amount <= least:
        return 1.0
    if most is not None and amount > most:
        return 0.0
    return HINTED if capacity is None or most is None else (most - amount + 1) / (most - least + 1)


def _faded(weight: int, age: int) -> int:
    """As `left`, of an integer, rounded down."""
    halvings, rest = divmod(max(age, 0), HALF_LIFE)
    start = weight >> min(halvings, 128)
    return start - start * rest // (2 * HALF_LIFE)
