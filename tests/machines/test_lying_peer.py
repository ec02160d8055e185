"""One honest node against a peer that says anything well-formed, countersigns what suits it and keeps everything.

The liar knows every message that was ever said and the honest node's state. Whatever it does, the honest node signs
each version once, never falls below what it agreed to and proposed itself (I17), and on chain gets at least that,
whichever state the liar closes with and whenever it acknowledges. Lies that must have no effect are tried on the side
and forgotten (`lie`), so that a run goes on after them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from channeld.base.digests import ALL, cooperate_digest, locks_hash, receipt_digest, transfers_hash
from channeld.base.errors import Answer, PeerFault, Refused
from channeld.base.units import NATIVE, Amount, Digest, LockId, Preimage, Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import EMPTY, MAX_BATCH, ZERO, Body, Channel, Phase, Session, next_version
from channeld.core.closing import ChallengeAct, CloseAct, SettleAct, due
from channeld.core.cooperating import LONGEST, SKEW
from channeld.core.effects import Step
from channeld.core.events import (
    Cancel,
    CloseAlone,
    Connected,
    Event,
    Fail,
    Fulfil,
    Got,
    Leave,
    Propose,
    SeenChallenge,
    SeenClose,
    SeenDeposit,
    SeenFinal,
    SeenHead,
    SeenSettled,
)
from channeld.core.machine import step
from channeld.core.messages import (
    Ack,
    AddLock,
    Commit,
    CoopNo,
    CoopPropose,
    CoopSign,
    DepositSeen,
    FailLock,
    Fault,
    FulfilLock,
    Message,
    Proof,
    Reestablish,
    Transfer,
    Update,
)
from channeld.core.updating import Forbidden, apply
from tests.machines.test_two_nodes import MARGINS
from tests.roles import (
    ACCEPTOR_KEY,
    ONION,
    OPENER_KEY,
    PERIOD,
    STRANGER_KEY,
    Node,
    RecordingKey,
    careless,
    channels,
    lock,
    name,
    offer,
    pay,
    preimage,
)

DEPOSITS = (Amount(1_000), Amount(600))
LIES = (
    "version",
    "base",
    "signature",
    "stranger",
    "too much",
    "nothing",
    "negative",
    "own lock",
    "foreign lock",
    "old lock",
    "many locks",
    "wrong secret",
    "empty",
    "unknown lock",
    "ack of a stranger",
    "ack without receipt",
    "ack from nowhere",
    "other version",
)


def worth(body: Body, side: Side) -> int:
    """What a side has in a state, its own pending locks included, the peer's not."""
    return body.balance(side, DEPOSITS[side]) + body.locked(side)


@dataclass(frozen=True)
class Kind:
    """A step the machine may take: a range (two numbers) or a list of choices for each of its arguments."""

    weight: int
    name: str
    arguments: tuple[range | tuple[Any, ...], ...] = ()

    def strategy(self) -> st.SearchStrategy[tuple[Any, ...]]:
        drawn = [
            st.integers(one.start, one.stop - 1) if isinstance(one, range) else st.sampled_from(one)
            for one in self.arguments
        ]
        return st.tuples(st.just(self.name), *drawn)

    def by_dice(self, chance: Random) -> tuple[Any, ...]:
        return (self.name, *(chance.choice(one) for one in self.arguments))


YES_NO = (True, False)
KINDS = (
    Kind(6, "pay", (range(1, 200), YES_NO)),
    Kind(6, "offer", (range(1, 200), range(1, 600), YES_NO)),
    Kind(6, "answer", (range(4), YES_NO, YES_NO)),
    Kind(1, "cancel", (range(1, 5),)),
    Kind(1, "leave", (range(1, 300),)),
    Kind(2, "crash"),
    Kind(2, "block", (range(1, 200),)),
    Kind(
        12, "propose", (range(1, 120), ("transfer", "lock", "lock", "fulfil", "fulfil", "fail", "all"), range(-50, 600))
    ),
    Kind(12, "acknowledge", (range(1, 3),)),
    Kind(6, "reestablish", (YES_NO,)),
    Kind(2, "coop_propose", (YES_NO, range(-10, 4_000))),
    Kind(2, "coop_answer", (YES_NO,)),
    Kind(1, "replay", (range(10_000),)),
    Kind(3, "false_coop", (range(-50, 50), range(-10, 4_000), YES_NO)),
    Kind(3, "show_proof", (range(50), YES_NO)),
    Kind(2, "false_deposit", (range(3_000), range(3_000))),
    Kind(1, "freeze", (YES_NO,)),
    Kind(6, "lie", (LIES,)),
)
STEPS = st.one_of([kind.strategy() for kind in KINDS for _ in range(kind.weight)])
WALKS = 120


class LyingPeer(RuleBasedStateMachine):
    """One rule with all steps in it, as in `test_two_nodes`."""

    @rule(what=STEPS)
    def step(self, what: tuple[Any, ...]):
        name, *arguments = what
        getattr(self, name)(*arguments)

    @initialize(side=st.sampled_from(Side))
    def open(self, side: Side):
        self.side = side
        secret = (OPENER_KEY, ACCEPTOR_KEY)[side].secret
        self.liar = (OPENER_KEY, ACCEPTOR_KEY)[side.other]
        self.honest = Node(channels(max_locks=4)[side], RecordingKey(secret))
        self.number = 0
        self.said: list[Message] = []
        """Everything either of them ever said."""
        self.secrets: dict[tuple[Side, int], int] = {}
        self.proofs: dict[int, Proof] = {}
        """States with both signatures; the liar countersigns what it likes."""
        self.gone: set[int] = set()
        """Locks of ours that have come back for good."""
        self.asks: set[tuple[int, int]] = set()
        self.counted = 0
        self.worth = worth(EMPTY, side)
        self.before = self.honest.channel
        self.do(Connected())
        self.say(self.truth())
        a, b = DEPOSITS
        self.do(SeenDeposit(deposit_a=a, deposit_b=b))
        self.say(DepositSeen(deposit_a=a, deposit_b=b))
        assert self.channel.phase is Phase.OPEN

    @property
    def channel(self) -> Channel:
        return self.honest.channel

    # -- saying

    def do(self, event: Event) -> None:
        self.before = self.channel
        try:
            done = self.honest.do(event)
        except Refused:
            return
        except PeerFault as fault:
            assert isinstance(event, Got), "only what a peer says may be its fault"
            if fault.answer is Answer.DISCONNECT:
                self.honest.channel = replace(self.channel, session=Session.CUT, ask=None, waiting=None)
            return
        self.said += done.sends
        for one in done.sends:
            if isinstance(one, CoopPropose):
                self.asks.add((one.coop_version, one.valid_until))
        self.keep()
        self.account(done.notes)

    def say(self, message: Message) -> None:
        self.said.append(message)
        taught = self.teaches(message)
        before = len(self.honest.notes)
        self.do(Got(message=message, now=self.honest.now))
        learned = {one.lock_id for one in self.honest.notes[before:] if isinstance(one, note.Learned)}
        assert taught <= learned, "R4.iii: a preimage in a proposal that loses the crossing was forgotten"

    def teaches(self, message: Message) -> set[LockId]:
        """Locks of ours whose preimage stands in a good proposal that loses the crossing."""
        channel, out = self.channel, self.channel.outstanding
        crossing = channel.session is Session.LIVE and channel.signs and out is not None
        if not isinstance(message, Commit) or not crossing or out is None or not message.version < out.version:
            return set()
        if (message.version, message.base) != (next_version(self.side.other, channel.base), channel.base):
            return set()
        try:
            body = apply(channel, self.side.other, message.updates)
        except Forbidden:
            return set()
        digest = channel.digest(message.version, body.hash(channel.blind(message.version)))
        good = bool(message.updates) and self.liar.sign(digest) == message.signature
        taken = {u.lock_id for u in message.updates if isinstance(u, FulfilLock)}
        return taken - channel.lost if good and not taken & channel.lost else set()

    def keep(self) -> None:
        """Countersign and keep each state the honest node ever signed."""
        for version, body in self.honest.bodies.items():
            if version not in self.proofs:
                digest = dict(self.honest.versions)[version]
                both = {self.side: self.honest.signatures[version], self.side.other: self.liar.sign(Digest(digest))}
                self.proofs[version] = Proof(
                    version=Version(version), body=body, signature_a=both[Side.A], signature_b=both[Side.B]
                )

    def account(self, notes: tuple[note.Note, ...]) -> None:
        """What the notes of one step allow `current` to lose, and what it lost (I17)."""
        bound = 0
        old, new = self.before.current.body, self.channel.current.body
        for one in notes:
            match one:
                case note.Sent():
                    bound -= one.amount
                case note.Received():
                    bound += one.amount
                case note.Learned():
                    name_ = (self.side, one.lock_id)
                    if name_ in old.locks and name_ not in new.locks:
                        assert one.lock_id not in self.gone, "a lock that had come back was taken"
                        bound -= old.locks[name_].amount
                case note.Returned():
                    self.gone.add(one.lock_id)
                case _:
                    pass
        if not self.channel.recovering:
            assert worth(new, self.side) >= worth(old, self.side) + bound

    def truth(self, **changes: object) -> Reestablish:
        """A reestablish as if the liar stood where the honest node stands."""
        current = self.channel.current
        same = Reestablish(
            version=current.version,
            hash=current.body_hash,
            outstanding=Version(0),
            outstanding_hash=ZERO,
            base=self.channel.base,
            coop_version=self.channel.coop.version if self.channel.coop else Version(0),
            coop_digest=self.channel.coop.digest if self.channel.coop else ZERO,
            coop_valid_until=self.channel.coop.valid_until if self.channel.coop else Timestamp(0),
        )
        return replace(same, **changes)  # type: ignore[arg-type]

    def commit(
        self,
        updates: tuple[Update, ...],
        *,
        version: int | None = None,
        base: int | None = None,
        body: Body | None = None,
    ) -> Commit:
        """A commit of the liar's, right but for what is asked otherwise."""
        base = self.channel.base if base is None else base
        version = next_version(self.side.other, self.channel.base) if version is None else version
        if body is None:
            body = apply(self.channel, self.side.other, updates)
        digest = self.channel.digest(Version(version), body.hash(self.channel.blind(version)))
        return Commit(version=Version(version), base=Version(base), updates=updates, signature=self.liar.sign(digest))

    def their_locks(self) -> list[LockId]:
        return sorted(id_ for sender, id_ in self.channel.current.body.locks if sender is self.side.other)

    def our_locks(self) -> list[LockId]:
        return sorted(id_ for sender, id_ in self.channel.current.body.locks if sender is self.side)

    # -- what the honest owner wishes

    def pay(self, amount: int, now: bool):
        self.number += 1
        self.do(pay(amount, self.number))
        if now:
            self.do(Propose())

    def offer(self, amount: int, lasts: int, now: bool):
        self.number += 1
        self.secrets[self.side, self.channel.next_lock] = self.number
        self.do(offer(amount, self.number, expiry=self.honest.now + lasts))
        if now:
            self.do(Propose())

    def answer(self, which: int, fulfil: bool, now: bool):
        if ids := self.their_locks():
            id_ = ids[which % len(ids)]
            if fulfil:
                self.do(Fulfil(lock_id=id_, preimage=preimage(self.secrets[self.side.other, id_])))
            else:
                self.do(Fail(lock_id=id_, reason=b""))
        if now:
            self.do(Propose())

    def cancel(self, which: int):
        self.do(Cancel(lock_id=LockId(max(1, self.channel.next_lock - which))))

    def leave(self, valid_for: int):
        if self.number < 12:
            return
        self.do(Leave(now=self.honest.now, valid_for=valid_for))

    def crash(self):
        self.honest.crash()
        self.do(Connected())

    def block(self, seconds: int):
        """Nobody registers anything; the newest block is final."""
        self.honest.now = Timestamp(self.honest.now + seconds)
        bodies = [self.channel.current.body] + ([self.channel.outstanding.body] if self.channel.outstanding else [])
        queued = [update.lock.key for update in self.channel.queue if isinstance(update, AddLock)]
        keys = frozenset([one.key for body in bodies for one in body.locks.values()] + queued)
        self.do(SeenHead(now=self.honest.now, final=self.honest.now, unregistered=keys))

    # -- what an ordinary peer would say

    def propose(self, amount: int, kind: str, lasts: int):
        updates: list[Update] = []
        self.number += 1
        if kind in ("transfer", "all"):
            updates.append(Transfer(name(self.number), Amount(amount)))
        if kind in ("lock", "all"):
            id_ = self.channel.their_last_lock + 1
            made = lock(self.side.other, id_, amount, self.number, expiry=max(1, self.honest.now + lasts))
            self.secrets[self.side.other, id_] = self.number
            updates.append(AddLock(made, ONION))
        if kind in ("fulfil", "fail", "all"):
            for id_ in self.our_locks()[:1]:
                secret = preimage(self.secrets[self.side, id_])
                updates.append(FailLock(id_, b"") if kind == "fail" else FulfilLock(id_, secret))
        if not updates:
            return
        try:
            self.say(self.commit(tuple(updates)))
        except Forbidden:
            pass

    def ack_of_outstanding(self) -> Ack | None:
        out = self.channel.outstanding
        if out is None:
            return None
        transfers = [(u.payment_id, u.amount) for u in out.updates if isinstance(u, Transfer)]
        receipt = b""
        if transfers:
            listed = transfers_hash(transfers)
            receipt = self.liar.sign(receipt_digest(self.channel.domain, self.channel.id, out.version, listed))
        signature = self.liar.sign(self.channel.digest(out.version, out.body_hash))
        return Ack(version=out.version, signature=signature, receipt=receipt)

    def acknowledge(self, times: int):
        if ack := self.ack_of_outstanding():
            for _ in range(times):
                self.say(ack)

    def reestablish(self, ahead: bool):
        self.do(Connected())
        out = self.channel.outstanding
        if ahead and out is not None:
            self.say(self.truth(version=out.version, hash=out.body_hash, base=out.version))
            if ack := self.ack_of_outstanding():
                self.say(ack)
        else:
            self.say(self.truth())

    def coop_propose(self, good: bool, longer: int):
        current = self.channel.current
        self.say(
            CoopPropose(
                version=current.version,
                hash=current.body_hash,
                coop_version=Version(next_version(self.side.other, self.channel.base) + (0 if good else 1)),
                net=current.body.net,
                valid_until=Timestamp(self.honest.now + 2 * longer),
            )
        )

    def coop_answer(self, no: bool):
        ask = self.channel.ask
        if ask is None:
            return
        if no:
            self.say(CoopNo(coop_version=ask.version))
        else:
            self.say(self.coop_sign(ask.version, ask.net, ask.valid_until))

    def coop_digest(self, version: int, net: int, valid_until: int) -> Digest:
        c = self.channel
        return cooperate_digest(c.domain, c.id, Version(version), net, ALL, ALL, Timestamp(valid_until))

    def coop_sign(self, version: int, net: int, valid_until: int) -> CoopSign:
        return CoopSign(
            coop_version=Version(version), signature=self.liar.sign(self.coop_digest(version, net, valid_until))
        )

    # -- lies that may change something

    def replay(self, which: int):
        """Something that one of them said before, perhaps the honest node itself."""
        old = self.said[-1 - which % len(self.said)]
        if not isinstance(old, Fault) or which % 5 == 0:
            self.say(old)

    def false_coop(self, net: int, longer: int, mine: bool):
        """A cooperate nobody asked for: at reestablish, then signed."""
        current = self.channel.current
        version = next_version(self.side if mine else self.side.other, self.channel.base)
        until = self.honest.now + longer
        net = current.body.net + (net if net % 3 == 0 else 0)
        claim = self.truth(
            coop_version=version,
            coop_digest=self.coop_digest(version, net, until),
            coop_valid_until=Timestamp(until),
            base=version,
        )
        self.aside(Connected(), claim, self.coop_sign(version, net, until))

    def show_proof(self, which: int, pretend: bool):
        """A state the honest node did sign, and perhaps the claim to be there."""
        if not self.proofs:
            return
        proof = self.proofs[sorted(self.proofs)[which % len(self.proofs)]]
        if not pretend:
            self.say(proof)
            return
        claim = self.truth(version=proof.version + 2, hash=Digest(b"?" * 32), base=proof.version + 2)
        self.aside(Connected(), claim, proof)
        assert not self.channel.recovering

    def false_deposit(self, a: int, b: int):
        """More than the honest node has seen is announced, and spent."""
        current, other = self.channel.current.body, self.side.other
        spent = (Transfer(name(1), Amount(current.balance(other, DEPOSITS[other]) + 1)),)
        self.aside(
            DepositSeen(deposit_a=Amount(a), deposit_b=Amount(b)),
            self.commit(spent, body=careless(current, other, spent)),
        )

    def freeze(self, peer: bool):
        if self.number < 30:
            return
        if peer:
            self.say(Fault(code="closing", text="so there"))
        else:
            self.do(CloseAlone())

    def aside(self, *play: Connected | Message) -> None:
        """Play a lie, check the laws, and go back to before it."""
        channel, versions, bodies = self.channel, list(self.honest.versions), dict(self.honest.bodies)
        signatures, proofs, gone = dict(self.honest.signatures), dict(self.proofs), set(self.gone)
        said = len(self.said)
        for one in play:
            if isinstance(one, Connected):
                self.do(one)
            else:
                self.say(one)
        for law in (
            self.signs_each_version_once_i11,
            self.adds_up_i10,
            self.enforceable_is_acceptable_i17,
            self.coop_is_bounded_r14,
        ):
            law()
        self.honest.channel, self.before = channel, channel
        self.honest.versions, self.honest.bodies, self.honest.signatures = versions, bodies, signatures
        self.proofs, self.gone = proofs, gone
        del self.said[said:]

    # -- lies that must have no effect

    def lies(self) -> dict[str, Message]:
        channel, other = self.channel, self.side.other
        right = next_version(other, channel.base)
        one = (Transfer(name(1), Amount(1)),)
        body = replace(channel.current.body, net=channel.current.body.net + (1 if other is Side.A else -1))
        out = channel.outstanding

        def wrong(*updates: Update) -> Commit:
            return self.commit(updates, body=careless(channel.current.body, other, updates))

        def add(sender: Side, id_: int, amount: int = 1) -> AddLock:
            return AddLock(lock(sender, id_, amount), ONION)

        last = channel.their_last_lock
        found: dict[str, Message] = {
            "version": self.commit(one, version=right + 2, body=body),
            "other version": self.commit(one, version=right + 1, body=body),
            "base": self.commit(one, base=channel.base + 1, body=body),
            "signature": replace(self.commit(one, body=body), signature=self.liar.sign(Digest(bytes(32)))),
            "stranger": replace(self.commit(one, body=body), signature=STRANGER_KEY.sign(Digest(bytes(32)))),
            "too much": wrong(Transfer(name(1), Amount(5_000))),
            "nothing": wrong(Transfer(name(1), Amount(0))),
            "negative": wrong(Transfer(name(1), Amount(-5))),
            "own lock": wrong(
                FailLock(next((i for i in self.their_locks() if i not in self.our_locks()), LockId(99)), b"")
            ),
            "foreign lock": wrong(add(self.side, last + 1)),
            "many locks": wrong(*(add(other, last + 1 + n) for n in range(5))),
            "empty": wrong(),
            "unknown lock": wrong(FailLock(LockId(99), b"")),
            "ack from nowhere": Ack(version=Version(right + 50), signature=self.liar.sign(Digest(bytes(32)))),
        }
        if last:
            found["old lock"] = wrong(add(other, last))
        for id_ in self.our_locks()[:1]:
            found["wrong secret"] = wrong(FulfilLock(id_, Preimage(b"!" * 32)))
        ack = self.ack_of_outstanding()
        if ack and out:
            digest = channel.digest(out.version, out.body_hash)
            found["ack of a stranger"] = replace(ack, signature=STRANGER_KEY.sign(digest))
            if ack.receipt:
                found["ack without receipt"] = replace(ack, receipt=b"")
        return found

    def lie(self, lie: str):
        self.again()
        message = self.lies().get(lie)
        if message is None or (isinstance(message, Commit) and message.version == self.channel.current.version):
            return
        before = len(self.honest.versions)
        try:
            self.honest.key.signed.clear()
            done = step(self.channel, Got(message=message, now=self.honest.now), self.honest.key)
        except PeerFault:
            return
        after = done.channel
        assert not self.honest.key.signed, f"signed for {lie}"
        assert after.current == self.channel.current
        assert after.outstanding == self.channel.outstanding
        assert len(self.honest.versions) == before
        live = self.channel.session is Session.LIVE and self.channel.phase is Phase.OPEN
        if live and (self.channel.coop is None or not isinstance(message, Commit)):
            assert after.phase is Phase.FROZEN, f"nothing followed from {lie}"

    def again(self):
        """R4 (i): the proposal that is `current` again gets the same answer; another of its version, or one that is
        too long, ends the channel."""
        channel, ack = self.channel, self.channel.last_ack
        if channel.session is not Session.LIVE or channel.phase is not Phase.OPEN or channel.coop is not None:
            return
        if ack is not None and ack.version == channel.current.version:
            signature = self.liar.sign(channel.digest(channel.current.version, channel.current.body_hash))
            same = Commit(version=ack.version, base=channel.base, updates=(), signature=signature)
            assert self.tried(same).sends == (ack,), "R4.i: no answer to a proposal that is said again"
            other = self.commit((), version=ack.version, body=replace(EMPTY, net=channel.current.body.net + 1))
            assert self.tried(other).channel.phase is Phase.FROZEN, "R4.i: another content of the same version"
        if self.number % 8 == 0:
            long = tuple(Transfer(name(n), Amount(1)) for n in range(MAX_BATCH + 1))
            if channel.current.body.balance(self.side.other, DEPOSITS[self.side.other]) >= len(long):
                assert self.tried(self.commit(long)).channel.phase is Phase.FROZEN, "R2: a proposal of any length"

    def tried(self, message: Message) -> Step:
        """What the honest node would make of it."""
        return step(self.channel, Got(message=message, now=self.honest.now), self.honest.key)

    # -- the laws

    @invariant()
    def signs_each_version_once_i11(self):
        signed = self.honest.versions
        assert len({version for version, _ in signed}) == len(signed)
        assert [v for v, _ in signed] == sorted(v for v, _ in signed)

    @invariant()
    def adds_up_i10(self):
        for body in self.honest.bodies.values():
            locked = body.locked_ab + body.locked_ba
            a, b = body.balance(Side.A, DEPOSITS[0]), body.balance(Side.B, DEPOSITS[1])
            assert min(a, b) >= 0, "a state with money that is not there was signed"
            assert a + b + locked == sum(DEPOSITS)

    def allowed(self) -> int:
        """What the honest node has, less what it has itself proposed to give."""
        out = self.channel.outstanding
        given = sum(u.amount for u in out.updates if isinstance(u, Transfer)) if out else 0
        return worth(self.channel.current.body, self.side) - given

    @invariant()
    def enforceable_is_acceptable_i17(self):
        for version, proof in self.proofs.items():
            if version > self.channel.current.version:
                assert self.channel.outstanding is not None
                assert version == self.channel.outstanding.version
                assert worth(proof.body, self.side) >= self.allowed()
        coop = self.channel.coop
        if coop is not None and coop.signature_ours:
            assert not self.channel.current.body.locks
            assert coop.net == self.channel.current.body.net

    @invariant()
    def coop_is_bounded_r14(self):
        coop = self.channel.coop
        assert self.channel.ask is None or self.channel.outstanding is None, "R11: proposes while quiet"
        if coop is not None:
            assert coop.valid_until <= self.honest.now + LONGEST + SKEW
            assert self.channel.outstanding is None

    @invariant()
    def known_secrets_are_worth_their_lock_i14(self):
        """With the preimage in hand a lock is not given back: it stands, or it was paid."""
        out = self.before.outstanding  # acknowledged after a freeze it pays, and the claim is kept all the same
        paid = {u.lock_id for u in out.updates if isinstance(u, FulfilLock)} if out else set()
        for id_ in set(self.channel.claims) - paid:
            name_ = (self.side.other, id_)
            if name_ in self.before.current.body.locks and name_ not in self.channel.current.body.locks:
                raise AssertionError(f"lock {id_} went while its preimage was known and unpaid")
        for update in self.channel.queue:
            assert not (isinstance(update, FailLock) and update.lock_id in self.channel.claims)

    def laws(self) -> None:
        self.signs_each_version_once_i11()
        self.adds_up_i10()
        self.enforceable_is_acceptable_i17()
        self.coop_is_bounded_r14()
        self.known_secrets_are_worth_their_lock_i14()

    # -- the end on chain

    def teardown(self):
        if not hasattr(self, "honest"):
            return
        versions = [0, *sorted(self.proofs)]
        for version in versions[-6:]:
            for late in ("never", "closing", "final"):
                self.ends_well(version, late)

    def ends_well(self, version: int, late: str) -> None:
        """The liar closes with `version`; the honest node does what is due, and gets what it may expect."""
        channel, allowed = self.channel, self.allowed()
        promised = {
            id_: lock_.amount
            for lock_ in channel.current.body.locks.values()
            if (id_ := lock_.id) in channel.claims and lock_.sender is self.side.other
        }
        ack = self.ack_of_outstanding() if late != "never" else None
        hash_ = ZERO if version == 0 else self.proofs[version].body.hash(channel.blind(version))
        deadline = Timestamp(self.honest.now + PERIOD)
        key = self.honest.key

        def on(event: Event) -> tuple[note.Note, ...]:
            nonlocal channel
            done = step(channel, event, key)
            channel = done.channel
            return done.notes

        on(SeenClose(closer=self.side.other, version=Version(version), body_hash=hash_, deadline=deadline))
        if late == "closing" and ack and channel.session is Session.LIVE:
            on(Got(message=ack, now=self.honest.now))
        acts = due(channel, now=self.honest.now, registered={}, margins=MARGINS)
        for act in acts:
            if isinstance(act, ChallengeAct):
                version, hash_ = act.version, act.body_hash
                on(SeenChallenge(version=act.version, body_hash=act.body_hash, bond_to=NATIVE))
        body = EMPTY if version == 0 else self.proofs[version].body if version in self.proofs else channel.current.body
        on(SeenFinal())
        if late == "final" and ack and channel.session is Session.LIVE:
            on(Got(message=ack, now=self.honest.now))
        assert not any(isinstance(act, CloseAct) for act in due(channel, now=deadline, registered={}, margins=MARGINS))
        after = Timestamp(deadline + PERIOD)
        settle = next(a for a in due(channel, now=after, registered={}, margins=MARGINS) if isinstance(a, SettleAct))
        assert settle.net == body.net
        assert settle.locks_hash == (locks_hash(body.locks.values()) if version else ZERO)
        assert worth(body, self.side) >= allowed
        notes = on(SeenSettled(version=Version(version)))
        for one in notes:
            if isinstance(one, note.Returned):
                assert (self.side, one.lock_id) not in body.locks, "returned, though the peer may still take it"
        for name_ in body.locks:
            assert channel.phase is Phase.SETTLED, f"lock {name_} is still there"
        for id_ in promised:
            if (self.side.other, id_) in body.locks:
                assert id_ in channel.claims, "the preimage of a lock that stands was forgotten"


TestLyingPeer = LyingPeer.TestCase
TestLyingPeer.settings = settings(max_examples=60, stateful_step_count=40)


def walk(seed: int) -> None:
    """One walk by a plain die, to its end."""
    chance = Random(seed)
    peer = LyingPeer()
    peer.open(chance.choice(list(Side)))
    for _ in range(50):
        peer.step(chance.choices(KINDS, [kind.weight for kind in KINDS])[0].by_dice(chance))
        peer.laws()
    peer.teardown()


@pytest.mark.parametrize("first", range(0, WALKS, 20))
def test_walks(first: int):
    for seed in range(first, first + 20):
        walk(seed)
