"""Keys and the one predicate for a good signature, against eth_account and by hand."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from eth_account import Account
from eth_keys import datatypes as eth_keys
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.keys import HALF_ORDER, ORDER, Key, address_of, hkdf, keccak, recover, recover_public, verify_node
from channeld.base.units import Digest, NodeId

SECRETS = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
DIGESTS = st.binary(min_size=32, max_size=32).map(Digest)
SIGNER = Key(b"\x01" * 32)
DIGEST = Digest(keccak(b"something"))
GOOD = SIGNER.sign(DIGEST)


@given(SECRETS, DIGESTS)
def test_the_signer_is_recovered(secret: bytes, digest: Digest):
    key = Key(secret)
    signature = key.sign(digest)
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    assert 0 < int.from_bytes(signature[32:64], "big") <= HALF_ORDER
    assert recover(digest, signature) == key.address
    assert verify_node(digest, signature, key.public)


@given(SECRETS, DIGESTS)
def test_eth_keys_agrees(secret: bytes, digest: Digest):
    """The signature is RFC 6979's, and the address is the one every wallet shows."""
    key, theirs = Key(secret), eth_keys.PrivateKey(secret)
    raw = theirs.sign_msg_hash(digest).to_bytes()
    assert key.sign(digest) == raw[:64] + bytes([27 + raw[64]])
    assert key.address == theirs.public_key.to_canonical_address()
    assert key.public == theirs.public_key.to_compressed_bytes()
    assert key.address == bytes.fromhex(Account.from_key(secret).address[2:])


def test_a_high_s_is_no_signature():
    """EIP-2: the other half of the two signatures that mathematics allows."""
    s = ORDER - int.from_bytes(GOOD[32:64], "big")
    high = GOOD[:32] + s.to_bytes(32, "big") + bytes([55 - GOOD[64]])
    assert eth_keys.Signature(high[:64] + bytes([high[64] - 27])).recover_public_key_from_msg_hash(DIGEST)
    assert recover(DIGEST, high) is None


@pytest.mark.parametrize("s", [0, HALF_ORDER + 1, ORDER, ORDER + 1, 2**256 - 1])
def test_s_must_be_in_the_lower_half(s: int):
    assert recover(DIGEST, GOOD[:32] + s.to_bytes(32, "big") + GOOD[64:]) is None


@pytest.mark.parametrize("r", [0, ORDER, 2**256 - 1])
def test_r_must_be_in_range(r: int):
    assert recover(DIGEST, r.to_bytes(32, "big") + GOOD[32:]) is None


@pytest.mark.parametrize("v", [0, 1, 26, 29, 30, 31, 255])
def test_v_is_27_or_28(v: int):
    assert recover(DIGEST, GOOD[:64] + bytes([v])) is None


@pytest.mark.parametrize("signature", [b"", GOOD[:64], GOOD + b"\0", bytes(65), bytes(64) + b"\x1b"])
def test_another_form_is_no_signature(signature: bytes):
    assert recover(DIGEST, signature) is None
    assert not verify_node(DIGEST, signature, SIGNER.public)


def test_an_r_that_is_no_point_is_no_signature():
    tried = [recover_public(DIGEST, r.to_bytes(32, "big") + GOOD[32:]) for r in range(1, 40)]
    assert None in tried, "about half of all numbers are no abscissa"
    assert any(tried)


@given(st.binary(min_size=65, max_size=65), DIGESTS)
def test_any_bytes_are_a_signature_or_none(signature: bytes, digest: Digest):
    found = recover(digest, signature)
    assert found is None or len(found) == 20


@given(DIGESTS)
def test_a_signature_counts_for_its_digest_alone(digest: Digest):
    assert (recover(digest, GOOD) == SIGNER.address) is (digest == DIGEST)


def test_a_node_is_told_from_its_mirror():
    """The two points of one abscissa differ in the first byte of the id alone."""
    mirror = NodeId(bytes([5 - SIGNER.public[0]]) + SIGNER.public[1:])
    assert not verify_node(DIGEST, GOOD, mirror)
    assert not verify_node(DIGEST, GOOD, Key(b"\x02" * 32).public)


@pytest.mark.parametrize(
    "secret", [bytes(32), ORDER.to_bytes(32, "big"), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33, b""]
)
def test_what_is_no_private_key_is_refused(secret: bytes):
    with pytest.raises(ValueError):
        Key(secret)


def test_addresses_are_of_either_form_of_a_public_key():
    whole = eth_keys.PrivateKey(SIGNER.secret).public_key
    assert address_of(b"\x04" + whole.to_bytes()) == address_of(whole.to_compressed_bytes()) == SIGNER.address


def test_a_key_shows_its_address_only():
    assert repr(SIGNER) == f"Key(0x{SIGNER.address.hex()})"
    assert SIGNER.secret.hex() not in repr(SIGNER)
    assert not hasattr(SIGNER, "__dict__")


def test_derived_keys_are_fixed_and_apart():
    purposes = ["node", "salt/1", "salt/2", "salt/11", "tower/00/11", ""]
    derived = [SIGNER.derive_bytes(purpose) for purpose in purposes]
    assert derived == [SIGNER.derive_bytes(purpose) for purpose in purposes]
    assert len({*derived, SIGNER.secret}) == len(purposes) + 1
    assert SIGNER.derive("node").secret == SIGNER.derive_bytes("node")
    assert Key(b"\x02" * 32).derive_bytes("node") != SIGNER.derive_bytes("node")


@given(SECRETS, SECRETS)
def test_both_sides_share_one_secret(one: bytes, other: bytes):
    assert Key(one).ecdh(Key(other).public) == Key(other).ecdh(Key(one).public)


# RFC 5869, appendix A: HKDF with SHA-256.
RFC_5869 = [
    (
        bytes.fromhex("0b" * 22),
        bytes.fromhex("000102030405060708090a0b0c"),
        bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
        bytes.fromhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
    ),
    (
        bytes.fromhex("0b" * 22),
        b"",
        b"",
        bytes.fromhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "expected"), RFC_5869)
def test_hkdf_is_rfc_5869(secret: bytes, salt: bytes, info: bytes, expected: bytes):
    assert hkdf(secret, info, len(expected), salt) == expected


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_hkdf_has_its_limits(length: int):
    with pytest.raises(ValueError):
        hkdf(b"secret", b"info", length)


def test_keccak_is_the_one_of_ethereum():
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak(b"") != hashlib.sha3_256(b"").digest()
    assert hkdf(b"s", b"i") == hmac.digest(hmac.digest(bytes(32), b"s", "sha256"), b"i\x01", "sha256")
