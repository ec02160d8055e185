"""Our own updates on their way into a proposal, and every refusal on that way."""

from __future__ import annotations

import pytest

from channeld.base.errors import Refused
from channeld.base.units import MAX_AMOUNT, LockId, Preimage, Side
from channeld.core import effects as note
from channeld.core.channel import Phase
from channeld.core.events import Cancel, CloseAlone, Event, Fail, Fulfil, Leave, Propose
from channeld.core.messages import FailLock, FulfilLock
from tests.roles import START, Node, Pair, offer, open_pair, pair, pay, preimage


def refused(node: Node, event: Event) -> str:
    before = node.channel
    with pytest.raises(Refused) as refusal:
        node.do(event)
    assert node.channel is before, "nothing has changed"
    assert refusal.value.text
    return refusal.value.code


def incoming() -> Pair:
    """Lock 1 of the opener, 50, waits for the acceptor."""
    both = open_pair()
    both.do(Side.A, offer(50))
    both.settle()
    return both


@pytest.mark.parametrize("wish", [pay(10), offer(10)])
def test_refused_channel_not_open(wish: Event):
    assert refused(pair().opener, wish) == "channel_not_open"


@pytest.mark.parametrize("wish", [pay(10), offer(10)])
def test_refused_channel_closing(wish: Event):
    frozen, leaving, signer = open_pair(), open_pair(), open_pair()
    frozen.do(Side.A, CloseAlone())
    leaving.do(Side.A, Leave(now=START, valid_for=60))
    signer.do(Side.B, Leave(now=START, valid_for=60))
    signer.pump()
    assert signer.opener.channel.coop is not None
    for both in (frozen, leaving, signer):
        assert refused(both.opener, wish) == "channel_closing"


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1])
def test_refused_bad_amount(amount: int):
    assert refused(open_pair().opener, pay(amount)) == "bad_amount"


def test_refused_insufficient_balance_counts_queue_locks_and_proposals():
    both = open_pair(100, 0)
    assert refused(both.opener, pay(101)) == "insufficient_balance"
    both.do(Side.A, offer(30))
    both.do(Side.A, Propose())
    both.do(Side.A, pay(50))
    assert both.opener.channel.spendable == 20
    assert refused(both.opener, pay(21)) == "insufficient_balance"
    both.do(Side.A, pay(20, 2))
    assert both.opener.channel.spendable == 0
    assert refused(both.acceptor, pay(1)) == "insufficient_balance"


def test_refused_too_many_locks_counts_what_is_queued():
    both = open_pair(max_locks=2)
    both.do(Side.A, offer(1, 1))
    both.do(Side.A, Propose())
    both.do(Side.A, offer(1, 2))
    assert refused(both.opener, offer(1, 3)) == "too_many_locks"
    both.do(Side.B, offer(1, 4))  # the other direction counts for itself


def test_offer_names_its_lock_in_rising_order():
    both = open_pair()
    first = both.do(Side.A, offer(1, 1)).notes
    second = both.do(Side.A, offer(1, 2)).notes
    assert first == (note.Queued(tag=(1).to_bytes(4, "big"), lock_id=LockId(1)),)
    assert second == (note.Queued(tag=(2).to_bytes(4, "big"), lock_id=LockId(2)),)


def test_refused_wrong_preimage():
    both = incoming()
    assert refused(both.acceptor, Fulfil(lock_id=LockId(1), preimage=Preimage(b"!" * 32))) == "wrong_preimage"


def test_i14_a_known_preimage_is_never_failed():
    both = incoming()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1), off_chain=False))
    both.acceptor.crash()
    assert refused(both.acceptor, Fail(lock_id=LockId(1), reason=b"")) == "preimage_known"


def test_i14_a_fail_that_waits_is_taken_back_by_the_preimage():
    both = incoming()
    both.do(Side.B, Fail(lock_id=LockId(1), reason=b""))
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    assert [type(one) for one in both.acceptor.channel.queue] == [FulfilLock]


def test_refused_already_failed_once_signed():
    both = incoming()
    both.do(Side.B, Fail(lock_id=LockId(1), reason=b""))
    both.do(Side.B, Propose())
    assert refused(both.acceptor, Fulfil(lock_id=LockId(1), preimage=preimage(1))) == "already_failed"


def test_said_twice_it_is_one():
    both = incoming()
    for _ in range(2):
        both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    assert [type(one) for one in both.acceptor.channel.queue] == [FulfilLock]
    both.do(Side.B, Propose())
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    assert not both.acceptor.channel.queue
    both.settle()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    assert not both.acceptor.channel.queue
    failing = incoming()
    for _ in range(2):
        failing.do(Side.B, Fail(lock_id=LockId(1), reason=b""))
    assert [type(one) for one in failing.acceptor.channel.queue] == [FailLock]
    failing.settle()
    failing.do(Side.B, Fail(lock_id=LockId(1), reason=b""))
    assert not failing.acceptor.channel.queue


def test_r17_past_the_cut_off_the_preimage_is_only_remembered():
    both = incoming()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1), off_chain=False))
    assert not both.acceptor.channel.queue
    assert both.acceptor.channel.claims == {1: preimage(1)}
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))  # registered by now
    assert len(both.acceptor.channel.queue) == 1


def test_r16_in_a_frozen_channel_a_preimage_is_kept_and_nothing_queued():
    both = incoming()
    both.do(Side.B, CloseAlone())
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    assert both.acceptor.channel.claims == {1: preimage(1)}
    assert not both.acceptor.channel.queue
    assert both.acceptor.channel.phase is Phase.FROZEN


def test_claims_end_when_the_fulfil_is_agreed():
    both = incoming()
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1)))
    both.settle()
    assert both.acceptor.channel.claims == {}
    assert both.acceptor.channel.balance == 550


def test_cancel_takes_a_queued_lock_back():
    both = open_pair(100, 0)
    both.do(Side.A, offer(100))
    done = both.do(Side.A, Cancel(lock_id=LockId(1)))
    assert done.notes == (note.Returned(lock_id=LockId(1), reason=b""),)
    assert both.opener.channel.spendable == 100
    both.do(Side.A, offer(10, 2))
    both.settle()
    assert list(both.acceptor.channel.current.body.locks) == [(Side.A, 2)]


@pytest.mark.parametrize("agreed", [False, True])
def test_refused_already_offered(agreed: bool):
    both = open_pair()
    both.do(Side.A, offer(10))
    both.do(Side.A, Propose())
    if agreed:
        both.pump()
    assert refused(both.opener, Cancel(lock_id=LockId(1))) == "already_offered"
    assert refused(both.opener, Cancel(lock_id=LockId(9))) == "already_offered"


@pytest.mark.parametrize("valid_for", [0, -1, 3_601])
def test_refused_bad_validity(valid_for: int):
    assert refused(open_pair().opener, Leave(now=START, valid_for=valid_for)) == "bad_validity"
