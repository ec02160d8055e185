"""The cheapest way that can carry a payment, searched backwards from the payee with exact amounts.

Backwards, because fees compound: what a hop must carry is known only once all hops behind it are priced.
A label is a priced way from some node to the payee: its cost, what the node must be sent, and for how long.
Labels leave a heap cheapest first (Dijkstra). One label per node would not do: a dearer label with a smaller
amount may be cheaper farther on, since fees grow with the amount. So a label is dropped only if an earlier
(no dearer) one of its node is no larger either; and where limits on hops or time bind, no longer in
those. What an edge adds to the cost must never fall when the amount grows; that, and the dropping, make
the answer the optimum and every way simple.

Cost = fee + risk of the money being locked (amount x seconds) + penalty from what was learned, in 10**-12 of a
base unit, so nothing is rounded. `min_lock` is held against what the payee gets: a hop whose minimum is only
reached by the fees it carries is not used.

First the search runs without limits on hops and time, which nearly always suffices; only when its answer
breaks one it runs again minding them. When there is no way, it is asked again with one limit lifted at a time,
so that the refusal names the reason. Ties are broken by amount, time, hops and channel ids, never by the
order in which gossip came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Final, Literal

from channeld.base.errors import Broken, Refused
from channeld.base.units import MAX_AMOUNT, Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp
from routing.fees import PER_MILLION, price
from routing.graph import Direction, Edge, Graph
from routing.liquidity import Liquidity

UNIT: Final = 10**12
"""Cost units in one base unit of the token."""
RISK: Final = 25
"""Cost units for each base unit locked for a second: LND's 15e-9 per block of 600 s."""
MAX_HOPS: Final = 20
"""As many as the onion holds with our payloads."""
MAX_LOCK_TIME: Final = Seconds(14 * 86_400)
MAX_LABELS: Final = 32
"""Labels a node may have; only a graph made to be slow has more, and then cheaper ones still come first."""

Reason = Literal["no_route", "own_channels_short", "fee_budget", "unknown_payee", "too_long"]


class NoRoute(Refused):
    """There is no way that keeps within what was asked; `code` says what is in the way.

    "unknown_payee": nobody has announced a channel or hint that leads there. "own_channels_short": the way is
    there, our own channels hold too little. "fee_budget", "too_long": only dearer, or longer, ways are left.
    "no_route": none of these alone.
    """

    def __init__(self, reason: Reason, text: str, hint: str = "") -> None:
        super().__init__(reason, text, hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnChannel:
    """A channel of the payer's, with the payer on `side`; `spendable` is the largest lock it can offer now."""

    channel_id: ChannelId
    side: Side
    peer: NodeId
    token: Address
    spendable: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One lock of a route: `source` offers `amount` to `target`, expiring `expiry_delta` seconds after now.

    `fee` is what `source` has kept of what it got, 0 for the payer.
    """

    channel_id: ChannelId
    side: Side
    source: NodeId
    target: NodeId
    amount: Amount
    expiry_delta: Seconds
    fee: Amount

    @property
    def direction(self) -> Direction:
        return self.channel_id, self.side


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Hops from payer to payee. `cost` in units of 10**-12 base units, for comparing routes only."""

    hops: tuple[Hop, ...]
    cost: int

    @property
    def sent(self) -> Amount:
        """What leaves the payer: the payee's amount and all fees."""
        return self.hops[0].amount

    @property
    def amount(self) -> Amount:
        """What the payee gets."""
        return self.hops[-1].amount

    @property
    def fee(self) -> Amount:
        return Amount(self.sent - self.amount)

    @property
    def expiry_delta(self) -> Seconds:
        """For how long the payer's money may be locked."""
        return self.hops[0].expiry_delta


def find_route(
    graph: Graph,
    *,
    source: NodeId,
    target: NodeId,
    token: Address,
    amount: Amount,
    final_expiry_delta: Seconds,
    own_channels: Iterable[OwnChannel],
    max_fee: Amount,
    now: Timestamp,
    hints: Iterable[Edge] = (),
    exclude: AbstractSet[Direction] = frozenset(),
    max_hops: int = MAX_HOPS,
    max_expiry_delta: Seconds = MAX_LOCK_TIME,
    liquidity: Liquidity | None = None,
) -> Route:
    """The cheapest route for one lock of `amount`.

    Args:
        graph: what is publicly known; edges of `source` in it are ignored in favour of `own_channels`.
        amount: what the payee gets, base units, 1 or more.
        final_expiry_delta: seconds the payee's lock must have, a margin for the way included.
        own_channels: usable channels of `source`; those in other tokens are passed over.
        max_fee: base units, all hops together.
        now: chain time; only what was learned depends on it.
        hints: from the invoice, edges that lead to the payee or to one another.
        exclude: directions not to be used.
        max_hops: locks in the route, the payer's own included.
        max_expiry_delta: longest time the payer's own lock may run, seconds.
        liquidity: what earlier tries taught.

    Raises:
        NoRoute: with the reason as its code.
        ValueError: amount, budget or a limit out of range.
    """
    if not (0 < amount <= MAX_AMOUNT and max_fee >= 0 and final_expiry_delta >= 0 and max_hops >= 1):
        raise ValueError(f"route for {amount} with fees up to {max_fee}, {final_expiry_delta} s, {max_hops} hops")
    if source == target:
        raise NoRoute("no_route", "payer and payee are the same node", "circular payments are not supported")
    direct = _direct(own := list(own_channels), target, token, amount, exclude)
    if direct is not None and final_expiry_delta <= max_expiry_delta:
        hop = Hop(
            channel_id=direct.channel_id,
            side=direct.side,
            source=source,
            target=target,
            amount=amount,
            expiry_delta=final_expiry_delta,
            fee=Amount(0),
        )
        return Route(hops=(hop,), cost=0)
    task = _Task.of(graph, source, target, token, amount, final_expiry_delta, own, hints, exclude, liquidity, now)
    limits = _Limits(fee=max_fee, hops=max_hops, expiry=max_expiry_delta)
    if not task.knows_payee():
        raise NoRoute("unknown_payee", f"nobody has announced a way to {target.hex()} in this token")
    if not task.own:
        raise NoRoute("no_route", "no own channel in this token can be used", "open a channel first")
    if not any(channel.spendable >= amount for peers in task.own.values() for channel in peers):
        raise NoRoute("own_channels_short", f"no own channel can send {amount}")
    found = task.best(limits)
    if found is None:
        raise task.why_not(limits)
    return task.route(found)


def _direct(
    own: Iterable[OwnChannel], target: NodeId, token: Address, amount: Amount, exclude: AbstractSet[Direction]
) -> OwnChannel | None:
    """The smallest own channel with the payee that can carry the amount: nothing is cheaper, shorter or sooner over."""
    fit = (
        channel
        for channel in own
        if channel.peer == target
        and channel.token == token
        and channel.spendable >= amount
        and (channel.channel_id, channel.side) not in exclude
    )
    return min(fit, key=lambda channel: (channel.spendable, channel.channel_id), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """None: no limit."""

    fee: int | None
    hops: int | None
    expiry: int | None
    own_short: bool = False
    """Whether own channels may be used for more than they hold; to find out why there is no way."""


@dataclass(frozen=True, slots=True)
class _Label:
    """A way from `node` to the payee: what `node` must be sent, for how long, and the edges, payee's side first."""

    cost: int
    amount: Amount
    expiry: Seconds
    trail: tuple[ChannelId, ...]
    node: NodeId
    edges: tuple[Edge, ...]
    own: OwnChannel | None = None

    def rank(self) -> tuple[int, int, int, int, tuple[ChannelId, ...]]:
        return self.cost, self.amount, self.expiry, len(self.trail), self.trail

    def breaks(self, limits: _Limits) -> bool:
        return (limits.hops is not None and len(self.trail) > limits.hops) or (
            limits.expiry is not None and self.expiry > limits.expiry
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """One question, with its arguments sorted for the search."""

    graph: Graph
    source: NodeId
    target: NodeId
    token: Address
    amount: Amount
    final_expiry_delta: Seconds
    own: dict[NodeId, list[OwnChannel]]
    hints: dict[NodeId, list[Edge]]
    exclude: AbstractSet[Direction]
    liquidity: Liquidity | None
    now: Timestamp

    @classmethod
    def of(
        cls,
        graph: Graph,
        source: NodeId,
        target: NodeId,
        token: Address,
        amount: Amount,
        final_expiry_delta: Seconds,
        own_channels: Iterable[OwnChannel],
        hints: Iterable[Edge],
        exclude: AbstractSet[Direction],
        liquidity: Liquidity | None,
        now: Timestamp,
    ) -> _Task:
        own: dict[NodeId, list[OwnChannel]] = defaultdict(list)
        for channel in sorted(own_channels, key=lambda channel: (channel.spendable, channel.channel_id)):
            if channel.token == token and (channel.channel_id, channel.side) not in exclude:
                own[channel.peer].append(channel)
        into: dict[NodeId, list[Edge]] = defaultdict(list)
        for hint in hints:
            into[hint.target].append(hint)
        return cls(
            graph=graph,
            source=source,
            target=target,
            token=token,
            amount=amount,
            final_expiry_delta=final_expiry_delta,
            own=dict(own),
            hints=dict(into),
            exclude=exclude,
            liquidity=liquidity,
            now=now,
        )

    def knows_payee(self) -> bool:
        return self.target in self.own or self.target in self.hints or self.graph.knows(self.target, self.token)

    def best(self, limits: _Limits) -> _Label | None:
        """The optimum within `limits`: first without those on hops and time, then, if it breaks them, with."""
        found = self.search(replace(limits, hops=None, expiry=None))
        if found is not None and found.breaks(limits):
            return self.search(limits)
        return found

    def search(self, limits: _Limits) -> _Label | None:
        """Dijkstra over labels, see the head of the file."""
        bounded = limits.hops is not None or limits.expiry is not None
        most = MAX_AMOUNT if limits.fee is None else min(MAX_AMOUNT, self.amount + limits.fee)
        settled: dict[NodeId, list[_Label]] = defaultdict(list)
        start = _Label(0, self.amount, self.final_expiry_delta, (), self.target, ())
        heap = [(start.rank(), start)]
        while heap:
            label = heappop(heap)[1]
            if label.own is not None:
                return label
            known = settled[label.node]
            if len(known) >= MAX_LABELS or _dominated(label, known, bounded):
                continue
            known.append(label)
            for farther in self.extend(label, limits.own_short):
                if farther.amount > most or (bounded and farther.breaks(limits)):
                    continue
                if farther.own is not None or not _dominated(farther, settled[farther.node], bounded):
                    heappush(heap, (farther.rank(), farther))
        return None

    def extend(self, label: _Label, own_short: bool) -> Iterator[_Label]:
        """The ways one hop longer: by our own cheapest sufficient channel, which ends it, and by others' edges."""
        for channel in self.own.get(label.node, ()):  # smallest first: larger ones are kept for larger payments
            if own_short or channel.spendable >= label.amount:
                trail = (*label.trail, channel.channel_id)
                yield _Label(label.cost, label.amount, label.expiry, trail, self.source, label.edges, channel)
                break
        for edge in self.graph.edges_into(label.node, self.token):
            if edge.source != self.source:
                yield from self.over(label, edge)
        for edge in self.hints.get(label.node, ()):
            if edge.source != self.source:
                yield from self.over(label, edge)

    def over(self, label: _Label, edge: Edge) -> Iterator[_Label]:
        """The way that reaches `label` over `edge`, if the edge can carry it."""
        policy, amount = edge.policy, label.amount
        direction = edge.channel_id, edge.side
        if policy is None or not edge.carries(amount) or policy.min_lock > self.amount or direction in self.exclude:
            return
        kept = policy.fee(amount)
        due = Amount(amount + kept)
        cost = label.cost + kept * UNIT + due * policy.expiry_delta * RISK
        if self.liquidity is not None:
            penalty = self.liquidity.penalty(direction, amount, edge.capacity, self.now)
            cost += amount * penalty * (UNIT // PER_MILLION)
        expiry = Seconds(label.expiry + policy.expiry_delta)
        yield _Label(cost, due, expiry, (*label.trail, edge.channel_id), edge.source, (*label.edges, edge))

    def why_not(self, limits: _Limits) -> NoRoute:
        """Which limit is in the way, found by lifting them one at a time."""
        if self.best(replace(limits, fee=None)) is not None:
            return NoRoute("fee_budget", f"every way costs more than {limits.fee} in fees", "raise the fee limit")
        if self.best(replace(limits, hops=None, expiry=None)) is not None:
            return NoRoute("too_long", f"every way takes over {limits.hops} hops or {limits.expiry} s of lock time")
        if self.best(replace(limits, own_short=True)) is not None:
            return NoRoute("own_channels_short", f"no own channel on the way can send {self.amount} and its fees")
        return NoRoute("no_route", f"no way to {self.target.hex()} can carry {self.amount}")

    def route(self, label: _Label) -> Route:
        """The label's edges turned round and priced anew, hop by hop."""
        own = label.own
        if own is None:
            raise Broken("a route that does not begin with a channel of our own")
        edges = (
            Edge(channel_id=own.channel_id, side=own.side, source=self.source, target=own.peer, policy=None),
            *reversed(label.edges),
        )
        policies = [edge.policy for edge in edges if edge.policy is not None]
        hops = tuple(
            Hop(
                channel_id=edge.channel_id,
                side=edge.side,
                source=edge.source,
                target=edge.target,
                amount=priced.amount,
                expiry_delta=priced.expiry_delta,
                fee=priced.fee,
            )
            for edge, priced in zip(edges, price(self.amount, self.final_expiry_delta, policies), strict=True)
        )
        return Route(hops=hops, cost=label.cost)


def _dominated(label: _Label, earlier: list[_Label], bounded: bool) -> bool:
    """Whether one of the settled labels, all no dearer, is in nothing worse than `label`."""
    return any(
        other.amount <= label.amount
        and (not bounded or (other.expiry <= label.expiry and len(other.trail) <= len(label.trail)))
        for other in earlier
    )
