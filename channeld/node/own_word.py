"""What we say of our own channels and of ourselves.

A public channel is announced when both sides have signed that; each says its half once on a line, and again on the
next while the other's is missing. Then come our policy and our addresses, and both anew before others forget them. A
private channel is told to nobody, but its two nodes know each other's policy, so that the payee can put it into an
invoice (`hints`).
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from channeld.base.errors import Answer, PeerFault
from channeld.base.keys import Key
from channeld.base.units import Address, Amount, ChannelId, Seconds, Timestamp
from channeld.core.channel import Channel, Phase
from channeld.node import announcing
from channeld.node.believed import US, Believed, Source
from channeld.node.ledger import Book
from channeld.node.lines import Line, Lines
from channeld.node.world import World
from channeld.wire import messages as wire
from channeld.wire.invoice import MAX_HINTS, HintHop
from routing.fees import NEVER, Policy

log = logging.getLogger(__name__)
REFRESH: Final = Seconds(7 * 86_400)
"""Our own word is given anew after this long, before others forget it (`routing.graph.MAX_AGE`)."""


class OwnWord:
    """See the file's head. `policy` is what we ask for sending out over a channel of ours; its time does not count.

    `opened`: told when a channel with a peer is open; `gone`: when one is not for others to know any more.
    """

    def __init__(
        self,
        *,
        book: Book,
        world: World,
        lines: Lines,
        believed: Believed,
        node_key: Key,
        account_key: Key,
        policy: Callable[[Channel], Policy],
        alias: str,
        addresses: tuple[str, ...],
        opened: Callable[[Line], None],
        gone: Callable[[ChannelId], None],
    ) -> None:
        self._book, self._world, self._lines = book, world, lines
        self._believed, self._known = believed, believed.known
        self._key, self._account, self._policy = node_key, account_key, policy
        self._alias, self._addresses = alias, addresses
        self._tell_opened, self._tell_gone = opened, gone
        self._halves: dict[ChannelId, wire.AnnouncementSignatures] = {}
        self._stages: dict[ChannelId, tuple[Phase, bool]] = {}
        self._said: dict[Line, set[ChannelId]] = {}
        """Per line, the channels for which our half was sent."""
        self._payable: dict[Address, list[tuple[int, ChannelId]]] = {}
        """By token, the channels over which we can be paid: those with most to come in first, then by id."""
        self._usable = book.actors.tally(_payable, self._sort)

    def start(self) -> None:
        """Tell what is new since the last start, once the book has its actors."""
        for actor in self._book.actors.values():
            self.changed(actor.channel)
        self.announce_node()

    def tend(self) -> None:
        """Say our own word anew before it is forgotten."""
        now = self._world.now
        for actor in self._book.actors.values():
            policy = self._known.policy((actor.channel.id, actor.channel.we))
            if policy is not None and policy.timestamp < now - REFRESH:
                self.publish(actor.channel, again=True)
        own = self._known.nodes.get(self._key.public)
        self.announce_node(again=own is not None and own.timestamp < now - REFRESH)

    # -- a line

    def live(self, line: Line) -> None:
        """A line stands: say what the peer may have missed of our common channels."""
        self._said[line] = set()
        policies: list[wire.Message] = []
        for actor in self._book.actors.of(line.peer):
            channel = actor.channel
            if channel.phase is Phase.OPEN and channel.id not in self._known:
                if channel.public:
                    self._say_half(line, channel)
                elif (update := self._known.private.get((channel.id, channel.we))) is not None:
                    policies.append(update)
        line.send(policies)

    def ended(self, line: Line) -> None:
        self._said.pop(line, None)

    # -- our channels

    def changed(self, channel: Channel) -> None:
        """A channel of ours has a new state; cheap unless that concerns the public."""
        stage = channel.phase, _usable(channel)
        if self._stages.get(channel.id) == stage:
            return
        self._stages[channel.id] = stage
        match channel.phase:
            case Phase.OPENING:
                pass
            case Phase.OPEN:
                self._opened(channel)
            case Phase.FROZEN:
                self.publish(channel)
            case Phase.CLOSING | Phase.SETTLED | Phase.CLOSED:
                self.publish(channel)
                self._tell_gone(channel.id)
                for said in self._said.values():  # a reorg may take the close back
                    said.discard(channel.id)

    def forgotten(self, channel: ChannelId) -> None:
        """A channel of ours is no more; it was never open."""
        self._stages.pop(channel, None)
        self._halves.pop(channel, None)
        self._known.remove(channel)  # its peer may have told a policy of it

    def _opened(self, channel: Channel) -> None:
        line = self._lines.of(channel.peer)
        if line is not None:
            self._tell_opened(line)
        if not channel.public or channel.id in self._known:
            self.publish(channel)
            return
        if line is not None:
            self._say_half(line, channel)
        half = self._halves.pop(channel.id, None)
        if half is not None:
            self._announce(channel, half)

    def heard_half(self, line: Line, message: wire.AnnouncementSignatures) -> None:
        """The peer's two signatures that a common channel be announced. PeerFault: they are none, or for none."""
        actor = self._book.actors.get(message.channel_id)
        if actor is None or actor.channel.peer != line.peer or not actor.channel.public:
            raise PeerFault(Answer.WARN, "announcement signatures for no public channel of ours")
        channel = actor.channel
        announcing.judge_half(channel, self._key.public, message)
        if channel.phase is Phase.OPENING:
            self._halves[channel.id] = message
        elif channel.phase is Phase.OPEN:
            self._say_half(line, channel)
            if channel.id not in self._known:
                self._announce(channel, message)

    def _say_half(self, line: Line, channel: Channel) -> None:
        """Once on a line; the answer to the peer's half is ours, never a second one."""
        said = self._said.setdefault(line, set())
        if channel.id not in said:
            said.add(channel.id)
            line.send([announcing.half(channel, self._key, self._account)])

    def _announce(self, channel: Channel, theirs: wire.AnnouncementSignatures) -> None:
        ours = announcing.half(channel, self._key, self._account)
        self.establish(channel, announcing.whole(channel, self._key.public, ours, theirs), US)

    def establish(self, channel: Channel, message: wire.ChannelAnnouncement, source: Source) -> None:
        """A public channel of ours is announced: now its policy and our addresses may be known."""
        self._halves.pop(channel.id, None)
        if self._believed.channel(channel.id, message, Amount(sum(channel.told)), source):
            log.info("channel=%s announced", channel.name)
            self.publish(channel)
            self.announce_node()

    def publish(self, channel: Channel, *, again: bool = False) -> None:
        """Say our side's policy, if it is not what we said last: to all, or of a private channel to the peer."""
        direction = channel.id, channel.we
        last = self._known.policy(direction)
        if channel.id not in self._known and (channel.public or (last is None and channel.phase is not Phase.OPEN)):
            return
        said = NEVER if last is None else last.timestamp
        wanted = replace(self._policy(channel), disabled=not _usable(channel), timestamp=said)
        if wanted == last and not again:
            return
        if again:
            self._believed.say_again(channel.id)
        policy = replace(wanted, timestamp=Timestamp(max(self._world.now, said + 1)))
        self._believed.update(announcing.update_of(channel.id, channel.we, policy, self._key), US)
        line = self._lines.of(channel.peer)
        if channel.id not in self._known and line is not None:
            line.send([self._known.private[direction]])

    def word(self, channel: Channel) -> bytes:
        """Our policy for sending out over a channel, encoded as we said it last; empty if we never did."""
        update = self._known.private.get((channel.id, channel.we))
        policy = self._known.graph.policy(channel.id, channel.we)
        if update is None and policy is not None:  # signing is deterministic: the same as was broadcast
            update = announcing.update_of(channel.id, channel.we, policy, self._key)
        return b"" if update is None else wire.encode(update)

    def announce_node(self, *, again: bool = False) -> None:
        """Say where we are reached, if we have a public channel and it is not what we said last."""
        if not self._known.has_channel(self._key.public):
            return
        last = self._known.nodes.get(self._key.public)
        if last is not None and (last.alias, last.addresses) == (self._alias, self._addresses) and not again:
            return
        at = Timestamp(max(self._world.now, 1 if last is None else last.timestamp + 1))
        self._believed.node(announcing.node_of(at, self._addresses, self._alias, self._key), US)

    # -- invoices

    def hints(self, token: Address) -> list[tuple[HintHop, ...]]:
        """Ways to us over our private channels in `token`, for an invoice; those with most to come in first."""
        self._usable.look()
        found: list[tuple[HintHop, ...]] = []
        for _, id_ in self._payable.get(token, ()):
            actor = self._book.actors[id_]
            update = self._known.private.get((id_, actor.channel.we.other))
            if update is None or update.disabled or actor.broken:
                continue
            hop = HintHop(
                node=actor.channel.peer,
                channel=id_,
                fee_base=update.fee_base,
                fee_ppm=update.fee_ppm,
                expiry_delta=update.expiry_delta,
            )
            found.append((hop,))
            if len(found) == MAX_HINTS:
                break
        return found

    def _sort(
        self, channel: ChannelId, before: tuple[Address, Amount] | None, after: tuple[Address, Amount] | None
    ) -> None:
        if before is not None:
            ways = self._payable[before[0]]
            del ways[bisect_left(ways, (-before[1], channel))]
        if after is not None:
            insort(self._payable.setdefault(after[0], []), (-after[1], channel))


def _usable(channel: Channel) -> bool:
    """Whether others may send over it: not while it is being closed."""
    return channel.signs and not channel.leaving


def _payable(channel: Channel) -> tuple[Address, Amount] | None:
    """Its token, and what the peer can pay us over it, if it can."""
    return (channel.token, channel.peer_balance) if _usable(channel) else None
