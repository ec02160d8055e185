"""Recovery with a state that we cannot open: both have signed it, a tower shows it, and its locks are not known to us.

It is enough to close, challenge and settle by. What the contract then holds for its locks waits for who knows them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.digests import locks_hash
from channeld.base.errors import Broken, Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import Amount, Digest, Side, Version
from channeld.core import effects as note
from channeld.core.channel import ZERO, Channel, Outline, Phase
from channeld.core.closing import ChallengeAct, CloseAct, FinalizeAct, SettleAct, final_body
from channeld.core.cooperating import idle
from channeld.core.events import (
    CloseAlone,
    Leave,
    Propose,
    Recover,
    SeenChallenge,
    SeenClose,
    SeenResolved,
    SeenSettled,
)
from channeld.core.messages import Proof
from channeld.core.saved import FORM, MAX_BYTES, load, save
from tests.roles import PERIOD, START, Pair, offer, open_pair, pay
from tests.unit.core.test_closing import BOND_TO, DEADLINE, acts, close_of
from tests.unit.core.test_recovering import proof_of, restored


def outline_of(channel: Channel) -> Outline:
    state = channel.current
    return Outline(
        version=state.version,
        body_hash=state.body_hash,
        signature_a=state.signature_a,
        signature_b=state.signature_b,
        net=state.body.net,
        locked_ab=state.body.locked_ab,
        locked_ba=state.body.locked_ba,
        locks_hash=locks_hash(state.body.locks.values()),
    )


def copied(side: Side = Side.A) -> tuple[Pair, Outline, Proof]:
    """`side` comes back with a copy that lacks a payment and a lock of the peer's; the state that has them."""
    both = open_pair()
    both.do(Side.A, pay(5, 1))
    both.settle()
    copy = both.node(side).disk
    both.do(Side.B, pay(20, 2))
    both.do(Side.B, offer(50, 3))
    both.settle()
    both.cut()
    newest = both.node(side).channel
    restored(both.node(side), copy, Recover(reason="a tower", outline=outline_of(newest)))
    return both, outline_of(newest), proof_of(newest)


@pytest.mark.parametrize("side", list(Side))
def test_it_is_what_we_close_with(side: Side):
    both, newest, _ = copied(side)
    node = both.node(side)
    assert node.channel.current.version < newest.version
    assert (node.channel.outline, node.channel.recovering, node.channel.phase) == (newest, True, Phase.FROZEN)
    (close,) = acts(node.channel, START)  # it has locks, so it goes to the chain by itself, as any frozen one
    assert isinstance(close, CloseAct)
    assert (close.version, close.body_hash) == (newest.version, newest.body_hash)
    assert close.signature == newest.signature(side.other)
    node.do(CloseAlone())
    assert acts(node.channel, START) == (close,)


@pytest.mark.parametrize("stale", [True, False])
def test_it_is_what_we_challenge_and_settle_with(stale: bool):
    both, newest, _ = copied()
    node = both.opener
    if stale:
        node.do(SeenClose(closer=Side.B, version=Version(0), body_hash=ZERO, deadline=DEADLINE))
        challenge = acts(node.channel, START)[-1]
        assert isinstance(challenge, ChallengeAct)
        assert (challenge.version, challenge.body_hash) == (newest.version, newest.body_hash)
        assert (challenge.signature_a, challenge.signature_b) == (newest.signature_a, newest.signature_b)
        node.do(SeenChallenge(version=newest.version, body_hash=newest.body_hash, bond_to=BOND_TO))
    else:
        node.do(SeenClose(closer=Side.A, version=newest.version, body_hash=newest.body_hash, deadline=DEADLINE))
    (settle,) = acts(node.channel, DEADLINE + PERIOD)
    assert isinstance(settle, SettleAct)
    assert (settle.net, settle.locked_ab, settle.locked_ba) == (newest.net, 0, 50)
    assert settle.locks_hash == newest.locks_hash
    assert settle.blind == node.channel.blind(newest.version)


def test_it_is_believed_only_if_both_have_signed_it():
    both, newest, _ = copied()
    node, copy = both.opener, both.opener.disk
    older = load(copy)
    for lie in (
        replace(newest, net=newest.net + 1),
        replace(newest, locked_ba=Amount(49)),
        replace(newest, locks_hash=Digest(b"?" * 32)),
        replace(newest, body_hash=Digest(b"?" * 32)),
        replace(newest, version=Version(newest.version + 2)),
        replace(newest, signature_a=newest.signature_b),
        replace(newest, signature_b=bytes(65)),
    ):
        node.disk = save(replace(older, outline=None))
        node.crash()
        node.do(Recover(reason="a tower", outline=lie))
        assert (node.channel.outline, node.channel.recovering) == (None, True)


def test_the_peers_proof_opens_it():
    both, _, proof = copied()
    both.connect()
    both.pump()
    assert both.opener.channel.current.version == proof.version
    assert both.opener.channel.outline is None
    assert final_body(both.opener.channel) is None
    assert proof.body == both.opener.channel.current.body


def test_an_older_proof_leaves_it_and_a_newer_one_takes_its_place():
    both, newest, proof = copied()
    node = both.opener
    node.do(Recover(reason="another tower", proof=replace(proof, version=Version(1))))
    assert node.channel.outline == newest, "not proven at all"
    node.do(Recover(reason="another tower", outline=replace(newest)))
    assert node.channel.outline == newest
    node.do(Recover(reason="another tower", proof=proof))
    assert node.channel.current.version == newest.version
    assert load(node.disk).outline is None
    node.do(Recover(reason="the first again", outline=newest))
    assert node.channel.outline is None, "it is known in full"


def test_nothing_is_signed_nor_offered_together():
    both, _, _ = copied()
    node = both.opener
    for event in (Propose(), Leave(now=START, valid_for=60, draw=7)):
        node.do(event)
    assert not idle(node.channel)
    assert (node.versions, node.channel.ask, node.channel.coop) == ([], None, None)


def test_a_proposal_that_it_overtakes_is_forgotten():
    both = open_pair()
    both.do(Side.A, pay(7, 1))
    both.do(Side.A, Propose())
    copy = both.opener.disk
    both.pump()
    both.do(Side.B, offer(50, 2))
    both.settle()
    both.cut()
    newest = both.opener.channel
    restored(both.opener, copy, Recover(reason="a tower", outline=outline_of(newest)))
    assert both.opener.channel.outstanding is None
    assert any(isinstance(one, note.Forgotten) for one in both.opener.notes)


def test_settled_by_it_the_channel_waits_until_the_contract_lists_nothing():
    both, newest, _ = copied()
    node = both.opener
    node.do(SeenClose(closer=Side.A, version=newest.version, body_hash=newest.body_hash, deadline=DEADLINE))
    node.do(SeenSettled(version=newest.version))
    assert acts(node.channel, DEADLINE + 99_999) == ()
    assert node.do(SeenResolved(left=None)).channel.phase is Phase.SETTLED, "some are left"
    done = node.do(SeenResolved(left=()))
    assert done.channel.phase is Phase.CLOSED
    assert note.Ended() in done.notes


@pytest.mark.parametrize("empty", [True, False])
def test_a_state_we_cannot_open_ends_at_once_only_if_it_held_no_locks(empty: bool):
    both = open_pair()
    both.opener.do(SeenClose(closer=Side.B, version=Version(9), body_hash=Digest(b"?" * 32), deadline=DEADLINE))
    assert isinstance(acts(both.opener.channel, DEADLINE + PERIOD)[0], FinalizeAct)
    both.opener.do(SeenSettled(version=Version(9), empty=empty))
    assert both.opener.channel.phase is (Phase.CLOSED if empty else Phase.SETTLED)


def test_an_outline_stands_only_in_recovery_and_above_what_we_have():
    both, newest, _ = copied()
    channel = both.opener.channel
    with pytest.raises(Broken):
        replace(channel, recovering=False)
    with pytest.raises(Broken):
        replace(channel, outline=replace(newest, version=channel.current.version))


def test_it_is_saved_and_what_was_saved_before_it_is_read():
    both, _, _ = copied()
    channel = both.opener.channel
    assert load(save(channel)) == channel
    fields = unpack(save(channel), max_bytes=MAX_BYTES, max_items=65_536)
    assert isinstance(fields, list)
    assert save(load(pack([1, *fields[1:-1]]))) == pack([1, *fields[1:-1]]) == save(replace(channel, outline=None))
    for wrong in ([1, *fields[1:]], [FORM, *fields[1:-1]], [FORM, *fields[1:-1], None]):
        with pytest.raises(Malformed):
            load(pack(wrong))


def test_a_close_by_what_we_can_open_is_challenged_by_what_we_cannot():
    """The copy's own newest state on chain is older than what the tower holds."""
    both, newest, _ = copied()
    node = both.opener
    node.do(close_of(node.channel, closer=Side.B))
    challenge = acts(node.channel, START)[-1]
    assert isinstance(challenge, ChallengeAct)
    assert challenge.version == newest.version
