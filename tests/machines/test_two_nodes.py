"""Two honest nodes over a wire that cuts anywhere, each of which may crash back to what it saved (protocol R1-R15).

The laws of channeld/core/README.md, checked after every step; when the faults stop, everything that was queued must
have come to an end that both sides see alike. Locks, deposits, closing together and the registry of secrets take part.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
from channeld.core.saved import load, save
from tests.roles import START, Node, lock_key, offer, open_pair, pay, preimage, saved_part

SIDES = st.sampled_from(Side)
WISHES = ("pay", "pay", "pay", "offer", "offer", "offer", "fulfil", "fulfil", "fulfil", "fail", "cancel")
WALKS = 160
DELTA = 60
LAG = 30
"""Seconds by which the finalized block is behind the newest."""
MARGINS = Margins(inclusion=Seconds(DELTA), skew=Seconds(10), period=Seconds(600))


def pending(node: Node) -> int:
    """Updates of a node that no agreed state holds yet."""
    out = node.channel.outstanding
    return len(node.channel.queue) + (len(out.updates) if out else 0)


WISH = st.tuples(
    st.just("wish"),
    st.sampled_from(WISHES),
    SIDES,
    st.integers(1, 60),
    st.integers(1, 900),
    st.integers(0, 3),
    st.sampled_from([True, True, False]),
)
TALK = st.tuples(st.just("talk"), st.lists(SIDES, min_size=1, max_size=8))
STEPS = st.one_of(
    WISH,
    WISH,
    WISH,
    TALK,
    TALK,
    st.tuples(st.just("agree"), st.booleans()),
    st.tuples(
        st.just("cut"),
        st.sampled_from([(), (Side.A,), (Side.B,), (Side.A, Side.B)]),
        st.lists(SIDES, max_size=6),
    ),
    st.tuples(
        st.just("leave"), st.sampled_from([(Side.A,), (Side.B,), (Side.A, Side.B)]), st.integers(1, 120), st.booleans()
    ),
    st.tuples(st.just("deposit"), SIDES, st.integers(1, 50), SIDES),
    st.tuples(st.just("block"), st.integers(1, DELTA), st.sampled_from([(Side.A,), (Side.B,), (Side.A, Side.B)])),
    st.tuples(st.just("block"), st.integers(1, DELTA), st.sampled_from([(Side.A,), (Side.B,), (Side.A, Side.B)])),
    st.tuples(st.just("lapse"), SIDES, st.integers(1, 60)),
    st.tuples(st.just("cooperate")),
)


class TwoNodes(RuleBasedStateMachine):
    """One rule with all steps in it: Hypothesis would leave out whole rules, and most runs would go nowhere."""

    @rule(what=STEPS)
    def step(self, what: tuple[Any, ...]):
        name, *arguments = what
        if not self.ended:
            getattr(self, name)(*arguments)

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
        self.left = False

    # -- what the owners wish

    def wish(self, kind: str, side: Side, amount: int, lasts: int, which: int, propose: bool):
        match kind:
            case "pay":
                self.pay(side, amount)
            case "offer":
                self.offer(side, amount, lasts)
            case "fulfil":
                self.fulfil(side, which)
            case "fail":
                if ids := self.incoming(side):
                    self.try_(side, Fail(lock_id=LockId(ids[which % len(ids)]), reason=b"no"))
            case "cancel":
                if ids := sorted(self.offered[side]):
                    self.try_(side, Cancel(lock_id=LockId(ids[-1 - which % len(ids)])))
            case _:
                raise AssertionError(kind)
        if propose:
            self.pair.do(side, Propose())

    def try_(self, side: Side, event: Event) -> bool:
        try:
            self.pair.do(side, event)
        except Refused:
            return False
        return True

    def pay(self, side: Side, amount: int) -> None:
        self.number += 1
        event = pay(amount, self.number)
        if self.try_(side, event):
            self.paid[side][event.transfers[0][0]] = amount

    def offer(self, side: Side, amount: int, lasts: int) -> None:
        self.number += 1
        before = self.pair.node(side).channel.next_lock
        if self.try_(side, offer(amount, self.number, expiry=self.now + lasts)):
            self.offered[side][before] = self.number

    def incoming(self, side: Side) -> list[int]:
        locks = self.pair.node(side).channel.current.body.locks
        return sorted(id_ for sender, id_ in locks if sender is side.other)

    def fulfil(self, side: Side, which: int) -> None:
        if ids := self.incoming(side):
            id_ = ids[which % len(ids)]
            lock = self.pair.node(side).channel.current.body.locks[side.other, LockId(id_)]
            if self.now <= lock.expiry:
                off_chain = self.now + MARGINS.inclusion + MARGINS.skew < lock.expiry
                secret = preimage(self.offered[side.other][id_])
                self.try_(side, Fulfil(lock_id=LockId(id_), preimage=secret, off_chain=off_chain))
                self.register()

    def leave(self, sides: tuple[Side, ...], valid_for: int, clear: bool):
        """Some want to close together; with `clear` nothing is in the way."""
        if self.number < 4 or self.left:
            return
        self.left = True
        if clear:
            self.agree(propose=True)
            for side in Side:
                for id_ in self.incoming(side):
                    self.try_(side, Fail(lock_id=LockId(id_), reason=b""))
            self.pair.settle()
        for side in sides:
            self.try_(side, Leave(now=self.now, valid_for=valid_for))

    # -- the wire

    def talk(self, turns: list[Side]):
        """Some messages arrive, after a new connection if there is none."""
        if not self.pair.up:
            self.pair.connect()
        for side in turns:
            self.pair.deliver(side)

    def agree(self, propose: bool):
        """Everything that is under way arrives."""
        if not self.pair.up:
            self.pair.connect()
        self.pair.pump()
        if propose:
            self.pair.settle()

    def cut(self, crashed: tuple[Side, ...], again: list[Side]):
        """The wire is cut, perhaps because somebody died; perhaps it stands again for a while."""
        self.pair.cut()
        for side in crashed:
            self.pair.node(side).crash()
        if again:
            self.talk(again)

    # -- the chain

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

    def block(self, seconds: int, seen: tuple[Side, ...]):
        """A block; not both need have seen it yet."""
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
        for side in seen:
            self.pair.node(side).now = self.now
            self.pair.do(side, head)
        self.register()
        self.stay()

    def lapse(self, side: Side, amount: int):
        """A cooperate has lapsed for one of them, who goes on at once; the other's blocks are late."""
        coop = self.pair.node(side).channel.coop
        if coop is None or not self.pair.up:
            return
        self.now = Timestamp(max(self.now, coop.valid_until + LAG + 1))
        self.pair.do(side, SeenHead(now=self.now, final=Timestamp(self.now - LAG)))
        self.pay(side, amount)
        self.pair.do(side, Propose())
        self.pair.deliver(side.other)

    def stay(self) -> None:
        """Closing together came to nothing, and both owners change their minds."""
        a, b = self.pair.opener.channel, self.pair.acceptor.channel
        quiet = a.session is b.session is Session.LIVE and not any(self.pair.wires.values())
        if self.left and quiet and a.base == b.base and not (a.coop or b.coop or a.ask or b.ask):
            self.left = False
            for node in (self.pair.opener, self.pair.acceptor):
                node.channel = replace(node.channel, leaving=False)
                node.disk = save(node.channel)

    def cooperate(self):
        """Whoever holds both signatures of a cooperate puts it on chain."""
        if self.number < 15:
            return
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
    def no_state_is_signed_while_a_cooperate_lives_r14(self):
        for side in Side:
            channel = self.pair.node(side).channel
            assert channel.ask is None or channel.outstanding is None, "R11: proposes while quiet"
            if channel.coop is not None:
                assert channel.outstanding is None
                assert channel.current.version < channel.coop.version == channel.base

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

    def laws(self) -> None:
        self.each_version_has_one_content_i10()
        self.no_state_is_signed_while_a_cooperate_lives_r14()
        self.nobody_froze()
        self.saved_is_what_is()
        self.sums_balance()
        self.views_differ_by_one_proposal_at_most()
        self.outcomes_are_one()

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
        proposed = Side.A if a.base % 2 else Side.B
        assert next_version(proposed.other, a.base) > next_version(proposed, a.base), "R1: who has waited wins"
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
TestTwoNodes.settings = settings(max_examples=60, stateful_step_count=40)


def any_step(chance: Random) -> tuple[Any, ...]:
    """One of STEPS, by a plain die: walks go deeper than what Hypothesis tries first."""
    some = [chance.choice(list(Side)) for _ in range(chance.randint(1, 8))]
    died = chance.choice([(), (Side.A,), (Side.B,), (Side.A, Side.B)])
    wish = ("wish", chance.choice(WISHES), some[0], chance.randint(1, 60), chance.randint(1, 900), chance.randint(0, 3))
    return chance.choices(
        [
            (*wish, chance.random() < 0.7),
            ("talk", some),
            ("agree", chance.random() < 0.5),
            ("cut", died, some if chance.random() < 0.5 else []),
            (
                "leave",
                chance.choice([(Side.A,), (Side.B,), (Side.A, Side.B)]),
                chance.randint(1, 120),
                chance.random() < 0.8,
            ),
            ("deposit", some[0], chance.randint(1, 50), some[-1]),
            ("block", chance.randint(1, DELTA), chance.choice([(Side.A,), (Side.B,), (Side.A, Side.B)])),
            ("lapse", some[0], chance.randint(1, 60)),
            ("cooperate",),
        ],
        [8, 8, 1, 3, 2, 0.5, 4, 2, 0.3],
    )[0]


def walk(seed: int) -> None:
    """One walk by a plain die, to its end."""
    chance = Random(seed)
    nodes = TwoNodes()
    nodes.open(chance.randint(50, 300), chance.choice([0, 100]))
    for _ in range(50):
        nodes.step(any_step(chance))
        nodes.laws()
    nodes.teardown()


@pytest.mark.parametrize("first", range(0, WALKS, 20))
def test_walks(first: int):
    for seed in range(first, first + 20):
        walk(seed)
