"""One channel has shown that the database is old: then it is old for every channel that was in it.

A tower, a peer or the contract shows a state or an upload with our own signature that we do not remember. The copy was
taken whole, so the other channels lack states as well, even if their peers say nothing or lie. They go into recovery
(R16) before their next turn decides anything. That this is to be done is saved in the transaction of the proof and
goes with the last channel's; after a crash between them the start does it (`restoring`). Channels that are made later
are not concerned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from channeld.base.units import ChannelId
from channeld.core.channel import Channel, Phase
from channeld.core.events import Recover
from channeld.storage.store import Batch

if TYPE_CHECKING:
    from channeld.node.loop import Actor

NOTE: Final = "old"
REASON: Final = "another channel has shown that the database is a copy"


class OldStore:
    """`actors`: every channel's, the node's own."""

    def __init__(self, actors: Mapping[ChannelId, Actor]) -> None:
        self._actors = actors
        self._waiting: set[ChannelId] = set()
        self._untold = False

    def record(self, channel: Channel, batch: Batch) -> bool:
        """A turn of `channel` is about to be saved with `batch`. Whether it is the one that shows the age."""
        actor = self._actors.get(channel.id)
        if actor is None or not channel.recovering or actor.channel.recovering:
            return False
        if channel.id in self._waiting:
            self._waiting.discard(channel.id)
            if not self._waiting:
                batch.add("DELETE FROM notes WHERE name = ?", NOTE)
            return False
        self._waiting = {name for name, one in self._actors.items() if name != channel.id and _concerned(one.channel)}
        self._untold = True
        if self._waiting:
            batch.add("INSERT INTO notes VALUES (?, x'01') ON CONFLICT (name) DO NOTHING", NOTE)
        return True

    def why(self, channel: Channel) -> str:
        """Why `channel` must go into recovery before anything else; empty if it need not."""
        return REASON if channel.id in self._waiting and not channel.recovering else ""

    def tell(self) -> bool:
        """After the proof was saved: have the others take their turn now. Whether there was anything to tell."""
        news, self._untold = self._untold, False
        for name in sorted(self._waiting) if news else ():
            if (actor := self._actors.get(name)) is not None:  # else it was forgotten, with nothing in it (`unpaid`)
                actor.post(Recover(reason=REASON))
        return news


def _concerned(channel: Channel) -> bool:
    return channel.phase not in (Phase.SETTLED, Phase.CLOSED) and not channel.recovering
