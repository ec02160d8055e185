"""What our payments have taught of others' balances, kept across restarts.

It is written down now and then by a task of its own, off the path of payments: what a crash forgets of the last minute
is learned again.

It can be handed from node to node, page by page (`page`, `take`). What is taken is what another payer says, true or
not: it raises and lowers chances, and never costs more than a worse choice of ways. Of a channel the belief stays that
says more by now, as what is learned fades; channels that gossip does not know are passed over, so a page can neither
fill the memory nor push out what was learned here. Channels known by hints alone are not handed on: they are others'
secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from heapq import nsmallest
from typing import Any, Final

import trio

from channeld.base.errors import Malformed, StoreFailed
from channeld.base.units import Amount, ChannelId, Timestamp
from channeld.node.shown import Json, hexed
from channeld.storage.store import Batch, Store, narrow, wide
from channeld.wire.messages import NO_CHANNEL
from routing.graph import Graph
from routing.liquidity import Belief, Liquidity

SAVED: Final = 30.0
"""Seconds from one time of writing to the next, if anything was learned."""
BITE: Final = 500
VERSION: Final = 1
"""Of the form in which what was learned is handed on."""
AHEAD: Final = 3_600
"""Seconds that what was learned elsewhere may lie ahead of our clock; it counts as learned now."""
_COLUMNS: Final = "channel, capacity, least, most, at"


def load(store: Store) -> Liquidity:
    """What was written, oldest first."""
    rows = store.rows(f"SELECT {_COLUMNS} FROM beliefs ORDER BY at")
    return Liquidity((ChannelId(row[0]), _belief(row)) for row in rows)


def page(liquidity: Liquidity, cursor: str | None, limit: int) -> Json:
    """What is known of public channels, by their ids: the first `limit` after `cursor`, in the form of the socket.

    Malformed: the cursor is none of ours.
    """
    after = _id_of(cursor)
    public = ((name, belief) for name, belief in liquidity.export() if name > after and belief.capacity is not None)
    found = nsmallest(limit, public, key=lambda one: one[0])
    return {
        "version": VERSION,
        "channels": [_shown(name, belief) for name, belief in found],
        "next": found[-1][0].hex() if len(found) == limit else None,
    }


def _id_of(cursor: str | None) -> bytes:
    try:
        after = b"" if cursor is None else bytes.fromhex(cursor)
    except ValueError:
        after = b"?"
    if cursor is not None and len(after) != len(NO_CHANNEL):
        raise Malformed(f"no cursor: {cursor[:20]!r}")
    return after


def _shown(name: ChannelId, belief: Belief) -> Json:
    return {
        "channel_id": hexed(name),
        "capacity": str(belief.capacity),
        "least": str(belief.least),
        "most": str(belief.most),
        "at": belief.at,
    }


def take(
    liquidity: Liquidity, graph: Graph, told: Iterable[Mapping[str, Any]], now: Timestamp, *, only_say: bool
) -> Json:
    """Take over a page of what another payer has learned: `channel_id`, `capacity`, `least`, `most` and `at` of each.

    Args:
        only_say: what would become of it; nothing changes.

    Returns:
        How many were `taken` over; how many `kept`, as we know as much of them or have no room for more; how many
        gossip does not know.

    Raises:
        Malformed: one of them cannot be; nothing has changed.
    """
    fresh: dict[ChannelId, Belief] = {}
    kept = unknown = 0
    room = liquidity.room
    for number, one in enumerate(told):
        channel_id, belief = _told(number, one, now)
        channel = graph.channel(channel_id)
        if channel is None:
            unknown += 1
            continue
        new = liquidity.belief(channel_id) is None
        if channel_id in fresh or room < new or not liquidity.news(channel_id, belief, channel.capacity, now):
            kept += 1
        else:
            fresh[channel_id] = belief
            room -= new
    if not only_say:
        for channel_id, belief in fresh.items():
            liquidity.told(channel_id, belief)
    return {"taken": len(fresh), "kept": kept, "unknown": unknown}


def _told(number: int, one: Mapping[str, Any], now: Timestamp) -> tuple[ChannelId, Belief]:
    if one["at"] > now + AHEAD:
        raise Malformed(f"channels[{number}].at is {one['at'] - now} s from now")
    try:
        belief = Belief(
            capacity=Amount(one["capacity"]),
            least=one["least"],
            most=one["most"],
            at=Timestamp(min(one["at"], now)),
        )
    except ValueError as fault:
        raise Malformed(f"channels[{number}]: {fault}") from None
    return ChannelId(one["channel_id"]), belief


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
