"""In recovery (I28): what our store no longer knows is neither paid nor returned, but forgotten, and comes to an end.

A payer's copy holds a lock or a transfer that was decided after the copy was made; the proof it adopts, the close it
sees or the cooperate that ends the channel do not show how.
"""

from __future__ import annotations

import pytest

from channeld.base.errors import Refused
from channeld.base.units import LockId, Side, Timestamp, Version
from channeld.core import effects as note
from channeld.core.channel import Phase
from channeld.core.events import (
    Cancel,
    Fail,
    Fulfil,
    Propose,
    Recover,
    SeenCooperated,
    SeenHead,
    SeenSettled,
)
from channeld.core.saved import load
from tests.roles import START, Pair, lock_key, name, offer, open_pair, pay, preimage
from tests.unit.core.test_closing import close_of
from tests.unit.core.test_recovering import proof_of, restored

LOCK = LockId(1)


def decided(*, paid: bool) -> tuple[Pair, bytes]:
    """The opener has offered a lock; its copy is from before the acceptor took it, or gave it back."""
    both = open_pair()
    both.do(Side.A, offer(50))
    both.settle()
    copy = both.opener.disk
    both.do(Side.B, Fulfil(lock_id=LOCK, preimage=preimage(1)) if paid else Fail(lock_id=LOCK, reason=b""))
    both.settle()
    both.cut()
    both.opener.notes.clear()
    return both, copy


def forgotten(both: Pair) -> list[object]:
    return [one.what for one in both.opener.notes if isinstance(one, note.Forgotten)]


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("by", ["peer", "tower"])
def test_a_lock_that_the_proven_state_lacks_is_forgotten(paid: bool, by: str):
    both, copy = decided(paid=paid)
    if by == "tower":
        restored(both.opener, copy, Recover(reason="a tower", proof=proof_of(both.acceptor.channel)))
    else:
        restored(both.opener, copy, Recover(reason="a copy"))
        both.connect()
        both.pump()
    assert both.opener.channel.current == both.acceptor.channel.current
    assert forgotten(both) == [LOCK]
    assert not any(isinstance(one, note.Returned | note.Learned) for one in both.opener.notes)


def test_what_was_proposed_and_what_was_queued_is_forgotten_each_in_its_time():
    both = open_pair()
    both.do(Side.A, pay(5, 1))
    both.do(Side.A, Propose())
    both.do(Side.A, pay(6, 2))
    copy = both.opener.disk
    both.settle()
    both.cut()
    both.opener.notes.clear()
    restored(both.opener, copy, Recover(reason="a tower", proof=proof_of(both.acceptor.channel)))
    assert forgotten(both) == [name(1)], "the one that was queued could still be in a state nobody has shown"
    both.opener.do(close_of(both.opener.channel))
    both.opener.do(SeenSettled(version=both.opener.channel.current.version))
    assert forgotten(both) == [name(1), name(2)]
    assert not any(isinstance(one, note.Dropped) for one in both.opener.notes)


@pytest.mark.parametrize("known", [True, False])
def test_only_what_the_final_state_holds_comes_back(known: bool):
    """The peer hides that it took the lock: before the outcome stands on chain, R20 says nothing about it."""
    both, copy = decided(paid=True)
    restored(both.opener, copy, Recover(reason="a copy"))
    late = SeenHead(now=Timestamp(START + 9_000), final=Timestamp(START + 9_000), unregistered=frozenset({lock_key(1)}))
    both.opener.do(late)
    assert not any(isinstance(one, note.Returned | note.Forgotten) for one in both.opener.notes)
    both.opener.do(close_of(both.opener.channel if known else both.acceptor.channel))
    both.opener.do(SeenSettled(version=Version(1)))
    both.opener.do(late)
    came = [one.lock_id for one in both.opener.notes if isinstance(one, note.Returned)]
    assert (came, forgotten(both)) == (([LOCK], []) if known else ([], [LOCK]))


def test_a_state_on_chain_that_we_do_not_remember_signing_means_recovery():
    """The contract takes no state without our signature: one above all we know of shows that our store is old."""
    both, copy = decided(paid=True)
    both.opener.disk = copy
    both.opener.crash()
    both.opener.do(close_of(both.acceptor.channel))
    assert both.opener.channel.recovering
    assert load(both.opener.disk).recovering
    both.acceptor.do(close_of(both.acceptor.channel, closer=Side.A))
    assert not both.acceptor.channel.recovering


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_cooperate_that_we_do_not_remember_signing_leaves_no_outcome_behind(ahead: int):
    both = open_pair()
    both.cut()
    both.opener.do(pay(5, 1))
    both.opener.notes.clear()
    both.opener.do(SeenCooperated(version=Version(both.opener.channel.top[0] + ahead)))
    assert both.opener.channel.phase is Phase.CLOSED
    assert forgotten(both) == ([name(1)] if ahead else [])
    assert any(isinstance(one, note.Dropped) for one in both.opener.notes) == (not ahead)


def test_what_a_copy_has_queued_is_not_taken_back():
    both = open_pair()
    both.cut()
    both.opener.do(offer(50))
    both.opener.do(Recover(reason="a copy"))
    with pytest.raises(Refused) as told:
        both.opener.do(Cancel(lock_id=LOCK))
    assert told.value.code == "already_offered"


def test_a_lock_that_was_queued_and_is_not_in_the_final_state_is_forgotten():
    """The original may have offered it, and the peer may have taken it: upstream is not failed for it (R8)."""
    both = open_pair()
    both.cut()
    both.opener.do(offer(50))
    both.opener.do(Recover(reason="a copy"))
    both.opener.notes.clear()
    both.opener.do(close_of(both.opener.channel))
    both.opener.do(SeenSettled(version=both.opener.channel.current.version))
    assert forgotten(both) == [LOCK]
    assert not any(isinstance(one, note.Returned) for one in both.opener.notes)
