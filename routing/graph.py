"""Who is joined to whom, as announced: one networkx multigraph per token, an edge for each direction of a channel.

The graph believes what it is given; `announcements` judges before. A channel has two directions, named (channel id,
side): the edge of side A leads from `node_a`, the opener, to `node_b`. A direction without a policy, or with a disabled
one, cannot be used. Flat arrays of the same are kept beside it (`flat`). Everything is bounded: a full graph refuses
new channels and keeps the old, so a flood cannot push out what is known. Own and private channels do not belong here; a
search gets them as arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import networkx as nx

from channeld.base.errors import Refused
from channeld.base.units import MAX_AMOUNT, Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp, exactly
from routing.answers import Answers
from routing.arrays import Arrays
from routing.bounds import Bounds
from routing.edges import Edge
from routing.fees import NEVER, Policy

MAX_CHANNELS: Final = 200_000
"""Four times the public Lightning network of 2026."""
MAX_AGE: Final = Seconds(14 * 86_400)
"""A channel nobody has spoken of for this long is dropped (BOLT 7, "Pruning the Network View")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A public channel. `capacity` is both deposits together, base units; `seen`: when it was last announced."""

    channel_id: ChannelId
    node_a: NodeId
    node_b: NodeId
    token: Address
    capacity: Amount
    seen: Timestamp = NEVER

    def __post_init__(self) -> None:
        exactly(32, self.channel_id, "channel id")
        exactly(33, self.node_a, "node")
        exactly(33, self.node_b, "node")
        exactly(20, self.token, "token")
        if self.node_a == self.node_b:
            raise ValueError("a channel joins two different nodes")
        if not 0 <= self.capacity <= 2 * MAX_AMOUNT:
            raise ValueError(f"capacity {self.capacity} out of range")

    def node(self, side: Side) -> NodeId:
        return self.node_a if side is Side.A else self.node_b


class Flat:
    """What searches use of one token's channels beside networkx."""

    def __init__(self) -> None:
        self.arrays = Arrays()
        self.bounds = Bounds(self.arrays)
        self.answers = Answers(self.arrays)


class Graph:
    """All public channels known, by token. Mutable; one owner."""

    def __init__(self, *, max_channels: int = MAX_CHANNELS) -> None:
        self._max_channels = max_channels
        self._channels: dict[ChannelId, Channel] = {}
        self._tokens: dict[Address, Any] = {}
        self._flat: dict[Address, Flat] = {}

    def __len__(self) -> int:
        """How many channels are known, all tokens together."""
        return len(self._channels)

    def __contains__(self, channel_id: object) -> bool:
        return channel_id in self._channels

    def add(self, channel: Channel) -> None:
        """Take in a channel, or renew what is known of it (capacity, `seen`); its policies stay.

        Raises:
            Refused: "graph_full", or "channel_conflict" if the id is known with other nodes or another token.
        """
        known = self._channels.get(channel.channel_id)
        if known is None and len(self._channels) >= self._max_channels:
            raise Refused("graph_full", f"{len(self._channels)} channels are known, no more are taken in")
        if known is not None and replace(channel, capacity=known.capacity, seen=known.seen) != known:
            raise Refused("channel_conflict", f"channel {channel.channel_id.hex()} is known with other nodes")
        self._channels[channel.channel_id] = channel
        if channel.token not in self._tokens:
            self._tokens[channel.token], self._flat[channel.token] = nx.MultiDiGraph(), Flat()
        network = self._tokens[channel.token]
        for side in Side:
            if known is None:
                network.add_edge(channel.node(side), channel.node(side.other), key=channel.channel_id)
                self._set(channel, side, None)
            elif known.capacity != channel.capacity:
                self._set(channel, side, self.policy(channel.channel_id, side))

    def remove(self, channel_id: ChannelId) -> None:
        """Forget a channel, and nodes left without any. Unknown ids are none of our business."""
        channel = self._channels.pop(channel_id, None)
        if channel is None:
            return
        graph = self._tokens[channel.token]
        for side in Side:
            graph.remove_edge(channel.node(side), channel.node(side.other), key=channel_id)
        graph.remove_nodes_from([node for node in (channel.node_a, channel.node_b) if graph.degree(node) == 0])
        self._flat[channel.token].arrays.drop(channel_id)
        if not graph:
            del self._tokens[channel.token], self._flat[channel.token]

    def resize(self, channel_id: ChannelId, capacity: Amount) -> None:
        """The chain says what the channel holds now, base units. Unknown ids are none of our business."""
        channel = self._channels.get(channel_id)
        if channel is not None:
            self.add(replace(channel, capacity=capacity))

    def set_policy(self, channel_id: ChannelId, side: Side, policy: Policy) -> bool:
        """Take in a direction's policy if it is newer than the known one; whether it was.

        Raises:
            Refused: "unknown_channel".
        """
        channel = self._channels.get(channel_id)
        if channel is None:
            raise Refused("unknown_channel", f"no channel {channel_id.hex()} is known")
        attributes = self._attributes(channel, side)
        known = attributes["edge"].policy
        if known is not None and policy.timestamp <= known.timestamp:
            return False
        self._set(channel, side, policy, attributes)
        return True

    def prune(
        self, now: Timestamp, *, max_age: Seconds = MAX_AGE, among: Iterable[ChannelId] | None = None
    ) -> tuple[ChannelId, ...]:
        """Drop policies not renewed for `max_age`, and channels nobody has spoken of for that long; which.

        Args:
            among: the channels to look at, if not all: fifty thousand take some 200 ms.
        """
        oldest, gone = now - max_age, []
        some = self._channels.values() if among is None else filter(None, map(self._channels.get, among))
        for channel in some:
            last = channel.seen
            for side in Side:
                policy = self.policy(channel.channel_id, side)
                if policy is not None and policy.timestamp < oldest:
                    self._set(channel, side, None)
                elif policy is not None:
                    last = max(last, policy.timestamp)
            if last < oldest:
                gone.append(channel.channel_id)
        for channel_id in gone:
            self.remove(channel_id)
        return tuple(gone)

    def channel(self, channel_id: ChannelId) -> Channel | None:
        return self._channels.get(channel_id)

    def policy(self, channel_id: ChannelId, side: Side) -> Policy | None:
        """The policy of the node on `side` for sending out over this channel; None if there is none yet."""
        edge = self._edge(channel_id, side)
        return None if edge is None else edge.policy

    def channels(self) -> Iterator[Channel]:
        """All channels, in the order they became known."""
        return iter(self._channels.values())

    def nodes(self, token: Address) -> Iterator[NodeId]:
        """All nodes with a channel in this token."""
        return iter(self._tokens.get(token, ()))

    def knows(self, node: NodeId, token: Address) -> bool:
        """Whether `node` has a public channel in this token."""
        return token in self._tokens and node in self._tokens[token]

    def network(self, token: Address) -> Any:
        """networkx's MultiDiGraph of this token, each edge with its `edge`; to be looked at, not changed."""
        return self._tokens[token]

    def edges_into(self, node: NodeId, token: Address) -> Iterator[Edge]:
        """Directions that lead to `node`: what a search that starts at the payee walks."""
        if self.knows(node, token):
            for parallel in self._tokens[token].pred[node].values():
                for attributes in parallel.values():
                    yield attributes["edge"]

    def flat(self, token: Address) -> Flat | None:
        """The same directions as flat arrays, with what is kept over them; None if no channel in this token is
        known."""
        return self._flat.get(token)

    def _edge(self, channel_id: ChannelId, side: Side) -> Edge | None:
        channel = self._channels.get(channel_id)
        return None if channel is None else self._attributes(channel, side)["edge"]

    def _attributes(self, channel: Channel, side: Side) -> dict[str, Edge]:
        here, there = channel.node(side), channel.node(side.other)
        found: dict[str, Edge] = self._tokens[channel.token].get_edge_data(here, there, channel.channel_id)
        return found

    def _set(
        self, channel: Channel, side: Side, policy: Policy | None, attributes: dict[str, Edge] | None = None
    ) -> None:
        """`attributes`: of the direction in networkx, if they are at hand."""
        here, there = (channel.node_a, channel.node_b) if side is Side.A else (channel.node_b, channel.node_a)
        edge = Edge(
            channel_id=channel.channel_id,
            side=side,
            source=here,
            target=there,
            policy=policy,
            capacity=channel.capacity,
        )
        (self._attributes(channel, side) if attributes is None else attributes)["edge"] = edge
        self._flat[channel.token].arrays.set(edge)
