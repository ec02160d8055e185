"""close: a participant starts to end the channel alone, at the price of a bond and the other side's salt."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from channeld.base.keys import ORDER, compact, keccak
from channeld.base.units import NATIVE, Seconds, Side
from tests.contracts.evm import Evm
from tests.contracts.world import BOND, CHAIN_ID, ETHER, MIN_PERIOD, PERIOD, Body, Channel, Reverted, World, key_of


@pytest.mark.parametrize("side", list(Side))
def test_by_a_state_that_the_other_signed(either: Channel, side: Side) -> None:
    body = Body(net=ETHER)
    index = either.world.ask(either.world.manager, "closings")
    held = either.world.balance(NATIVE, either.world.manager)
    receipt = either.close(side, 5, body)
    assert receipt.event("Closed") == {
        "channel_id": either.id,
        "deposit_a": 10 * ETHER,
        "deposit_b": 4 * ETHER,
        "version": 5,
        "deadline": receipt.timestamp + PERIOD,
        "flags": int(side),
        "body_hash": body.hash,
        "salt": either.salts[side.other],
        "closing_index": index + 1,
    }
    record = keccak(body.hash + bytes(32))
    assert either.stored() == (10 * ETHER, 4 * ETHER, 5, receipt.timestamp + PERIOD, int(side), record)
    assert either.world.balance(NATIVE, either.world.manager) == held + BOND


def test_the_index_has_no_gap(world: World) -> None:
    first = world.channel().funded().close(Side.A).event("Closed")["closing_index"]
    with pytest.raises(Reverted):
        world.channel().close(Side.A, value=0)
    assert world.channel().funded().close(Side.B).event("Closed")["closing_index"] == first + 1
    assert world.ask(world.manager, "closings") == first + 1


def test_without_a_state_the_version_stays(channel: Channel) -> None:
    channel.cooperate(6, out_a=1, out_b=0)
    receipt = channel.close(Side.A)
    assert receipt.event("Closed")["version"] == 6
    assert receipt.event("Closed")["body_hash"] == bytes(32)
    assert channel.stored()[2] == 6


@pytest.mark.parametrize(
    ("asked", "given"), [(1, MIN_PERIOD), (61, 61), (30 * 86400, 30 * 86400), (2**32 - 1, 30 * 86400)]
)
def test_the_period_is_clamped(world: World, asked: int, given: int) -> None:
    channel = world.channel(challenge_period=Seconds(asked)).funded()
    receipt = channel.close(Side.A)
    assert receipt.event("Closed")["deadline"] == receipt.timestamp + given


def test_only_a_participant_closes(channel: Channel) -> None:
    stranger = channel.world.fund(key_of("anyone"))
    with pytest.raises(Reverted, match="not a participant"):
        channel.close(Side.A, sender=stranger)
    with pytest.raises(Reverted, match="not a participant"):
        channel.close(Side.A, 1, Body(), sender=channel.world.rich)


@pytest.mark.parametrize("value", [0, BOND - 1, BOND + 1])
def test_the_bond_is_exact(channel: Channel, value: int) -> None:
    with pytest.raises(Reverted, match="bond"):
        channel.close(Side.A, value=value)


@pytest.mark.parametrize("side", list(Side))
def test_the_salt_is_the_others(channel: Channel, side: Side) -> None:
    own, other = channel.salts[side], channel.salts[side.other]
    for salt, own_hash in (
        (own, keccak(other)),  # the own salt revealed, each way round
        (own, keccak(own)),
        (keccak(b"wrong"), keccak(own)),
        (other, keccak(other)),
        (keccak(other), keccak(own)),
    ):
        with pytest.raises(Reverted, match="salt"):
            channel.close(side, salt=salt, own_hash=own_hash)


def test_an_old_state_is_refused(channel: Channel) -> None:
    channel.cooperate(6, out_a=1, out_b=0)
    for version in (1, 5, 6):
        with pytest.raises(Reverted, match="old version"):
            channel.close(Side.A, version, Body())
    channel.close(Side.A, 7, Body())


def test_version_zero_is_no_state(channel: Channel) -> None:
    with pytest.raises(Reverted, match="no state"):
        channel.close(Side.A, 0, Body())
    for body in (None, Body()):
        with pytest.raises(Reverted, match="signature"):
            channel.close(Side.A, 1, body, signature=b"")


def test_a_version_has_40_bits(channel: Channel) -> None:
    for version in (2**40, 2**41 + 7, 2**256 - 1):
        with pytest.raises(Reverted, match="version"):
            channel.close(Side.A, version, Body(), signature=bytes(64) + b"\x1b")
    channel.close(Side.A, 2**40 - 1, Body())
    assert channel.stored()[2] == 2**40 - 1


def test_the_state_must_be_signed_by_the_other(channel: Channel) -> None:
    body = Body(net=-ETHER)
    own, others = channel.sign(3, body.hash)
    older = channel.sign(2, body.hash)[1]
    elsewhere = channel.world.channel().sign(3, body.hash)[1]
    for bad in (own, older, elsewhere, others[:64] + bytes([55 - others[64]]), b""):
        with pytest.raises(Reverted, match="signature"):
            channel.close(Side.A, 3, body, signature=bad)
    r, vs = compact(others)
    word = int.from_bytes(vs, "big")
    high = ORDER - word % 2**255
    for bad_vs in (high, high | 1 << 255, word ^ 1 << 255, word ^ 1, 0, 2**256 - 1):
        given = (3, body.hash, (r, bad_vs.to_bytes(32, "big")), channel.salts[1], keccak(channel.salts[0]))
        with pytest.raises(Reverted, match="signature"):
            channel.do(channel.keys[0].address, "close", *channel.head, *given, value=BOND)
    channel.close(Side.A, 3, body, signature=others)


def test_not_twice(channel: Channel) -> None:
    channel.close(Side.A, 3, Body())
    for side in Side:
        with pytest.raises(Reverted, match="not open"):
            channel.close(side, 4, Body())


def test_other_terms_are_another_channel(channel: Channel) -> None:
    """With a smaller bond the id differs: nothing of this channel moves."""
    stored = channel.stored()
    token, terms = channel.head
    cheap = (*terms[:6], 0, terms[7])
    sender = channel.keys[0].address
    empty = compact(b"")
    channel.do(sender, "close", token, cheap, 0, bytes(32), empty, channel.salts[1], keccak(channel.salts[0]))
    assert channel.stored() == stored


def test_a_participant_zero_has_signed_nothing(world: World) -> None:
    """ecrecover answers zero for what is no signature: that must not be somebody."""
    real = world.channel()
    token, terms = real.head
    terms = (terms[0], bytes(20), *terms[2:])
    name = keccak(encode(["(address,address,address,address,uint256,bytes32,uint256,uint256)"], [terms]))
    payer = real.keys[0].address
    real.do(payer, "deposit", token, name, 1, ETHER, value=ETHER)
    salts = real.salts[1], keccak(real.salts[0])
    for forged in ((bytes(32), bytes(32)), (bytes(31) + b"\x05", bytes(32)), (b"\xff" * 32, bytes(31) + b"\x01")):
        with pytest.raises(Reverted, match="signature"):
            real.do(payer, "close", token, terms, 1, Body().hash, forged, *salts, value=BOND)
        order = (2**63, forged)
        with pytest.raises(Reverted, match="not a participant"):
            real.do(payer, "close", token, terms, 1, Body().hash, forged, *salts, order, value=BOND)


def test_the_deadline_has_room_until_2106() -> None:
    """A deadline beyond 32 bits would run into the version; until then every close is as any other."""
    world = World(Evm(2**32 - 1 - PERIOD - 1000, CHAIN_ID))
    late, last = world.channel().funded(), world.channel().funded()
    world.travel(2**32 - 1 - PERIOD - 1)
    assert last.close(Side.A, 5, Body()).event("Closed")["deadline"] == 2**32 - 1
    with pytest.raises(Reverted, match="too late"):
        late.close(Side.A, 5, Body())
    late.cooperate(6)
    assert late.paid(Side.A) == 10 * ETHER
