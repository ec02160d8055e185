"""What is believed of the network: the graph, what nodes say of themselves, and the rows that outlive the process.

Nothing is judged here; `gossip` does that before. Policies of channels that are not announced stand apart from the
graph and are told to nobody. Rows are written by one task, in the order of what happened; losing the last of them in
a crash loses gossip that the next connection brings again.

Rows of `gossip`: `kind` is the number of the message, `key` the node, the channel, or the channel and one byte for
the side, `at` the time we learned it, `bytes` the message, which for a channel has the capacity (16 bytes) before it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.pack import pack, unpack
from channeld.base.units import Amount, ChannelId, NodeId, Side, Timestamp, short
from channeld.node import announcing
from channeld.node.world import World
from channeld.storage.store import Batch, Row, Store, narrow, wide
from channeld.wire import messages as wire
from channeld.wire import pages
from routing.edges import Direction
from routing.fees import Policy
from routing.graph import MAX_AGE, Channel, Graph

log = logging.getLogger(__name__)
ROWS: Final = {pages.CHANNELS: 100, pages.POLICIES: 350, pages.NODES: 400}
"""Of each kind, rows that are read at once: about a page."""
MARKS: Final = "gossip_marks"

_NODE, _CHANNEL, _UPDATE = pages.NODES, pages.CHANNELS, pages.POLICIES
BITE: Final = 1_000
"""Channels that are looked at before others get their turn."""
_CAPACITY: Final = 16
"""Bytes before the message in a channel's row."""


class Known:
    """See the file's head. Mutable; owned by `Gossip`."""

    def __init__(self, store: Store, world: World, graph: Graph, nursery: trio.Nursery) -> None:
        self.graph = graph
        self.nodes: dict[NodeId, wire.NodeAnnouncement] = {}
        """Of nodes that have a public channel."""
        self.private: dict[Direction, wire.ChannelUpdate] = {}
        """Updates of channels that are not announced, ours and our peers'."""
        self._degree: Counter[NodeId] = Counter()
        self._store, self._world, self._nursery = store, world, nursery
        self._unsaved = Batch()
        self._saving = self._full = False
        self._saved = trio.Event()

    def load(self) -> None:
        """Read the rows; they were judged when they were written."""
        for at, key, data in self._rows(_CHANNEL):
            message = wire.decode(data[_CAPACITY:])
            if isinstance(message, wire.ChannelAnnouncement):
                self._join(ChannelId(key), message, Amount(narrow(data[:_CAPACITY])), at)
        for _, _, data in self._rows(_UPDATE):
            message = wire.decode(data)
            if isinstance(message, wire.ChannelUpdate):
                self._set(message)
        for _, _, data in self._rows(_NODE):
            message = wire.decode(data)
            if isinstance(message, wire.NodeAnnouncement) and self.has_channel(message.node_id):
                self.nodes[message.node_id] = message

    def _rows(self, kind: int) -> Sequence[Row]:
        return self._store.rows("SELECT at, key, bytes FROM gossip WHERE kind = ?", kind)

    # -- asked

    def __contains__(self, channel_id: object) -> bool:
        """Whether it is a public channel."""
        return channel_id in self.graph

    def has_channel(self, node: NodeId) -> bool:
        """Whether it has a public one."""
        return self._degree[node] > 0

    @property
    def nodes_with_channels(self) -> int:
        """How many nodes have a public one."""
        return len(self._degree)

    def policy(self, direction: Direction) -> Policy | None:
        """The newest policy of a direction, announced or private."""
        private = self.private.get(direction)
        return self.graph.policy(*direction) if private is None else announcing.policy_of(private)

    def page(self, kind: int, since: Timestamp, after: bytes) -> tuple[list[bytes], Timestamp, bytes, bool]:
        """What is public of a kind and was learned after (`since`, `after`), in order, as much as fits into a page.

        Returns:
            Encoded messages, where the next page begins, and whether there may be more.
        """
        skip = _CAPACITY if kind == _CHANNEL else 0
        while True:
            rows = self._store.rows(
                "SELECT at, key, bytes FROM gossip WHERE kind = ? AND (at, key) > (?, ?) ORDER BY at, key LIMIT ?",
                *(kind, since, after, ROWS[kind]),
            )
            public = [row for row in rows if kind == _NODE or row[1][:32] in self.graph]
            told = [data[skip:] for _, _, data in public]
            if (count := pages.fitting(told)) < len(public):
                return told[:count], *public[count - 1][:2], True
            if rows:
                since, after = rows[-1][:2]
            if told or len(rows) < ROWS[kind]:
                return told, since, after, len(rows) == ROWS[kind]

    def read_marks(self) -> list[Any]:
        """What `keep_marks` has kept, one list for each peer."""
        rows = self._store.rows("SELECT value FROM notes WHERE name = ?", MARKS)
        return list(unpack(rows[0][0])) if rows else []

    def keep_marks(self, marks: list[Any]) -> None:
        """How far peers have told us: after what they have told, so it is never on disk before that."""
        self._write(
            "INSERT INTO notes VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            *(MARKS, pack(marks)),
        )

    def announcement(self, channel_id: ChannelId) -> wire.ChannelAnnouncement | None:
        """What was announced of a public channel, once that is on disk."""
        rows = self._store.rows("SELECT bytes FROM gossip WHERE kind = ? AND key = ?", _CHANNEL, channel_id)
        message = wire.decode(rows[0][0][_CAPACITY:]) if rows else None
        return message if isinstance(message, wire.ChannelAnnouncement) else None

    # -- told

    def add(self, channel_id: ChannelId, message: wire.ChannelAnnouncement, capacity: Amount) -> bool:
        """Take in a public channel; whether it is new and there was room."""
        if not self._join(channel_id, message, capacity, self._world.now):
            return False
        self._keep(_CHANNEL, channel_id, wide(capacity) + wire.encode(message))
        return True

    def _join(
        self, channel_id: ChannelId, message: wire.ChannelAnnouncement, capacity: Amount, seen: Timestamp
    ) -> bool:
        if channel_id in self.graph:
            return False
        try:
            self.graph.add(
                Channel(
                    channel_id=channel_id,
                    node_a=message.node_a,
                    node_b=message.node_b,
                    token=message.token,
                    capacity=capacity,
                    seen=seen,
                )
            )
        except Refused as fault:
            if not self._full:
                log.warning("channel=%s not taken in, nor others after it: %s", short(channel_id), fault.text)
            self._full = True
            return False
        self._full = False
        self._degree.update((message.node_a, message.node_b))
        return True

    def set_policy(self, message: wire.ChannelUpdate) -> None:
        self._set(message)
        self._keep(_UPDATE, _key(message.channel_id, message.side), wire.encode(message))

    def _set(self, message: wire.ChannelUpdate) -> None:
        if message.channel_id in self.graph:
            self.graph.set_policy(message.channel_id, message.side, announcing.policy_of(message))
        else:
            self.private[message.channel_id, message.side] = message

    def set_node(self, message: wire.NodeAnnouncement) -> None:
        self.nodes[message.node_id] = message
        self._keep(_NODE, message.node_id, wire.encode(message))

    def resize(self, channel_id: ChannelId, capacity: Amount) -> None:
        """The chain says what the channel holds now."""
        if channel_id in self.graph:
            self.graph.resize(channel_id, capacity)
            self._write(
                "UPDATE gossip SET bytes = CAST(? || substr(bytes, 17) AS BLOB) WHERE kind = ? AND key = ?",
                *(wide(capacity), _CHANNEL, channel_id),
            )

    def remove(self, channel_id: ChannelId) -> None:
        """Forget a channel, public or private, and nodes that have no other."""
        channel = self.graph.channel(channel_id)
        private = [self.private.pop((channel_id, side), None) for side in Side]
        if channel is None and not any(private):
            return
        self._forget(_CHANNEL, channel_id)
        for side in Side:
            self._forget(_UPDATE, _key(channel_id, side))
        if channel is not None:
            self.graph.remove(channel_id)
            self._part(channel)

    def _part(self, channel: Channel) -> None:
        """Its nodes have one channel less."""
        for node in (channel.node_a, channel.node_b):
            self._degree[node] -= 1
            if not self.has_channel(node):
                del self._degree[node]
                if self.nodes.pop(node, None) is not None:
                    self._forget(_NODE, node)

    async def prune(self) -> None:
        """Forget what nobody has spoken of for long, a bite at a time."""
        now, every = self._world.now, list(self.graph.channels())
        for start in range(0, len(every), BITE):
            some = {channel.channel_id: channel for channel in every[start : start + BITE]}
            for channel_id in self.graph.prune(now, among=some):
                self._forget(_CHANNEL, channel_id)
                self._part(some[channel_id])
            await trio.lowlevel.checkpoint()
        self._write("DELETE FROM gossip WHERE kind <> ? AND at < ?", _CHANNEL, now - MAX_AGE)

    # -- disk

    def _keep(self, kind: int, key: bytes, data: bytes) -> None:
        self._write("INSERT OR REPLACE INTO gossip VALUES (?, ?, ?, ?)", kind, key, self._world.now, data)

    def _forget(self, kind: int, key: bytes) -> None:
        self._write("DELETE FROM gossip WHERE kind = ? AND key = ?", kind, key)

    def _write(self, sql: str, *values: object) -> None:
        self._unsaved.add(sql, *values)
        if not self._saving:
            self._saving = True
            self._nursery.start_soon(self._save)

    async def _save(self) -> None:
        while self._unsaved:
            batch, self._unsaved = self._unsaved, Batch()
            try:
                await self._store.commit(batch)
            except Unreachable as fault:
                log.warning("gossip is not kept: %s", fault)
            self._saving = bool(self._unsaved)
            self._saved.set()
            self._saved = trio.Event()

    async def settled(self) -> None:
        """Wait until what is known now is on disk, whatever comes meanwhile."""
        for _ in range(2):  # the batch that is being saved, and the next
            if self._saving:
                await self._saved.wait()


def _key(channel_id: ChannelId, side: Side) -> bytes:
    return channel_id + bytes([side])
