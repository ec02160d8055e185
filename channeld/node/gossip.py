"""What we tell about our channels, and what we believe of what others tell: the parts, and what goes where.

Gossip is believed after its signatures (`judging`) and after the chain has shown the channel open (`lookups`); then it
is kept, put into the graph and passed on (`believed`, `known`). News come one by one, as fast as a peer may send them;
what a peer has learned before is asked for, page by page, when a line stands and then each hour (`asking`), and told to
those who ask (`answering`). What we say ourselves is `own_word`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import Answer, PeerFault
from channeld.base.keys import Key
from channeld.base.units import Address, Amount, ChannelId, Seconds, short
from channeld.core.channel import Channel
from channeld.node.answering import Answering
from channeld.node.asking import Asking
from channeld.node.believed import Believed, Source
from channeld.node.judging import Claim, Heard, Judging
from channeld.node.known import Known
from channeld.node.ledger import Book
from channeld.node.lines import Line, Lines
from channeld.node.lookups import Channels, Lookups, Pending
from channeld.node.own_word import OwnWord
from channeld.node.world import World
from channeld.storage.store import Store
from channeld.wire import messages as wire
from channeld.wire.invoice import HintHop
from routing.announcements import GOSSIP_RATE, Rate, Spam
from routing.fees import Policy
from routing.graph import Graph

log = logging.getLogger(__name__)
TEND_EVERY: Final = 3_600.0
FAULT_RATE: Final = Rate(burst=20, every=Seconds(60))
"""Wrong signatures and unknown channels that a peer may bring before it is cut off."""
STRANGERS_RATE: Final = Rate(burst=1_000, every=Seconds(1), each=50)
"""News of all peers together that have dialled us and have no channel: to be many costs a stranger nothing."""
SLICE: Final = 400
"""Messages of a page whose signatures are looked at in one go, in a thread of their own."""
FEW: Final = 8
"""So many are looked at on the spot."""
SHORT: Final = 25
"""Messages after which others get their turn."""


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
        self._world, self._lines, self._nursery = world, lines, nursery
        believed = Believed(self.known, lines)
        self.own = OwnWord(
            book=book,
            world=world,
            lines=lines,
            believed=believed,
            node_key=node_key,
            account_key=account_key,
            policy=policy,
            alias=alias,
            addresses=addresses,
            opened=self._opened,
            gone=self.seen_gone,
        )
        self.lookups = Lookups(chain=chain, world=world, nursery=nursery, believe=self._believe, blame=self._blame)
        self._judging = Judging(
            book=book,
            world=world,
            domain=domain,
            believed=believed,
            lookups=self.lookups,
            own=self.own,
            us=node_key.public,
        )
        self.asking = Asking(
            known=self.known,
            world=world,
            lookups=self.lookups,
            judge=self._judge,
            blame=self._blame,
            nursery=nursery,
        )
        self._answering = Answering(self.known, world, lines, nursery)
        self._unasked: set[Line] = set()
        """Lines of strangers that have not been asked for news."""
        self._rate, self._faults, self._strangers = Spam(GOSSIP_RATE), Spam(FAULT_RATE), Spam(STRANGERS_RATE)
        self._turn, self._thread = trio.StrictFIFOLock(), trio.CapacityLimiter(1)

    # -- start and upkeep

    def load(self) -> None:
        """Put what is kept into the graph, tell what is new of our own channels, and start the workers.

        After the book has its actors, before the first line.
        """
        self.known.load()
        self.asking.load()
        self.own.start()
        self.lookups.start()
        self._nursery.start_soon(self._tend_always)

    async def _tend_always(self) -> None:
        while True:
            await self.tend()
            await trio.sleep(TEND_EVERY)

    async def tend(self) -> None:
        """Say our own word anew before it is forgotten, forget what nobody has spoken of for long, ask for news."""
        self.own.tend()
        await self.known.prune()
        for line in self._lines:
            if line not in self._unasked:
                self.asking.begin(line)

    # -- lines, and our own channels

    def live(self, line: Line) -> None:
        """A line stands: ask for news, and say what the peer may have missed of our common channels.

        A stranger that dialled us is asked once we have a channel with it.
        """
        if line.inbound and not self._lines.has_channel(line.peer):
            self._unasked.add(line)
        else:
            self.asking.begin(line)
        self._nursery.start_soon(self._until_ended, line)
        self.own.live(line)

    async def _until_ended(self, line: Line) -> None:
        await line.ended.wait()
        self._unasked.discard(line)
        self.own.ended(line)
        self.asking.ended(line)

    def _opened(self, line: Line) -> None:
        if line in self._unasked:
            self._unasked.discard(line)
            self.asking.begin(line)

    def changed(self, channel: Channel) -> None:
        """A channel of ours has a new state; cheap unless that concerns the public."""
        self.own.changed(channel)

    def forgotten(self, channel: ChannelId) -> None:
        """A channel of ours is no more; it was never open."""
        self.own.forgotten(channel)

    def hints(self, token: Address) -> list[tuple[HintHop, ...]]:
        """Ways to us over our private channels in `token`, for an invoice; those with most to come in first."""
        return self.own.hints(token)

    def extent(self) -> dict[str, int | bool]:
        """How much of the network is known, and whether more is on its way; as `api.schema.GRAPH` has it."""
        return {
            "channels": len(self.known.graph),
            "nodes": self.known.nodes_with_channels,
            "syncing": self.asking.busy or len(self.lookups) > 0,
        }

    # -- what the chain says

    def seen_gone(self, channel_id: ChannelId) -> None:
        """The chain shows that the channel is closing or paid out: forget it."""
        self.lookups.gone(channel_id)
        self.known.remove(channel_id)

    def seen_deposits(self, channel_id: ChannelId, capacity: Amount) -> None:
        """The chain says what a channel holds now, base units; nothing means gone."""
        if capacity:
            self.known.resize(channel_id, capacity)
            self.lookups.resized(channel_id, capacity)
        else:
            self.seen_gone(channel_id)

    def _believe(self, channel_id: ChannelId, pending: Pending, capacity: Amount) -> None:
        self._judging.believe(channel_id, pending, capacity)

    # -- heard

    async def heard(self, line: Line, message: wire.Message) -> None:
        """Take in one message of gossip. Whoever brings too much that is wrong is cut off."""
        await trio.lowlevel.checkpoint()  # a flood leaves the others their turn
        try:
            match message:
                case wire.GossipPage():
                    self.asking.heard(line, message)
                case wire.GossipQuery():
                    self._answering.heard(line, message)
                case _:
                    self._rate.judge(line.peer, self._world.now)
                    if line in self._unasked:
                        self._strangers.judge("", self._world.now)
                    self._news(line, message)
        except PeerFault as fault:
            self._blame(line, fault)

    def _news(self, line: Line, message: wire.Message) -> None:
        """What comes one by one, without having been asked for."""
        match message:
            case wire.ChannelAnnouncement() | wire.ChannelUpdate() | wire.NodeAnnouncement():
                source = Source(line)
                claim = self._judging.examine(source, message)
                if claim is not None:
                    claim.verify()
                    claim.take(source)
            case wire.AnnouncementSignatures():
                self.own.heard_half(line, message)
            case _:
                raise PeerFault(Answer.DISCONNECT, f"a {type(message).__name__} is no gossip")

    async def _judge(self, source: Source, messages: Sequence[Heard]) -> None:
        """What a page holds. One page at a time: what two peers tell is judged once."""
        async with self._turn:
            for at in range(0, len(messages), SLICE):
                await self._judge_some(source, messages[at : at + SLICE])

    async def _judge_some(self, source: Source, messages: Sequence[Heard]) -> None:
        claims: list[Claim] = []
        for count, message in enumerate(messages):
            if count % SHORT == 0:
                await trio.lowlevel.checkpoint()
            with self._blaming(source):
                if (claim := self._judging.examine(source, message)) is not None:
                    claims.append(claim)
        if len(claims) <= FEW:
            faults = _verified(claims)
        else:
            faults = await trio.to_thread.run_sync(_verified, claims, limiter=self._thread)
        for count, (claim, fault) in enumerate(zip(claims, faults, strict=True)):
            if count % SHORT == 0:
                await trio.lowlevel.checkpoint()
            with self._blaming(source):
                if fault is not None:
                    raise fault
                claim.take(source)

    @contextmanager
    def _blaming(self, source: Source) -> Iterator[None]:
        """A peer's fault within is no more than that."""
        try:
            yield
        except PeerFault as fault:
            if source.line is not None:
                self._blame(source.line, fault)

    def _blame(self, line: Line, fault: PeerFault) -> None:
        if fault.answer is Answer.IGNORE:
            log.debug("peer=%s gossip ignored: %s", short(line.peer[1:]), fault.text)
            return
        if line.is_cut:
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
            line.cut()


def _verified(claims: Sequence[Claim]) -> list[PeerFault | None]:
    """What is wrong with the signatures of each, None for nothing. In a thread: most of the time passes outside of
    the interpreter, so that payments go on."""
    faults: list[PeerFault | None] = []
    for claim in claims:
        try:
            claim.verify()
        except PeerFault as fault:
            faults.append(fault)
        else:
            faults.append(None)
    return faults
