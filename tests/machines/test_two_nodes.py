"""Two honest nodes over a wire that cuts anywhere, each of which may crash back to what it saved (protocol R1-R15).

The laws of protocol.md, checked after every step; when the faults stop, everything that was queued must have come to
an end that both sides see alike. Locks, deposits, closing together and the registry of secrets take part.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channeld.base.errors import Refused
from channeld.base.units import Amount, LockId, LockKey, Preimage, Seconds, Side, Timestamp
from channeld.core import effects as note
from channeld.core.channel import Channel, Phase, Session, next_version
from channeld.core.closing import Margins, RegisterAct, due
from channeld.core.events import (
    Cancel,
    Event,
    Fail,
    Fulfil,
    Leave,
    Propose,
    SeenCooperated,
    SeenDeposit,
    SeenHead,
    SeenSecret,
)
from channeld.core.messages import AddLock, Transfer
from channeld.core.saved import load
from tests.roles import START, Node, lock_key, offer, open_pair, pay, preimage, saved_part

SIDES = st.sampled_from(Side)
DELTA = 60
LAG = 30
"""Seconds by which the finalized block is behind the newest."""
MARGINS = Margins(inclusion=Seconds(DELTA), skew=Seconds(10), period=Seconds(600))


def pending(node: Node) -> int:
    """Updates of a node that no agreed state holds yet."""
    out = node.channel.outstanding
    return len(node.channel.queue) + (len(out.updates) if out else 0)


class TwoNodes(RuleBasedStateMachine):
    @initialize(deposit_a=st.integers(50, 300), deposit_b=st.sampled_from([0, 100]))
    def open(self, deposit_a: int, deposit_b: int):
        self.pair = open_pair(deposit_a, deposit_b, max_locks=4)
        self.deposits = [deposit_a, deposit_b]
        self.now = START
        self.number = 0
        self.paid: dict[Side, dict[bytes, int]] = {side: {} for side in Side}
        self.offered: dict[Side, dict[int, int]] = {side: {} for side in Side}
        self.registry: dict[LockKey, tuple[Preimage, Timestamp]] = {}
        self.seen_notes = dict.fromkeys(Side, 0)
        self.outcomes: dict[tuple[Side, int], set[str]] = {}
        self.ended = False

    # -- what the owners wish

    def wish(self, side: Side, event: Event) -> bool:
        try:
            self.pair.do(side, event)
        except Refused:
            return False
        return True

    @rule(side=SIDES, amount=st.integers(1, 120), propose=st.booleans())
    def pay(self, side: Side, amount: int, propose: bool):
        self.number += 1
        event = pay(amount, self.number)
        if self.wish(side, event):
            self.paid[side][event.payment_id] = amount
        if propose:
            self.pair.do(side, Propose())

    @rule(side=SIDES, amount=st.integers(1, 120), lasts=st.integers(1, 400), propose=st.booleans())
    def offer(self, side: Side, amount: int, lasts: int, propose: bool):
        self.number += 1
        before = self.pair.node(side).channel.next_lock
        if self.wish(side, offer(amount, self.number, expiry=self.now + lasts)):
            self.offered[side][before] = self.number
        if propose:
            self.pair.do(side, Propose())

    def incoming(self, side: Side) -> list[int]:
        locks = self.pair.node(side).channel.current.body.locks
        return sorted(id_ for sender, id_ in locks if sender is side.other)

    @rule(side=SIDES, which=st.integers(0, 3), propose=st.booleans())
    def fulfil(self, side: Side, which: int, propose: bool):
        if ids := self.incoming(side):
            id_ = ids[which % len(ids)]
            lock = self.pair.node(side).channel.current.body.locks[side.other, LockId(id_)]
            secret = preimage(self.offered[side.other][id_])
            if self.now <= lock.expiry:
                off_chain = self.now + MARGINS.inclusion + MARGINS.skew < lock.expiry
                self.wish(side, Fulfil(lock_id=LockId(id_), preimage=secret, off_chain=off_chain))
                self.register()
        if propose:
            self.pair.do(side, Propose())

    @rule(side=SIDES, which=st.integers(0, 3), propose=st.booleans())
    def fail(self, side: Side, which: int, propose: bool):
        if ids := self.incoming(side):
            self.wish(side, Fail(lock_id=LockId(ids[which % len(ids)]), reason=b"no"))
        if propose:
            self.pair.do(side, Propose())

    @rule(side=SIDES, which=st.integers(0, 3))
    def cancel(self, side: Side, which: int):
        if self.offered[side]:
            ids = sorted(self.offered[side])
            self.wish(side, Cancel(lock_id=LockId(ids[-1 - which % len(ids)])))

    @rule(side=SIDES)
    def propose(self, side: Side):
        self.pair.do(side, Propose())

    @precondition(lambda self: self.number > 6)
    @rule(side=SIDES, valid_for=st.integers(1, 200))
    def leave(self, side: Side, valid_for: int):
        self.wish(side, Leave(now=self.now, valid_for=valid_for))

    # -- the wire

    @rule(side=SIDES, count=st.integers(1, 3))
    def deliver(self, side: Side, count: int):
        for _ in range(count):
            self.pair.deliver(side)

    @rule()
    def pump(self):
        self.pair.pump()

    @precondition(lambda self: self.pair.up)
    @rule()
    def cut(self):
        self.pair.cut()

    @precondition(lambda self: not self.pair.up)
    @rule()
    def connect(self):
        self.pair.connect()

    @rule(side=SIDES, again=st.booleans())
    def crash(self, side: Side, again: bool):
        self.pair.cut()
        self.pair.node(side).crash()
        if again:
            self.pair.connect()

    # -- the chain

    @rule(side=SIDES, more=st.integers(1, 50), told=SIDES)
    def deposit(self, side: Side, more: int, told: Side):
        """A deposit grows; only one of them has seen it so far."""
        self.deposits[side] += more
        a, b = self.deposits
        self.pair.do(told, SeenDeposit(deposit_a=Amount(a), deposit_b=Amount(b)))

    def register(self) -> None:
        """Each daemon does what is due; a registration is in the next block, and both see it."""
        for side in Side:
            channel = self.pair.node(side).channel
            known = {key: at for key, (_, at) in self.registry.items()}
            for act in due(channel, now=self.now, registered=known, margins=MARGINS):
                if isinstance(act, RegisterAct):
                    for secret in act.secrets:
                        key = next(lock_key(n) for n in range(1, self.number + 1) if preimage(n) == secret)
                        self.registry.setdefault(key, (secret, self.now))
        for key, (secret, at) in self.registry.items():
            for side in Side:
                self.pair.do(side, SeenSecret(key=key, preimage=secret, at=at))

    @rule(seconds=st.integers(1, DELTA))
    def block(self, seconds: int):
        self.register()
        self.now = Timestamp(self.now + seconds)
        final = Timestamp(self.now - LAG)
        known = {key: at for key, (_, at) in self.registry.items()}
        locks = [
            lock
            for side in Side
            for state in (self.pair.node(side).channel.current, self.pair.node(side).channel.outstanding)
            if state is not None
            for lock in state.body.locks.values()
        ] + [
            update.lock for side in Side for update in self.pair.node(side).channel.queue if isinstance(update, AddLock)
        ]
        head = SeenHead(
            now=self.now,
            final=final,
            registered=known,
            unregistered=frozenset(lock.key for lock in locks if known.get(lock.key, final + 1) > final),
        )
        for side in Side:
            self.pair.node(side).now = self.now
            self.pair.do(side, head)
        self.register()

    @rule()
    def cooperate(self):
        """Whoever holds both signatures of a cooperate puts it on chain."""
        for side in Side:
            coop = self.pair.node(side).channel.coop
            if coop is not None and coop.signature_theirs and self.now <= coop.valid_until:
                body = self.pair.node(side.other).channel.current.body
                assert body.net == coop.net
                assert not body.locks
                for both in Side:
                    self.pair.do(both, SeenCooperated(version=coop.version))
                self.ended = True

    # -- the laws

    @invariant()
    def each_version_has_one_content_i10(self):
        for side in Side:
            signed = self.pair.node(side).versions
            assert len(dict(signed)) == len(signed), "a version was signed twice"
            versions = [version for version, _ in signed]
            assert versions == sorted(versions), "versions must only rise"

    @invariant()
    def nobody_froze(self):
        for side in Side:
            channel = self.pair.node(side).channel
            assert channel.phase in (Phase.OPEN, Phase.CLOSED), channel.reason

    @invariant()
    def saved_is_what_is(self):
        for side in Side:
            node = self.pair.node(side)
            assert load(node.disk) == saved_part(node.channel)

    @invariant()
    def sums_balance(self):
        for side in Side:
            channel = self.pair.node(side).channel
            for state in (channel.current, channel.outstanding):
                if state is None:
                    continue
                ours = state.body.balance(channel.we, channel.heard[channel.we])
                theirs = state.body.balance(channel.we.other, channel.told[channel.we.other])
                assert ours >= 0
                assert theirs >= 0
                both = ours + theirs + state.body.locked_ab + state.body.locked_ba
                assert both == channel.heard[channel.we] + channel.told[channel.we.other]

    @invariant()
    def views_differ_by_one_proposal_at_most(self):
        a, b = (self.pair.node(side).channel for side in Side)
        behind, ahead = sorted((a, b), key=lambda channel: channel.current.version)
        if behind.current.version == ahead.current.version:
            assert behind.current.body_hash == ahead.current.body_hash
            return
        assert behind.outstanding is not None
        assert behind.outstanding.version == ahead.current.version
        assert behind.outstanding.body_hash == ahead.current.body_hash

    @invariant()
    def outcomes_are_one(self):
        """Notes are counted: each transfer credited once on each end, each lock with one outcome."""
        for side in Side:
            node = self.pair.node(side)
            new = node.notes[self.seen_notes[side] :]
            self.seen_notes[side] = len(node.notes)
            for one in new:
                match one:
                    case note.Returned():
                        self.outcomes.setdefault((side, one.lock_id), set()).add("returned")
                    case note.Dropped(update=AddLock(lock=lock)):
                        self.outcomes.setdefault((side, lock.id), set()).add("returned")
                    case note.Learned():
                        self.outcomes.setdefault((side, one.lock_id), set()).add("learned")
                    case _:
                        pass
            sent = [one.payment_id for one in node.notes if isinstance(one, note.Sent)]
            received = [one.payment_id for one in node.notes if isinstance(one, note.Received)]
            assert len(set(sent)) == len(sent)
            assert len(set(received)) == len(received)
            assert set(sent) <= set(self.paid[side])
            assert set(received) <= set(self.paid[side.other])
        for which, outcome in self.outcomes.items():
            assert len(outcome) == 1, f"lock {which} was {outcome}"

    def teardown(self):
        if not hasattr(self, "pair") or self.ended:
            return
        self.heal()

    def heal(self) -> None:
        """The faults stop: everything comes to an end that both see alike."""
        both = self.pair
        both.cut()
        for side in Side:
            both.do(side, SeenDeposit(deposit_a=Amount(self.deposits[0]), deposit_b=Amount(self.deposits[1])))
        both.connect()
        both.pump()
        both.settle()
        self.now = Timestamp(self.now + 10_000)
        for side in Side:  # every cooperate lapses
            both.do(side, SeenHead(now=self.now, final=self.now))
        both.pump()
        both.settle()
        self.outcomes_are_one()
        self.each_version_has_one_content_i10()
        a, b = (both.node(side).channel for side in Side)
        assert (a.session, b.session) == (Session.LIVE, Session.LIVE)
        assert (a.phase, b.phase) == (Phase.OPEN, Phase.OPEN)
        assert (a.current, a.base) == (b.current, b.base)
        assert next_version(Side.A, a.base) != next_version(Side.B, b.base)
        for side in Side:
            assert pending(both.node(side)) == 0
        self.books(a)

    def books(self, channel: Channel) -> None:
        """`net` is exactly what the notes say was paid and fulfilled."""
        net = 0
        for side in Side:
            sign = 1 if side is Side.A else -1
            node, peer = self.pair.node(side), self.pair.peer(side)
            sent = {one.payment_id for one in node.notes if isinstance(one, note.Sent)}
            received = {one.payment_id for one in peer.notes if isinstance(one, note.Received)}
            dropped = {
                one.update.payment_id
                for one in node.notes
                if isinstance(one, note.Dropped) and isinstance(one.update, Transfer)
            }
            assert sent == received
            assert sent | dropped == set(self.paid[side])
            assert not sent & dropped
            net += sign * sum(self.paid[side][which] for which in sent)
            held = {one.lock_id for one in node.notes if isinstance(one, note.Held)}
            arrived = {one.lock.id: one.lock for one in peer.notes if isinstance(one, note.Arrived)}
            assert held == set(arrived)
            for id_, lock in arrived.items():
                gone = (side, id_) not in channel.current.body.locks
                if gone and "learned" in self.outcomes.get((side, id_), ()):
                    net += sign * lock.amount
                assert not gone or self.outcomes.get((side, id_)), f"lock {id_} has gone without an outcome"
        assert channel.current.body.net == net


TestTwoNodes = TwoNodes.TestCase
TestTwoNodes.settings = settings(max_examples=120, stateful_step_count=40)
