# mypy: disable-error-code="arg-type, call-arg"
"""Appointments: sealed until the salt is out, bound to tower, client and number, always one length."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.digests import Domain, Terms
from channeld.base.errors import Malformed
from channeld.base.keys import Key
from channeld.wire import appointment as ap
from channeld.wire.messages import BLOB_BYTES, AppointmentReceipt
from tests.wire.strategies import spoiled

TOWER = Key(b"\x31" * 32)
AUTH = Key(b"\x32" * 32)
OTHER = Key(b"\x33" * 32)
SALT, T, OWN = b"\x41" * 32, b"\x42" * 32, b"\x43" * 32
DOMAIN = Domain(chain_id=31337, manager=b"\x01" * 20)
TERMS = Terms(
    participant_a=b"\x0a" * 20,
    participant_b=b"\x0b" * 20,
    payout_a=b"\x1a" * 20,
    payout_b=b"\x1b" * 20,
    challenge_period=2**32 - 1,
    salt_commitment=b"\x0c" * 32,
    close_bond=2**128 - 1,
    nonce=2**64 - 1,
)
BODY = ap.Body(net=-(2**95), locked_ab=2**88 - 1, locked_ba=0, locks_hash=b"\x0d" * 32, blind=b"\x0e" * 32)
FULL = ap.Evidence(
    version=2**40 - 1,
    body_hash=b"\x02" * 32,
    signature_a=b"\x03" * 65,
    signature_b=b"\x04" * 65,
    payout=b"\x05" * 20,
    delay=2**32 - 1,
    delegation=b"\x06" * 65,
    token=b"\x07" * 20,
    terms=TERMS,
    body=BODY,
    preimages=(b"\x08" * 32,) * 8,
)
BARE = dataclasses.replace(FULL, delegation=b"", body=None, preimages=())
WHO: Any = {"tower": TOWER.public, "auth": AUTH.public, "seq": 7}


def sealed(evidence: ap.Evidence = FULL, **changes: Any) -> bytes:
    return ap.seal(evidence, BODY, **{"salt": SALT, "t": T, "backup_key": OWN, **WHO, **changes})


@pytest.mark.parametrize("evidence", [FULL, BARE, dataclasses.replace(BARE, preimages=(b"\x08" * 32,))])
def test_the_tower_opens_the_blob_once_the_salt_is_out(evidence):
    blob = sealed(evidence)
    assert len(blob) == BLOB_BYTES
    assert ap.open_blob(blob, salt=SALT, **WHO) == evidence


def test_the_client_reads_its_backup_and_nobody_else_does():
    blob, hint = sealed(), ap.hint_of(SALT, TOWER.public)
    assert ap.open_backup(blob, hint=hint, seq=7, backup_key=OWN) == (FULL.version, BODY)
    for change in ({"backup_key": SALT}, {"seq": 8}, {"hint": ap.hint_of(SALT, OTHER.public)}):
        with pytest.raises(Malformed):
            ap.open_backup(blob, **{"hint": hint, "seq": 7, "backup_key": OWN, **change})


@pytest.mark.parametrize(
    "change", [{"salt": bytes(32)}, {"tower": OTHER.public}, {"auth": OTHER.public}, {"seq": 8}, {"salt": b""}]
)
def test_a_blob_is_bound_to_salt_tower_client_and_number(change):
    with pytest.raises(Malformed):
        ap.open_blob(sealed(), **{"salt": SALT, **WHO, **change})


def test_the_blob_shows_nothing_of_what_is_in_it():
    blob = sealed()
    terms = (TERMS.participant_a, TERMS.participant_b, TERMS.payout_a, TERMS.salt_commitment)
    for secret in (*terms, FULL.body_hash, FULL.payout, FULL.token, FULL.preimages[0], SALT):
        assert secret not in blob
    other = sealed(t=b"\x52" * 32)
    same = sum(a == b for a, b in zip(blob, other, strict=True))
    assert same < 40  # of 1,024; a shared key stream would show here
    assert len({blob[at : at + 32] for at in range(0, BLOB_BYTES, 32)}) == 32


def test_hints_differ_by_tower_and_by_salt():
    hints = {ap.hint_of(salt, tower.public) for salt in (SALT, T) for tower in (TOWER, OTHER)}
    assert len(hints) == 4


@settings(max_examples=150)
@given(spoiled(st.just(sealed())) | st.binary(max_size=64) | st.binary(min_size=BLOB_BYTES, max_size=BLOB_BYTES))
def test_a_changed_blob_is_malformed(blob):
    if blob[:-160] != sealed()[:-160] or len(blob) != BLOB_BYTES:
        with pytest.raises(Malformed):
            ap.open_blob(blob, salt=SALT, **WHO)
    if blob != sealed() and blob[:32] + blob[-160:] != sealed()[:32] + sealed()[-160:]:
        with pytest.raises(Malformed):
            ap.open_backup(blob, hint=ap.hint_of(SALT, TOWER.public), seq=7, backup_key=OWN)


@settings(max_examples=200)
@given(spoiled(st.sampled_from([FULL, BARE]).map(ap._pack_evidence)))
def test_whatever_a_client_sealed_is_evidence_or_malformed(plain):
    plain = plain[:800].ljust(800, b"\0")
    key = ap._key(SALT, T, TOWER.public, AUTH.public, 7)
    body = ap._xor(key, plain)
    blob = T + body + ap._tag(key, T + body) + bytes(160)
    try:
        evidence = ap.open_blob(blob, salt=SALT, **WHO)
    except Malformed:
        return
    assert ap._pack_evidence(evidence).ljust(800, b"\0") == plain


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2**40},
        {"version": -1},
        {"delay": 2**32},
        {"delegation": bytes(64)},
        {"preimages": (bytes(32),) * 9},
        {"preimages": (bytes(31),)},
        {"signature_a": bytes(64)},
        {"body": dataclasses.replace(BODY, net=2**95)},
        {"body": dataclasses.replace(BODY, locked_ba=2**88)},
    ],
)
def test_what_does_not_fit_is_not_sealed(change):
    with pytest.raises(ValueError):
        sealed(dataclasses.replace(FULL, **change))


def test_an_update_is_signed_for_one_tower_one_number_and_one_blob():
    hint, blob = ap.hint_of(SALT, TOWER.public), ap.blob_hash(sealed())
    signature = AUTH.sign(ap.update_digest(DOMAIN, TOWER.public, hint, 7, blob))
    good: list[Any] = [DOMAIN, TOWER.public, AUTH.public, hint, 7, blob]
    assert ap.is_update_signed(*good, signature)
    wrong = [Domain(chain_id=1, manager=DOMAIN.manager), OTHER.public, OTHER.public, bytes(32), 8, ap.NO_BLOB]
    for place, value in enumerate(wrong):
        assert not ap.is_update_signed(*good[:place], value, *good[place + 1 :], signature)
    assert not ap.is_update_signed(*good, bytes(65))


def test_a_receipt_is_the_towers_word_about_one_blob():
    hint, blob = ap.hint_of(SALT, TOWER.public), ap.blob_hash(sealed())
    signature = TOWER.sign(ap.receipt_digest(DOMAIN, AUTH.public, hint, 7, blob, 100, 1_700_000_000, 1_700_086_400))
    receipt = AppointmentReceipt(
        hint=hint,
        seq=7,
        blob_hash=blob,
        head_number=100,
        head_time=1_700_000_000,
        valid_until=1_700_086_400,
        signature=signature,
    )
    assert ap.is_receipt_signed(DOMAIN, TOWER.public, AUTH.public, receipt)
    assert not ap.is_receipt_signed(DOMAIN, TOWER.public, OTHER.public, receipt)
    assert not ap.is_receipt_signed(DOMAIN, AUTH.public, AUTH.public, receipt)
    changes: dict[str, Any] = {
        "hint": bytes(32),
        "seq": 8,
        "blob_hash": bytes(32),
        "head_number": 101,
        "head_time": 1,
        "valid_until": 2**32 - 1,
    }
    for name, value in changes.items():
        changed = dataclasses.replace(receipt, **{name: value})
        assert not ap.is_receipt_signed(DOMAIN, TOWER.public, AUTH.public, changed)


def test_the_blob_hash_covers_every_byte():
    blob = sealed()
    hashes = {ap.blob_hash(blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]) for at in range(0, BLOB_BYTES, 31)}
    assert len(hashes | {ap.blob_hash(blob)}) == len(range(0, BLOB_BYTES, 31)) + 1
