"""Channels that a peer has agreed on with us and has put nothing into: how many there may be, and their end.

Agreeing costs a stranger three messages and costs us a row and a task, so it is bounded: for one peer, for all peers
that come from one address (a name costs nothing, an address does), and in all. To freeze such a channel costs a
stranger one more message, so a frozen one counts too.

Without an end, whoever fills the places once would keep everybody out for good. So one that is still only words after
`LASTS` is forgotten. Nothing was signed in it and nothing of ours is in it. What the opener has put in without the
agreed memo, or puts in after that, is the opener's own, and a close without a state returns it; what it has put in for
us is no reason to keep a place for it, as we put in nothing before it has. A peer that is there is told, and freezes
its side. One in recovery is not forgotten, since what went into it may be younger than our copy, nor one that we are
closing, in which our bond may be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

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
"""Seconds after which one is forgotten; a deposit is sent at once and takes minutes."""
EVERY: Final = 600
"""Seconds from one look to the next."""
AT_ONCE: Final = 8
"""Of which the chain is asked in one look; the rest waits for the next block."""


class Unpaid:
    """See the file's head."""

    def __init__(self, *, book: Book, store: Store, world: World, chain: RpcChain, lines: Lines) -> None:
        self.awaits: Callable[[ChannelId], bool] = lambda _: False
        """Whether the chain has shown something of that channel that does not count yet (`Guard.awaits`)."""
        self.forgotten: Callable[[ChannelId], None] = lambda _: None
        """Told of each as it goes."""
        self._book, self._store, self._world, self._chain, self._lines = book, store, world, chain, lines
        self._origins: dict[ChannelId, str] = {}
        self._next = 0
        self._words = book.actors.tally(lambda channel: channel.peer if only_words(channel) else None)

    def must_take(self, line: Line) -> None:
        """Refused (too_many_openings) if a further one of this peer is too much."""
        waiting = self._words.look()
        if sum(peer == line.peer for peer in waiting.values()) >= OF_PEER:
            raise Refused("too_many_openings", f"{OF_PEER} channels wait for your deposit already")
        if line.origin and sum(self._origins.get(channel) == line.origin for channel in waiting) >= OF_ORIGIN:
            raise Refused("too_many_openings", f"{OF_ORIGIN} channels of your address wait for a deposit already")
        if len(waiting) >= IN_ALL:
            raise Refused("too_many_openings", "too many channels wait for a deposit here, try again later")

    def agreed(self, channel: ChannelId, line: Line) -> None:
        """One more, by way of this line."""
        if line.origin:
            self._origins[channel] = line.origin

    async def new_head(self) -> None:
        """Forget what is over. In the guard's turn, when all that counts of this head has been told."""
        now = self._world.now
        if now < self._next:
            return
        self._next = now + EVERY
        words = [self._book.actors[id_] for id_ in self._words.look()]
        self._origins = {
            actor.channel.id: self._origins[actor.channel.id] for actor in words if actor.channel.id in self._origins
        }
        over = [actor for actor in words if self._since(actor) <= now - LASTS and self._may_go(actor.channel)]
        if len(over) > AT_ONCE:
            self._next = now
        try:
            for actor in over[:AT_ONCE]:
                word = await self._chain.channel(actor.channel.id)
                if word.version or word.deadline or word.flags or any(word.record):
                    continue  # on its way to an end by the chain's word
                if await actor.retire(self._may_go):
                    await self._forget(actor)
        except Unreachable as fault:
            log.info("empty channels are looked at later: %s", fault)

    def _may_go(self, channel: Channel) -> bool:
        ours = channel.closing_alone or channel.recovering or self._book.why_old(channel)
        return only_words(channel) and not ours and not self.awaits(channel.id)

    def _since(self, actor: Actor) -> int:
        ((at,),) = self._store.rows("SELECT at FROM openings WHERE id = ?", actor.channel.id)
        return int(at)

    async def _forget(self, actor: Actor) -> None:
        channel = actor.channel
        del self._book.actors[channel.id]
        self.forgotten(channel.id)
        log.info("channel=%s forgotten: nobody paid into it", channel.name)
        batch = Batch()
        batch.add("DELETE FROM openings WHERE id = ?", channel.id)
        batch.add("DELETE FROM channels WHERE id = ?", channel.id)
        await self._store.commit(batch)
        line = self._lines.of(channel.peer)
        if line is not None:
            line.send([wire.Error(channel_id=channel.id, code="opening_over", text="nobody paid into it")])
