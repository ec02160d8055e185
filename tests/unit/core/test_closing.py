"""R16, R17, R20 and what happens on chain: seen, due, and given back; reorgs and late words included."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.digests import NO_LOCKS, locks_hash, pack_locks
from channeld.base.errors import Refused
from channeld.base.units import Address, Amount, Digest, LockId, Preimage, Seconds, Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import EMPTY, ZERO, Body, Channel, Phase, Signed
from channeld.core.closing import (
    Act,
    ChallengeAct,
    CloseAct,
    FinalizeAct,
    Margins,
    RegisterAct,
    ResolveAct,
    SettleAct,
    due,
    final_body,
)
from channeld.core.events import (
    Cancel,
    CloseAlone,
    Connected,
    Event,
    Fulfil,
    Propose,
    SeenChallenge,
    SeenClose,
    SeenDeposit,
    SeenFinal,
    SeenHead,
    SeenResolved,
    SeenSecret,
    SeenSettled,
    SeenUnclosed,
)
from channeld.core.messages import Ack, AddLock, FulfilLock, Transfer
from channeld.core.saved import load
from tests.roles import ONION, PERIOD, START, Pair, lock, lock_key, name, offer, open_pair, pair, pay, preimage
from tests.unit.core.test_updating import signed

DELTA, SKEW = 60, 10
MARGINS = Margins(inclusion=Seconds(DELTA), skew=Seconds(SKEW), period=PERIOD)
DEADLINE = Timestamp(START + PERIOD)
EXPIRY = START + 3_600
BOND_TO = Address(b"\x33" * 20)


def acts(channel: Channel, now: int, registered: dict[bytes, int] | None = None) -> tuple[Act, ...]:
    return due(channel, now=Timestamp(now), registered=registered or {}, margins=MARGINS)  # type: ignore[arg-type]


def close_of(channel: Channel, *, closer: Side | None = None, state: object = None) -> SeenClose:
    """`closer` puts `state` (else the channel's current) on chain."""
    found = channel.current if state is None else state
    return SeenClose(
        closer=channel.we.other if closer is None else closer,
        version=found.version,  # type: ignore[attr-defined]
        body_hash=found.body_hash,  # type: ignore[attr-defined]
        deadline=DEADLINE,
    )


def with_locks() -> Pair:
    """Agreed: lock 1 of the opener, 50, and lock 1 of the acceptor, 20; both expire at EXPIRY."""
    both = open_pair()
    both.do(Side.A, offer(50, 1, expiry=EXPIRY))
    both.do(Side.B, offer(20, 2, expiry=EXPIRY))
    both.settle()
    return both


def head(at: int, *keys: int) -> SeenHead:
    """A finalized block at `at`, with nothing registered for the locks of those numbers."""
    return SeenHead(now=Timestamp(at), final=Timestamp(at), unregistered=frozenset(lock_key(k) for k in keys))


def returned(notes: tuple[note.Note, ...]) -> list[int]:
    return [one.lock_id for one in notes if isinstance(one, note.Returned)]


# -- R16: freezing


@pytest.mark.parametrize("closer", list(Side))
def test_r16_a_close_at_one_confirmation_freezes(closer: Side):
    both = open_pair()
    both.do(Side.A, pay(10))
    done = both.opener.do(close_of(both.opener.channel, closer=closer))
    assert [type(one) for one in done.notes] == [note.Frozen]
    assert both.opener.channel.phase is Phase.CLOSING
    assert both.do(Side.A, Propose()).sends == ()
    assert both.opener.versions == []


def test_r16_a_close_that_a_reorg_took_away_leaves_it_frozen():
    both = open_pair()
    both.opener.do(close_of(both.opener.channel))
    both.opener.do(SeenUnclosed())
    assert both.opener.channel.phase is Phase.FROZEN
    assert both.opener.channel.onchain is None
    assert both.opener.channel.reason
    both.opener.do(CloseAlone())
    assert [type(act) for act in acts(both.opener.channel, START)] == [CloseAct]


def test_r16_after_a_reorg_another_close_counts():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    both.opener.do(close_of(both.opener.channel))
    both.opener.do(SeenUnclosed())
    both.opener.do(SeenClose(closer=Side.B, version=Version(0), body_hash=ZERO, deadline=DEADLINE))
    assert [type(act) for act in acts(both.opener.channel, START)] == [ChallengeAct]


def test_r16_a_challenge_that_a_reorg_took_away_is_made_again():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    channel = both.opener.channel
    stale = SeenClose(closer=Side.B, version=Version(0), body_hash=ZERO, deadline=DEADLINE)
    both.opener.do(stale)
    both.opener.do(SeenChallenge(version=channel.current.version, body_hash=channel.current.body_hash, bond_to=BOND_TO))
    assert acts(both.opener.channel, START) == ()
    both.opener.do(stale)  # told anew along the other branch
    assert [type(act) for act in acts(both.opener.channel, START)] == [ChallengeAct]


def test_r16_closing_alone_tells_the_peer_and_closes_with_current():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    both.do(Side.A, CloseAlone())
    both.pump()
    current = both.opener.channel.current
    assert acts(both.opener.channel, START) == (
        CloseAct(
            version=current.version,
            body_hash=current.body_hash,
            signature=current.signature_b,
            salt_other=both.acceptor.channel.salt_ours,
        ),
    )
    assert both.acceptor.channel.phase is Phase.FROZEN
    assert acts(both.acceptor.channel, START) == (), "without locks, who did not want it waits"


def test_r16_a_close_without_a_state_needs_no_signature():
    both = open_pair()
    both.do(Side.A, CloseAlone())
    act = acts(both.opener.channel, START)[0]
    assert isinstance(act, CloseAct)
    assert (act.version, act.body_hash, act.signature) == (0, ZERO, b"")


def test_r16_a_frozen_channel_with_locks_goes_to_the_chain_by_itself():
    both = with_locks()
    both.do(Side.A, CloseAlone())
    both.pump()
    assert [type(act) for act in acts(both.acceptor.channel, START)] == [CloseAct]


def test_closes_with_current_never_with_an_ignored_commit():
    both = open_pair()
    both.do(Side.A, pay(1))
    both.do(Side.A, Propose())
    both.opener.got(signed(both, Side.B, (Transfer(name(1), Amount(400)),), Body(-400)))
    assert both.opener.channel.current.version == 0
    both.do(Side.A, CloseAlone())
    act = acts(both.opener.channel, START)[0]
    assert isinstance(act, CloseAct)
    assert act.version == 0


def test_close_alone_is_refused_once_it_is_closing():
    both = open_pair()
    both.opener.do(close_of(both.opener.channel))
    with pytest.raises(Refused) as refusal:
        both.opener.do(CloseAlone())
    assert refusal.value.code == "channel_closing"


# -- challenge, finalize, settle


def stale_close() -> tuple[Pair, Channel]:
    """The acceptor closes with version 0 though much has been paid since."""
    both = open_pair()
    both.do(Side.A, offer(50, 1, expiry=EXPIRY))
    both.settle()
    both.do(Side.B, pay(10))
    both.settle()
    both.opener.do(SeenClose(closer=Side.B, version=Version(0), body_hash=ZERO, deadline=DEADLINE))
    return both, both.opener.channel


@pytest.mark.parametrize("now", [START, DEADLINE, DEADLINE + 10_000])
def test_an_older_close_is_challenged_until_it_is_final(now: int):
    _, channel = stale_close()
    current = channel.current
    assert acts(channel, now)[-1] == ChallengeAct(
        version=current.version,
        body_hash=current.body_hash,
        signature_a=current.signature_a,
        signature_b=current.signature_b,
        before=DEADLINE,
    )


def test_after_our_challenge_the_state_is_ours_to_settle():
    both, channel = stale_close()
    current = channel.current
    both.opener.do(SeenChallenge(version=current.version, body_hash=current.body_hash, bond_to=BOND_TO))
    assert acts(both.opener.channel, DEADLINE + PERIOD // 10) == ()
    (settle,) = acts(both.opener.channel, DEADLINE + PERIOD // 10 + 1)
    assert settle == SettleAct(
        net=-10,
        locked_ab=50,
        locked_ba=0,
        locks_hash=locks_hash(current.body.locks.values()),
        blind=channel.blind(current.version),
        bond_to=BOND_TO,
    )


@pytest.mark.parametrize(("closer", "after"), [(Side.A, 0), (Side.B, PERIOD // 10)])
def test_settle_waits_for_the_deadline_and_the_closer_goes_first(closer: Side, after: int):
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    both.opener.do(close_of(both.opener.channel, closer=closer))
    assert acts(both.opener.channel, DEADLINE + after) == ()
    (settle,) = acts(both.opener.channel, DEADLINE + after + 1)
    assert isinstance(settle, SettleAct)
    assert settle.locks_hash == NO_LOCKS
    both.opener.do(SeenFinal())
    assert acts(both.opener.channel, DEADLINE + after + 1) == (settle,), "final, and still to be paid out"


def test_a_close_without_a_state_is_settled_by_zeros():
    both = open_pair()
    both.opener.do(close_of(both.opener.channel, closer=Side.A))
    (settle,) = acts(both.opener.channel, DEADLINE + 1)
    assert settle == SettleAct(
        net=0, locked_ab=0, locked_ba=0, locks_hash=ZERO, blind=bytes(32), bond_to=Address(bytes(20))
    )


def test_an_unknown_newer_state_is_only_finalized():
    both = open_pair()
    unknown = SeenClose(closer=Side.B, version=Version(99), body_hash=Digest(b"?" * 32), deadline=DEADLINE)
    both.opener.do(unknown)
    assert final_body(both.opener.channel) is None
    assert acts(both.opener.channel, DEADLINE) == ()
    (act,) = acts(both.opener.channel, DEADLINE + PERIOD)
    assert act == FinalizeAct(body_hash=Digest(b"?" * 32), bond_to=Address(bytes(20)))
    both.opener.do(SeenFinal())
    assert acts(both.opener.channel, DEADLINE + PERIOD) == ()


def gone_on() -> tuple[Pair, Signed]:
    """Agreed: a lock of the opener; then a payment, so that both have gone on. Returns the state with the lock too."""
    both = open_pair()
    both.do(Side.A, offer(50, 1, expiry=EXPIRY))
    both.settle()
    older = both.opener.channel.current
    both.do(Side.B, pay(3, 2))
    both.settle()
    return both, older


@pytest.mark.parametrize("challenged", [False, True])
def test_an_older_state_that_a_tower_was_given_is_settled_and_its_lock_resolved(challenged: bool):
    both, older = gone_on()
    if challenged:
        both.opener.do(SeenClose(closer=Side.B, version=Version(0), body_hash=ZERO, deadline=DEADLINE))
        challenge = SeenChallenge(version=older.version, body_hash=older.body_hash, bond_to=BOND_TO, body=older.body)
        both.opener.do(challenge)
    else:
        both.opener.do(replace(close_of(both.opener.channel, state=older), body=older.body))
    both.opener.do(SeenFinal())
    (settle,) = acts(both.opener.channel, DEADLINE + PERIOD)
    assert isinstance(settle, SettleAct)
    assert (settle.net, settle.locked_ab, settle.blind) == (0, 50, both.opener.channel.blind(older.version))
    both.opener.do(SeenSettled(version=older.version))
    (resolve,) = acts(both.opener.channel, EXPIRY + 1)
    assert isinstance(resolve, ResolveAct)


def test_a_body_that_does_not_open_what_is_on_chain_is_not_believed():
    both, older = gone_on()
    both.opener.do(replace(close_of(both.opener.channel, state=older), body=both.opener.channel.current.body))
    assert final_body(both.opener.channel) is None


def test_an_enforced_outstanding_becomes_current():
    """The peer countersigned our proposal and used it on chain instead of acknowledging it."""
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    both.do(Side.A, offer(50, 1, expiry=EXPIRY))
    both.do(Side.A, Propose())
    both.do(Side.A, pay(7, 2))
    out = both.opener.channel.outstanding
    both.opener.do(close_of(both.opener.channel, state=out))
    assert final_body(both.opener.channel) == Body(10, {(Side.A, LockId(1)): lock(Side.A, 1, 50, 1, expiry=EXPIRY)})
    assert not [act for act in acts(both.opener.channel, START) if isinstance(act, ChallengeAct)]
    assert isinstance(acts(both.opener.channel, DEADLINE + PERIOD)[0], SettleAct)
    assert out is not None
    done = both.opener.do(SeenSettled(version=out.version))
    sent = [one.payment_id for one in done.notes if isinstance(one, note.Sent)]
    dropped = [one.update for one in done.notes if isinstance(one, note.Dropped)]
    assert sent == [name(1)]
    assert dropped == [Transfer(name(2), Amount(7))]
    assert note.Held(lock_id=LockId(1)) in done.notes
    assert returned(done.notes) == []
    assert both.opener.channel.phase is Phase.SETTLED


def test_r8_an_unenforced_outstanding_comes_back_only_when_final():
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    both.do(Side.A, offer(50, 1, expiry=EXPIRY))
    both.do(Side.A, Propose())
    both.do(Side.A, offer(30, 2, expiry=EXPIRY))
    assert both.opener.do(close_of(both.opener.channel)).notes == (note.Frozen(reason="side B closed at version 0"),)
    assert both.opener.do(SeenFinal()).notes == ()
    done = both.opener.do(SeenSettled(version=Version(0)))
    assert returned(done.notes) == [1, 2]
    assert [one.update for one in done.notes if isinstance(one, note.Dropped)] == [Transfer(name(1), Amount(10))]
    assert both.opener.channel.phase is Phase.CLOSED
    assert note.Ended() in done.notes


@pytest.mark.parametrize("final", [False, True])
def test_a_late_ack_does_not_make_us_forget_what_stands_on_chain(final: bool):
    """The peer closes with the state before our proposal and acknowledges it afterwards.

    The state on chain must still be ours to open, its locks count, and no preimage is forgotten.
    """
    both = with_locks()
    both.do(Side.A, Fulfil(lock_id=LockId(1), preimage=preimage(2)))
    both.do(Side.A, offer(5, 3, expiry=EXPIRY))
    commit = both.do(Side.A, Propose()).sends[0]
    before = both.opener.channel.current
    ack = both.acceptor.got(commit).sends[0]
    assert isinstance(ack, Ack)
    both.opener.do(close_of(both.opener.channel))
    if final:
        both.opener.do(SeenFinal())
    both.opener.got(ack)
    channel = both.opener.channel
    assert channel.current.version == ack.version
    if not final:
        assert [act.version for act in acts(channel, START) if isinstance(act, ChallengeAct)] == [ack.version]
        channel = both.opener.do(SeenFinal()).channel
    (register, settle) = acts(channel, DEADLINE + PERIOD)
    assert isinstance(register, RegisterAct)
    assert register.secrets == (preimage(2),)
    assert isinstance(settle, SettleAct)
    assert settle.locks_hash == locks_hash(before.body.locks.values())
    both.opener.crash()
    done = both.opener.do(SeenSettled(version=before.version))
    assert returned(done.notes) == [2], "lock 1 stands on chain; only the new one has come back"
    assert both.opener.channel.onchain is not None
    assert both.opener.channel.onchain.left == ((Side.A, 1), (Side.B, 1))


def test_an_unknown_outcome_gives_nothing_back_before_r20():
    """A dropped or older state stood because nobody was awake: its locks may still be taken by the peer."""
    both = with_locks()
    both.opener.do(SeenClose(closer=Side.B, version=Version(2), body_hash=Digest(b"?" * 32), deadline=DEADLINE))
    both.opener.do(SeenFinal())
    done = both.opener.do(SeenSettled(version=Version(2)))
    assert returned(done.notes) == []
    assert both.opener.channel.phase is Phase.SETTLED
    assert acts(both.opener.channel, EXPIRY + 1, {lock_key(2): START}) == ()
    both.opener.do(SeenResolved(left=((Side.A, LockId(1)), (Side.B, LockId(7)))))
    assert acts(both.opener.channel, EXPIRY + 1) == (), "not a list that we can write down"
    assert returned(both.opener.do(head(EXPIRY + 1, 1)).notes) == [1]
    assert both.opener.do(SeenResolved(left=())).channel.phase is Phase.CLOSED


# -- locks on chain


def settled() -> Pair:
    both = with_locks()
    both.do(Side.A, Fulfil(lock_id=LockId(1), preimage=preimage(2), off_chain=False))
    for node in (both.opener, both.acceptor):
        node.do(close_of(node.channel))
        node.do(SeenSettled(version=node.channel.current.version))
    return both


def test_settled_with_locks_waits_for_each_to_be_decided():
    both = settled()
    assert both.opener.channel.phase is Phase.SETTLED
    assert [type(act) for act in acts(both.opener.channel, EXPIRY)] == [RegisterAct]
    assert acts(both.opener.channel, EXPIRY, {lock_key(2): EXPIRY}) == (), "the other may still be taken"
    locks = pack_locks(both.opener.channel.current.body.locks.values())
    assert acts(both.opener.channel, EXPIRY + 1, {lock_key(2): EXPIRY}) == (ResolveAct(locks=locks, secrets=()),)
    assert acts(both.opener.channel, START, {lock_key(1): START, lock_key(2): START}) == (
        ResolveAct(locks=locks, secrets=()),
    )


def test_resolved_in_part_resolves_the_rest_and_ends():
    both = settled()
    both.opener.do(SeenResolved(left=((Side.A, LockId(1)),)))
    (resolve,) = acts(both.opener.channel, EXPIRY + 1, {lock_key(2): START})
    assert isinstance(resolve, ResolveAct)
    assert resolve.locks == both.opener.channel.current.body.locks[Side.A, LockId(1)].packed()
    done = both.opener.do(SeenResolved(left=()))
    assert done.notes == (note.Ended(),)
    assert both.opener.channel.phase is Phase.CLOSED
    assert acts(both.opener.channel, EXPIRY + 1) == ()


# -- R17: the cut-off


def claimed(phase: str = "open") -> Pair:
    both = with_locks()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1), off_chain=False))
    if phase == "frozen":
        both.do(Side.B, CloseAlone())
    if phase == "closing":
        both.acceptor.do(close_of(both.acceptor.channel))
    return both


def registers(channel: Channel, now: int, registered: dict[bytes, int] | None = None) -> list[RegisterAct]:
    return [act for act in acts(channel, now, registered) if isinstance(act, RegisterAct)]


def test_r17_the_secret_is_registered_from_the_cut_off_to_the_expiry():
    channel = claimed().acceptor.channel
    cut_off = EXPIRY - DELTA - SKEW
    assert registers(channel, cut_off - 1) == []
    for now in (cut_off, EXPIRY - 1, EXPIRY):
        assert registers(channel, now) == [RegisterAct(secrets=(preimage(1),), before=Timestamp(EXPIRY))]
    assert registers(channel, EXPIRY + 1) == []
    assert registers(channel, cut_off, {lock_key(1): START}) == []


@pytest.mark.parametrize("phase", ["frozen", "closing"])
def test_r17_on_the_way_to_the_chain_it_is_registered_at_once(phase: str):
    assert registers(claimed(phase).acceptor.channel, START)


def test_r17_a_fulfil_that_nobody_answers_is_registered_too():
    both = with_locks()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    both.do(Side.B, Propose())
    assert registers(both.acceptor.channel, START) == []
    assert registers(both.acceptor.channel, EXPIRY - DELTA)


def test_r17_nothing_is_registered_without_a_preimage_or_for_our_own_locks():
    both = with_locks()
    for node in (both.opener, both.acceptor):
        node.do(close_of(node.channel))
        assert registers(node.channel, EXPIRY) == []


# -- R20: when a lock is lost and when it is ours again


def test_r20_a_lock_comes_back_after_a_finalized_expiry_with_nothing_registered():
    both = with_locks()
    assert returned(both.opener.do(head(EXPIRY, 1)).notes) == []
    assert returned(both.opener.do(head(EXPIRY + 1)).notes) == [], "the registry was not asked"
    late = SeenHead(now=Timestamp(EXPIRY + 9), final=Timestamp(EXPIRY), unregistered=frozenset({lock_key(1)}))
    assert returned(both.opener.do(late).notes) == [], "the newest block does not count"
    assert returned(both.opener.do(head(EXPIRY + 1, 1)).notes) == [1]
    assert returned(both.opener.do(head(EXPIRY + 2, 1)).notes) == [], "once"


def test_r20_only_our_own_locks_come_back():
    both = with_locks()
    assert returned(both.opener.do(head(EXPIRY + 1, 1, 2)).notes) == [1]
    assert returned(both.acceptor.do(head(EXPIRY + 1, 1, 2)).notes) == [1]


def test_r20_what_has_come_back_cannot_be_taken_any_more():
    both = with_locks()
    both.do(Side.A, head(EXPIRY + 1, 1))
    before = both.opener.channel.current
    late = signed(both, Side.B, (FulfilLock(LockId(1), preimage(1)),), Body(50, {(Side.B, LockId(1)): LOCK_2}))
    both.opener.got(late)
    assert both.opener.channel.current == before
    assert both.opener.channel.phase is Phase.FROZEN


LOCK_2 = lock(Side.B, 1, 20, 2, expiry=EXPIRY)


def test_r20_before_that_it_can():
    both = with_locks()
    both.do(Side.A, head(EXPIRY + 1))
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    both.settle()
    assert both.opener.channel.current.body.net == 50
    assert note.Learned(lock_id=LockId(1), preimage=preimage(1)) in both.opener.notes


def test_r20_a_queued_lock_that_has_come_back_is_never_offered():
    both = open_pair()
    both.cut()
    both.do(Side.A, offer(50, 1, expiry=START + 1))
    assert returned(both.opener.do(head(START + 2, 1)).notes) == [1]
    assert both.opener.channel.queue == ()
    assert both.opener.channel.spendable == 1_000
    both.connect()
    both.pump()
    both.settle()
    assert not both.acceptor.channel.current.body.locks


def test_r20_an_outstanding_lock_that_has_come_back_may_be_agreed_but_not_taken():
    both = open_pair()
    both.do(Side.A, offer(50, 1, expiry=START + 1))
    both.do(Side.A, Propose())
    assert returned(both.opener.do(head(START + 2, 1)).notes) == [1]
    both.pump()
    assert (Side.A, 1) in both.opener.channel.current.body.locks
    both.opener.got(signed(both, Side.B, (FulfilLock(LockId(1), preimage(1)),), Body(50)))
    assert both.opener.channel.phase is Phase.FROZEN
    assert [type(act) for act in acts(both.opener.channel, START)] == [CloseAct]


def test_r20_on_chain_a_lock_comes_back_by_the_registry_too():
    both = settled()
    assert returned(both.opener.do(head(EXPIRY + 1, 1)).notes) == [1]


def test_r20_the_registry_shows_a_secret_to_whoever_offered_the_lock():
    both = with_locks()
    seen = SeenSecret(key=lock_key(1), preimage=preimage(1), at=START)
    assert both.opener.do(seen).notes == (note.Learned(lock_id=LockId(1), preimage=preimage(1)),)
    assert both.acceptor.do(seen).notes == ()
    other = SeenSecret(key=lock_key(9), preimage=Preimage(b"?" * 32), at=START)
    assert both.opener.do(other).notes == ()


# -- the peer while it is closing; deposits


def test_a_peer_that_has_not_seen_the_close_is_ignored_not_cut_off():
    both = open_pair()
    both.cut()
    hello = both.acceptor.do(Connected()).sends[0]
    both.opener.do(close_of(both.opener.channel))
    assert both.opener.do(Connected()).sends == ()
    done = both.opener.got(hello)
    assert not done.sends
    assert not done.notes


def test_r8_nothing_is_taken_back_while_a_close_runs():
    """A proposal that was dropped may still be enforced: what came back into the queue from it waits for the end."""
    both = open_pair()
    both.do(Side.A, offer(10, 1))
    both.do(Side.A, Propose())
    both.do(Side.A, offer(10, 2))
    both.opener.do(close_of(both.opener.channel))
    for lock_id in (1, 2):
        with pytest.raises(Refused):
            both.opener.do(Cancel(lock_id=LockId(lock_id)))
    assert sorted(returned(both.opener.do(SeenSettled(version=Version(0))).notes)) == [1, 2]


def test_a_channel_opens_when_both_have_announced_a_deposit():
    both = pair()
    both.connect()
    both.pump()
    deposit = SeenDeposit(deposit_a=Amount(100), deposit_b=Amount(0))
    both.do(Side.A, deposit)
    both.pump()
    assert {both.opener.channel.phase, both.acceptor.channel.phase} == {Phase.OPENING}
    done = both.do(Side.B, deposit)
    assert note.Opened() in done.notes
    both.pump()
    assert {both.opener.channel.phase, both.acceptor.channel.phase} == {Phase.OPEN}
    assert (both.opener.channel.balance, both.opener.channel.peer_balance) == (100, 0)


def test_told_deposits_never_go_down():
    both = open_pair(100, 50)
    done = both.do(Side.A, SeenDeposit(deposit_a=Amount(40), deposit_b=Amount(50)))
    assert done.sends == ()
    assert both.opener.channel.told == (100, 50)


def test_final_body_of_an_open_channel_is_none():
    both = open_pair()
    assert final_body(both.opener.channel) is None
    both.opener.do(close_of(both.opener.channel))
    assert final_body(both.opener.channel) == EMPTY
    assert load(both.opener.disk).onchain == both.opener.channel.onchain


EVENTS: list[Event] = [SeenFinal(), SeenSettled(version=Version(0)), SeenUnclosed()]


@pytest.mark.parametrize("event", EVENTS)
def test_the_chain_telling_of_no_close_changes_nothing(event: Event):
    both = open_pair()
    before = both.opener.channel
    done = both.opener.do(event)
    assert done.channel == before
    assert done.notes == ()


def test_add_lock_in_queue_is_an_add_lock():
    both = open_pair()
    both.do(Side.A, offer(10))
    assert both.opener.channel.queue == (AddLock(lock(Side.A, 1, 10), ONION),)
    assert replace(both.opener.channel).queue == both.opener.channel.queue
