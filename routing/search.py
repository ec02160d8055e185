"""A route: asked for, found by `ways`, priced hop by hop; or refused, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from channeld.base.errors import Broken, Refused
from channeld.base.units import MAX_AMOUNT, Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp
from routing.edges import NO_TERMS, Direction, Edge, Terms
from routing.fees import price
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.ways import Limits, OwnChannel, Ways

MAX_HOPS: Final = 14
"""As many as the onion holds with our payloads at their largest (`channeld.wire.payload`): one more, and no packet
can be built."""
MAX_LOCK_TIME: Final = Seconds(14 * 86_400)

NO_LIMITS: Final[Mapping[Direction, Amount]] = MappingProxyType({})

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
    capacity: Amount | None = None
    """Of the channel, as far as gossip says."""

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
    hints: Sequence[Edge] = (),
    exclude: AbstractSet[Direction] = frozenset(),
    short: Mapping[Direction, Amount] = NO_LIMITS,
    terms: Terms = NO_TERMS,
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
        short: directions, and what they are known not to carry: less may still go there.
        terms: what directions ask besides what gossip or their hints say.
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
    direct = _direct(own := tuple(own_channels), target, token, amount, exclude)
    if direct is not None and final_expiry_delta <= max_expiry_delta:
        return route_over(direct, (), amount, source, final_expiry_delta)
    limits = Limits(fee=max_fee, hops=max_hops, expiry=max_expiry_delta)
    question = source, target, amount, final_expiry_delta, limits, frozenset(exclude), _frozen(short), tuple(hints)
    known = graph.flat(token)
    remembers = known is not None and not terms
    told = known.answers.get(question, own, liquidity, now) if known is not None and remembers else None
    if told is not None:
        return told
    ways = Ways(
        graph, source, target, token, amount, final_expiry_delta, own, hints, exclude, short, terms, liquidity, now
    )
    if not ways.knows_payee():
        raise NoRoute("unknown_payee", f"nobody has announced a way to {target.hex()} in this token")
    if not ways.own:
        raise NoRoute("no_route", "no own channel in this token can be used", "open a channel first")
    if not any(channel.spendable >= amount for peers in ways.own.values() for channel in peers):
        raise NoRoute("own_channels_short", f"no own channel can send {amount}")
    found = ways.best(limits)
    if found is None:
        raise _why_not(ways, limits)
    if found.own is None:
        raise Broken("a route that does not begin with a channel of our own")
    route = route_over(found.own, found.edges[::-1], amount, source, final_expiry_delta, found.cost)
    if known is not None and remembers:
        public = tuple(edge for edge in found.edges if edge not in hints)
        known.answers.keep(question, own, liquidity, now, route, public)
    return route


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


def _frozen(short: Mapping[Direction, Amount]) -> frozenset[tuple[Direction, Amount]]:
    return frozenset(short.items()) if short else frozenset()


def _why_not(ways: Ways, limits: Limits) -> NoRoute:
    """Which limit is in the way, found by lifting them one at a time."""
    if ways.best(replace(limits, fee=None)) is not None:
        return NoRoute("fee_budget", f"every way costs more than {limits.fee} in fees", "raise the fee limit")
    if ways.best(replace(limits, hops=None, expiry=None)) is not None:
        return NoRoute("too_long", f"every way takes over {limits.hops} hops or {limits.expiry} s of lock time")
    if ways.best(replace(limits, own_short=True)) is not None:
        return NoRoute("own_channels_short", f"no own channel on the way can send {ways.amount} and its fees")
    return NoRoute("no_route", f"no way to {ways.target.hex()} can carry {ways.amount}")


def route_over(
    own: OwnChannel, edges: Sequence[Edge], amount: Amount, source: NodeId, final_expiry_delta: Seconds, cost: int = 0
) -> Route:
    """That way, over our own channel and on, priced hop by hop from the payee back."""
    if not edges:  # to the neighbour, as most payments of a busy channel go
        hop = Hop(
            channel_id=own.channel_id,
            side=own.side,
            source=source,
            target=own.peer,
            amount=amount,
            expiry_delta=final_expiry_delta,
            fee=Amount(0),
        )
        return Route(hops=(hop,), cost=cost)
    first = Edge(channel_id=own.channel_id, side=own.side, source=source, target=own.peer, policy=None)
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
            capacity=edge.capacity,
        )
        for edge, priced in zip((first, *edges), price(amount, final_expiry_delta, policies), strict=True)
    )
    return Route(hops=hops, cost=cost)
