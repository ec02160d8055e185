"""Routes for the parts of one payment, so that all of it arrives most likely within a budget of fees.

`flow` plans in units of a part each; the plan is taken apart into ways, each way is priced backwards from
the payee with exact integers, as a search prices it, and held against every limit. What the plan, which knows no fees
on fees, asks of a hop that cannot carry it closes that hop for this payment, and it is planned again. If the fees are
above the budget, fees are weighed more, a few times. What one way carries as well stays one part: parts cost their own
doubt.

For a payment of which some parts are under way and others came back, only those are planned again: `standing` is what
the others bind, at the hops where they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import prod
from typing import Final

from channeld.base.units import Address, Amount, NodeId, Seconds, Timestamp
from routing.edges import Direction, Edge, Terms
from routing.flow import Arc, Flow, Plan
from routing.graph import Flat, Graph
from routing.liquidity import Liquidity
from routing.search import MAX_HOPS, MAX_LOCK_TIME, NoRoute, Route, find_route, route_over
from routing.ways import OwnChannel

Carried = Iterable[tuple[Direction, Amount]]
"""What other parts bind at hops of others."""
MAX_PARTS: Final = 10
TRIES: Final = 4
"""Plans made for one question: what cannot be carried is closed, and fees weigh `DEARER` more, each time."""
ONE: Final = Amount(1)
FINER: Final = 4
"""If no plan in units of a part each is found, one in so much smaller units is tried: they fit where those do not."""
DEARER: Final = 8.0
ALONE: Final = 0.95
"""So likely a single route is not worth dividing."""
MARGIN: Final = 50
"""This part of a unit is kept for fees: a channel must hold so much more. A channel with the payee itself need not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be paid; arguments as for `search.find_route`."""

    source: NodeId
    target: NodeId
    token: Address
    amount: Amount
    final_expiry_delta: Seconds
    own_channels: Sequence[OwnChannel]
    max_fee: Amount
    now: Timestamp
    hints: Sequence[Edge] = ()
    exclude: AbstractSet[Direction] = frozenset()
    short: Mapping[Direction, Amount] = field(default_factory=dict)
    terms: Terms = field(default_factory=dict)
    max_hops: int = MAX_HOPS
    max_expiry_delta: Seconds = MAX_LOCK_TIME
    liquidity: Liquidity


def find_parts(
    graph: Graph, ask: Ask, *, max_parts: int = MAX_PARTS, least: Amount = ONE, standing: Carried = ()
) -> tuple[Route, ...]:
    """Routes whose amounts add up to the amount, one or up to `max_parts`; the most likely set that was found.

    Args:
        least: no part is smaller, base units: what the payee would not take.
        standing: what parts that are under way bind.

    Raises:
        NoRoute: as `find_route` for the whole amount, when no division of it can be paid either.
    """
    single, refusal = None, None
    try:
        single = alone(graph, ask)
    except NoRoute as fault:
        refusal = fault
    if single is not None and (max_parts == 1 or len(single.hops) == 1 or chance((single,), ask) >= ALONE):
        return (single,)
    parts = divided(graph, ask, max_parts, standing, least) if max_parts > 1 else None
    if parts is not None and (single is None or chance(parts, ask) > chance((single,), ask)):
        return parts
    if refusal is not None:
        raise refusal
    return () if single is None else (single,)


def chance(routes: Iterable[Route], ask: Ask) -> float:
    """How likely all of these arrive, as far as was learned; our own hops are known."""
    carried: dict[Direction, int] = defaultdict(int)
    capacities = {}
    for route in routes:
        for hop in route.hops[1:]:
            carried[hop.direction] += hop.amount
            capacities[hop.direction] = hop.capacity
    return prod(
        ask.liquidity.chance(direction, Amount(amount), capacities[direction], ask.now)
        for direction, amount in carried.items()
    )


def alone(graph: Graph, ask: Ask) -> Route:
    """One route for all of it. NoRoute: as `find_route`."""
    return find_route(
        graph,
        source=ask.source,
        target=ask.target,
        token=ask.token,
        amount=ask.amount,
        final_expiry_delta=ask.final_expiry_delta,
        own_channels=ask.own_channels,
        max_fee=ask.max_fee,
        now=ask.now,
        hints=ask.hints,
        exclude=ask.exclude,
        short=ask.short,
        terms=ask.terms,
        max_hops=ask.max_hops,
        max_expiry_delta=ask.max_expiry_delta,
        liquidity=ask.liquidity,
    )


# -- a plan


def divided(
    graph: Graph, ask: Ask, max_parts: int, standing: Carried = (), least: Amount = ONE
) -> tuple[Route, ...] | None:
    """The likeliest division into up to `max_parts` units, priced; None if none was found that can be carried."""
    flat, carried = graph.flat(ask.token) or Flat(), list(standing)
    for finer in (1, FINER):
        unit = -(-ask.amount // (max_parts * finer))
        planner, fee_weight = _Planner(flat, ask, Amount(unit), carried), 1.0
        for _ in range(TRIES):
            plan = planner.plan(-(-ask.amount // unit), fee_weight)
            if plan.short:
                break
            routes, broken = planner.routes(plan)
            if broken:
                planner.closed |= broken
            elif sum(route.fee for route in routes) > ask.max_fee:
                fee_weight *= DEARER
            else:
                small = any(route.amount < least for route in routes)
                return None if small or len(routes) > max_parts else tuple(routes)
    return None


class _Planner:
    def __init__(self, flat: Flat, ask: Ask, unit: Amount, standing: Carried) -> None:
        flat.bounds.learn(ask.liquidity)
        self._arrays, self._ask, self._unit = flat.arrays, ask, unit
        self._strangers: dict[NodeId, int] = {}
        """Nodes that gossip does not know, by their numbers after all others."""
        self._with_fees = unit + unit // MARGIN + 1
        self._hints: list[Edge] = []
        """Those of the newest plan."""
        for name in (ask.target, *(channel.peer for channel in ask.own_channels)):
            self._number(name)
        self.closed: set[Direction] = set(ask.exclude)
        self._short = {at: most for one, most in ask.short.items() if (at := self._arrays.place(*one)) is not None}
        self._standing: dict[int, Amount] = {}
        for direction, amount in standing:
            at = self._arrays.place(*direction)
            if at is not None:
                self._standing[at] = Amount(self._standing.get(at, 0) + amount)

    def _number(self, name: NodeId) -> int:
        known = self._arrays.nodes.get(name)
        return (
            self._strangers.setdefault(name, len(self._arrays.names) + len(self._strangers)) if known is None else known
        )

    def _name(self, number: int) -> NodeId:
        known = len(self._arrays.names)
        return self._arrays.names[number] if number < known else list(self._strangers)[number - known]

    def _hinted(self) -> list[Edge]:
        """One hint for each pair of nodes, the cheapest; none that leads through the payer."""
        best: dict[tuple[NodeId, NodeId], Edge] = {}
        for hint in self._ask.hints:
            edge = hint.under(self._ask.terms)
            pair, policy = (edge.source, edge.target), edge.policy
            if policy is None or (edge.channel_id, edge.side) in self.closed or self._ask.source in pair:
                continue
            other = best.get(pair)
            if other is None or other.policy is None or policy.fee(self._unit) < other.policy.fee(self._unit):
                best[pair] = edge
        return list(best.values())

    def plan(self, units: int, fee_weight: float) -> Plan:
        ask, arcs, self._hints = self._ask, [], self._hinted()
        for edge in self._hints:
            if edge.policy is not None:
                ends = self._number(edge.source), self._number(edge.target)
                rate = edge.policy.fee_ppm / 1_000_000
                arcs.append(Arc(*ends, float(edge.policy.max_lock), float(edge.policy.fee_base), rate))
        rooms: dict[int, int] = defaultdict(int)
        for channel, room in self._rooms().items():
            rooms[self._number(channel.peer)] += room
        flow = Flow(
            self._arrays,
            unit=self._unit,
            whole=ask.amount,
            now=ask.now,
            nodes=len(self._arrays.names) + len(self._strangers),
            extra=arcs,
            closed=[*self._through_us(), *(at for one in self.closed if (at := self._arrays.place(*one)) is not None)],
            standing=self._standing,
            short=self._short,
            fee_weight=fee_weight,
        )
        return flow.send({peer: room for peer, room in rooms.items() if room}, self._number(ask.target), units)

    def _through_us(self) -> list[int]:
        """Directions from the payer, as gossip knows them: no way leads through it again."""
        number = self._arrays.nodes.get(self._ask.source)
        return [] if number is None else self._arrays.out_of(number).tolist()

    def _rooms(self) -> dict[OwnChannel, int]:
        """How many units each of our channels can send."""
        ask, found = self._ask, {}
        for channel in ask.own_channels:
            if channel.token == ask.token and (channel.channel_id, channel.side) not in self.closed:
                needs = self._unit if channel.peer == ask.target else self._with_fees
                found[channel] = int(channel.spendable // needs)
        return found

    # -- what becomes of it

    def routes(self, plan: Plan) -> tuple[list[Route], set[Direction]]:
        """The plan's ways priced, or the directions that cannot carry what it asks of them."""
        ask, ways = self._ask, list(self._ways(plan))
        routes: list[Route] = []
        broken: set[Direction] = set()
        carried: dict[Direction, int] = defaultdict(int)
        for (own, edges, _), amount in zip(ways, self._shares([units for _, _, units in ways]), strict=True):
            bad = _what_breaks(edges, amount, carried, ask.short)
            route = route_over(own, edges, amount, ask.source, ask.final_expiry_delta)
            carried[own.channel_id, own.side] += route.sent
            if bad is not None:
                broken.add(bad)
            elif carried[own.channel_id, own.side] > own.spendable:
                broken.add((own.channel_id, own.side))
            elif len(route.hops) > ask.max_hops or route.expiry_delta > ask.max_expiry_delta:
                broken.add(route.hops[min(1, len(edges))].direction)
            routes.append(route)
        return routes, broken

    def _shares(self, units: Sequence[int]) -> list[Amount]:
        """The amount by units, none more than its units' worth: all of them may be a little more than the amount."""
        whole, total = int(self._ask.amount), sum(units)
        shares = [whole * mine // total for mine in units]
        for at, mine in enumerate(units):
            more = min(whole - sum(shares), mine * self._unit - shares[at])
            shares[at] += more
        return [Amount(share) for share in shares]

    def _ways(self, plan: Plan) -> Iterator[tuple[OwnChannel, tuple[Edge, ...], int]]:
        """The plan taken apart: our own channel, the edges after it, and how many units."""
        units, firsts = dict(plan.units), dict(plan.firsts)
        known = self._arrays.edges
        out: dict[NodeId, list[tuple[Edge, int]]] = defaultdict(list)
        for arc in sorted(units):
            edge = known[arc] if arc < len(known) else self._hints[arc - len(known)]
            if edge is not None:
                out[edge.source].append((edge.under(self._ask.terms), arc))
        for own, room in sorted(self._rooms().items(), key=lambda one: (-one[1], one[0].channel_id)):
            left, peer = room, self._number(own.peer)
            while left and firsts.get(peer):
                way = self._way(own.peer, out, units)
                most = min(left, firsts[peer], *(min(units[arc], max(1, self._fit(edge))) for edge, arc in way))
                firsts[peer] -= most
                left -= most
                for _, arc in way:
                    units[arc] -= most
                yield own, tuple(edge for edge, _ in way), most

    def _way(
        self, node: NodeId, out: dict[NodeId, list[tuple[Edge, int]]], units: dict[int, int]
    ) -> list[tuple[Edge, int]]:
        """Where units lead from a node to the payee. What goes round comes from rounding, and is taken out."""
        way: list[tuple[Edge, int]] = []
        at = {node: 0}
        while node != self._ask.target:
            edge, arc = next((edge, arc) for edge, arc in out[node] if units[arc])
            way.append((edge, arc))
            node = edge.target
            if node in at:
                for _, again in way[at[node] :]:
                    units[again] -= 1
                del way[at[node] :]
                at = {source: place for source, place in at.items() if place <= at[node]}
            at[node] = len(way)
        return way

    def _fit(self, edge: Edge) -> int:
        """Units that one lock may carry there."""
        return 1 if edge.policy is None else int(edge.policy.max_lock // self._with_fees)


def _what_breaks(
    edges: Sequence[Edge], amount: Amount, carried: dict[Direction, int], short: Mapping[Direction, Amount]
) -> Direction | None:
    """The hop nearest to the payee that cannot carry its part of `amount` beside what is `carried`, which grows."""
    due = amount
    for edge in reversed(edges):
        direction, policy = (edge.channel_id, edge.side), edge.policy
        carried[direction] += due
        fits = edge.carries(due) and (edge.capacity is None or carried[direction] <= edge.capacity)
        fits = fits and (direction not in short or carried[direction] < short[direction])
        if policy is None or not fits or policy.min_lock > amount:
            return direction
        due = Amount(due + policy.fee(due))
    return None
