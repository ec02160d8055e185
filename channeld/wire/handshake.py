"""Who are you: the Noise_XK handshake of BOLT 8, byte for byte, without input or output of its own.

The initiator knows the responder's node id; the responder learns the initiator's in act three. Each side is
fed the other's acts (50, 50 and 66 bytes) and ends with a `Transport`. Anything wrong in an act raises
`Malformed`, upon which the connection is dropped without a word (BOLT 8, "MUST terminate the connection").
The ephemeral key comes in as an argument and must be fresh for each connection.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from channeld.base.errors import Malformed
from channeld.base.keys import Key, hkdf, sha256
from channeld.base.units import NodeId
from channeld.wire.transport import Transport

PROTOCOL_NAME: Final = b"Noise_XK_secp256k1_ChaChaPoly_SHA256"
PROLOGUE: Final = b"lightning"
ACT_ONE_BYTES: Final = 50
ACT_TWO_BYTES: Final = 50
ACT_THREE_BYTES: Final = 66

_VERSION: Final = b"\x00"
_START: Final = sha256(PROTOCOL_NAME)
_FIRST_NONCE: Final = bytes(12)
_SECOND_NONCE: Final = bytes(4) + (1).to_bytes(8, "little")


class _State:
    """`h`, `ck` and the temporary key of BOLT 8, "Handshake State"."""

    __slots__ = ("ck", "h", "temporary")

    def __init__(self, responder: NodeId) -> None:
        self.ck = _START
        self.h = sha256(_START + PROLOGUE)
        self.temporary = b""
        self.mix_hash(responder)

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data)

    def mix_key(self, own: Key, other: bytes) -> None:
        """`ck, temp_k = HKDF(ck, ECDH(own, other))`; Malformed if `other` is no point."""
        try:
            secret = own.ecdh(other)
        except ValueError:
            raise Malformed("handshake: not a public key") from None
        both = hkdf(secret, b"", 64, salt=self.ck)
        self.ck, self.temporary = both[:32], both[32:]

    def seal(self, plain: bytes, nonce: bytes = _FIRST_NONCE) -> bytes:
        sealed = ChaCha20Poly1305(self.temporary).encrypt(nonce, plain, self.h)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes, nonce: bytes = _FIRST_NONCE) -> bytes:
        try:
            plain = ChaCha20Poly1305(self.temporary).decrypt(nonce, sealed, self.h)
        except InvalidTag:
            raise Malformed("handshake: a tag does not fit") from None
        self.mix_hash(sealed)
        return plain

    def final_keys(self) -> tuple[bytes, bytes]:
        """The initiator's sending key and its receiving key."""
        both = hkdf(b"", b"", 64, salt=self.ck)
        return both[:32], both[32:]


def _parts(act: bytes, length: int, cut: int) -> tuple[bytes, bytes]:
    """The two parts of an act after its version byte, the first `cut` bytes long."""
    if len(act) != length:
        raise Malformed(f"handshake: an act of {len(act)} bytes, not {length}")
    if act[:1] != _VERSION:
        raise Malformed(f"handshake: unknown version {act[0]}")
    return act[1 : 1 + cut], act[1 + cut :]


class Initiator:
    """The side that dials: `act_one()` out, act two in, act three out."""

    __slots__ = ("_ephemeral", "_remote", "_state", "_static")

    def __init__(self, static: Key, ephemeral: Key, remote: NodeId) -> None:
        """`static`: our node key; `ephemeral`: a fresh one; `remote`: the node id (33 bytes) to be found there."""
        self._static = static
        self._ephemeral = ephemeral
        self._remote = remote
        self._state = _State(remote)

    def act_one(self) -> bytes:
        """50 bytes to send first; Malformed if the remote id given is no public key."""
        state = self._state
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral, self._remote)
        return _VERSION + self._ephemeral.public + state.seal(b"")

    def act_three(self, act_two: bytes) -> tuple[bytes, Transport]:
        """66 bytes to send in answer to `act_two`, and the transport to use from then on."""
        state = self._state
        theirs, tag = _parts(act_two, ACT_TWO_BYTES, 33)
        state.mix_hash(theirs)
        state.mix_key(self._ephemeral, theirs)
        state.open(tag)
        ours = state.seal(self._static.public, _SECOND_NONCE)
        state.mix_key(self._static, theirs)
        act = _VERSION + ours + state.seal(b"")
        sending, receiving = state.final_keys()
        return act, Transport(sending=sending, receiving=receiving, chaining=state.ck, remote=self._remote)


class Responder:
    """The side that listens: act one in, act two out, act three in."""

    __slots__ = ("_ephemeral", "_state", "_static", "_theirs")

    def __init__(self, static: Key, ephemeral: Key) -> None:
        """`static`: our node key; `ephemeral`: a fresh one."""
        self._static = static
        self._ephemeral = ephemeral
        self._state = _State(static.public)
        self._theirs = b""

    def act_two(self, act_one: bytes) -> bytes:
        """50 bytes to send in answer to `act_one`."""
        state = self._state
        self._theirs, tag = _parts(act_one, ACT_ONE_BYTES, 33)
        state.mix_hash(self._theirs)
        state.mix_key(self._static, self._theirs)
        state.open(tag)
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral, self._theirs)
        return _VERSION + self._ephemeral.public + state.seal(b"")

    def finish(self, act_three: bytes) -> Transport:
        """The transport, whose `remote` is the initiator's node id, now proven."""
        state = self._state
        sealed, tag = _parts(act_three, ACT_THREE_BYTES, 49)
        remote = NodeId(state.open(sealed, _SECOND_NONCE))
        state.mix_key(self._ephemeral, remote)
        state.open(tag)
        receiving, sending = state.final_keys()
        return Transport(sending=sending, receiving=receiving, chaining=state.ck, remote=remote)
