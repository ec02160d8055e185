# mypy: disable-error-code="arg-type"
"""The deposit memo: each side's seed opens it, nobody else's does, and no change goes unseen."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.digests import MEMO_BYTES, Terms, salt_commitment
from channeld.base.errors import Malformed
from channeld.base.keys import keccak
from channeld.base.units import Side
from channeld.wire import memo as mm
from tests.wire.strategies import spoiled

SEEDS = {Side.A: b"\x51" * 32, Side.B: b"\x52" * 32}
STRANGER = b"\x53" * 32
NONCE = 2**63 + 5


def salt_of(seed: bytes, nonce: int) -> bytes:
    return keccak(b"salt" + seed + nonce.to_bytes(8, "big"))


SALT_A, SALT_B = salt_of(SEEDS[Side.A], NONCE), salt_of(SEEDS[Side.B], NONCE)
TERMS = Terms(
    participant_a=b"\x0a" * 20,
    participant_b=b"\x0b" * 20,
    payout_a=b"\x1a" * 20,
    payout_b=b"\x1b" * 20,
    challenge_period=86_400,
    salt_commitment=salt_commitment(keccak(SALT_A), keccak(SALT_B)),
    close_bond=5 * 10**15,
    nonce=NONCE,
)
SEALED = {
    Side.A: mm.seal_salt(SEEDS[Side.A], NONCE, SALT_B),
    Side.B: mm.seal_salt(SEEDS[Side.B], NONCE, SALT_A),
}
MEMO = mm.build(terms=TERMS, salt_a=SALT_A, salt_b=SALT_B, sealed_a=SEALED[Side.A], sealed_b=SEALED[Side.B])


def opened(memo: bytes, seed: bytes, terms_hash: bytes = TERMS.hash) -> mm.Opened:
    return mm.open_memo(memo, terms_hash=terms_hash, seed=seed, own_salt=lambda nonce: salt_of(seed, nonce))


@pytest.mark.parametrize("side", Side)
def test_each_side_finds_everything_again_from_its_seed(side):
    assert len(MEMO) == MEMO_BYTES == 192
    assert opened(MEMO, SEEDS[side]) == mm.Opened(side=side, terms=TERMS, salt_a=SALT_A, salt_b=SALT_B)


def test_a_stranger_finds_nothing():
    with pytest.raises(Malformed):
        opened(MEMO, STRANGER)
    for secret in (SALT_A, SALT_B, TERMS.participant_a, TERMS.participant_b, TERMS.payout_a, TERMS.payout_b):
        assert secret not in MEMO


def test_a_memo_belongs_to_its_deposit():
    with pytest.raises(Malformed):
        opened(MEMO, SEEDS[Side.A], bytes(32))


@settings(max_examples=200)
@given(spoiled(st.just(MEMO)) | st.binary(max_size=200), st.sampled_from(Side))
def test_a_changed_memo_is_malformed_or_changed_where_it_is_not_ours(memo, side):
    try:
        found = opened(memo, SEEDS[side])
    except Malformed:
        return
    theirs = 8 + 48 * side.other
    assert memo[:theirs] + memo[theirs + 48 :] == MEMO[:theirs] + MEMO[theirs + 48 :]
    assert found.terms == TERMS
    assert mm.is_ours(memo, terms=TERMS, salt_a=SALT_A, salt_b=SALT_B, side=side, sealed_own=SEALED[side])


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("at", range(0, 192, 7))
def test_the_check_before_opening_sees_every_byte_that_we_need(side, at):
    changed = MEMO[:at] + bytes([MEMO[at] ^ 1]) + MEMO[at + 1 :]
    is_theirs = 8 + 48 * side.other <= at < 8 + 48 * (side.other + 1)
    args = {"terms": TERMS, "salt_a": SALT_A, "salt_b": SALT_B, "side": side, "sealed_own": SEALED[side]}
    assert mm.is_ours(MEMO, **args)
    assert mm.is_ours(changed, **args) == is_theirs
    assert not mm.is_ours(MEMO[:-1], **args)
    assert not mm.is_ours(b"", **args)


def test_sealing_twice_under_one_nonce_shares_no_key_stream():
    one, two = (mm.seal_salt(SEEDS[Side.B], NONCE, salt) for salt in (bytes(32), b"\x01" + bytes(31)))
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 10
    assert mm.seal_salt(SEEDS[Side.B], NONCE, bytes(32)) == one
    assert mm.open_salt(SEEDS[Side.B], NONCE, one) == bytes(32)
    with pytest.raises(Malformed):
        mm.open_salt(SEEDS[Side.B], NONCE + 1, one)
    with pytest.raises(Malformed):
        mm.open_salt(SEEDS[Side.B], NONCE, one[:-1])


@pytest.mark.parametrize("bond", [0, 10**9, mm.MAX_BOND])
def test_bonds_in_whole_gwei_fit(bond):
    terms = dataclasses.replace(TERMS, close_bond=bond)
    memo = mm.build(terms=terms, salt_a=SALT_A, salt_b=SALT_B, sealed_a=SEALED[Side.A], sealed_b=SEALED[Side.B])
    assert opened(memo, SEEDS[Side.B], terms.hash).terms == terms


@pytest.mark.parametrize("bond", [1, 10**9 + 1, mm.MAX_BOND + 10**9])
def test_other_bonds_do_not(bond):
    with pytest.raises(ValueError, match="bond"):
        mm.build(
            terms=dataclasses.replace(TERMS, close_bond=bond),
            salt_a=SALT_A,
            salt_b=SALT_B,
            sealed_a=SEALED[Side.A],
            sealed_b=SEALED[Side.B],
        )


def test_foreign_salts_do_not_build_a_memo():
    with pytest.raises(ValueError, match="salts"):
        mm.build(terms=TERMS, salt_a=SALT_B, salt_b=SALT_A, sealed_a=SEALED[Side.A], sealed_b=SEALED[Side.B])
