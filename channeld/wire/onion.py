"""The onion: Sphinx as in BOLT 4, so that a hop learns its neighbours and its own instructions, nothing more.

`build` wraps one payload per hop into a packet of 1,366 bytes; each hop `peel`s one layer with its node key
and passes on a packet of the same length. A failure comes back the same way: the hop where it happened
creates an error onion with the secret it got from `peel`, each hop before it wraps it once more, and only the
payer, who has all the secrets, learns which hop it was. The associated data (the payment hash) is bound in,
so that an onion cannot be used for another payment. Payloads here are bytes; `wire.payload` gives them sense.

Source: BOLT 4, "Packet Structure", "Onion Construction", "Returning Errors", byte for byte.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import coincurve
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from channeld.base.errors import Malformed
from channeld.base.keys import ORDER, Key, sha256
from channeld.base.units import NodeId

VERSION: Final = b"\x00"
ROUTING_BYTES: Final = 1_300
ONION_BYTES: Final = 1 + 33 + ROUTING_BYTES + 32
MIN_ERROR_DATA: Final = 256
"""Message and padding of an error onion together, so that its length says nothing."""
ERROR_BYTES: Final = 32 + 2 + MIN_ERROR_DATA + 2
MAX_HOPS: Final = 27
"""What BOLT 4 counts as the longest route; unwrapping an error always takes as many steps."""

_NO_NONCE: Final = bytes(16)
_LAST: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A packet to send, and one shared secret per hop, to be kept for reading an error."""

    packet: bytes
    secrets: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peeled:
    """One hop's layer. `onward`: the packet for the next hop, None if this is the last one."""

    payload: bytes
    secret: bytes = field(repr=False)
    onward: bytes | None


def _key(kind: bytes, secret: bytes) -> bytes:
    """The key for one use of a shared secret ("rho", "mu", "um", "ammag", "pad")."""
    return hmac.digest(kind, secret, "sha256")


def _xor(key: bytes, data: bytes, skip: int = 0) -> bytes:
    """`data` XORed with the ChaCha20 stream of `key` from byte `skip` on."""
    stream = Cipher(algorithms.ChaCha20(key, _NO_NONCE), mode=None).encryptor()
    if skip:
        stream.update(bytes(skip))
    return stream.update(data)


def _frame(payload: bytes) -> bytes:
    """`payload` after its length as BOLT 1 `bigsize`; ValueError if shorter than two bytes."""
    length = len(payload)
    if length < 2:
        raise ValueError("a hop's payload has two bytes or more")
    if length < 0xFD:
        return bytes([length]) + payload
    return b"\xfd" + length.to_bytes(2, "big") + payload


def _take(data: bytes) -> tuple[bytes, int]:
    """The framed payload at the start of `data` and the length of its frame."""
    first = data[0]
    if first < 0xFD:
        head, length = 1, first
    elif first == 0xFD:
        head, length = 3, int.from_bytes(data[1:3], "big")
        if length < 0xFD:
            raise Malformed("onion: a length in a longer form than needed")
    else:
        raise Malformed("onion: a payload longer than the onion")
    if length < 2 or head + length + 32 > ROUTING_BYTES:
        raise Malformed(f"onion: a payload of {length} bytes")
    return data[head : head + length], head + length


def build(hops: Sequence[tuple[NodeId, bytes]], associated: bytes, session: bytes) -> Built:
    """An onion for `hops`, the first to be met first.

    Args:
        hops: node id (33 bytes) and payload (2 bytes or more) of each hop; all payloads with 33 to 35 bytes more
            each fit into 1,300 bytes.
        associated: bytes that every hop must know to peel it: the payment hash.
        session: 32 fresh random bytes, a private key.

    Raises:
        ValueError: no hops, too much payload, or a node id that is no public key.
    """
    frames = [_frame(payload) for _, payload in hops]
    if not frames or sum(len(frame) + 32 for frame in frames) > ROUTING_BYTES:
        raise ValueError(f"an onion for {len(frames)} hops, payloads of {sum(map(len, frames))} bytes")
    first, secrets = _secrets([node for node, _ in hops], session)
    rhos = [_key(b"rho", secret) for secret in secrets]
    filler = _filler(rhos, frames)
    routing = _xor(_key(b"pad", session), bytes(ROUTING_BYTES))
    tag = _LAST
    for at in range(len(frames) - 1, -1, -1):
        routing = _xor(rhos[at], (frames[at] + tag + routing)[:ROUTING_BYTES])
        if filler:
            routing = routing[: -len(filler)] + filler
            filler = b""
        tag = hmac.digest(_key(b"mu", secrets[at]), routing + associated, "sha256")
    return Built(packet=VERSION + first + routing + tag, secrets=tuple(secrets))


def _secrets(nodes: Sequence[NodeId], session: bytes) -> tuple[bytes, list[bytes]]:
    """The first ephemeral public key, and the secret shared with each node: two multiplications a hop.

    `multiply` takes a time that depends on the scalar; the scalars here live for one packet only.
    """
    scalar = session
    first = public = coincurve.PublicKey.from_secret(scalar).format()
    secrets: list[bytes] = []
    for count, node in enumerate(nodes, 1):
        secret = sha256(_point(node).multiply(scalar).format())
        secrets.append(secret)
        if count < len(nodes):
            blinding = int.from_bytes(sha256(public + secret), "big")
            scalar = (int.from_bytes(scalar, "big") * blinding % ORDER).to_bytes(32, "big")
            public = coincurve.PublicKey.from_secret(scalar).format()
    return first, secrets


@lru_cache(maxsize=4_096)
def _point(node: NodeId) -> coincurve.PublicKey:
    """A node's public key, unpacked (a square root) once; routes go over the same nodes again and again."""
    return coincurve.PublicKey(node)


def _filler(rhos: Sequence[bytes], frames: Sequence[bytes]) -> bytes:
    """What the zeros that each hop but the last shifts in will have become at the last hop."""
    filler = b""
    for rho, frame in zip(rhos[:-1], frames[:-1], strict=True):
        start = ROUTING_BYTES - len(filler)
        filler = _xor(rho, filler + bytes(len(frame) + 32), skip=start)
    return filler


def peel(packet: bytes, key: Key, associated: bytes) -> Peeled:
    """Our layer of `packet`, which came with the payment `associated` names. `key`: our node key.

    Raises:
        Malformed: the packet was not made for us, for this payment, or by these rules.
    """
    if len(packet) != ONION_BYTES or packet[:1] != VERSION:
        raise Malformed("onion: not a packet of version 0")
    public, routing, tag = packet[1:34], packet[34:-32], packet[-32:]
    try:
        secret = key.ecdh(public)
    except ValueError:
        raise Malformed("onion: not a public key") from None
    if not hmac.compare_digest(hmac.digest(_key(b"mu", secret), routing + associated, "sha256"), tag):
        raise Malformed("onion: the tag does not fit")
    stream = Cipher(algorithms.ChaCha20(_key(b"rho", secret), _NO_NONCE), mode=None).encryptor()
    plain = stream.update(routing)
    payload, used = _take(plain)
    next_tag = plain[used : used + 32]
    if next_tag == _LAST:
        return Peeled(payload=payload, secret=secret, onward=None)
    blinding = sha256(public + secret)
    try:
        next_public = coincurve.PublicKey(public).multiply(blinding).format()
    except ValueError:  # a blinding factor of zero or beyond the order: chance 2**-127
        raise Malformed("onion: no next public key") from None
    shifted = plain[used + 32 :] + stream.update(bytes(used + 32))
    return Peeled(payload=payload, secret=secret, onward=VERSION + next_public + shifted + next_tag)


# ---- errors on their way back


def create_error(secret: bytes, message: bytes, at_least: int = MIN_ERROR_DATA) -> bytes:
    """The error onion of the hop where it happened, 292 bytes for a message of up to 256.

    Args:
        secret: what `peel` gave us for the lock that fails.
        message: at most 65,535 bytes; a message longer than `at_least` shows in the length.
        at_least: bytes that message and padding have together; all nodes use the same.
    """
    pad = bytes(max(0, at_least - len(message)))
    data = len(message).to_bytes(2, "big") + message + len(pad).to_bytes(2, "big") + pad
    return wrap_error(secret, hmac.digest(_key(b"um", secret), data, "sha256") + data)


def wrap_error(secret: bytes, error: bytes) -> bytes:
    """`error` as a hop before it passes it on, whatever the bytes are."""
    return _xor(_key(b"ammag", secret), error)


def unwrap_error(secrets: Sequence[bytes], error: bytes) -> tuple[int, bytes]:
    """Which hop of the route failed (0 is the first) and its message.

    Takes the same steps wherever the failure was, so that timing does not tell a hop its place (BOLT 4).

    Raises:
        Malformed: no hop of the route made this error; some hop changed it.
    """
    found: tuple[int, bytes] | None = None
    padded = [*secrets, *[_LAST] * (MAX_HOPS - len(secrets))]
    for hop, secret in enumerate(padded):
        error = wrap_error(secret, error)
        fits = hmac.compare_digest(hmac.digest(_key(b"um", secret), error[32:], "sha256"), error[:32])
        if fits and found is None and hop < len(secrets):
            found = hop, error[32:]
    if found is None:
        raise Malformed("error onion: no hop of the route made it")
    hop, data = found
    length = int.from_bytes(data[:2], "big")
    if len(data) < 4 + length:
        raise Malformed(f"error onion of hop {hop}: cut short")
    return hop, data[2 : 2 + length]
