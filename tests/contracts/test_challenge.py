"""challenge: a newer state replaces what the closer showed, and the bond goes to whoever the victim named."""

from __future__ import annotations

import pytest

from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts.world import (
    BEATEN,
    BOND,
    CLOSER_B,
    DELEGATED,
    ETHER,
    PERIOD,
    Body,
    Channel,
    Reverted,
    key_of,
)

OLD, OLDER_STILL, NEW = Body(net=-ETHER), Body(net=-2 * ETHER), Body(net=3 * ETHER)


def stale(channel: Channel, side: Side = Side.A, version: int = 2) -> Channel:
    """The cheat closes with an old state."""
    channel.close(side, version, OLD)
    return channel


def bond_of(channel: Channel, who: Address) -> int:
    return channel.world.balance(NATIVE, who)


def test_a_stale_close_is_beaten_and_the_victim_gets_the_bond(either: Channel) -> None:
    stale(either)
    deadline = either.stored()[3]
    receipt = either.challenge(6, NEW, key_of("anyone").address)
    assert receipt.event("Challenged") == {
        "channel_id": either.id,
        "deposit_a": 10 * ETHER,
        "deposit_b": 4 * ETHER,
        "version": 6,
        "deadline": deadline,
        "flags": BEATEN,
        "body_hash": NEW.hash,
        "bond_to": NATIVE,
    }
    assert either.stored()[2:] == (6, deadline, BEATEN, keccak(NEW.hash + bytes(32)))
    either.wait()
    coin = bond_of(either, either.terms.payout_b)
    either.settle(NEW)
    native = either.token == NATIVE
    assert bond_of(either, either.terms.payout_b) == coin + BOND + 7 * ETHER * native
    assert (either.paid(Side.A), either.paid(Side.B)) == (7 * ETHER, 7 * ETHER + BOND * native)


@pytest.mark.parametrize("victim", list(Side))
def test_the_tower_that_was_named_gets_the_bond(channel: Channel, victim: Side) -> None:
    stale(channel, victim.other)
    receipt = channel.tower_challenge(victim, 6, NEW)
    assert receipt.event("Challenged")["bond_to"] == channel.tower.address
    assert channel.stored()[4] == BEATEN | DELEGATED | (CLOSER_B if victim is Side.A else 0)
    before = bond_of(channel, channel.tower.address)
    channel.wait()
    channel.finalize(NEW, channel.tower.address)
    assert bond_of(channel, channel.tower.address) == before + BOND


def test_only_a_newer_version_counts(channel: Channel) -> None:
    stale(channel, version=4)
    for version in (0, 3, 4):
        with pytest.raises(Reverted, match="old version"):
            channel.tower_challenge(Side.B, version, NEW)
    channel.challenge(5, NEW)
    with pytest.raises(Reverted, match="old version"):
        channel.challenge(4, NEW)


def test_both_signatures_or_the_senders_own_word(channel: Channel) -> None:
    stale(channel)
    signature_a, signature_b = channel.sign(6, NEW.hash)
    wrong = channel.sign(5, NEW.hash)
    for given in ((b"", b""), (signature_a, b""), (b"", signature_b), (signature_b, signature_a), wrong):
        with pytest.raises(Reverted, match="signature"):
            channel.challenge(6, NEW, signatures=given)
    with pytest.raises(Reverted, match="signature"):
        channel.challenge(6, NEW, channel.keys[1].address, signatures=(b"", signature_b))
    channel.challenge(6, NEW, channel.keys[1].address, signatures=(signature_a, b""))


def test_a_copy_without_the_delegation_cannot_unpay_the_tower(channel: Channel) -> None:
    """The tie rule: the same version once more, iff it brings what was missing."""
    stale(channel)
    channel.challenge(6, NEW, key_of("anyone").address)  # the front-runner
    deadline = channel.stored()[3]
    channel.tower_challenge(Side.B, 6, NEW)
    assert channel.stored()[3:] == (deadline, BEATEN | DELEGATED, keccak(NEW.hash + bytes(12) + channel.tower.address))
    thief = key_of("anyone").address
    delegation = channel.delegate(Side.B, 6, thief, 0)
    with pytest.raises(Reverted, match="old version"):  # only once
        channel.challenge(6, NEW, payout=thief, delegation=delegation)


def test_a_tie_without_anything_new_is_refused(channel: Channel) -> None:
    stale(channel)
    channel.challenge(6, NEW)
    with pytest.raises(Reverted, match="nothing new"):
        channel.challenge(6, NEW)


def test_a_tie_cannot_change_the_state(channel: Channel) -> None:
    stale(channel)
    channel.challenge(6, NEW)
    with pytest.raises(Reverted, match="other body"):
        channel.tower_challenge(Side.B, 6, OLDER_STILL)


def test_the_closers_own_version_is_no_tie(channel: Channel) -> None:
    """Unbeaten at 2: the same state with a delegation does not take an honest closer's bond."""
    stale(channel)
    with pytest.raises(Reverted, match="old version"):
        channel.tower_challenge(Side.B, 2, OLD)


def test_an_older_state_shown_first_does_not_shut_out_the_newest(channel: Channel) -> None:
    """A front-runner copies a call with state 4; the tower's 6 is newer and wins state and bond."""
    stale(channel)
    channel.challenge(4, OLDER_STILL, key_of("anyone").address)
    channel.tower_challenge(Side.B, 6, NEW)
    channel.wait()
    before = bond_of(channel, channel.tower.address)
    channel.settle(NEW, channel.tower.address)
    assert bond_of(channel, channel.tower.address) == before + BOND
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (7 * ETHER, 7 * ETHER)


def test_a_delegation_does_not_count_before_its_delay(channel: Channel) -> None:
    stale(channel)
    closed_at = channel.stored()[3] - PERIOD
    receipt = channel.tower_challenge(Side.B, 6, NEW, delay=1000)
    assert receipt.event("Challenged")["bond_to"] == NATIVE  # the challenge counts all the same
    assert channel.stored()[4] == BEATEN
    channel.world.travel(closed_at + 998)
    with pytest.raises(Reverted, match="nothing new"):
        channel.tower_challenge(Side.B, 6, NEW, delay=1001)
    receipt = channel.tower_challenge(Side.B, 6, NEW, delay=1000)
    assert receipt.timestamp >= closed_at + 1000
    assert receipt.event("Challenged")["bond_to"] == channel.tower.address


def test_only_the_victim_delegates(channel: Channel) -> None:
    stale(channel)
    tower = channel.tower.address
    for bad in (
        channel.delegate(Side.A, 6, tower, 5),
        channel.delegate(Side.B, 5, tower, 5),
        channel.delegate(Side.B, 6, tower, 4),
        channel.delegate(Side.B, 6, key_of("anyone").address, 5),
        channel.sign(6, NEW.hash)[1],
        b"",
    ):
        with pytest.raises(Reverted, match="delegation"):
            channel.challenge(6, NEW, payout=tower, delay=5, delegation=bad)
    receipt = channel.challenge(6, NEW, delegation=channel.delegate(Side.B, 6, NATIVE, 0))
    assert receipt.event("Challenged")["flags"] == BEATEN  # nobody is named: there is no delegation


def test_nothing_to_challenge_before_a_close(channel: Channel) -> None:
    with pytest.raises(Reverted, match="not closing"):
        channel.challenge(6, NEW)


def test_until_it_is_final_and_no_longer(channel: Channel) -> None:
    stale(channel)
    channel.wait(5000)
    channel.challenge(6, NEW)
    channel.finalize(NEW)
    with pytest.raises(Reverted, match="final"):
        channel.challenge(8, NEW)
    channel.settle(NEW)
    with pytest.raises(Reverted, match="final"):
        channel.challenge(8, NEW)


def test_a_close_without_a_state_is_beaten_by_any(channel: Channel) -> None:
    channel.close(Side.A)
    channel.challenge(1, NEW)
    channel.wait()
    channel.settle(NEW)
    assert channel.paid(Side.B) == 7 * ETHER + BOND


def test_after_a_cooperate_there_is_no_tie(channel: Channel) -> None:
    """The version on record is the cooperate's: a state that bears it must not come back to life."""
    stale(channel)
    channel.challenge(4, NEW)
    channel.cooperate(6, out_a=ETHER, out_b=0)
    with pytest.raises(Reverted, match="old version"):
        channel.tower_challenge(Side.B, 6, NEW)
