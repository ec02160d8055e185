"""Follows the chain, opens the evidence that a close reveals, asks the judge, and has the answers sent.

Facts are folded into `Closings`; once everything up to the head has been told, each open case is judged by
`core.watching.judge`, anew at every head, so an act that was lost, copied, reverted or reorged away is simply named
again; the sender does each named intent once. Nothing is kept of a case but what can be read again: after a crash
the chain is told from the block before the oldest open close, and the appointments and intents are on disk. Only
mined closes count, never the mempool. What goes wrong in one channel is logged and leaves the others alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import ChanneldError, Unreachable
from channeld.base.keys import keccak, sha256
from channeld.base.units import (
    Address,
    BlockNumber,
    ChannelId,
    Digest,
    LockKey,
    NodeId,
    Preimage,
    Timestamp,
    Version,
    short,
)
from channeld.chain.bindings import Contracts
from channeld.chain.chain import (
    BlockRef,
    Call,
    Head,
    SeenChallenge,
    SeenClose,
    SeenCooperate,
    SeenFinal,
    SeenSecret,
    SeenSettle,
)
from channeld.chain.follower import BlockSeen, ChainDown, ChainEvent, ChainUp, HeadMoved, Rewound, follow
from channeld.chain.intents import Intent
from channeld.chain.reads import RpcChain
from channeld.chain.sender import Sender
from channeld.core.watching import Evidence, Verdict, judge
from channeld.tower.closings import Closing, Closings, Gap, Later
from channeld.tower.evidence import Proof, newer, prove
from channeld.tower.gate import Watch
from channeld.tower.intents import TowerIntents
from channeld.tower.policy import Policy
from channeld.tower.store import GENESIS, Reading, TowerStore
from channeld.wire import appointment

log = logging.getLogger(__name__)

NOTHING: Final = Evidence(version=Version(0))
ROWS_AT_ONCE: Final = 64
"""Rows opened before others get a turn: a flooded hint must not stop the tower."""
REGISTER_WITHIN: Final = 6
"""Secrets are to be registered within a sixth of the challenge period: their locks' expiries are not known here."""


@dataclass(slots=True)
class Dossier:
    """What is known about one closing channel besides the chain's facts."""

    proof: Proof | None = None
    """The newest state found that the victim handed in."""
    preimages: dict[LockKey, Preimage] = field(default_factory=dict)
    """Entrusted secrets that are not known to be registered."""
    read_to: BlockNumber = GENESIS
    """Rows taken at an earlier head have been opened."""
    paid: int | None = None
    """Bond that the store knows we were paid."""
    verdict: Verdict = Verdict.WAIT


class Lookout:
    """The tower's eyes and hands. `run` it; `watch` says how far it has come."""

    def __init__(
        self,
        store: TowerStore,
        chain: RpcChain,
        sender: Sender,
        *,
        contracts: Contracts,
        domain: Domain,
        tower: NodeId,
        payout: Address,
        policy: Policy,
        poll: float,
        max_head_age: int,
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            tower: the tower's node id, which hints and keys are bound to.
            payout: the address that delegations must name to count.
            poll: seconds between looks at the chain.
            max_head_age: seconds after which the chain counts as down.
            clock: seconds since 1970.
        """
        self._store = store
        self._intents = TowerIntents(store)
        self._chain = chain
        self._sender = sender
        self._contracts = contracts
        self._domain = domain
        self._tower = tower
        self._payout = payout
        self._policy = policy
        self._poll = poll
        self._max_head_age = max_head_age
        self._clock = clock
        self._closings = Closings(closings=None)
        self._dossiers: dict[ChannelId, Dossier] = {}
        self._registered: set[LockKey] = set()
        self._judged: Head | None = None
        self.head: Head | None = None
        self.trouble: str | None = "the chain has not been read yet"
        """Why nothing can be promised now, or None."""

    @property
    def watch(self) -> Watch | None:
        """The newest block that was acted on; None while the chain cannot be relied on."""
        if self._judged is None or self.trouble is not None:
            return None
        latest = self._judged.latest
        return Watch(number=BlockNumber(latest.number), time=latest.timestamp)

    @property
    def deadlines(self) -> list[Timestamp]:
        """Deadlines that are not over, of all closes seen, soonest first."""
        now = self.head.latest.timestamp if self.head else 0
        closings = self._closings.open.values()
        return sorted(one.close.deadline for one in closings if not one.case.final and one.close.deadline >= now)

    async def run(self, *, task_status: trio.TaskStatus[Head] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; `started` once the chain has been read up to its head and judged.

        A close that is missing from the events is never passed over: reading starts again from the last saved place.
        """
        told = False
        while True:
            reading = await self._store.reading()
            self._closings = Closings(closings=reading.closings if reading else None)
            self._dossiers = {}
            try:
                async with trio.open_nursery() as nursery:
                    events, inbox = trio.open_memory_channel[ChainEvent](0)
                    start = None if reading is None else reading.block + 1
                    nursery.start_soon(self._follow, events, start)
                    async with inbox:
                        async for event in inbox:
                            await self._take(event)
                            if not told and self._judged is not None and self.head is not None:
                                task_status.started(self.head)
                                told = True
            except* _Hole as holes:
                self.trouble = str(holes.exceptions[0])
                log.error("chain read again from block %s: %s", reading.block if reading else "head", self.trouble)
            await trio.sleep(self._poll)

    async def _follow(self, events: trio.MemorySendChannel[ChainEvent], start: int | None) -> None:
        await follow(
            self._chain,
            events,
            start=start,
            poll=self._poll,
            max_head_age=self._max_head_age,
            clock=self._clock,
        )

    # -- facts -------------------------------------------------------------------------------------------------

    async def _take(self, event: ChainEvent) -> None:
        match event:
            case BlockSeen():
                await self._see(event.block, event.facts)
                if event.block.hash == event.head.latest.hash:
                    await self._look(event.head)
            case Rewound():
                gone = self._closings.rewind(event.to.number)
                for channel_id in gone:
                    log.warning("channel=%s its close was reorganised away", short(channel_id))
                for dossier in self._dossiers.values():  # receipts of the lost branch named heads that come again
                    dossier.read_to = GENESIS
                self._registered.clear()
                self._judged = None
            case HeadMoved():
                await self._look(event.head)
            case ChainDown():
                self.trouble = event.text
                log.warning("chain down reason=%s: %s", event.reason, event.text)
            case ChainUp():
                self.trouble = None
                log.info("chain up at block %d", event.head.latest.number)

    async def _see(self, block: BlockRef, facts: Iterable[object]) -> None:
        """Fold one block's facts. Revealed hints are on disk before anything else happens to them."""
        revealed: dict[Digest, ChannelId] = {}
        for fact in facts:
            match fact:
                case SeenClose():
                    gap = self._closings.see_close(fact)
                    if gap is not None:
                        raise _Hole(gap, block)
                    revealed[self._hint(fact)] = fact.channel_id
                    log.info("channel=%s closes v%d index=%d", short(fact.channel_id), fact.version, fact.index)
                case SeenChallenge() | SeenCooperate() | SeenFinal() | SeenSettle():
                    later: Later = fact
                    self._closings.see(later)
                case SeenSecret():
                    self._registered.add(LockKey(sha256(fact.secret)))
                case _:
                    pass
        if revealed:
            await self._store.reveal(revealed)

    def _hint(self, close: SeenClose) -> Digest:
        return appointment.hint_of(close.salt, self._tower)

    # -- judging -----------------------------------------------------------------------------------------------

    async def _look(self, head: Head) -> None:
        """Judge every open case at `head`, then let go of what is over."""
        self.head = head
        if self._judged == head:
            return
        for duty in (self._answer, self._register):  # all answers first: registering may wait for the chain
            for closing in sorted(self._closings.open.values(), key=lambda one: one.close.deadline):
                dossier = self._dossiers.setdefault(closing.close.channel_id, Dossier())
                try:
                    await duty(closing, dossier, head)
                except ChanneldError as fault:
                    log.warning("channel=%s put off: %s", short(closing.close.channel_id), fault)
                except Exception:  # one channel's evidence comes from strangers and must not stop the others
                    log.exception("channel=%s could not be judged", short(closing.close.channel_id))
        await self._bury(head)
        self._judged = head
        if self.trouble is not None and head.age(int(self._clock())) <= self._max_head_age:
            self.trouble = None

    async def _answer(self, closing: Closing, dossier: Dossier, head: Head) -> None:
        """What one closing channel needs at this head by the judge's verdict."""
        await self._note_bond(closing, dossier)
        await self._open_rows(closing, dossier)
        proof = dossier.proof
        evidence = NOTHING if proof is None else proof.evidence
        now = head.latest.timestamp
        dossier.verdict = judge(closing.case, evidence, now=now, period=closing.period)
        if proof is None:
            return
        deadline = closing.close.deadline if now < closing.close.deadline else None
        match dossier.verdict:
            case Verdict.CHALLENGE | Verdict.ATTACH:
                call = proof.challenge(self._contracts)
                await self._act(f"{dossier.verdict.value}:{proof.name}", call, deadline)
            case Verdict.FINALIZE:
                await self._end(closing, proof)
            case Verdict.WAIT | Verdict.DONE:
                pass

    async def _end(self, closing: Closing, proof: Proof) -> None:
        """After the deadline: settle for a client that lets us, else finalize what pays us."""
        name = closing.close.channel_id.hex()
        if self._settles(closing, proof):
            call = proof.settle(self._contracts, closing.bond_to)
            if call is not None:
                await self._act(f"settle:{name}", call, None)
        elif self._finalizes(closing):
            call = self._contracts.finalize(
                proof.token, proof.terms, body_hash=closing.body_hash, bond_to=closing.bond_to
            )
            await self._act(f"finalize:{name}", call, None)

    def _settles(self, closing: Closing, proof: Proof) -> bool:
        return proof.body is not None and proof.body_hash == closing.body_hash

    def _finalizes(self, closing: Closing) -> bool:
        return closing.bond_to == self._payout or self._policy.finalize_all

    async def _note_bond(self, closing: Closing, dossier: Dossier) -> None:
        """Keep the books: a bond that was paid to us, or was taken back by a reorg."""
        ends = [fact for fact in closing.later if isinstance(fact, SeenFinal)]
        paid = ends[-1].bond if ends and ends[-1].bond_to == self._payout else 0
        if paid != (dossier.paid or 0) or (dossier.paid is None and ends):
            await self._store.earn(closing.close.channel_id, paid)
        dossier.paid = paid

    async def _open_rows(self, closing: Closing, dossier: Dossier) -> None:
        """Try every row of the hint that was not tried before; keep the newest state that proves itself."""
        taken_at = BlockNumber(self._judged.latest.number) if self._judged else GENESIS
        rows = await self._store.by_hint(self._hint(closing.close), dossier.read_to)
        for number, row in enumerate(rows):
            if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            found = prove(row, closing.close, domain=self._domain, tower=self._tower, payout=self._payout)
            if found is None:
                continue
            dossier.preimages.update({LockKey(sha256(secret)): secret for secret in found.preimages})
            if found.terms.close_bond < self._policy.min_bond:
                log.warning("channel=%s is not defended: its bond is too small", short(found.channel_id))
            else:
                dossier.proof = newer(dossier.proof, found)
        dossier.read_to = taken_at

    async def _register(self, closing: Closing, dossier: Dossier, head: Head) -> None:
        """Have entrusted secrets registered, so that their locks pay the victim."""
        missing = []
        for key, secret in list(dossier.preimages.items()):
            if key in self._registered:
                continue
            if await self._chain.registered_at(key, head.latest):
                self._registered.add(key)
            else:
                missing.append(secret)
        if not missing:
            return
        missing.sort()
        name = keccak(b"".join(missing))[:8].hex()
        deadline = Timestamp(head.latest.timestamp + closing.period // REGISTER_WITHIN)
        await self._act(
            f"register:{closing.close.channel_id.hex()}:{name}", self._contracts.register(missing), deadline
        )

    async def _act(self, name: str, call: Call, deadline: Timestamp | None) -> None:
        """Have `call` done once; an earlier try that was mined and reverted does not stand in its way."""
        attempt = 0
        while True:
            key = f"{name}:{attempt}"
            known = await self._intents.intent(self._sender.address, key)
            if known is None or known.receipt is None or known.receipt.ok:
                break
            attempt += 1
        if known is None:
            log.info("act=%s deadline=%s", key, deadline)
        await self._sender.submit(Intent.of(self._sender.address, key, call, deadline=deadline))

    async def _bury(self, head: Head) -> None:
        """Forget what is final, and remember from where to read after a restart."""
        over = frozenset(
            channel_id
            for channel_id, closing in self._closings.open.items()
            if closing.close.deadline < head.finalized.timestamp and self._idle(channel_id, closing)
        )
        block, closings = self._closings.bury(head.finalized.number, over)
        self._dossiers = {name: one for name, one in self._dossiers.items() if name in self._closings.open}
        held = await self._store.reading()
        if held is None or held.block < block:
            await self._store.read_up_to(Reading(block=block, closings=closings))

    def _idle(self, channel_id: ChannelId, closing: Closing) -> bool:
        """Whether nothing is left for us to do in a channel whose deadline is over for good."""
        dossier = self._dossiers.get(channel_id)
        if dossier is None or closing.case.final:
            return False
        if dossier.verdict in (Verdict.CHALLENGE, Verdict.ATTACH):
            return False
        proof = dossier.proof
        return proof is None or not (self._finalizes(closing) or self._settles(closing, proof))


class _Hole(Unreachable):
    """A close is missing from what the node told: what it said since cannot be relied on."""

    def __init__(self, gap: Gap, block: BlockRef) -> None:
        super().__init__(f"block {block.number} has close {gap.found}, the one before was {gap.seen}")
