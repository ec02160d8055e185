"""What an onion tells one hop: pass it on, or it is for you. Bytes inside `wire.onion`, msgpack in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias, Union

from channeld.base.units import Amount, ChannelId, Timestamp
from channeld.wire import fields as f

MAX_PAYLOAD: Final = 1_265


Payload: TypeAlias = Union["ForwardPayload", "FinalPayload"]

PAYLOADS: Final = f.Family[Payload]("onion payload", MAX_PAYLOAD)


@PAYLOADS.member(1)
@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPayload:
    """Offer a lock of `amount` that expires at `expiry` in `next_channel`. 53 bytes."""

    next_channel: Annotated[ChannelId, f.BYTES32]
    amount: Annotated[Amount, f.POSITIVE_AMOUNT]
    expiry: Annotated[Timestamp, f.uint(32, least=1)]


@PAYLOADS.member(2)
@dataclass(frozen=True, slots=True, kw_only=True)
class FinalPayload:
    """A part of at least `amount` of a payment of `total`; the secret is from the invoice.

    `preimage` (32 bytes or none): of a payment without an invoice, where the payer chose it.
    """

    amount: Annotated[Amount, f.POSITIVE_AMOUNT]
    expiry: Annotated[Timestamp, f.uint(32, least=1)]
    payment_secret: Annotated[bytes, f.BYTES32]
    total: Annotated[Amount, f.POSITIVE_AMOUNT]
    preimage: Annotated[bytes, f.nothing_or(32)] = b""


def encode(payload: Payload) -> bytes:
    """The payload's bytes; ValueError outside its limits."""
    return PAYLOADS.encode(payload)


def decode(data: bytes) -> Payload:
    """The payload in `data`; Malformed for anything that `encode` would not have written."""
    return PAYLOADS.decode(data)
