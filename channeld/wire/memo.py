"""The deposit memo: 192 bytes on chain from which a seed alone finds its channels again.

    memo   = nonce 8 ‖ sealed_a 48 ‖ sealed_b 48 ‖ shared 88
    sealed = the *peer's* salt (32 bytes), sealed under the own seed; only its owner can open it
    shared = participants, payouts, challenge period, close bond (in gwei), under a stream keyed by both salts

A side opens its `sealed`, derives its own salt from the nonce, reads `shared`, and checks that the terms and some token
it knows make the channel id of the deposit's event. The chain shows nothing but the nonce until both salts are out.
Both sides know the whole memo when the channel is agreed; each checks its own part on chain before it calls the channel
open.

The peer has a say in the nonce, so sealing must stand using one twice: the tag is computed first, from the text,
and is what the stream starts from (a synthetic IV, as in RFC 5297, here with HMAC-SHA-256). Sealing is
deterministic.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from channeld.base.digests import MEMO_BYTES, Terms, salt_commitment
from channeld.base.errors import Malformed
from channeld.base.keys import hkdf, keccak
from channeld.base.units import Address, Digest, Seconds, Side, exactly

SEALED_BYTES: Final = 48
GWEI: Final = 10**9
MAX_BOND: Final = (2**32 - 1) * GWEI
"""Largest close bond a memo has room for, about 4.29 coins; a bond is a whole number of gwei."""

_SHARED: Final = 88
_TAG: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a memo tells one of the two sides."""

    side: Side
    terms: Terms
    salt_a: bytes = field(repr=False)
    salt_b: bytes = field(repr=False)


def _keys(seed: bytes, nonce: int) -> tuple[bytes, bytes]:
    both = hkdf(exactly(32, seed, "seed"), b"channeld/memo/1" + nonce.to_bytes(8, "big"), 64)
    return both[:32], both[32:]


def seal_salt(seed: bytes, nonce: int, peer_salt: bytes) -> bytes:
    """The own part of the memo, 48 bytes: the peer's salt for one's own eyes.

    Args:
        seed: 32 secret bytes from which everything is found again.
        nonce: of the terms, below 2**64.
        peer_salt: 32 bytes.
    """
    for_tag, for_stream = _keys(seed, nonce)
    tag = hmac.digest(for_tag, exactly(32, peer_salt, "salt"), "sha256")[:_TAG]
    return _xor(peer_salt, hmac.digest(for_stream, tag, "sha256")) + tag


def open_salt(seed: bytes, nonce: int, sealed: bytes) -> bytes:
    """The peer's salt out of 48 bytes; Malformed if they were not sealed by this seed for this nonce."""
    if len(sealed) != SEALED_BYTES:
        raise Malformed(f"memo: a sealed salt of {len(sealed)} bytes")
    for_tag, for_stream = _keys(seed, nonce)
    hidden, tag = sealed[:-_TAG], sealed[-_TAG:]
    salt = _xor(hidden, hmac.digest(for_stream, tag, "sha256"))
    if not hmac.compare_digest(hmac.digest(for_tag, salt, "sha256")[:_TAG], tag):
        raise Malformed("memo: not sealed by this seed")
    return salt


def build(*, terms: Terms, salt_a: bytes, salt_b: bytes, sealed_a: bytes, sealed_b: bytes) -> bytes:
    """The memo of 192 bytes.

    Raises:
        ValueError: the salts do not belong to the terms, or the close bond is not a whole number of gwei up to
            `MAX_BOND`.
    """
    if terms.salt_commitment != salt_commitment(keccak(salt_a), keccak(salt_b)):
        raise ValueError("the salts are not those of the terms")
    if terms.close_bond % GWEI or terms.close_bond > MAX_BOND:
        raise ValueError(f"a close bond of {terms.close_bond} wei does not fit a memo")
    shared = (
        terms.participant_a
        + terms.participant_b
        + terms.payout_a
        + terms.payout_b
        + terms.challenge_period.to_bytes(4, "big")
        + (terms.close_bond // GWEI).to_bytes(4, "big")
    )
    return (
        terms.nonce.to_bytes(8, "big")
        + exactly(SEALED_BYTES, sealed_a, "sealed salt")
        + exactly(SEALED_BYTES, sealed_b, "sealed salt")
        + _xor(shared, _stream(salt_a, salt_b))
    )


def open_memo(memo: bytes, *, terms_hash: Digest, seed: bytes, own_salt: Callable[[int], bytes]) -> Opened:
    """What `memo` tells whoever has `seed`.

    Args:
        memo: from a deposit's event.
        terms_hash: from the same event; the terms found must have it.
        seed: 32 bytes.
        own_salt: our salt for a nonce.

    Raises:
        Malformed: the memo is not for this seed, or does not belong to this deposit.
    """
    if len(memo) != MEMO_BYTES:
        raise Malformed(f"a memo of {len(memo)} bytes")
    nonce = int.from_bytes(memo[:8], "big")
    ours = own_salt(nonce)
    for side in Side:
        try:
            theirs = open_salt(seed, nonce, memo[8 + SEALED_BYTES * side : 8 + SEALED_BYTES * (side + 1)])
        except Malformed:
            continue
        salt_a, salt_b = (ours, theirs) if side is Side.A else (theirs, ours)
        terms = _terms(memo, nonce, salt_a, salt_b)
        if terms.hash != terms_hash:
            raise Malformed("memo: the terms in it are not those of the deposit")
        return Opened(side=side, terms=terms, salt_a=salt_a, salt_b=salt_b)
    raise Malformed("memo: not sealed by this seed")


def is_ours(memo: bytes, *, terms: Terms, salt_a: bytes, salt_b: bytes, side: Side, sealed_own: bytes) -> bool:
    """Whether a memo seen on chain would let `side` recover: nonce, shared part and its own sealed part are right."""
    other = bytes(SEALED_BYTES)
    parts = (sealed_own, other) if side is Side.A else (other, sealed_own)
    expected = build(terms=terms, salt_a=salt_a, salt_b=salt_b, sealed_a=parts[0], sealed_b=parts[1])
    theirs = 8 + SEALED_BYTES * side.other
    return memo[:theirs] + other + memo[theirs + SEALED_BYTES :] == expected


def _terms(memo: bytes, nonce: int, salt_a: bytes, salt_b: bytes) -> Terms:
    shared = _xor(memo[-_SHARED:], _stream(salt_a, salt_b))
    try:
        return Terms(
            participant_a=Address(shared[:20]),
            participant_b=Address(shared[20:40]),
            payout_a=Address(shared[40:60]),
            payout_b=Address(shared[60:80]),
            challenge_period=Seconds(int.from_bytes(shared[80:84], "big")),
            salt_commitment=salt_commitment(keccak(salt_a), keccak(salt_b)),
            close_bond=int.from_bytes(shared[84:], "big") * GWEI,
            nonce=nonce,
        )
    except ValueError as fault:
        raise Malformed(f"memo: {fault}") from None


def _stream(salt_a: bytes, salt_b: bytes) -> bytes:
    key = keccak(b"channeld/memo/shared/1" + exactly(32, salt_a, "salt") + exactly(32, salt_b, "salt"))
    return b"".join(keccak(key + bytes([block])) for block in range(3))[:_SHARED]


def _xor(data: bytes, stream: bytes) -> bytes:
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
