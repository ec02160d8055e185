"""The node's watch on the chain: facts to the channels, and what the chain needs from us (R16-R20).

Closes, challenges and registered secrets count at one confirmation; deposits at the network's depth; whatever ends
money's way counts only in a finalized block. A fact is handed to its channel and saved there before the cursor moves
past it, and every fact may be told twice. After each look the guard asks `closing.due` of every channel that has
something at stake and gives the acts to the sender under names of their own, so nothing is done twice or forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from channeld.base.digests import NO_LOCKS, Lock, rest_hash
from channeld.base.errors import ChanneldError, Unreachable
from channeld.base.keys import Key, sha256
from channeld.base.pack import pack, unpack
from channeld.base.units import Amount, ChannelId, Digest, LockKey, Preimage, Seconds, Side, Timestamp
from channeld.chain import chain as seen
from channeld.chain.chain import BlockRef, Head
from channeld.chain.follower import BlockSeen, ChainDown, ChainEvent, ChainUp, HeadMoved, Rewound, follow
from channeld.chain.reads import RpcChain
from channeld.chain.sender import Sender
from channeld.core import closing, events
from channeld.core.channel import EMPTY, Channel, LockName, Phase
from channeld.core.closing import Margins, due
from channeld.core.updating import our_locks
from channeld.node.actors import Tally
from channeld.node.acts import Acts
from channeld.node.chainbook import note_fact
from channeld.node.ledger import Book
from channeld.node.loop import Actor
from channeld.node.owed import Owed
from channeld.node.tower_saved import sent
from channeld.node.world import World
from channeld.storage.store import Batch, Store

log = logging.getLogger(__name__)
LONGEST_PERIOD: Final = 30 * 86_400
FAR_BEHIND: Final = 10
"""Blocks not read yet, beyond which nothing new is begun: a close may be in them."""
NOTHING_LEFT: Final = (NO_LOCKS, Digest(bytes(32)))
"""Hashes of an empty list of locks: a state's, and a close's without one."""
UNKNOWN: Final = Digest(b"\xff" * 32)
"""Body hash of an older state that we have no copy of; ours goes against it."""
MANY_REGISTERED: Final = 65_536
"""Registration times that are kept of secrets that are in no lock of ours; a start keeps none."""


@dataclass(slots=True)
class _Pending:
    """Facts of blocks that may still go, by block number; and what they made us believe meanwhile."""

    facts: dict[int, list[seen.Fact]] = field(default_factory=dict)
    secrets: dict[LockKey, tuple[int, int]] = field(default_factory=dict)
    """Where each was registered: block number and log index."""


class Guard:
    """See the file's head. `memo_of(channel)`: what some deposit must carry before the channel counts.

    `asked()`: whether our towers have said what they know, or have had their time. Before that no channel is closed.
    `looked_after`: done with each new head, once nothing is due any more.
    """

    def __init__(
        self,
        *,
        book: Book,
        store: Store,
        world: World,
        chain: RpcChain,
        sender: Sender,
        account_key: Key,
        memo_of: Callable[[ChannelId], bytes],
        gone: Callable[[ChannelId], None],
        resized: Callable[[ChannelId, Amount], None],
        ticked: Callable[[], None],
        asked: Callable[[], bool],
        poll: float,
        looked_after: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        start_block: int | None = None,
    ) -> None:
        self.chain, self.sender = chain, sender
        self._book, self._store, self._world, self._key = book, store, world, account_key
        self._memo_of, self._gone, self._resized, self._ticked = memo_of, gone, resized, ticked
        self._asked, self._poll, self._start_block, self._looked_after = asked, poll, start_block, looked_after
        self._pending = _Pending()
        self._acts = Acts(chain.contracts, sender, world, account_key.address)
        self._owed = Owed(chain, sender, account_key.address)
        self._looked = False
        self._cursor: BlockRef | None = None
        self._known_memo: set[ChannelId] = set()
        self._stakes = book.actors.tally(lambda channel: self._at_stake(channel) or None)
        self._with_locks = book.actors.tally(_has_locks)
        self._most_registered = MANY_REGISTERED

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the chain until cancelled. Reports started once the chain has been read up to its head."""
        cursor = self._load_cursor()
        sending, receiving = trio.open_memory_channel[ChainEvent](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, sending, cursor)
            started = False
            async with receiving:
                async for event in receiving:
                    try:
                        caught_up = await self._heard(event)
                    except Unreachable as fault:
                        log.warning("chain: %s", fault)
                        continue
                    if caught_up and not started:
                        started = True
                        task_status.started()

    async def _follow(self, sending: trio.MemorySendChannel[ChainEvent], cursor: list[BlockRef]) -> None:
        await follow(
            self.chain,
            sending,
            cursor=cursor,
            start=self._start_block,
            poll=self._poll,
            max_head_age=self._world.max_head_age,
            clock=self._world.clock,
        )

    # -- what the chain says

    async def _heard(self, event: ChainEvent) -> bool:
        """Returns whether everything up to the head has been told."""
        match event:
            case BlockSeen(block=block, facts=facts, head=head):
                await self._block(block, facts)
                self._world.head = head
                if block.number < head.latest.number:
                    if block.number + FAR_BEHIND < head.latest.number:
                        self._world.fault = "the chain is being read up to its head"
                    return False
                await self._tick(head)
                return True
            case HeadMoved(head=head):
                self._world.head = head
                await self._tick(head)
                return True
            case Rewound(to=to):
                await self._rewind(to)
                return False
            case ChainDown(reason=reason, text=text):
                log.warning("chain: %s: %s", reason, text)
                return False
            case ChainUp(head=head):
                log.info("chain: back at block %s", head.latest.number)
                self._world.head = head
                return False

    async def _block(self, block: BlockRef, facts: Iterable[seen.Fact]) -> None:
        kept: list[seen.Fact] = []
        for fact in facts:
            match fact:
                case seen.SeenSecret():
                    await self._secret(fact)
                case seen.SeenClose():
                    self._gone(fact.channel_id)
                    await self._tell(fact)
                case seen.SeenChallenge() | seen.SeenFinal():
                    await self._tell(fact)
                case seen.SeenDeposit() | seen.SeenCooperate():
                    self._resized(fact.channel_id, Amount(fact.deposit_a + fact.deposit_b))
                    kept.append(fact)
                case seen.SeenMemo() | seen.SeenSettle() | seen.SeenLocks():
                    kept.append(fact)
                case seen.SeenOwed():
                    if fact.owner == self._key.address:
                        self._owed.watch([fact.token])
                case seen.SeenWithdrawn():
                    pass
        if kept:
            self._pending.facts[block.number] = kept

    async def _tell(self, fact: seen.SeenClose | seen.SeenChallenge | seen.SeenFinal) -> None:
        """What counts at one confirmation (R16)."""
        actor = self._book.actors.get(fact.channel_id)
        if actor is None:
            return
        event: events.Event
        writes = Batch()
        match fact:
            case seen.SeenClose():
                log.warning("channel=%s closed by side %s, v%s", actor.channel.name, fact.closer.name, fact.version)
                event = events.SeenClose(
                    closer=fact.closer,
                    version=fact.version,
                    body_hash=fact.body_hash,
                    deadline=fact.deadline,
                    body=sent(self._store, fact.channel_id).get(fact.version),
                )
                note_fact(writes, fact.channel_id, "close_tx", fact.tx_hash)
                self._book.events.add(
                    writes,
                    "close_seen",
                    channel_id=fact.channel_id,
                    version=fact.version,
                    deadline=fact.deadline,
                    ours=fact.closer is actor.channel.we,
                )
            case seen.SeenChallenge():
                log.warning("channel=%s challenged with version %s", actor.channel.name, fact.version)
                event = events.SeenChallenge(
                    version=fact.version,
                    body_hash=fact.body_hash,
                    bond_to=fact.bond_to,
                    body=sent(self._store, fact.channel_id).get(fact.version),
                )
                self._book.events.add(writes, "challenge_seen", channel_id=fact.channel_id, version=fact.version)
            case seen.SeenFinal():
                event = events.SeenFinal()
        await self._ask(actor, event, writes)

    async def _secret(self, fact: seen.SeenSecret) -> None:
        """A preimage is public: whoever forwards or waits for it hears, at one confirmation, and has saved it."""
        key = LockKey(sha256(fact.secret))
        self._world.registered[key] = fact.timestamp
        if len(self._world.registered) > self._most_registered:
            self._forget_registered()
        self._pending.secrets[key] = (fact.block.number, fact.log_index)
        for actor in self._all_of(self._with_locks):
            if any(lock.key == key for lock in our_locks(actor.channel).values()):
                await self._ask(actor, events.SeenSecret(key=key, preimage=Preimage(fact.secret), at=fact.timestamp))
            for lock in closing.incoming_claimed(actor.channel):
                if lock.key == key:
                    self._book.fulfil(actor.channel.id, lock.id, Preimage(fact.secret))

    def _forget_registered(self) -> None:
        """Anybody may register secrets; of those that concern no lock of ours the older half goes."""
        known = self._world.registered
        ours = {lock.key for actor in self._book.actors.values() for lock in self._locks(actor.channel)}
        newest = list(known)[-(MANY_REGISTERED // 2) :]
        self._world.registered = {key: at for key, at in known.items() if key in ours} | {
            key: known[key] for key in newest
        }
        self._most_registered = len(self._world.registered) + MANY_REGISTERED // 2

    async def _rewind(self, to: BlockRef) -> None:
        log.warning("chain: reorganised after block %s", to.number)
        pending = self._pending
        pending.facts = {number: facts for number, facts in pending.facts.items() if number <= to.number}
        for key in [key for key, (number, _) in pending.secrets.items() if number > to.number]:
            del pending.secrets[key]
            self._world.registered.pop(key, None)  # R20: `due` has it registered again at once
            self._acts.registered(key)
        self._looked = False  # closes and challenges that went with it are found out at the next tick

    # -- what has become certain

    async def _settle_down(self, head: Head) -> None:
        """Tell the facts that have the depth they need, oldest first."""
        final = head.finalized.number
        deep = head.latest.number - self._world.network.confirmations + 1
        for number in sorted(self._pending.facts):
            left: list[seen.Fact] = []
            for fact in self._pending.facts[number]:
                if isinstance(fact, seen.SeenMemo | seen.SeenDeposit):
                    if number > deep:
                        left.append(fact)
                    elif isinstance(fact, seen.SeenDeposit):
                        await self._deposit(fact)
                    elif fact.memo == self._memo_of(fact.channel_id):
                        self._known_memo.add(fact.channel_id)
                elif number <= final:
                    await self._final(fact)
                else:
                    left.append(fact)
            if left:
                self._pending.facts[number] = left
            else:
                del self._pending.facts[number]
        for key in [key for key, (number, _) in self._pending.secrets.items() if number <= final]:
            del self._pending.secrets[key]  # registered for good, and before whatever is told from now on
            self._acts.registered(key)

    def awaits(self, channel: ChannelId) -> bool:
        """Whether the chain shows something of a channel that does not count yet."""
        return any(
            getattr(fact, "channel_id", None) == channel for facts in self._pending.facts.values() for fact in facts
        )

    async def _deposit(self, fact: seen.SeenDeposit) -> None:
        actor = self._book.actors.get(fact.channel_id)
        if actor is None:
            return
        if actor.channel.phase is Phase.OPENING and fact.channel_id not in self._known_memo:
            log.warning("channel=%s a deposit without the agreed memo does not open it", actor.channel.name)
            return
        writes = Batch()
        if actor.channel.phase is Phase.OPENING:
            note_fact(writes, fact.channel_id, "opened_at", fact.block.timestamp)
            note_fact(writes, fact.channel_id, "open_tx", fact.tx_hash)
        await self._ask(actor, events.SeenDeposit(deposit_a=fact.deposit_a, deposit_b=fact.deposit_b), writes)

    async def _final(self, fact: seen.Fact) -> None:
        if not isinstance(fact, seen.SeenSettle | seen.SeenCooperate | seen.SeenLocks):
            return
        actor = self._book.actors.get(fact.channel_id)
        if actor is None:
            return
        channel, writes = actor.channel, Batch()
        ours = fact.paid_a if channel.we is Side.A else fact.paid_b
        theirs = fact.paid_b if channel.we is Side.A else fact.paid_a
        match fact:
            case seen.SeenSettle():
                note_fact(writes, channel.id, "paid_ours", ours)
                note_fact(writes, channel.id, "paid_theirs", theirs)
                empty = fact.locks_hash in NOTHING_LEFT
                await self._ask(actor, events.SeenSettled(version=fact.version, empty=empty), writes)
            case seen.SeenCooperate():
                note_fact(writes, channel.id, "close_tx", fact.tx_hash)
                note_fact(writes, channel.id, "paid_ours", ours)
                note_fact(writes, channel.id, "paid_theirs", theirs)
                await self._ask(actor, events.SeenCooperated(version=fact.version), writes)
            case seen.SeenLocks():
                for name, paid in (("paid_ours", ours), ("paid_theirs", theirs)):
                    note_fact(writes, channel.id, name, self._paid(channel.id, name) + paid)
                await self._ask(
                    actor,
                    events.SeenResolved(left=left_after(channel, fact, self._world.registered, self._pending.secrets)),
                    writes,
                )

    def _paid(self, channel: ChannelId, name: str) -> int:
        rows = self._store.rows("SELECT value FROM facts WHERE channel = ? AND name = ?", channel, name)
        return int.from_bytes(rows[0][0], "big") if rows else 0

    # -- what is due

    async def _tick(self, head: Head) -> None:
        if not self._looked:
            await self._look_again()
        await self._settle_down(head)
        await self._visit_all(head)
        await self._owed.look(head.latest.timestamp)
        await self._looked_after()
        final, deep = head.finalized, head.latest.number - self._world.network.confirmations + 1
        await self._save_cursor(final if final.number <= deep else await self.chain.block(max(0, deep)))
        self._world.fault = None
        self._ticked()

    async def _visit_all(self, head: Head) -> None:
        """Those that are closing first; trouble with one keeps no other from its defence (I40)."""
        trouble: Unreachable | None = None
        for actor in self._all_of(self._stakes, first=Phase.CLOSING):
            if not self._at_stake(actor.channel):
                continue
            try:
                await self._visit(actor, head)
            except Unreachable as fault:
                trouble = fault
            except (ChanneldError, ValueError, LookupError) as fault:
                log.error("channel=%s cannot be looked after: %s", actor.channel.name, fault)
        if trouble is not None:
            raise trouble

    def _all_of(self, tally: Tally[Any], first: Phase | None = None) -> Iterator[Actor]:
        """The actors of a tally, those in phase `first` first; and those that come to it while we wait for others."""
        done: set[ChannelId] = set()
        while some := [self._book.actors[id_] for id_ in tally.look() if id_ not in done]:
            for actor in sorted(some, key=lambda actor: actor.channel.phase is not first):
                done.add(actor.channel.id)
                yield actor

    @staticmethod
    def _at_stake(channel: Channel) -> bool:
        if channel.phase is Phase.CLOSED:  # a lock of ours may still wait for R20's word
            return channel.onchain is not None and bool(set(our_locks(channel)) - set(channel.lost))
        if channel.phase is not Phase.OPEN:
            return True
        # A lock that our own unanswered proposal removes still stands in `current`: the peer may never answer (R17).
        return bool(channel.current.body.locks or channel.newest_body.locks or channel.queue or channel.coop)

    async def _look_again(self) -> None:
        """After a start or a reorg: what changed, and no event of a coming block will tell."""
        keys = {lock.key: None for actor in self._book.actors.values() for lock in self._locks(actor.channel)}
        self._world.registered |= await self.chain.registered_of(list(keys))
        for actor in list(self._book.actors.values()):
            if actor.channel.phase is Phase.CLOSING:
                await self._reread(actor)
        self._owed.watch({actor.channel.token for actor in self._book.actors.values()})
        self._looked = True

    async def _reread(self, actor: Actor) -> None:
        """Hold what we believe of a close against the contract's own word: a challenge of ours may have gone."""
        channel, word = actor.channel, await self.chain.channel(actor.channel.id)
        case = channel.onchain
        if word.dead or case is None:
            return
        if not word.closing:
            await self._ask(actor, events.SeenUnclosed())
        elif (word.version, word.deadline, word.final) != (case.version, case.deadline, case.final):
            log.warning("channel=%s the chain shows v%s, not v%s", channel.name, word.version, case.version)
            bodies = sent(self._store, channel.id)
            known = {version: body.hash(channel.blind(version)) for version, body in bodies.items()}
            known |= {
                state.version: state.body_hash
                for state in (channel.current, channel.outstanding, channel.outline)
                if state
            }
            body_hash = known.get(word.version, case.body_hash if case.version == word.version else UNKNOWN)
            event = events.SeenClose(
                closer=word.closer,
                version=word.version,
                body_hash=body_hash,
                deadline=word.deadline,
                body=bodies.get(word.version),
            )
            await self._ask(actor, event)
            if word.final:
                await self._ask(actor, events.SeenFinal())

    @staticmethod
    def _locks(channel: Channel) -> Iterator[Lock]:
        yield from our_locks(channel).values()
        yield from channel.current.body.locks.values()
        yield from (closing.final_body(channel) or EMPTY).locks.values()

    async def _visit(self, actor: Actor, head: Head) -> None:
        channel = actor.channel
        unregistered = []
        for lock in our_locks(channel).values():
            if lock.id in channel.lost or self._world.registered.get(lock.key, lock.expiry + 1) <= lock.expiry:
                continue  # decided
            if head.finalized.timestamp > lock.expiry and lock.key not in unregistered:
                at = await self.chain.registered_at(lock.key, head.finalized)
                if not at:
                    unregistered.append(lock.key)
        await self._ask(
            actor,
            events.SeenHead(
                now=head.latest.timestamp,
                final=head.finalized.timestamp,
                registered=self._world.registered,
                unregistered=frozenset(unregistered),
            ),
        )
        channel = actor.channel
        acts = due(
            channel, now=head.latest.timestamp, registered=self._world.registered, margins=self._margins(channel)
        )
        for act in acts:
            if isinstance(act, closing.CloseAct) and not self._asked():
                continue  # a tower may know a newer state; no lock is lost by it, as secrets are registered meanwhile
            await self._acts.take(channel, act)

    def _margins(self, channel: Channel) -> Margins:
        network = self._world.network
        period = min(max(channel.terms.challenge_period, network.min_challenge_period), LONGEST_PERIOD)
        return Margins(inclusion=network.delta_inclusion, skew=network.clock_skew, period=Seconds(period))

    async def _ask(self, actor: Actor, event: events.Event, writes: Batch | None = None) -> None:
        try:
            await actor.ask(event, writes=writes)
        except ChanneldError as fault:
            log.error("channel=%s %s: %s", actor.channel.name, type(event).__name__, fault)

    # -- where we stand

    def _load_cursor(self) -> list[BlockRef]:
        rows = self._store.rows("SELECT value FROM notes WHERE name = 'cursor'")
        if not rows:
            return []
        number, hash_, timestamp = unpack(rows[0][0])
        return [BlockRef(number=number, hash=hash_, timestamp=timestamp)]

    async def _save_cursor(self, block: BlockRef) -> None:
        if self._cursor == block:
            return
        self._cursor = block
        batch = Batch()
        batch.add(
            "INSERT INTO notes VALUES ('cursor', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            pack([block.number, block.hash, block.timestamp]),
        )
        await self._store.commit(batch)


def _has_locks(channel: Channel) -> bool | None:
    """Whether a secret may concern the channel: it has locks of ours, or knows preimages of the peer's."""
    return bool(our_locks(channel) or channel.claims) or None


def left_after(
    channel: Channel,
    fact: seen.SeenLocks,
    registered: Mapping[LockKey, Timestamp],
    places: Mapping[LockKey, tuple[int, int]],
) -> tuple[LockName, ...] | None:
    """Which locks the contract still lists after `fact`: those that were then neither registered nor expired.

    `places`: block number and log index of registrations that are not final yet; all others are older than `fact`,
    or by their time younger. It is worked out from the whole list each time, since a fact may be told twice. None: the
    list is not empty, and of a state that we cannot open.
    """
    case, now = channel.onchain, fact.block.timestamp
    if case is None or fact.locks_hash in NOTHING_LEFT:
        return ()
    body = closing.final_body(channel)
    if body is None:
        return None
    locks = body.locks

    def known(lock: Lock) -> bool:
        before = places.get(lock.key, (0, 0)) < (fact.block.number, fact.log_index)
        return before and registered.get(lock.key, now + 1) <= now

    left = tuple(name for name in sorted(locks) if now <= locks[name].expiry and not known(locks[name]))
    if rest_hash(locks[name] for name in left) != fact.locks_hash:
        log.error("channel=%s the contract's list of locks is not the one we expect", channel.name)
        return case.left
    return left
