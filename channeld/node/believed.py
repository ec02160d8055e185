"""Gossip that was judged good: it is kept, put into the graph, and passed on to all lines but the one it came by."""

from __future__ import annotations

from typing import Final

from channeld.base.units import Amount, ChannelId, Side
from channeld.node.known import Known
from channeld.node.lines import Line, Lines
from channeld.wire import messages as wire

RELAY_ROOM: Final = 4 * 1024 * 1024
"""A line with more bytes than this waiting is told nothing new; its peer asks for it within the hour."""


class Source:
    """Where news come from: `line`, or ourselves if None. `pass_on`: how many of them others are told, None for all.

    What a peer has learned in years is no news to those who were there: of a long answer to a question of ours only the
    beginning is passed on. Others find the rest when they ask.
    """

    def __init__(self, line: Line | None = None, pass_on: int | None = None) -> None:
        self.line = line
        self._left = pass_on

    @property
    def asked(self) -> bool:
        """Whether we asked for it: then it comes no faster than we want."""
        return self._left is not None

    def passes_on(self) -> bool:
        """Whether one more is told to others."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


US: Final = Source()


class Believed:
    """See the file's head."""

    def __init__(self, known: Known, lines: Lines) -> None:
        self.known = known
        self._lines = lines

    def channel(
        self, channel_id: ChannelId, message: wire.ChannelAnnouncement, capacity: Amount, source: Source
    ) -> bool:
        """Whether it was new and the graph had room for it."""
        if not self.known.add(channel_id, message, capacity):
            return False
        self._broadcast(message, source)
        for side in Side:
            update = self.known.private.pop((channel_id, side), None)
            if update is not None:
                self.update(update, US)
        return True

    def say_again(self, channel_id: ChannelId) -> None:
        """A public channel, to all: some may have forgotten it, and what is told of it means nothing to them."""
        if (message := self.known.announcement(channel_id)) is not None:
            self._broadcast(message, US)

    def update(self, message: wire.ChannelUpdate, source: Source) -> None:
        """The newest policy of a direction."""
        self.known.set_policy(message)
        if message.channel_id in self.known:
            self._broadcast(message, source)

    def node(self, message: wire.NodeAnnouncement, source: Source) -> None:
        """The newest addresses of a node."""
        self.known.set_node(message)
        self._broadcast(message, source)

    def _broadcast(self, message: wire.Message, source: Source) -> None:
        if not source.passes_on():
            return
        for line in self._lines:
            if line is not source.line and line.unsent < RELAY_ROOM:
                line.send([message])
