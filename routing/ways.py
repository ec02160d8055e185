"""The cheapest way that can carry a payment, searched backwards from the payee with exact amounts.

Backwards, because fees compound: what a hop must carry is known only once all hops behind it are priced. A label is a
priced way from some node to the payee: its cost, what the node must be sent, and for how long. Labels leave a heap in
the order of their cost and of what the rest costs at least (A*, with `bounds`). One label per node would not do: a
dearer label with a smaller amount may be cheaper farther on, since fees grow with the amount. So a label is dropped
only if an earlier (no dearer) one of its node is no larger either; and where limits bind, no longer in those. What an
edge adds to the cost must never fall when the amount grows; that, and the dropping, make the answer the optimum and
every way simple.

Cost = fee + risk of the money being locked (amount x seconds) + penalty from what was learned (`cost`), in 10**-12 of a
base unit, so nothing is rounded. `min_lock` is held against what the payee gets: a hop whose minimum is only reached by
the fees it carries is not used.

The way that the bounds' own search found is priced first: nothing dearer needs a look, and of a hub's thousands of
channels numpy picks those that could do as well. First the search minds no limits on fees, hops and time, which nearly
always suffices; only when its answer breaks one it runs again minding them, led by bounds in these too. When there is
no way, it is asked again with one limit lifted at a time, so that the refusal names the reason. Ties are broken by
amount, time, hops and channel ids, never by the order in which gossip came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from typing import Any, Final

import numpy as np

from channeld.base.units import MAX_AMOUNT, Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp
from routing.bounds import Bound, What, window
from routing.cost import RISK, UNIT
from routing.edges import Direction, Edge, Terms
from routing.graph import Graph
from routing.liquidity import Liquidity

MAX_LABELS: Final = 256
"""Labels a node may have; only a graph made to be slow has more, and then cheaper ones still come first."""
MAX_MADE: Final = 30_000
"""Labels made for one question, its searches for the reason of a refusal included: about 0.3 s. An invoice with hints
can ask for a way that takes much longer, and nothing else is done meanwhile. Usually some hundreds are made."""
HARD: Final = 40
"""A search that looks at more is begun again with bounds for its very amount, made anew: those that were kept do not
know what was learned of hops that have just refused it."""
FEW: Final = 12
"""So many directions are looked at one by one sooner than by numpy."""
FEES: Final = 64
"""A channel of ours that has no more than this part of the amount left over for fees is looked at apart."""
_DOWN: Final = 1 - 2.0**-50
_UP: Final = 1 + 2.0**-24
"""As `bounds._DOWN`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnChannel:
    """A channel of the payer's, with the payer on `side`; `spendable` is the largest lock it can offer now."""

    channel_id: ChannelId
    side: Side
    peer: NodeId
    token: Address
    spendable: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None: no limit. Base units, hops with our own, seconds."""

    fee: int | None = None
    hops: int | None = None
    expiry: int | None = None
    own_short: bool = False
    """Whether own channels may be used for more than they hold; to find out why there is no way."""

    @property
    def bind(self) -> bool:
        return not (self.fee is self.hops is self.expiry is None)


@dataclass(frozen=True, slots=True)
class Label:
    """A way from `node` to the payee: what `node` must be sent, for how long, and the edges, payee's side first."""

    cost: int
    amount: Amount
    expiry: Seconds
    trail: tuple[ChannelId, ...]
    node: NodeId
    edges: tuple[Edge, ...]
    own: OwnChannel | None = None

    def rank(self, rest: int) -> tuple[int, int, int, int, tuple[ChannelId, ...]]:
        return self.cost + rest, self.amount, self.expiry, len(self.trail), self.trail


class Ways:
    """One question, with its arguments sorted for the search. Arguments as for `search.find_route`."""

    def __init__(
        self,
        graph: Graph,
        source: NodeId,
        target: NodeId,
        token: Address,
        amount: Amount,
        final_expiry_delta: Seconds,
        own_channels: Iterable[OwnChannel],
        hints: Iterable[Edge],
        exclude: AbstractSet[Direction],
        short: Mapping[Direction, Amount],
        terms: Terms,
        liquidity: Liquidity | None,
        now: Timestamp,
    ) -> None:
        own: dict[NodeId, list[OwnChannel]] = defaultdict(list)
        for channel in sorted(own_channels, key=lambda channel: (channel.spendable, channel.channel_id)):
            if channel.token == token and (channel.channel_id, channel.side) not in exclude:
                own[channel.peer].append(channel)
        into: dict[NodeId, list[Edge]] = defaultdict(list)
        for hint in hints:
            into[hint.target].append(hint)
        self.source, self.target, self.amount, self.final_expiry_delta = source, target, amount, final_expiry_delta
        self.own, self.hints, self._exclude, self._short = dict(own), dict(into), exclude, short
        self._terms = terms
        self.liquidity, self.now = liquidity, now
        self.closed = [*exclude, *(direction for direction, most in short.items() if amount >= most)]
        self._knows = graph.knows(target, token)
        self._free: dict[bool, Label | None] = {}
        """The best without limits; by whether our own channels may be used for more than they hold."""
        self._made = 0
        self.flat = graph.flat(token)

    def knows_payee(self) -> bool:
        return self.target in self.own or self.target in self.hints or self._knows

    def best(self, limits: Limits) -> Label | None:
        """The optimum within `limits`: first without those on fees, hops and time, then, if it breaks them, with."""
        if limits.own_short not in self._free:
            self._free[limits.own_short] = self._search(Limits(own_short=limits.own_short))
        found = self._free[limits.own_short]
        if found is not None and limits.bind and _breaks(found, self.amount, limits):
            return self._search(limits)
        return found

    # -- the search

    def _search(self, limits: Limits, *, exact: bool = False) -> Label | None:
        rest = _Rest(self, limits, exact=exact)
        start = Label(0, self.amount, self.final_expiry_delta, (), self.target, ())
        first = rest.of(start)
        if first is None:
            return None
        sure = None if limits.bind else self._sure(rest, limits.own_short)
        ceiling = None if sure is None else sure.cost
        bounded = limits.hops is not None or limits.expiry is not None
        settled: dict[NodeId, list[Label]] = defaultdict(list)
        heap = [(start.rank(first), start)]
        looks = 0
        while heap and self._made < MAX_MADE:
            label = heappop(heap)[1]
            if label.own is not None:
                return label
            known = settled[label.node]
            if len(known) >= MAX_LABELS or _dominated(label, known, bounded):
                continue
            known.append(label)
            looks += 1
            if looks == HARD and not exact:
                return self._search(limits, exact=True)
            for farther in self._extend(label, rest, limits.own_short, ceiling):
                self._made += 1
                left = rest.of(farther)
                if (
                    left is None
                    or farther.amount > MAX_AMOUNT
                    or (ceiling is not None and farther.cost + left > ceiling)
                ):
                    continue
                if farther.own is not None or not _dominated(farther, settled[farther.node], bounded):
                    heappush(heap, (farther.rank(left), farther))
        return sure

    def _sure(self, rest: _Rest, own_short: bool) -> Label | None:
        """A way that a bound's own search found, if one can carry the payment: no dearer one needs a look, and it is
        the answer if too many would be needed for a better one. To the payee itself, and to where its hints begin."""
        start = Label(0, self.amount, self.final_expiry_delta, (), self.target, ())
        last = (self._over(start, hint) for hint in self.hints.get(self.target, ()) if hint.source != self.source)
        ends = [start, *(label for label in last if label is not None)]
        found = (self._priced(end, guide, own_short) for guide in rest.guides for end in ends)
        return min((label for label in found if label is not None), key=lambda label: label.cost, default=None)

    def _priced(self, end: Label, guide: _Guide, own_short: bool) -> Label | None:
        label: Label | None = end
        for node in guide.way(end.node):
            if label is None:
                return None
            farther = [self._over(label, edge) for edge in self._edges_into(label.node) if edge.source == node]
            label = min((one for one in farther if one is not None), key=lambda one: one.cost, default=None)
        own = None if label is None else self._first(label, own_short)
        return None if label is None or own is None else self._by(label, own)

    def _by(self, label: Label, own: OwnChannel) -> Label:
        """The whole way, over our own channel."""
        trail = (*label.trail, own.channel_id)
        return Label(label.cost, label.amount, label.expiry, trail, self.source, label.edges, own)

    def _edges_into(self, node: NodeId) -> Iterator[Edge]:
        if self.flat is not None and (number := self.flat.arrays.nodes.get(node)) is not None:
            arrays = self.flat.arrays
            for at in arrays.into(number).tolist():
                if (edge := arrays.edges[at]) is not None:
                    yield edge

    def _extend(self, label: Label, rest: _Rest, own_short: bool, ceiling: int | None) -> Iterator[Label]:
        """The ways one hop longer: by our own cheapest sufficient channel, which ends it, and by others' edges."""
        own = self._first(label, own_short)
        if own is not None:
            yield self._by(label, own)
        for edge in (*rest.promising(label, ceiling), *self.hints.get(label.node, ())):
            if edge.source != self.source:
                farther = self._over(label, edge)
                if farther is not None:
                    yield farther

    def _first(self, label: Label, own_short: bool) -> OwnChannel | None:
        """Our own channel to pay it over: the smallest that suffices; larger ones are kept for larger payments."""
        mine = self.own.get(label.node, ())
        return next((channel for channel in mine if own_short or channel.spendable >= label.amount), None)

    def _over(self, label: Label, edge: Edge) -> Label | None:
        """The way that reaches `label` over `edge`, if the edge can carry it."""
        if self._terms:  # stricter than the graph's, so the bounds still are
            edge = edge.under(self._terms)
        policy, amount = edge.policy, label.amount
        direction = edge.channel_id, edge.side
        if policy is None or not edge.carries(amount) or policy.min_lock > self.amount or direction in self._exclude:
            return None
        if direction in self._short and amount >= self._short[direction]:
            return None
        kept = policy.fee(amount)
        due = Amount(amount + kept)
        cost = label.cost + kept * UNIT + due * policy.expiry_delta * RISK
        if self.liquidity is not None:
            cost += amount * self.liquidity.penalty(direction, amount, edge.capacity, self.now)
        expiry = Seconds(label.expiry + policy.expiry_delta)
        return Label(cost, due, expiry, (*label.trail, edge.channel_id), edge.source, (*label.edges, edge))


class _Rest:
    """What the rest of a way costs at least, back to the payer; None where no rest keeps within the limits.

    Some of our channels have just the amount and little for fees: whether they can still be used depends on what a
    label must be sent already, and on what fees there must be before it. They have a bound of their own, or every
    search would be led to them in vain. Within limits there are bounds in fees, hops and time too.
    """

    def __init__(self, ways: Ways, limits: Limits, *, exact: bool) -> None:
        self._limits, self._amount, self._ways = limits, ways.amount, ways
        more = ways.amount + ways.amount // FEES + 1
        most = {peer: mine[-1].spendable for peer, mine in ways.own.items() if mine[-1].spendable >= ways.amount}
        if limits.own_short:
            ample, tight = set(ways.own), set[NodeId]()
        else:
            ample = {peer for peer, room in most.items() if room >= more}
            tight = set(most) - ample
        self._tightest = max((most[peer] for peer in tight), default=Amount(0))
        self._ample = _Guide(ways, What.COST, ample, exact=exact)
        self._few, self._exact = tight, exact
        some = ample | tight
        self._limited = [_Guide(ways, what, some) for what in (What.FEE, What.HOPS, What.TIME)] if limits.bind else []

    @property
    def guides(self) -> Iterator[_Guide]:
        yield self._ample
        if "_tight" in self.__dict__:
            yield self._tight[0]

    @cached_property
    def _tight(self) -> tuple[_Guide, _Guide]:
        """In cost and in fees, over the channels with little for fees. Made when a label could still use one."""
        ways = self._ways
        return _Guide(ways, What.COST, self._few, exact=self._exact), _Guide(ways, What.FEE, self._few)

    def of(self, label: Label) -> int | None:
        if label.own is not None:
            return None if self._limited and _breaks(label, self._amount, self._limits) else 0
        least = self._ample.rest(label.node)
        if not label.edges and least is not None and self._few:
            return 0  # where the search begins no bound is needed
        if label.amount <= self._tightest:
            fee = self._tight[1].rest(label.node)
            if fee is not None and label.amount + fee <= self._tightest:
                other = self._tight[0].rest(label.node)
                least = other if least is None or (other is not None and other < least) else least
        return None if least is None or (self._limited and self._too_much(label)) else least

    def promising(self, label: Label, ceiling: int | None) -> list[Edge]:
        """Directions into the label's node over which a way of at most `ceiling` may come."""
        flat = self._ways.flat
        number = None if flat is None else flat.arrays.nodes.get(label.node)
        if flat is None or number is None:
            return []
        arrays = flat.arrays
        at: Any = arrays.into(number)
        if len(at) > FEW:
            cost = arrays.bound(at, float(label.amount), window=self._ample.window)
            cost *= UNIT
            sources = arrays.source[at]
            left = self._ample.steps(sources)
            if label.amount <= self._tightest and "_tight" in self.__dict__:
                fits = label.amount * _DOWN + self._tight[1].steps(sources) <= self._tightest
                left = np.minimum(left, np.where(fits, self._tight[0].steps(sources), np.inf))
            elif label.amount <= self._tightest:  # most labels one hop on are larger: without those bounds, till needed
                left = np.zeros(len(at))
            most = np.finfo(float).max if ceiling is None else (ceiling - label.cost) * _UP
            at = at[(cost + left <= most) & (arrays.most[at] >= float(label.amount))]
        return [edge for edge in map(arrays.edges.__getitem__, at.tolist()) if edge is not None]

    def _too_much(self, label: Label) -> bool:
        """Whether no way on from `label` keeps within the limits."""
        fee, hops, time = (guide.rest(label.node) or 0 for guide in self._limited)
        limits = self._limits
        return (
            (limits.fee is not None and label.amount + fee > self._amount + limits.fee)
            or (limits.hops is not None and len(label.trail) + 1 + hops > limits.hops)
            or (limits.expiry is not None and label.expiry + time > limits.expiry)
        )


class _Guide:
    """What a way from the payer to a node costs at least, for one `Ways`, hints included."""

    def __init__(self, ways: Ways, what: What, peers: set[NodeId], *, exact: bool = False) -> None:
        """From the payer over its channels with `peers`."""
        self.window = None if ways.liquidity is None else window(ways.now)
        self._bound: Bound | None = None
        self._shortcut: int | None = None
        """What a way to some node of gossip costs at least that leads over hints: no bound is above it."""
        self._off_graph: dict[NodeId, int] = dict.fromkeys(peers, 0)
        self._arrays = None
        if ways.flat is not None:
            self._arrays = ways.flat.arrays
            self._bound = ways.flat.bounds.get(
                what, ways.source, peers, ways.closed, ways.amount, ways.liquidity, ways.now, exact=exact
            )
        self._follow(ways.hints)

    def steps(self, nodes: Any) -> Any:
        """As `rest`, of many nodes that gossip knows, as floats."""
        if self._bound is None:
            return np.full(len(nodes), 0.0 if self._shortcut is not None else np.inf)
        steps = self._bound.steps[nodes] * float(self._bound.unit)
        return steps if self._shortcut is None else np.minimum(steps, float(self._shortcut) * _DOWN)

    def rest(self, node: NodeId) -> int | None:
        """In the unit of what is asked; None if no way leads to `node`."""
        found = self._off_graph.get(node)
        if found is None and self._bound is not None and self._arrays is not None:
            number = self._arrays.nodes.get(node)
            found = None if number is None else self._bound.at(number)
        if self._shortcut is not None:
            found = self._shortcut if found is None else min(found, self._shortcut)
        return found

    def way(self, node: NodeId) -> Iterator[NodeId]:
        """The nodes before `node` on the way that costs that, the nearest first."""
        if self._bound is None or self._arrays is None:
            return
        number = self._arrays.nodes.get(node, -1)
        while number >= 0 and (number := self._bound.before.item(number)) >= 0:
            yield self._arrays.names[number]

    def _follow(self, hints: dict[NodeId, list[Edge]]) -> None:
        """Take in hints, as if their hops cost nothing: nodes only they lead to, and shortcuts to those of gossip."""
        for _ in hints:
            for target, edges in hints.items():
                rests = [rest for edge in edges if (rest := self.rest(edge.source)) is not None]
                known = self.rest(target)
                if not rests or (known is not None and known <= min(rests)):
                    continue
                if self._arrays is not None and target in self._arrays.nodes:
                    self._shortcut = min(rests)
                else:
                    self._off_graph[target] = min(rests)


def _breaks(label: Label, amount: Amount, limits: Limits) -> bool:
    return (
        (limits.fee is not None and label.amount > amount + limits.fee)
        or (limits.hops is not None and len(label.trail) > limits.hops)
        or (limits.expiry is not None and label.expiry > limits.expiry)
    )


def _dominated(label: Label, earlier: list[Label], bounded: bool) -> bool:
    """Whether one of the settled labels, all no dearer, is in nothing worse than `label`."""
    if not bounded:  # each was smaller than those before it
        return bool(earlier) and earlier[-1].amount <= label.amount
    return any(
        other.amount <= label.amount and other.expiry <= label.expiry and len(other.trail) <= len(label.trail)
        for other in earlier
    )
