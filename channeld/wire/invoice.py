"""An invoice: what a payee asks for, as one line of text, signed with its node key.

The text is bech32m with the prefix "chd" and a tag for the chain, so that a person sees what it is. Inside are a
msgpack record and 65 bytes of signature over keccak256(prefix ‖ record). The record names the payee, and the
signature must be the payee's own: a changed text is refused, not read as somebody else's invoice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from channeld.base.digests import Domain
from channeld.base.errors import Malformed
from channeld.base.keys import Key, keccak, verify_node
from channeld.base.units import (
    MAX_TIMESTAMP,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockKey,
    NodeId,
    Seconds,
    Timestamp,
)
from channeld.wire import bech32m
from channeld.wire import fields as f

PREFIX: Final = "chd"
TAGS: Final = {1: "eth", 10: "op", 137: "pol", 8453: "base", 42161: "arb", 11155111: "sep", 31337: "dev"}
"""What follows "chd" by chain id; "net" for all other chains. The chain id itself is in the record."""
MAX_DESCRIPTION: Final = 640
MAX_HINTS: Final = 4
MAX_HINT_HOPS: Final = 4
DEFAULT_EXPIRY: Final = Seconds(3_600)

_HOP_BYTES: Final = 33 + 32 + 11 + 4 + 4
_SIGNATURE_BYTES: Final = 65


@dataclass(frozen=True, slots=True, kw_only=True)
class HintHop:
    """One step of a way to the payee: `node` forwards over `channel` for this fee and lock time."""

    node: NodeId
    channel: ChannelId
    fee_base: Amount
    fee_ppm: int
    expiry_delta: Seconds

    def packed(self) -> bytes:
        """84 bytes, big-endian; ValueError outside the limits."""
        if len(self.node) != 33 or len(self.channel) != 32:
            raise ValueError("a hint names a node by 33 bytes and a channel by 32")
        try:
            return (
                self.node
                + self.channel
                + self.fee_base.to_bytes(11, "big")
                + self.fee_ppm.to_bytes(4, "big")
                + self.expiry_delta.to_bytes(4, "big")
            )
        except OverflowError:
            raise ValueError("a hint's fee or delta is out of range") from None

    @classmethod
    def unpacked(cls, data: bytes) -> HintHop:
        """The hop in 84 bytes."""
        return cls(
            node=NodeId(data[:33]),
            channel=ChannelId(data[33:65]),
            fee_base=Amount(int.from_bytes(data[65:76], "big")),
            fee_ppm=int.from_bytes(data[76:80], "big"),
            expiry_delta=Seconds(int.from_bytes(data[80:], "big")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """What is asked for.

    `token` is twenty zeros for the native coin. `amount` None lets the payer choose. Either `description` (at
    most 640 bytes) or `description_hash` (32 bytes, of a longer text known elsewhere) or neither. `expiry`
    counts from `created`. `min_final_delta`: seconds that the last lock must have left when it arrives.
    `hints`: ways to a payee whose channels are not announced, each in the order of travel.
    """

    domain: Domain
    token: Address
    amount: Amount | None
    payment_hash: LockKey
    payment_secret: bytes
    created: Timestamp
    expiry: Seconds = DEFAULT_EXPIRY
    description: str = ""
    description_hash: Digest | None = None
    payee: NodeId
    min_final_delta: Seconds
    hints: tuple[tuple[HintHop, ...], ...] = ()
    features: int = 0

    @property
    def expires_at(self) -> Timestamp:
        """The last moment at which it may be paid."""
        return Timestamp(self.created + self.expiry)

    def is_expired(self, now: Timestamp) -> bool:
        return now > self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """The invoice as it is packed."""

    chain_id: Annotated[int, f.UINT64]
    manager: Annotated[Address, f.BYTES20]
    token: Annotated[Address, f.BYTES20]
    amount: Annotated[bytes, f.nothing_or(11)]
    payment_hash: Annotated[LockKey, f.BYTES32]
    payment_secret: Annotated[bytes, f.BYTES32]
    created: Annotated[Timestamp, f.UINT32]
    expiry: Annotated[Seconds, f.uint(32, least=1)]
    description: Annotated[str, f.text(MAX_DESCRIPTION)]
    description_hash: Annotated[bytes, f.nothing_or(32)]
    payee: Annotated[NodeId, f.BYTES33]
    min_final_delta: Annotated[Seconds, f.UINT32]
    hints: Annotated[tuple[bytes, ...], f.chunks(MAX_HINTS, MAX_HINT_HOPS * _HOP_BYTES, _HOP_BYTES)]
    features: Annotated[int, f.UINT64]


_RECORDS: Final = f.Family[_Record]("invoice", 2_400)
_RECORDS.member(1)(_Record)


def prefix(chain_id: int) -> str:
    """The prefix of invoices for a chain."""
    return PREFIX + TAGS.get(chain_id, "net")


def _digest(head: str, record: bytes) -> Digest:
    return Digest(keccak(b"channeld invoice\n" + head.encode() + b"\n" + record))


def encode(invoice: Invoice, key: Key) -> str:
    """The invoice as text, signed.

    Args:
        invoice: within the limits of its fields.
        key: node key of the payee.

    Raises:
        ValueError: a limit does not hold, or `key` is not the payee's.
    """
    if key.public != invoice.payee:
        raise ValueError("an invoice is signed by its payee")
    if invoice.amount is not None and not 0 < invoice.amount < 2**88:
        raise ValueError(f"an invoice over {invoice.amount}")
    if invoice.expires_at > MAX_TIMESTAMP:
        raise ValueError("the invoice expires after the end of time (2**32 seconds)")
    if invoice.description and invoice.description_hash is not None:
        raise ValueError("an invoice has a description or the hash of one")
    record = _RECORDS.encode(
        _Record(
            chain_id=invoice.domain.chain_id,
            manager=invoice.domain.manager,
            token=invoice.token,
            amount=b"" if invoice.amount is None else invoice.amount.to_bytes(11, "big"),
            payment_hash=invoice.payment_hash,
            payment_secret=invoice.payment_secret,
            created=invoice.created,
            expiry=invoice.expiry,
            description=invoice.description,
            description_hash=invoice.description_hash or b"",
            payee=invoice.payee,
            min_final_delta=invoice.min_final_delta,
            hints=tuple(_packed(way) for way in invoice.hints),
            features=invoice.features,
        )
    )
    head = prefix(invoice.domain.chain_id)
    return bech32m.encode(head, record + key.sign(_digest(head, record)))


def decode(text: str) -> Invoice:
    """The invoice in `text`, its signature verified.

    Raises:
        Malformed: not an invoice that `encode` could have written (all upper case is read too).
    """
    head, data = bech32m.decode(text)
    if not head.startswith(PREFIX):
        raise Malformed(f"not an invoice of ours: it starts with {head[:16]!r}")
    record, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
    raw = _RECORDS.decode(record)
    amount = Amount(int.from_bytes(raw.amount, "big")) if raw.amount else None
    if amount == 0 or raw.created + raw.expiry > MAX_TIMESTAMP or (raw.description and raw.description_hash):
        raise Malformed("invoice: amount, expiry or description is not what it may be")
    if head != prefix(raw.chain_id):
        raise Malformed(f"invoice: the prefix {head!r} does not belong to chain {raw.chain_id}")
    if not verify_node(_digest(head, record), signature, raw.payee):
        raise Malformed("invoice: the signature is not the payee's")
    return Invoice(
        domain=Domain(chain_id=raw.chain_id, manager=raw.manager),
        token=raw.token,
        amount=amount,
        payment_hash=raw.payment_hash,
        payment_secret=raw.payment_secret,
        created=raw.created,
        expiry=raw.expiry,
        description=raw.description,
        description_hash=Digest(raw.description_hash) if raw.description_hash else None,
        payee=raw.payee,
        min_final_delta=raw.min_final_delta,
        hints=tuple(_unpacked(way) for way in raw.hints),
        features=raw.features,
    )


def _packed(way: Iterable[HintHop]) -> bytes:
    return b"".join(hop.packed() for hop in way)


def _unpacked(way: bytes) -> tuple[HintHop, ...]:
    return tuple(HintHop.unpacked(way[at : at + _HOP_BYTES]) for at in range(0, len(way), _HOP_BYTES))
