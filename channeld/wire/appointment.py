"""What a node hands a tower: sealed evidence that says nothing until the other side closes.

The client finds hint and key from its own salt of the channel. That salt is secret while the channel is open;
a close by the *other* side reveals it on chain. Then the tower computes the hint, finds the blob, opens it and
has all it needs for `challenge` and `finalize` (and, if the client chose, for `settle`). Before that it cannot
tell channel, parties or amounts; a blob has one length whatever is in it.

    blob      = t 32 ‖ sealed 800 ‖ tag 32 ‖ backup 160                                       1,024 bytes
    hint      = keccak("channeld/tower/hint/1" ‖ salt ‖ tower)
    key       = keccak("channeld/tower/key/1" ‖ salt ‖ t ‖ tower ‖ auth ‖ seq)
    sealed    = evidence ⊕ keccak(key ‖ 0) ‖ keccak(key ‖ 1) ‖ …
    tag       = keccak(keccak(key ‖ "mac") ‖ keccak(t ‖ sealed))
    blob_hash = keccak(keccak(t ‖ sealed ‖ tag) ‖ keccak(backup))

Only keccak, so that a contract could check a blob against a receipt. `t` is 32 fresh random bytes for each
upload, so that no key is used twice. `backup` is for the client alone: the body of the state, sealed under a key
of its own, which neither tower nor peer can read.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from channeld.base.digests import Domain, Terms, domain_separator
from channeld.base.errors import Malformed
from channeld.base.keys import hkdf, keccak, verify_node
from channeld.base.units import (
    MAX_AMOUNT,
    Address,
    Amount,
    Digest,
    NodeId,
    Preimage,
    Seconds,
    Signature,
    Timestamp,
    Version,
    exactly,
)
from channeld.wire.messages import BLOB_BYTES, AppointmentReceipt

MAX_PREIMAGES: Final = 8
NO_BLOB: Final = Digest(bytes(32))
"""The blob hash in the update and the receipt that delete an appointment."""

_FORMAT: Final = 1
_T: Final = 32
_SEALED: Final = 800
_TAG: Final = 32
_BACKUP: Final = 160
_BODY: Final = 98
_HAS_BODY: Final = 1
_HAS_DELEGATION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a state says, as the contract's `settle` takes it. `blind` 32 bytes."""

    net: int
    locked_ab: Amount
    locked_ba: Amount
    locks_hash: Digest
    blind: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a tower needs to answer a close.

    `payout`, `delay`, `delegation`: to whom, and after how many seconds, the victim gives the bond; the delegation
    is empty for a tower that is paid otherwise. `body`: only for a tower that may settle too.
    `preimages`: at most eight, to be registered when the channel closes.
    """

    version: Version
    body_hash: Digest
    signature_a: Signature
    signature_b: Signature
    payout: Address
    delay: Seconds
    delegation: bytes
    token: Address
    terms: Terms
    body: Body | None = None
    preimages: tuple[Preimage, ...] = ()


def hint_of(salt: bytes, tower: NodeId) -> Digest:
    """Under what the tower files the blob: 32 bytes from the client's salt (32) and the tower's node id (33)."""
    return Digest(keccak(b"channeld/tower/hint/1" + exactly(32, salt, "salt") + exactly(33, tower, "tower")))


def blob_hash(blob: bytes) -> Digest:
    """What updates and receipts name a blob by; a backup may be left out of a proof."""
    exactly(BLOB_BYTES, blob, "blob")
    return Digest(keccak(keccak(blob[:-_BACKUP]) + keccak(blob[-_BACKUP:])))


def seal(
    evidence: Evidence,
    backup: Body,
    *,
    salt: bytes,
    tower: NodeId,
    auth: NodeId,
    seq: int,
    t: bytes,
    backup_key: bytes,
) -> bytes:
    """The blob of `BLOB_BYTES` to upload.

    Args:
        evidence: of the newest state; `backup`: that state's body, for ourselves.
        salt: our own 32 bytes for this channel.
        tower: its node id; `auth`: the public key that we show to this tower for this channel.
        seq: number of the upload, 1 .. 2**64 - 1.
        t: 32 fresh random bytes.
        backup_key: 32 bytes known to us alone.

    Raises:
        ValueError: something is out of its range.
    """
    exactly(_T, t, "t")
    key = _key(salt, t, tower, auth, seq)
    plain = _pack_evidence(evidence)
    sealed = _xor(key, plain + bytes(_SEALED - len(plain)))
    kept = _FORMAT.to_bytes(1, "big") + evidence.version.to_bytes(5, "big") + _pack_body(backup)
    kept += bytes(_BACKUP - 16 - len(kept))
    hidden = _backup_cipher(backup_key, t).encrypt(bytes(12), kept, _backup_label(hint_of(salt, tower), seq))
    return t + sealed + _tag(key, t + sealed) + hidden


def open_blob(blob: bytes, *, salt: bytes, tower: NodeId, auth: NodeId, seq: int) -> Evidence:
    """The evidence in a blob, once `salt` is known. The signatures in it are not checked here.

    Raises:
        Malformed: not a blob that `seal` made for these arguments.
    """
    if len(blob) != BLOB_BYTES or len(salt) != 32:
        raise Malformed(f"a blob of {len(blob)} bytes, a salt of {len(salt)}")
    t, sealed, tag = blob[:_T], blob[_T : _T + _SEALED], blob[_T + _SEALED : _T + _SEALED + _TAG]
    key = _key(salt, t, tower, auth, seq)
    if not hmac.compare_digest(_tag(key, t + sealed), tag):
        raise Malformed("blob: the tag does not fit")
    return _unpack_evidence(_xor(key, sealed))


def open_backup(blob: bytes, *, hint: Digest, seq: int, backup_key: bytes) -> tuple[Version, Body]:
    """Our own part of a blob that a tower gave back: version and body of the newest state it holds.

    Raises:
        Malformed: not a blob of ours with this hint and number.
    """
    if len(blob) != BLOB_BYTES:
        raise Malformed(f"a blob of {len(blob)} bytes")
    try:
        kept = _backup_cipher(backup_key, blob[:_T]).decrypt(bytes(12), blob[-_BACKUP:], _backup_label(hint, seq))
    except InvalidTag:
        raise Malformed("backup: the tag does not fit") from None
    if kept[0] != _FORMAT or any(kept[6 + _BODY :]):
        raise Malformed(f"backup: unknown format {kept[0]}")
    return Version(int.from_bytes(kept[1:6], "big")), _unpack_body(kept[6 : 6 + _BODY])


# ---- what is signed


def update_digest(domain: Domain, tower: NodeId, hint: Digest, seq: int, blob: Digest) -> Digest:
    """What the client's `auth` key signs for an upload, or with `NO_BLOB` for a deletion."""
    return Digest(
        keccak(
            b"channeld/tower/update/1"
            + domain_separator(domain)
            + exactly(33, tower, "tower")
            + exactly(32, hint, "hint")
            + seq.to_bytes(8, "big")
            + exactly(32, blob, "blob hash")
        )
    )


def receipt_digest(
    domain: Domain,
    auth: NodeId,
    hint: Digest,
    seq: int,
    blob: Digest,
    head_number: int,
    head_time: Timestamp,
    valid_until: Timestamp,
) -> Digest:
    """What the tower's node key signs: at this head it holds this blob, and watches until `valid_until`."""
    return Digest(
        keccak(
            b"channeld/tower/receipt/1"
            + domain_separator(domain)
            + exactly(33, auth, "auth")
            + exactly(32, hint, "hint")
            + seq.to_bytes(8, "big")
            + exactly(32, blob, "blob hash")
            + head_number.to_bytes(8, "big")
            + head_time.to_bytes(4, "big")
            + valid_until.to_bytes(4, "big")
        )
    )


def is_update_signed(
    domain: Domain, tower: NodeId, auth: NodeId, hint: Digest, seq: int, blob: Digest, signature: bytes
) -> bool:
    """Whether `auth` signed this update for this tower."""
    return verify_node(update_digest(domain, tower, hint, seq, blob), signature, auth)


def is_receipt_signed(domain: Domain, tower: NodeId, auth: NodeId, receipt: AppointmentReceipt) -> bool:
    """Whether `tower` signed this receipt for the client with this key. What it says is the caller's to judge."""
    digest = receipt_digest(
        domain,
        auth,
        receipt.hint,
        receipt.seq,
        receipt.blob_hash,
        receipt.head_number,
        receipt.head_time,
        receipt.valid_until,
    )
    return verify_node(digest, receipt.signature, tower)


# ---- keys and bytes


def _key(salt: bytes, t: bytes, tower: NodeId, auth: NodeId, seq: int) -> bytes:
    parts = (salt, t, exactly(33, tower, "tower"), exactly(33, auth, "auth"), _number(seq, 8, "seq"))
    return keccak(b"channeld/tower/key/1" + b"".join(parts))


def _xor(key: bytes, data: bytes) -> bytes:
    """`data` (a multiple of 32 bytes) under the keccak stream of `key`."""
    stream = b"".join(keccak(key + word.to_bytes(32, "big")) for word in range(len(data) // 32))
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(data), "big")


def _tag(key: bytes, data: bytes) -> bytes:
    return keccak(keccak(key + b"mac") + keccak(data))


def _backup_cipher(backup_key: bytes, t: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hkdf(exactly(32, backup_key, "backup key"), b"channeld/tower/backup/1" + t))


def _backup_label(hint: Digest, seq: int) -> bytes:
    return hint + seq.to_bytes(8, "big")


def _number(value: int, length: int, what: str) -> bytes:
    if not 0 <= value < 1 << 8 * length:
        raise ValueError(f"{what} {value} does not fit {length} bytes")
    return value.to_bytes(length, "big")


def _pack_body(body: Body) -> bytes:
    if not -(2**95) <= body.net < 2**95 or not (
        0 <= body.locked_ab <= MAX_AMOUNT and 0 <= body.locked_ba <= MAX_AMOUNT
    ):
        raise ValueError("the body is out of range")
    return (
        body.net.to_bytes(12, "big", signed=True)
        + body.locked_ab.to_bytes(11, "big")
        + body.locked_ba.to_bytes(11, "big")
        + exactly(32, body.locks_hash, "locks hash")
        + exactly(32, body.blind, "blind")
    )


def _unpack_body(data: bytes) -> Body:
    read = _Reader(data)
    return Body(
        net=int.from_bytes(read.take(12), "big", signed=True),
        locked_ab=Amount(read.number(11)),
        locked_ba=Amount(read.number(11)),
        locks_hash=Digest(read.take(32)),
        blind=read.take(32),
    )


def _pack_terms(terms: Terms) -> bytes:
    """The eight words of the terms in 140 bytes."""
    return (
        terms.participant_a
        + terms.participant_b
        + terms.payout_a
        + terms.payout_b
        + terms.challenge_period.to_bytes(4, "big")
        + terms.salt_commitment
        + terms.close_bond.to_bytes(16, "big")
        + terms.nonce.to_bytes(8, "big")
    )


def _pack_evidence(evidence: Evidence) -> bytes:
    if len(evidence.preimages) > MAX_PREIMAGES:
        raise ValueError(f"{len(evidence.preimages)} preimages, a blob has room for {MAX_PREIMAGES}")
    flags = (_HAS_BODY if evidence.body else 0) | (_HAS_DELEGATION if evidence.delegation else 0)
    preimages = b"".join(exactly(32, preimage, "preimage") for preimage in evidence.preimages)
    return (
        bytes([_FORMAT, flags])
        + _number(evidence.version, 5, "version")
        + exactly(32, evidence.body_hash, "body hash")
        + exactly(65, evidence.signature_a, "signature")
        + exactly(65, evidence.signature_b, "signature")
        + exactly(20, evidence.payout, "payout")
        + _number(evidence.delay, 4, "delay")
        + exactly(65, evidence.delegation or bytes(65), "delegation")
        + exactly(20, evidence.token, "token")
        + _pack_terms(evidence.terms)
        + (_pack_body(evidence.body) if evidence.body else bytes(_BODY))
        + bytes([len(evidence.preimages)])
        + preimages
    )


class _Reader:
    """Takes fields off the front of bytes that are long enough."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def rest(self) -> bytes:
        return self._data[self._at :]


def _unpack_evidence(plain: bytes) -> Evidence:
    """What `_pack_evidence` packed; a client may have sealed anything else, which is Malformed."""
    read = _Reader(plain)
    if read.number(1) != _FORMAT:
        raise Malformed("blob: unknown format")
    flags = read.number(1)
    version, body_hash = Version(read.number(5)), Digest(read.take(32))
    signature_a, signature_b = Signature(read.take(65)), Signature(read.take(65))
    payout, delay, delegation = Address(read.take(20)), Seconds(read.number(4)), read.take(65)
    token, terms, body = Address(read.take(20)), _unpack_terms(read), read.take(_BODY)
    count = read.number(1)
    if flags > 3 or count > MAX_PREIMAGES:
        raise Malformed("blob: flags or count out of range")
    preimages = tuple(Preimage(read.take(32)) for _ in range(count))
    unused = (b"" if flags & _HAS_DELEGATION else delegation) + (b"" if flags & _HAS_BODY else body) + read.rest()
    if any(unused):
        raise Malformed("blob: unused bytes are not zero")
    return Evidence(
        version=version,
        body_hash=body_hash,
        signature_a=signature_a,
        signature_b=signature_b,
        payout=payout,
        delay=delay,
        delegation=delegation if flags & _HAS_DELEGATION else b"",
        token=token,
        terms=terms,
        body=_unpack_body(body) if flags & _HAS_BODY else None,
        preimages=preimages,
    )


def _unpack_terms(read: _Reader) -> Terms:
    try:
        return Terms(
            participant_a=Address(read.take(20)),
            participant_b=Address(read.take(20)),
            payout_a=Address(read.take(20)),
            payout_b=Address(read.take(20)),
            challenge_period=Seconds(read.number(4)),
            salt_commitment=Digest(read.take(32)),
            close_bond=read.number(16),
            nonce=read.number(8),
        )
    except ValueError as fault:
        raise Malformed(f"blob: {fault}") from None
