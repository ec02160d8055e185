"""A database that may be older than its channels: what its owner says of it, and what follows.

A copy does not know what the original has signed since. Going on from it would sign a version twice, and a version
signed twice is money given away. So the channels of a copy are in recovery for good (R16): they sign no state, adopt
what towers and peers prove with our own signature, and can only be closed. This is said before anything else runs, and
until it is on disk the database belongs nowhere: after a start that dies halfway it has to be said again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from channeld.base.keys import Key
from channeld.core.channel import Phase
from channeld.core.events import Recover
from channeld.core.machine import step
from channeld.node import old
from channeld.node.events import Events, forget_payments
from channeld.storage.store import Batch, Store

log = logging.getLogger(__name__)

REASON: Final = "its owner says that the database is a copy"


def is_known_old(store: Store) -> bool:
    """Whether a channel has shown that this database is a copy, and not all others have heard it (`old.py`)."""
    return bool(store.rows("SELECT 1 FROM notes WHERE name = ?", old.NOTE))


async def recover_all(store: Store, key: Key, now: Callable[[], int], reason: str = REASON) -> int:
    """Put every channel that is not over into recovery, in one transaction; how many."""
    batch, events, count = Batch(), Events(store, now), 0
    for channel in store.channels():
        if channel.phase in (Phase.SETTLED, Phase.CLOSED) or channel.recovering:
            continue
        batch.channel(step(channel, Recover(reason=reason), key).channel)
        events.add(batch, "channel_frozen", channel_id=channel.id, reason=reason)
        count += 1
    forget_payments(batch, events, now())  # the original may have paid them, by this lock or by another
    batch.add("DELETE FROM notes WHERE name = ?", old.NOTE)
    await store.commit(batch)
    log.warning("restored: %s channels are in recovery and can only be closed", count)
    return count
