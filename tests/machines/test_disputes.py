"""Two nodes, their towers and the chain, up to the last wei: crash, cheat, restore, reorg and late secrets together.

One side may be a cheat: its node is honest code, but it closes and challenges with any state that the other ever
signed, its own unanswered or withheld ones included, keeps acknowledgements back, and does what is due only if it
likes. Honest sides crash, sleep for less than a third of the challenge period, or come back from an old copy. The
chain is `court`: the Python model of the contract, with reorgs. After each step the laws I10-I20 hold; at the end
everything settles and each honest side has at least what it was told it has (I17, I25, I26), to the wei.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from channeld.base.digests import locks_hash, pack_locks
from channeld.base.errors import Answer, PeerFault, Refused
from channeld.base.keys import Key
from channeld.base.units import Address, Amount, LockId, Seconds, Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import EMPTY, ZERO, Body, Channel, Phase, Session
from channeld.core.closing import ChallengeAct, CloseAct, ResolveAct, SettleAct, due, final_body, incoming_claimed
from channeld.core.events import (
    CloseAlone,
    Connected,
    Event,
    Fail,
    Fulfil,
    Got,
    Leave,
    Propose,
    SeenDeposit,
    SeenSecret,
)
from channeld.core.freezing import freeze
from channeld.core.messages import Ack, AddLock, Message, Transfer
from channeld.core.paying import with_queue
from channeld.core.saved import load, save
from channeld.core.watching import Case, Evidence, Verdict, judge
from tests.contracts.model import COIN, MANAGER, NOBODY
from tests.machines.court import PAYOUTS, TOKEN, TOWER_ADDRESS, Court, Delegated, Deposit, Eye
from tests.machines.test_lying_peer import Kind
from tests.machines.test_two_nodes import MARGINS
from tests.roles import ACCEPTOR_KEY, OPENER_KEY, PERIOD, Pair, offer, pair, pay, preimage

SIDES = tuple(Side)
YES_NO = (True, False)
BLOCK = 10
"""Most seconds between blocks; inclusion, a reorg and the look after it stay within the margin of 60 s."""
DEPOSITS = (Amount(1_000), Amount(600))
FIRST = 5
"""Blocks after which what was in the first is final."""
KINDS = (
    Kind(6, "pay", (SIDES, range(1, 150), YES_NO)),
    Kind(8, "offer", (SIDES, range(1, 150), range(30, 900), YES_NO, (True, False, False, False))),
    Kind(9, "answer", (SIDES, range(4), (True, True, True, False), YES_NO)),
    Kind(10, "talk", (SIDES, range(1, 5))),
    Kind(4, "agree"),
    Kind(3, "cut", ((None, Side.A, Side.B), YES_NO)),
    Kind(8, "blocks", (range(1, 4), range(1, BLOCK + 1))),
    Kind(2, "long", (range(1, 12),)),
    Kind(1, "deposit", (SIDES, range(1, 60))),
    Kind(2, "sleep", (SIDES,)),
    Kind(1, "blind_tower", (SIDES, YES_NO)),
    Kind(2, "reorg", (range(1, 4), YES_NO)),
    Kind(1, "leave", (SIDES, range(20, 300), YES_NO)),
    Kind(1, "close", (SIDES, range(3))),
    Kind(1, "restore", (SIDES, range(1, 40), range(3))),
    Kind(3, "withhold", (YES_NO,)),
    Kind(4, "stale", (range(8), range(3))),
    Kind(2, "contest", (range(8),)),
    Kind(2, "late_secret", (SIDES, range(4))),
)
WALKS = 200
STEPS = 60


def worth(body: Body, side: Side, deposits: list[int]) -> int:
    """What a side has in a state, its own pending locks included, the peer's not."""
    return body.balance(side, deposits[side]) + body.locked(side)


class Tower:
    """Keeps the newest agreed state of one side and judges with `core.watching`, as the real one does."""

    DELAY = PERIOD // 5

    def __init__(self, side: Side) -> None:
        self.side = side
        self.kept: ChallengeAct | None = None
        self.deaf = False

    def hear(self, channel: Channel) -> None:
        state = channel.current
        if self.deaf or not state.version or not (state.signature_a and state.signature_b):
            return
        if self.kept is None or state.version > self.kept.version:
            self.kept = ChallengeAct(
                version=state.version,
                body_hash=state.body_hash,
                signature_a=state.signature_a,
                signature_b=state.signature_b,
                before=Timestamp(0),
            )

    def look(self, court: Court, delay: int) -> None:
        word = court.channel
        if self.kept is None or not word.deadline or word.closer is self.side:
            return
        case = Case(
            version=Version(word.version),
            deadline=Timestamp(word.deadline),
            delegated=bool(word.outcome.bond_to),
            final=word.final or word.dead,
        )
        evidence = Evidence(version=self.kept.version, delegated=True, delay=Seconds(self.DELAY))
        verdict = judge(case, evidence, now=court.head.time, period=PERIOD)
        if verdict in (Verdict.CHALLENGE, Verdict.ATTACH):
            court.submit(None, Delegated(self.kept, self.side, self.DELAY), delay)


class Disputes(RuleBasedStateMachine):
    """One rule with all steps in it, as in `test_two_nodes`."""

    @rule(what=st.one_of([kind.strategy() for kind in KINDS for _ in range(kind.weight)]))
    def step(self, what: tuple[Any, ...]):
        name, *arguments = what
        getattr(self, name)(*arguments)
        self.laws()

    @initialize(
        cheat=st.sampled_from([None, Side.A, Side.B]), towers=st.sampled_from([(), (Side.A,), (Side.B,), SIDES])
    )
    def open(self, cheat: Side | None, towers: tuple[Side, ...]):
        self.cheat = cheat
        self.pair: Pair = pair(max_locks=4)
        self.court = Court(self.pair.opener.channel, DEPOSITS)
        self.eyes = {side: Eye(self.court) for side in Side}
        self.towers = {side: Tower(side) for side in towers}
        self.deposits: list[int] = list(DEPOSITS)
        self.number = 0
        self.lazy = False
        self.chance = Random(0)
        self.asleep: dict[Side, int] = {}
        """Side -> since when."""
        self.copies: dict[Side, list[bytes]] = {side: [] for side in Side}
        self.restored: dict[Side, int] = {}
        """Side -> the version from which on it is safe."""
        self.secrets: dict[tuple[Side, int], int] = {}
        self.promised: dict[Side, dict[int, int]] = {side: {} for side in Side}
        """Side -> number of a lock it can take in time -> amount."""
        self.sent: dict[Side, dict[bytes, int]] = {side: {} for side in Side}
        self.offered: dict[Side, dict[int, int]] = {side: {} for side in Side}
        self.withheld: list[Message] = []
        self.withholding = False
        self.counted = dict.fromkeys(Side, 0)
        self.returned: dict[Side, set[int]] = {side: set() for side in Side}
        self.learned: dict[Side, set[int]] = {side: set() for side in Side}
        self.frozen_at: dict[Side, int] = {}
        self.newest = dict.fromkeys(Side, 0)
        self.cause = ""
        """Why somebody may end the channel; without one nobody does."""
        self.pair.connect()
        self.agree()
        for side in Side:
            self.do(side, SeenDeposit(deposit_a=DEPOSITS[0], deposit_b=DEPOSITS[1]))
        self.agree()
        self.blocks(FIRST, BLOCK)
        assert all(self.channel(side).phase is Phase.OPEN for side in Side)

    def channel(self, side: Side) -> Channel:
        return self.pair.node(side).channel

    def honest(self) -> list[Side]:
        return [side for side in Side if side is not self.cheat]

    # -- deciding

    def do(self, side: Side, event: Event) -> bool:
        """One step of a node; what it says goes on the wire, unless a cheat keeps it back."""
        node = self.pair.node(side)
        try:
            done = node.do(event)
        except Refused:
            return False
        except PeerFault as fault:
            assert isinstance(event, Got)
            self.fault(fault)
            return False
        for message in done.sends if self.pair.up else ():
            if self.withholding and side is self.cheat and isinstance(message, Ack):
                self.withheld.append(message)
                self.cause = self.cause or "an acknowledgement was kept back"
            else:
                self.pair.wires[side.other].append(message)
        for version, body in node.bodies.items():
            self.court.bodies.setdefault(body.hash(node.channel.blind(version)), body)
        if side in self.towers:
            self.towers[side].hear(node.channel)
        self.copies[side].append(node.disk)
        return True

    def fault(self, fault: PeerFault) -> None:
        assert self.cause or fault.answer is Answer.WARN, f"one honest node accuses the other: {fault}"
        if fault.answer is Answer.DISCONNECT:
            self.pair.cut()

    def got(self, side: Side) -> None:
        if self.pair.wires[side]:
            self.do(side, Got(message=self.pair.wires[side].popleft(), now=self.court.head.time))

    def connect(self) -> None:
        if not self.pair.up:
            self.pair.up = True
            for side in Side:
                from_here = self.pair.node(side).do(Connected())
                self.pair.wires[side.other].extend(from_here.sends)

    # -- what the owners wish

    def pay(self, side: Side, amount: int, now: bool):
        self.number += 1
        event = pay(amount, self.number)
        if self.do(side, event):
            self.sent[side][event.transfers[0][0]] = amount
        if now:
            self.do(side, Propose())

    def offer(self, side: Side, amount: int, lasts: int, now: bool, part: bool):
        """A lock; with `part` another one for the secret of the last."""
        before, earlier = self.channel(side).next_lock, [n for (who, _), n in self.secrets.items() if who is side]
        self.number += 1
        number = earlier[-1] if part and earlier else self.number
        if self.do(side, offer(amount, number, expiry=self.court.head.time + lasts)):
            self.secrets[side, before] = number
            self.offered[side][before] = amount
        if now:
            self.do(side, Propose())

    def incoming(self, side: Side) -> list[LockId]:
        locks = self.channel(side).current.body.locks
        return sorted(id_ for sender, id_ in locks if sender is side.other)

    def answer(self, side: Side, which: int, fulfil: bool, now: bool):
        if side in self.asleep:
            return
        if ids := self.incoming(side):
            id_ = ids[which % len(ids)]
            lock = self.channel(side).current.body.locks[side.other, id_]
            in_time = self.court.head.time + MARGINS.inclusion + MARGINS.skew < lock.expiry
            if not fulfil:
                self.do(side, Fail(lock_id=id_, reason=b"no"))
            elif in_time:
                self.fulfil(side, id_, off_chain=True)
                if id_ in self.channel(side).claims:
                    self.promised[side][id_] = lock.amount
        if now:
            self.do(side, Propose())

    def late_secret(self, side: Side, which: int):
        """A secret that is learned past the cut-off: registered, if there is time, and nothing promised."""
        late = [
            id_
            for id_ in self.incoming(side)
            if self.channel(side).current.body.locks[side.other, id_].expiry
            <= self.court.head.time + MARGINS.inclusion + MARGINS.skew
        ]
        if late and side not in self.asleep:
            self.fulfil(side, late[which % len(late)], off_chain=False)
            self.act(side)

    def fulfil(self, side: Side, id_: LockId, *, off_chain: bool) -> None:
        secret = preimage(self.secrets[side.other, id_])
        self.do(side, Fulfil(lock_id=id_, preimage=secret, off_chain=off_chain))

    def leave(self, side: Side, valid_for: int, clear: bool):
        """Closing together; with `clear` nothing is in the way."""
        if self.number < 5 or self.asleep:
            return
        self.cause = self.cause or "closing together"
        if clear:
            self.agree()
            for either in Side:
                for id_ in self.incoming(either):
                    self.do(either, Fail(lock_id=id_, reason=b""))
            self.agree()
        self.do(side, Leave(now=self.court.head.time, valid_for=valid_for))
        if clear:
            self.agree()
            for either in Side:
                self.act(either)

    def close(self, side: Side, which: int):
        if which == 0 and self.number > 8 and side not in self.asleep:
            self.cause = "an owner closes"
            self.do(side, CloseAlone())
            self.act(side)

    # -- the wire

    def talk(self, side: Side, times: int):
        self.connect()
        for _ in range(times):
            self.got(side)

    def agree(self):
        """Everything that is under way arrives."""
        self.connect()
        for side in Side:
            self.do(side, Propose())
        for _ in range(200):
            if not any(self.pair.wires.values()):
                return
            for side in Side:
                self.got(side)
        raise AssertionError("they never stop talking")

    def cut(self, died: Side | None, both: bool):
        self.pair.cut()
        self.withheld.clear()
        for side in Side:
            if side is died or both:
                self.pair.node(side).crash()

    # -- the chain

    def blocks(self, count: int, seconds: int):
        for _ in range(count):
            self.court.mine(seconds)
            for tower in self.towers.values():
                tower.look(self.court, self.chance.randint(0, 1))
            for side in Side:
                if side in self.asleep and self.court.head.time - self.asleep[side] >= PERIOD // 3:
                    del self.asleep[side]
                if side not in self.asleep:
                    self.look(side)

    def long(self, count: int):
        self.blocks(count * 3, BLOCK)

    def look(self, side: Side) -> None:
        def tell(event: Event) -> None:
            self.do(side, event)
            if isinstance(event, SeenSecret):
                for lock in incoming_claimed(self.channel(side)):
                    if lock.key == event.key and event.at <= lock.expiry:
                        self.do(side, Fulfil(lock_id=lock.id, preimage=event.preimage))

        self.eyes[side].look(lambda: self.channel(side), tell)
        self.pair.node(side).now = self.court.head.time
        self.act(side)

    def act(self, side: Side) -> None:
        if side is self.cheat and self.lazy:
            return
        known = self.eyes[side].registered()
        for act in due(self.channel(side), now=self.court.head.time, registered=known, margins=MARGINS):
            self.court.submit(side, act, self.chance.randint(0, 1))

    def deposit(self, side: Side, more: int):
        if not self.court.channel.deadline and not self.court.channel.dead and not self.cause:
            self.court.submit(side, Deposit(side, more), 0)
            self.blocks(1, BLOCK)
            now = self.court.channel
            self.deposits = [now.deposit_a, now.deposit_b]
            self.blocks(FIRST, BLOCK)

    def reorg(self, depth: int, again: bool):
        """Blocks that are not final go, and with them what was in them."""
        if self.court.channel.deposit_a + self.court.channel.deposit_b < sum(self.deposits):
            return  # paid out: deposits do not come back through here
        self.court.reorg(depth, again=again)
        self.blocks(depth, 1)

    def sleep(self, side: Side):
        """Sees no block for less than a third of the period; whoever may have to take a lock stays awake."""
        if not self.channel(side).claims and not self.promised[side]:
            self.asleep.setdefault(side, self.court.head.time)

    def blind_tower(self, side: Side, deaf: bool):
        if side in self.towers and side not in self.restored:
            self.towers[side].deaf = deaf

    def restore(self, side: Side, back: int, seldom: int):
        """An old copy comes back: the owner says so, and the channel is in recovery for good."""
        if seldom or self.number < 7 or side in self.restored or side in self.asleep:
            return
        if side is not self.cheat and self.channel(side).phase is not Phase.OPEN:
            return
        self.cause = "restored"
        self.pair.cut()
        copies = self.copies[side]
        node = self.pair.node(side)
        old = load(copies[max(0, len(copies) - back)])
        node.channel = freeze(replace(old, recovering=True), "restored from a copy").channel
        node.disk = save(node.channel)
        self.restored[side] = self.known(side, old)
        if self.cheat is None and side.other in self.restored:  # what this side could prove to the other is gone, too
            self.restored[side.other] = min(self.restored[side.other], old.current.version)
        self.eyes[side] = Eye(self.court)
        for id_ in [id_ for id_ in self.promised[side] if id_ not in node.channel.claims]:
            del self.promised[side][id_]
        self.look(side)

    def known(self, side: Side, old: Channel) -> int:
        """The version from which on a restored side is safe: an honest peer proves what it has; a cheat does not,
        and then the tower stands by what it holds, but not against a close that its own client makes with the copy.
        """
        if self.cheat is None:
            return self.channel(side.other).current.version
        tower = self.towers.get(side)
        held = tower.kept.version if tower is not None and tower.kept is not None else 0
        return min(held, old.current.version)

    # -- the cheat

    def withhold(self, begin: bool):
        """Acknowledgements are kept back; or all that were come at last."""
        if self.cheat is None:
            return
        self.withholding = begin
        if not begin and self.pair.up:
            self.pair.wires[self.cheat.other].extend(self.withheld)
            self.withheld.clear()

    def proofs(self) -> list[tuple[int, ChallengeAct]]:
        """Each state that the honest side ever signed, countersigned, oldest first."""
        if self.cheat is None:
            return []
        victim = self.pair.node(self.cheat.other)
        key: Key = (OPENER_KEY, ACCEPTOR_KEY)[self.cheat]
        found = []
        for version, body in sorted(victim.bodies.items()):
            hash_ = body.hash(victim.channel.blind(version))
            mine = key.sign(victim.channel.digest(Version(version), hash_))
            both = (mine, victim.signatures[version])
            a, b = both if self.cheat is Side.A else both[::-1]
            act = ChallengeAct(
                version=Version(version), body_hash=hash_, signature_a=a, signature_b=b, before=Timestamp(0)
            )
            found.append((version, act))
        return found

    def stale(self, which: int, seldom: int):
        """The cheat closes with whatever it likes."""
        if self.cheat is None or seldom or self.number < 5:
            return
        self.cause, self.lazy = "a cheat closes", which % 2 == 0
        proofs = self.proofs()
        channel = self.channel(self.cheat)
        act = CloseAct(version=Version(0), body_hash=ZERO, signature=b"", salt_other=channel.salt_theirs)
        if proofs and which < 7:
            version, found = proofs[max(0, len(proofs) - 1 - which)]
            signature = found.signature_b if self.cheat is Side.A else found.signature_a
            act = replace(act, version=Version(version), body_hash=found.body_hash, signature=signature)
        self.court.submit(self.cheat, act, 0)

    def contest(self, which: int):
        """The cheat challenges, be it its own close."""
        if self.cheat is not None and (proofs := self.proofs()) and self.court.channel.deadline:
            self.court.submit(self.cheat, proofs[max(0, len(proofs) - 1 - which)][1], 0)

    # -- the laws

    def laws(self) -> None:
        for side in Side:
            node, channel = self.pair.node(side), self.channel(side)
            signed = node.versions
            assert len({version for version, _ in signed}) == len(signed), "I11: a version was signed twice"
            assert [v for v, _ in signed] == sorted(v for v, _ in signed), "I11: versions only rise"
            assert with_queue(channel, channel.queue) == channel, "what is reserved is what is queued"
            assert load(node.disk) == replace(channel, session=Session.CUT, ask=None, waiting=None), "I19"
            self.count(side)
            if channel.phase is not Phase.OPEN:
                states = sum(1 for version in node.bodies if version)
                assert states == self.frozen_at.setdefault(side, states), "I18: a frozen channel signed a state"
            else:
                self.frozen_at.pop(side, None)
            if side not in self.restored:
                assert channel.current.version >= self.newest[side], "I20: the version went down"
                self.newest[side] = channel.current.version
            for update in channel.queue:
                gone = getattr(update, "lock_id", None) in channel.claims and not hasattr(update, "preimage")
                assert not gone, "I14: a lock whose preimage is known is given back"
            if not self.cause:
                assert channel.phase is Phase.OPEN, f"closed without cause: {channel.reason}"
        self.solvent()
        for side in self.honest():
            self.acceptable(side)

    def count(self, side: Side) -> None:
        """What the notes have told the owner since the last look."""
        notes = self.pair.node(side).notes
        for one in notes[self.counted[side] :]:
            match one:
                case note.Returned():
                    self.returned[side].add(one.lock_id)
                case note.Dropped(update=AddLock(lock=lock)):
                    self.returned[side].add(lock.id)
                case note.Dropped(update=Transfer(payment_id=name)):
                    self.sent[side].pop(name, None)
                case note.Learned():
                    self.learned[side].add(one.lock_id)
                case _:
                    pass
        self.counted[side] = len(notes)

    def solvent(self) -> None:
        manager = self.court.head.after
        for token in (TOKEN, COIN):
            assert manager.balance(token, MANAGER) == manager.entitled(token), "I1"

    def acceptable(self, side: Side) -> None:
        """I17: what the other can enforce is `current`, or what we have proposed ourselves."""
        if side in self.restored or self.channel(side).phase not in (Phase.OPEN, Phase.FROZEN):
            return
        channel = self.channel(side)
        out = channel.outstanding
        given = sum(u.amount for u in out.updates if isinstance(u, Transfer)) if out else 0
        for version, body in self.pair.node(side).bodies.items():
            if version > channel.current.version:
                assert out is not None
                assert version == out.version
                assert worth(body, side, self.deposits) >= worth(channel.current.body, side, self.deposits) - given

    # -- the end

    def teardown(self):
        if hasattr(self, "pair"):
            self.finish()

    def finish(self) -> None:
        """The faults stop. Without a cause the channel lives and is closed now; then everything is paid out."""
        self.asleep.clear()
        self.withholding = False
        self.cut(None, both=False)
        self.blocks(2, BLOCK)
        self.agree()
        self.agree()
        if not self.cause:
            a, b = (self.channel(side) for side in Side)
            assert (a.phase, b.phase) == (Phase.OPEN, Phase.OPEN)
            assert (a.current, a.outstanding, b.outstanding) == (b.current, None, None), "I29"
        self.cause = self.cause or "the end"
        for side in self.honest():
            if self.channel(side).phase in (Phase.OPEN, Phase.FROZEN):
                self.do(side, CloseAlone())
        for _ in range(400):
            self.blocks(1, BLOCK)
            self.pay_out()
            if all(self.channel(side).phase is Phase.CLOSED for side in self.honest()):
                break
            for side in self.honest():  # a close that a cooperate has put off, or that a reorg has taken
                if self.channel(side).phase in (Phase.OPEN, Phase.FROZEN):
                    self.do(side, CloseAlone())
        self.laws()
        self.audit()

    def pay_out(self) -> None:
        """The cheat wants its money in the end. It can open what it has put on chain, whatever its node and a restored
        victim have forgotten of it; nobody else could, and the money of both would stay there."""
        word, hash_ = self.court.channel, self.court.head.recorded
        if self.cheat is None or not self.restored or not word.deadline or self.court.head.time <= word.deadline:
            return
        body, channel = self.court.bodies[hash_], self.channel(self.cheat)
        if any(final_body(self.channel(side)) is not None for side in self.honest()):
            return  # the victim can do it itself, and must
        if not word.dead:
            blind = bytes(32) if hash_ == ZERO else channel.blind(Version(word.version))
            hashed = ZERO if hash_ == ZERO else locks_hash(body.locks.values())
            bond_to = Address(bytes(20)) if word.outcome.bond_to == NOBODY else TOWER_ADDRESS
            opened = SettleAct(
                net=body.net,
                locked_ab=body.locked_ab,
                locked_ba=body.locked_ba,
                locks_hash=hashed,
                blind=blind,
                bond_to=bond_to,
            )
            self.court.submit(self.cheat, opened, 0)
        elif word.outcome.locks and all(self.court.head.time > lock.expiry for lock in word.outcome.locks):
            self.court.submit(self.cheat, ResolveAct(locks=pack_locks(word.outcome.locks), secrets=()), 0)

    def audit(self) -> None:
        """I25, I26: every wei is somewhere, and nobody honest has less than it was told."""
        word, manager = self.court.channel, self.court.head.after
        phases = {side.name: self.channel(side).phase.name for side in self.honest()}
        assert set(phases.values()) == {"CLOSED"}, f"{phases} after the last block: {self.court.refused[-5:]}"
        assert word.holds == 0, f"{word} keeps money"
        paid = [manager.balance(TOKEN, who) for who in PAYOUTS]
        assert sum(paid) == sum(self.deposits), "I25"
        for side in self.honest():
            if side in self.restored:
                self.audit_restored(side, paid[side])
                continue
            received = sum(one.amount for one in self.pair.node(side).notes if isinstance(one, note.Received))
            gone = sum(self.sent[side].values())
            gone += sum(amount for id_, amount in self.offered[side].items() if id_ not in self.returned[side])
            floor = self.deposits[side] + received + sum(self.promised[side].values()) - gone
            assert paid[side] >= floor, f"{side.name} was told {floor} and has {paid[side]} ({self.cause})"

    def audit_restored(self, side: Side, paid: int) -> None:
        """At least the worst of what it had signed since the state that its tower or its honest peer holds."""
        known, node = self.restored[side], self.pair.node(side)
        bodies = [body for version, body in node.bodies.items() if version >= known]
        if not known:
            bodies.append(EMPTY)
        least = min(body.balance(side, self.deposits[side]) for body in bodies)
        assert paid >= least, f"{known} is known, and {side.name} has {paid} < {least}"


def walk(seed: int, steps: int = STEPS) -> Disputes:
    """One walk by a plain die, to the end and its audit."""
    chance = Random(seed)
    machine = Disputes()
    machine.open(chance.choice([None, *SIDES]), chance.choice([(), (Side.A,), (Side.B,), SIDES]))
    machine.chance = chance
    for _ in range(steps):
        machine.step(chance.choices(KINDS, [kind.weight for kind in KINDS])[0].by_dice(chance))
    machine.finish()
    return machine


TestDisputes = Disputes.TestCase
TestDisputes.settings = settings(max_examples=30, stateful_step_count=40)


@pytest.mark.parametrize("first", range(0, WALKS, 50))
def test_walks(first: int):
    met: set[str] = set()
    for seed in range(first, first + 50):
        blocks = walk(seed).court.blocks
        met |= {type(fact).__name__ for block in blocks for fact in (*block.facts, *block.final_facts)}
    assert met >= {"SeenClose", "SeenChallenge", "SeenSettled", "SeenResolved", "SeenSecret", "SeenCooperated"}
