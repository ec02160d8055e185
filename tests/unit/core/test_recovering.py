"""Recovery (R16): a channel whose store is older than it signs nothing ever again, whoever says so, and adopts proofs.

Every copy, from one state back to the first, of either side; an honest peer, one that hides what is newer, and a tower
that knows it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from channeld.base.errors import PeerFault, Refused
from channeld.base.units import Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import Body, Channel, Phase
from channeld.core.events import CloseAlone, Connected, Leave, Propose, Recover
from channeld.core.messages import Commit, CoopPropose, Proof, Reestablish
from channeld.core.saved import load
from tests.roles import START, Node, Pair, offer, open_pair, pay
from tests.unit.core.test_closing import close_of

STATES = 6


def history(side: Side) -> tuple[Pair, list[bytes]]:
    """A pair that has moved, and what `side` had on disk after each state, oldest first."""
    both, disks = open_pair(), []
    for number in range(1, STATES + 1):
        disks.append(both.node(side).disk)
        both.do(Side.A if number % 2 else Side.B, pay(10 * number, number))
        both.settle()
    both.cut()
    return both, disks


def proof_of(channel: Channel) -> Proof:
    state = channel.current
    return Proof(version=state.version, body=state.body, signature_a=state.signature_a, signature_b=state.signature_b)


def restored(node: Node, disk: bytes, event: Recover) -> None:
    node.disk = disk
    node.crash()
    node.do(event)
    node.versions.clear()


def tempt(both: Pair, side: Side) -> None:
    """Everything that would make an honest node sign."""
    node = both.node(side)
    for event in (pay(1, 90), offer(1, 91), Propose(), Leave(now=START, valid_for=60)):
        try:
            both.do(side, event)
        except Refused:
            pass
    channel = node.channel
    ask = CoopPropose(
        version=channel.current.version,
        hash=channel.current.body_hash,
        coop_version=Version(channel.base + 2),
        net=channel.current.body.net,
        valid_until=Timestamp(START + 60),
    )
    updates = tuple(u for u in (channel.outstanding.updates if channel.outstanding else ()))
    commit = Commit(version=Version(channel.base + 3), base=channel.base, updates=updates, signature=bytes(65))
    for message in (ask, replace(ask, coop_version=Version(channel.base + 3)), commit):
        try:
            node.got(message)
        except PeerFault:
            pass
    both.settle()


@pytest.mark.parametrize(("side", "back"), list(product(Side, range(STATES))))
def test_a_declared_copy_with_an_honest_peer_ends_with_the_newest_state(side: Side, back: int):
    both, disks = history(side)
    node, newest = both.node(side), both.peer(side).channel.current
    restored(node, disks[back], Recover(reason="a copy"))
    assert (node.channel.phase, node.channel.recovering) == (Phase.FROZEN, True)
    both.connect()
    both.pump()
    tempt(both, side)
    assert node.versions == []
    assert node.channel.current == newest
    assert both.peer(side).channel.phase is Phase.FROZEN, "it was told, and waits for nothing"
    assert load(node.disk).recovering


@pytest.mark.parametrize(("side", "back"), list(product(Side, range(STATES))))
def test_a_peer_that_hides_the_newer_state_gets_no_second_signature(side: Side, back: int):
    both, disks = history(side)
    node = both.node(side)
    restored(node, disks[back], Recover(reason="a copy"))
    both.up = True
    both.do(side, Connected())
    hello = both.wires[side.other].popleft()
    assert isinstance(hello, Reestablish)
    node.got(hello)  # it echoes what we say: nothing newer is known
    tempt(both, side)
    assert node.versions == []
    assert node.channel.phase is Phase.FROZEN


@pytest.mark.parametrize(("side", "back"), list(product(Side, range(STATES))))
def test_what_a_tower_proves_is_adopted_without_the_peer(side: Side, back: int):
    both, disks = history(side)
    node, newest = both.node(side), both.peer(side).channel
    restored(node, disks[back], Recover(reason="a tower", proof=proof_of(newest)))
    assert node.channel.current == newest.current
    assert node.channel.top[0] == newest.current.version
    assert note.Advanced(version=newest.current.version) in node.notes
    tempt(both, side)
    assert node.versions == []
    node.do(CloseAlone())
    assert node.channel.closing_alone
    assert node.channel.current == newest.current, "this is what goes on chain"


def test_what_the_tower_shows_must_be_proven():
    both, disks = history(Side.A)
    node, newest = both.opener, proof_of(both.acceptor.channel)
    for lie in (
        replace(newest, body=Body(newest.body.net + 1)),
        replace(newest, version=Version(newest.version + 2)),
        replace(newest, signature_a=newest.signature_b),
        replace(newest, signature_b=bytes(65)),
    ):
        node.disk = disks[2]
        node.crash()
        before = node.channel.current
        node.do(Recover(reason="a tower", proof=lie))
        assert (node.channel.current, node.channel.recovering) == (before, True), "old it is all the same"


def test_an_older_proof_changes_nothing_but_that_it_is_old():
    both, disks = history(Side.A)
    old = load(disks[3])
    both.opener.do(Recover(reason="a tower", proof=proof_of(old)))
    assert both.opener.channel.current == both.acceptor.channel.current
    assert both.opener.channel.recovering


def test_our_own_proposal_is_adopted_with_what_it_paid():
    """The tower holds what the peer had acknowledged; our copy knows it as unanswered."""
    both = open_pair()
    both.do(Side.A, pay(7, 1))
    both.do(Side.A, Propose())
    copy = both.opener.disk
    both.pump()
    both.cut()
    newest = both.opener.channel
    assert load(copy).outstanding is not None
    both.opener.notes.clear()
    restored(both.opener, copy, Recover(reason="a tower", proof=proof_of(newest)))
    assert both.opener.channel.current == newest.current
    assert both.opener.channel.outstanding is None
    assert [type(one) for one in both.opener.notes] == [note.Frozen, note.Sent, note.Advanced]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("who", ["the peer", "a tower"])
def test_a_proposal_that_the_proven_state_is_past_is_given_up(side: Side, who: str):
    """The copy knows its proposal as unanswered; it was acknowledged, and others came after it."""
    both = open_pair()
    both.do(side, pay(7, 1))
    both.do(side, Propose())
    copy = both.node(side).disk
    out = load(copy).outstanding
    assert out is not None
    both.settle()
    both.do(side, pay(8, 2))
    both.settle()
    both.cut()
    newest = both.node(side).channel.current
    assert newest.version > out.version
    node = both.node(side)
    if who == "a tower":
        restored(node, copy, Recover(reason=who, proof=proof_of(both.node(side.other).channel)))
    else:
        node.disk = copy
        node.crash()
        both.connect()
        both.settle()
    assert node.channel.recovering
    assert (node.channel.current, node.channel.outstanding) == (newest, None)


def test_a_copy_that_is_closing_challenges_with_what_the_tower_knows():
    both, disks = history(Side.B)
    node, newest = both.acceptor, both.opener.channel
    node.disk = disks[1]
    node.crash()
    node.do(close_of(load(disks[1]), closer=Side.A))
    assert node.channel.phase is Phase.CLOSING
    node.do(Recover(reason="a tower", proof=proof_of(newest)))
    assert (node.channel.phase, node.channel.recovering) == (Phase.CLOSING, True)
    assert node.channel.current == newest.current
