"""R11 to R14: closing together, refused, crossed, lost in a cut, lapsed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.digests import ALL, cooperate_digest
from channeld.base.keys import recover
from channeld.base.units import Amount, LockId, Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import Body, Phase, next_version
from channeld.core.closing import CloseAct, CooperateAct, Margins, due
from channeld.core.cooperating import LONGEST, SKEW
from channeld.core.events import CloseAlone, Fail, Leave, Propose, SeenCooperated, SeenDeposit, SeenHead
from channeld.core.messages import Ack, Commit, CoopNo, CoopPropose, CoopSign, Fault, Transfer
from tests.roles import PERIOD, START, STRANGER_KEY, Pair, name, offer, open_pair, pair, pay
from tests.unit.core.test_updating import signed

MARGINS = Margins(inclusion=60, skew=10, period=PERIOD)  # type: ignore[arg-type]
LEAVE = Leave(now=START, valid_for=600)


def head(at: int) -> SeenHead:
    return SeenHead(now=Timestamp(at), final=Timestamp(at))


def asking(side: Side = Side.A) -> tuple[Pair, CoopPropose]:
    both = open_pair()
    offered = both.do(side, LEAVE).sends[0]
    assert isinstance(offered, CoopPropose)
    return both, offered


def left() -> Pair:
    """The opener asked, the acceptor signed, and both know."""
    both, _ = asking()
    both.pump()
    return both


# -- R11


def test_r11_the_offer_is_unsigned_and_makes_quiet():
    both, offered = asking()
    assert both.opener.versions == []
    assert offered.coop_version == next_version(Side.A, Version(0))
    assert (offered.version, offered.hash) == (0, both.opener.channel.current.body_hash)
    both.opener.channel = replace(both.opener.channel, queue=(Transfer(name(1), Amount(1)),))
    assert both.do(Side.A, Propose()).sends == ()


def test_r11_quiet_still_accepts():
    both, _ = asking()
    done = both.opener.got(signed(both, Side.B, (Transfer(name(1), Amount(5)),), Body(-5)))
    assert [type(one) for one in done.sends] == [Ack]


@pytest.mark.parametrize("busy", ["queue", "outstanding", "locks", "cut"])
def test_r11_not_offered_while_busy_but_remembered(busy: str):
    both = open_pair()
    both.do(Side.A, offer(10) if busy == "locks" else pay(10))
    if busy == "outstanding":
        both.do(Side.A, Propose())
    if busy == "locks":
        both.settle()
    if busy == "cut":
        both.settle()
        both.cut()
    done = both.do(Side.A, LEAVE)
    assert done.sends == ()
    assert both.opener.channel.leaving
    assert both.opener.channel.ask is None


def test_r11_quiet_ends_with_coop_no():
    both, _ = asking()
    both.do(Side.B, pay(5))
    both.do(Side.B, Propose())
    both.deliver(Side.B)  # the offer, while its proposal is outstanding
    both.pump()
    assert both.opener.channel.ask is None
    assert note.CoopDenied() in both.opener.notes
    assert both.opener.channel.current == both.acceptor.channel.current


def test_r11_quiet_ends_with_the_session_and_asks_once():
    both, _ = asking()
    assert both.do(Side.A, LEAVE).sends == ()
    both.cut()
    assert both.opener.channel.ask is None


# -- R12


def test_r12_signing_consumes_the_version():
    both, offered = asking()
    done = both.acceptor.got(offered)
    channel = both.acceptor.channel
    assert isinstance(done.sends[0], CoopSign)
    assert channel.coop is not None
    assert channel.base == channel.top[0] == offered.coop_version
    digest = cooperate_digest(channel.domain, channel.id, offered.coop_version, 0, ALL, ALL, offered.valid_until)
    assert recover(digest, done.sends[0].signature) == both.opener.channel.peer_key
    assert both.acceptor.versions == [(offered.coop_version, digest)]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"hash": b"?" * 32},
        {"coop_version": 2},
        {"coop_version": 5},
        {"net": 1},
        {"valid_until": START},
        {"valid_until": START + LONGEST + SKEW + 1},
        {"valid_until": 2**64 - 1},
    ],
)
def test_r12_any_other_offer_gets_coop_no(change: dict[str, int]):
    both, offered = asking()
    offered = replace(offered, **change)  # type: ignore[arg-type]
    assert both.acceptor.got(offered).sends == (CoopNo(coop_version=offered.coop_version),)
    assert both.acceptor.versions == []
    assert both.acceptor.channel.coop is None


@pytest.mark.parametrize("valid", [START + 1, START + LONGEST + SKEW])
def test_r12_r14_validity_boundaries_are_signed(valid: int):
    both, offered = asking()
    assert isinstance(both.acceptor.got(replace(offered, valid_until=Timestamp(valid))).sends[0], CoopSign)


def test_r12_where_nobody_has_paid_in_nothing_is_signed():
    """A stranger opens, pays nothing, and offers to close together."""
    both = pair()
    both.connect()
    both.pump()
    asked = CoopPropose(
        version=Version(0),
        hash=both.acceptor.channel.current.body_hash,
        coop_version=Version(3),
        net=0,
        valid_until=Timestamp(START + 60),
    )
    done = both.acceptor.got(asked)
    assert done.sends == (CoopNo(coop_version=Version(3)),)
    assert both.acceptor.channel.top[0] == 0
    both.acceptor.do(SeenDeposit(deposit_a=Amount(1), deposit_b=Amount(0)))  # the same, paid into
    assert isinstance(both.acceptor.got(asked).sends[0], CoopSign)


@pytest.mark.parametrize("busy", ["queue", "outstanding", "live", "alone"])
def test_r12_a_busy_channel_says_no_and_goes_on(busy: str):
    both = open_pair()
    acceptor = both.acceptor
    if busy in ("queue", "outstanding"):
        both.do(Side.B, pay(5))
    if busy == "outstanding":
        both.do(Side.B, Propose())
    if busy == "alone":
        both.do(Side.B, CloseAlone())
    offered = both.do(Side.A, LEAVE).sends[0]
    if busy == "live":
        acceptor.got(offered)
    done = acceptor.got(offered)
    assert isinstance(done.sends[0], CoopNo)
    if busy == "queue":
        assert isinstance(done.sends[1], Commit), "it goes on with what it has"


def test_r12_locks_pending_say_no():
    both = open_pair()
    both.do(Side.B, offer(10))
    both.settle()
    current = both.opener.channel.current
    propose = CoopPropose(
        version=current.version,
        hash=current.body_hash,
        coop_version=next_version(Side.A, current.version),
        net=0,
        valid_until=Timestamp(START + 60),
    )
    assert isinstance(both.acceptor.got(propose).sends[0], CoopNo)


def test_r12_if_both_proposed_the_opener_yields():
    both = open_pair()
    for side in Side:
        both.do(side, LEAVE)
    both.pump()
    opener, acceptor = both.opener.channel, both.acceptor.channel
    assert opener.ask is acceptor.ask is None
    assert opener.coop is not None
    assert acceptor.coop is not None
    assert not opener.coop.asked
    assert acceptor.coop.asked
    assert acceptor.coop.signature_theirs
    assert note.CoopReady() in both.acceptor.notes


def test_r12_both_proposed_and_the_yielding_opener_cannot_sign():
    both = open_pair()
    for side in Side:
        both.do(side, LEAVE)
    lie = both.wires[Side.A][0]
    assert isinstance(lie, CoopPropose)
    both.wires[Side.A][0] = replace(lie, net=7)
    both.pump()
    assert both.opener.channel.ask is both.acceptor.channel.ask is None
    assert both.opener.channel.coop is both.acceptor.channel.coop is None


# -- R13


def test_r13_the_asker_signs_and_executes():
    both = left()
    coop = both.opener.channel.coop
    assert coop is not None
    assert both.opener.channel.base == both.opener.channel.top[0] == coop.version
    acts = due(both.opener.channel, now=START, registered={}, margins=MARGINS)
    assert acts == (
        CooperateAct(
            version=coop.version,
            net=0,
            out_a=ALL,
            out_b=ALL,
            valid_until=coop.valid_until,
            signature_theirs=coop.signature_theirs,
            signature_ours=coop.signature_ours,
        ),
    )
    assert recover(coop.digest, coop.signature_theirs) == both.opener.channel.peer_key
    assert due(both.acceptor.channel, now=START, registered={}, margins=MARGINS) == ()


def test_r13_due_ends_with_the_validity():
    both = left()
    coop = both.opener.channel.coop
    assert coop is not None
    assert due(both.opener.channel, now=coop.valid_until, registered={}, margins=MARGINS)
    assert not due(both.opener.channel, now=Timestamp(coop.valid_until + 1), registered={}, margins=MARGINS)


@pytest.mark.parametrize("wrong", ["signature", "version", "unasked", "changed", "again"])
def test_r13_anything_else_is_ignored(wrong: str):
    both, offered = asking()
    sign = both.acceptor.got(offered).sends[0]
    assert isinstance(sign, CoopSign)
    if wrong == "signature":
        sign = replace(sign, signature=STRANGER_KEY.sign(both.acceptor.channel.top[1]))
    if wrong == "version":
        sign = replace(sign, coop_version=Version(sign.coop_version + 2))
    if wrong == "unasked":
        both.opener.crash()
    if wrong == "changed":
        fresh = open_pair()
        both.opener.got(signed(fresh, Side.B, (Transfer(name(1), Amount(5)),), Body(-5)))
    if wrong == "again":
        both.opener.got(sign)
    before, versions = both.opener.channel, both.opener.versions.copy()
    done = both.opener.got(sign)
    assert not done.sends
    assert not done.notes
    assert both.opener.channel == before
    assert both.opener.versions == versions


# -- R14


def test_r14_while_live_no_state_is_signed_and_commits_wait():
    both = left()
    commit = signed(both, Side.A, (Transfer(name(1), Amount(5)),), Body(5), version=7, base=3)
    assert both.acceptor.got(commit).sends == ()
    assert both.acceptor.channel.waiting == commit
    assert [version for version, _ in both.acceptor.versions] == [3]


def test_r14_it_lapses_by_a_finalized_block_past_its_validity_only():
    both = left()
    until = START + 600
    early = both.do(Side.B, SeenHead(now=Timestamp(until + 999), final=Timestamp(until))).channel
    assert early.coop is not None
    lapsed = both.do(Side.B, head(until + 1)).channel
    assert lapsed.coop is None
    assert lapsed.base == 3, "the version stays consumed"
    assert lapsed.current.version == 0


def test_r14_what_waited_is_answered_after_the_lapse():
    both = left()
    both.do(Side.A, head(START + 601))
    both.opener.channel = replace(both.opener.channel, leaving=False)
    both.do(Side.A, pay(5))
    both.do(Side.A, Propose())
    both.pump()
    assert both.acceptor.channel.waiting is not None
    both.do(Side.B, head(START + 601))
    both.pump()
    assert both.opener.channel.current.version == both.acceptor.channel.current.version == next_version(Side.A, 3)


def test_r14_a_lie_that_waited_freezes_when_it_is_looked_at():
    """The fault is the peer's, though a block brings it to light: the block is not lost by it."""
    both = left()
    both.acceptor.got(signed(both, Side.A, (Transfer(name(1), Amount(5_000)),), Body(5_000), version=7, base=3))
    done = both.do(Side.B, head(START + 601))
    assert both.acceptor.channel.phase is Phase.FROZEN
    assert both.acceptor.channel.coop is None
    assert [one.code for one in done.sends if isinstance(one, Fault)] == ["protocol_error"]


def test_r14_a_cut_loses_what_waited_and_nothing_else():
    both = left()
    both.do(Side.A, head(START + 601))
    both.opener.channel = replace(both.opener.channel, leaving=False)
    both.do(Side.A, pay(5))
    both.do(Side.A, Propose())
    both.pump()
    both.cut()
    assert both.acceptor.channel.waiting is None
    both.connect()
    both.pump()
    both.do(Side.B, head(START + 601))
    both.pump()
    assert both.opener.channel.current.body == both.acceptor.channel.current.body == Body(5)


def test_r14_executed_ends_the_channel():
    both = left()
    for side in Side:
        done = both.do(side, SeenCooperated(version=Version(3)))
        assert done.notes == (note.Ended(),)
        assert both.node(side).channel.phase is Phase.CLOSED
        assert due(both.node(side).channel, now=START, registered={}, margins=MARGINS) == ()


def test_r14_after_a_lapse_they_may_try_again():
    both = left()
    for side in Side:
        both.do(side, head(START + 601))
    both.opener.now = both.acceptor.now = Timestamp(START + 601)
    both.do(Side.A, Leave(now=Timestamp(START + 601), valid_for=600))
    both.pump()
    coop = both.acceptor.channel.coop
    assert coop is not None
    assert coop.version == next_version(Side.A, Version(3)) == 5


# -- R16: still possible on a frozen channel; and our own close is not put off


def test_r16_a_frozen_channel_can_be_closed_together():
    both = open_pair()
    both.acceptor.got(Fault(code="protocol_error", text="x"))
    assert both.acceptor.channel.phase is Phase.FROZEN
    both.do(Side.B, LEAVE)
    both.pump()
    assert both.acceptor.channel.coop is not None
    assert both.acceptor.channel.coop.signature_theirs


def test_r16_a_close_waits_for_a_cooperate_we_signed_and_no_other():
    both = left()
    both.do(Side.B, CloseAlone())
    assert due(both.acceptor.channel, now=START, registered={}, margins=MARGINS) == ()
    both.do(Side.B, head(START + 601))
    acts = due(both.acceptor.channel, now=Timestamp(START + 601), registered={}, margins=MARGINS)
    assert [type(act) for act in acts] == [CloseAct]
    coop = both.opener.channel.coop
    assert coop is not None
    both.do(Side.A, CloseAlone())
    both.opener.channel = replace(both.opener.channel, coop=replace(coop, signature_ours=b"", signature_theirs=b""))
    acts = due(both.opener.channel, now=START, registered={}, margins=MARGINS)
    assert [type(act) for act in acts] == [CloseAct]


def test_r11_locks_that_are_failed_clear_the_way():
    both = open_pair()
    both.do(Side.A, offer(10))
    both.settle()
    both.do(Side.A, LEAVE)
    both.do(Side.B, Fail(lock_id=LockId(1), reason=b""))
    both.settle()
    both.do(Side.A, LEAVE)
    both.pump()
    assert both.opener.channel.coop is not None
