"""Answering a peer that asks what we have learned: pages of rows as they lie on disk, in the order of learning.

An answer is a few pages (`wire.pages.MOST`), each made when the page before is on its way, so a peer that does not read
costs one page. One page is made at a time, with a pause behind each, and among strangers one at a time is in line for
it: however many ask, payments go on, and peers with a channel wait for one stranger at most.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Final

import trio

from channeld.base.errors import Answer, PeerFault
from channeld.base.units import Seconds, Timestamp
from channeld.node.known import Known
from channeld.node.lines import Line, Lines
from channeld.node.world import World
from channeld.wire import messages as wire
from channeld.wire import pages
from routing.announcements import Rate, Spam

PAUSE: Final = 0.003
"""Seconds after each page; making one takes about as long."""
QUERY_RATE: Final = Rate(burst=500, every=Seconds(1))
"""A peer that knows nothing needs one for every 512,000 bytes: 110 for fifty thousand channels."""


class Answering:
    """See the file's head."""

    def __init__(self, known: Known, world: World, lines: Lines, nursery: trio.Nursery) -> None:
        self._known, self._world, self._lines, self._nursery = known, world, lines, nursery
        self._asked = Spam(QUERY_RATE)
        self._answering: set[Line] = set()
        self._turn, self._strangers = trio.StrictFIFOLock(), trio.StrictFIFOLock()

    def heard(self, line: Line, query: wire.GossipQuery) -> None:
        """Answer it by and by. PeerFault: it asks for nothing there is, too often, or before the last answer ended."""
        if query.kind not in pages.KINDS:
            raise PeerFault(Answer.WARN, f"a query for messages of class {query.kind}")
        self._asked.judge(line.peer, self._world.now)
        if line in self._answering:
            raise PeerFault(Answer.IGNORE, "a query before the last was answered")
        self._answering.add(line)
        self._nursery.start_soon(self._answer, line, query)

    async def _answer(self, line: Line, query: wire.GossipQuery) -> None:
        since, after, last = query.since, query.after, False
        try:
            await self._known.settled()
            for number in range(pages.MOST):
                page = await self._page(line, query.kind, since, after, number == pages.MOST - 1)
                since, after, last = page.since, page.after, page.last
                if last:
                    break
                await line.drained()
                if line.ended.is_set():
                    break
        finally:
            self._answering.discard(line)

    async def _page(self, line: Line, kind: int, since: Timestamp, after: bytes, last: bool) -> wire.GossipPage:
        """Make the next page and send it."""
        async with AsyncExitStack() as turns:
            if not self._lines.has_channel(line.peer):
                await turns.enter_async_context(self._strangers)
            await turns.enter_async_context(self._turn)
            told, since, after, more = self._known.page(kind, since, after)
            page = wire.GossipPage(
                kind=kind, since=since, after=after, last=last or not more, more=more, messages=pages.join(told)
            )
            if page.last:  # it may ask for more as soon as it has this
                self._answering.discard(line)
            line.send([page])
            await trio.sleep(PAUSE)
        return page
