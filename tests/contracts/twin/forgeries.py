"""Lists that are not the recorded one, made from what anybody can read off the chain and the state.

What is recorded of unresolved locks is a hash: of the list, or later of a chain from zero, rest = keccak256(rest ‖
lock). Whoever knows the locks knows every preimage of both, so each of them is sent as if it were a list, whole, cut,
longer, iterated and in another order. The laws (`laws.py`) say what it may do: nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from channeld.base.keys import keccak
from tests.contracts.twin.table import LOCK_BYTES

ZERO: Final = bytes(32)
Locks = Sequence[bytes]


def chain(locks: Locks) -> bytes:
    """What is recorded of locks that stay unresolved; 32 zeros without any."""
    rest = ZERO
    for lock in locks:
        rest = keccak(rest + lock)
    return rest


def _first(rng: random.Random, locks: Locks) -> bytes:
    """What is hashed first into a chain, for any of the locks."""
    return ZERO + rng.choice(locks)


def _last(rng: random.Random, locks: Locks) -> bytes:
    """What is hashed last into a chain of the locks: a preimage of the record itself."""
    return chain(locks[:-1]) + locks[-1]


def _link(rng: random.Random, locks: Locks) -> bytes:
    """What is hashed at some place of the chain."""
    at = rng.randrange(len(locks))
    return chain(locks[:at]) + locks[at]


def _link_and_on(rng: random.Random, locks: Locks) -> bytes:
    """The same, and the locks that follow."""
    at = rng.randrange(len(locks))
    return chain(locks[:at]) + b"".join(locks[at:])


def _links(rng: random.Random, locks: Locks) -> bytes:
    """All that is hashed, one after the other."""
    return b"".join(chain(locks[:at]) + lock for at, lock in enumerate(locks))


def _flat_and_entry(rng: random.Random, locks: Locks) -> bytes:
    """A hash of the list in the place of the chain's."""
    return keccak(b"".join(locks)) + rng.choice(locks)


def _record(rng: random.Random, locks: Locks) -> bytes:
    """The chain's hash alone, or with something after it."""
    return chain(locks) + rng.choice((b"", bytes(25), rng.choice(locks)))


def _tail(rng: random.Random, locks: Locks) -> bytes:
    """The list without its beginning, be it whole locks or not."""
    text = b"".join(locks)
    return text[rng.choice((LOCK_BYTES, 1, 32, rng.randrange(1, len(text)))) :]


def _cut(rng: random.Random, locks: Locks) -> bytes:
    """The list without its end."""
    text = b"".join(locks)
    return text[: -rng.choice((LOCK_BYTES, 1, 32, rng.randrange(1, len(text))))]


def _longer(rng: random.Random, locks: Locks) -> bytes:
    """The list and some bytes, or another lock."""
    return b"".join(locks) + rng.choice((b"\0", bytes(32), bytes(56), rng.randbytes(LOCK_BYTES), rng.choice(locks)))


def _repeated(rng: random.Random, locks: Locks) -> bytes:
    """A lock twice, or the list twice."""
    at = rng.randrange(len(locks))
    return b"".join(rng.choice(([*locks, *locks], [*locks[: at + 1], *locks[at:]], [locks[at]] * len(locks))))


def _reordered(rng: random.Random, locks: Locks) -> bytes:
    return b"".join(rng.sample(locks, len(locks)))


def _changed(rng: random.Random, locks: Locks) -> bytes:
    """The list with one bit turned: an amount, a direction, a time."""
    text = bytearray(b"".join(locks))
    text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    return bytes(text)


def _nothing(rng: random.Random, locks: Locks) -> bytes:
    """No lock at all: nothing, or zeros."""
    return bytes(rng.choice((0, 32, LOCK_BYTES, LOCK_BYTES + 32)))


KINDS: Final[tuple[Callable[[random.Random, Locks], bytes], ...]] = (
    _first,
    _last,
    _link,
    _link_and_on,
    _links,
    _flat_and_entry,
    _record,
    _tail,
    _cut,
    _longer,
    _repeated,
    _reordered,
    _changed,
    _nothing,
)


def forged(rng: random.Random, listed: Locks, all_of_them: Locks) -> bytes:
    """Bytes to send as a list: `listed` are the unresolved locks, `all_of_them` those the channel was settled with."""
    locks = list(listed if rng.randrange(4) else all_of_them)
    if not locks:
        return rng.choice((b"", ZERO, rng.randbytes(2 * LOCK_BYTES), rng.randbytes(LOCK_BYTES + 32)))
    return rng.choice(KINDS)(rng, locks)
