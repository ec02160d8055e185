"""What the database forgets, a bite at a time. What is kept, why and for how long: `.adr/0017-what-is-kept.md`.

A task of its own looks for rows whose time is over and deletes a few of them in a transaction of their own. Then it
rests, so that no payment waits for more than one bite, and no payment's transaction holds any of it. What is found by
an index of what may go (`storage/migrations/0005_history.sql`) is found in the same time however much stays.

Ages are told by the chain's time: a clock of ours that is years ahead must not make us forget what is still asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from channeld.base.units import ChannelId
from channeld.node.loop import Actor
from channeld.node.world import World
from channeld.storage.store import Batch, Store

KEPT_EVENTS: Final = 100_000
"""Events, the newest: who listens has seen older ones or has stopped listening."""
KEPT_ANSWERS: Final = 100_000
"""Idempotency keys of invoices made and paid that are remembered, the newest: an invoice made again costs nothing, and
one that was paid is not paid again whatever the key. Those of channels opened, of keysends and of rebalances are kept
for good."""
OVER: Final = 30 * 86_400
"""Seconds after which nothing can come of an invoice that expired unpaid, or of a lock that was given back: no lock
hangs for longer than 14 days (`run.MAX_EXPIRY`)."""
BITE: Final = 1_000
"""Most events and answers in one bite: small rows, side by side."""
FEW: Final = 200
"""Most of anything else: each has pages of its own in several indexes."""
SOON: Final = 0.25
"""Seconds to the next bite while there is more."""
LATER: Final = 10.0


class Pruning:
    """See the file's head. `actors`: every channel's, the node's own."""

    def __init__(self, store: Store, world: World, actors: Mapping[ChannelId, Actor]) -> None:
        self._store, self._world, self._actors = store, world, actors

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            more = await self.bite()
            await trio.sleep(SOON if more else LATER)

    async def bite(self) -> bool:
        """Forget some; whether there is more. StoreFailed: as of any commit."""
        batch = Batch()
        more = [self._events(batch), self._answers(batch), self._invoices(batch), self._forwards(batch)]
        if batch:
            await self._store.commit(batch)
        return any(more)

    def _events(self, batch: Batch) -> bool:
        ((oldest, newest),) = self._store.rows(
            "SELECT (SELECT min(n) FROM events), (SELECT max(n) FROM events)",
        )
        over = 0 if oldest is None else newest - KEPT_EVENTS - oldest + 1
        if over > 0:
            batch.add("DELETE FROM events WHERE n < ?", oldest + min(over, BITE))
        return over > BITE

    def _answers(self, batch: Batch) -> bool:
        """By age, which is their rowid; those that last are not even looked at."""
        rows = self._store.rows(
            "SELECT rowid FROM asked WHERE lasts = 0 AND rowid <= (SELECT max(rowid) FROM asked) - ? "
            "ORDER BY rowid LIMIT ?",
            *(KEPT_ANSWERS, BITE),
        )
        if rows:
            batch.add("DELETE FROM asked WHERE rowid BETWEEN ? AND ? AND lasts = 0", rows[0][0], rows[-1][0])
        return len(rows) == BITE

    def _invoices(self, batch: Batch) -> bool:
        """That expired unpaid, or were canceled. A shop makes one for each visitor."""
        more = False
        for state in ("open", "canceled"):
            rows = self._store.rows(
                f"SELECT hash FROM invoices WHERE state = '{state}' AND expires < ? ORDER BY expires LIMIT ?",
                *(self._world.chain_time - OVER, FEW),
            )
            for row in rows:
                batch.add(f"DELETE FROM invoices WHERE hash = ? AND state = '{state}'", *row)
            more = more or len(rows) == FEW
        return more

    def _forwards(self, batch: Batch) -> bool:
        """Whose lock was given back: strangers can make as many as they like and pay nothing. None whose lock upstream
        still stands, though it cannot after that time unless the chain does."""
        rows = self._store.rows(
            "SELECT in_channel, in_lock FROM forwards WHERE state = 'returned' AND at < ? ORDER BY at LIMIT ?",
            *(self._world.chain_time - OVER, FEW),
        )
        gone = [row for row in rows if not self._stands(*row)]
        for row in gone:
            batch.add("DELETE FROM forwards WHERE in_channel = ? AND in_lock = ? AND state = 'returned'", *row)
        return len(gone) == FEW

    def _stands(self, channel: ChannelId, lock: int) -> bool:
        actor = self._actors.get(channel)
        return actor is not None and (actor.channel.we.other, lock) in actor.channel.current.body.locks
