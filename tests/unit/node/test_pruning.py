"""What the database forgets after its time, and nothing else; and that it takes bites."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from channeld.base.units import Timestamp
from channeld.node.events import Events
from channeld.node.pruning import BITE, FEW, KEPT_EVENTS, LATER, OVER, SOON, Pruning
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from tests.roles import START
from tests.unit.node.hub import Hub, hub, packet_on, start

NOW = Timestamp(START + 2 * OVER)
LONG_AGO, LATELY = NOW - OVER - 1, NOW - OVER + 1


def late(node: Hub) -> Pruning:
    """At a node whose chain has come as far as NOW, while its own clock stands."""
    head = node.world.head
    assert head is not None
    node.world.head = replace(head, latest=replace(head.latest, timestamp=NOW))
    return Pruning(node.store, node.world, node.book.actors)


async def test_of_events_the_newest_are_kept(nursery: trio.Nursery):
    """Whatever happens how often, the rows on disk are bounded; what is kept is the newest, without a hole."""
    with hub(nursery) as node:
        events = Events(node.store, lambda: 7)
        pruning = Pruning(node.store, node.world, node.book.actors)
        for _ in range(KEPT_EVENTS // 10_000 + 1):
            batch = Batch()
            for _ in range(10_000):
                events.add(batch, "payment_received", amount="1")
            await node.store.commit(batch)
        bites = 1
        while await pruning.bite():
            bites += 1
        assert bites == 10_000 // BITE
        told = node.store.rows("SELECT count(*), min(n), max(n) FROM events")
        assert told == [(KEPT_EVENTS, events.last - KEPT_EVENTS + 1, events.last)]
        assert not await pruning.bite()
        assert node.store.rows("SELECT count(*) FROM events") == [(KEPT_EVENTS,)]


async def invoices(store: SqliteStore, state: str, expires: int, first: int, count: int) -> None:
    batch = Batch()
    for number in range(first, first + count):
        batch.add(
            "INSERT INTO invoices (hash, n, preimage, secret, text, token, created, expires, state) "
            "VALUES (?, ?, x'05', x'', ?, x'', 0, ?, ?)",
            *(number.to_bytes(32, "big"), number, f"{state} {expires}", expires, state),
        )
    await store.commit(batch)


async def test_invoices_that_expired_unpaid_or_were_canceled_go_after_a_while(nursery: trio.Nursery):
    with hub(nursery) as node:
        pruning = late(node)
        await invoices(node.store, "open", LONG_AGO, 1, 2 * FEW + 1)
        await invoices(node.store, "open", LATELY, 1_001, 1)
        await invoices(node.store, "open", NOW + 1, 1_002, 1)
        await invoices(node.store, "paid", LONG_AGO, 1_003, 1)
        await invoices(node.store, "canceled", LONG_AGO, 1_004, 1)
        await invoices(node.store, "canceled", LATELY, 1_005, 1)
        await invoices(node.store, "held", LONG_AGO, 1_006, 1)
        assert [await pruning.bite() for _ in range(3)] == [True, True, False]
        left = [n for (n,) in node.store.rows("SELECT n FROM invoices ORDER BY n")]
        assert left == [1_001, 1_002, 1_003, 1_005, 1_006]


async def test_a_clock_of_ours_that_is_ahead_makes_nothing_forgotten(nursery: trio.Nursery):
    with hub(nursery) as node:
        pruning = Pruning(node.store, node.world, node.book.actors)
        await invoices(node.store, "open", START + 10, 1, 1)
        node.clock[0] = START + 1_000 * OVER
        assert not await pruning.bite()
        assert node.store.rows("SELECT count(*) FROM invoices") == [(1,)]


async def forward(node: Hub, lock: int, state: str, at: int) -> None:
    batch = Batch()
    batch.add(
        "INSERT INTO forwards (in_channel, in_lock, out_channel, out_lock, key, amount_in, amount_out, secret, state, "
        "at) VALUES (?, ?, ?, ?, x'', x'', x'', x'', ?, ?)",
        *(node.into.id, lock, node.out.id, lock, state, at),
    )
    await node.store.commit(batch)


async def test_forwards_that_were_given_back_go_after_a_while_unless_their_lock_stands(nursery: trio.Nursery):
    with hub(nursery) as node:
        await start(node)
        number = await node.offered(packet_on(node.out.id), 120)
        await node.settle()
        assert [id_ for _, id_ in node.into.actor.channel.current.body.locks] == [number]
        pruning = late(node)
        batch = Batch()
        batch.add("UPDATE forwards SET state = 'returned', at = ?", LONG_AGO)
        await node.store.commit(batch)
        await forward(node, 101, "returned", LONG_AGO)
        await forward(node, 102, "returned", LATELY)
        await forward(node, 103, "fulfilled", LONG_AGO)
        await forward(node, 104, "offered", LONG_AGO)
        assert not await pruning.bite()
        assert node.store.rows("SELECT in_lock FROM forwards ORDER BY in_lock") == [(number,), (102,), (103,), (104,)]


async def test_it_rests_between_its_bites(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock):
    with hub(nursery) as node:
        pruning = late(node)
        await invoices(node.store, "open", LONG_AGO, 1, 2 * FEW + 1)
        left: list[tuple[int]] = []
        began = trio.current_time()
        nursery.start_soon(pruning.run)
        for at in (SOON / 2, SOON * 1.5, SOON * 2.5, LATER / 2):
            await trio.sleep_until(began + at)
            left += node.store.rows("SELECT count(*) FROM invoices")
        assert left == [(FEW + 1,), (1,), (0,), (0,)]
        await invoices(node.store, "open", LONG_AGO, 1, 1)
        await trio.sleep_until(began + 2 * SOON + LATER + SOON)
        assert node.store.rows("SELECT count(*) FROM invoices") == [(0,)]


@pytest.mark.parametrize("what", ["events", "asked", "invoices", "forwards"])
def test_what_may_go_is_found_without_passing_over_what_stays(what: str):
    """By an index, not by a scan of the table."""
    store = SqliteStore(":memory:")
    queries = {
        "events": "SELECT min(n) FROM events",
        "asked": "SELECT rowid FROM asked WHERE lasts = 0 AND rowid <= 5 ORDER BY rowid LIMIT 9",
        "invoices": "SELECT hash FROM invoices WHERE state = 'open' AND expires < 5 ORDER BY expires LIMIT 9",
        "forwards": "SELECT in_lock FROM forwards WHERE state = 'returned' AND at < 5 ORDER BY at LIMIT 9",
    }
    plan = " ".join(row[3] for row in store.rows(f"EXPLAIN QUERY PLAN {queries[what]}"))
    assert "SEARCH" in plan and "SCAN" not in plan, plan
    store.close()
