"""deposit_many and challenge_many: one transaction for many channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from channeld.base.units import MAX_AMOUNT, NATIVE, Side
from tests.contracts.world import BEATEN, DELEGATED, ETHER, Body, Channel, Receipt, Reverted, World, key_of, words_of

NOTHING = words_of(bytes(192))
MEMO = bytes(range(1, 193))
OLD, NEW = Body(net=-ETHER), Body(net=3 * ETHER)


def put(world: World, channel: Channel, deposits: list[tuple[Any, ...]], value: int | None = None) -> Receipt:
    sender = key_of("payer").address
    total = sum(one[2] for one in deposits) if channel.token == NATIVE else 0
    given = ("deposit_many", channel.token, deposits)
    return world.do(sender, world.manager, *given, value=total if value is None else value)


def test_each_is_credited_and_each_has_its_memo(world: World, money: bytes) -> None:
    one, two, three = (world.channel(money) for _ in range(3))  # type: ignore[arg-type]
    held = world.balance(one.token, world.manager)
    deposits = [
        (one.terms.hash, 0, 5, words_of(MEMO)),
        (two.terms.hash, 1, 7, NOTHING),
        (three.terms.hash, 0, 11, NOTHING),
        (one.terms.hash, 1, 13, NOTHING),
    ]
    receipt = put(world, one, deposits)
    assert receipt.names() == ["Memo", "Deposited", "Deposited", "Deposited", "Deposited"]
    assert receipt.events[0].fields == {"channel_id": one.id, "memo": MEMO}
    assert [channel.stored()[:2] for channel in (one, two, three)] == [(5, 13), (0, 7), (11, 0)]
    assert world.balance(one.token, world.manager) == held + 36


def test_all_or_none(world: World, money: bytes) -> None:
    one, closing = world.channel(money), world.channel(money).funded()  # type: ignore[arg-type]
    closing.close(Side.A)
    good = (one.terms.hash, 0, 5, NOTHING)
    held = world.balance(one.token, world.manager)
    for bad, reason in (
        ((one.terms.hash, 2, 5, NOTHING), "side"),
        ((one.terms.hash, 0, 0, NOTHING), "nothing"),
        ((closing.terms.hash, 0, 5, NOTHING), "not open"),
    ):
        for deposits in ([good, bad], [bad, good]):
            with pytest.raises(Reverted, match=reason):
                put(world, one, deposits)
    assert one.stored()[:2] == (0, 0)
    assert world.balance(one.token, world.manager) == held


def test_exactly_the_sum_has_to_be_sent(world: World) -> None:
    one = world.channel()
    deposits = [(one.terms.hash, 0, 5, NOTHING), (one.terms.hash, 1, 6, NOTHING)]
    for value in (0, 10, 12):
        with pytest.raises(Reverted, match="value"):
            put(world, one, deposits, value)
    with pytest.raises(Reverted, match="value"):
        put(world, world.channel(world.token), deposits, 11)


def test_a_token_that_takes_a_cut_cannot_be_split(world: World) -> None:
    one = world.channel(world.nasty)
    world.do(world.rich, world.nasty, "set_mode", 4)
    with pytest.raises(Reverted, match="transfer"):
        put(world, one, [(one.terms.hash, 0, 1000, NOTHING)])
    world.do(world.rich, world.nasty, "set_mode", 0)
    put(world, one, [(one.terms.hash, 0, 1000, NOTHING)])


def test_a_sum_beyond_all_numbers_is_refused(world: World) -> None:
    one = world.channel(world.nasty)
    for amount in (2**255, MAX_AMOUNT + 1):
        with pytest.raises(Reverted, match="too much"):
            put(world, one, [(one.terms.hash, 0, 1, NOTHING), (one.terms.hash, 0, amount, NOTHING)])
    world.do(world.rich, world.nasty, "mint", key_of("payer").address, 2**90)
    with pytest.raises(Reverted, match="too much"):
        put(world, one, [(one.terms.hash, 0, MAX_AMOUNT, NOTHING), (one.terms.hash, 1, 1, NOTHING)])
    assert one.stored()[:2] == (0, 0)
    put(world, one, [(one.terms.hash, 0, MAX_AMOUNT, NOTHING)])
    assert one.stored()[:2] == (MAX_AMOUNT, 0)


def test_none_and_sixty_four(world: World) -> None:
    one = world.channel()
    assert put(world, one, []).events == ()
    put(world, one, [(one.terms.hash, 0, 1, NOTHING)] * 64)
    assert one.stored()[0] == 64
    with pytest.raises(Reverted):
        put(world, one, [(one.terms.hash, 0, 1, NOTHING)] * 65)


def closed(world: World) -> Channel:
    channel = world.channel().funded()
    channel.close(Side.A, 2, OLD)
    return channel


def challenge(world: World, *given: tuple[Any, ...], sender: bytes | None = None) -> tuple[int, Receipt]:
    """What the call returns, and its receipt."""
    who = world.rich if sender is None else sender
    receipt = world.do(who, world.manager, "challenge_many", list(given))  # type: ignore[arg-type]
    return int.from_bytes(receipt.output, "big"), receipt


def test_the_good_ones_count_whatever_stands_between(world: World) -> None:
    over = closed(world)
    over.wait()
    over.settle(OLD)
    first, second, third = (closed(world) for _ in range(3))
    idle = world.channel().funded()
    wrong = replace(second, keys=(key_of("anyone"), second.keys[1]))
    bad = [
        idle.evidence(6, NEW),  # not closing
        over.evidence(6, NEW),  # final
        second.evidence(2, NEW),  # old version
        second.evidence(2**40, NEW),
        second.evidence(2**256 - 1, NEW),
        wrong.evidence(6, NEW),
        second.evidence(6, NEW, signatures=(b"", b"")),
        second.evidence(6, NEW, payout=second.tower.address, delegation=b"", delay=2**256 - 1),
        (*second.evidence(6, NEW)[:4], (b"\xff" * 32, b"\xff" * 32), *second.evidence(6, NEW)[5:]),
    ]
    given = [first.evidence(6, NEW), *bad, second.delegated(Side.B, 6, NEW), third.evidence(7, NEW)]
    counted, receipt = challenge(world, *given)
    assert counted == 1 | 1 << len(bad) + 1 | 1 << len(bad) + 2
    assert receipt.names() == ["Challenged"] * 3
    assert [event.fields["channel_id"] for event in receipt.events] == [first.id, second.id, third.id]
    assert [channel.stored()[2] for channel in (first, second, third)] == [6, 6, 7]
    assert second.stored()[4] == BEATEN | DELEGATED
    assert over.stored()[2] == 2 and idle.stored()[2] == 0


def test_each_bad_one_is_refused_alone_with_its_reason(world: World) -> None:
    """The same judge for one and for many."""
    channel = closed(world)
    for given, reason in (
        (world.channel().funded().evidence(6, NEW), "not closing"),
        (channel.evidence(2, NEW), "old version"),
        (channel.evidence(2**40, NEW), "version"),
        (channel.evidence(6, NEW, signatures=(b"", b"")), "signature"),
        (channel.evidence(6, NEW, payout=channel.tower.address), "delegation"),
    ):
        with pytest.raises(Reverted, match=f"^{reason}$"):
            world.do(world.rich, world.manager, "challenge", given)
        assert challenge(world, given)[0] == 0


def test_one_after_the_other_on_one_channel(world: World) -> None:
    channel = closed(world)
    newer, newest = channel.evidence(6, NEW), channel.delegated(Side.B, 8, OLD)
    counted, receipt = challenge(world, newest, newer, newest, newer)
    assert counted == 1
    assert receipt.event("Challenged")["version"] == 8
    channel = closed(world)
    assert challenge(world, channel.evidence(6, NEW), channel.delegated(Side.B, 6, NEW))[0] == 3, "the tie rule"


def test_a_party_that_sends_the_batch_need_not_sign(world: World) -> None:
    channel = closed(world)
    signature_a, _ = channel.sign(6, NEW.hash)
    given = channel.evidence(6, NEW, signatures=(signature_a, b""))
    assert challenge(world, given)[0] == 0
    assert challenge(world, given, sender=channel.keys[1].address)[0] == 1


def test_a_delay_that_no_clock_reaches_does_not_count(world: World) -> None:
    channel = closed(world)
    delegation = channel.delegate(Side.B, 6, channel.tower.address, 2**256 - 1)
    given = channel.evidence(6, NEW, payout=channel.tower.address, delay=2**256 - 1, delegation=delegation)
    counted, receipt = challenge(world, given)
    assert counted == 1 and receipt.event("Challenged")["bond_to"] == NATIVE


def test_none_and_thirty_two(world: World) -> None:
    assert challenge(world)[0] == 0
    channels = [closed(world) for _ in range(32)]
    assert challenge(world, *(channel.evidence(6, NEW) for channel in channels))[0] == 2**32 - 1
    with pytest.raises(Reverted):
        challenge(world, *[channels[0].evidence(7, NEW)] * 33)
