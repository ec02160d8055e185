"""What a way from the payer must cost at least, to every node at once: the searches that go the other way are led by
it.

One run of Dijkstra's algorithm from the payer, by scipy over the flat arrays, at an amount that is not above any that a
hop of the way will carry. Fees, risk and doubt only grow with the amount, so this is a bound, and as a payer always
begins at itself, it serves all payees (A* with potentials, Goldberg & Harrelson 2005). It is kept for amounts that are
nearly the same (`STEPS` to a doubling). What becomes dearer leaves it a bound; when a direction becomes cheaper, the
nodes that it makes cheaper to reach are lowered, mostly none (Ramalingam & Reps 1996), and now and then all is made
anew.

Costs are rounded down to multiples of a power of two, a 2**-40th of the amount, and added exactly: so the bound of a
node is never above that of a neighbour and the hop between them, not even by a bit, and no node needs to be looked at
twice. The same is done in fees, in lock time and in hops alone, for payments with limits in these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from channeld.base.units import Amount, NodeId, Timestamp
from routing.arrays import WINDOW, Arrays, Floats, Numbers
from routing.cost import UNIT
from routing.edges import Direction
from routing.liquidity import Liquidity

STEPS: Final = 16
"""Bounds kept for each doubling of the amount: at most a 16th lower than the amount itself."""
FINE: Final = 40
"""Bits: by so much less than the amount is one step of the rounded costs."""
MOST_STEPS: Final = 2.0**45
"""Dearer hops count as this much, so that a sum over 256 hops is exact."""
KEPT: Final = 16
LOWERED: Final = 300
"""So many nodes are lowered one by one; making all anew costs as much."""
REFRESHED: Final = 5_000
"""Changes after which it is made anew: what has become dearer would make it looser and looser."""
_DOWN: Final = 1 - 2.0**-24
"""What is exact may be less than a float by this: floats round, and a penalty is rounded down by less than a `HOP`'s
10**-8."""


class What(Enum):
    COST = "cost"
    FEE = "fee"
    HOPS = "hops"
    TIME = "time"


@dataclass(slots=True)
class Bound:
    """`steps` of `unit` each, by node; infinite where no way leads. `before`: the node before it on that way."""

    steps: Floats
    before: Numbers
    unit: int
    _version: int
    """Of the arrays when it was made."""
    _renumbered: int
    _seen: int
    """How much of what became cheaper is in it."""

    def at(self, node: int) -> int | None:
        """The bound of a node, in cost units, base units, seconds or hops; None if no way leads there."""
        steps = self.steps.item(node)
        return None if steps == np.inf else int(steps) * self.unit


class _Key(NamedTuple):
    what: What
    payer: int
    """No way leads through it again; -1 if gossip does not know it."""
    peers: frozenset[int]
    closed: frozenset[int]
    """Directions not to be used."""
    amount: int
    top: int
    """The bound serves payments of `amount` to this much."""
    window: int | None
    """Of chain time, if what was learned counts."""

    @property
    def unit(self) -> int:
        return 1 << max(1, (UNIT * self.amount).bit_length() - FINE) if self.what is What.COST else 1


class Bounds:
    """The bounds of one token's graph that were needed last. Mutable; one owner, the graph."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._learned = 0
        self._kept: OrderedDict[_Key, Bound] = OrderedDict()

    def get(
        self,
        what: What,
        payer: NodeId,
        peers: Iterable[NodeId],
        closed: Iterable[Direction],
        amount: Amount,
        liquidity: Liquidity | None,
        now: Timestamp,
        *,
        exact: bool = False,
    ) -> Bound:
        """From the nodes `peers`, to which the payer pays without a cost of its own, for locks of `amount` or more.

        Args:
            exact: made for this very amount, as things are now; else one that was kept will do, which may be for a
                little less and may not know what has become dearer since.
        """
        if liquidity is not None:
            self.learn(liquidity)
        nodes = self._arrays.nodes
        known = frozenset(nodes[name] for name in peers if name in nodes)
        shut = frozenset(at for one in closed if (at := self._arrays.place(*one)) is not None)
        time = None if liquidity is None else window(now)
        key = _Key(what, nodes.get(payer, -1), known, shut, *_range(amount), time)
        found = self._kept.pop(key, None)
        if exact:
            return self._made(key._replace(amount=amount, top=amount))
        if found is None or not self._is_lowered(key, found):
            found = self._made(key)
        self._kept[key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def clear(self) -> None:
        """As if nothing had been asked yet."""
        self._kept.clear()

    def learn(self, liquidity: Liquidity) -> None:
        """Take in what was learned since the last time: such channels are not doubted by their capacity alone."""
        if self._arrays.teacher is not liquidity:
            self._arrays.forget()
            self.clear()
            self._arrays.teacher, self._learned = liquidity, -1
        missed = liquidity.version - self._learned
        if missed > len(liquidity.recent):
            self._arrays.learn(liquidity.export())
        else:
            self._arrays.learn(islice(liquidity.recent, len(liquidity.recent) - missed, None))
        self._learned = liquidity.version

    def _made(self, key: _Key) -> Bound:
        arrays, order, count = self._arrays, self._arrays.order, len(self._arrays.names)
        if key.peers:
            cost = self._steps(key, slice(0, len(arrays.edges)))[order.by_source]
            matrix = csr_matrix((cost, order.onward, order.out_at), shape=(count, count))  # parallel ones side by side
            steps, before, _ = dijkstra(matrix, indices=sorted(key.peers), return_predecessors=True, min_only=True)
        else:
            steps, before = np.full(count, np.inf), np.full(count, -1, np.int32)
        return Bound(steps, before, key.unit, arrays.version, arrays.renumbered, arrays.cheaper.end)

    def _is_lowered(self, key: _Key, bound: Bound) -> bool:
        """Take in what has become cheaper since; whether that was possible, or all must be made anew."""
        arrays = self._arrays
        news = arrays.cheaper.since(bound._seen)
        if news is None or bound._renumbered != arrays.renumbered or arrays.version - bound._version > REFRESHED:
            return False
        missing = len(arrays.names) - len(bound.steps)
        if missing:
            bound.steps = np.append(bound.steps, np.full(missing, np.inf))
            bound.before = np.append(bound.before, np.full(missing, -1, np.int32))
        if not news:
            return True
        changed: list[tuple[float, int, int]] = []
        self._reach(key, bound, np.array(news, np.int32), changed)
        looks = 0
        while changed:
            steps, node, before = heappop(changed)
            if steps < bound.steps.item(node):
                bound.steps[node], bound.before[node] = steps, before
                self._reach(key, bound, arrays.out_of(node), changed)
                looks += 1
                if looks > LOWERED:
                    return False
        bound._seen = arrays.cheaper.end
        return True

    def _reach(self, key: _Key, bound: Bound, at: Numbers, changed: list[tuple[float, int, int]]) -> None:
        """Which nodes these directions make cheaper to reach."""
        sources, targets = self._arrays.source[at], self._arrays.target[at]
        steps = bound.steps[sources] + self._steps(key, at)
        for one in np.flatnonzero(steps < bound.steps[targets]).tolist():
            heappush(changed, (steps.item(one), targets.item(one), sources.item(one)))

    def _steps(self, key: _Key, at: Any) -> Floats:
        """What these directions cost at least, in whole steps."""
        arrays, amount = self._arrays, float(key.amount)
        if key.what is What.COST:
            cost = arrays.bound(at, amount, window=key.window)
            cost *= UNIT / key.unit * _DOWN
        elif key.what is What.FEE:
            cost = (arrays.toll_flat[at] + amount * arrays.toll_rate[at]) * _DOWN
        elif key.what is What.TIME:
            cost = arrays.delta[at].copy()
        else:
            cost = np.ones(len(arrays.most[at]))
        np.floor(cost, out=cost)
        np.minimum(cost, MOST_STEPS, out=cost)
        cost[(arrays.most[at] < amount) | (arrays.least_lock[at] > key.top)] = np.inf
        if key.closed:
            shut = np.array(sorted(key.closed), np.int32)
            cost[shut if isinstance(at, slice) else np.isin(at, shut)] = np.inf
        if key.payer >= 0:
            cost[arrays.out_of(key.payer) if isinstance(at, slice) else arrays.source[at] == key.payer] = np.inf
        return cost


def window(now: Timestamp) -> int:
    """The first second of the time that this one is in, for which one bound holds."""
    return now - now % WINDOW


def _range(amount: int) -> tuple[int, int]:
    """Between which amounts a bound serves: those with the same highest bits."""
    shift = max(0, amount.bit_length() - STEPS.bit_length())
    low = amount >> shift << shift
    return low, low + (1 << shift) - 1
