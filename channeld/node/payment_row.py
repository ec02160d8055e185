"""A payment of ours as its row in the database says it, `COLUMNS` in this order. One to ourselves has a row of its own
beside it, which says from which channel of ours it goes to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from channeld.base.units import Address, Amount, ChannelId, LockKey, NodeId, Timestamp
from channeld.storage.store import Store, narrow
from channeld.wire.invoice import Invoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What is known of one payment; `state` is pending, succeeded, failed, or unknown after a restore.

    `drawn`: of a keysend, the preimage that we drew for it; it has no invoice. `preimage` is there once it is paid.
    """

    hash: LockKey
    invoice: str
    drawn: bytes = field(default=b"", repr=False)
    token: Address
    payee: NodeId
    amount: Amount
    fee: Amount
    max_fee: Amount
    give_up: Timestamp
    hops: int
    state: str
    preimage: bytes
    code: str
    text: str
    at: Timestamp
    settled_at: Timestamp


@dataclass(frozen=True, slots=True)
class Circle:
    """Out over one channel of ours, home over another."""

    out: ChannelId
    into: ChannelId


COLUMNS: Final = (
    "hash, invoice, drawn, token, payee, amount, fee, max_fee, give_up, hops, state, preimage, code, text, at, "
    "settled_at"
)


def new_payment(
    asked: Invoice, text: str, amount: Amount, max_fee: Amount, now: Timestamp, timeout: int, drawn: bytes = b""
) -> Payment:
    """One that begins now."""
    return Payment(
        hash=asked.payment_hash,
        invoice=text,
        drawn=drawn,
        token=asked.token,
        payee=asked.payee,
        amount=amount,
        fee=Amount(0),
        max_fee=max_fee,
        give_up=Timestamp(now + timeout),
        hops=0,
        state="pending",
        preimage=b"",
        code="",
        text="",
        at=now,
        settled_at=Timestamp(0),
    )


def payment_of(row: Sequence[Any]) -> Payment:
    hash_, text, drawn, token, payee, amount, fee, max_fee, give_up, hops, state, preimage, code, why, at, settled = row
    return Payment(
        hash=hash_,
        invoice=text,
        drawn=drawn,
        token=token,
        payee=payee,
        amount=Amount(narrow(amount)),
        fee=Amount(narrow(fee)),
        max_fee=Amount(narrow(max_fee)),
        give_up=give_up,
        hops=hops,
        state=state,
        preimage=preimage,
        code=code,
        text=why,
        at=at,
        settled_at=settled,
    )


def circle_of(store: Store, hash_: LockKey) -> Circle | None:
    """How a payment to ourselves goes; None of any other."""
    rows = store.rows("SELECT out_channel, in_channel FROM rebalances WHERE hash = ?", hash_)
    return Circle(*rows[0]) if rows else None
