"""Why a lock was failed, for the payer's eyes: the message inside an error onion.

The payer acts by the code: `permanent` says that trying again the same way is vain, `at_payee` that no other
route will help. Numbers never change their meaning. A failure fills at most 256 bytes, so that the padded
error onion (BOLT 4) has one length. Where a policy forbids the lock, the hop's newest `ChannelUpdate` comes with it,
159 bytes for the payer's eyes: it is used for the next tries and never passed on (`node.lately`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from channeld.base.errors import Malformed
from channeld.wire import fields as f

MAX_DATA: Final = 240
MAX_FAILURE: Final = 256


class FailureCode(IntEnum):
    """What went wrong at a hop. `data` of the failure, where not said otherwise, is empty."""

    TEMPORARY_CHANNEL_FAILURE = 1
    """The next channel cannot carry it now: one code whether it has too little or too many locks, and no data, so that
    nobody can look for a balance by it."""
    TEMPORARY_NODE_FAILURE = 2
    PERMANENT_NODE_FAILURE = 3
    PERMANENT_CHANNEL_FAILURE = 4
    UNKNOWN_NEXT_PEER = 5
    """There is no such next channel, or its other end is away."""
    CHANNEL_CLOSING = 6
    CHANNEL_DISABLED = 7
    """`data`: the encoded `ChannelUpdate`, or nothing."""
    AMOUNT_BELOW_MINIMUM = 8
    """Or above the most that one lock may carry. `data`: the encoded `ChannelUpdate`."""
    FEE_INSUFFICIENT = 9
    """`data`: the encoded `ChannelUpdate`."""
    INCORRECT_EXPIRY = 10
    """Less than the hop's expiry delta is left to it. `data`: the encoded `ChannelUpdate`."""
    EXPIRY_TOO_SOON = 11
    EXPIRY_TOO_FAR = 12
    INVALID_ONION = 13
    INVALID_PAYLOAD = 14
    SAFE_MODE = 15
    """The hop does not trust its view of the chain and takes on nothing new."""
    KEY_ALREADY_REGISTERED = 16
    """The preimage is public, so nobody safe would pass this lock on."""
    UNKNOWN_PAYMENT = 32
    """No such invoice, wrong payment secret, or it is paid or expired: the payee does not say which."""
    FINAL_INCORRECT_AMOUNT = 33
    FINAL_INCORRECT_EXPIRY = 34
    PAYMENT_TIMEOUT = 35
    """The other parts of the payment did not come in time, or it was held until there was no time left."""
    REJECTED_BY_PAYEE = 36
    """The payee has canceled its invoice; a payment that was held, or parts of it, come back."""

    @property
    def at_payee(self) -> bool:
        """Whether only the last hop may say this: another route will not help."""
        return self >= FailureCode.UNKNOWN_PAYMENT

    @property
    def permanent(self) -> bool:
        """Whether the same hop or channel is no use for any later payment."""
        return self in _PERMANENT


_PERMANENT: Final = frozenset(
    {
        FailureCode.PERMANENT_NODE_FAILURE,
        FailureCode.PERMANENT_CHANNEL_FAILURE,
        FailureCode.CHANNEL_CLOSING,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A code and, for some codes, bytes that help (at most 240)."""

    code: Annotated[FailureCode, f.UINT16]
    data: Annotated[bytes, f.upto(MAX_DATA)] = b""


_FAILURES: Final = f.Family[Failure]("failure", MAX_FAILURE)
_FAILURES.member(1)(Failure)


def encode(failure: Failure) -> bytes:
    """At most 256 bytes, for `onion.create_error`; ValueError outside the limits."""
    return _FAILURES.encode(failure)


def decode(data: bytes) -> Failure:
    """The failure in `data`. Malformed for anything that `encode` would not have written, unknown codes included."""
    raw = _FAILURES.decode(data)
    try:
        return Failure(code=FailureCode(raw.code), data=raw.data)
    except ValueError:
        raise Malformed(f"failure: unknown code {raw.code:d}") from None
