"""What a row proves against a close, without a chain: every part of a blob may be a lie."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.digests import Domain, Terms, channel_id, salt_commitment
from channeld.base.keys import Key, keccak
from channeld.base.units import (
    NATIVE,
    Address,
    BlockNumber,
    Digest,
    Preimage,
    Seconds,
    Side,
    Signature,
    Timestamp,
    Version,
)
from channeld.chain.chain import BlockRef, SeenClose
from channeld.tower.evidence import Proof, newer, prove
from channeld.tower.store import Row
from channeld.wire import appointment
from tests.tower.world import BOND, PERIOD, Channel, State, key_of

DOMAIN = Domain(chain_id=31337, manager=Address(b"m" * 20))
PAYOUT = Address(b"p" * 20)
TOWER = key_of("tower").public
AUTH = key_of("client")
SALTS = (keccak(b"a"), keccak(b"b"))


def channel_of(keys: tuple[Key, Key]) -> Channel:
    terms = Terms(
        participant_a=keys[0].address,
        participant_b=keys[1].address,
        payout_a=keys[0].address,
        payout_b=keys[1].address,
        challenge_period=PERIOD,
        salt_commitment=salt_commitment(keccak(SALTS[0]), keccak(SALTS[1])),
        close_bond=BOND,
        nonce=1,
    )
    return Channel(domain=DOMAIN, keys=keys, salts=SALTS, terms=terms, id=channel_id(DOMAIN, NATIVE, terms.hash))


CHANNEL = channel_of((key_of("cheat"), key_of("sleeper")))
CLOSE = SeenClose(
    block=BlockRef(number=1, hash=b"h" * 32, timestamp=Timestamp(1)),
    tx_hash=b"",
    log_index=0,
    channel_id=CHANNEL.id,
    closer=Side.A,
    version=Version(1),
    body_hash=Digest(bytes(32)),
    deadline=Timestamp(61),
    salt=SALTS[Side.B],
    index=1,
)


def row_of(evidence: appointment.Evidence, backup: appointment.Body, *, seq: int = 1) -> Row:
    blob = appointment.seal(
        evidence,
        backup,
        salt=SALTS[Side.B],
        tower=TOWER,
        auth=AUTH.public,
        seq=seq,
        t=keccak(b"t"),
        backup_key=bytes(range(32)),
    )
    return Row(
        auth=AUTH.public,
        hint=appointment.hint_of(SALTS[Side.B], TOWER),
        seq=seq,
        blob=blob,
        blob_hash=appointment.blob_hash(blob),
        signature=Signature(bytes(65)),
        head_number=BlockNumber(1),
        head_time=Timestamp(1),
        valid_until=Timestamp(2),
        receipt=Signature(bytes(65)),
    )


def proven(row: Row, close: SeenClose = CLOSE) -> Proof | None:
    return prove(row, close, domain=DOMAIN, tower=TOWER, payout=PAYOUT)


def evidence_of(state: State, channel: Channel = CHANNEL, **more: object) -> appointment.Evidence:
    return replace(channel.evidence(state, Side.B, PAYOUT, delay=9, settles=True), **more)  # type: ignore[arg-type]


STATE = CHANNEL.state(3, 5)


def test_an_honest_row_proves_its_state() -> None:
    secrets = (Preimage(keccak(b"s")),)
    proof = proven(row_of(evidence_of(STATE, preimages=secrets), STATE.body))
    assert proof is not None
    assert (proof.version, proof.body_hash, proof.body, proof.preimages) == (3, STATE.hash, STATE.body, secrets)
    assert (proof.payout, proof.delay, proof.evidence.delegated) == (PAYOUT, 9, True)
    assert proof.name == f"{CHANNEL.id.hex()}:3"


OTHER = channel_of((key_of("cheat"), key_of("somebody")))
FORGED = CHANNEL.state(4, 5)


@pytest.mark.parametrize(
    "evidence",
    [
        evidence_of(OTHER.state(3, 5), OTHER),  # a good state of another channel
        evidence_of(OTHER.state(3, 5), OTHER, terms=CHANNEL.terms),
        evidence_of(STATE, token=Address(b"t" * 20)),
        evidence_of(STATE, version=Version(4)),
        evidence_of(STATE, body_hash=FORGED.hash),
        evidence_of(STATE, signature_a=STATE.signature_b),
        evidence_of(STATE, signature_b=Signature(bytes(65))),
        evidence_of(STATE, signature_a=STATE.signature_b, signature_b=STATE.signature_a),
    ],
)
def test_a_row_that_does_not_fit_the_channel_proves_nothing(evidence: appointment.Evidence) -> None:
    assert proven(row_of(evidence, STATE.body)) is None


def test_a_row_opens_only_with_its_own_key_number_salt_and_tower() -> None:
    row = row_of(evidence_of(STATE), STATE.body)
    assert proven(row) is not None
    assert proven(replace(row, seq=2)) is None
    assert proven(replace(row, auth=key_of("cheat").public)) is None
    assert proven(row, replace(CLOSE, salt=SALTS[Side.A])) is None
    assert proven(replace(row, blob=b"")) is None
    assert proven(replace(row, blob=row.blob[:-1] + b"x")) is not None  # the backup is none of our business
    assert prove(row, CLOSE, domain=DOMAIN, tower=key_of("other").public, payout=PAYOUT) is None


@pytest.mark.parametrize(
    "evidence",
    [
        CHANNEL.evidence(STATE, Side.B, None),
        CHANNEL.evidence(STATE, Side.B, Address(b"q" * 20)),  # the victim's, for another tower
        CHANNEL.evidence(STATE, Side.B, PAYOUT, signer=CHANNEL.keys[Side.A]),  # the closer's own
        evidence_of(STATE, delay=Seconds(8)),
        evidence_of(STATE, delegation=CHANNEL.evidence(FORGED, Side.B, PAYOUT).delegation),
    ],
)
def test_a_delegation_that_does_not_count_leaves_the_state_standing(evidence: appointment.Evidence) -> None:
    proof = proven(row_of(evidence, STATE.body))
    assert proof is not None
    assert (proof.delegation, proof.delay, proof.evidence.delegated) == (b"", 0, False)


def test_a_body_that_is_not_the_state_s_is_not_used() -> None:
    proof = proven(row_of(evidence_of(STATE, body=replace(STATE.body, net=6)), STATE.body))
    assert proof is not None
    assert proof.body is None


def test_the_newest_state_is_presented_and_of_two_equals_the_one_that_pays() -> None:
    def proof_of(state: State, payout: Address | None) -> Proof:
        found = proven(row_of(CHANNEL.evidence(state, Side.B, payout), state.body))
        assert found is not None
        return found

    paid, unpaid, newest = proof_of(STATE, PAYOUT), proof_of(STATE, None), proof_of(FORGED, None)
    assert newer(None, unpaid) is unpaid
    assert newer(paid, unpaid) is paid
    assert newer(unpaid, paid) is paid
    assert newer(paid, newest) is newest
    assert newer(newest, paid) is newest
