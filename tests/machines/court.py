"""One channel's chain: the Python model of the contract, blocks with times, reorgs, and eyes that look at them.

A core act (`closing.Act`) of a side, or a tower's challenge, waits in the pool until a block takes it; the model
decides, with real signatures recovered into names. Each block keeps what the contract then held, so blocks that are
not final yet can be taken off again with everything they did. `Eye` tells a node what `node.guard` tells it and in
that order: what counts at one confirmation, what a reorg took away, what is final, and the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Final

from channeld.base.digests import body_hash, cooperate_digest, pack_locks, state_digest
from channeld.base.keys import recover, sha256
from channeld.base.units import Address, Amount, Digest, LockKey, Preimage, Side, Timestamp, Version
from channeld.core import events
from channeld.core.channel import EMPTY, ZERO, Body, Channel, Phase
from channeld.core.closing import (
    Act,
    ChallengeAct,
    CloseAct,
    CooperateAct,
    FinalizeAct,
    RegisterAct,
    ResolveAct,
    SettleAct,
)
from channeld.core.events import Event
from channeld.core.updating import our_locks
from tests.contracts.model import COIN, NOBODY, Evidence, ModelChannel, ModelManager, Outcome, Refusal
from tests.roles import ACCEPTOR_KEY, BOND, OPENER_KEY, PERIOD, START

TOKEN: Final = "token"
NAME: Final = "channel"
PARTIES: Final = ("opener", "acceptor")
PAYOUTS: Final = ("opener's payout", "acceptor's payout")
TOWER: Final = "tower"
TOWER_ADDRESS: Final = Address(b"\x44" * 20)
FINALITY: Final = 3
"""Blocks from the head to the newest final one; no reorg takes a final block."""
UNKNOWN: Final = Digest(b"\xff" * 32)
"""What `node.guard` calls the body hash of a state that it has no copy of."""
_NAMES: Final = {OPENER_KEY.address: PARTIES[0], ACCEPTOR_KEY.address: PARTIES[1]}


@dataclass(frozen=True, slots=True)
class Delegated:
    """A tower's challenge: with its client's delegation of the bond, which counts `delay` seconds after the close."""

    act: ChallengeAct
    victim: Side
    delay: int


@dataclass(frozen=True, slots=True)
class Deposit:
    side: Side
    amount: int


Call = tuple[Side | None, Act | Delegated | Deposit]
"""Who sends it (None: a tower), and what."""


@dataclass(eq=False, slots=True)
class Block:
    """`facts` count at one confirmation, `final_facts` once the block is final."""

    time: Timestamp
    after: ModelManager
    recorded: Digest
    """Body hash that the contract has on record after it."""
    facts: list[Event] = field(default_factory=list)
    final_facts: list[Event] = field(default_factory=list)


def outcome_of(body: Body) -> Outcome:
    locks = tuple(sorted(body.locks.values(), key=lambda lock: (lock.sender, lock.id)))
    return Outcome(net=body.net, locked_ab=body.locked_ab, locked_ba=body.locked_ba, locks=locks, stated=True)


class Court:
    """The chain. `bodies`: what each body hash says, which the contract learns only when somebody opens it."""

    def __init__(self, channel: Channel, deposits: tuple[int, int]) -> None:
        self.like = channel
        self.bodies: dict[Digest, Body] = {ZERO: EMPTY}
        self.pool: list[tuple[int, Call]] = []
        """(blocks it still waits, call)"""
        self.refused: list[str] = []
        manager = ModelManager(now=START)
        manager.balances = {(TOKEN, "bank"): 10**9, **{(COIN, who): 10**6 for who in (*PARTIES, TOWER)}}
        manager.channels[NAME] = ModelChannel(token=TOKEN, parties=PARTIES, payouts=PAYOUTS, period=PERIOD, bond=BOND)
        for side in Side:
            if deposits[side]:
                manager.deposit("bank", NAME, side, deposits[side])
        self.blocks = [Block(START, manager, ZERO)]

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    @property
    def final(self) -> Block:
        return self.blocks[max(0, len(self.blocks) - 1 - FINALITY)]

    @property
    def channel(self) -> ModelChannel:
        return self.head.after.channels[NAME]

    def submit(self, who: Side | None, act: Act | Delegated | Deposit, delay: int) -> None:
        """Into the pool, unless the same waits there."""
        if all(call != (who, act) for _, call in self.pool):
            self.pool.append((delay, (who, act)))

    def mine(self, seconds: int) -> None:
        """The next block, with every call that has waited enough."""
        manager = deepcopy(self.head.after)
        manager.now = self.head.time + seconds
        block = Block(Timestamp(manager.now), manager, self.head.recorded)
        ready = [call for wait, call in self.pool if wait <= 0]
        self.pool = [(wait - 1, call) for wait, call in self.pool if wait > 0]
        for who, act in ready:
            try:
                self._do(block, who, act)
            except Refusal as why:
                self.refused.append(f"{type(act).__name__}: {why}")
        self.blocks.append(block)

    def reorg(self, depth: int, *, again: bool) -> None:
        """The newest `depth` blocks never were. Their calls are lost, those in the pool too unless `again`."""
        depth = min(depth, FINALITY, len(self.blocks) - 1)
        del self.blocks[len(self.blocks) - depth :]
        if not again:
            self.pool = []

    # -- calls

    def _do(self, block: Block, who: Side | None, act: Act | Delegated | Deposit) -> None:
        manager, sender = block.after, TOWER if who is None else PARTIES[who]
        match act:
            case Deposit():
                manager.deposit("bank", NAME, act.side, act.amount)
                held = manager.channels[NAME]
                block.final_facts.append(
                    events.SeenDeposit(deposit_a=Amount(held.deposit_a), deposit_b=Amount(held.deposit_b))
                )
            case CloseAct():
                self._close(block, who, act)
            case ChallengeAct():
                self._challenge(block, sender, act, NOBODY, 0, None)
            case Delegated():
                self._challenge(block, sender, act.act, TOWER, act.delay, PARTIES[act.victim])
            case CooperateAct():
                self._cooperate(block, sender, act)
            case FinalizeAct():
                good = act.body_hash == block.recorded and _bond_to(act.bond_to) == self._of(block).outcome.bond_to
                manager.finalize(NAME, self._of(block).outcome if good else Outcome(net=1))
                block.facts.append(events.SeenFinal())
            case SettleAct():
                self._settle(block, act)
            case ResolveAct():
                listed = self._of(block).outcome.locks
                manager.resolve(NAME, listed if act.locks == pack_locks(listed) else None, [])
                left = tuple((lock.sender, lock.id) for lock in self._of(block).outcome.locks)
                block.final_facts.append(events.SeenResolved(left=left))
            case RegisterAct():
                self._register(block, act)

    @staticmethod
    def _of(block: Block) -> ModelChannel:
        return block.after.channels[NAME]

    def _signer(self, version: Version, hash_: Digest, signature: bytes) -> str | None:
        found = recover(state_digest(self.like.domain, self.like.id, version, hash_), signature) if signature else None
        return _NAMES.get(found) if found is not None else None

    def _outcome(self, hash_: Digest) -> Outcome:
        return Outcome() if hash_ == ZERO else outcome_of(self.bodies[hash_])

    def _close(self, block: Block, who: Side | None, act: CloseAct) -> None:
        assert who is not None
        salt_of = who.other if act.salt_other == self.like.salts[who.other] else who
        signed = self._signer(act.version, act.body_hash, act.signature)
        outcome = self._outcome(act.body_hash)
        block.after.close(PARTIES[who], NAME, act.version, outcome, signed, salt_of, BOND)
        block.recorded = act.body_hash
        block.facts.append(
            events.SeenClose(
                closer=who,
                version=Version(self._of(block).version),
                body_hash=act.body_hash,
                deadline=Timestamp(self._of(block).deadline),
            )
        )

    def _challenge(
        self, block: Block, sender: str, act: ChallengeAct, payout: str, delay: int, delegated_by: str | None
    ) -> None:
        given = Evidence(
            channel=NAME,
            version=act.version,
            outcome=self._outcome(act.body_hash),
            signed_a=self._signer(act.version, act.body_hash, act.signature_a),
            signed_b=self._signer(act.version, act.body_hash, act.signature_b),
            payout=payout,
            delay=delay,
            delegated_by=delegated_by,
        )
        block.after.challenge(sender, given)
        block.recorded = act.body_hash
        bond_to = TOWER_ADDRESS if self._of(block).outcome.bond_to == TOWER else Address(bytes(20))
        block.facts.append(events.SeenChallenge(version=act.version, body_hash=act.body_hash, bond_to=bond_to))

    def _cooperate(self, block: Block, sender: str, act: CooperateAct) -> None:
        digest = cooperate_digest(
            self.like.domain, self.like.id, act.version, act.net, act.out_a, act.out_b, act.valid_until
        )
        theirs = recover(digest, act.signature_theirs)
        first = _NAMES.get(theirs) if theirs is not None else None
        outs = (act.out_a, act.out_b)
        block.after.cooperate(sender, NAME, act.version, act.net, outs, act.valid_until, first)
        block.final_facts.append(events.SeenCooperated(version=act.version))

    def _settle(self, block: Block, act: SettleAct) -> None:
        hash_ = ZERO
        if any(act.blind):
            hash_ = body_hash(act.net, act.locked_ab, act.locked_ba, act.locks_hash, act.blind)
        opened = Outcome(net=act.net, locked_ab=-1)
        if hash_ in self.bodies:
            opened = replace(self._outcome(hash_), bond_to=_bond_to(act.bond_to))
        was_final = self._of(block).final
        block.after.settle(NAME, opened)
        if not was_final:
            block.facts.append(events.SeenFinal())
        empty = not self._of(block).outcome.locks
        block.final_facts.append(events.SeenSettled(version=Version(self._of(block).version), empty=empty))

    def _register(self, block: Block, act: RegisterAct) -> None:
        for secret in act.secrets:
            key = LockKey(sha256(secret))
            if key not in block.after.registered:
                block.after.register([key])
                block.facts.append(events.SeenSecret(key=key, preimage=Preimage(secret), at=block.time))


def _bond_to(address: Address) -> str:
    return TOWER if address == TOWER_ADDRESS else NOBODY


@dataclass(slots=True)
class Eye:
    """What one node has seen of the chain. `tell` hands it an event; it may have told the same before."""

    court: Court
    seen: list[Block] = field(default_factory=list)
    final: int = 0
    """How many final blocks it has been told of."""

    def look(self, channel: Callable[[], Channel], tell: Callable[[Event], None]) -> None:
        """Everything that is new since the last look."""
        blocks = self.court.blocks
        same = 0
        while same < min(len(self.seen), len(blocks)) and self.seen[same] is blocks[same]:
            same += 1
        rewound = same < len(self.seen)
        for block in blocks[same:]:
            for event in block.facts:
                tell(event)
        self.seen = list(blocks)
        if rewound and channel().phase is Phase.CLOSING:
            for event in self._again(channel()):
                tell(event)
        for block in blocks[self.final : len(blocks) - FINALITY]:
            for event in block.final_facts:
                tell(event)
        self.final = max(self.final, len(blocks) - FINALITY)
        tell(self.head(channel()))

    def _again(self, channel: Channel) -> Iterator[Event]:
        """After a reorg: what we believe of a close against what the contract says now (`Guard._reread`)."""
        word, case = self.court.channel, channel.onchain
        if word.dead or case is None:
            return
        if not word.deadline:
            yield events.SeenUnclosed()
        elif (word.version, word.deadline, word.final) != (case.version, case.deadline, case.final):
            known = {state.version: state.body_hash for state in (channel.current, channel.outstanding) if state}
            hash_ = known.get(Version(word.version), case.body_hash if case.version == word.version else UNKNOWN)
            yield events.SeenClose(
                closer=word.closer,
                version=Version(word.version),
                body_hash=hash_,
                deadline=Timestamp(word.deadline),
            )
            if word.final:
                yield events.SeenFinal()

    def registered(self) -> dict[LockKey, Timestamp]:
        return {LockKey(key): Timestamp(at) for key, at in self.court.head.after.registered.items()}

    def head(self, channel: Channel) -> events.SeenHead:
        final = self.court.final
        keys = {lock.key for lock in our_locks(channel).values()}
        return events.SeenHead(
            now=self.court.head.time,
            final=final.time,
            registered=self.registered(),
            unregistered=frozenset(key for key in keys if key not in final.after.registered),
        )
