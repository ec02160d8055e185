"""What our payments have taught of others' balances, kept across restarts.

It is written down now and then by a task of its own, off the path of payments: what a crash forgets of the last minute
is learned again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import trio

from channeld.base.errors import StoreFailed
from channeld.base.units import Amount, ChannelId, Timestamp
from channeld.storage.store import Batch, Store, narrow, wide
from routing.liquidity import Belief, Liquidity

SAVED: Final = 30.0
"""Seconds from one time of writing to the next, if anything was learned."""
BITE: Final = 500
_COLUMNS: Final = "channel, capacity, least, most, at"


def load(store: Store) -> Liquidity:
    """What was written, oldest first."""
    rows = store.rows(f"SELECT {_COLUMNS} FROM beliefs ORDER BY at")
    return Liquidity((ChannelId(row[0]), _belief(row)) for row in rows)


class Learning:
    """Writes down what `liquidity` learns. The one reader of its `changed`."""

    def __init__(self, store: Store, liquidity: Liquidity) -> None:
        self._store, self._liquidity = store, liquidity
        liquidity.changed.clear()  # it was read from there

    async def run(self) -> None:
        """Until cancelled; then for a last time, if the disk still takes it. StoreFailed: as of any commit."""
        try:
            while True:
                await trio.sleep(SAVED)
                await self.save()
        finally:
            with trio.CancelScope(shield=True), suppress(StoreFailed):  # whoever saw it first has said so
                await self.save()

    async def save(self) -> None:
        """A few at a time, so that no payment waits for more than that."""
        changed = self._liquidity.changed
        while changed:
            batch = Batch()
            for channel in [changed.pop() for _ in range(min(BITE, len(changed)))]:
                _write(batch, channel, self._liquidity.belief(channel))
            await self._store.commit(batch)


def _write(batch: Batch, channel: ChannelId, belief: Belief | None) -> None:
    if belief is None:
        batch.add("DELETE FROM beliefs WHERE channel = ?", channel)
        return
    capacity = None if belief.capacity is None else wide(belief.capacity)
    most = None if belief.most is None else wide(belief.most)
    batch.add(
        f"INSERT OR REPLACE INTO beliefs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
        *(channel, capacity, wide(belief.least), most, belief.at),
    )


def _belief(row: tuple[Any, ...]) -> Belief:
    _, capacity, least, most, at = row
    return Belief(
        capacity=None if capacity is None else Amount(narrow(capacity)),
        least=narrow(least),
        most=None if most is None else narrow(most),
        at=Timestamp(at),
    )
