"""Every moment at which something begins or ends to count: the second before, the second itself, the second after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from channeld.base.units import NATIVE, Seconds, Side
from tests.contracts.world import BOND, ETHER, MIN_PERIOD, PERIOD, Body, Channel, Reverted, World, lock, secret_of

SECONDS: Final = (-1, 0, 1)
BODY: Final = Body(net=ETHER)


def at(channel: Channel, moment: int, offset: int) -> None:
    """The next transaction is mined at `moment` + `offset`."""
    channel.world.travel(moment + offset - 1)
    assert channel.world.now == moment + offset - 1


def counts(act: Callable[[], object], reason: str) -> bool:
    """Whether it goes through; AssertionError if it fails for another reason than this."""
    try:
        act()
    except Reverted as reverted:
        if reverted.reason != reason:
            raise AssertionError(reverted.reason) from reverted
        return False
    return True


@pytest.mark.parametrize("offset", SECONDS)
@pytest.mark.parametrize("call", ["finalize", "settle"])
def test_the_end_comes_after_the_deadline(channel: Channel, call: str, offset: int) -> None:
    channel.close(Side.A, 1, BODY)
    at(channel, channel.stored()[3], offset)
    act = (lambda: channel.finalize(BODY)) if call == "finalize" else (lambda: channel.settle(BODY))
    assert counts(act, "too early") is (offset > 0)


@pytest.mark.parametrize("offset", SECONDS)
def test_a_challenge_counts_until_it_is_final_whatever_the_clock_says(channel: Channel, offset: int) -> None:
    channel.close(Side.A, 1, BODY)
    at(channel, channel.stored()[3], offset)
    assert counts(lambda: channel.challenge(2, BODY), "never")


@pytest.mark.parametrize("offset", SECONDS)
@pytest.mark.parametrize("delay", [0, 1, 1800, PERIOD - 1, PERIOD, PERIOD + 5])
def test_a_delegation_counts_from_its_delay_on(channel: Channel, delay: int, offset: int) -> None:
    closed = channel.close(Side.A, 1, BODY).timestamp
    if delay + offset <= 0:
        return  # no transaction comes before the close
    at(channel, closed + delay, offset)
    receipt = channel.tower_challenge(Side.B, 2, BODY, delay=delay)
    assert (receipt.event("Challenged")["bond_to"] == channel.tower.address) is (offset >= 0)


@pytest.mark.parametrize("offset", SECONDS)
@pytest.mark.parametrize("asked", [0, 1, MIN_PERIOD - 1, MIN_PERIOD, MIN_PERIOD + 1, 30 * 86400, 2**32 - 1])
def test_delays_are_counted_from_the_close_whatever_the_terms_ask(world: World, asked: int, offset: int) -> None:
    """The period is clamped, and the time of the close is the deadline less the clamped period."""
    channel = world.channel(challenge_period=Seconds(asked)).funded()
    receipt = channel.close(Side.A, 1, BODY)
    period = max(MIN_PERIOD, min(asked, 30 * 86400))
    assert channel.stored()[3] == receipt.timestamp + period
    at(channel, receipt.timestamp + 30, offset)
    told = channel.tower_challenge(Side.B, 2, BODY, delay=30).event("Challenged")
    assert (told["bond_to"] != NATIVE) is (offset >= 0)


@pytest.mark.parametrize("offset", SECONDS)
def test_a_cooperate_counts_until_valid_until(channel: Channel, offset: int) -> None:
    until = channel.world.now + 500
    at(channel, until, offset)
    assert counts(lambda: channel.cooperate(1, valid_until=until), "expired") is (offset <= 0)


@pytest.mark.parametrize("offset", SECONDS)
def test_an_order_counts_until_valid_until(channel: Channel, offset: int) -> None:
    until = channel.world.now + 500
    order = channel.order(Side.A, 1, BODY.hash, until)
    at(channel, until, offset)
    act = lambda: channel.close(Side.A, 1, BODY, sender=channel.world.rich, order=order)  # noqa: E731
    assert counts(act, "expired") is (offset <= 0)


@pytest.mark.parametrize("offset", SECONDS)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("sender", list(Side))
def test_a_lock_is_its_receivers_until_expiry_and_its_senders_after(
    world: World, offset: int, known: bool, sender: Side
) -> None:
    """Registered or resolved a second round the expiry: exactly one of the two has it, and never both a claim."""
    channel = world.channel(close_bond=0).funded()
    world.count += 1
    number = world.count
    one = lock(number, sender, 7, world.now + 5 * PERIOD)
    body = Body(locks=(one,))
    channel.close(Side.A, 1, body)
    channel.wait()
    channel.settle(body)
    before = {side: channel.paid(side) for side in Side}
    at(channel, one.expiry, offset)
    channel.resolve((one,), *([secret_of(number)] if known else []))
    gained = {side: channel.paid(side) - before[side] for side in Side}
    if known and offset <= 0:
        assert gained == {sender: 0, sender.other: 7}
    elif offset > 0:
        assert gained == {sender: 7, sender.other: 0}
    else:
        assert gained == {sender: 0, sender.other: 0} and channel.stored()[5] != bytes(32)


@pytest.mark.parametrize("offset", SECONDS)
def test_registered_a_second_round_the_expiry_and_resolved_years_later(world: World, offset: int) -> None:
    channel = world.channel(close_bond=0).funded()
    world.count += 1
    one = lock(world.count, Side.A, 7, world.now + 5 * PERIOD)
    body = Body(locks=(one,))
    channel.close(Side.A, 1, body)
    channel.wait()
    channel.settle(body)
    at(channel, one.expiry, offset)
    assert world.reveal(secret_of(world.count)).timestamp == one.expiry + offset
    world.travel(world.now + 10**8)
    channel.resolve((one,))
    assert channel.paid(Side.B) == 4 * ETHER + (7 if offset <= 0 else 0)
    assert channel.paid(Side.A) == 10 * ETHER - (7 if offset <= 0 else 0)


def test_the_bond_is_back_at_the_first_second_after(channel: Channel) -> None:
    channel.close(Side.A)
    at(channel, channel.stored()[3], 1)
    channel.finalize(None)
    assert channel.paid(Side.A) == BOND
