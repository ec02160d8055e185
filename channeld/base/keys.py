"""secp256k1 through libsecp256k1 (coincurve): sign, recover, and keys derived from one root.

Keys come in as arguments and are held in `Key`, whose repr shows only its address. A signature is good iff
`recover` names the signer, by the same predicate as the contract: 65 bytes, s in the lower half, v 27 or 28,
signer not zero (EIP-2, Yellow Paper appendix F).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import coincurve
import sha3  # type: ignore[import-not-found, unused-ignore]

from channeld.base.units import Address, Digest, NodeId, Signature

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER: Final = ORDER // 2


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it, 32 bytes."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def hkdf(secret: bytes, info: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    """HKDF with SHA-256 (RFC 5869): `length` bytes, at most 8,160, from `secret` for the purpose `info`."""
    if not 0 < length <= 255 * 32:
        raise ValueError(f"hkdf of {length} bytes")
    root = hmac.digest(salt or bytes(32), secret, "sha256")
    out, block = b"", b""
    for count in range(1, -(-length // 32) + 1):
        block = hmac.digest(root, block + info + bytes([count]), "sha256")
        out += block
    return out[:length]


def address_of(public_key: bytes) -> Address:
    """EVM address of a 65-byte uncompressed (or 33-byte compressed) public key."""
    if len(public_key) != 65:
        public_key = coincurve.PublicKey(public_key).format(compressed=False)
    return Address(keccak(public_key[1:])[12:])


class Key:
    """A secp256k1 private key. Never shown: its repr is its address."""

    __slots__ = ("_private", "address", "public")

    def __init__(self, secret: bytes) -> None:
        """`secret`: 32 bytes, a number 1 .. ORDER - 1; else ValueError."""
        if len(secret) != 32:
            raise ValueError(f"a private key of {len(secret)} bytes, not 32")
        self._private = coincurve.PrivateKey(secret)
        self.public = NodeId(self._private.public_key.format(compressed=True))
        self.address = address_of(self._private.public_key.format(compressed=False))

    def __repr__(self) -> str:
        return f"Key(0x{self.address.hex()})"

    @property
    def secret(self) -> bytes:
        """The 32 bytes themselves: for deriving others and for the keystore, never for a log."""
        return self._private.secret

    def derive(self, purpose: str) -> Key:
        """Another key, fixed by this one and `purpose` (HKDF; a value out of range is tried again)."""
        return Key(self.derive_bytes(purpose))

    def derive_bytes(self, purpose: str) -> bytes:
        """32 bytes fixed by this key and `purpose`, usable as a private key."""
        for attempt in range(256):
            secret = hkdf(self.secret, f"channeld/{purpose}/{attempt}".encode())
            if 0 < int.from_bytes(secret, "big") < ORDER:
                return secret
        raise AssertionError("256 HKDF outputs out of range")  # chance 2**-32768

    def sign(self, digest: Digest) -> Signature:
        """Sign 32 bytes: deterministic (RFC 6979), low s, v 27 or 28."""
        raw = self._private.sign_recoverable(digest, hasher=None)
        return Signature(raw[:64] + bytes([27 + raw[64]]))

    def ecdh(self, public: bytes) -> bytes:
        """SHA-256 of the compressed shared point, as BOLT 4 and BOLT 8 use it, 32 bytes."""
        return self._private.ecdh(public)


def recover(digest: Digest, signature: bytes) -> Address | None:
    """Address that signed `digest`, or None if `signature` is not one the contract accepts."""
    public = recover_public(digest, signature)
    return None if public is None else address_of(public)


def recover_public(digest: Digest, signature: bytes) -> bytes | None:
    """Uncompressed public key (65 bytes) that signed `digest`, or None for a signature that is none."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not (0 < r < ORDER and 0 < s <= HALF_ORDER):
        return None
    try:
        raw = signature[:64] + bytes([signature[64] - 27])
        return coincurve.PublicKey.from_signature_and_message(raw, digest, hasher=None).format(compressed=False)
    except ValueError:  # r is not the abscissa of a point
        return None


def compact(signature: bytes) -> tuple[bytes, bytes]:
    """(r, vs) of a 65-byte signature, as contracts take it: vs is s with v - 27 in its highest bit (EIP-2098).

    Empty for empty: two times 32 zeros. ValueError for what has no such form: another length or v, or s >= 2**255.
    """
    if not signature:
        return bytes(32), bytes(32)
    if len(signature) != 65 or signature[64] not in (27, 28) or signature[32] > 127:
        raise ValueError("a signature without a compact form")
    odd = signature[64] - 27
    return signature[:32], bytes([signature[32] | odd << 7]) + signature[33:64]


def verify_node(digest: Digest, signature: bytes, node: NodeId) -> bool:
    """Whether `node` (33 bytes) made this 65-byte signature."""
    public = recover_public(digest, signature)
    return public is not None and bytes([2 + (public[64] & 1)]) + public[1:33] == node  # SEC 1, 2.3.3: compressed
