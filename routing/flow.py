"""How to divide a payment so that all of it arrives most likely: a min-cost flow over the whole network.

The parts of a payment succeed together or not at all, so what counts is the product of the chances of all hops. Its
logarithm is a sum over channels, and what one more unit costs in a channel grows with what goes there already
(Pickhardt & Richter, arXiv 2107.05322): a convex cost, for which sending one unit after the other over the way that is
cheapest *now* is the optimum, if a later unit may also take an earlier one back from a hop (successive shortest paths;
Ahuja, Magnanti & Orlin 1993, chapters 9 and 14). Each way is one run of scipy's Dijkstra over reduced costs, about as
long as a search.

Costs are floats, in base units of the token: fee, risk of the money being locked, and `WEIGHT` of the whole payment for
each nat of improbability. What stands here is a plan; `splitting` prices it exactly and says what cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Any, Final

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from channeld.base.units import Amount, Timestamp
from routing.arrays import Arrays, Floats, Numbers
from routing.cost import HOP, RISK, UNIT, WEIGHT
from routing.liquidity import HINTED

_RISK: Final = RISK / UNIT
_HOP: Final = HOP / UNIT
_WEIGHT: Final = WEIGHT / UNIT


@dataclass(frozen=True, slots=True)
class Arc:
    """A hop that gossip does not know, from a hint: `most` of a lock, its fee and lock time."""

    source: int
    target: int
    most: float
    flat: float
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Units on each arc: directions by their number, `Arc`s after them. `short`: how many found no way."""

    units: Mapping[int, int]
    firsts: Mapping[int, int]
    """Units that leave the payer to each of its peers."""
    short: int


class Flow:
    """One payment's flow. `standing`: base units on directions where other parts are under way."""

    def __init__(
        self,
        arrays: Arrays,
        *,
        unit: Amount,
        whole: Amount,
        now: Timestamp,
        nodes: int = 0,
        extra: Sequence[Arc] = (),
        closed: Sequence[int] = (),
        standing: Mapping[int, Amount] | None = None,
        short: Mapping[int, Amount] | None = None,
        fee_weight: float = 1.0,
    ) -> None:
        """`unit`: what each way carries; `nodes`: how many there are, with those that gossip does not know; `closed`:
        directions not to be used; `short`: what some are known not to carry."""
        self._arrays, self._unit, self._whole, self._extra = arrays, float(unit), float(whole), extra
        self._count = len(arrays.edges)
        every = slice(0, self._count)
        self._now = now
        self._standing = np.zeros(self._count)
        for at, amount in (standing or {}).items():
            self._standing[at] = amount
        self._room = arrays.capacity[every].copy()
        for at, amount in (short or {}).items():
            self._room[at] = min(self._room[at], amount - 1)
        self._alone = self._alike(every, fee_weight)
        self._alone[list(closed)] = np.inf
        self._costs = np.concatenate((self._alone + self._doubts(every, self._standing), self._hinted(fee_weight)))
        self._units: dict[int, int] = {}
        self._firsts: dict[int, int] = {}
        self.nodes = max(nodes, len(arrays.names))
        self._network(len(arrays.names))

    def send(self, peers: Mapping[int, int], target: int, units: int) -> Plan:
        """Send so many units from our `peers`, each with how many our channels with it can carry."""
        left, sent = dict(peers), 0
        while sent < units and (way := self._way([peer for peer, room in left.items() if room], target)):
            left[way[0]] -= 1
            self._firsts[way[0]] = self._firsts.get(way[0], 0) + 1
            for source, onward in pairwise(way):
                self._push(source, onward)
            sent += 1
        return Plan(units=self._units, firsts=self._firsts, short=units - sent)

    # -- one way

    def _way(self, peers: list[int], target: int) -> list[int]:
        """The nodes of the cheapest way now, and the potentials moved by it; empty if there is none."""
        if not peers:
            return []
        costs = self._costs[self._arcs]
        for ends, (cost, _) in self._back.items():
            at = self._between(*ends)[0]
            costs[at] = min(costs[at], cost)
        reduced = np.maximum(costs + self._potential[self._sources] - self._potential[self._targets], 0.0)
        matrix = csr_matrix((reduced, self._targets, self._at), shape=(self.nodes, self.nodes))
        reached, before, _ = dijkstra(matrix, indices=sorted(peers), return_predecessors=True, min_only=True)
        if reached[target] == np.inf:
            return []
        self._potential += np.where(np.isfinite(reached), reached, 0.0)
        way = [target]
        while (node := before.item(way[-1])) >= 0:
            way.append(node)
        return way[::-1]

    def _push(self, source: int, onward: int) -> None:
        """One unit more from a node to the next: over the cheapest direction, or taken back from the other way."""
        some = self._arcs[self._between(source, onward)]
        best = int(some[np.argmin(self._costs[some])])
        back = self._back.get((source, onward))
        if back is not None and back[0] < self._costs[best]:
            self._change(back[1], -1)
        else:
            self._change(best, 1)

    def _change(self, arc: int, by: int) -> None:
        units = self._units[arc] = self._units.get(arc, 0) + by
        if not units:
            del self._units[arc]
        if arc >= self._count:
            hop = self._extra[arc - self._count]
            self._costs[arc] = self._costs[arc] if (units + 1) * self._unit <= hop.most else np.inf
            return
        at = np.array([arc])
        there = self._standing[at] + units * self._unit
        self._costs[arc] = (self._alone[at] + self._doubts(at, there)).item()
        ends = self._arrays.target.item(arc), self._arrays.source.item(arc)
        self._back[ends] = min(
            ((-self._cost_of_last(one), one) for one in self._used_between(*ends[::-1])), default=(np.inf, arc)
        )

    def _used_between(self, source: int, target: int) -> list[int]:
        some = self._arcs[self._between(source, target)]
        return [one for one in some.tolist() if self._units.get(one) and one < self._count]

    def _cost_of_last(self, arc: int) -> float:
        at = np.array([arc])
        before = self._standing[at] + (self._units[arc] - 1) * self._unit
        return float((self._alone[at] + self._doubts(at, before)).item())

    # -- what a unit costs

    def _alike(self, at: Any, fee_weight: float) -> Floats:
        """What every unit costs: fee, risk, and that there is a hop at all."""
        arrays, unit = self._arrays, self._unit
        fee = arrays.toll_flat[at] + unit * arrays.toll_rate[at]
        cost: Floats = fee * fee_weight + (unit + fee) * arrays.delta[at] * _RISK + unit * _HOP
        cost[arrays.most[at] < unit] = np.inf
        return cost

    def _doubts(self, at: Any, there: Floats) -> Floats:
        """What it costs that a unit more is less likely than what is `there`; infinite over the capacity."""
        unit = self._unit
        before, after = (self._arrays.chances(at, amounts, self._now) for amounts in (there, there + unit))
        cost: Floats = np.log(before / after) * (self._whole * _WEIGHT)
        cost[there + unit > self._room[at]] = np.inf
        return cost

    def _hinted(self, fee_weight: float) -> Floats:
        doubt = -log(HINTED) * self._whole * _WEIGHT
        return np.array(
            [
                (arc.flat + self._unit * arc.rate) * fee_weight + doubt if arc.most >= self._unit else np.inf
                for arc in self._extra
            ],
            float,
        )

    # -- the network

    def _network(self, nodes: int) -> None:
        """All arcs as scipy reads them, by their source, hints put in where their source's directions end."""
        order = self._arrays.order
        self._arcs: Numbers = order.by_source
        self._targets: Numbers = order.onward
        at = np.concatenate((order.out_at, np.full(self.nodes - nodes, order.out_at[-1], np.int32)))
        for number, arc in enumerate(self._extra):
            place = int(at[arc.source + 1])
            self._arcs = np.insert(self._arcs, place, self._count + number)
            self._targets = np.insert(self._targets, place, arc.target)
            at[arc.source + 1 :] += 1
        self._at = at
        self._sources = np.repeat(np.arange(self.nodes), np.diff(at))
        self._potential = np.zeros(self.nodes)
        self._back: dict[tuple[int, int], tuple[float, int]] = {}

    def _between(self, source: int, target: int) -> Any:
        """Where the arcs from one node to the next stand."""
        begin, end = int(self._at[source]), int(self._at[source + 1])
        return begin + np.flatnonzero(self._targets[begin:end] == target)
