"""The follower tells every block once per branch, in order, and takes back what a reorg undid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Amount, Digest, Preimage, Side, Version
from channeld.chain.chain import BlockRef, SeenSecret
from channeld.chain.deploy import Deployment
from channeld.chain.devchain import dev_keys
from channeld.chain.follower import BlockSeen, ChainDown, ChainEvent, ChainUp, HeadMoved, Rewound, follow
from channeld.chain.reads import RpcChain
from channeld.chain.rpc import Rpc
from tests.chain.nodes import POLL, Node, signed
from tests.chain.test_bindings import SALT_A, SALT_B, TERMS

KEY = dev_keys()[4]


@pytest.fixture
async def where(node: Node) -> Deployment:
    return await node.deploy()


class Reader:
    """Reads events and keeps the branch they describe, as a daemon would."""

    def __init__(self, chain: RpcChain) -> None:
        self.chain = chain
        self.branch: list[BlockRef] = []
        self.secrets: list[tuple[bytes, int]] = []
        self.events: list[ChainEvent] = []

    async def start(self, nursery: trio.Nursery, cursor: Sequence[BlockRef] = (), **options: Any) -> None:
        sending, self._inbox = trio.open_memory_channel[ChainEvent](0)
        self.branch = list(cursor)
        run = partial(follow, self.chain, sending, cursor=cursor, poll=POLL, **options)
        await nursery.start(run)

    async def until(self, kind: type[ChainEvent]) -> Any:
        """The next event of that kind."""
        with trio.fail_after(10):
            while True:
                event = await self._inbox.receive()
                self.events.append(event)
                if isinstance(event, BlockSeen):
                    if self.branch:
                        assert event.block.number == self.branch[-1].number + 1
                    self.branch.append(event.block)
                    for fact in event.facts:
                        assert isinstance(fact, SeenSecret)
                        self.secrets.append((fact.secret, event.block.number))
                elif isinstance(event, Rewound):
                    while self.branch[-1] != event.to:
                        self.branch.pop()
                    self.secrets = [one for one in self.secrets if one[1] <= event.to.number]
                if isinstance(event, kind):
                    return event


async def register(node: Node, where: Deployment, nonce: int, secret: int) -> None:
    call = node.chain(where).contracts.register([Preimage(bytes([secret]) * 32)])
    receipt = await node.send(signed(KEY, nonce, to=where.registry, data=call.data, gas=200_000))
    assert receipt["status"] == "0x1"


async def test_facts_in_order_and_a_reorg_told_again(node: Node, where: Deployment, nursery: trio.Nursery) -> None:
    reader = Reader(node.chain(where))
    await reader.start(nursery, start=where.block)
    await reader.until(HeadMoved)
    assert reader.branch[0].number == where.block
    await register(node, where, 0, 1)
    await reader.until(HeadMoved)
    snapshot = await node.rpc.call("evm_snapshot")
    await register(node, where, 1, 2)
    await node.mine(3)
    while len(reader.secrets) < 2 or reader.branch[-1].number < where.block + 6:
        await reader.until(BlockSeen)
    assert [secret[0] for secret, _ in reader.secrets] == [1, 2]
    await node.rpc.call("evm_revert", snapshot)
    await register(node, where, 1, 3)
    await reader.until(Rewound)
    while len(reader.secrets) < 2:
        await reader.until(BlockSeen)
    assert [secret[0] for secret, _ in reader.secrets] == [1, 3]
    await reader.until(HeadMoved)
    assert reader.branch[-1] == (await node.chain(where).head()).latest


async def test_it_goes_on_from_its_cursor_across_a_reorg(node: Node, where: Deployment, nursery: trio.Nursery) -> None:
    first = Reader(node.chain(where))
    snapshot = await node.rpc.call("evm_snapshot")
    await register(node, where, 0, 1)
    async with trio.open_nursery() as inner:
        await first.start(inner, start=where.block)
        while not first.secrets:
            await first.until(BlockSeen)
        inner.cancel_scope.cancel()
    await node.rpc.call("evm_revert", snapshot)
    await register(node, where, 0, 2)
    await node.mine(2)
    second = Reader(node.chain(where))
    await second.start(nursery, cursor=first.branch)
    rewound = await second.until(Rewound)
    assert rewound.to == first.branch[-2]
    while not second.secrets:
        await second.until(BlockSeen)
    assert [secret[0] for secret, _ in second.secrets] == [2]


async def test_catching_up_in_bounded_steps(devchain: Node, nursery: trio.Nursery) -> None:
    where = await devchain.deploy()
    await devchain.mine(130)
    await register(devchain, where, 0, 1)
    reader = Reader(devchain.chain(where))
    await reader.start(nursery, start=0)
    await reader.until(HeadMoved)
    assert [block.number for block in reader.branch] == list(range(134 if where.block == 1 else 0))
    assert len(reader.secrets) == 1


async def test_another_chain_is_refused(devchain: Node) -> None:
    where = await devchain.deploy()
    foreign = [BlockRef(number=1, hash=b"\x07" * 32, timestamp=(await devchain.chain(where).block(1)).timestamp)]
    reader = Reader(devchain.chain(where))
    with pytest.RaisesGroup(Refused):
        async with trio.open_nursery() as inner:
            await reader.start(inner, cursor=foreign)
            with pytest.raises(trio.EndOfChannel):
                await reader.until(BlockSeen)


class Proxy:
    """A node in between that can lose logs, tell of blocks from elsewhere, or go away."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self.lose_logs = False
        self.bend = False
        self.away = False

    async def call(self, method: str, *params: Any) -> Any:
        return (await self.batch([(method, params)]))[0]

    async def batch(self, calls: Any) -> Any:
        from channeld.base.errors import Unreachable

        if self.away:
            raise Unreachable("away")
        answers = await self._rpc.batch(calls)
        for answer in answers:
            if self.bend and isinstance(answer, dict) and "parentHash" in answer:
                answer["parentHash"] = "0x" + "66" * 32
        lost: list[Any] = [[] if self.lose_logs and method == "eth_getLogs" else None for method, _ in calls]
        return [answer if loss is None else loss for answer, loss in zip(answers, lost, strict=True)]


async def test_an_outage_and_a_stale_head_are_told_once_each(devchain: Node, nursery: trio.Nursery) -> None:
    where = await devchain.deploy()
    chain = devchain.chain(where)
    proxy = Proxy(devchain.rpc)
    chain.rpc = proxy  # type: ignore[assignment]
    now: list[int] = [(await chain.head()).latest.timestamp]
    reader = Reader(chain)
    await reader.start(nursery, start=where.block, max_head_age=30, clock=lambda: now[0])
    await reader.until(HeadMoved)
    proxy.away = True
    assert (await reader.until(ChainDown)).reason == "unreachable"
    await devchain.mine(2)
    await trio.sleep(3 * POLL)
    proxy.away = False
    await reader.until(ChainUp)
    assert reader.branch[-1].number == (await chain.head()).latest.number
    now[0] += 1_000
    assert (await reader.until(ChainDown)).reason == "stale"
    now[0] -= 1_000
    await reader.until(ChainUp)
    assert [type(event) for event in reader.events].count(ChainDown) == 2


async def test_a_block_is_told_only_after_its_parent(devchain: Node, nursery: trio.Nursery) -> None:
    where = await devchain.deploy()
    chain = devchain.chain(where)
    proxy = Proxy(devchain.rpc)
    chain.rpc = proxy  # type: ignore[assignment]
    reader = Reader(chain)
    await reader.start(nursery, start=where.block)
    await reader.until(HeadMoved)
    told = len(reader.branch)
    proxy.bend = True
    await devchain.mine(2)
    with trio.move_on_after(10 * POLL):
        await reader.until(HeadMoved)
    assert len(reader.branch) == told
    proxy.bend = False
    while len(reader.branch) < told + 2:
        await reader.until(BlockSeen)


async def test_logs_left_out_are_noticed(devchain: Node, nursery: trio.Nursery) -> None:
    """A close that a node forgets to mention is found by the contract's own count."""
    where = await devchain.deploy()
    chain = devchain.chain(where)
    proxy = Proxy(devchain.rpc)
    chain.rpc = proxy  # type: ignore[assignment]
    reader = Reader(chain)
    await reader.start(nursery, start=where.block)
    await reader.until(HeadMoved)
    proxy.lose_logs = True
    opener = dev_keys()[2]
    calls = (
        chain.contracts.deposit(NATIVE, TERMS.hash, Side.A, Amount(5)),
        chain.contracts.close(
            NATIVE,
            TERMS,
            version=Version(0),
            body_hash=Digest(bytes(32)),
            signature=b"",
            salt_other=SALT_B,
            salt_own_hash=keccak(SALT_A),
        ),
    )
    for nonce, call in enumerate(calls):
        raw = signed(opener, nonce, to=where.manager, value=call.value, data=call.data, gas=300_000)
        assert (await devchain.send(raw))["status"] == "0x1"
    down = await reader.until(ChainDown)
    assert "left out logs" in down.text
