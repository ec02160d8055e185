"""Messages under encryption, after the handshake: BOLT 8, "Lightning Message Specification".

Each message is an encrypted two-byte length with its tag (18 bytes) and the encrypted message with its tag.
Each direction has a key, a nonce and a chaining key of its own; a key is used for 1,000 nonces (500 messages)
and then rotated. `Transport` neither reads nor writes: bytes go in and out. After one tag that does not fit,
nothing more can be read, and whoever holds the transport drops the connection.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from channeld.base.errors import Malformed
from channeld.base.keys import hkdf
from channeld.base.units import NodeId

MAX_MESSAGE: Final = 65_535
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 2 + TAG_BYTES
ROTATION: Final = 1_000
"""Nonces a key is used for."""

_NONCES: Final = tuple(bytes(4) + number.to_bytes(8, "little") for number in range(ROTATION))


class _Direction:
    """One key and its successors."""

    __slots__ = ("_chaining", "_key", "aead", "used")

    def __init__(self, key: bytes, chaining: bytes) -> None:
        self._key = key
        self._chaining = chaining
        self.aead = ChaCha20Poly1305(key)
        self.used = 0

    def next_nonce(self) -> bytes:
        """The nonce for one use of `aead`, which this may replace first."""
        if self.used == ROTATION:
            both = hkdf(self._key, b"", 64, salt=self._chaining)
            self._chaining, self._key = both[:32], both[32:]
            self.aead = ChaCha20Poly1305(self._key)
            self.used = 0
        nonce = _NONCES[self.used]
        self.used += 1
        return nonce


class Transport:
    """An encrypted connection with `remote` (33 bytes, proven by the handshake)."""

    __slots__ = ("_broken", "_buffer", "_length", "_receiving", "_sending", "remote")

    def __init__(self, *, sending: bytes, receiving: bytes, chaining: bytes, remote: NodeId) -> None:
        """Keys of 32 bytes as the handshake derives them."""
        self.remote = remote
        self._sending = _Direction(sending, chaining)
        self._receiving = _Direction(receiving, chaining)
        self._buffer = bytearray()
        self._length: int | None = None
        self._broken = False

    def encrypt(self, message: bytes) -> bytes:
        """`message` (at most 65,535 bytes, else ValueError) as bytes to send, in the order of the calls."""
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(message)} bytes")
        way = self._sending
        nonce = way.next_nonce()
        header = way.aead.encrypt(nonce, len(message).to_bytes(2, "big"), None)
        nonce = way.next_nonce()
        return header + way.aead.encrypt(nonce, message, None)

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order; the rest of it is kept, at most one message's bytes.

        Raises:
            Malformed: a tag does not fit, now or in an earlier call. Messages before it in `data` are lost too:
                the stream was meddled with.
        """
        if self._broken:
            raise Malformed("nothing can be read after a tag that did not fit")
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        at = 0
        while True:
            if self._length is None:
                if len(buffer) - at < HEADER_BYTES:
                    break
                header = self._open(bytes(buffer[at : at + HEADER_BYTES]))
                self._length = int.from_bytes(header, "big") + TAG_BYTES
                at += HEADER_BYTES
            if len(buffer) - at < self._length:
                break
            messages.append(self._open(bytes(buffer[at : at + self._length])))
            at += self._length
            self._length = None
        del buffer[:at]
        return messages

    def _open(self, sealed: bytes) -> bytes:
        nonce = self._receiving.next_nonce()
        try:
            return self._receiving.aead.decrypt(nonce, sealed, None)
        except InvalidTag:
            self._broken = True
            self._buffer.clear()
            raise Malformed("a tag does not fit") from None
