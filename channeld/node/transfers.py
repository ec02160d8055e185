"""Direct transfers to the peer of a channel: queued as one batch, each its own row with its own id.

A transfer is one per channel and id: asked for again, also while the first is being saved, it is not made again. Rows
and the turn that queues them are one transaction; what the call answers is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from channeld.base.errors import Refused
from channeld.base.units import Amount, PaymentId
from channeld.core.events import Pay
from channeld.node.ledger import Book
from channeld.node.loop import Actor, Reply
from channeld.node.shown import Json, hexed
from channeld.node.world import World
from channeld.storage.store import Batch, Store, wide

TURN: Final = 5.0
"""Seconds for which even a caller that has gone is waited for, until its transfers are saved."""


class Transfers:
    """See the file's head. `randomness(n)` gives n fresh random bytes."""

    def __init__(self, store: Store, world: World, book: Book, randomness: Callable[[int], bytes]) -> None:
        self._store, self._world, self._book, self._randomness = store, world, book, randomness
        self._sending: dict[tuple[bytes, bytes], Reply] = {}
        """Channel and id of transfers that are queued and perhaps not saved yet, whoever still waits for that."""

    async def send(self, actor: Actor, transfers: Sequence[Mapping[str, Any]], *, wait: bool) -> Json:
        """See `send_transfers` of the schema."""
        channel_id, now = actor.channel.id, self._world.now
        self._world.must_be_safe()
        ids = [PaymentId(one["id"] or self._new_id()) for one in transfers]
        while (sending := self._being_sent(channel_id, ids)) is not None:
            await sending.done.wait()
        asked = [id_ for id_, one in zip(ids, transfers, strict=True) if one["id"]]
        known = self._transfers(channel_id, asked) if asked else {}
        fresh = {id_: one["amount"] for id_, one in zip(ids, transfers, strict=True) if id_ not in known}
        if sum(fresh.values()) > actor.channel.spendable:
            raise Refused(
                "insufficient_balance",
                f"the channel can send {actor.channel.spendable}, not {sum(fresh.values())}",
                "nothing was sent",
            )
        if fresh:
            over = self._book.watch_transfers(actor.channel.id, fresh)
            try:
                await self._queue(actor, fresh, now)
                if wait:
                    await over.wait()
            finally:
                self._book.unwatch_transfers(actor.channel.id, fresh)
        states = self._transfers(channel_id, ids)
        found = {state for state, _ in states.values()}
        return {
            "ids": [hexed(id_) for id_ in ids],
            "state": next((state for state in ("failed", "unknown", "pending") if state in found), "succeeded"),
            "version": max(version for _, version in states.values()) or None,
        }

    async def _queue(self, actor: Actor, fresh: Mapping[PaymentId, int], now: int) -> None:
        """Queue transfers, all or none; on disk when this returns."""
        channel_id, rows = actor.channel.id, Batch()
        for id_, amount in fresh.items():
            rows.add(
                "INSERT INTO transfers (channel, id, outgoing, amount, state, at) VALUES (?, ?, 1, ?, 'pending', ?)",
                *(channel_id, id_, wide(amount), now),
            )
        reply = Reply()
        self._sending = {name: one for name, one in self._sending.items() if not one.done.is_set()}
        self._sending |= dict.fromkeys(((channel_id, id_) for id_ in fresh), reply)
        actor.post(
            Pay(transfers=tuple((id_, Amount(amount)) for id_, amount in fresh.items())), writes=rows, reply=reply
        )
        with trio.move_on_after(TURN, shield=True):
            await reply.done.wait()
        await reply.wait()

    def _being_sent(self, channel_id: bytes, ids: Sequence[bytes]) -> Reply | None:
        """What tells when one of these transfers, asked for before, is saved; None if all that were asked for are."""
        replies = (self._sending.get((channel_id, id_)) for id_ in ids)
        return next((one for one in replies if one is not None and not one.done.is_set()), None)

    def _new_id(self) -> PaymentId:
        """Milliseconds and chance. In the order of time it costs both books one page of their index for many, where one
        by chance alone costs a page each; its only reader is the peer, who sees when it comes."""
        return PaymentId(int(self._world.clock() * 1_000).to_bytes(6, "big") + self._randomness(10))

    def _transfers(self, channel_id: bytes, ids: Sequence[bytes]) -> dict[bytes, tuple[str, int]]:
        """State and version of those of the outgoing transfers that exist."""
        found: dict[bytes, tuple[str, int]] = {}
        for at in range(0, len(ids), 500):
            some = ids[at : at + 500]
            marks = ", ".join("?" * len(some))
            rows = self._store.rows(
                f"SELECT id, state, version FROM transfers WHERE channel = ? AND outgoing = 1 AND id IN ({marks})",
                *(channel_id, *some),
            )
            found |= {id_: (state, version) for id_, state, version in rows}
        return found
