"""One direction of a channel, as whoever looks for a way sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from channeld.base.units import Amount, ChannelId, NodeId, Side
from routing.fees import Policy, stricter

Direction = tuple[ChannelId, Side]
"""One way through a channel: from the node on this side to the other."""
Terms = Mapping[Direction, Policy]
"""What nodes have told a payer of directions beside gossip: it holds where it is stricter."""
NO_TERMS: Final[Terms] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One direction of a channel as a search sees it; a route hint of an invoice has this form too.

    `capacity` None: unknown. The side of a hint may be any, as long as it is always the same.
    """

    channel_id: ChannelId
    side: Side
    source: NodeId
    target: NodeId
    policy: Policy | None
    capacity: Amount | None = None

    def carries(self, amount: Amount) -> bool:
        """Whether a lock of `amount` is allowed here, as far as announced."""
        policy = self.policy
        return (
            policy is not None
            and not policy.disabled
            and policy.min_lock <= amount <= policy.max_lock
            and (self.capacity is None or amount <= self.capacity)
        )

    def under(self, terms: Terms) -> Edge:
        """The same direction, asking what it is known to ask besides."""
        told = terms.get((self.channel_id, self.side))
        return self if told is None or self.policy is None else replace(self, policy=stricter(self.policy, told))


def hint_edges(way: Sequence[tuple[NodeId, ChannelId, Policy]], payee: NodeId) -> tuple[Edge, ...]:
    """One route hint of an invoice as edges: each node's channel leads to the next node, the last to `payee`.

    A hint does not say which side its nodes are on; A stands for it, and `Hop.side` says so again.
    """
    targets = [*(node for node, _, _ in way[1:]), payee]
    return tuple(
        Edge(channel_id=channel_id, side=Side.A, source=node, target=target, policy=policy)
        for (node, channel_id, policy), target in zip(way, targets, strict=True)
    )
