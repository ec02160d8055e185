"""What the guard makes of facts: what counts at one confirmation, what only when it stays, and what it then does.

The chain is a table of what the contracts hold; facts come in as the follower would tell them. Channels, book, store
and the bytes of the calls are the daemon's own; what is handed to the sender is kept in a list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import trio

from channeld.base.keys import compact, sha256
from channeld.base.units import Address, Amount, ChannelId, Digest, LockId, LockKey, Preimage, Side, Timestamp, Version
from channeld.chain import chain as seen
from channeld.chain.bindings import Contracts
from channeld.chain.chain import BlockRef, ChannelWord, Head
from channeld.chain.follower import BlockSeen, HeadMoved, Rewound
from channeld.chain.intents import Intent
from channeld.core.channel import Phase
from channeld.core.effects import Learned
from channeld.node import guard as guard_
from channeld.node.guard import Guard
from tests.roles import DOMAIN, START
from tests.unit.node.hub import FORWARDER_KEY, KEY, PREIMAGE, Hub, hub, packet_on, start
from tests.unit.node.test_turns import pay

CONTRACTS = Contracts(manager=DOMAIN.manager, registry=Address(b"\6" * 20))
TX = b"t" * 32


def block(number: int) -> BlockRef:
    """A block a second, block 0 at START."""
    return BlockRef(number=number, hash=number.to_bytes(32, "big"), timestamp=Timestamp(START + number))


def head(number: int) -> Head:
    """As the dev chain has it: safe one behind, finalized two."""
    return Head(latest=block(number), safe=block(max(0, number - 1)), finalized=block(max(0, number - 2)))


@dataclass
class ChainTable:
    """What the contracts hold."""

    contracts: Contracts = CONTRACTS
    registered: dict[LockKey, Timestamp] = field(default_factory=dict)
    words: dict[ChannelId, ChannelWord] = field(default_factory=dict)
    asked: list[list[LockKey]] = field(default_factory=list)
    """Keys of locks asked for together."""

    def hold(self, fact: seen.Fact) -> None:
        """What the contracts hold after it."""
        match fact:
            case seen.SeenClose():
                flags = 1 if fact.closer is Side.B else 0
                self.words[fact.channel_id] = replace(OPEN, version=fact.version, deadline=fact.deadline, flags=flags)
            case seen.SeenSettle():
                self.words[fact.channel_id] = replace(self.words[fact.channel_id], flags=48)
            case _:
                pass

    async def owed(self, token: Address, owner: Address, at: BlockRef | None = None) -> Amount:
        return Amount(0)

    async def registered_at(self, key: LockKey, at: BlockRef | None = None) -> Timestamp:
        found = self.registered.get(key, Timestamp(0))
        return found if at is None or found <= at.timestamp else Timestamp(0)

    async def registered_of(self, keys: Sequence[LockKey]) -> dict[LockKey, Timestamp]:
        self.asked.append(list(keys))
        return {key: self.registered[key] for key in keys if key in self.registered}

    async def channel(self, channel_id: ChannelId, at: BlockRef | None = None) -> ChannelWord:
        return self.words.get(channel_id, OPEN)

    async def block(self, number: int) -> BlockRef:
        return block(number)


OPEN = ChannelWord(
    deposit_a=Amount(1_000),
    deposit_b=Amount(1_000),
    version=Version(0),
    deadline=Timestamp(0),
    flags=0,
    record=Digest(bytes(32)),
)


@dataclass
class SentList:
    """Intents as they are handed over; asked twice under one name, they are one."""

    given: dict[str, Intent] = field(default_factory=dict)

    async def submit(self, intent: Intent) -> None:
        self.given.setdefault(intent.key, intent)

    async def find(self, key: str) -> Intent | None:
        return self.given.get(key)

    def named(self, word: str) -> list[Intent]:
        return [intent for key, intent in self.given.items() if key.startswith(word)]


@dataclass
class Watch:
    node: Hub
    guard: Guard
    chain: ChainTable
    sent: SentList
    gone: list[ChannelId]
    number: int = 0

    async def mined(self, *facts: seen.Fact) -> None:
        """The next block, with these facts."""
        self.number += 1
        self.node.at(block(self.number).timestamp)
        for fact in facts:
            self.chain.hold(fact)
        placed = tuple(replace(cast(Any, fact), block=block(self.number)) for fact in facts)
        await self.guard._heard(BlockSeen(block=block(self.number), facts=placed, head=head(self.number)))
        await self.node.quiet()

    async def blocks(self, count: int) -> None:
        for _ in range(count):
            await self.mined()


@pytest.fixture
async def watch(nursery: trio.Nursery) -> AsyncIterator[Watch]:
    with hub(nursery) as node:
        await start(node)
        chain, sent = ChainTable(), SentList()
        gone: list[ChannelId] = []
        guard = Guard(
            book=node.book,
            store=node.store,
            world=node.world,
            chain=cast(Any, chain),
            sender=cast(Any, sent),
            account_key=FORWARDER_KEY,
            memo_of=lambda _: b"memo",
            gone=gone.append,
            resized=lambda channel, amount: None,
            ticked=lambda: None,
            asked=lambda: True,
            poll=0.1,
        )
        yield Watch(node, guard, chain, sent, gone)


def closed(channel: ChannelId, version: int, body_hash: bytes, closer: Side) -> seen.SeenClose:
    return seen.SeenClose(
        block=block(0),
        tx_hash=TX,
        log_index=0,
        channel_id=channel,
        closer=closer,
        version=Version(version),
        body_hash=Digest(body_hash),
        deadline=Timestamp(START + 600),
        salt=bytes(32),
        index=1,
    )


def settled(channel: ChannelId, version: int) -> seen.SeenSettle:
    return seen.SeenSettle(
        block=block(0),
        tx_hash=TX,
        log_index=0,
        channel_id=channel,
        version=Version(version),
        paid_a=Amount(995),
        paid_b=Amount(1_005),
        locked_ab=Amount(0),
        locked_ba=Amount(0),
        locks_hash=Digest(bytes(32)),
    )


async def test_r16_a_stale_close_freezes_at_one_confirmation_and_is_answered(watch: Watch):
    out = watch.node.out
    for number in (1, 2):
        await out.actor.ask(pay(number))
        await watch.node.settle()
    newest = out.actor.channel.current
    await watch.mined(closed(out.id, 0, bytes(32), Side.B))
    assert out.actor.channel.phase is Phase.CLOSING
    assert watch.gone == [out.id]
    (challenge,) = watch.sent.named("challenge")
    assert challenge.key == f"challenge:{out.id.hex()}:{newest.version}"
    for signature in (newest.signature_a, newest.signature_b):
        assert b"".join(compact(signature)) in challenge.data
    types = [type_ for (type_,) in watch.node.store.rows("SELECT type FROM events ORDER BY n")]
    assert types[-2:] == ["close_seen", "channel_frozen"]
    await watch.blocks(3)
    assert len(watch.sent.given) == 1, "what was asked once is not asked again"


async def test_the_other_channel_goes_on(watch: Watch):
    await watch.mined(closed(watch.node.out.id, 0, bytes(32), Side.B))
    watch.node.into.peer.do(pay())
    await watch.node.settle()
    assert watch.node.into.actor.channel.phase is Phase.OPEN
    assert watch.node.into.actor.channel.balance == 1_005


async def test_a_close_with_the_newest_state_is_not_challenged(watch: Watch):
    out = watch.node.out
    await out.actor.ask(pay())
    await watch.node.settle()
    newest = out.actor.channel.current
    await watch.mined(closed(out.id, newest.version, newest.body_hash, Side.B))
    await watch.blocks(2)
    assert watch.sent.named("challenge") == []


async def test_r16_a_reorg_takes_the_close_back_and_the_channel_stays_frozen(watch: Watch):
    out = watch.node.out
    await watch.mined(closed(out.id, 0, bytes(32), Side.B))
    watch.chain.words.clear()
    await watch.guard._heard(Rewound(to=block(0), head=head(0)))
    watch.number = 0
    await watch.blocks(1)
    assert out.actor.channel.phase is Phase.FROZEN
    assert out.actor.channel.onchain is None


async def test_money_has_gone_its_way_only_in_a_finalized_block(watch: Watch):
    out = watch.node.out
    await out.actor.ask(pay())
    await watch.node.settle()
    newest = out.actor.channel.current
    await watch.mined(closed(out.id, newest.version, newest.body_hash, Side.B))
    await watch.mined(settled(out.id, newest.version))
    phases = []
    for _ in range(2):
        await watch.blocks(1)
        phases.append(out.actor.channel.phase)
        paid = len(watch.node.store.rows("SELECT name FROM facts WHERE name LIKE 'paid%'"))
        assert paid == (2 if out.actor.channel.phase is Phase.CLOSED else 0)
    assert phases == [Phase.CLOSING, Phase.CLOSED]
    kept: dict[str, bytes] = dict(watch.node.store.rows("SELECT name, value FROM facts WHERE channel = ?", out.id))
    assert int.from_bytes(kept["paid_ours"], "big") == 995
    assert int.from_bytes(kept["paid_theirs"], "big") == 1_005
    assert kept["close_tx"] == TX


async def test_a_reorg_before_that_forgets_the_payout(watch: Watch):
    out = watch.node.out
    newest = out.actor.channel.current
    await watch.mined(closed(out.id, newest.version, newest.body_hash, Side.B))
    before = dict(watch.chain.words)
    await watch.mined(settled(out.id, newest.version))
    watch.chain.words = before
    await watch.guard._heard(Rewound(to=block(1), head=head(1)))
    watch.number = 1
    await watch.blocks(4)
    assert out.actor.channel.phase is Phase.CLOSING


async def test_a_secret_on_chain_is_taken_upstream_at_one_confirmation(watch: Watch):
    """R17: the payee has registered instead of answering; the forwarder is made whole by the same secret."""
    node = watch.node
    await node.offered(packet_on(node.out.id), 103)
    fact = seen.SeenSecret(
        block=block(0), tx_hash=TX, log_index=0, key=bytes(32), secret=PREIMAGE, timestamp=Timestamp(START + 1)
    )
    await watch.mined(fact)
    await node.settle()
    assert node.world.registered[KEY] == START + 1
    assert Learned(lock_id=LockId(1), preimage=PREIMAGE) in node.into.peer.notes
    assert node.into.actor.channel.balance == 1_103


async def test_a_start_asks_once_for_each_key_of_its_locks_and_for_all_together(watch: Watch):
    """A node may hold thousands: one question after the other would keep it from its peers for minutes."""
    node = watch.node
    await node.offered(packet_on(node.out.id), 103)  # a lock in each channel, of one key
    watch.chain.registered[KEY] = Timestamp(START + 1)
    await watch.blocks(2)
    assert watch.chain.asked == [[KEY]]
    assert node.world.registered == {KEY: START + 1}


async def test_of_secrets_that_are_not_ours_only_the_newest_are_remembered(watch: Watch, monkeypatch: Any):
    """Whoever pays for it may register secrets without end."""
    monkeypatch.setattr(guard_, "MANY_REGISTERED", 8)
    watch.guard._most_registered = 8
    node = watch.node
    await node.offered(packet_on(node.out.id), 103)
    secrets = [PREIMAGE, *(Preimage(number.to_bytes(32, "big")) for number in range(100))]
    most = 0
    for secret in secrets:
        fact = seen.SeenSecret(
            block=block(0), tx_hash=TX, log_index=0, key=bytes(32), secret=secret, timestamp=Timestamp(START + 1)
        )
        await watch.mined(fact)
        most = max(most, len(node.world.registered))
    assert most <= 10
    kept = set(node.world.registered)
    assert KEY in kept  # a lock of ours has it
    assert {LockKey(sha256(secret)) for secret in secrets[-4:]} <= kept


async def test_r20_a_secret_that_a_reorg_took_back_is_not_counted(watch: Watch):
    fact = seen.SeenSecret(
        block=block(0), tx_hash=TX, log_index=0, key=bytes(32), secret=PREIMAGE, timestamp=Timestamp(START + 1)
    )
    await watch.mined(fact)
    await watch.guard._heard(Rewound(to=block(0), head=head(0)))
    assert KEY not in watch.node.world.registered


def deposited(channel: ChannelId, a: int, b: int) -> seen.SeenDeposit:
    return seen.SeenDeposit(
        block=block(0), tx_hash=TX, log_index=1, channel_id=channel, deposit_a=Amount(a), deposit_b=Amount(b)
    )


def noted(channel: ChannelId, memo: bytes) -> seen.SeenMemo:
    return seen.SeenMemo(block=block(0), tx_hash=TX, log_index=0, channel_id=channel, memo=memo)


async def test_a_deposit_counts_at_the_networks_depth(watch: Watch):
    out = watch.node.out
    watch.node.world.network = replace(watch.node.world.network, confirmations=3)
    await watch.mined(deposited(out.id, 1_500, 1_000))
    await watch.blocks(1)
    assert out.actor.channel.told == (1_000, 1_000)
    await watch.blocks(1)
    assert out.actor.channel.told == (1_500, 1_000)


@pytest.mark.parametrize("memo", [b"memo", b"another", None])
async def test_only_a_deposit_with_the_agreed_memo_opens(watch: Watch, memo: bytes | None):
    out = watch.node.out
    out.actor.channel = replace(
        out.actor.channel, phase=Phase.OPENING, told=(Amount(0), Amount(0)), heard=(Amount(1_000), Amount(1_000))
    )
    await watch.mined(*([] if memo is None else [noted(out.id, memo)]), deposited(out.id, 1_000, 1_000))
    await watch.blocks(1)
    assert (out.actor.channel.phase is Phase.OPEN) is (memo == b"memo")


async def test_the_cursor_is_saved_behind_what_was_told(watch: Watch):
    await watch.blocks(5)
    (cursor,) = watch.guard._load_cursor()
    assert cursor == block(3), "finalized: what came after it is told again after a start"


async def test_i30_a_look_at_the_head_ends_safe_mode(watch: Watch):
    watch.node.world.fault = "the chain has not been read yet"
    await watch.guard._heard(HeadMoved(head=head(0)))
    assert watch.node.world.fault is None
