"""Routes found lately, told again as long as a new search would find the same.

What becomes dearer off a route cannot make another way better; so an answer stands until something has become cheaper,
one of its own hops has changed, anything was learned, time has gone on by a `STEP` (beliefs fade), or our own channels
are others. Nothing is told from memory that a search could not tell.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from channeld.base.units import Timestamp
from routing.arrays import Arrays
from routing.edges import Edge
from routing.liquidity import STEP, Liquidity

if TYPE_CHECKING:
    from routing.search import Route
    from routing.ways import OwnChannel

KEPT: Final = 1_024


@dataclass(frozen=True, slots=True)
class _Answer:
    route: Route
    edges: tuple[Edge, ...]
    """Those of its hops that gossip knows."""
    state: tuple[object, ...]
    own: tuple[OwnChannel, ...]


class Answers:
    """Of one token's graph. Mutable; one owner, the graph."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._kept: OrderedDict[Hashable, _Answer] = OrderedDict()

    def get(
        self, question: Hashable, own: tuple[OwnChannel, ...], liquidity: Liquidity | None, now: Timestamp
    ) -> Route | None:
        answer = self._kept.get(question)
        if answer is None:
            return None
        current = all(self._arrays.edge(edge.channel_id, edge.side) is edge for edge in answer.edges)
        if not current or answer.state != self._state(liquidity, now) or answer.own != own:
            del self._kept[question]
            return None
        self._kept.move_to_end(question)
        return answer.route

    def keep(
        self,
        question: Hashable,
        own: tuple[OwnChannel, ...],
        liquidity: Liquidity | None,
        now: Timestamp,
        route: Route,
        edges: tuple[Edge, ...],
    ) -> None:
        """`edges`: of the route, without those of hints, which are part of the question."""
        self._kept[question] = _Answer(route, edges, self._state(liquidity, now), own)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """As if nothing had been asked yet."""
        self._kept.clear()

    def _state(self, liquidity: Liquidity | None, now: Timestamp) -> tuple[object, ...]:
        arrays = self._arrays
        told = arrays.renumbered, arrays.cheaper.end
        if liquidity is None:
            return told
        return *told, id(liquidity), liquidity.version, now // STEP if len(liquidity) else 0
