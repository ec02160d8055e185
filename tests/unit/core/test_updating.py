"""R1 to R8: proposals, acknowledgements, crossings, and what may stand in a commit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.errors import Answer, Broken, PeerFault
from channeld.base.keys import recover
from channeld.base.units import MAX_LOCK_ID, MAX_VERSION, Amount, LockId, LockKind, Preimage, Side, Version
from channeld.core import effects as note
from channeld.core.channel import MAX_BATCH, Body, Phase, Session, next_version
from channeld.core.events import CloseAlone, Connected, Fail, Fulfil, Got, Leave, Propose, SeenDeposit
from channeld.core.messages import Ack, AddLock, Commit, FailLock, Fault, FulfilLock, Transfer, Update
from tests.roles import (
    ONION,
    STRANGER_KEY,
    Pair,
    careless,
    lock,
    name,
    offer,
    open_pair,
    pair,
    pay,
    preimage,
    receipt_is_good,
)


def signed(both: Pair, side: Side, updates: tuple[Update, ...], body: Body, **changes: int) -> Commit:
    """A commit of `side`, signed over `body` whatever the updates say."""
    node = both.node(side)
    base = changes.get("base", node.channel.base)
    version = Version(changes.get("version", next_version(side, node.channel.base)))
    digest = node.channel.digest(version, body.hash(node.channel.blind(version)))
    return Commit(version=version, base=Version(base), updates=updates, signature=node.key.sign(digest))


def crossing(both: Pair) -> tuple[Commit, Commit]:
    """Both propose at once: (the opener's commit, the acceptor's), neither delivered."""
    both.do(Side.A, pay(100, 1))
    both.do(Side.B, pay(30, 2))
    first = both.do(Side.A, Propose()).sends
    second = both.do(Side.B, Propose()).sends
    assert isinstance(first[0], Commit)
    assert isinstance(second[0], Commit)
    return first[0], second[0]


# -- R1


def test_r1_opener_signs_odd_acceptor_even():
    assert [next_version(Side.A, 0), next_version(Side.B, 0)] == [3, 2]
    assert [next_version(Side.A, 3), next_version(Side.B, 3)] == [5, 6]
    assert [next_version(Side.A, 2), next_version(Side.B, 2)] == [5, 4]


def test_r1_who_has_waited_wins_the_crossing():
    for base in range(40):
        waited = Side.A if base % 2 == 0 else Side.B
        assert next_version(waited, base) > next_version(waited.other, base) > base
        for side in Side:
            assert next_version(side, base) % 2 == (1 if side is Side.A else 0)


# -- R2


def test_r2_a_commit_carries_its_updates_and_nothing_else_counts():
    both = open_pair()
    for number in range(3):
        both.do(Side.A, pay(10, number))
    commit = both.do(Side.A, Propose()).sends[0]
    assert isinstance(commit, Commit)
    assert commit.updates == tuple(Transfer(name(n), Amount(10)) for n in range(3))
    both.pump()
    assert both.acceptor.channel.current.body == Body(30)


def test_r2_what_is_queued_after_signing_waits_for_the_next_one():
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    both.do(Side.A, Propose())
    both.do(Side.A, pay(20, 2))
    assert both.opener.channel.outstanding is not None
    assert both.opener.channel.outstanding.body.net == 10
    both.pump()
    assert both.acceptor.channel.current.body.net == 30


def test_r2_a_batch_has_at_most_512_updates():
    both = open_pair()
    for number in range(MAX_BATCH + 1):
        both.do(Side.A, pay(1, number))
    commit = both.do(Side.A, Propose()).sends[0]
    assert isinstance(commit, Commit)
    assert len(commit.updates) == MAX_BATCH
    both.pump()
    assert both.acceptor.channel.current.body.net == MAX_BATCH + 1


@pytest.mark.parametrize("count", [0, MAX_BATCH + 1])
def test_r2_a_batch_of_none_or_too_many_freezes(count: int):
    both = open_pair()
    updates = tuple(Transfer(name(n), Amount(1)) for n in range(count))
    both.acceptor.got(signed(both, Side.A, updates, Body(count)))
    assert both.acceptor.channel.phase is Phase.FROZEN


# -- R3


def test_r3_no_proposal_before_both_have_spoken():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.cut()
    assert both.do(Side.A, Propose()).sends == ()
    both.do(Side.A, Connected())
    assert both.do(Side.A, Propose()).sends == ()
    assert both.opener.channel.top[0] == 0


def test_r3_one_outstanding_at_a_time():
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    assert both.do(Side.A, Propose()).sends
    both.do(Side.A, pay(10, 2))
    assert both.do(Side.A, Propose()).sends == ()


def test_r3_nothing_while_quiet_live_or_frozen():
    quiet = open_pair()
    quiet.do(Side.A, Leave(now=quiet.opener.now, valid_for=60))
    assert quiet.opener.channel.ask is not None
    live = open_pair()
    live.do(Side.A, Leave(now=live.opener.now, valid_for=60))
    live.pump()
    frozen = open_pair()
    frozen.do(Side.A, pay(1))
    frozen.do(Side.A, CloseAlone())
    queue = (Transfer(name(1), Amount(1)),)
    for both in (quiet, live, frozen):
        both.opener.channel = replace(both.opener.channel, queue=queue)
        before = both.opener.versions.copy()
        assert both.do(Side.A, Propose()).sends == ()
        assert both.opener.versions == before


def test_r3_signing_sets_top_and_is_saved_with_the_step():
    both = open_pair()
    both.do(Side.A, pay(10))
    commit = both.do(Side.A, Propose()).sends[0]
    assert isinstance(commit, Commit)
    both.opener.crash()
    assert both.opener.channel.top == both.opener.versions[-1]
    assert both.opener.channel.outstanding is not None
    assert both.opener.channel.outstanding.signature == commit.signature


def test_r3_the_last_version_is_not_passed():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.opener.channel = replace(both.opener.channel, base=Version(MAX_VERSION))
    assert both.do(Side.A, Propose()).sends == ()
    assert both.opener.versions == []
    assert len(both.opener.channel.queue) == 1


# -- R4


def test_r4_i_the_same_commit_again_gets_the_same_ack():
    both = open_pair()
    both.do(Side.A, pay(10))
    commit = both.do(Side.A, Propose()).sends[0]
    first = both.acceptor.got(commit).sends
    assert both.acceptor.got(commit).sends == first
    assert len(both.acceptor.versions) == 1


def test_r4_i_another_commit_of_the_same_version_freezes():
    both = open_pair()
    both.do(Side.A, pay(10))
    commit = both.do(Side.A, Propose()).sends[0]
    both.acceptor.got(commit)
    other = signed(both, Side.A, (Transfer(name(1), Amount(9)),), Body(9), version=3, base=0)
    assert any(isinstance(one, Fault) for one in both.acceptor.got(other).sends)
    assert both.acceptor.channel.phase is Phase.FROZEN


def test_r4_i_our_own_version_is_not_for_the_peer_to_propose():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    both.opener.got(signed(both, Side.B, (Transfer(name(1), Amount(9)),), Body(10), version=3, base=0))
    assert both.opener.channel.phase is Phase.FROZEN


@pytest.mark.parametrize(
    ("version", "base"),
    [(1, 0), (2, 0), (4, 0), (5, 0), (7, 0), (3, 1), (3, 3), (2**40 - 1, 0)],
)
def test_r4_ii_any_other_version_or_base_freezes(version: int, base: int):
    both = open_pair()
    updates = (Transfer(name(1), Amount(10)),)
    done = both.acceptor.got(signed(both, Side.A, updates, Body(10), version=version, base=base))
    assert both.acceptor.channel.phase is Phase.FROZEN
    assert [one.code for one in done.sends if isinstance(one, Fault)] == ["protocol_error"]
    assert both.acceptor.versions == []


def test_r4_ii_the_right_version_is_signed():
    both = open_pair()
    done = both.acceptor.got(signed(both, Side.A, (Transfer(name(1), Amount(10)),), Body(10)))
    assert isinstance(done.sends[0], Ack)
    assert both.acceptor.channel.phase is Phase.OPEN


def test_r4_ii_a_bad_signature_freezes():
    both = open_pair()
    good = signed(both, Side.A, (Transfer(name(1), Amount(10)),), Body(10))
    digest = both.acceptor.channel.digest(good.version, Body(10).hash(both.acceptor.channel.blind(good.version)))
    assert recover(digest, good.signature) == both.acceptor.channel.peer_key
    high_s = good.signature[:32] + b"\xff" * 32 + good.signature[64:]
    for signature in (STRANGER_KEY.sign(digest), both.acceptor.key.sign(digest), b"", bytes(65), high_s):
        fresh = open_pair()
        fresh.acceptor.got(replace(good, signature=signature))
        assert fresh.acceptor.channel.phase is Phase.FROZEN


def test_r4_iii_the_lower_of_two_crossing_is_ignored_wholly():
    both = open_pair()
    _, lower = crossing(both)
    before = both.opener.channel
    done = both.opener.got(lower)
    assert done.sends == ()
    assert done.notes == ()
    assert both.opener.channel == before
    assert len(both.opener.versions) == 1


def test_r4_iii_a_preimage_in_an_ignored_commit_is_recorded():
    both = open_pair()
    both.do(Side.A, offer(50))
    both.settle()
    both.do(Side.B, pay(1, 9))
    both.settle()  # the acceptor has proposed last: the opener's next proposal wins a crossing
    both.do(Side.A, pay(1, 2))
    both.do(Side.A, Propose())
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    lower = both.do(Side.B, Propose()).sends[0]
    done = both.opener.got(lower)
    assert done.notes == (note.Learned(lock_id=LockId(1), preimage=preimage(1)),)
    assert (Side.A, 1) in both.opener.channel.current.body.locks


def test_r4_iii_a_wrong_preimage_teaches_nothing():
    both = open_pair()
    both.do(Side.A, offer(50))
    both.settle()
    both.do(Side.A, CloseAlone())
    lie = signed(both, Side.B, (FulfilLock(LockId(1), Preimage(b"!" * 32)),), Body(50))
    assert both.opener.got(lie).notes == ()


def test_r4_iv_the_higher_wins_and_the_loser_proposes_again_in_the_same_step():
    both = open_pair()
    higher, lower = crossing(both)
    done = both.acceptor.got(higher)
    ack, again = done.sends
    assert isinstance(ack, Ack)
    assert isinstance(again, Commit)
    assert ack.version == higher.version
    assert again.updates == lower.updates
    assert again.version == next_version(Side.B, higher.version) > higher.version
    assert both.acceptor.channel.current.version == both.acceptor.channel.base == higher.version
    assert both.acceptor.channel.top[0] == again.version


def test_r4_iv_dropped_updates_stand_before_the_queue_and_what_no_longer_fits_is_told():
    both = open_pair(100, 100)
    both.do(Side.A, pay(1, 0))
    both.settle()
    both.do(Side.A, offer(90))
    both.do(Side.A, Propose())  # outstanding, and lower than what the acceptor proposes next
    both.do(Side.A, pay(5, 7))
    both.do(Side.B, pay(1, 1))
    higher = both.do(Side.B, Propose()).sends[0]
    assert isinstance(higher, Commit)
    assert both.opener.channel.outstanding is not None
    assert higher.version > both.opener.channel.outstanding.version
    again = both.opener.got(higher).sends[1]
    assert isinstance(again, Commit)
    assert [type(update) for update in again.updates] == [AddLock, Transfer]


def test_r4_iv_ids_of_dropped_transfers_stay():
    both = open_pair()
    crossing(both)
    both.pump()
    both.settle()
    assert [one.payment_id for one in both.opener.notes if isinstance(one, note.Received)] == [name(2)]
    assert [one.payment_id for one in both.acceptor.notes if isinstance(one, note.Sent)] == [name(2)]


def test_r4_an_update_that_fits_no_more_is_dropped_with_a_note():
    both = open_pair(100, 0)
    opener = both.opener
    opener.channel = replace(opener.channel, queue=(FailLock(LockId(5), b""), Transfer(name(1), Amount(10))))
    done = both.do(Side.A, Propose())
    assert done.notes == (note.Dropped(update=FailLock(LockId(5), b"")),)
    assert isinstance(done.sends[0], Commit)
    assert done.sends[0].updates == (Transfer(name(1), Amount(10)),)


# -- R5


def test_r5_the_ack_makes_it_current_and_the_next_proposal_follows():
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    commit = both.do(Side.A, Propose()).sends[0]
    both.do(Side.A, pay(20, 2))
    ack = both.acceptor.got(commit).sends[0]
    done = both.opener.got(ack)
    assert both.opener.channel.current.version == 3
    assert both.opener.channel.current == both.acceptor.channel.current
    assert isinstance(done.sends[0], Commit)
    sent = [one for one in done.notes if isinstance(one, note.Sent)]
    assert [one.payment_id for one in sent] == [name(1)]
    transfers = [Transfer(name(1), Amount(10))]
    assert receipt_is_good(both.opener.channel, 3, transfers, sent[0].receipt)


def test_r5_an_old_ack_is_ignored():
    both = open_pair()
    both.do(Side.A, pay(10))
    commit = both.do(Side.A, Propose()).sends[0]
    ack = both.acceptor.got(commit).sends[0]
    both.opener.got(ack)
    before = both.opener.channel
    assert both.opener.got(ack).sends == ()
    assert both.opener.channel == before


def test_r5_an_ack_of_nothing_freezes():
    both = open_pair()
    both.opener.got(Ack(version=Version(3), signature=bytes(65)))
    assert both.opener.channel.phase is Phase.FROZEN


def test_r5_an_ack_without_signature_or_receipt_freezes():
    for change in ({"signature": bytes(65)}, {"receipt": b""}, {"receipt": bytes(65)}):
        both = open_pair()
        both.do(Side.A, pay(10))
        ack = both.acceptor.got(both.do(Side.A, Propose()).sends[0]).sends[0]
        assert isinstance(ack, Ack)
        both.opener.got(replace(ack, **change))  # type: ignore[arg-type]
        assert both.opener.channel.phase is Phase.FROZEN
        assert both.opener.channel.current.version == 0


@pytest.mark.parametrize(("version", "phase"), [(5, Phase.FROZEN), (0, Phase.OPEN)])
def test_r5_an_ack_is_of_the_version_it_names(version: int, phase: Phase):
    """A signature that would do for what we have proposed does not stand for another version."""
    both = open_pair()
    both.do(Side.A, offer(10))
    ack = both.acceptor.got(both.do(Side.A, Propose()).sends[0]).sends[0]
    assert isinstance(ack, Ack)
    both.opener.got(replace(ack, version=Version(version)))
    channel = both.opener.channel
    assert (channel.phase, channel.current.version, channel.outstanding_version) == (phase, 0, 3)


def test_r5_a_commit_without_transfers_needs_no_receipt():
    both = open_pair()
    both.do(Side.A, offer(10))
    ack = both.acceptor.got(both.do(Side.A, Propose()).sends[0]).sends[0]
    assert isinstance(ack, Ack)
    assert ack.receipt == b""
    assert note.Held(lock_id=LockId(1)) in both.opener.got(ack).notes


# -- R6


def test_r6_what_the_acceptor_has_announced_bounds_the_proposer():
    both = open_pair(100, 0)
    both.opener.do(SeenDeposit(deposit_a=Amount(300), deposit_b=Amount(0)))
    assert both.opener.channel.spendable == 100, "the opener may not use what the acceptor has not announced"
    both.acceptor.got(signed(both, Side.A, (Transfer(name(1), Amount(200)),), Body(200)))
    assert both.acceptor.channel.phase is Phase.FROZEN


def test_r6_after_the_announcement_it_may():
    both = open_pair(100, 0)
    both.do(Side.B, SeenDeposit(deposit_a=Amount(300), deposit_b=Amount(0)))
    both.pump()
    assert both.opener.channel.spendable == 300
    both.do(Side.A, pay(200))
    both.settle()
    assert both.acceptor.channel.current.body.net == 200


def test_r6_caps_count_per_direction():
    both = open_pair(max_locks=2)
    for number in (1, 2):
        both.do(Side.A, offer(10, number))
        both.do(Side.B, offer(10, 10 + number))
    both.settle()
    assert len(both.opener.channel.current.body.locks) == 4
    locks = dict(both.opener.channel.current.body.locks)
    locks[Side.A, LockId(3)] = lock(Side.A, 3, 10)
    both.acceptor.got(signed(both, Side.A, (AddLock(lock(Side.A, 3, 10), ONION),), Body(0, locks)))
    assert both.acceptor.channel.phase is Phase.FROZEN


def test_r6_no_clock_refuses_a_commit_a_late_lock_is_accepted_then_failed():
    both = open_pair()
    both.do(Side.A, offer(10, expiry=1))
    both.settle()
    assert (Side.A, 1) in both.acceptor.channel.current.body.locks
    both.do(Side.B, Fail(lock_id=LockId(1), reason=b"expired"))
    both.settle()
    assert not both.opener.channel.current.body.locks
    assert note.Returned(lock_id=LockId(1), reason=b"expired") in both.opener.notes


# -- R7


def with_lock() -> Pair:
    """Lock 1 of the opener, 50, is agreed."""
    both = open_pair()
    both.do(Side.A, offer(50))
    both.settle()
    return both


@pytest.mark.parametrize(
    ("side", "updates"),
    [
        (Side.A, (FailLock(LockId(1), b""),)),
        (Side.A, (FulfilLock(LockId(1), preimage(1)),)),
        (Side.B, (FulfilLock(LockId(1), Preimage(b"!" * 32)),)),
        (Side.B, (FulfilLock(LockId(2), preimage(1)),)),
        (Side.B, (FailLock(LockId(1), b""), FulfilLock(LockId(1), preimage(1)))),
        (Side.B, (FailLock(LockId(1), b""),) * 2),
        (Side.B, (Transfer(name(1), Amount(0)),)),
        (Side.B, (Transfer(name(1), Amount(-1)),)),
        (Side.B, (Transfer(name(1), Amount(501)),)),
        (Side.B, (Transfer(name(1), Amount(500)), Transfer(name(2), Amount(1)))),
        (Side.B, (AddLock(lock(Side.B, 1, 501), b""),)),
        (Side.B, (AddLock(lock(Side.A, 2, 5), b""),)),
        (Side.A, (AddLock(lock(Side.A, 1, 5), b""),)),
        (Side.A, (AddLock(lock(Side.A, 3, 5), b""), AddLock(lock(Side.A, 2, 5), b""))),
        (Side.B, (AddLock(replace(lock(Side.B, 1, 5), kind=LockKind.POINT), b""),)),
        (Side.B, (AddLock(lock(Side.B, MAX_LOCK_ID + 1, 5), b""),)),
    ],
)
def test_r7_nothing_else_changes_the_body(side: Side, updates: tuple[Update, ...]):
    both = with_lock()
    node = both.node(side.other)
    before = node.channel.current
    node.got(signed(both, side, updates, careless(before.body, side, updates)))
    assert node.channel.phase is Phase.FROZEN
    assert node.channel.current == before


@pytest.mark.parametrize(
    ("side", "updates"),
    [
        (Side.B, (FulfilLock(LockId(1), preimage(1)),)),
        (Side.B, (FulfilLock(LockId(1), preimage(1)), Transfer(name(1), Amount(550)))),
        (Side.B, (FailLock(LockId(1), b""),)),
        (Side.B, (Transfer(name(1), Amount(500)),)),
        (Side.B, (AddLock(lock(Side.B, 1, 500), b""),)),
        (Side.A, (AddLock(lock(Side.A, 2, 5), b""), AddLock(lock(Side.A, 7, 5), b""))),
        (Side.B, (AddLock(lock(Side.B, MAX_LOCK_ID, 5), b""),)),
    ],
)
def test_r7_these_may(side: Side, updates: tuple[Update, ...]):
    both = with_lock()
    node = both.node(side.other)
    body = careless(node.channel.current.body, side, updates)
    node.got(signed(both, side, updates, body))
    assert node.channel.phase is Phase.OPEN
    assert node.channel.current.body == body


def test_r7_a_signature_on_another_body_freezes():
    both = with_lock()
    both.opener.got(signed(both, Side.B, (FulfilLock(LockId(1), preimage(1)),), Body(51)))
    assert both.opener.channel.phase is Phase.FROZEN


def test_r7_the_receiver_takes_a_lock_and_may_spend_it_in_the_same_batch():
    both = with_lock()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    both.do(Side.B, Propose())
    both.pump()
    assert both.opener.channel.current.body == Body(50)
    both.opener.got(
        signed(both, Side.B, (Transfer(name(5), Amount(550)),), Body(-500)),
    )
    assert both.opener.channel.phase is Phase.OPEN


def test_r7_locks_of_one_hash_and_amount_are_told_apart_by_number():
    both = open_pair()
    for _ in range(2):
        both.do(Side.A, offer(50, 1))
    both.settle()
    both.do(Side.B, Fulfil(lock_id=LockId(2), preimage=preimage(1)))
    both.settle()
    assert list(both.opener.channel.current.body.locks) == [(Side.A, 1)]
    assert both.opener.channel.current.body.net == 50


# -- R8


def test_r8_nothing_is_credited_before_it_is_current():
    both = open_pair()
    higher, _ = crossing(both)
    assert not [one for one in both.acceptor.notes if isinstance(one, note.Received | note.Sent)]
    notes = both.acceptor.got(higher).notes
    assert [type(one) for one in notes] == [note.Received, note.Advanced]


def test_r8_a_lock_arrives_and_is_held_once_both_signed():
    both = open_pair()
    both.do(Side.A, offer(50))
    commit = both.do(Side.A, Propose()).sends[0]
    assert not [one for one in both.opener.notes if isinstance(one, note.Held)]
    done = both.acceptor.got(commit)
    assert [one.lock.id for one in done.notes if isinstance(one, note.Arrived)] == [1]
    assert note.Held(lock_id=LockId(1)) in both.opener.got(done.sends[0]).notes


def test_r8_a_fail_in_an_ignored_proposal_does_not_count():
    both = with_lock()
    both.do(Side.B, pay(1, 8))
    both.settle()  # the acceptor proposed last, so the opener wins the crossing
    both.do(Side.A, pay(1))
    both.do(Side.A, Propose())
    both.do(Side.B, Fail(lock_id=LockId(1), reason=b"x"))
    lower = both.do(Side.B, Propose()).sends[0]
    assert both.opener.got(lower).notes == ()
    assert (Side.A, 1) in both.opener.channel.current.body.locks
    both.settle()
    assert note.Returned(lock_id=LockId(1), reason=b"x") in both.opener.notes, "it was proposed again"


def test_r8_a_fail_that_both_signed_counts():
    both = with_lock()
    both.do(Side.B, Fail(lock_id=LockId(1), reason=b"x"))
    both.settle()
    assert note.Returned(lock_id=LockId(1), reason=b"x") in both.opener.notes


# -- before reestablish, and the laws of the value


@pytest.mark.parametrize("kind", ["commit", "ack"])
def test_r9_update_messages_before_reestablish_disconnect(kind: str):
    both = open_pair()
    commit = signed(both, Side.A, (Transfer(name(1), Amount(10)),), Body(10))
    both.cut()
    message = commit if kind == "commit" else Ack(version=Version(3), signature=bytes(65))
    with pytest.raises(PeerFault) as fault:
        both.acceptor.do(Got(message=message, now=both.acceptor.now))
    assert fault.value.answer is Answer.DISCONNECT


def test_r9_a_frozen_channel_still_takes_the_ack_of_its_own_proposal():
    both = open_pair()
    both.do(Side.A, pay(10))
    ack = both.acceptor.got(both.do(Side.A, Propose()).sends[0]).sends[0]
    both.do(Side.A, CloseAlone())
    both.opener.got(ack)
    assert both.opener.channel.current.version == 3
    assert both.opener.channel.phase is Phase.FROZEN


def test_r16_a_frozen_channel_answers_no_commit():
    both = open_pair()
    both.do(Side.B, CloseAlone())
    done = both.acceptor.got(signed(both, Side.A, (Transfer(name(1), Amount(10)),), Body(10)))
    assert done.sends == ()
    assert both.acceptor.versions == []


def test_laws_a_channel_that_does_not_add_up_cannot_be_made():
    both = open_pair(100, 50)
    both.do(Side.A, pay(10))
    both.settle()
    channel = both.opener.channel
    for wrong in (
        {"current": replace(channel.current, body=Body(101))},
        {"current": replace(channel.current, body=Body(-51))},
        {"base": Version(0)},
        {"top": (Version(1), channel.top[1])},
    ):
        with pytest.raises(Broken):
            replace(channel, **wrong)


def test_i10_balances_add_up_in_every_signed_state():
    both = with_lock()
    both.do(Side.B, offer(20, 2))
    both.do(Side.A, pay(5))
    both.settle()
    for node in (both.opener, both.acceptor):
        for body in node.bodies.values():
            total = body.balance(Side.A, 1_000) + body.balance(Side.B, 500) + body.locked_ab + body.locked_ba
            assert total == 1_500


def test_opening_pair_is_not_open():
    both = pair()
    assert both.opener.channel.phase is Phase.OPENING
    assert both.opener.channel.session is Session.CUT
