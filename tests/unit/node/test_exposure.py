"""What is at stake while a tower holds an old state: never less than what the other side could take."""

from __future__ import annotations

from random import Random

import pytest

from channeld.base.units import LockId, LockKey, Side, Version
from channeld.core.events import Fulfil, Propose
from channeld.node.exposure import History, at_stake, value
from tests.roles import Node, lock_key, offer, open_pair, pay, preimage

NOTHING: frozenset[LockKey] = frozenset()


def stake(node: Node, history: History, version: int, entrusted: frozenset[LockKey] = NOTHING) -> int:
    history.note(node.channel)
    return at_stake(node.channel, history, Version(version), entrusted)


def test_a_pure_payer_has_nothing_at_stake():
    both = open_pair(1_000, 0)
    payer = both.opener
    history = History(payer.channel)
    for number in range(5):
        both.do(Side.A, pay(10, number))
        assert stake(payer, history, 0) == 0
        both.settle()
        assert stake(payer, history, 0) == 0
    assert payer.channel.current.version > 0


def test_a_payer_by_locks_has_nothing_at_stake():
    both = open_pair(1_000, 0)
    payer = both.opener
    history = History(payer.channel)
    for number in range(1, 4):
        both.do(Side.A, offer(10, number))
        both.settle()
        assert stake(payer, history, 0) == 0
        both.do(Side.B, Fulfil(lock_id=LockId(number), preimage=preimage(number), off_chain=True))
        both.settle()
        assert stake(payer, history, 0) == 0


def test_a_payee_has_all_it_received_since_the_towers_state_at_stake():
    both = open_pair(1_000, 0)
    payee = both.acceptor
    history = History(payee.channel)
    both.do(Side.A, pay(10, 1))
    both.settle()
    assert stake(payee, history, 0) == 10
    first = payee.channel.current.version
    assert stake(payee, history, first) == 0
    both.do(Side.A, pay(5, 2))
    both.settle()
    assert stake(payee, history, first) == 5


def test_what_was_paid_and_came_back_is_at_stake():
    both = open_pair(1_000, 500)
    node = both.opener
    history = History(node.channel)
    both.do(Side.A, pay(10, 1))
    both.settle()
    assert stake(node, history, 0) == 0
    both.do(Side.B, pay(4, 2))
    both.settle()
    assert stake(node, history, 0) == 4


def test_a_claimed_preimage_is_at_stake_until_the_tower_has_it_and_the_newer_state():
    both = open_pair(1_000, 0)
    payee = both.acceptor
    history = History(payee.channel)
    both.do(Side.A, offer(10, 1))
    both.settle()
    version = payee.channel.current.version
    assert stake(payee, history, version) == 0
    payee.do(Fulfil(lock_id=LockId(1), preimage=preimage(1), off_chain=False))
    assert value(payee.channel) == 10
    assert stake(payee, history, version) == 10
    assert stake(payee, history, version, frozenset({lock_key(1)})) == 0
    both.do(Side.B, Fulfil(lock_id=LockId(1), preimage=preimage(1), off_chain=True))
    both.settle()
    # The old state's lock runs out: only the newer state makes the money safe.
    assert stake(payee, history, version, frozenset({lock_key(1)})) == 10
    assert stake(payee, history, payee.channel.current.version) == 0


def test_a_node_that_does_not_know_its_past_assumes_the_worst():
    both = open_pair(1_000, 500)
    both.do(Side.A, pay(10, 1))
    both.settle()
    history = History(both.acceptor.channel)
    assert stake(both.acceptor, history, 0) == 510
    assert stake(both.acceptor, history, both.acceptor.channel.current.version) == 0


@pytest.mark.parametrize("seed", range(60))
def test_no_state_that_was_signed_is_worse_than_history_says(seed: int):
    """Also states that were signed and lost within one turn, and turns that nobody was told of."""
    dice = Random(seed)
    both = open_pair(10_000, 10_000)
    histories = {side: History(both.node(side).channel) for side in Side}
    for number in range(120):
        side = dice.choice(list(Side))
        quiet = False
        if dice.random() < 0.4:
            both.do(side, pay(dice.randint(1, 20), number))
            both.do(side, Propose())
            quiet = dice.random() < 0.7  # a turn without notes is not told
        else:
            for _ in range(dice.randint(1, 2)):
                both.deliver(side)
            both.do(side, Propose())
        node, history = both.node(side), histories[side]
        channel = node.channel
        if quiet:
            continue
        history.note(channel)
        for held in sorted(node.bodies):
            signed = [
                node.bodies[version].balance(side, channel.heard[side])
                for version in node.bodies
                if held <= version <= channel.current.version
            ]
            if signed:
                assert history.worst(channel, Version(held)) <= min(signed)
