"""Blocks as facts, in order, told again along another branch after a reorg.

`follow` polls the head and walks from the newest block it has told to the newest there is, checking every parent
hash, reading logs by block hash, and comparing the manager's own count of closes with the closes it read, since nodes
are known to leave logs out without a word. Nothing is ever skipped: a poll that fails is tried again from where it
stood. Who reads the events keeps the last blocks as a cursor and hands them in again at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from channeld.base.errors import Malformed, Refused, Unreachable
from channeld.chain.chain import BlockRef, Fact, Head, SeenClose
from channeld.chain.reads import RpcChain, block_ref, hexed
from channeld.chain.rpc import RpcError

DEPTH: Final = 256
"""Blocks that a cursor keeps: the deepest reorg that can be followed."""
BATCH: Final = 50
"""Blocks read at once while catching up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSeen:
    """The next block on the branch, with what our contracts said in it."""

    block: BlockRef
    facts: tuple[Fact, ...]
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """Blocks after `to` are no longer on the chain: forget what they said. Others follow."""

    to: BlockRef
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadMoved:
    """No new block, but another one has become safe or final; or everything up to the head has now been told."""

    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainDown:
    """The chain cannot be relied on: for safe mode. Told once, until `ChainUp`."""

    since: float
    """trio time of the last good look, seconds."""
    reason: str
    """`unreachable`, or `stale` when the newest block is too old."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainUp:
    """The chain answers again, and its head is fresh."""

    head: Head


ChainEvent = BlockSeen | Rewound | HeadMoved | ChainDown | ChainUp


class _Moved(Exception):
    """The branch changed while it was read: look again."""


async def follow(
    chain: RpcChain,
    out: trio.MemorySendChannel[ChainEvent],
    *,
    cursor: Sequence[BlockRef] = (),
    start: int | None = None,
    poll: float,
    max_head_age: int | None = None,
    clock: Callable[[], float] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send every block's facts to `out`, in order, until cancelled; a node that is away is told, not raised.

    Args:
        cursor: blocks told before, oldest first, without gaps, at most `DEPTH` of use.
        start: without a cursor, the number of the first block to tell; None for the newest finalized one.
        poll: seconds between looks.
        max_head_age: seconds after which a head is too old by `clock` (seconds since 1970); None for never.

    Raises:
        Refused: `other_chain`, if none of the cursor's blocks is on this chain.
    """
    walk = _Walk(chain, out, list(cursor[-DEPTH:]), start)
    last_good, down = trio.current_time(), ""
    task_status.started()
    async with out:
        while True:
            try:
                await walk.look()
                if walk.head is None:
                    raise Unreachable("no head was read")
            except Unreachable as fault:
                trouble, text = "unreachable", str(fault)
            else:
                trouble = text = ""
                if clock is not None and max_head_age is not None and walk.head.age(int(clock())) > max_head_age:
                    trouble, text = "stale", f"the newest block is {walk.head.age(int(clock()))} s old"
            if not trouble:
                last_good = trio.current_time()
                if down and walk.head is not None:
                    await out.send(ChainUp(head=walk.head))
            elif trouble != down:
                await out.send(ChainDown(since=last_good, reason=trouble, text=text))
            down = trouble
            await trio.sleep(poll)


class _Walk:
    """Where the follower stands: the newest blocks it has told, and the count of closes up to there."""

    def __init__(
        self, chain: RpcChain, out: trio.MemorySendChannel[ChainEvent], told: list[BlockRef], start: int | None
    ) -> None:
        self.head: Head | None = None
        self._chain = chain
        self._out = out
        self._told = told
        self._start = start
        self._closings: int | None = None

    async def look(self) -> None:
        """Tell everything up to the head; Unreachable if that cannot be done now."""
        head = await self._chain.head()
        moved = self.head != head
        self.head = head
        if not self._told:
            await self._set_out(head)
        elif self._told[-1].hash != head.latest.hash:
            await self._rewind(head)
        try:
            while self._told[-1].number < head.latest.number:
                await self._advance(head)
        except _Moved:
            return  # the next look finds the fork
        if moved:
            await self._out.send(HeadMoved(head=head))

    async def _set_out(self, head: Head) -> None:
        """Begin before the first block to tell."""
        first = head.finalized.number if self._start is None else self._start
        if first > 0:
            self._told = [await self._chain.block(first - 1)]
            return
        genesis = await self._chain.block(0)
        await self._out.send(BlockSeen(block=genesis, facts=(), head=head))
        self._told = [genesis]

    async def _rewind(self, head: Head) -> None:
        """Drop told blocks that are no longer on the chain."""
        kept = list(self._told)
        while kept and not await self._is_canonical(kept[-1]):
            kept.pop()
        if not kept:
            oldest = self._told[0]
            text = f"none of the last {len(self._told)} blocks known here, from {oldest.number}, is on this chain"
            hint = "the RPC address leads to another chain, or a development chain was started anew"
            raise Refused("other_chain", text, hint)
        if len(kept) < len(self._told):
            self._told = kept
            self._closings = None
            await self._out.send(Rewound(to=kept[-1], head=head))

    async def _is_canonical(self, block: BlockRef) -> bool:
        try:
            shape = await self._chain.rpc.call("eth_getBlockByNumber", hex(block.number), False)
        except RpcError as fault:
            raise Unreachable(f"eth_getBlockByNumber: {fault}") from None
        return shape is not None and block_ref(shape).hash == block.hash

    async def _advance(self, head: Head) -> None:
        """Tell the next few blocks."""
        last = self._told[-1]
        if self._closings is None:
            self._closings = await self._chain.closings(last)
        numbers = range(last.number + 1, min(last.number + BATCH, head.latest.number) + 1)
        rpc = self._chain.rpc
        shapes = await rpc.batch([("eth_getBlockByNumber", [hex(number), False]) for number in numbers])
        blocks = []
        for shape in shapes:
            if not isinstance(shape, dict):
                raise _Moved
            block = block_ref(shape)
            if shape.get("parentHash") != hexed(last.hash) or block.number != last.number + 1:
                raise _Moved
            blocks.append(block)
            last = block
        told = await self._facts(blocks)
        closings = self._closings + sum(isinstance(fact, SeenClose) for facts in told for fact in facts)
        if closings != await self._chain.closings(blocks[-1]):
            raise Unreachable(f"the node left out logs up to block {blocks[-1].number}")
        for block, facts in zip(blocks, told, strict=True):
            await self._out.send(BlockSeen(block=block, facts=facts, head=head))
            self._told.append(block)
        del self._told[:-DEPTH]
        self._closings = closings

    async def _facts(self, blocks: Sequence[BlockRef]) -> list[tuple[Fact, ...]]:
        contracts = self._chain.contracts
        addresses = [hexed(contracts.manager), hexed(contracts.registry)]
        answers = await self._chain.rpc.batch(
            [("eth_getLogs", [{"blockHash": hexed(block.hash), "address": addresses}]) for block in blocks]
        )
        told = []
        for block, logs in zip(blocks, answers, strict=True):
            if isinstance(logs, RpcError):
                raise Unreachable(f"eth_getLogs: {logs}")
            told.append(self._read(logs, block))
        return told

    def _read(self, logs: Any, block: BlockRef) -> tuple[Fact, ...]:
        if not isinstance(logs, list):
            raise Unreachable("eth_getLogs gave no list")
        try:
            facts = [self._chain.contracts.fact(log, block) for log in logs]
        except Malformed as fault:
            raise Unreachable(f"eth_getLogs: {fault}") from None
        return tuple(sorted((fact for fact in facts if fact is not None), key=lambda fact: fact.log_index))
