"""Channels that a peer has agreed on with us and has put nothing into: how many there may be, and their end.

Agreeing costs a stranger three messages and costs us a row and a task, so it is bounded: for one peer, for all peers
that come from one address (a name costs nothing, an address does), and in all. To freeze such a channel costs a
stranger one more message, so a frozen one counts too.

Without an end, whoever fills the places once would keep everybody out for good. So what the chain shows nothing of
after `LASTS` is forgotten. Nothing was signed in it and nothing of ours is in it; a deposit that still comes is the
opener's own, and a close without a state returns it. A peer that is there is told, and freezes its side. A channel in
recovery is not forgotten: what went into it may be younger than our copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.units import ChannelId
from channeld.chain.reads import RpcChain
from channeld.core.channel import Channel
from channeld.node.exposure import only_words
from channeld.node.ledger import Book
from channeld.node.lines import Line, Lines
from channeld.node.loop import Actor
from channeld.node.world import World
from channeld.storage.store import Batch, Store
from channeld.wire import messages as wire

log = logging.getLogger(__name__)
OF_PEER: Final = 16
OF_ORIGIN: Final = 64
"""Of peers that dialled us from one address (`peers.places.origin_of`), as far as we have run since."""
IN_ALL: Final = 1_024
LASTS: Final = 86_400
"""Seconds after which one that is still empty is forgotten; a deposit is sent at once and takes minutes."""
EVERY: Final = 600.0
"""Seconds from one look to the next."""


def _may_go(channel: Channel) -> bool:
    return only_words(channel) and not channel.recovering


class Unpaid:
    """See the file's head."""

    def __init__(self, *, book: Book, store: Store, world: World, chain: RpcChain, lines: Lines) -> None:
        self._book, self._store, self._world, self._chain, self._lines = book, store, world, chain, lines
        self._origins: dict[ChannelId, str] = {}

    def must_take(self, line: Line) -> None:
        """Refused (too_many_openings) if a further one of this peer is too much."""
        waiting = [actor.channel for actor in self._book.actors.values() if only_words(actor.channel)]
        if sum(channel.peer == line.peer for channel in waiting) >= OF_PEER:
            raise Refused("too_many_openings", f"{OF_PEER} channels wait for your deposit already")
        if line.origin and sum(self._origins.get(channel.id) == line.origin for channel in waiting) >= OF_ORIGIN:
            raise Refused("too_many_openings", f"{OF_ORIGIN} channels of your address wait for a deposit already")
        if len(waiting) >= IN_ALL:
            raise Refused("too_many_openings", "too many channels wait for a deposit here, try again later")

    def agreed(self, channel: ChannelId, line: Line) -> None:
        """One more, by way of this line."""
        if line.origin:
            self._origins[channel] = line.origin

    async def run(self, forgotten: Callable[[ChannelId], None]) -> None:
        """Forget what is over, until cancelled. `forgotten`: told of each as it goes."""
        while True:
            await trio.sleep(EVERY)
            try:
                await self._look(forgotten)
            except Unreachable as fault:
                log.info("empty channels are looked at later: %s", fault)

    async def _look(self, forgotten: Callable[[ChannelId], None]) -> None:
        actors = self._book.actors
        self._origins = {
            id_: origin for id_, origin in self._origins.items() if id_ in actors and only_words(actors[id_].channel)
        }
        if self._world.safe_mode is not None:
            return
        old = self._store.rows("SELECT id FROM openings WHERE at < ?", self._world.now - LASTS)
        for actor in [actors[id_] for (id_,) in old if id_ in actors and _may_go(actors[id_].channel)]:
            if (await self._chain.channel(actor.channel.id)).untouched and await actor.retire(_may_go):
                await self._forget(actor, forgotten)

    async def _forget(self, actor: Actor, forgotten: Callable[[ChannelId], None]) -> None:
        channel = actor.channel
        del self._book.actors[channel.id]
        forgotten(channel.id)
        log.info("channel=%s forgotten: nobody paid into it", channel.name)
        batch = Batch()
        batch.add("DELETE FROM openings WHERE id = ?", channel.id)
        batch.add("DELETE FROM channels WHERE id = ?", channel.id)
        await self._store.commit(batch)
        line = self._lines.of(channel.peer)
        if line is not None:
            line.send([wire.Error(channel_id=channel.id, code="opening_over", text="nobody paid into it")])
