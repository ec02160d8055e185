"""What others say of channels and nodes, judged in two steps, so that signatures can be looked at in another thread.

`examine` compares a message with what is known: nothing comes of it if that says as much already. Else a `Claim` is
left: `verify` looks at the signatures and depends on values alone, `take` believes it, if nothing newer has come in
between. A channel is not believed yet then but looked up on the chain; what is told of it meanwhile waits with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from channeld.base.digests import Domain
from channeld.base.errors import Answer, PeerFault
from channeld.base.units import Amount, ChannelId, NodeId, Timestamp, short
from channeld.core.channel import Phase
from channeld.node import announcing
from channeld.node.believed import Believed, Source
from channeld.node.ledger import Book
from channeld.node.lookups import Lookups, Pending
from channeld.node.own_word import OwnWord
from channeld.node.world import World
from channeld.wire import messages as wire
from channeld.wire import pages
from routing.announcements import UPDATE_RATE, Spam, verify_channel_update, verify_node_announcement
from routing.fees import NEVER

Heard = pages.Gossip


@dataclass(frozen=True, slots=True)
class Claim:
    """What is left to do of a message. `verify` raises PeerFault, in whichever thread; `take` is for the node's own."""

    verify: Callable[[], object]
    take: Callable[[Source], None]


class Judging:
    """See the file's head."""

    def __init__(
        self,
        *,
        book: Book,
        world: World,
        domain: Domain,
        believed: Believed,
        lookups: Lookups,
        own: OwnWord,
        us: NodeId,
    ) -> None:
        self._book, self._world, self._domain, self._us = book, world, domain, us
        self._believed, self._known, self._lookups, self._own = believed, believed.known, lookups, own
        self._updates = Spam(UPDATE_RATE)

    def examine(self, source: Source, message: Heard) -> Claim | None:
        """What is left to judge of it; None: nothing is new. PeerFault: it means nothing, or cannot be meant."""
        match message:
            case wire.ChannelAnnouncement():
                return self._channel(message)
            case wire.ChannelUpdate():
                return self._update(source, message)
            case wire.NodeAnnouncement():
                return self._node(message)
            case _:
                assert_never(message)

    # -- channels

    def _channel(self, message: wire.ChannelAnnouncement) -> Claim | None:
        channel_id = announcing.id_of(message)
        if channel_id in self._known or channel_id in self._lookups:
            return None
        if channel_id not in self._book.actors and self._lookups.refused(channel_id):
            return None
        return Claim(
            verify=partial(announcing.judge_channel, self._domain, message),
            take=partial(self._take_channel, channel_id, message),
        )

    def _take_channel(self, channel_id: ChannelId, message: wire.ChannelAnnouncement, source: Source) -> None:
        actor = self._book.actors.get(channel_id)
        if actor is None:
            if channel_id not in self._known:
                self._lookups.add(channel_id, Pending(message, source))
        elif actor.channel.public and actor.channel.phase is Phase.OPEN:
            self._own.establish(actor.channel, message, source)

    def believe(self, channel_id: ChannelId, pending: Pending, capacity: Amount) -> None:
        """The chain shows the channel open: with it counts what was told of it meanwhile."""
        if not self._believed.channel(channel_id, pending.message, capacity, pending.source):
            return
        for update in pending.updates.values():
            self._believed.update(update, pending.source)
        for node in pending.nodes.values():
            if node.timestamp > self._node_known(node.node_id):
                self._believed.node(node, pending.source)

    # -- policies

    def _update(self, source: Source, message: wire.ChannelUpdate) -> Claim:
        policy = announcing.policy_of(message)
        channel_id, side = message.channel_id, message.side
        actor = self._book.actors.get(channel_id)
        if (pending := self._lookups.get(channel_id)) is not None:
            node = pending.node(side)
        elif (public := self._known.graph.channel(channel_id)) is not None:
            node = public.node(side)
        elif (
            actor is not None
            and source.line is not None
            and actor.channel.peer == source.line.peer
            and side is actor.channel.we.other
        ):
            node = source.line.peer
        else:
            raise PeerFault(Answer.IGNORE, f"update of an unknown channel {short(channel_id)}")
        verify = partial(
            verify_channel_update,
            channel=channel_id,
            side=side,
            node=node,
            policy=policy,
            signature=message.signature,
            now=self._world.now,
            known=self._update_known(message),
        )
        return Claim(verify=verify, take=partial(self._take_update, message))

    def _update_known(self, message: wire.ChannelUpdate) -> Timestamp:
        """When the policy that we have of that direction was made."""
        if (pending := self._lookups.get(message.channel_id)) is not None:
            waits = pending.updates.get(message.side)
            return NEVER if waits is None else waits.timestamp
        last = self._known.policy((message.channel_id, message.side))
        return NEVER if last is None else last.timestamp

    def _take_update(self, message: wire.ChannelUpdate, source: Source) -> None:
        if message.timestamp <= self._update_known(message):
            return
        if not source.asked:
            self._updates.judge((message.channel_id, message.side), self._world.now)
        if (pending := self._lookups.get(message.channel_id)) is not None:
            pending.updates[message.side] = message
            return
        actor = self._book.actors.get(message.channel_id)
        if message.channel_id not in self._known and actor is None:
            return  # the channel has closed while the signature was looked at
        self._believed.update(message, source)
        if actor is not None and message.side is actor.channel.we:
            self._own.publish(actor.channel)  # an older self said something else, and later than we know: correct it

    # -- nodes

    def _node(self, message: wire.NodeAnnouncement) -> Claim:
        node = message.node_id
        if not self._known.has_channel(node) and self._lookups.of(node) is None:
            raise PeerFault(Answer.IGNORE, f"node {short(node[1:])} has no channel")
        verify = partial(
            verify_node_announcement,
            node=node,
            timestamp=message.timestamp,
            addresses=message.addresses,
            alias=message.alias,
            features=message.features,
            signature=message.signature,
            now=self._world.now,
            known=self._node_known(node),
        )
        return Claim(verify=verify, take=partial(self._take_node, message))

    def _node_known(self, node: NodeId) -> Timestamp:
        """When what we have of that node was said."""
        last = self._known.nodes.get(node)
        if last is None and (pending := self._lookups.of(node)) is not None:
            last = pending.nodes.get(node)
        return NEVER if last is None else last.timestamp

    def _take_node(self, message: wire.NodeAnnouncement, source: Source) -> None:
        node = message.node_id
        if message.timestamp <= self._node_known(node):
            return
        if not source.asked:
            self._updates.judge(node, self._world.now)
        if self._known.has_channel(node):
            self._believed.node(message, source)
            if node == self._us:
                self._own.announce_node()
        elif (pending := self._lookups.of(node)) is not None:
            pending.nodes[node] = message
