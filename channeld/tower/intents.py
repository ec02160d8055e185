"""The sender's memory in the tower's store: each intent as one row, its bytes saved before they are sent.

`chain.intents.IntentStore` on top of `TowerStore`. An intent is a msgpack list in one column; what the tower counts
(how many, how they ended, what they cost) has columns of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

from channeld.base.errors import Broken, Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import Address, Timestamp
from channeld.chain.chain import BlockRef
from channeld.chain.intents import Attempt, Intent, Receipt, Status

Result = TypeVar("Result")

FORM: Final = 1
"""First item of a saved intent; another number, another form."""
MAX_BYTES: Final = 16 * 2**20
INTENTS_SCHEMA: Final = (
    """CREATE TABLE intents (
        id INTEGER PRIMARY KEY,
        sender BLOB NOT NULL,
        key TEXT NOT NULL,
        status TEXT NOT NULL,
        worked INTEGER NOT NULL,
        fee TEXT NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (sender, key)
    )""",
)
_OVER: Final = tuple(str(status) for status in Status if status.over)
_SAVE: Final = """
    INSERT INTO intents (sender, key, status, worked, fee, body) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (sender, key) DO UPDATE SET
        status = excluded.status, worked = excluded.worked, fee = excluded.fee, body = excluded.body"""


class Doer(Protocol):
    """What runs work on the database: `TowerStore`."""

    async def do(self, work: Callable[[sqlite3.Connection], Result]) -> Result: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What came of all intents of one purpose, the first word of their keys."""

    sent: int = 0
    worked: int = 0
    """Mined, and did what they should."""
    fee: int = 0
    """Wei paid for gas, reverted ones included."""


class TowerIntents:
    """An `IntentStore`: a save is on disk when it returns."""

    def __init__(self, store: Doer) -> None:
        self._store = store

    async def open_intents(self, sender: Address) -> Sequence[Intent]:
        marks = ", ".join("?" * len(_OVER))
        query = f"SELECT body FROM intents WHERE sender = ? AND status NOT IN ({marks}) ORDER BY id"
        found = await self._store.do(lambda connection: connection.execute(query, (sender, *_OVER)).fetchall())
        return [unpack_intent(body) for (body,) in found]

    async def intent(self, sender: Address, key: str) -> Intent | None:
        query = "SELECT body FROM intents WHERE sender = ? AND key = ?"
        found = await self._store.do(lambda connection: connection.execute(query, (sender, key)).fetchone())
        return None if found is None else unpack_intent(found[0])

    async def save_intent(self, intent: Intent) -> None:
        receipt = intent.receipt
        worked = int(receipt is not None and receipt.ok)
        fee = str(receipt.fee if receipt is not None else 0)
        values = (intent.sender, intent.key, str(intent.status), worked, fee, pack_intent(intent))
        await self._store.do(lambda connection: connection.execute(_SAVE, values).rowcount)

    async def tallies(self) -> dict[str, Tally]:
        """By purpose: how many transactions went out, how many worked, and what they cost."""
        query = "SELECT substr(key, 1, instr(key, ':') - 1), status, worked, fee FROM intents"
        rows = await self._store.do(lambda connection: connection.execute(query).fetchall())
        tallies: dict[str, Tally] = {}
        for purpose, status, worked, fee in rows:
            held = tallies.get(purpose, Tally())
            sent = Status(status) in (Status.SENT, Status.MINED, Status.BURIED) or fee != "0"
            tallies[purpose] = Tally(sent=held.sent + sent, worked=held.worked + worked, fee=held.fee + int(fee))
        return tallies


def pack_intent(intent: Intent) -> bytes:
    """An intent as bytes; `unpack_intent` gives it back."""
    return pack(
        [
            FORM,
            intent.sender,
            intent.key,
            intent.to,
            intent.data,
            _wide(intent.value),
            intent.deadline,
            intent.not_before,
            intent.gas,
            intent.nonce,
            [[one.raw, one.hash, _wide(one.max_fee), _wide(one.tip), one.at] for one in intent.attempts],
            str(intent.status),
            intent.reason[:1_000],
            None if intent.receipt is None else _receipt_list(intent.receipt),
        ]
    )


def unpack_intent(body: bytes) -> Intent:
    """Broken for a row that this program did not write."""
    try:
        form, sender, key, to, data, value, deadline, not_before, gas, nonce, attempts, status, reason, receipt = cast(
            "list[Any]", unpack(body, max_bytes=MAX_BYTES)
        )
        if form != FORM:
            raise Broken(f"an intent saved in form {form}, not {FORM}")
        return Intent(
            sender=Address(sender),
            key=key,
            to=to,
            data=data,
            value=_number(value),
            deadline=deadline,
            not_before=not_before,
            gas=gas,
            nonce=nonce,
            attempts=tuple(
                Attempt(raw=raw, hash=tx_hash, max_fee=_number(max_fee), tip=_number(tip), at=Timestamp(at))
                for raw, tx_hash, max_fee, tip, at in attempts
            ),
            status=Status(status),
            reason=reason,
            receipt=None if receipt is None else _receipt(receipt),
        )
    except (Malformed, ValueError, TypeError) as fault:
        raise Broken(f"an intent in the store cannot be read: {fault}") from None


def _wide(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _receipt_list(receipt: Receipt) -> list[Any]:
    block = receipt.block
    return [
        receipt.tx_hash,
        [block.number, block.hash, block.timestamp],
        receipt.ok,
        receipt.gas_used,
        _wide(receipt.price),
        receipt.created,
    ]


def _receipt(values: list[Any]) -> Receipt:
    tx_hash, (number, block_hash, timestamp), ok, gas_used, price, created = values
    return Receipt(
        tx_hash=tx_hash,
        block=BlockRef(number=number, hash=block_hash, timestamp=Timestamp(timestamp)),
        ok=ok,
        gas_used=gas_used,
        price=_number(price),
        created=created,
    )
