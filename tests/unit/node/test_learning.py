"""What payments have taught is there after a restart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from channeld.base.units import Amount, ChannelId, Side
from channeld.node.learning import BITE, Learning, load
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from routing.liquidity import Liquidity
from tests.roles import START

CAPACITY = Amount(1_000)


def channel(number: int) -> ChannelId:
    return ChannelId(number.to_bytes(32, "big"))


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    made = SqliteStore(":memory:")
    yield made
    made.close()


def teach(liquidity: Liquidity, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        liquidity.failed((channel(number), Side.B), Amount(1 + number % 900), CAPACITY, START)


async def test_what_was_learned_is_read_again(store: SqliteStore) -> None:
    liquidity = Liquidity()
    learning = Learning(store, liquidity)
    teach(liquidity, 5)
    liquidity.carried((channel(77), Side.A), Amount(2**80), None, START)
    await learning.save()
    assert load(store).export() == liquidity.export()
    liquidity.settled((channel(3), Side.A), Amount(7), CAPACITY, START)
    await learning.save()
    assert dict(load(store).export()) == dict(liquidity.export())


async def test_however_much_it_is_in_bites_and_what_is_forgotten_goes(store: SqliteStore) -> None:
    liquidity = Liquidity(max_channels=BITE + 7)
    learning = Learning(store, liquidity)
    teach(liquidity, 3)
    await learning.save()
    teach(liquidity, 3 * BITE, start=10)
    sizes: list[int] = []
    commit = store.commit

    async def counted(batch: Batch) -> None:
        sizes.append(len(batch.writes))
        await commit(batch)

    store.commit = counted  # type: ignore[method-assign]
    await learning.save()
    assert dict(load(store).export()) == dict(liquidity.export())
    assert max(sizes) == BITE


async def test_the_last_is_written_at_the_end(store: SqliteStore) -> None:
    liquidity = Liquidity()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Learning(store, liquidity).run)
        await trio.testing.wait_all_tasks_blocked()
        teach(liquidity, 1)
        nursery.cancel_scope.cancel()
    assert len(load(store)) == 1


async def test_nothing_new_writes_nothing(store: SqliteStore) -> None:
    liquidity = Liquidity()
    teach(liquidity, 1)
    learning = Learning(store, liquidity)
    await learning.save()
    assert len(load(store)) == 0, "it was learned before, and so it is there already"
