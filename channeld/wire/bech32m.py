"""Bytes as text that people may copy, type and scan: bech32m (BIP-350), without its limit of 90 characters.

The checksum finds any four wrong characters in up to 89 and, in longer texts, all but one in 2**30 of other
changes; who needs more signs what is inside. Lower case is written; all upper case (for QR codes) is read too,
mixed case is not.
"""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import Final

from channeld.base.errors import Malformed

MAX_TEXT: Final = 4_096
"""Longest text that is read or written, in characters."""

_ALPHABET: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_RFC4648: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CONSTANT: Final = 0x2BC830A3
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM: Final = 6

_FROM_RFC: Final = bytes.maketrans(_RFC4648, _ALPHABET)
_TO_VALUES: Final = bytes.maketrans(_ALPHABET, bytes(range(32)))
_TO_DIGITS: Final = bytes.maketrans(bytes(range(32)), b"0123456789abcdefghijklmnopqrstuv")


def _step(checksum: int, value: int) -> int:
    """One step of `bech32m_polymod` in BIP-350."""
    top = checksum >> 25
    checksum = (checksum & 0x1FFFFFF) << 5 ^ value
    for bit, generator in enumerate(_GENERATOR):
        if top >> bit & 1:
            checksum ^= generator
    return checksum


def _masks(length: int) -> tuple[int, ...]:
    """For each of the checksum's 30 bits: which bits of a message of at most `length` values turn it over.

    The checksum is linear: it is the sum, modulo two, of what each bit of the message would make by itself, and what
    a value makes depends on how many follow it only. So one bit of it is the parity of some bits of the message.
    """
    masks = [0] * 30
    for place in range(5):
        makes = 1 << place
        for value in range(length):
            for bit in range(30):
                masks[bit] |= (makes >> bit & 1) << 5 * value + place
            makes = _step(makes, 0)
    return tuple(masks)


@lru_cache(maxsize=16)
def _masks_for(size: int) -> tuple[int, ...]:
    return _masks(size * 256)


def _polymod(values: bytes) -> int:
    """`bech32m_polymod` of BIP-350 over five-bit values."""
    message = _number(values) | 1 << 5 * len(values)  # what the checksum begins with stands before them
    checksum = 0
    for bit, mask in enumerate(_masks_for(len(values) // 256 + 1)):
        checksum |= ((message & mask).bit_count() & 1) << bit
    return checksum


def _number(values: bytes) -> int:
    """Five-bit values as one number, the last one lowest."""
    return int(values.translate(_TO_DIGITS) or b"0", 32)


def _expand(prefix: str) -> bytes:
    codes = prefix.encode()
    return bytes(code >> 5 for code in codes) + b"\0" + bytes(code & 31 for code in codes)


def encode(prefix: str, data: bytes) -> str:
    """`data` as text that starts with `prefix` and "1".

    Raises:
        ValueError: `prefix` is not 1 to 83 lower-case printable ASCII characters, or the text is too long.
    """
    if not 1 <= len(prefix) <= 83 or prefix != prefix.lower() or not all(33 <= ord(sign) <= 126 for sign in prefix):
        raise ValueError(f"{prefix!r} is no prefix")
    body = base64.b32encode(data).rstrip(b"=").translate(_FROM_RFC)
    if len(prefix) + 1 + len(body) + _CHECKSUM > MAX_TEXT:
        raise ValueError(f"{len(data)} bytes are too many for one text")
    values = _expand(prefix) + body.translate(_TO_VALUES) + bytes(_CHECKSUM)
    checksum = _polymod(values) ^ _CONSTANT
    tail = bytes(_ALPHABET[checksum >> 5 * (_CHECKSUM - 1 - place) & 31] for place in range(_CHECKSUM))
    return f"{prefix}1{(body + tail).decode()}"


def split(text: str, limit: int = MAX_TEXT) -> tuple[str, bytes]:
    """Prefix and five-bit values of `text`, its checksum verified and taken off.

    Raises:
        Malformed: not bech32m, or longer than `limit` characters.
    """
    if len(text) > limit:
        raise Malformed(f"a text of {len(text)} characters, at most {limit} are read")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Malformed("not bech32m: a character that is never used")
    if text != text.lower() and text != text.upper():
        raise Malformed("not bech32m: upper and lower case are mixed")
    prefix, separator, rest = text.lower().rpartition("1")
    if not separator or not 1 <= len(prefix) <= 83 or len(rest) < _CHECKSUM:
        raise Malformed("not bech32m: no prefix, no separator or too short")
    body = rest.encode()
    if body.translate(None, _ALPHABET):
        raise Malformed("not bech32m: a character that is never used")
    values = body.translate(_TO_VALUES)
    if _polymod(_expand(prefix) + values) != _CONSTANT:
        raise Malformed("the checksum does not fit: a character is wrong or missing")
    return prefix, values[:-_CHECKSUM]


def decode(text: str) -> tuple[str, bytes]:
    """Prefix (in lower case) and bytes of `text`; Malformed if `encode` would not have written it, case aside."""
    prefix, values = split(text)
    spare = len(values) * 5 % 8
    number = _number(values)
    if spare >= 5 or number & ((1 << spare) - 1):
        raise Malformed("not bech32m: not a whole number of bytes, or bits are left over")
    return prefix, (number >> spare).to_bytes(len(values) * 5 // 8, "big")
