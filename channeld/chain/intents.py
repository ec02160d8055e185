"""What we want done on the chain, as values that outlive the process.

An `Intent` has a name of its caller's choosing, so that asking twice is asking once. It is saved before its first
transaction is signed, and every signed transaction is saved before it is sent: a restart sends the same bytes again
and never does a thing twice. One nonce belongs to an intent as long as any attempt with it could still be mined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from channeld.base.units import Address, Timestamp
from channeld.chain.chain import BlockRef, Call


class Status(StrEnum):
    """How far an intent has come."""

    NEW = "new"
    """Nothing signed yet."""
    SENT = "sent"
    """At least one attempt is signed, saved and with the node."""
    MINED = "mined"
    """In a block that may still go."""
    BURIED = "buried"
    """In a block that stays, and it did what it should."""
    FAILED = "failed"
    """It would revert, so it was not sent; or it did revert, in a block that stays."""
    DROPPED = "dropped"
    """Its deadline passed before anything was signed."""

    @property
    def over(self) -> bool:
        return self in (Status.BURIED, Status.FAILED, Status.DROPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One signed transaction: its bytes, its hash, and what it offers per gas in wei."""

    raw: bytes
    hash: bytes
    max_fee: int
    tip: int
    at: Timestamp
    """Chain time when it was signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How a transaction ended. `price` is wei per gas, base fee included."""

    tx_hash: bytes
    block: BlockRef
    ok: bool
    gas_used: int
    price: int
    created: Address | None = None

    @property
    def fee(self) -> int:
        """Wei the sender paid for gas (on chains without a separate L1 fee)."""
        return self.gas_used * self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Something to be done on the chain once.

    `key` names it for ever, e.g. `challenge:<channel>:<version>`, at most 128 characters. `deadline` is the chain
    time after which it is of no use: fees rise towards it. `not_before` holds it back until the head is later.
    """

    sender: Address
    key: str
    to: Address | None
    data: bytes
    value: int = 0
    deadline: Timestamp | None = None
    not_before: Timestamp | None = None
    gas: int | None = None
    nonce: int | None = None
    attempts: tuple[Attempt, ...] = ()
    status: Status = Status.NEW
    reason: str = ""
    receipt: Receipt | None = None

    @classmethod
    def of(
        cls,
        sender: Address,
        key: str,
        call: Call,
        *,
        deadline: Timestamp | None = None,
        not_before: Timestamp | None = None,
        gas: int | None = None,
    ) -> Intent:
        """A new intent for `call`; `gas` only if it must not be estimated."""
        return cls(
            sender=sender,
            key=key,
            to=call.to,
            data=call.data,
            value=call.value,
            deadline=deadline,
            not_before=not_before,
            gas=gas,
        )

    @property
    def succeeded(self) -> bool:
        """It was mined and did what it should; only `BURIED` says that it stays so."""
        return self.receipt is not None and self.receipt.ok

    @property
    def call(self) -> Call:
        return Call(to=self.to, data=self.data, value=self.value)


class IntentStore(Protocol):
    """What remembers intents. A save is on disk when it returns."""

    async def open_intents(self, sender: Address) -> Sequence[Intent]:
        """All of `sender` whose status is not over, in the order in which they were first saved."""
        ...

    async def intent(self, sender: Address, key: str) -> Intent | None:
        """The intent of that name, whatever its status."""
        ...

    async def save_intent(self, intent: Intent) -> None:
        """Insert, or replace the one with the same sender and key (its place in the order stays)."""
        ...


class MemoryIntents:
    """An `IntentStore` that forgets at the end of the process: for one-shot commands such as `deploy`."""

    def __init__(self) -> None:
        self._intents: dict[tuple[Address, str], Intent] = {}

    async def open_intents(self, sender: Address) -> Sequence[Intent]:
        return [one for one in self._intents.values() if one.sender == sender and not one.status.over]

    async def intent(self, sender: Address, key: str) -> Intent | None:
        return self._intents.get((sender, key))

    async def save_intent(self, intent: Intent) -> None:
        self._intents[intent.sender, intent.key] = intent
