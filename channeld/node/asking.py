"""Asking a peer for what it has learned, page by page, never faster than it can be judged and looked up.

Of each peer we remember how far it has told us, by its own clock and in the order in which it learned: that is where
the next question begins, on a line that was cut in the middle, after a restart, or each hour, since a peer that was
very busy may not have told us all its news. A question is answered by a few pages. While they are judged the next are
on their way; so a line has at most two answers in memory, and only so many lines are asked at a time. Each has its turn
for a few seconds, so a peer that answers slowly, or never comes to an end, holds up nobody but itself.

A peer has to get on: its marks only rise, no page is empty but the last, and it tells no more than a graph can hold.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from channeld.base.errors import Answer, Malformed, PeerFault
from channeld.base.units import NodeId, Seconds, Timestamp, short
from channeld.node.believed import Source
from channeld.node.judging import Heard
from channeld.node.known import Known
from channeld.node.lines import Line
from channeld.node.lookups import Lookups
from channeld.node.world import World
from channeld.wire import messages as wire
from channeld.wire import pages
from routing.graph import MAX_AGE, MAX_CHANNELS

log = logging.getLogger(__name__)
AT_ONCE: Final = 4
"""Lines that are asked at the same time."""
TURN: Final = 10.0
"""Seconds after which a line lets others ask too."""
ANSWERED_IN: Final = 30.0
"""Seconds for an answer; a peer that needs more is asked again within the hour."""
OVERLAP: Final = Seconds(3_600)
"""How much a question reaches back behind the last answer: news may have been learned while it was given."""
LONG_AGO: Final = Seconds(MAX_AGE // 2)
"""A peer not heard for longer is asked for all: what we have forgotten in the meantime is news again."""
PASSED_ON: Final = 1_000
"""So many news of one peer's telling are passed on to others, see `believed.Source`."""
MOST_TOLD: Final = {pages.CHANNELS: MAX_CHANNELS, pages.POLICIES: 2 * MAX_CHANNELS, pages.NODES: 2 * MAX_CHANNELS}
"""Messages of each class that one peer may tell in one go, known ones included."""
REMEMBERED: Final = 10_000
"""Peers of which we know how far they have told us."""
KEPT: Final = 200
"""Of these the newest that outlive the process."""

JudgePage = Callable[[Source, list[Heard]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a peer has told: up to the row `after` that it learned at `since`. `whole`: there was no more.

    `heard`: when it told that, by our clock.
    """

    since: Timestamp
    after: bytes
    whole: bool
    heard: Timestamp


@dataclass(eq=False, slots=True)
class _Talk:
    """What goes on with one line."""

    line: Line
    source: Source
    kind: int = 0
    told: int = 0
    """Messages of this kind so far."""
    at: tuple[Timestamp, bytes] = (Timestamp(0), b"")
    """Where the last page that came in ended."""
    open: bool = False
    """A question is not answered to its end."""
    come: list[wire.GossipPage] = field(default_factory=list)
    bell: trio.Event = field(default_factory=trio.Event)
    """The answer is there, or will never be."""


class _NoMore(Exception):
    """The line has ended, or its peer does not answer."""


class Asking:
    """See the file's head. `judge` takes in what a page holds; `blame` tells whose fault one is."""

    def __init__(
        self,
        *,
        known: Known,
        world: World,
        lookups: Lookups,
        judge: JudgePage,
        blame: Callable[[Line, PeerFault], None],
        nursery: trio.Nursery,
    ) -> None:
        self._known, self._world, self._lookups, self._nursery = known, world, lookups, nursery
        self._judge, self._blame = judge, blame
        self._talks: dict[Line, _Talk] = {}
        self._marks: OrderedDict[NodeId, dict[int, Mark]] = OrderedDict()
        self._turns = trio.Semaphore(AT_ONCE)

    def load(self) -> None:
        """What was remembered of peers before the last restart."""
        for node, *marks in self._known.read_marks():
            self._marks[NodeId(node)] = {
                kind: Mark(Timestamp(since), after, whole, Timestamp(heard))
                for kind, since, after, whole, heard in marks
            }

    @property
    def busy(self) -> bool:
        """Whether some peer is being asked."""
        return bool(self._talks)

    def begin(self, line: Line) -> None:
        """Ask this peer for its news, unless that goes on already."""
        if line not in self._talks and not line.ended.is_set():
            talk = self._talks[line] = _Talk(line, Source(line, PASSED_ON))
            self._nursery.start_soon(self._run, talk)

    def ended(self, line: Line) -> None:
        if (talk := self._talks.get(line)) is not None:
            talk.bell.set()

    def heard(self, line: Line, page: wire.GossipPage) -> None:
        """Keep a page until it is judged. PeerFault: it was not asked for, or leads nowhere."""
        talk = self._talks.get(line)
        if talk is None or not talk.open or page.kind != talk.kind:
            raise PeerFault(Answer.WARN, "a page of gossip that was not asked for")
        mark = page.since, page.after
        if (page.more and not page.messages) or mark < talk.at or (mark == talk.at and page.messages):
            raise PeerFault(Answer.DISCONNECT, "pages of gossip that lead nowhere")
        talk.at = mark
        talk.come.append(page)
        if page.last or not page.more:
            talk.open = False
            talk.bell.set()
        elif len(talk.come) == pages.MOST:
            raise PeerFault(Answer.DISCONNECT, "an answer of too many pages")

    # -- one line

    async def _run(self, talk: _Talk) -> None:
        try:
            for kind in pages.KINDS:
                await self._hear_all(talk, kind)
            log.info("peer=%s has told all its gossip", short(talk.line.peer[1:]))
        except _NoMore as why:
            log.info("peer=%s has not told all its gossip: %s", short(talk.line.peer[1:]), why)
        except PeerFault as fault:
            self._blame(talk.line, fault)
        finally:
            del self._talks[talk.line]

    async def _hear_all(self, talk: _Talk, kind: int) -> None:
        talk.kind, talk.told = kind, 0
        at, more = self._begin_at(talk.line.peer, kind), True
        while more:
            async with self._turns:
                at, more = await self._turn(talk, at)

    def _begin_at(self, peer: NodeId, kind: int) -> tuple[Timestamp, bytes]:
        mark = self._marks.get(peer, {}).get(kind)
        if mark is None or mark.heard < self._world.now - LONG_AGO:
            return Timestamp(0), b""
        if mark.whole or mark.since > self._world.now:  # else a clock that was wrong once would be right for ever
            return Timestamp(max(0, min(mark.since, self._world.now) - OVERLAP)), b""
        return mark.since, mark.after

    async def _turn(self, talk: _Talk, at: tuple[Timestamp, bytes]) -> tuple[tuple[Timestamp, bytes], bool]:
        """Hear answers for a while; where they ended, and whether there are more."""
        over = trio.current_time() + TURN
        self._ask(talk, at)
        while True:
            answer = await self._answer(talk)
            at, more = talk.at, answer[-1].more
            go_on = more and trio.current_time() < over
            if go_on:
                self._ask(talk, at)
            for page in answer:
                await self._take(talk, page)
            self._remember(talk.line.peer, talk.kind, Mark(*at, whole=not more, heard=self._world.now))
            await self._lookups.room()
            if not go_on:
                self._nursery.start_soon(self._keep_marks)
                return at, more

    async def _take(self, talk: _Talk, page: wire.GossipPage) -> None:
        try:
            messages = pages.split(talk.kind, page.messages)
        except Malformed as fault:
            raise PeerFault(Answer.DISCONNECT, str(fault)) from None
        talk.told += len(messages)
        if talk.told > MOST_TOLD[talk.kind]:
            raise PeerFault(Answer.DISCONNECT, "gossip without end")
        await self._judge(talk.source, messages)
        if talk.line.is_cut:
            raise _NoMore("the line was cut")

    def _ask(self, talk: _Talk, at: tuple[Timestamp, bytes]) -> None:
        talk.at, talk.open, talk.bell = at, True, trio.Event()
        talk.line.send([wire.GossipQuery(kind=talk.kind, since=at[0], after=at[1])])

    async def _answer(self, talk: _Talk) -> list[wire.GossipPage]:
        with trio.move_on_after(ANSWERED_IN):
            if not talk.line.ended.is_set():
                await talk.bell.wait()
        answer, talk.come = talk.come, []
        if talk.open or not answer:
            talk.open = False
            raise _NoMore("the line has ended" if talk.line.ended.is_set() else "it does not answer")
        return answer

    # -- remembering

    def _remember(self, peer: NodeId, kind: int, mark: Mark) -> None:
        self._marks.setdefault(peer, {})[kind] = mark
        self._marks.move_to_end(peer)
        while len(self._marks) > REMEMBERED:
            self._marks.popitem(last=False)

    async def _keep_marks(self) -> None:
        """On disk, once what waits for the chain now is known or refused."""
        kept = [
            [peer, *([kind, mark.since, mark.after, mark.whole, mark.heard] for kind, mark in marks.items())]
            for peer, marks in list(self._marks.items())[-KEPT:]
        ]
        await self._lookups.settled()
        self._known.keep_marks(kept)
