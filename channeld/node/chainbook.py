"""What the node owes the chain, kept in its own database: the sender's intents, and facts about channels for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from channeld.base.errors import Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import Address, ChannelId
from channeld.chain.chain import BlockRef
from channeld.chain.intents import Attempt, Intent, Receipt, Status
from channeld.storage.store import Batch, Store, wide

MAX_BYTES: Final = 1_048_576


class Intents:
    """The sender's `IntentStore` on the node's store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def open_intents(self, sender: Address) -> Sequence[Intent]:
        found = [load_intent(saved) for (saved,) in self._store.rows("SELECT saved FROM intents WHERE open ORDER BY n")]
        return [intent for intent in found if intent.sender == sender]

    async def intent(self, sender: Address, key: str) -> Intent | None:
        rows = self._store.rows("SELECT saved FROM intents WHERE key = ?", key)
        found = load_intent(rows[0][0]) if rows else None
        return found if found is not None and found.sender == sender else None

    async def save_intent(self, intent: Intent) -> None:
        batch = Batch()
        batch.add(
            "INSERT INTO intents (key, saved, open, buried) VALUES (?, ?, ?, ?) ON CONFLICT (key) "
            "DO UPDATE SET saved = excluded.saved, open = excluded.open, buried = excluded.buried",
            *(intent.key, save_intent(intent), int(not intent.status.over), int(intent.status is Status.BURIED)),
        )
        await self._store.commit(batch)


def note_fact(batch: Batch, channel: ChannelId, name: str, value: bytes | int) -> None:
    """Remember something of a channel for showing: open_tx, opened_at, close_tx, paid_ours, paid_theirs."""
    batch.add(
        "INSERT INTO facts VALUES (?, ?, ?) ON CONFLICT (channel, name) DO UPDATE SET value = excluded.value",
        *(channel, name, value if isinstance(value, bytes) else wide(value)),
    )


def save_intent(intent: Intent) -> bytes:
    receipt = intent.receipt
    return pack(
        [
            1,
            intent.sender,
            intent.key,
            intent.to,
            intent.data,
            wide(intent.value),
            intent.deadline,
            intent.not_before,
            intent.gas,
            intent.nonce,
            [[a.raw, a.hash, wide(a.max_fee), wide(a.tip), a.at] for a in intent.attempts],
            intent.status.value,
            intent.reason,
            None
            if receipt is None
            else [
                receipt.tx_hash,
                [receipt.block.number, receipt.block.hash, receipt.block.timestamp],
                receipt.ok,
                receipt.gas_used,
                wide(receipt.price),
                receipt.created,
            ],
        ],
    )


def load_intent(data: bytes) -> Intent:
    try:
        return _load(unpack(data, max_bytes=MAX_BYTES))
    except (ValueError, TypeError, IndexError) as fault:
        raise Malformed(f"not a saved intent: {fault}") from fault


def _load(fields: Any) -> Intent:
    _, sender, key, to, data, value, deadline, not_before, gas, nonce, attempts, status, reason, receipt = fields
    return Intent(
        sender=sender,
        key=key,
        to=to,
        data=data,
        value=int.from_bytes(value, "big"),
        deadline=deadline,
        not_before=not_before,
        gas=gas,
        nonce=nonce,
        attempts=tuple(
            Attempt(raw=a[0], hash=a[1], max_fee=int.from_bytes(a[2], "big"), tip=int.from_bytes(a[3], "big"), at=a[4])
            for a in attempts
        ),
        status=Status(status),
        reason=reason,
        receipt=None if receipt is None else _load_receipt(receipt),
    )


def _load_receipt(fields: Any) -> Receipt:
    tx_hash, block, ok, gas_used, price, created = fields
    return Receipt(
        tx_hash=tx_hash,
        block=BlockRef(number=block[0], hash=block[1], timestamp=block[2]),
        ok=ok,
        gas_used=gas_used,
        price=int.from_bytes(price, "big"),
        created=created,
    )
