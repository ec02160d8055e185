"""What failures said lately that is true for minutes only, shared by all payments of ours and kept in memory alone.

Which directions were *away*: the next node was not connected, or the hop could take nothing just now. Other ways are
tried first; where there are none, these are tried all the same, as nodes come back. And which *terms* a hop asks that
gossip has not brought yet: a lock that broke them comes back with the hop's newest channel update (BOLT 4), whose
signature is judged here as gossip's would be. Terms hold where they are stricter than what gossip says
(`routing.fees.stricter`), until gossip has brought as new ones.

Neither enters the graph, and nobody is told. Whoever passed such an update on, or went on using it for days, would show
that it has paid over that hop: a hop may tell each payer other terms, to know it again by what it pays.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from channeld.base.errors import Malformed, PeerFault
from channeld.base.units import NodeId, Seconds, Timestamp
from channeld.node import announcing
from channeld.wire import messages as wire
from routing.announcements import verify_channel_update
from routing.edges import Direction
from routing.fees import NEVER, Policy
from routing.graph import Graph

AWAY: Final = Seconds(300)
"""A node that restarts is back sooner; one that has gone is soon heard to be, by gossip."""
TOLD: Final = Seconds(600)
"""By then gossip has brought the same, even at the pace of `routing.announcements.UPDATE_RATE`."""
MOST: Final = 1_000
"""Directions remembered of each kind; a payment adds one for each plan at most."""


class Lately:
    """See the file's head. Mutable; one owner. Times are chain time and may go back a little."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._away: OrderedDict[Direction, Timestamp] = OrderedDict()
        self._terms: OrderedDict[Direction, tuple[Policy, Timestamp]] = OrderedDict()

    # -- asked

    def away(self, now: Timestamp) -> frozenset[Direction]:
        """Directions that could take nothing a little while ago."""
        while self._away and now - next(iter(self._away.values())) >= AWAY:
            self._away.popitem(last=False)
        return frozenset(self._away)

    def terms(self, now: Timestamp) -> dict[Direction, Policy]:
        """What hops ask that gossip has not brought yet."""
        while self._terms and now - next(iter(self._terms.values()))[1] >= TOLD:
            self._terms.popitem(last=False)
        return {
            direction: policy
            for direction, (policy, _) in self._terms.items()
            if policy.timestamp > self._known(direction)
        }

    # -- told

    def gone(self, direction: Direction, now: Timestamp) -> None:
        """It could take nothing."""
        _put(self._away, direction, now)

    def there(self, direction: Direction) -> None:
        """It has taken a lock."""
        self._away.pop(direction, None)

    def told(self, direction: Direction, node: NodeId, data: bytes, now: Timestamp) -> bool:
        """Take in the channel update that came with a failure of `node`, which sends in this direction; whether it is
        one: of this direction, signed by this node, not older than what is known. As old may it be, since another
        payment or gossip may have brought it after the lock was planned.

        Of the channel of a hint any side counts, as a hint does not say which it is (`routing.edges.hint_edges`).
        """
        try:
            update = wire.decode(data)
            if not isinstance(update, wire.ChannelUpdate) or update.channel_id != direction[0]:
                return False
            if update.side is not direction[1] and self._graph.channel(direction[0]) is not None:
                return False
            policy, before = announcing.policy_of(update), self._terms.get(direction)
            newest = max(self._known(direction), NEVER if before is None else before[0].timestamp)
            verify_channel_update(
                channel=update.channel_id,
                side=update.side,
                node=node,
                policy=policy,
                signature=update.signature,
                now=now,
                known=Timestamp(newest - 1),
            )
        except (Malformed, PeerFault):
            return False
        _put(self._terms, direction, (policy, now))
        return True

    def _known(self, direction: Direction) -> Timestamp:
        policy = self._graph.policy(*direction)
        return NEVER if policy is None else policy.timestamp


def _put(memory: OrderedDict[Direction, Any], direction: Direction, what: Any) -> None:
    memory[direction] = what
    memory.move_to_end(direction)
    while len(memory) > MOST:
        memory.popitem(last=False)
