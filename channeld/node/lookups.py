"""Channels that wait for the chain: their signatures are good, and hundreds of them are looked up in one request.

What is told of a channel meanwhile waits with it. An answer that has never heard of a channel is asked for again a
little later, as our RPC may be behind; who told of a channel that is still not there then is to blame. While the RPC
does not answer, or shows an old chain, everything waits: nobody is believed, and nobody is blamed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from channeld.base.errors import Answer, PeerFault, Unreachable
from channeld.base.units import Amount, ChannelId, NodeId, Seconds, Side, Timestamp, short
from channeld.chain.chain import ChannelWord
from channeld.node.believed import Source
from channeld.node.lines import Line
from channeld.node.world import World
from channeld.wire import messages as wire

log = logging.getLogger(__name__)
MAX_PENDING: Final = 20_000
"""With so many waiting what is heard unasked is passed over. One takes up to 3 kB with what is told of it."""
WINDOW: Final = 10_000
"""With fewer than these waiting there is room for another answer."""
LEAST: Final = 100
MOST: Final = 500
"""Channels in one request."""
QUICK: Final = 0.2
SLOW: Final = 0.5
"""Seconds. After a request that took longer the next asks for half as many, after a quicker one for twice as many: the
chain's watcher asks the same node, and must not wait."""
GATHERED: Final = 0.1
"""Seconds for which a request waits for more to ask for: each is paid for."""
LOOKS: Final = 3
"""How often a channel that the chain does not show is looked for."""
REMEMBERED: Final = 10_000
REFUSED_FOR: Final = Seconds(600)
"""How long a channel that the chain does not show open is not looked up again."""
SLICE: Final = 16
"""Channels that are taken in before others get their turn."""


class Channels(Protocol):
    """What lookups ask of `chain.Chain`."""

    async def channels(self, ids: Sequence[ChannelId]) -> list[ChannelWord]:
        """Unreachable when there is no answer."""
        ...


@dataclass(eq=False, slots=True)
class Pending:
    """A channel announcement whose signatures are good, until the chain has answered."""

    message: wire.ChannelAnnouncement
    source: Source
    updates: dict[Side, wire.ChannelUpdate] = field(default_factory=dict)
    nodes: dict[NodeId, wire.NodeAnnouncement] = field(default_factory=dict)
    capacity: Amount | None = None
    """What a deposit that was seen meanwhile has made of it."""
    looks: int = 0

    def node(self, side: Side) -> NodeId:
        return self.message.node_a if side is Side.A else self.message.node_b


class Lookups:
    """See the file's head. `believe` takes a channel in with its capacity; `blame` tells whose fault one is."""

    def __init__(
        self,
        *,
        chain: Channels,
        world: World,
        nursery: trio.Nursery,
        believe: Callable[[ChannelId, Pending, Amount], None],
        blame: Callable[[Line, PeerFault], None],
    ) -> None:
        self._chain, self._world, self._nursery = chain, world, nursery
        self._believe, self._blame = believe, blame
        self._pending: dict[ChannelId, Pending] = {}
        self._newcomers: dict[NodeId, ChannelId] = {}
        """Nodes of pending channels."""
        self._refused: OrderedDict[ChannelId, Timestamp] = OrderedDict()
        self._queue: deque[ChannelId] = deque()
        self._bell = trio.Event()
        self._moved = trio.Event()
        self._size, self._turn = LEAST, trio.StrictFIFOLock()

    def start(self) -> None:
        for _ in range(2):  # one asks while the other takes in what it was answered
            self._nursery.start_soon(self._work)

    # -- who waits

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, channel_id: object) -> bool:
        return channel_id in self._pending

    def get(self, channel_id: ChannelId) -> Pending | None:
        return self._pending.get(channel_id)

    def of(self, node: NodeId) -> Pending | None:
        """A pending channel of that node."""
        return self._pending.get(self._newcomers.get(node, wire.NO_CHANNEL))

    def refused(self, channel_id: ChannelId) -> bool:
        """Whether the chain has not shown it open, lately."""
        return self._world.now - self._refused.get(channel_id, -REFUSED_FOR) < REFUSED_FOR

    def add(self, channel_id: ChannelId, pending: Pending) -> None:
        """Look it up, if it does not wait already and there is room. For what was asked for there is, see `room`."""
        if channel_id in self._pending or (len(self._pending) >= MAX_PENDING and not pending.source.asked):
            return
        self._pending[channel_id] = pending
        self._newcomers[pending.message.node_a] = self._newcomers[pending.message.node_b] = channel_id
        self._enqueue([channel_id])

    def gone(self, channel_id: ChannelId) -> None:
        """The chain shows that it is closing or paid out: it waits no more, and is not looked up again soon."""
        self._refuse(channel_id)
        self._withdraw(channel_id)

    def resized(self, channel_id: ChannelId, capacity: Amount) -> None:
        """The chain says what it holds: that is newer than what a lookup under way may find."""
        if (pending := self._pending.get(channel_id)) is not None:
            pending.capacity = capacity

    async def room(self) -> None:
        """Wait until few enough wait that many more may come."""
        while len(self._pending) >= WINDOW:
            await self._moved.wait()

    async def settled(self) -> None:
        """Wait until all that wait now have been decided."""
        waiting = set(self._pending)
        while not waiting.isdisjoint(self._pending):
            await self._moved.wait()

    # -- asking the chain

    def _enqueue(self, ids: Sequence[ChannelId]) -> None:
        self._queue += ids
        self._bell.set()

    async def _work(self) -> None:
        while True:
            async with self._turn:
                await self._bell.wait()
                if len(self._queue) < self._size:
                    await trio.sleep(GATHERED)
                some = [id_ for id_ in self._taken() if id_ in self._pending]
                words = await self._words(some) if some else []
            await self._decide(some, words)

    def _taken(self) -> list[ChannelId]:
        some = [self._queue.popleft() for _ in range(min(self._size, len(self._queue)))]
        if not self._queue:
            self._bell = trio.Event()
        return some

    async def _words(self, ids: Sequence[ChannelId]) -> list[ChannelWord]:
        while True:
            why = self._world.safe_mode if self._world.head is not None else None
            if why is None:
                began = trio.current_time()
                try:
                    words = await self._chain.channels(ids)
                except Unreachable as fault:
                    why = str(fault)
                    self._size = LEAST
                else:
                    self._fit(trio.current_time() - began)
                    return words
            log.info("%s channels cannot be looked up: %s", len(ids), why)
            await trio.sleep(max(self._world.network.poll, 1.0))

    def _fit(self, seconds: float) -> None:
        """The last request took so long."""
        if seconds > SLOW:
            self._size = max(LEAST, self._size // 2)
        elif seconds < QUICK:
            self._size = min(MOST, self._size * 2)

    async def _decide(self, ids: Sequence[ChannelId], words: Sequence[ChannelWord]) -> None:
        again = []
        for count, (id_, word) in enumerate(zip(ids, words, strict=True)):
            if count % SLICE == 0:
                await trio.lowlevel.checkpoint()
            pending = self._pending.get(id_)
            if pending is None:
                continue
            if not (word.deposit_a or word.deposit_b or word.closing or word.flags or pending.capacity):
                pending.looks += 1
                if pending.looks < LOOKS:
                    again.append(id_)
                    continue
                if pending.source.line is not None:
                    self._blame(pending.source.line, PeerFault(Answer.WARN, f"channel {short(id_)} is not on chain"))
            held = pending.capacity or Amount(word.deposit_a + word.deposit_b)
            self._withdraw(id_)
            if word.closing or word.dead or not held:
                self._refuse(id_)
            else:
                self._believe(id_, pending, held)
        if again:
            self._nursery.start_soon(self._later, again)
        self._moved.set()
        self._moved = trio.Event()

    async def _later(self, ids: Sequence[ChannelId]) -> None:
        await trio.sleep(min(self._world.network.poll, 2.0))
        self._enqueue(ids)

    def _refuse(self, channel_id: ChannelId) -> None:
        self._refused[channel_id] = self._world.now
        self._refused.move_to_end(channel_id)
        while len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _withdraw(self, channel_id: ChannelId) -> None:
        """No longer pending."""
        pending = self._pending.pop(channel_id, None)
        if pending is not None:
            for node in (pending.message.node_a, pending.message.node_b):
                if self._newcomers.get(node) == channel_id:
                    del self._newcomers[node]
