"""The actors of all channels: found by channel and by peer; and what is counted over all of them.

Some questions are asked of all channels for every event of one: what ending them would cost, which have something at
stake, which are still only words. A node has ten thousand channels, so nobody walks over them for that. A `Tally` keeps
what was found of each channel, and looks again only at those that have taken a turn since.

A turn is announced before it is saved (`begin`), and is over when all that follows from it was told (`end`). While it
lasts, and for good if it ends in a fault, the channel is looked at each time: no answer is older than the channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from channeld.base.units import ChannelId, NodeId
from channeld.core.channel import Channel

if TYPE_CHECKING:
    from channeld.node.loop import Actor

_Found = TypeVar("_Found")


class Actors(dict[ChannelId, "Actor"]):
    """By channel, in the order in which they came. Put one in by its channel's id, take one out with `del`."""

    def __init__(self) -> None:
        super().__init__()
        self.turning: dict[ChannelId, Channel] = {}
        """Those whose turn is not over, as it leaves them."""
        self._of_peer: dict[NodeId, dict[ChannelId, Actor]] = {}
        self._nonces: Counter[int] = Counter()
        self._tallies: list[Tally[object]] = []

    def __setitem__(self, id_: ChannelId, actor: Actor) -> None:
        if id_ in self:
            del self[id_]
        super().__setitem__(id_, actor)
        self._of_peer.setdefault(actor.channel.peer, {})[id_] = actor
        self._nonces[actor.channel.terms.nonce] += 1
        self._changed(id_)

    def __delitem__(self, id_: ChannelId) -> None:
        channel = self[id_].channel
        super().__delitem__(id_)
        of_peer = self._of_peer[channel.peer]
        del of_peer[id_]
        if not of_peer:
            del self._of_peer[channel.peer]
        self._nonces[channel.terms.nonce] -= 1
        if not self._nonces[channel.terms.nonce]:
            del self._nonces[channel.terms.nonce]
        self._changed(id_)

    def of(self, peer: NodeId) -> Collection[Actor]:
        """Those of channels with that node."""
        return self._of_peer.get(peer, {}).values()

    def uses(self, nonce: int) -> bool:
        """Whether some channel's terms have that nonce."""
        return nonce in self._nonces

    def begin(self, channel: Channel) -> None:
        """A turn that leaves a channel like this is about to be saved."""
        self.turning[channel.id] = channel

    def end(self, channel: ChannelId) -> None:
        """It was saved, and what follows from it has been told."""
        self.turning.pop(channel, None)
        self._changed(channel)

    def tally(
        self,
        find: Callable[[Channel], _Found | None],
        changed: Callable[[ChannelId, _Found | None, _Found | None], None] = lambda *_: None,
    ) -> Tally[_Found]:
        """Count something from now on: see `Tally`."""
        made = Tally(self, find, changed)
        self._tallies.append(made)  # type: ignore[arg-type]
        return made

    def _changed(self, channel: ChannelId) -> None:
        for tally in self._tallies:
            tally.stale[channel] = None


class Tally(Generic[_Found]):
    """What `find` says of each channel, those of which it says None left out. It may look at the channel only.

    `changed(channel, before, after)` is told of each difference, so that sums can be kept.
    """

    def __init__(
        self,
        actors: Actors,
        find: Callable[[Channel], _Found | None],
        changed: Callable[[ChannelId, _Found | None, _Found | None], None],
    ) -> None:
        self.stale: dict[ChannelId, None] = dict.fromkeys(actors)
        """Those to be looked at."""
        self._actors, self._find, self._told = actors, find, changed
        self._found: dict[ChannelId, _Found] = {}

    def look(self) -> Mapping[ChannelId, _Found]:
        """As of now."""
        if self.stale or self._actors.turning:
            stale, self.stale = self.stale, {}
            for id_ in dict.fromkeys((*stale, *self._actors.turning)):
                self._look_at(id_)
        return self._found

    def _look_at(self, id_: ChannelId) -> None:
        actor = self._actors.get(id_)
        before, after = self._found.get(id_), None if actor is None else self._find(actor.channel)
        if after is not None:
            self._found[id_] = after
        elif before is not None:
            del self._found[id_]
        if before != after:
            self._told(id_, before, after)
