"""Incoming locks that must be taken though nobody has just told us their preimage.

In recovery we may have shown a preimage in a state that we have forgotten; and when an older state stands on chain, a
lock stands there that we have taken since, in a state that does not count. Then the lock is taken or its money is lost
(R17). In recovery an invoice that only seems unpaid here says nothing against it: its own preimage counts as shown.
Such an invoice stays unpaid in the books, as nobody can say what it was paid.
"""

from __future__ import annotations

from collections.abc import Iterator

from channeld.base.units import ChannelId, LockId, LockKey, Preimage
from channeld.core.channel import Channel, Phase
from channeld.core.closing import final_body
from channeld.storage.store import Store


class Claims:
    """Looks each lock up once; what becomes known later is told to its channel by whoever learns it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tried: set[tuple[ChannelId, LockId, bool]] = set()

    def known(self, channel: Channel) -> Iterator[tuple[LockId, Preimage]]:
        """Locks of the peer's in `current` or on chain that we can take and have not claimed yet."""
        if channel.phase is Phase.CLOSED or not (channel.recovering or channel.onchain is not None):
            return
        final = final_body(channel)
        locks = {**channel.current.body.locks, **(final.locks if final is not None else {})}
        for (side, id_), lock in locks.items():
            tried = (channel.id, id_, channel.recovering)
            if side is channel.we or id_ in channel.claims or tried in self._tried:
                continue
            self._tried.add(tried)
            preimage = self._preimage(lock.key, channel.recovering)
            if preimage is not None:
                yield id_, preimage

    def _preimage(self, key: LockKey, recovering: bool) -> Preimage | None:
        rows = self._store.rows("SELECT preimage FROM known WHERE key = ?", key)
        if not rows and recovering:
            rows = self._store.rows("SELECT preimage FROM invoices WHERE hash = ? AND preimage <> x''", key)
        return Preimage(rows[0][0]) if rows else None
