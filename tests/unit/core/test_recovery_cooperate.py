"""Recovery's way out: one cooperate under a version drawn from 2^39 up, offered by who is in recovery."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from channeld.base.units import MAX_VERSION, RECOVERY_FROM, Side, Timestamp
from channeld.core.channel import Phase
from channeld.core.events import Leave, Recover, SeenHead
from channeld.core.messages import CoopNo, CoopPropose
from tests.roles import START, Pair, open_pair
from tests.unit.core.test_recovering import STATES, history, restored

DRAW = 12_345


def leave(draw: int | None = DRAW) -> Leave:
    return Leave(now=START, valid_for=60, draw=draw)


def back_again(side: Side, back: int) -> Pair:
    both, disks = history(side)
    restored(both.node(side), disks[back], Recover(reason="a copy"))
    both.connect()
    both.pump()
    return both


@pytest.mark.parametrize(("side", "back"), list(product(Side, range(STATES))))
def test_it_ends_with_the_newest_state_the_peer_proves(side: Side, back: int):
    both = back_again(side, back)
    node, peer = both.node(side), both.peer(side)
    both.do(side, leave())
    both.pump()
    assert node.channel.coop is not None
    assert peer.channel.coop is not None
    assert node.channel.coop.version == peer.channel.coop.version == RECOVERY_FROM + DRAW
    assert node.channel.coop.net == peer.channel.current.body.net
    assert node.channel.coop.signature_theirs == peer.channel.coop.signature_ours
    assert [version for version, _ in node.versions] == [RECOVERY_FROM + DRAW]


@pytest.mark.parametrize("side", Side)
def test_it_signs_no_version_that_it_has_not_drawn(side: Side):
    both = back_again(side, 2)
    node, peer = both.node(side), both.peer(side)
    assert not both.do(side, leave(None)).sends
    both.do(side.other, leave())
    both.pump()
    assert peer.channel.coop is None
    current = peer.channel.current
    offer = CoopPropose(
        version=current.version,
        hash=current.body_hash,
        coop_version=type(current.version)(RECOVERY_FROM + 7),
        net=current.body.net,
        valid_until=Timestamp(START + 60),
    )
    assert node.got(offer).sends == (CoopNo(coop_version=offer.coop_version),)
    assert node.versions == []


def test_who_was_not_told_of_a_recovery_takes_no_such_version():
    both = open_pair()
    current = both.acceptor.channel.current
    offer = CoopPropose(
        version=current.version,
        hash=current.body_hash,
        coop_version=type(current.version)(RECOVERY_FROM),
        net=0,
        valid_until=Timestamp(START + 60),
    )
    assert both.acceptor.got(offer).sends == (CoopNo(coop_version=offer.coop_version),)


@pytest.mark.parametrize("side", Side)
def test_when_both_offer_the_one_in_recovery_is_answered(side: Side):
    both = back_again(side, 1)
    both.do(side.other, leave())
    both.do(side, leave())
    both.pump()
    assert both.node(side).channel.coop is not None
    assert both.peer(side).channel.coop is not None


@pytest.mark.parametrize("side", Side)
def test_after_a_lapse_another_is_drawn_above_it(side: Side):
    """The answer is lost, so only the peer has it live; then it lapses, and they meet again."""
    both = back_again(side, 3)
    both.do(side, leave())
    both.deliver(side.other)
    both.cut()
    assert both.peer(side).channel.coop is not None
    assert both.node(side).channel.coop is None
    both.connect()
    both.pump()
    late = Timestamp(START + 61)
    for one in Side:
        both.do(one, SeenHead(now=late, final=late))
        both.node(one).now = late
    both.do(side, replace(leave(), now=late))
    both.pump()
    assert both.peer(side).channel.coop is None, "the same version is not signed twice"
    both.do(side, replace(leave(DRAW + 1), now=late))
    both.pump()
    coop = both.node(side).channel.coop
    assert coop is not None
    assert coop.version == RECOVERY_FROM + DRAW + 1
    assert both.peer(side).channel.phase is Phase.FROZEN


def test_a_draw_never_leaves_the_range():
    for draw in (0, 2**39 - 1, 2**39, 2**64 - 1):
        both = back_again(Side.A, 1)
        (offer,) = both.do(Side.A, leave(draw)).sends
        assert isinstance(offer, CoopPropose)
        assert RECOVERY_FROM <= offer.coop_version <= MAX_VERSION
