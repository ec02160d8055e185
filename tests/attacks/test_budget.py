"""Peers that do not read, many of them: what waits for all together is bounded, and who reads stays (I38)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import trio
import trio.testing

from channeld.base.units import ChannelId, NodeId
from channeld.node.budget import Budget
from channeld.node.lines import MAX_UNSENT, OVERHEAD, WEIGHED, Line
from channeld.wire import messages as wire

SAID = wire.Warning(channel_id=ChannelId(bytes(32)), code="warning", text="x" * 200)
LONG = [SAID] * 200
SIZE = 200 * (len(wire.encode(SAID)) + OVERHEAD)


class Stream:
    """To a peer that reads when it is told to."""

    def __init__(self, number: int, *, reads: bool) -> None:
        self.remote = NodeId(b"\2" + bytes([number]) * 32)
        self.origin = ""
        self.reads = trio.Event()
        if reads:
            self.reads.set()

    async def send(self, _messages: Sequence[bytes]) -> None:
        await self.reads.wait()


def line(budget: Budget, number: int, *, reads: bool = False) -> tuple[Line, Stream]:
    stream = Stream(number, reads=reads)
    made = Line(cast(Any, stream), inbound=True, address=None, budget=budget)
    budget.enter(made)
    return made, stream


async def test_the_largest_is_cut_before_more_waits_than_all_may_have(nursery: trio.Nursery):
    most = 10 * WEIGHED
    budget = Budget(most)
    deaf = [line(budget, number)[0] for number in range(1, 21)]
    reader, _ = line(budget, 99, reads=True)
    for one in (*deaf, reader):
        nursery.start_soon(one.write)
    worst = 0
    for _ in range(40):
        for one in (*deaf, reader):
            if not one.is_cut:
                one.send(LONG)
            await trio.testing.wait_all_tasks_blocked()
            worst = max(worst, sum(it.held for it in (*deaf, reader) if not it.is_cut))
    assert worst <= most + 20 * WEIGHED  # lines below `WEIGHED` do not ask
    assert sum(one.is_cut for one in deaf) >= 10
    assert not reader.is_cut
    assert reader.held == 0
    assert 40 * SIZE < MAX_UNSENT  # its own bound would have cut none of them


async def test_what_is_being_sent_counts_until_it_is_taken(nursery: trio.Nursery):
    one, stream = line(Budget(), 1)
    nursery.start_soon(one.write)
    one.send(LONG)
    await trio.testing.wait_all_tasks_blocked()
    assert (one.unsent, one.held) == (0, SIZE)
    one.send(LONG)
    assert (one.unsent, one.held) == (SIZE, 2 * SIZE)
    stream.reads.set()
    await trio.testing.wait_all_tasks_blocked()
    assert one.held == 0


async def test_one_that_is_being_cut_or_has_left_counts_no_more():
    budget = Budget(4 * SIZE)
    first, second = line(budget, 1)[0], line(budget, 2)[0]
    first.send(LONG * 4)
    second.send(LONG)
    budget.weigh()
    assert (first.is_cut, second.is_cut) == (True, False)
    second.send(LONG * 3)
    budget.weigh()
    assert not second.is_cut
    third = line(budget, 3)[0]
    budget.leave(third)
    third.send(LONG * 9)
    budget.weigh()
    assert not second.is_cut


async def test_one_that_does_not_read_is_cut_at_its_own_bound():
    alone = line(Budget(2 * MAX_UNSENT), 1)[0]
    while alone.held + SIZE <= MAX_UNSENT:
        alone.send(LONG)
    assert not alone.is_cut
    alone.send(LONG)
    assert alone.is_cut
