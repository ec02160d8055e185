"""Connections to peers: one live line per node, and what is said on it, sorted to whom it concerns.

A line is an encrypted stream with an outgoing queue of its own, so a peer that does not read holds up nobody else.
A newer connection from the same node replaces the older one, after the older has ended and its channels know it.
Channel messages go to the channel's actor in the order they came; opening and gossip messages to their own hearers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from channeld.base.digests import Domain
from channeld.base.errors import Answer, Broken, ChanneldError, Malformed, PeerFault, Refused, Unreachable
from channeld.base.keys import Key
from channeld.base.units import ChannelId, NodeId, short
from channeld.core import messages as core
from channeld.core.channel import Channel, Phase
from channeld.core.events import Cancel, Connected, Disconnected, Got
from channeld.core.messages import AddLock
from channeld.node.budget import Budget
from channeld.node.exposure import only_words
from channeld.node.ledger import Book
from channeld.node.translate import ChannelMessage, Gatherer, to_wire
from channeld.node.world import World
from channeld.peers.dial import keep_connected
from channeld.peers.net import Net, Tcp
from channeld.peers.talk import PeerStream
from channeld.wire import messages as wire
from channeld.wire.address import HostPort, NodeAddress

if TYPE_CHECKING:
    from channeld.node.loop import Actor

log = logging.getLogger(__name__)
PING_EVERY: Final = 20.0
SILENCE: Final = 60.0
MAX_UNSENT: Final = 16 * 1024 * 1024
"""Bytes that may wait for a peer that does not read, before the line is cut; each message counts `OVERHEAD` more."""
OVERHEAD: Final = 48
"""What a message that waits takes beside its bytes."""
WEIGHED: Final = 256 * 1024
"""From so many bytes on a line is held against what all lines share."""
PONG_ROOM: Final = 256 * 1024
"""With more than this unsent a ping is passed over: a peer that pings and does not read gets nothing to keep."""
MAX_BACKLOG: Final = 128
"""Messages of a channel that may wait for its turn; a commit is one, with all its updates."""
STRANGERS_RATE: Final = 20.0
STRANGERS_BURST: Final = 200
"""Messages in a second, and at once, that are handled of a peer without a channel that dialled us."""
_CLOSED: Final = (Phase.CLOSED, Phase.SETTLED)


class Hearer(Protocol):
    """Who takes messages that belong to no channel's machine."""

    async def heard(self, line: Line, message: wire.Message) -> None: ...


class Line:
    """One live connection. `say` and `send` never wait; what they queue goes out in order."""

    def __init__(
        self, stream: PeerStream, *, inbound: bool, address: HostPort | None, budget: Budget | None = None
    ) -> None:
        """`budget`: what all lines share, if they do."""
        self.peer: NodeId = stream.remote
        self.inbound, self.address, self.origin = inbound, address, stream.origin
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self._stream = stream
        self._unsent: list[bytes] = []
        self._size = self._sending = 0
        self._budget = budget
        self._bell = trio.Event()
        self._sent = trio.Event()
        self._gatherers: dict[ChannelId, Gatherer] = {}
        self.known = False
        """Whether the peer had a channel when we looked."""
        self._heard = 0.0
        """Messages of a stranger that are not made good by time yet, as of `_heard_at`."""
        self._heard_at = trio.current_time()

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._size

    @property
    def held(self) -> int:
        """Bytes that wait, those being sent included."""
        return self._size + self._sending

    @property
    def is_cut(self) -> bool:
        return self.scope.cancel_called

    def cut(self) -> None:
        self.scope.cancel()

    def send(self, messages: Sequence[wire.Message]) -> None:
        for message in messages:
            data = wire.encode(message)
            self._unsent.append(data)
            self._size += len(data) + OVERHEAD
        if self._size > MAX_UNSENT:
            log.warning("peer=%s does not read: cut", short(self.peer[1:]))
            self.scope.cancel()
        if self._budget is not None and self.held > WEIGHED:
            self._budget.weigh()
        self._bell.set()

    def say(self, channel: Channel, messages: list[core.Message]) -> None:
        for message in messages:
            self.send(to_wire(channel.id, message, channel.we))

    def complain(self, channel: Channel, fault: PeerFault) -> None:
        match fault.answer:
            case Answer.WARN:
                self.send([wire.Warning(channel_id=channel.id, code="warning", text=fault.text[:200])])
            case Answer.DISCONNECT | Answer.FREEZE:
                log.warning("peer=%s disconnected: %s", short(self.peer[1:]), fault.text)
                self.scope.cancel()
            case Answer.IGNORE:
                pass

    def gather(self, actor: Actor, message: ChannelMessage) -> core.Message | None:
        gatherer = self._gatherers.get(actor.channel.id)
        if gatherer is None:
            gatherer = self._gatherers[actor.channel.id] = Gatherer(actor.channel.we.other)
        return gatherer.take(message)

    async def write(self) -> None:
        """Send what is queued until cancelled."""
        try:
            while True:
                await self._bell.wait()
                self._bell = trio.Event()
                unsent, self._unsent, self._sending, self._size = self._unsent, [], self._size, 0
                if unsent:
                    await self._stream.send(unsent)
                del unsent
                self._sending = 0
                self._sent.set()
                self._sent = trio.Event()
        finally:
            self._sent.set()

    async def drained(self) -> None:
        """Wait until what was queued is on its way, or the line has ended."""
        while self._size and not self.ended.is_set():
            await self._sent.wait()

    async def read(self) -> list[wire.Message]:
        with trio.move_on_after(SILENCE) as waiting:
            return await self._stream.receive()
        if waiting.cancelled_caught:
            raise Unreachable(f"silent for {SILENCE:g} s")
        raise Unreachable("no answer")

    def pace(self, messages: int) -> float:
        """So many messages of a stranger were handled; seconds until it may be read again."""
        now = trio.current_time()
        self._heard = max(0.0, self._heard - (now - self._heard_at) * STRANGERS_RATE) + messages
        self._heard_at = now
        return max(0.0, self._heard - STRANGERS_BURST) / STRANGERS_RATE

    async def ping(self) -> None:
        while True:
            await trio.sleep(PING_EVERY)
            self.send([wire.Ping()])


class Lines:
    """All connections of a node. Set `openings` and `gossip` before the first one."""

    def __init__(
        self, book: Book, world: World, node_key: Key, domain: Domain, nursery: trio.Nursery, net: Net | None = None
    ) -> None:
        """`net`: how peers are dialled; TCP if None."""
        self.openings: Hearer
        self.gossip: Hearer
        self.live: Callable[[Line], None] = lambda _: None
        """Told when a line stands and Init has been exchanged."""
        self._book, self._world, self._key, self._domain = book, world, node_key, domain
        self._nursery, self._net = nursery, net or Tcp()
        self._lines: dict[NodeId, Line] = {}
        self._budget = Budget()
        self._dialling: dict[NodeId, trio.CancelScope] = {}
        self._news = trio.Event()
        self.open = trio.Event()
        """Until this is set nobody is listened to: the node is still being put together."""
        self.addresses: dict[NodeId, HostPort] = {}

    def __iter__(self) -> Iterator[Line]:
        return iter(list(self._lines.values()))

    def of(self, peer: NodeId) -> Line | None:
        return self._lines.get(peer)

    def has_channel(self, peer: NodeId) -> bool:
        """Whether it has money in a channel with us, or we have begun one with it: then strangers displace it never."""
        return any(not only_words(a.channel) for a in self._of(peer))

    # -- making them

    async def connect(self, address: NodeAddress, timeout: float = 15.0) -> Line:
        """The line to that node: the one there is, or a new one that is kept up from now on.

        Refused (unreachable): nobody answers there, or another node does.
        """
        found = self._lines.get(address.node)
        if found is not None:
            return found
        if address.node == self._key.public:
            raise Refused("peer_refused", "that is our own node", "name another node's address")
        try:
            stream = await self._net.dial(address, self._key)
        except (Unreachable, PeerFault) as fault:
            raise Refused("unreachable", str(fault), "is the address right and the node running?") from fault
        self.addresses[address.node] = address.at
        self._nursery.start_soon(self._kept, address, stream)
        with trio.move_on_after(timeout):
            while address.node not in self._lines:
                await self._news.wait()
            return self._lines[address.node]
        raise Refused("unreachable", "the node did not greet us", "is it on the same chain and contract?")

    def keep(self, address: NodeAddress) -> None:
        """Dial until connected, and again whenever it is lost."""
        self.addresses[address.node] = address.at
        self._nursery.start_soon(self._kept, address, None)

    async def _kept(self, address: NodeAddress, first: PeerStream | None) -> None:
        if address.node in self._dialling:
            if first is not None:
                async with first:
                    try:
                        await self._talk_out(address.at)(first)
                    except (PeerFault, Unreachable) as fault:  # a second line to a peer that is dialled already
                        log.info("peer=%s second line ended: %s", short(address.node[1:]), fault)
            return
        scope = self._dialling[address.node] = trio.CancelScope()

        async def connect() -> PeerStream:
            nonlocal first
            while (line := self._lines.get(address.node)) is not None and line.inbound:
                await line.ended.wait()
            stream, first = first, None
            return stream if stream is not None else await self._net.dial(address, self._key)

        with scope:
            await keep_connected(
                connect,
                self._talk_out(address.at),
                name=short(address.node[1:]),
                first_delay=0.2,
                longest_delay=5.0,
                steady=5.0,
            )
        del self._dialling[address.node]

    def _talk_out(self, at: HostPort) -> Callable[[PeerStream], Awaitable[None]]:
        async def talk(stream: PeerStream) -> None:
            await self.talk(stream, inbound=False, address=at)

        return talk

    async def welcome(self, stream: PeerStream) -> None:
        """A peer that dialled us."""
        await self.talk(stream, inbound=True, address=None)

    # -- one connection

    async def talk(self, stream: PeerStream, *, inbound: bool, address: HostPort | None) -> None:
        """From Init to the end. PeerFault and Unreachable end it; nothing else may."""
        await self.open.wait()
        line = Line(stream, inbound=inbound, address=address, budget=self._budget)
        self._budget.enter(line)
        fault: PeerFault | Unreachable = Unreachable("the line was cut")
        async with trio.open_nursery() as nursery:
            with line.scope:
                nursery.start_soon(_guarded, line)
                line.send([wire.Init(chain_id=self._domain.chain_id, manager=self._domain.manager)])
                try:
                    more = await self._greeted(line)
                    await self._replace(line)
                    nursery.start_soon(line.ping)
                    await self._listen(line, more)
                except (PeerFault, Unreachable) as error:
                    fault = error
                except (
                    ChanneldError
                ) as error:  # a fault of ours in answering one peer: the line ends, the node does not
                    log.critical("peer=%s the line is cut: %s", short(line.peer[1:]), error)
                    fault = PeerFault(Answer.DISCONNECT, "a fault of ours")
                finally:
                    self._leave(line)
            nursery.cancel_scope.cancel()
        raise fault

    async def _greeted(self, line: Line) -> list[wire.Message]:
        """Init comes first; what came with it is given back."""
        init, *more = await line.read()
        if not isinstance(init, wire.Init):
            raise PeerFault(Answer.DISCONNECT, "no Init first")
        if (init.chain_id, init.manager) != (self._domain.chain_id, self._domain.manager):
            raise PeerFault(Answer.DISCONNECT, f"the peer is on chain {init.chain_id}, contract {init.manager.hex()}")
        return more

    async def _replace(self, line: Line) -> None:
        """This line is the one from now on; the one before ends first."""
        while (older := self._lines.get(line.peer)) is not None:
            older.scope.cancel()
            await older.ended.wait()
        self._lines[line.peer] = line
        self._news.set()
        self._news = trio.Event()
        log.info("peer=%s connected inbound=%s", short(line.peer[1:]), line.inbound)
        self.live(line)
        for actor in self._of(line.peer):
            actor.post(Connected(), line=line)

    def _leave(self, line: Line) -> None:
        line.ended.set()
        self._budget.leave(line)
        if self._lines.get(line.peer) is not line:
            return
        del self._lines[line.peer]
        log.info("peer=%s disconnected", short(line.peer[1:]))
        for actor in self._of(line.peer):
            actor.post(Disconnected(), line=line)
            for update in actor.channel.queue:
                if isinstance(update, AddLock):  # nobody to offer it to: let the payment go another way
                    actor.post(Cancel(lock_id=update.lock.id))

    def _of(self, peer: NodeId) -> Iterator[Actor]:
        return (actor for actor in self._book.actors.of(peer) if actor.channel.phase not in _CLOSED)

    async def _listen(self, line: Line, messages: list[wire.Message]) -> None:
        while True:
            for message in messages:
                await self._sort(line, message)
            if line.inbound and not line.known and line.pace(len(messages)):
                line.known = self.has_channel(line.peer)
                while not line.known and (wait := line.pace(0)):
                    await trio.sleep(min(wait, 1.0))
                    line.known = self.has_channel(line.peer)
            messages = await line.read()

    async def _sort(self, line: Line, message: wire.Message) -> None:
        match message:
            case wire.Ping():
                if line.unsent < PONG_ROOM:
                    line.send([wire.Pong(pad=message.pad)])
            case wire.Pong() | wire.Warning():
                pass
            case wire.Error():
                self._error(line, message)
                if message.code == "unknown_channel":
                    await self.openings.heard(line, message)
            case wire.OpenChannel() | wire.AcceptChannel() | wire.ChannelAgreed() | wire.OpenRefused():
                await self.openings.heard(line, message)
            case (
                wire.NodeAnnouncement()
                | wire.ChannelAnnouncement()
                | wire.ChannelUpdate()
                | wire.AnnouncementSignatures()
                | wire.GossipQuery()
                | wire.GossipPage()
            ):
                await self.gossip.heard(line, message)
            case _ if isinstance(message, ChannelMessage):
                await self._to_channel(line, message)
            case _:
                raise PeerFault(Answer.DISCONNECT, f"a {type(message).__name__} is not for this port")

    async def _to_channel(self, line: Line, message: ChannelMessage) -> None:
        actor = self._book.actors.get(message.channel_id)
        if actor is None or actor.channel.peer != line.peer:
            if isinstance(message, wire.Reestablish) and line.unsent < PONG_ROOM:
                line.send([wire.Error(channel_id=message.channel_id, code="unknown_channel", text="no such channel")])
            return
        try:
            whole = line.gather(actor, message)
        except Malformed as fault:
            raise PeerFault(Answer.DISCONNECT, str(fault)) from fault
        if whole is not None:
            actor.post(Got(message=whole, now=self._world.chain_time), line=line)
            await actor.room(MAX_BACKLOG)

    def _error(self, line: Line, message: wire.Error) -> None:
        if not any(message.channel_id):
            raise PeerFault(Answer.DISCONNECT, f"the peer says {message.code}: {message.text}")
        actor = self._book.actors.get(message.channel_id)
        if actor is None or actor.channel.peer != line.peer or message.code == "unknown_channel":
            log.warning("peer=%s error %s: %s", short(line.peer[1:]), message.code, message.text)
            return
        fault = core.Fault(code=message.code, text=message.text)
        actor.post(Got(message=fault, now=self._world.chain_time), line=line)


async def _guarded(line: Line) -> None:
    try:
        await line.write()
    except Unreachable:
        line.scope.cancel()
    except ValueError as fault:
        raise Broken(f"a message of ours cannot be sent: {fault}") from fault
