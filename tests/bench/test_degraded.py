"""The instruments of the rows on trouble: a wire that delays and keeps order, a disk that is really asked to sync, a
contest that counts each side's calls, a watch that knows who was late."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from pathlib import Path

import trio
import trio.testing

from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from tests.bench.relay import Delay, carry
from tests.bench.scene import contest
from tests.bench.slow_disk import SlowDisk
from tests.bench.watch import Behind
from tests.power.disk import connect


async def test_the_wire_delays_and_keeps_the_order_whatever_is_on_it(autojump_clock) -> None:
    source, into = trio.testing.memory_stream_one_way_pair()
    out, sink = trio.testing.memory_stream_pair()
    delay, came = Delay(seconds=0.1), []

    async def hear() -> None:
        while got := await sink.receive_some():
            came.append((round(trio.current_time() - began, 3), bytes(got)))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, into, out, delay)
        nursery.start_soon(hear)
        await source.send_all(b"one")
        await trio.sleep(0.01)
        await source.send_all(b"two")  # on its way together with the first
        await trio.sleep(0.01)
        delay.seconds = 0.0
        await source.send_all(b"three")  # overtakes nothing
        await source.aclose()
    assert (came[0], {at for at, _ in came[1:]}) == ((0.1, b"one"), {0.11})
    assert b"".join(got for _, got in came) == b"onetwothree"


async def test_every_commit_of_the_store_syncs_the_slow_disk(tmp_path: Path) -> None:
    disk = SlowDisk("counted")
    store = SqliteStore(tmp_path / "node.sqlite3", connect=connect(disk.name))
    for number in range(5):
        before, batch = disk.syncs, Batch()
        batch.add("INSERT INTO notes VALUES (?, ?)", f"note {number}", b"")
        await store.commit(batch)
        assert disk.syncs == before + 1
    store.close()
    assert disk.syncs > 5


async def test_a_contest_counts_each_side_until_the_time_is_over_and_then_lets_it_end(autojump_clock) -> None:
    was = await contest([repeat(partial(trio.sleep, 1)), repeat(partial(trio.sleep, 2))], 3, 10.5)
    assert (was.done, was.ended) == ([30, 15], [33, 18])
    assert was.unfair == 2
    assert was.seconds > 0


async def test_a_contest_ends_when_one_side_has_no_more_calls(autojump_clock) -> None:
    call = partial(trio.sleep, 1)
    was = await contest([repeat(call), repeat(call, 8)], 2, 10.5)
    assert was.done == [8, 8]


def test_a_watcher_is_as_late_as_its_first_answer_with_the_block() -> None:
    behind = Behind()
    behind.mined(7, 100.0)
    behind.said("node", 7, 7, 100.1)
    assert behind.most == 0
    behind.mined(9, 102.0)  # two since the last look
    behind.said("node", 7, 7, 102.4)
    behind.said("node", 7, 9, 103.0)
    behind.said("other", 7, 8, 102.2)
    behind.said("node", 9, 9, 110.0)
    assert (behind.worst, behind.most) == ({"node": 1.0, "other": 102.2 - 102.0}, 1.0)
