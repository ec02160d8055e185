"""Calls under an idempotency key: each is done once, and answered the same each time after.

The row that keeps an answer is saved in the transaction of what was asked for, so there is never one without the other;
two calls under one key at the same time take turns. What takes long to be saved, as a payment with its first lock, is
remembered meanwhile: its caller may go and ask again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from channeld.base.errors import Refused
from channeld.node.shown import Json
from channeld.storage.store import Batch, Store

LEAST_BEGUN: Final = 64
"""Of so many keys it is not looked whether they are saved by now."""


class Asked:
    """See the file's head. One for all calls of a node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asking: dict[str, trio.Lock] = {}
        """Held while a call under an idempotency key is made, so that a second one waits for its answer."""
        self._begun: dict[str, tuple[str, Json]] = {}
        """By key, request and answer of what was begun and may not be saved yet."""
        self._most_begun = LEAST_BEGUN

    @asynccontextmanager
    async def once(self, key: str | None) -> AsyncIterator[None]:
        """One call at a time under that key."""
        if key is None:
            yield
            return
        lock = self._asking.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._asking.pop(key, None)

    def answered(self, key: str | None, request: Sequence[object]) -> Json | None:
        """The first answer under that key; Refused (idempotency_conflict) if something else was asked then."""
        if key is None:
            return None
        found = self._saved(key) or self._begun.get(key)
        if found is None:
            return None
        if found[0] != _print(request):
            raise Refused("idempotency_conflict", f"the key {key!r} was used for something else", "use a new key")
        return found[1]

    def begun(self, key: str | None, request: Sequence[object], answer: Json) -> None:
        """That was begun under this key, and will be saved with its `claim`: until then it is answered from memory."""
        if key is None:
            return
        self._begun[key] = _print(request), answer
        if len(self._begun) > self._most_begun:  # so that a burst in one turn looks each of them up a few times at most
            self._begun = {name: one for name, one in self._begun.items() if self._saved(name) is None}
            self._most_begun = max(LEAST_BEGUN, 2 * len(self._begun))

    def _saved(self, key: str) -> tuple[str, Json] | None:
        rows = self._store.rows("SELECT request, answer FROM asked WHERE key = ?", key)
        return (rows[0][0], json.loads(rows[0][1])) if rows else None

    @staticmethod
    def claim(key: str | None, request: Sequence[object], answer: Json, *, lasts: bool = False) -> Batch:
        """The row that keeps an answer under its key. It belongs into the transaction of what was asked for.

        `once` sees to it that there is no other under that key; a second would be passed over, not stop a channel."""
        batch = Batch()
        if key is not None:
            batch.add(
                "INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?)", key, _print(request), json.dumps(answer), int(lasts)
            )
        return batch

    async def remember(
        self, key: str | None, request: Sequence[object], answer: Json, writes: Batch | None = None
    ) -> None:
        batch = writes or Batch()
        batch.extend(self.claim(key, request, answer))
        if batch:
            await self._store.commit(batch)


def _print(request: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()
