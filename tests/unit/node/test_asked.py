"""What was begun under a key is known until it is saved, and then forgotten here."""

from __future__ import annotations

from channeld.node.asked import LEAST_BEGUN, Asked
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch

MANY = 20 * LEAST_BEGUN


async def test_many_that_are_begun_in_one_turn_are_looked_up_a_few_times_each() -> None:
    store = SqliteStore(":memory:")
    asked, looked, rows = Asked(store), 0, store.rows

    def counted(sql: str, *values: object) -> object:
        nonlocal looked
        looked += 1
        return rows(sql, *values)

    store.rows = counted  # type: ignore[method-assign, assignment]
    saved = Batch()
    for number in range(MANY):
        asked.begun(f"key {number}", [number], {"n": number})
        saved.extend(asked.claim(f"key {number}", [number], {"n": number}))
    assert looked <= 3 * MANY
    assert all(asked.answered(f"key {number}", [number]) == {"n": number} for number in range(MANY))

    await store.commit(saved)
    for number in range(MANY, 3 * MANY):
        asked.begun(f"key {number}", [number], {"n": number})
        await store.commit(asked.claim(f"key {number}", [number], {"n": number}))
    assert len(asked._begun) <= 2 * LEAST_BEGUN, "what is saved is forgotten"
    assert asked.answered("key 0", [0]) == {"n": 0}
    store.close()
