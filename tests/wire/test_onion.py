"""BOLT 4: the published vectors of the onion and of its errors, and what becomes of meddled ones."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.base.keys import Key
from channeld.base.units import NodeId
from channeld.wire import failure, onion, payload
from channeld.wire.failure import Failure, FailureCode
from tests.wire.strategies import spoiled

HERE = Path(__file__).parent / "vectors"
h = bytes.fromhex
ROUTE = [Key(bytes([number]) * 32) for number in range(1, 28)]
HASH = b"\x42" * 32
SESSION = b"\x41" * 32


def vectors(name: str) -> Any:
    return json.loads((HERE / name).read_text())


def unframed(text: str) -> bytes:
    """A payload of the vectors without its length prefix."""
    data = h(text)
    head, length = (3, int.from_bytes(data[1:3], "big")) if data[0] == 0xFD else (1, data[0])
    assert len(data) == head + length
    return data[head:]


def test_onion_vector():
    case = vectors("bolt04-onion-test.json")
    given = case["generate"]
    hops = [(NodeId(h(hop["pubkey"])), unframed(hop["payload"])) for hop in given["hops"]]
    built = onion.build(hops, h(given["associated_data"]), h(given["session_key"]))
    assert built.packet.hex() == case["onion"]
    packet: bytes | None = built.packet
    for number, (secret, (_, expected)) in enumerate(zip(case["decode"], hops, strict=True)):
        assert packet is not None
        peeled = onion.peel(packet, Key(h(secret)), h(given["associated_data"]))
        assert peeled.payload == expected
        assert peeled.secret == built.secrets[number]
        packet = peeled.onward
    assert packet is None


def test_error_onion_vector():
    case = vectors("bolt04-onion-error-test.json")
    hops = case["generate"]["hops"]
    secrets = [h(hop["hop_shared_secret"]) for hop in hops]
    message = h(case["generate"]["failure_message"])
    route = [(NodeId(h(hop["pubkey"])), b"no matter") for hop in hops]
    assert list(onion.build(route, b"", h(case["generate"]["session_key"])).secrets) == secrets
    error = onion.create_error(secrets[-1], message)
    assert len(error) == onion.ERROR_BYTES
    for secret in reversed(secrets[:-1]):
        error = onion.wrap_error(secret, error)
    assert error.hex() == case["errorpacket"]
    assert onion.unwrap_error(secrets, error) == (4, message)


def test_returning_errors_vector_step_by_step():
    case = vectors("bolt04-returning-errors.json")
    steps = case["nodes"]
    raw = h(case["raw_error_packet"])
    message = raw[34 : 34 + int.from_bytes(raw[32:34], "big")]
    assert h(case["encoded_failure_message"]).startswith(message)  # in the source its padding follows
    error = onion.create_error(h(steps[0]["shared_secret"]), message, at_least=1024)
    assert error.hex() == steps[0]["error_packet"]
    for step in steps[1:]:
        error = onion.wrap_error(h(step["shared_secret"]), error)
        assert error.hex() == step["error_packet"]
    secrets = [h(step["shared_secret"]) for step in reversed(steps)]
    assert onion.unwrap_error(secrets, error) == (4, message)


def hops_of(payloads: list[bytes]) -> list[tuple[NodeId, bytes]]:
    return [(key.public, data) for key, data in zip(ROUTE, payloads, strict=False)]


@settings(max_examples=40)
@given(st.lists(st.binary(min_size=2, max_size=300), min_size=1, max_size=20))
@example([bytes(0xFC)])
@example([bytes(0xFD)])
@example([bytes(1300 - 3 - 32)])
@example([bytes(2)] * 27)
@example([bytes(53)] * 13 + [bytes(69)])
def test_each_hop_finds_its_payload_and_the_last_finds_the_end(payloads):
    if sum(len(data) + (1 if len(data) < 0xFD else 3) + 32 for data in payloads) > 1300:
        with pytest.raises(ValueError, match="onion"):
            onion.build(hops_of(payloads), HASH, SESSION)
        return
    built = onion.build(hops_of(payloads), HASH, SESSION)
    packet: bytes | None = built.packet
    for number, data in enumerate(payloads):
        assert packet is not None
        assert len(packet) == onion.ONION_BYTES
        peeled = onion.peel(packet, ROUTE[number], HASH)
        assert (peeled.payload, peeled.secret) == (data, built.secrets[number])
        packet = peeled.onward
    assert packet is None


@pytest.mark.parametrize("payloads", [[], [b""], [b"1"], [bytes(1266)], [bytes(100)] * 10])
def test_what_does_not_fit_is_not_built(payloads):
    with pytest.raises(ValueError, match=r"onion|payload"):
        onion.build(hops_of(payloads), HASH, SESSION)


PACKET = onion.build(hops_of([b"first", b"second"]), HASH, SESSION).packet


@settings(max_examples=150)
@given(spoiled(st.just(PACKET)) | st.binary(max_size=100))
@example(b"")
@example(bytes(onion.ONION_BYTES))
@example(b"\x01" + PACKET[1:])
def test_a_meddled_onion_is_malformed(packet):
    if packet != PACKET:
        with pytest.raises(Malformed):
            onion.peel(packet, ROUTE[0], HASH)


def test_an_onion_is_for_one_hop_and_one_payment():
    assert onion.peel(PACKET, ROUTE[0], HASH).payload == b"first"
    with pytest.raises(Malformed):
        onion.peel(PACKET, ROUTE[1], HASH)
    with pytest.raises(Malformed):
        onion.peel(PACKET, ROUTE[0], b"\x43" * 32)


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=3), st.integers(0, 1300))
@example(b"\x00", 0)
@example(b"\x01", 0)
@example(b"\xfd\x00\x10", 0)
@example(b"\xfd\xff\xff", 0)
@example(b"\xfd\x04\xf2", 0)
@example(b"\xfe", 0)
@example(b"\xff", 0)
def test_a_payer_that_lies_about_a_length_gets_malformed(head, zeros):
    routing = (head + bytes(zeros) + b"\x07" * 1300)[:1300]
    session = Key(SESSION)
    secret = session.ecdh(ROUTE[0].public)
    sealed = onion._xor(onion._key(b"rho", secret), routing)
    tag = hmac.digest(onion._key(b"mu", secret), sealed + HASH, "sha256")
    packet = b"\x00" + session.public + sealed + tag
    try:
        peeled = onion.peel(packet, ROUTE[0], HASH)
    except Malformed:
        return
    assert 2 <= len(peeled.payload) <= 1265
    assert peeled.onward is None or len(peeled.onward) == onion.ONION_BYTES


@pytest.mark.parametrize("failing", range(5))
def test_the_payer_learns_which_hop_failed(failing):
    built = onion.build(hops_of([b"payload"] * 5), HASH, SESSION)
    message = failure.encode(Failure(code=FailureCode.FEE_INSUFFICIENT, data=bytes(160)))
    error = onion.create_error(built.secrets[failing], message)
    for hop in range(failing - 1, -1, -1):
        error = onion.wrap_error(built.secrets[hop], error)
    assert len(error) == onion.ERROR_BYTES
    hop, got = onion.unwrap_error(built.secrets, error)
    assert hop == failing
    assert failure.decode(got) == Failure(code=FailureCode.FEE_INSUFFICIENT, data=bytes(160))


SECRETS = [bytes([number]) * 32 for number in range(1, 4)]


@settings(max_examples=100)
@given(spoiled(st.just(onion.create_error(SECRETS[0], b"why"))) | st.binary(max_size=400))
def test_an_error_nobody_made_is_malformed(error):
    if error != onion.create_error(SECRETS[0], b"why"):
        with pytest.raises(Malformed):
            onion.unwrap_error(SECRETS, error)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x01\x00", b"\xff\xff" + bytes(256)])
def test_an_error_that_lies_about_its_length_is_malformed(data):
    tag = hmac.digest(onion._key(b"um", SECRETS[0]), data, "sha256")
    with pytest.raises(Malformed):
        onion.unwrap_error(SECRETS, onion.wrap_error(SECRETS[0], tag + data))


PAYLOADS: list[Any] = [
    payload.ForwardPayload(next_channel=bytes(32), amount=1, expiry=2**32 - 1),  # type: ignore[arg-type]
    payload.FinalPayload(amount=2**88 - 1, expiry=1, payment_secret=bytes(32), total=7),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("value", PAYLOADS, ids=["forward", "final"])
def test_payloads_come_back_and_are_short(value):
    data = payload.encode(value)
    assert payload.decode(data) == value
    assert len(data) <= 72


@settings(max_examples=200)
@given(st.binary(max_size=100) | spoiled(st.sampled_from([payload.encode(value) for value in PAYLOADS])))
def test_any_bytes_are_a_payload_or_malformed(data):
    try:
        value = payload.decode(data)
    except Malformed:
        return
    assert payload.encode(value) == data


@settings(max_examples=200)
@given(
    st.binary(max_size=100) | spoiled(st.sampled_from(FailureCode).map(lambda code: failure.encode(Failure(code=code))))
)
def test_any_bytes_are_a_failure_or_malformed(data):
    try:
        value = failure.decode(data)
    except Malformed:
        return
    assert failure.encode(value) == data
    assert isinstance(value.code, FailureCode)


def test_every_failure_fits_the_one_length():
    for code in FailureCode:
        data = failure.encode(Failure(code=code, data=bytes(failure.MAX_DATA)))
        assert len(data) <= onion.MIN_ERROR_DATA
        assert failure.decode(data).code is code
    with pytest.raises(ValueError, match="data"):
        failure.encode(Failure(code=FailureCode.SAFE_MODE, data=bytes(241)))
    with pytest.raises(Malformed):
        failure.decode(b"\x93\x01\xcd\x03\xe7\xc4\x00")


def test_an_error_under_no_hops_secret_is_malformed():
    error = onion.create_error(bytes(32), b"why")  # what the steps after the last hop would read
    with pytest.raises(Malformed):
        onion.unwrap_error([], error)
    with pytest.raises(Malformed):
        onion.unwrap_error(SECRETS, onion.wrap_error(SECRETS[0], error))
