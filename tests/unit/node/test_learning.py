"""What payments have taught is there after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from channeld.api.schema import NODE
from channeld.base.errors import Malformed
from channeld.base.units import NATIVE, Amount, ChannelId, NodeId, Side, Timestamp
from channeld.node.learning import AHEAD, BITE, Learning, load, page, take
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from routing.graph import Channel, Graph
from routing.liquidity import HALF_LIFE, Belief, Liquidity
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


# -- handed from node to node


def graph(*numbers: int) -> Graph:
    made = Graph()
    for number in numbers:
        ends = NodeId(b"\x02" + bytes(31) + b"\x01"), NodeId(b"\x02" + bytes(31) + b"\x02")
        made.add(Channel(channel_id=channel(number), node_a=ends[0], node_b=ends[1], token=NATIVE, capacity=CAPACITY))
    return made


def told(number: int, least: int, most: int, at: int = START, **more: Any) -> dict[str, Any]:
    """As it comes from the socket."""
    return {"channel_id": channel(number), "capacity": CAPACITY, "least": least, "most": most, "at": at, **more}


def taken(liquidity: Liquidity, *some: dict[str, Any], known: Graph | None = None, check: bool = False) -> list[int]:
    """How many were taken, kept and unknown."""
    said = take(liquidity, graph(1, 2, 3) if known is None else known, some, START, only_say=check)
    return [said["taken"], said["kept"], said["unknown"]]


def knowing(number: int, least: int, most: int, at: int = START) -> Liquidity:
    return Liquidity([(channel(number), Belief(capacity=CAPACITY, least=least, most=most, at=Timestamp(at)))])


def test_what_one_node_exports_another_imports() -> None:
    payer, other, pages = Liquidity(), Liquidity(), []
    teach(payer, 25)
    payer.carried((channel(99), Side.A), Amount(5), None, START)
    cursor = None
    while True:
        said = page(payer, cursor, 10)
        pages.append([one["channel_id"] for one in said["channels"]])
        read = NODE.methods["import_liquidity"].read({"version": said["version"], "channels": said["channels"]})
        done = take(other, graph(*range(25)), read["channels"], START, only_say=read["check"])
        assert done == {"taken": len(said["channels"]), "kept": 0, "unknown": 0}
        cursor = said["next"]
        if cursor is None:
            break
    assert [len(one) for one in pages] == [10, 10, 5]
    every = [name for one in pages for name in one]
    assert every == sorted(every)
    assert dict(other.export()) == {name: what for name, what in payer.export() if what.capacity is not None}
    assert other.changed == {channel(number) for number in range(25)}, "it is written down"


@pytest.mark.parametrize("cursor", ["", "00", "zz" * 32, "00" * 33])
def test_a_cursor_of_nobody_is_refused(cursor: str) -> None:
    with pytest.raises(Malformed, match="no cursor"):
        page(Liquidity(), cursor, 10)


CASES = {
    "nothing known": (None, told(1, 300, 1_000), True),
    "it says nothing": (None, told(1, 0, 1_000), False),
    "the same": ((300, 400, START), told(1, 300, 400), False),
    "narrower": ((300, 400, START), told(1, 310, 400), True),
    "wider": ((300, 400, START), told(1, 0, 400), False),
    "as narrow, and older": ((300, 400, START), told(1, 500, 600, START - HALF_LIFE), False),
    "as narrow, and newer": ((300, 400, START - HALF_LIFE), told(1, 500, 600), True),
    "narrower, but faded": ((300, 400, START), told(1, 350, 350, START - HALF_LIFE), False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_belief_stays_that_says_more_by_now(name: str) -> None:
    ours, theirs, better = CASES[name]
    liquidity = Liquidity() if ours is None else knowing(1, *ours)
    assert taken(liquidity, theirs) == ([1, 0, 0] if better else [0, 1, 0])
    belief = liquidity.belief(channel(1))
    if better:
        assert belief is not None and (belief.least, belief.most, belief.at) == tuple(
            theirs[key] for key in ("least", "most", "at")
        )
    else:
        assert belief is None if ours is None else (belief and (belief.least, belief.most, belief.at) == ours)


def test_what_is_said_of_a_smaller_channel_says_little_of_the_larger() -> None:
    """It was topped up since, or somebody wants to make us forget: what was paid in may be on either side."""
    liquidity = knowing(1, 300, 700)
    assert taken(liquidity, told(1, 10, 10, capacity=Amount(10))) == [0, 1, 0]
    assert taken(liquidity, told(1, 450, 460, capacity=Amount(910))) == [1, 0, 0]


def test_importing_again_changes_nothing() -> None:
    liquidity, some = knowing(1, 0, 900), (told(1, 300, 400), told(2, 5, 6), told(9, 1, 2))
    assert taken(liquidity, *some, check=True) == [2, 0, 1]
    assert len(liquidity) == 1, "only said"
    assert taken(liquidity, *some) == [2, 0, 1]
    before = liquidity.version, liquidity.export()
    assert taken(liquidity, *some) == [0, 2, 1]
    assert (liquidity.version, liquidity.export()) == before


BAD = {
    "least above most": told(2, 6, 5),
    "more than there is": told(2, 0, 1_001),
    "learned tomorrow": told(2, 0, 5, START + AHEAD + 1),
}


@pytest.mark.parametrize("name", BAD)
def test_one_that_cannot_be_stops_the_whole_page(name: str) -> None:
    liquidity = Liquidity()
    with pytest.raises(Malformed, match=r"channels\[1\]"):
        taken(liquidity, told(1, 300, 400), BAD[name])
    assert len(liquidity) == 0


def test_what_is_learned_by_a_clock_ahead_counts_as_learned_now() -> None:
    liquidity = Liquidity()
    taken(liquidity, told(1, 300, 400, START + AHEAD))
    belief = liquidity.belief(channel(1))
    assert belief is not None and belief.at == START


def test_nothing_that_was_learned_here_is_pushed_out() -> None:
    liquidity = Liquidity(max_channels=2)
    teach(liquidity, 2, start=1)
    assert taken(liquidity, told(3, 300, 400), told(1, 7, 7)) == [1, 1, 0]
    assert {name for name, _ in liquidity.export()} == {channel(1), channel(2)}


def test_one_page_cannot_tell_of_a_channel_twice() -> None:
    liquidity = Liquidity()
    assert taken(liquidity, told(1, 300, 400), told(1, 7, 7)) == [1, 1, 0]


def test_a_page_that_fills_the_memory_pushes_nothing_out() -> None:
    liquidity = Liquidity(max_channels=2)
    teach(liquidity, 1, start=1)
    assert taken(liquidity, told(2, 300, 400), told(3, 300, 400)) == [1, 1, 0]
    assert {name for name, _ in liquidity.export()} == {channel(1), channel(2)}
