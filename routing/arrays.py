"""The directions of one token's channels as flat numpy arrays, for lower bounds of what ways cost.

Beside networkx, which holds what is known, these hold the same in the form that arithmetic over a hundred thousand
directions needs: one element for each direction, changed in place as gossip arrives. Only when channels come or go the
order in which a search over all nodes reads them (`Order`) is made anew, once, by the next search.

Every number here errs to the side of *cheaper*: floats round, amounts may have 88 bits, and a bound that is too low
only makes a search slower, while one that is too high would make it wrong. A direction costs, for a lock of `amount`,
at least

    flat + amount * (rate + HOP + WEIGHT * -ln(1 - amount * doubt))        base units

with fee and lock time in the first two, and the doubt whether it has the amount in the last. Of a channel that
something was learned of (`learn`), what is left of that is counted instead. And a direction carries `most` at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from channeld.base.units import ChannelId, NodeId, Side
from routing.cost import HOP, RISK, UNIT, WEIGHT
from routing.edges import Edge
from routing.fees import PER_MILLION
from routing.liquidity import HALF_LIFE, LEAST, STEP, Belief, Liquidity

Floats = NDArray[np.float64]
Numbers = NDArray[np.int32]

LOGGED: Final = 4_096
WINDOW: Final = 10 * STEP
"""Seconds of chain time for which one bound of what was learned holds, as it fades."""
LARGE: Final = 0.3
"""A share of which the logarithm is taken; the series is far below it from there on."""
_FIRST: Final = 64
_RISK: Final = RISK / UNIT
_FLOATS: Final = ("flat", "rate", "doubt", "least_lock", "most", "toll_flat", "toll_rate", "delta")
_BALANCES: Final = ("capacity", "least", "held", "since", "known")


@dataclass(frozen=True, slots=True)
class Order:
    """What a search over all nodes reads, as long as no channel comes or goes. `n` nodes, `m` directions."""

    by_source: Numbers
    """m: directions by their source."""
    onward: Numbers
    """m: the target of each of these."""
    out_at: Numbers
    """n + 1: where in `by_source` each source begins."""
    into: Numbers
    """m: directions by target."""
    into_at: Numbers
    """n + 1: where in `into` each target begins."""


class Log:
    """Numbers in the order they were told; the last `LOGGED` of them, or more, can be read again."""

    def __init__(self) -> None:
        self.end = 0
        self._kept: list[int] = []

    def add(self, number: int) -> None:
        self.end += 1
        self._kept.append(number)
        if len(self._kept) >= 2 * LOGGED:
            del self._kept[:LOGGED]

    def since(self, end: int) -> list[int] | None:
        """What was told after there were `end`; None if not all of it is kept."""
        missed = self.end - end
        return None if missed > len(self._kept) else self._kept[len(self._kept) - missed :]


class Arrays:
    """Mutable; one owner, the graph. `version` counts all changes, `renumbered` those that gave nodes other numbers."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, int] = {}
        self.names: list[NodeId] = []
        self.edges: list[Edge | None] = []
        """By direction, two for each channel; None where there is none any more."""
        self.version = self.renumbered = 0
        self.cheaper = Log()
        """Directions that have become cheaper, or carry more."""
        self.source: Numbers = np.zeros(_FIRST, np.int32)
        self.target: Numbers = np.zeros(_FIRST, np.int32)
        self.flat: Floats = np.zeros(_FIRST)
        self.rate: Floats = np.zeros(_FIRST)
        self.doubt: Floats = np.zeros(_FIRST)
        self.least_lock: Floats = np.zeros(_FIRST)
        """It passes on no payment of less."""
        self.most: Floats = np.full(_FIRST, -1.0)
        self.toll_flat: Floats = np.zeros(_FIRST)
        self.toll_rate: Floats = np.zeros(_FIRST)
        self.delta: Floats = np.zeros(_FIRST)
        self.capacity: Floats = np.zeros(_FIRST)
        self.least: Floats = np.zeros(_FIRST)
        """What the sender of this direction had at least when that was learned."""
        self.held: Floats = np.zeros(_FIRST)
        """What it had at most."""
        self.since: Floats = np.zeros(_FIRST)
        self.known: NDArray[np.bool_] = np.zeros(_FIRST, bool)
        """Whether anything was learned of its balance."""
        self.teacher: Liquidity | None = None
        """Whose beliefs these are."""
        self._slots: dict[ChannelId, int] = {}
        self._free: list[int] = []
        self._known: set[ChannelId] = set()
        self._order: Order | None = None

    # -- gossip

    def set(self, edge: Edge) -> None:
        """Take in a direction, or what is new of it."""
        slot = self._slots.get(edge.channel_id)
        if slot is None:
            slot = self._take(edge)
        at = 2 * slot + edge.side
        before, self.edges[at] = self.edges[at], edge
        self._fill(at, edge)
        self.version += 1
        if _may_be_cheaper(before, edge):
            self.cheaper.add(at)
        if before is None and self.teacher is not None and (belief := self.teacher.belief(edge.channel_id)) is not None:
            self.learn([(edge.channel_id, belief)])

    def drop(self, channel_id: ChannelId) -> None:
        """Forget a channel; its place is for the next."""
        slot = self._slots.pop(channel_id)
        for at in (2 * slot, 2 * slot + 1):
            self.edges[at], self.most[at], self.known[at] = None, -1.0, False
        self._known.discard(channel_id)
        self._free.append(slot)
        self._order = None
        self.version += 1
        if len(self._free) > len(self._slots) + _FIRST:
            self._compact()

    def learn(self, beliefs: Iterable[tuple[ChannelId, Belief | None]]) -> None:
        """Something is known of these channels' balances: how unlikely an amount is, is not said by capacity alone."""
        for channel_id, belief in beliefs:
            slot = self._slots.get(channel_id)
            if slot is None:
                continue
            here, there = 2 * slot, 2 * slot + 1
            if channel_id not in self._known:
                self._known.add(channel_id)
                self.doubt[here] = self.doubt[there] = 0.0
            self.cheaper.add(here)
            self.cheaper.add(there)
            if (
                belief is None
                or belief.most is None
                or belief.capacity is None
                or float(belief.capacity) != self.capacity[here]
            ):
                self.known[here] = self.known[there] = False
            else:
                self.least[here], self.held[here] = belief.least, belief.most
                self.least[there], self.held[there] = belief.capacity - belief.most, belief.capacity - belief.least
                self.since[here] = self.since[there] = belief.at
                self.known[here] = self.known[there] = True

    def forget(self) -> None:
        """Nothing is known any more of any balance."""
        known, self._known = self._known, set()
        for slot in map(self._slots.__getitem__, known):
            for at in (2 * slot, 2 * slot + 1):
                self.known[at], self.least[at], self.since[at], self.held[at] = False, 0.0, 0.0, self.capacity[at]
                if (edge := self.edges[at]) is not None:
                    self._fill(at, edge)
        self.version += 1

    # -- a search

    def place(self, channel_id: ChannelId, side: Side) -> int | None:
        """The number of a direction."""
        slot = self._slots.get(channel_id)
        return None if slot is None else 2 * slot + side

    def edge(self, channel_id: ChannelId, side: Side) -> Edge | None:
        """The direction as it was last set."""
        at = self.place(channel_id, side)
        return None if at is None else self.edges[at]

    @property
    def order(self) -> Order:
        if self._order is None:
            self._order = self._sorted()
        return self._order

    def bound(self, at: Any, amount: float, *, window: int | None) -> Floats:
        """Least cost of a lock of `amount` over these directions, base units, as if all carried it.

        Args:
            at: numbers of directions, or a slice.
            window: for which `WINDOW` of chain time beliefs are counted, its first second; None: none are.
        """
        rate = self.rate[at]
        if window is not None:
            rate = rate + (HOP / UNIT + WEIGHT / UNIT * _nats(amount * self.doubt[at]))
        cost: Floats = self.flat[at] + amount * rate
        if window is not None:
            some = np.flatnonzero(self.known[at])
            if len(some):
                cost[some] += amount * self._least_doubt(some if isinstance(at, slice) else at[some], amount, window)
        return cost

    def _least_doubt(self, at: Any, amount: float, window: int) -> Floats:
        """Of learned channels, whenever in that time: what holds of it only falls, so the chance lies between those at
        both ends. A unit less is asked for, as these are floats."""
        ends = (self.chances(at, np.asarray(amount - 1.0), now) for now in (window, window + WINDOW))
        found: Floats = -np.log(np.maximum(*ends)) * (WEIGHT / UNIT)
        return found

    def chances(self, at: Any, amounts: Floats, now: int) -> Floats:
        """As `Liquidity.chance`, of many directions at once; their capacities are known."""
        age = np.maximum(now - self.since[at], 0.0)
        halvings = np.floor(age / HALF_LIFE)
        holds = np.exp2(-halvings) * (1 - (age / HALF_LIFE - halvings) / 2)
        capacity, least, held = self.capacity[at], self.least[at], self.held[at]
        known = np.clip((held - amounts + 1) / (held - least + 1), 0.0, 1.0)
        unknown = np.maximum((capacity - amounts + 1) / (capacity + 1), LEAST)
        found: Floats = np.clip(holds * known + (1 - holds) * unknown, LEAST, 1.0)
        return found

    def into(self, node: int) -> Numbers:
        """Directions that lead to `node`."""
        order = self.order
        return order.into[order.into_at[node] : order.into_at[node + 1]]

    def out_of(self, node: int) -> Numbers:
        """Directions that lead from `node`."""
        order = self.order
        return order.by_source[order.out_at[node] : order.out_at[node + 1]]

    # -- within

    def _take(self, edge: Edge) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = len(self.edges) // 2
            self.edges += [None, None]
            if 2 * slot >= len(self.source):
                self._grow(2 * len(self.source))
        self._slots[edge.channel_id] = slot
        here, there = self._node(edge.source), self._node(edge.target)
        at, back = 2 * slot + edge.side, 2 * slot + edge.side.other
        self.source[at] = self.target[back] = here
        self.target[at] = self.source[back] = there
        self.most[back] = -1.0
        self._order = None
        return slot

    def _node(self, name: NodeId) -> int:
        number = self.nodes.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number

    def _fill(self, at: int, edge: Edge) -> None:
        policy = edge.policy
        if edge.capacity is not None and self.capacity[at] != edge.capacity:
            # Of a learned channel nothing is counted until more is learned: what was may be on either side now.
            self.capacity[at] = self.held[at] = edge.capacity
            self.least[at], self.since[at], self.known[at] = 0.0, 0.0, False
        if policy is None or policy.disabled:
            self.most[at] = -1.0
            return
        waits = policy.expiry_delta * _RISK
        self.toll_flat[at], self.toll_rate[at] = policy.fee_base, policy.fee_ppm / PER_MILLION
        self.flat[at] = policy.fee_base * (1 + waits)
        self.rate[at] = policy.fee_ppm / PER_MILLION * (1 + waits) + waits
        self.delta[at] = policy.expiry_delta
        most = policy.max_lock if edge.capacity is None else min(policy.max_lock, edge.capacity)
        self.most[at] = np.nextafter(float(most), np.inf)
        self.least_lock[at] = np.nextafter(float(policy.min_lock), 0.0)
        unknown = edge.capacity is not None and edge.channel_id not in self._known
        self.doubt[at] = 1 / (edge.capacity + 1) if unknown and edge.capacity is not None else 0.0

    def _grow(self, size: int) -> None:
        for name in ("source", "target", *_FLOATS, *_BALANCES):
            old = getattr(self, name)
            new = np.zeros(size, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def _compact(self) -> None:
        """Number nodes and channels anew, without those that are gone."""
        fresh = Arrays()
        fresh.teacher = self.teacher
        for edge in self.edges:
            if edge is not None:
                fresh.set(edge)
        fresh.version, fresh.renumbered = self.version + 1, self.renumbered + 1
        self.__dict__.update(fresh.__dict__)

    def _sorted(self) -> Order:
        some = np.array([at for at, edge in enumerate(self.edges) if edge is not None], np.int32)
        every = np.arange(len(self.names) + 1)
        by_source = some[np.argsort(self.source[some], kind="stable")]
        into = some[np.argsort(self.target[some], kind="stable")]
        out_at = np.searchsorted(self.source[by_source], every).astype(np.int32)
        into_at = np.searchsorted(self.target[into], every).astype(np.int32)
        return Order(by_source, self.target[by_source], out_at, into, into_at)


def _nats(shares: Floats) -> Floats:
    """At least -ln(1 - share): of small ones the first terms of the series, as a logarithm of all takes too long."""
    found: Floats = shares * (1 + shares * (1 / 2 + shares * (1 / 3 + shares / 4)))
    large = np.flatnonzero(shares > LARGE)
    found[large] = -np.log(np.maximum(1 - shares[large], LEAST))
    return found


def _may_be_cheaper(before: Edge | None, after: Edge) -> bool:
    """Or carry more, or less."""
    new, old = after.policy, None if before is None else before.policy
    if new is None or new.disabled:
        return False
    return (
        before is None
        or old is None
        or old.disabled
        or new.fee_base < old.fee_base
        or new.fee_ppm < old.fee_ppm
        or new.expiry_delta < old.expiry_delta
        or new.min_lock < old.min_lock
        or new.max_lock > old.max_lock
        or after.capacity != before.capacity
    )
