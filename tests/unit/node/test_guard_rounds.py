"""The guard's rounds on a chain of the test's own making: nothing keeps a challenge from going out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from channeld.base.errors import Unreachable
from channeld.base.units import Address, Amount, Digest, LockKey, Side, Timestamp, Version
from channeld.chain.chain import BlockRef, Call, ChannelWord, Head
from channeld.chain.follower import BlockSeen
from channeld.chain.intents import Intent
from channeld.core.channel import Channel, Phase
from channeld.core.events import CloseAlone, SeenClose
from channeld.node.guard import Guard
from tests.roles import ACCEPTOR_KEY, START, open_pair, pay
from tests.unit.node.parts import Parts, channel_with_lock, parts, renamed


class Contracts:
    """Calls that only say what they are."""

    def __getattr__(self, name: str) -> Callable[..., Call]:
        return lambda *_, **__: Call(to=Address(b"\1" * 20), data=name.encode(), value=0)


@dataclass
class Chain:
    """The registry cannot be asked for `mute` keys."""

    contracts: Contracts = field(default_factory=Contracts)
    mute: set[LockKey] = field(default_factory=set)

    async def registered_at(self, key: LockKey, at: BlockRef | None = None) -> Timestamp:
        if key in self.mute:
            raise Unreachable("no answer")
        return Timestamp(0)

    async def registered_of(self, keys: Sequence[LockKey]) -> dict[LockKey, Timestamp]:
        for key in keys:
            await self.registered_at(key)
        return {}

    async def owed(self, token: Address, owner: Address, at: BlockRef | None = None) -> Amount:
        return Amount(0)

    async def channel(self, channel_id: Any, at: BlockRef | None = None) -> ChannelWord:
        zero = Amount(0)
        return ChannelWord(
            deposit_a=zero,
            deposit_b=zero,
            version=Version(0),
            deadline=Timestamp(START + 600),
            flags=0,
            record=Digest(bytes(32)),
        )


@dataclass
class Sender:
    submitted: list[Intent] = field(default_factory=list)

    async def submit(self, intent: Intent) -> Intent:
        self.submitted.append(intent)
        return intent

    async def find(self, key: str) -> Intent | None:
        return None


def guard_of(node: Parts, asked: Callable[[], bool] = lambda: True) -> tuple[Guard, Chain, Sender]:
    chain, sender = Chain(), Sender()
    made = Guard(
        book=node.book,
        store=node.store,
        world=node.world,
        chain=chain,  # type: ignore[arg-type]
        sender=sender,  # type: ignore[arg-type]
        account_key=ACCEPTOR_KEY,
        memo_of=lambda _: b"",
        gone=lambda _: None,
        resized=lambda *_: None,
        ticked=lambda: None,
        asked=asked,
        poll=1.0,
    )
    return made, chain, sender


def block(number: int, at: int) -> BlockRef:
    return BlockRef(number=number, hash=number.to_bytes(32, "big"), timestamp=Timestamp(at))


def seen(number: int, latest: int, at: int) -> BlockSeen:
    head = Head(latest=block(latest, at), safe=block(1, at), finalized=block(1, at))
    return BlockSeen(block=block(number, at), facts=(), head=head)


def victim() -> Channel:
    """The acceptor's, with a state to challenge with."""
    both = open_pair()
    both.do(Side.A, pay(100))
    both.settle()
    return both.acceptor.channel


CHEAT = SeenClose(closer=Side.A, version=Version(0), body_hash=Digest(bytes(32)), deadline=Timestamp(START + 600))


async def test_trouble_with_one_channel_keeps_no_other_from_its_challenge(nursery: trio.Nursery) -> None:
    """I40."""
    with parts(nursery) as node:
        stuck = await node.add(renamed(channel_with_lock(1, 5, START + 10, ours=True), 7))
        cheated = await node.add(victim())
        guard, chain, sender = guard_of(node)
        await cheated.ask(CHEAT)
        await guard._heard(seen(2, 2, START + 5))
        sender.submitted.clear()
        chain.mute = {lock.key for lock in stuck.channel.current.body.locks.values()}
        with pytest.raises(Unreachable):
            await guard._heard(seen(3, 3, START + 50))
        assert [intent.data for intent in sender.submitted] == [b"challenge"]
        assert cheated.channel.phase is Phase.CLOSING


async def test_a_victim_that_comes_after_the_deadline_still_challenges(nursery: trio.Nursery) -> None:
    """Until `finalize` has run nothing is lost; an act that names a deadline gone by would be dropped unsent."""
    with parts(nursery) as node:
        cheated = await node.add(victim())
        guard, _, sender = guard_of(node)
        await cheated.ask(CHEAT)
        await guard._heard(seen(2, 2, START + 700))
        assert [(intent.data, intent.deadline) for intent in sender.submitted] == [(b"challenge", None)]


async def test_no_channel_is_closed_before_the_towers_were_asked_but_one_that_is_closing_is_defended(
    nursery: trio.Nursery,
) -> None:
    """A copy that nobody has declared, and that wants its channel closed, may have an older state than its tower."""
    told = trio.Event()
    with parts(nursery) as node:
        leaver = await node.add(victim())
        cheated = await node.add(renamed(victim(), 7))
        guard, _, sender = guard_of(node, told.is_set)
        await leaver.ask(CloseAlone())
        await cheated.ask(CHEAT)
        await guard._heard(seen(2, 2, START + 5))
        assert [intent.data for intent in sender.submitted] == [b"challenge"]
        told.set()
        await guard._heard(seen(3, 3, START + 6))
        assert [intent.data for intent in sender.submitted] == [b"challenge", b"challenge", b"close"]


async def test_far_behind_the_head_nothing_new_is_begun(nursery: trio.Nursery) -> None:
    """I30: a close may be in the blocks not read yet."""
    with parts(nursery) as node:
        guard, _, _ = guard_of(node)
        await guard._heard(seen(2, 500, START + 5))
        assert node.world.safe_mode is not None
        await guard._heard(seen(500, 500, START + 5))
        assert node.world.safe_mode is None
