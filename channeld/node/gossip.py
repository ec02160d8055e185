"""What we tell about our channels, and what we believe of what others tell.

Gossip is believed after its signatures (`routing.announcements`) and after the chain has shown the channel open; then
it is kept, put into the graph and passed on to all lines but the one it came by. A lookup waits for the chain in a
worker; what is told of the channel meanwhile waits with it. When a line stands, each side asks for what the other has
learned since they last talked. A public channel is announced when both sides have signed that; a private one is told
to nobody, but its two nodes know each other's policy, so that the payee can put it into an invoice.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar

import trio

from channeld.base.digests import Domain
from channeld.base.errors import Answer, PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.base.units import Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp, short
from channeld.chain.chain import ChannelWord
from channeld.core.channel import Channel, Phase
from channeld.node import announcing
from channeld.node.known import Known
from channeld.node.ledger import Book
from channeld.node.lines import Line, Lines
from channeld.node.world import World
from channeld.storage.store import Store
from channeld.wire import messages as wire
from channeld.wire.invoice import MAX_HINTS, HintHop
from routing.announcements import (
    GOSSIP_RATE,
    UPDATE_RATE,
    Rate,
    Spam,
    verify_channel_update,
    verify_node_announcement,
)
from routing.fees import NEVER, Policy
from routing.graph import Graph

log = logging.getLogger(__name__)
MAX_PENDING: Final = 10_000
"""Channels that wait for a lookup; more are passed over, and asked for again at the next connection."""
LOOKUPS: Final = 8
"""Lookups at the same time."""
LOOKS: Final = 3
"""How often a channel that the chain does not show is looked for: our RPC may be a little behind."""
REMEMBERED: Final = 10_000
REFUSED_FOR: Final = Seconds(600)
"""How long a channel that the chain does not show open is not looked up again."""
RELAY_ROOM: Final = 4 * 1024 * 1024
"""A line with more bytes than this waiting is told nothing new."""
OVERLAP: Final = Seconds(3_600)
"""How much a query reaches back behind the last talk, since clocks differ."""
SETTLED_IN: Final = 600.0
"""Seconds after which a line has surely brought all it was asked for."""
REFRESH: Final = Seconds(7 * 86_400)
"""Our own word is given anew after this long, before others forget it (`routing.graph.MAX_AGE`)."""
TEND_EVERY: Final = 3_600.0
FAULT_RATE: Final = Rate(burst=20, every=Seconds(60))
"""Wrong signatures and unknown channels that a peer may bring before it is cut off."""
QUERY_RATE: Final = Rate(burst=4, every=Seconds(30))

_Key = TypeVar("_Key", ChannelId, NodeId)


@dataclass(eq=False, slots=True)
class _Pending:
    """A channel announcement whose signatures are good, until the chain has answered."""

    line: Line
    message: wire.ChannelAnnouncement
    updates: dict[Side, wire.ChannelUpdate] = field(default_factory=dict)
    nodes: dict[NodeId, wire.NodeAnnouncement] = field(default_factory=dict)

    def node(self, side: Side) -> NodeId:
        return self.message.node_a if side is Side.A else self.message.node_b


class Channels(Protocol):
    """What gossip asks of `chain.Chain`."""

    async def channel(self, channel_id: ChannelId) -> ChannelWord:
        """Unreachable when there is no answer."""
        ...


class Gossip:
    """See the file's head. `policy` is what we ask for sending out over a channel of ours; its time does not count."""

    def __init__(
        self,
        *,
        book: Book,
        store: Store,
        world: World,
        lines: Lines,
        graph: Graph,
        chain: Channels,
        domain: Domain,
        node_key: Key,
        account_key: Key,
        policy: Callable[[Channel], Policy],
        alias: str,
        addresses: tuple[str, ...],
        nursery: trio.Nursery,
    ) -> None:
        self.known = Known(store, world, graph, nursery)
        self._book, self._world, self._lines = book, world, lines
        self._chain, self._domain, self._nursery = chain, domain, nursery
        self._key, self._account, self._policy = node_key, account_key, policy
        self._alias, self._addresses = alias, addresses
        self._halves: dict[ChannelId, wire.AnnouncementSignatures] = {}
        self._stages: dict[ChannelId, tuple[Phase, bool]] = {}
        self._said: dict[Line, set[ChannelId]] = {}
        """Per line, the channels for which our half was sent."""
        self._pending: dict[ChannelId, _Pending] = {}
        self._newcomers: dict[NodeId, ChannelId] = {}
        """Nodes of pending channels."""
        self._asks, self._asked = trio.open_memory_channel[ChannelId](MAX_PENDING)
        self._refused: OrderedDict[ChannelId, Timestamp] = OrderedDict()
        self._talked: OrderedDict[NodeId, Timestamp] = OrderedDict()
        self._streaming: set[Line] = set()
        self._missed: set[Line] = set()
        self._unasked: set[Line] = set()
        """Lines of strangers that have not been asked for news."""
        self._payable: dict[Address, list[tuple[int, ChannelId]]] = {}
        """By token, the channels over which we can be paid: those with most to come in first, then by id."""
        self._usable = book.actors.tally(_payable, self._sort)
        self._rate, self._updates = Spam(GOSSIP_RATE), Spam(UPDATE_RATE)
        self._faults, self._queries = Spam(FAULT_RATE), Spam(QUERY_RATE)

    # -- start and upkeep

    def load(self) -> None:
        """Put what is kept into the graph, tell what is new of our own channels, and start the workers.

        After the book has its actors, before the first line.
        """
        self.known.load()
        for actor in self._book.actors.values():
            self.changed(actor.channel)
        self._announce_node()
        for _ in range(LOOKUPS):
            self._nursery.start_soon(self._look_up_all)
        self._nursery.start_soon(self._tend_always)

    async def _tend_always(self) -> None:
        while True:
            await trio.sleep(TEND_EVERY)
            self.tend()

    def tend(self) -> None:
        """Say our own word anew before it is forgotten, and forget what nobody has spoken of for long."""
        now = self._world.now
        for actor in self._book.actors.values():
            policy = self.known.policy((actor.channel.id, actor.channel.we))
            if policy is not None and policy.timestamp < now - REFRESH:
                self._publish(actor.channel, again=True)
        own = self.known.nodes.get(self._key.public)
        self._announce_node(again=own is not None and own.timestamp < now - REFRESH)
        self.known.prune()

    # -- our own channels

    def live(self, line: Line) -> None:
        """A line stands: ask for news, and say what the peer may have missed of our common channels.

        A stranger that dialled us is asked once we have a channel with it: what it has to say before, an opening, would
        have to wait until all its news is read, at a stranger's pace.
        """
        if line.inbound and not self._lines.has_channel(line.peer):
            self._unasked.add(line)
        else:
            self._ask(line)
        self._said[line] = set()
        self._nursery.start_soon(self._until_ended, line)
        policies: list[wire.Message] = []
        for actor in self._book.actors.of(line.peer):
            channel = actor.channel
            if channel.phase is Phase.OPEN and channel.id not in self.known:
                if channel.public:
                    self._say_half(line, channel)
                elif (update := self.known.private.get((channel.id, channel.we))) is not None:
                    policies.append(update)
        line.send(policies)

    def _ask(self, line: Line) -> None:
        since = self._talked.get(line.peer, 0) - OVERLAP
        line.send([wire.GossipQuery(since=Timestamp(max(0, since)))])

    async def _until_ended(self, line: Line) -> None:
        begun = trio.current_time()
        await line.ended.wait()
        self._said.pop(line, None)
        heard = line not in self._missed and line not in self._unasked
        if trio.current_time() - begun >= SETTLED_IN and heard:
            _remember(self._talked, line.peer, self._world.now)
        self._missed.discard(line)
        self._unasked.discard(line)

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
                self._publish(channel)
            case Phase.CLOSING | Phase.SETTLED | Phase.CLOSED:
                self._publish(channel)
                self.seen_gone(channel.id)
                for said in self._said.values():  # a reorg may take the close back
                    said.discard(channel.id)

    def forgotten(self, channel: ChannelId) -> None:
        """A channel of ours is no more; it was never open."""
        self._stages.pop(channel, None)
        self._halves.pop(channel, None)
        self.known.remove(channel)  # its peer may have told a policy of it

    def _opened(self, channel: Channel) -> None:
        line = self._lines.of(channel.peer)
        if line is not None and line in self._unasked:
            self._unasked.discard(line)
            self._ask(line)
        if not channel.public or channel.id in self.known:
            self._publish(channel)
            return
        if line is not None:
            self._say_half(line, channel)
        half = self._halves.pop(channel.id, None)
        if half is not None:
            self._announce(channel, half)

    def _say_half(self, line: Line, channel: Channel) -> None:
        """Once on a line; the answer to the peer's half is ours, never a second one."""
        said = self._said.setdefault(line, set())
        if channel.id not in said:
            said.add(channel.id)
            line.send([announcing.half(channel, self._key, self._account)])

    def _announce(self, channel: Channel, theirs: wire.AnnouncementSignatures) -> None:
        ours = announcing.half(channel, self._key, self._account)
        self._establish(channel, announcing.whole(channel, self._key.public, ours, theirs), None)

    def _establish(self, channel: Channel, message: wire.ChannelAnnouncement, but: Line | None) -> None:
        """A public channel of ours is announced: now its policy and our addresses may be known."""
        self._halves.pop(channel.id, None)
        if self._take_channel(channel.id, message, Amount(sum(channel.told)), but):
            log.info("channel=%s announced", channel.name)
            self._publish(channel)
            self._announce_node()

    def _publish(self, channel: Channel, *, again: bool = False) -> None:
        """Say our side's policy, if it is not what we said last: to all, or of a private channel to the peer."""
        direction = channel.id, channel.we
        last = self.known.policy(direction)
        if channel.id not in self.known and (channel.public or (last is None and channel.phase is not Phase.OPEN)):
            return
        said = NEVER if last is None else last.timestamp
        wanted = replace(self._policy(channel), disabled=not _usable(channel), timestamp=said)
        if wanted == last and not again:
            return
        policy = replace(wanted, timestamp=Timestamp(max(self._world.now, said + 1)))
        self._take_update(announcing.update_of(channel.id, channel.we, policy, self._key), None)
        line = self._lines.of(channel.peer)
        if channel.id not in self.known and line is not None:
            line.send([self.known.private[direction]])

    def word(self, channel: Channel) -> bytes:
        """Our policy for sending out over a channel, encoded as we said it last; empty if we never did."""
        update = self.known.private.get((channel.id, channel.we))
        policy = self.known.graph.policy(channel.id, channel.we)
        if update is None and policy is not None:  # signing is deterministic: the same as was broadcast
            update = announcing.update_of(channel.id, channel.we, policy, self._key)
        return b"" if update is None else wire.encode(update)

    def _announce_node(self, *, again: bool = False) -> None:
        """Say where we are reached, if we have a public channel and it is not what we said last."""
        if not self.known.has_channel(self._key.public):
            return
        last = self.known.nodes.get(self._key.public)
        if last is not None and (last.alias, last.addresses) == (self._alias, self._addresses) and not again:
            return
        at = Timestamp(max(self._world.now, 1 if last is None else last.timestamp + 1))
        self._take_node(announcing.node_of(at, self._addresses, self._alias, self._key), None)

    def hints(self, token: Address) -> list[tuple[HintHop, ...]]:
        """Ways to us over our private channels in `token`, for an invoice; those with most to come in first."""
        self._usable.look()
        found: list[tuple[HintHop, ...]] = []
        for _, id_ in self._payable.get(token, ()):
            actor = self._book.actors[id_]
            update = self.known.private.get((id_, actor.channel.we.other))
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

    # -- what the chain says

    def seen_gone(self, channel_id: ChannelId) -> None:
        """The chain shows that the channel is closing or paid out: forget it."""
        _remember(self._refused, channel_id, self._world.now)
        self._withdraw(channel_id)
        self.known.remove(channel_id)

    def seen_deposits(self, channel_id: ChannelId, capacity: Amount) -> None:
        """The chain says what a channel holds now, base units; nothing means gone."""
        if capacity:
            self.known.resize(channel_id, capacity)
        else:
            self.seen_gone(channel_id)

    # -- heard

    async def heard(self, line: Line, message: wire.Message) -> None:
        """Take in one message of gossip. Whoever brings too much that is wrong is cut off."""
        await trio.lowlevel.checkpoint()  # a flood leaves the others their turn
        try:
            self._rate.judge(line.peer, self._world.now)
            match message:
                case wire.ChannelAnnouncement():
                    self._heard_channel(line, message)
                case wire.ChannelUpdate():
                    self._heard_update(line, message)
                case wire.NodeAnnouncement():
                    self._heard_node(line, message)
                case wire.AnnouncementSignatures():
                    self._heard_half(line, message)
                case wire.GossipQuery():
                    self._heard_query(line, message)
                case _:
                    raise PeerFault(Answer.DISCONNECT, f"a {type(message).__name__} is no gossip")
        except PeerFault as fault:
            self._blame(line, fault)

    def _blame(self, line: Line, fault: PeerFault) -> None:
        if fault.answer is Answer.IGNORE:
            log.debug("peer=%s gossip ignored: %s", short(line.peer[1:]), fault.text)
            return
        log.warning("peer=%s gossip refused: %s", short(line.peer[1:]), fault.text)
        answer = fault.answer
        try:
            self._faults.judge(line.peer, self._world.now)
        except PeerFault:
            answer = Answer.DISCONNECT
        if answer is Answer.WARN:
            line.send([wire.Warning(code="gossip", text=fault.text[:200])])
        else:
            log.warning("peer=%s disconnected for its gossip", short(line.peer[1:]))
            line.scope.cancel()

    def _heard_channel(self, line: Line, message: wire.ChannelAnnouncement) -> None:
        channel_id = announcing.id_of(message)
        if channel_id in self.known or channel_id in self._pending:
            return
        actor = self._book.actors.get(channel_id)
        if actor is None and self._world.now - self._refused.get(channel_id, -REFUSED_FOR) < REFUSED_FOR:
            return
        announcing.judge_channel(self._domain, message)
        if actor is not None:
            if actor.channel.public and actor.channel.phase is Phase.OPEN:
                self._establish(actor.channel, message, line)
            return
        try:
            self._asks.send_nowait(channel_id)
        except trio.WouldBlock:
            self._missed.add(line)
            return
        self._pending[channel_id] = _Pending(line, message)
        self._newcomers[message.node_a] = self._newcomers[message.node_b] = channel_id

    def _withdraw(self, channel_id: ChannelId) -> _Pending | None:
        """No longer pending."""
        pending = self._pending.pop(channel_id, None)
        if pending is not None:
            for node in (pending.message.node_a, pending.message.node_b):
                if self._newcomers.get(node) == channel_id:
                    del self._newcomers[node]
        return pending

    def _heard_update(self, line: Line, message: wire.ChannelUpdate) -> None:
        policy = announcing.policy_of(message)
        channel_id, side = direction = message.channel_id, message.side
        pending = self._pending.get(channel_id)
        public = self.known.graph.channel(channel_id)
        actor = self._book.actors.get(channel_id)
        last = self.known.policy(direction)
        if pending is not None:
            node = pending.node(side)
            waits = pending.updates.get(side)
            last = None if waits is None else announcing.policy_of(waits)
        elif public is not None:
            node = public.node(side)
        elif actor is not None and actor.channel.peer == line.peer and side is actor.channel.we.other:
            node = line.peer
        else:
            raise PeerFault(Answer.IGNORE, f"update of an unknown channel {short(channel_id)}")
        verify_channel_update(
            channel=channel_id,
            side=side,
            node=node,
            policy=policy,
            signature=message.signature,
            now=self._world.now,
            known=NEVER if last is None else last.timestamp,
        )
        self._updates.judge(direction, self._world.now)
        if pending is not None:
            pending.updates[side] = message
            return
        self._take_update(message, line)
        if actor is not None and side is actor.channel.we:
            self._publish(actor.channel)  # an older self said something else, and later than we know: correct it

    def _heard_node(self, line: Line, message: wire.NodeAnnouncement) -> None:
        node = message.node_id
        pending = None
        if not self.known.has_channel(node):
            pending = self._pending.get(self._newcomers.get(node, wire.NO_CHANNEL))
            if pending is None:
                raise PeerFault(Answer.IGNORE, f"node {short(node[1:])} has no channel")
        last = self.known.nodes.get(node) if pending is None else pending.nodes.get(node)
        verify_node_announcement(
            node=node,
            timestamp=message.timestamp,
            addresses=message.addresses,
            alias=message.alias,
            features=message.features,
            signature=message.signature,
            now=self._world.now,
            known=NEVER if last is None else last.timestamp,
        )
        self._updates.judge(node, self._world.now)
        if pending is not None:
            pending.nodes[node] = message
            return
        self._take_node(message, line)
        if node == self._key.public:
            self._announce_node()

    def _heard_half(self, line: Line, message: wire.AnnouncementSignatures) -> None:
        actor = self._book.actors.get(message.channel_id)
        if actor is None or actor.channel.peer != line.peer or not actor.channel.public:
            raise PeerFault(Answer.WARN, "announcement signatures for no public channel of ours")
        channel = actor.channel
        announcing.judge_half(channel, self._key.public, message)
        if channel.phase is Phase.OPENING:
            self._halves[channel.id] = message
        elif channel.phase is Phase.OPEN:
            self._say_half(line, channel)
            if channel.id not in self.known:
                self._announce(channel, message)

    def _heard_query(self, line: Line, message: wire.GossipQuery) -> None:
        self._queries.judge(line.peer, self._world.now)
        if line not in self._streaming:
            self._streaming.add(line)
            self._nursery.start_soon(self._stream, line, message.since)

    async def _stream(self, line: Line, since: Timestamp) -> None:
        """All we have learned since then: channels, policies, nodes; never faster than the peer reads."""
        await self.known.saved()
        for page in self.known.since(since):
            line.send(page)
            await line.drained()
            await trio.lowlevel.checkpoint()
            if line.ended.is_set():
                break
        self._streaming.discard(line)

    # -- lookups

    async def _look_up_all(self) -> None:
        async for channel_id in self._asked:
            word = await self._word(channel_id)
            pending = self._withdraw(channel_id)
            if pending is None:
                continue
            if word is None:
                _remember(self._refused, channel_id, self._world.now)
                self._blame(pending.line, PeerFault(Answer.WARN, f"channel {short(channel_id)} is not on chain"))
            elif word.closing or word.dead or not word.deposit_a + word.deposit_b:
                _remember(self._refused, channel_id, self._world.now)
            else:
                self._believe(channel_id, pending, Amount(word.deposit_a + word.deposit_b))

    async def _word(self, channel_id: ChannelId) -> ChannelWord | None:
        """What the chain says of the channel, asked until it answers; None if nobody has ever paid into it."""
        looks = 0
        while channel_id in self._pending and looks < LOOKS:
            if looks:
                await trio.sleep(min(self._world.network.poll, 2.0))
            try:
                word = await self._chain.channel(channel_id)
            except Unreachable as fault:
                log.info("channel=%s cannot be looked up: %s", short(channel_id), fault)
                await trio.sleep(max(self._world.network.poll, 1.0))
                continue
            if word.deposit_a or word.deposit_b or word.closing or word.flags:
                return word
            looks += 1
        return None

    def _believe(self, channel_id: ChannelId, pending: _Pending, capacity: Amount) -> None:
        if self._take_channel(channel_id, pending.message, capacity, pending.line):
            for update in pending.updates.values():
                self._take_update(update, pending.line)
            for node in pending.nodes.values():
                last = self.known.nodes.get(node.node_id)
                if last is None or node.timestamp > last.timestamp:
                    self._take_node(node, pending.line)

    # -- believed: keep, put into the graph, pass on

    def _take_channel(
        self, channel_id: ChannelId, message: wire.ChannelAnnouncement, capacity: Amount, but: Line | None
    ) -> bool:
        """Whether the graph had room for it."""
        if not self.known.add(channel_id, message, capacity):
            return False
        self._broadcast(message, but)
        for side in Side:
            update = self.known.private.pop((channel_id, side), None)
            if update is not None:
                self._take_update(update, None)
        return True

    def _take_update(self, message: wire.ChannelUpdate, but: Line | None) -> None:
        self.known.set_policy(message)
        if message.channel_id in self.known:
            self._broadcast(message, but)

    def _take_node(self, message: wire.NodeAnnouncement, but: Line | None) -> None:
        self.known.set_node(message)
        self._broadcast(message, but)

    def _broadcast(self, message: wire.Message, but: Line | None) -> None:
        for line in self._lines:
            if line is not but and line.unsent < RELAY_ROOM:
                line.send([message])


def _usable(channel: Channel) -> bool:
    """Whether others may send over it: not while it is being closed."""
    return channel.signs and not channel.leaving


def _payable(channel: Channel) -> tuple[Address, Amount] | None:
    """Its token, and what the peer can pay us over it, if it can."""
    return (channel.token, channel.peer_balance) if _usable(channel) else None


def _remember(memory: OrderedDict[_Key, Timestamp], key: _Key, at: Timestamp) -> None:
    memory[key] = at
    memory.move_to_end(key)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
