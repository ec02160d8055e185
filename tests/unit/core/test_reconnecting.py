"""R9, R10, R15 and recovery: what is said when a session stands again, over every pair of standpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from channeld.base.digests import ALL, cooperate_digest
from channeld.base.errors import Answer, PeerFault
from channeld.base.units import Digest, Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import Body, Phase, Session, next_version
from channeld.core.cooperating import LONGEST, SKEW
from channeld.core.events import CloseAlone, Connected, Disconnected, Got, Leave, Propose, SeenDeposit, SeenHead
from channeld.core.messages import Ack, Commit, CoopSign, DepositSeen, Fault, Message, Proof, Reestablish
from tests.roles import START, Node, Pair, offer, open_pair, pay


def hello(node: Node) -> Reestablish:
    """Connects a node and gives what it says first."""
    said = node.do(Connected()).sends
    assert len(said) == 1, "nothing else before both have spoken"
    assert isinstance(said[0], Reestablish)
    return said[0]


def kinds(messages: tuple[Message, ...]) -> list[type[Message]]:
    return [type(one) for one in messages if not isinstance(one, DepositSeen)]


def proposed() -> Pair:
    """The opener's version 3 is under way when the wire is cut."""
    both = open_pair()
    both.do(Side.A, pay(10))
    both.do(Side.A, Propose())
    return both


def ack_lost() -> Pair:
    """The acceptor has signed version 3; the opener does not know."""
    both = proposed()
    both.deliver(Side.B)
    return both


# -- R9, R10: the honest cases


def test_r9_says_where_it_stands():
    both = ack_lost()
    both.do(Side.B, pay(5, 2))
    both.do(Side.B, Propose())
    both.cut()
    first, second = hello(both.opener), hello(both.acceptor)
    assert (first.version, first.outstanding, first.base) == (0, 3, 0)
    assert (second.version, second.outstanding, second.base) == (3, next_version(Side.B, Version(3)), 3)
    assert both.acceptor.channel.outstanding is not None
    assert second.outstanding_hash == both.acceptor.channel.outstanding.body_hash


def test_r9_equal_and_nothing_under_way_says_only_deposits():
    both = open_pair()
    both.cut()
    mine = hello(both.opener)
    hello(both.acceptor)
    assert kinds(both.acceptor.got(mine).sends) == []
    assert both.acceptor.channel.session is Session.LIVE


def test_r9_equal_versions_of_unequal_hash_freeze():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    both.cut()
    mine = hello(both.opener)
    hello(both.acceptor)
    said = both.acceptor.got(replace(mine, hash=Digest(b"?" * 32))).sends
    assert [one.code for one in said if isinstance(one, Fault)] == ["state_differs"]
    assert both.acceptor.channel.phase is Phase.FROZEN


def test_r9_reestablish_in_the_middle_disconnects():
    both = open_pair()
    both.cut()
    mine = hello(both.opener)
    hello(both.acceptor)
    both.acceptor.got(mine)
    with pytest.raises(PeerFault) as fault:
        both.acceptor.got(mine)
    assert fault.value.answer is Answer.DISCONNECT


def test_r10_a_lost_commit_goes_out_again_byte_for_byte():
    both = open_pair()
    both.do(Side.A, pay(10))
    commit = both.do(Side.A, Propose()).sends[0]
    both.cut()
    both.opener.crash()
    theirs = hello(both.acceptor)
    hello(both.opener)
    assert kinds(both.opener.got(theirs).sends) == [Commit]
    assert both.opener.do(Disconnected()).sends == ()
    hello(both.opener)
    assert both.opener.got(theirs).sends[-1] == commit
    assert len(both.opener.versions) == 1


def test_r10_a_lost_ack_is_said_again_then_our_commit():
    both = ack_lost()
    first = both.acceptor.channel.last_ack
    both.do(Side.B, pay(5, 2))
    both.do(Side.B, Propose())
    both.cut()
    mine = hello(both.opener)
    hello(both.acceptor)
    said = both.acceptor.got(mine).sends
    assert kinds(said) == [Ack, Commit], "the ack first, the commit after it"
    assert said[0] == first


def test_r10_no_commit_again_that_the_peer_has_signed():
    both = ack_lost()
    both.cut()
    theirs = hello(both.acceptor)
    hello(both.opener)
    assert kinds(both.opener.got(theirs).sends) == []
    assert both.opener.channel.outstanding is not None, "its ack is on the way"


@pytest.mark.parametrize("lost", range(8))
@pytest.mark.parametrize("crashed", list(Side))
def test_r10_a_cut_after_any_number_of_messages_loses_nothing(lost: int, crashed: Side):
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    both.do(Side.B, pay(5, 2))
    for side in Side:
        both.do(side, Propose())
    for turn in range(lost):
        both.deliver(Side(turn % 2))
    both.cut()
    both.node(crashed).crash()
    both.connect()
    both.pump()
    both.settle()
    assert both.opener.channel.current == both.acceptor.channel.current
    assert both.opener.channel.current.body == Body(5)
    for node in (both.opener, both.acceptor):
        assert len([one for one in node.notes if isinstance(one, note.Received)]) == 1
        assert len([one for one in node.notes if isinstance(one, note.Sent)]) == 1


def test_r9_deposits_are_said_again():
    both = open_pair()
    both.cut()
    both.do(Side.B, SeenDeposit(deposit_a=1_200, deposit_b=500))  # type: ignore[arg-type]
    assert both.opener.channel.heard == (1_000, 500)
    both.connect()
    both.pump()
    assert both.opener.channel.heard == (1_200, 500)


# -- R9: the peer has forgotten, or we have


def forgotten(side: Side) -> Pair:
    """`side` comes back from an old copy of its store."""
    both = open_pair()
    both.do(Side.A, pay(10, 1))
    both.settle()
    copy = both.node(side).disk
    for number in (2, 3):
        both.do(Side.A, pay(10, number))
        both.settle()
        both.do(Side.B, pay(1, 10 + number))
        both.settle()
    both.cut()
    both.node(side).disk = copy
    both.node(side).crash()
    return both


@pytest.mark.parametrize("side", list(Side))
def test_recovery_the_peers_proof_is_adopted_and_nothing_signed_again(side: Side):
    both = forgotten(side)
    node, peer = both.node(side), both.peer(side)
    both.connect()
    both.pump()
    assert node.channel.recovering
    assert node.channel.current == peer.channel.current
    assert node.channel.phase is peer.channel.phase is Phase.FROZEN
    assert node.channel.top[0] == node.channel.current.version
    assert note.Advanced(version=node.channel.current.version) in node.notes
    signed = len(node.versions)
    node.do(Propose())
    node.do(Leave(now=START, valid_for=60))
    assert node.channel.ask is None, "a channel in recovery offers no ordinary cooperate"
    assert len(node.versions) == signed
    node.crash()
    assert node.channel.recovering, "for good"


def test_recovery_forgets_a_cooperate_older_than_the_proof():
    """Its version was consumed long ago: signing it now would sign below what we have signed since."""
    both = open_pair()
    both.do(Side.A, Leave(now=START, valid_for=60))
    both.deliver(Side.B)
    both.cut()
    both.connect()
    live = both.deliver(Side.A)
    assert live is not None
    assert live.channel.coop is not None
    copy = both.opener.disk
    later = SeenHead(now=Timestamp(START + 61), final=Timestamp(START + 61))
    for side in Side:
        both.do(side, later)
    both.pump()
    both.do(Side.B, pay(5))
    both.settle()
    both.cut()
    both.opener.disk = copy
    both.opener.crash()
    sign = CoopSign(coop_version=both.opener.channel.base, signature=both.acceptor.key.sign(Digest(bytes(32))))
    both.connect()
    both.pump()
    assert both.opener.channel.recovering
    assert both.opener.channel.coop is None
    assert both.opener.got(sign).channel.top[0] == both.acceptor.channel.current.version


def test_recovery_is_waited_for_without_a_word():
    both = forgotten(Side.A)
    theirs = hello(both.acceptor)
    hello(both.opener)
    assert both.opener.got(theirs).sends == ()
    assert both.opener.channel.session is Session.PROVING
    assert both.opener.do(Propose()).sends == ()


def shown(both: Pair) -> Proof:
    """The proof that the acceptor shows to an opener that claims less."""
    mine = hello(both.opener)
    theirs = hello(both.acceptor)
    said = both.acceptor.got(mine).sends
    both.opener.got(theirs)
    assert kinds(said)[0] is Proof, "the proof first, since the other may do nothing before it"
    proof = said[0]
    assert isinstance(proof, Proof)
    return proof


@pytest.mark.parametrize(
    "lie",
    [
        lambda proof: replace(proof, signature_a=bytes(65)),
        lambda proof: replace(proof, signature_b=proof.signature_a),
        lambda proof: replace(proof, body=Body(1)),
        lambda proof: replace(proof, version=Version(proof.version + 2)),
    ],
)
def test_r9_a_false_proof_disconnects_and_changes_nothing(lie: Callable[[Proof], Proof]):
    both = forgotten(Side.A)
    proof = shown(both)
    before = both.opener.channel
    with pytest.raises(PeerFault) as fault:
        both.opener.got(lie(proof))
    assert fault.value.answer is Answer.DISCONNECT
    assert both.opener.channel == before
    assert both.opener.got(proof).channel.phase is not Phase.OPEN


def test_r9_a_proof_nobody_asked_for_is_ignored():
    both = forgotten(Side.A)
    proof = shown(both)
    both.do(Side.A, Disconnected())
    before = both.opener.channel
    assert both.opener.got(proof).notes == ()
    assert both.opener.channel == before
    old = replace(proof, version=Version(0))
    hello(both.opener)
    assert both.opener.got(old).notes == ()


def test_r9_our_own_proposal_is_no_proof_that_we_forgot():
    """A peer that countersigns our proposal owes an ack; its proof would put us in recovery for good."""
    both = ack_lost()
    acceptor = both.acceptor.channel.current
    both.cut()
    theirs = hello(both.acceptor)
    hello(both.opener)
    both.opener.got(replace(theirs, version=Version(9)))
    proof = Proof(
        version=acceptor.version,
        body=acceptor.body,
        signature_a=acceptor.signature_a,
        signature_b=acceptor.signature_b,
    )
    with pytest.raises(PeerFault) as fault:
        both.opener.got(proof)
    assert fault.value.answer is Answer.DISCONNECT
    assert not both.opener.channel.recovering


def test_r9_a_peer_that_claims_less_than_it_proposed_gets_a_proof():
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    both.cut()
    mine = hello(both.opener)
    hello(both.acceptor)
    lie = replace(mine, version=Version(0), hash=Digest(bytes(32)), base=Version(0))
    assert kinds(both.acceptor.got(lie).sends) == [Proof]
    both.acceptor.do(Disconnected())
    hello(both.acceptor)
    current = both.acceptor.channel.current
    truth = replace(lie, outstanding=current.version, outstanding_hash=current.body_hash)
    assert kinds(both.acceptor.got(truth).sends) == [Ack]


def test_r9_our_own_version_is_not_acknowledged_by_us():
    both = open_pair()
    both.do(Side.B, pay(1, 9))
    both.settle()
    both.do(Side.A, pay(10))
    both.settle()
    both.cut()
    theirs = hello(both.acceptor)
    hello(both.opener)
    current = both.opener.channel.current
    lie = replace(theirs, version=Version(2), outstanding=current.version, outstanding_hash=current.body_hash)
    assert kinds(both.opener.got(lie).sends) == [Proof]


# -- R15: base and cooperate


def asked() -> tuple[Pair, Node, Node]:
    """The opener has asked to leave, the acceptor has signed, and the wire is cut: (pair, asker, signer)."""
    both = open_pair()
    both.do(Side.A, Leave(now=START, valid_for=600))
    both.deliver(Side.B)
    assert both.acceptor.channel.coop is not None
    both.cut()
    return both, both.opener, both.acceptor


def test_r15_a_cooperate_made_on_my_current_is_live_for_me_too():
    _, asker, signer = asked()
    theirs = hello(signer)
    mine = hello(asker)
    asker.got(theirs)
    assert asker.channel.coop is not None
    assert asker.channel.base == signer.channel.base
    again = signer.got(mine).sends
    assert CoopSign in kinds(again), "coop_sign is said again"
    sign = next(one for one in again if isinstance(one, CoopSign))
    assert asker.got(sign).notes == (note.CoopReady(),)
    assert asker.channel.coop.signature_theirs == sign.signature


def test_r15_already_lapsed_there_raises_base_here():
    both, asker, signer = asked()
    signer.do(SeenHead(now=Timestamp(START + 700), final=Timestamp(START + 700)))
    assert signer.channel.coop is None
    c = signer.channel.base
    both.connect()
    both.pump()
    assert asker.channel.base == signer.channel.base == c
    assert asker.channel.coop is None
    asker.channel = replace(asker.channel, leaving=False)
    both.do(Side.A, pay(10))
    both.settle()
    assert asker.channel.current.version == next_version(Side.A, c)


def test_r15_lapsed_here_and_live_there_is_no_fault():
    both, asker, signer = asked()
    both.connect()
    both.pump()
    both.cut()
    asker.do(SeenHead(now=Timestamp(START + 700), final=Timestamp(START + 700)))
    assert (asker.channel.coop, signer.channel.coop is None) == (None, False)
    both.connect()
    both.pump()
    for node in (asker, signer):
        assert node.channel.phase is Phase.OPEN


def false_claims() -> dict[str, Callable[[Pair], Reestablish]]:
    """What an acceptor may falsely say of a cooperate to an opener."""

    def claim(
        both: Pair, *, version: int | None = None, net: int | None = None, until: int = START + 60
    ) -> Reestablish:
        c = both.opener.channel
        coop = Version(next_version(Side.A, c.base) if version is None else version)
        net = c.current.body.net if net is None else net
        digest = cooperate_digest(c.domain, c.id, coop, net, ALL, ALL, Timestamp(until))
        return replace(
            hello(both.acceptor), base=coop, coop_version=coop, coop_digest=digest, coop_valid_until=Timestamp(until)
        )

    return {
        "never asked": lambda both: claim(both),
        "other version": lambda both: claim(both, version=next_version(Side.B, both.opener.channel.base)),
        "other net": lambda both: claim(both, net=-100),
        "for ever": lambda both: claim(both, until=2**64 - 1),
        "too long": lambda both: claim(both, until=START + LONGEST + SKEW + 1),
        "base alone": lambda both: replace(hello(both.acceptor), base=Version(both.opener.channel.base + 1)),
    }


@pytest.mark.parametrize("claim", sorted(false_claims()))
def test_r15_any_other_mismatch_is_an_error(claim: str):
    both = open_pair()
    both.do(Side.A, pay(10))
    both.settle()
    if claim != "never asked":
        both.do(Side.A, Leave(now=START, valid_for=60))
    both.cut()
    said = false_claims()[claim](both)
    hello(both.opener)
    sends = both.opener.got(said).sends
    assert [one.code for one in sends if isinstance(one, Fault)] == ["base_differs"]
    assert both.opener.channel.phase is Phase.FROZEN
    assert both.opener.channel.coop is None


def test_r15_a_cooperate_of_the_version_we_have_proposed_is_not_believed():
    """Else the peer could have two things of ours with one version: the proposal and the cooperate (I11)."""
    both = open_pair()
    both.do(Side.A, Leave(now=START, valid_for=60))
    both.cut()
    both.connect()
    both.pump()
    both.opener.channel = replace(both.opener.channel, leaving=False)
    both.do(Side.A, pay(10))
    both.do(Side.A, Leave(now=START, valid_for=60))
    both.do(Side.A, Propose())
    out = both.opener.channel.outstanding
    assert out is not None
    both.cut()
    c = both.opener.channel
    digest = cooperate_digest(c.domain, c.id, out.version, 0, ALL, ALL, Timestamp(START + 60))
    lie = replace(
        hello(both.acceptor),
        base=out.version,
        coop_version=out.version,
        coop_digest=digest,
        coop_valid_until=Timestamp(START + 60),
    )
    hello(both.opener)
    both.opener.got(lie)
    both.opener.got(CoopSign(coop_version=out.version, signature=both.acceptor.key.sign(digest)))
    assert both.opener.channel.coop is None
    assert [version for version, _ in both.opener.versions] == [out.version]


# -- phases


def test_r16_a_frozen_channel_greets_but_sends_no_commit_again():
    both = proposed()
    both.do(Side.A, CloseAlone())
    both.cut()
    theirs = hello(both.acceptor)
    hello(both.opener)
    assert kinds(both.opener.got(theirs).sends) == []


def test_a_new_session_forgets_the_ask_and_what_waited():
    both = open_pair()
    both.do(Side.A, Leave(now=START, valid_for=60))
    assert both.opener.channel.ask is not None
    both.do(Side.A, Connected())
    assert both.opener.channel.ask is None


def test_lost_locks_and_claims_survive_a_crash():
    both = open_pair()
    both.do(Side.A, offer(10, expiry=START + 1))
    both.settle()
    key = next(iter(both.opener.channel.current.body.locks.values())).key
    both.do(Side.A, SeenHead(now=Timestamp(START + 9), final=Timestamp(START + 9), unregistered=frozenset({key})))
    both.opener.crash()
    assert both.opener.channel.lost == {1}


def test_got_on_a_cut_channel_is_the_peers_fault():
    both = open_pair()
    both.cut()
    with pytest.raises(PeerFault):
        both.opener.do(Got(message=DepositSeen(deposit_a=5, deposit_b=5), now=START))  # type: ignore[arg-type]
