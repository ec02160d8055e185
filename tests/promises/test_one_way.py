"""One-way statuses are the database's own law: every status column, every move, tried against the real schema.

The table below says which moves there are; the test walks all others. A status column that the table does not know
fails it too, so that a new one cannot be forgotten. What a channel's phases may do is compared with the machine's own
MOVES.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from channeld.base.errors import Broken
from channeld.core.channel import Phase
from channeld.core.machine import MOVES
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A column that says how far a row has come. `moves`: all there are, besides staying."""

    table: str
    column: str
    insert: str
    """Its one value is the status."""
    values: tuple[str | int, ...]
    moves: frozenset[tuple[str | int, str | int]]
    kept: tuple[str | int, ...]
    """With these the row cannot be deleted."""


def _from(start: str, *ends: str) -> frozenset[tuple[str | int, str | int]]:
    return frozenset((start, end) for end in ends)


def _phases() -> frozenset[tuple[str | int, str | int]]:
    """What MOVES allows in any number of steps: a turn may take several before it is saved."""
    found = {(start, end) for (start, _), ends in MOVES.items() for end in ends}
    for through, start, end in itertools.product(Phase, Phase, Phase):  # Warshall
        if (start, through) in found and (through, end) in found:
            found.add((start, end))
    return frozenset((start.name, end.name) for start, end in found if start is not end)


PHASES = tuple(phase.name for phase in Phase)
STATUSES = (
    Status(
        table="channels",
        column="phase",
        insert="INSERT INTO channels (id, saved, phase) VALUES (x'01', x'', ?)",
        values=PHASES,
        moves=_phases(),
        kept=("OPEN", "CLOSING", "SETTLED", "CLOSED"),  # the others while nothing is signed in them
    ),
    Status(
        table="channels",
        column="recovering",
        insert="INSERT INTO channels (id, saved, recovering) VALUES (x'01', x'', ?)",
        values=(0, 1),
        moves=frozenset({(0, 1)}),
        kept=(1,),
    ),
    Status(
        table="forwards",
        column="state",
        insert=(
            "INSERT INTO forwards (in_channel, in_lock, out_channel, out_lock, key, amount_in, amount_out, secret,"
            " state, at) VALUES (x'01', 1, x'02', 1, x'', x'', x'', x'', ?, 0)"
        ),
        values=("offered", "fulfilled", "returned"),
        moves=_from("offered", "fulfilled", "returned"),
        kept=("offered", "fulfilled"),
    ),
    Status(
        table="attempts",
        column="state",
        insert="INSERT INTO attempts (channel, lock, hash, route, state) VALUES (x'01', 1, x'', x'', ?)",
        values=("offered", "fulfilled", "returned"),
        moves=_from("offered", "fulfilled", "returned"),
        kept=("offered", "fulfilled", "returned"),
    ),
    Status(
        table="transfers",
        column="state",
        insert="INSERT INTO transfers (channel, id, outgoing, amount, state, at) VALUES (x'01', x'02', 1, x'', ?, 0)",
        values=("pending", "succeeded", "failed"),
        moves=_from("pending", "succeeded", "failed"),
        kept=("pending", "succeeded", "failed"),
    ),
    Status(
        table="payments",
        column="state",
        insert=(
            "INSERT INTO payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, state, at)"
            " VALUES (x'01', 1, '', x'', x'', x'', x'', x'', 0, ?, 0)"
        ),
        values=("pending", "succeeded", "failed"),
        moves=_from("pending", "succeeded", "failed"),
        kept=("pending", "succeeded"),
    ),
    Status(
        table="invoices",
        column="state",
        insert=(
            "INSERT INTO invoices (hash, n, preimage, secret, text, token, created, expires, state)"
            " VALUES (x'01', 1, x'02', x'', '', x'', 0, 0, ?)"
        ),
        values=("open", "held", "paid", "canceled"),
        moves=_from("open", "held", "paid", "canceled") | _from("held", "paid", "canceled"),
        kept=("held", "paid"),
    ),
    Status(
        table="intents",
        column="open",
        insert="INSERT INTO intents (key, saved, open) VALUES ('k', x'', ?)",
        values=(0, 1),
        moves=frozenset({(1, 0), (0, 1)}),  # one that failed may begin anew; one that is buried not, see below
        kept=(0, 1),
    ),
    Status(
        table="intents",
        column="buried",
        insert="INSERT INTO intents (key, saved, open, buried) VALUES ('k', x'', 0, ?)",
        values=(0, 1),
        moves=frozenset({(0, 1)}),
        kept=(0, 1),
    ),
)
OTHERS = {"transfers.outgoing", "gossip.kind"}
"""Columns of the same look that say what a row is, not how far it has come."""
UNKNOWN: tuple[str | int, ...] = ("cancelled", 7)


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    made = SqliteStore(":memory:")
    yield made
    made.close()


async def fine(store: SqliteStore, sql: str, *values: object) -> bool:
    batch = Batch()
    batch.add(sql, *values)
    try:
        await store.commit(batch)
    except Broken:
        return False
    return True


def ids(status: Status) -> str:
    return f"{status.table}.{status.column}"


def test_every_status_column_is_walked(store: SqliteStore):
    """By the names that statuses have here."""
    named = set()
    for table, column in store.rows(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
    ):
        if column in ("state", "status", "phase", "open", "buried", "recovering", "outgoing", "kind", "done", "closed"):
            named.add(f"{table}.{column}")
    assert named == {ids(status) for status in STATUSES} | OTHERS


@pytest.mark.parametrize("status", STATUSES, ids=ids)
async def test_every_move_back_is_refused(status: Status):
    tried = 0
    for start, end in itertools.product(status.values, status.values):
        store = SqliteStore(":memory:")
        assert await fine(store, status.insert, start)
        went = await fine(store, f"UPDATE {status.table} SET {status.column} = ?", end)
        assert went is (start == end or (start, end) in status.moves), (start, end)
        now = [(end if went else start,)]
        assert store.rows(f"SELECT {status.column} FROM {status.table}") == now
        store.close()
        tried += 1
    assert tried == len(status.values) ** 2


@pytest.mark.parametrize("status", STATUSES, ids=ids)
async def test_no_row_is_deleted_or_replaced_to_begin_anew(status: Status):
    for start in status.values:
        store = SqliteStore(":memory:")
        assert await fine(store, status.insert, start)
        for other in status.values:
            replaced = await fine(store, status.insert.replace("INSERT", "INSERT OR REPLACE"), other)
            assert replaced is (start not in status.kept), (start, other)
            if replaced:  # it may: nothing came of it
                assert status.kept != status.values
                break
        gone = await fine(store, f"DELETE FROM {status.table} WHERE {status.column} = ?", start)
        assert not gone or start not in status.kept
        store.close()


@pytest.mark.parametrize("status", STATUSES, ids=ids)
async def test_a_status_that_nobody_knows_is_refused(store: SqliteStore, status: Status):
    for other in UNKNOWN:
        assert not await fine(store, status.insert, other)
    assert await fine(store, status.insert, status.values[0])
    for other in UNKNOWN:
        assert not await fine(store, f"UPDATE {status.table} SET {status.column} = ?", other)


async def test_a_buried_intent_does_not_begin_anew(store: SqliteStore):
    assert await fine(store, "INSERT INTO intents (key, saved, open, buried) VALUES ('k', x'', 0, 1)")
    assert not await fine(store, "UPDATE intents SET open = 1")
    assert not await fine(store, "UPDATE intents SET open = 1, buried = 0")
    assert await fine(store, "UPDATE intents SET saved = x'01'")


async def test_a_held_invoice_is_paid_with_its_preimage_and_keeps_it(store: SqliteStore):
    assert await fine(
        store,
        "INSERT INTO invoices (hash, n, preimage, secret, text, token, created, expires, state)"
        " VALUES (x'01', 1, x'', x'', '', x'', 0, 0, 'held')",
    )
    assert not await fine(store, "UPDATE invoices SET state = 'paid'")
    assert await fine(store, "UPDATE invoices SET state = 'paid', preimage = x'02'")
    assert store.rows("SELECT key, preimage FROM known") == [(b"\1", b"\2")]
    assert not await fine(store, "UPDATE invoices SET preimage = x'03'")
    assert not await fine(store, "UPDATE invoices SET preimage = x''")


async def test_a_known_preimage_stays_known(store: SqliteStore):
    assert await fine(store, "INSERT INTO preimages VALUES (x'01', x'02')")
    assert await fine(store, "INSERT OR IGNORE INTO preimages VALUES (x'01', x'03')")
    assert not await fine(store, "UPDATE preimages SET preimage = x'03'")
    assert not await fine(store, "INSERT OR REPLACE INTO preimages VALUES (x'01', x'03')")
    assert not await fine(store, "DELETE FROM preimages")
    assert store.rows("SELECT * FROM preimages") == [(b"\1", b"\2")]


KNOW = "INSERT OR IGNORE INTO preimages SELECT {0}, x'02' WHERE NOT EXISTS (SELECT 1 FROM known WHERE key = {0})"


@pytest.mark.parametrize(
    ("table", "insert", "proves"),
    [
        (
            "payments",
            "INSERT INTO payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, state, at)"
            " VALUES (x'01', 1, '', x'', x'', x'', x'', x'', 0, 'pending', 0)",
            "UPDATE payments SET state = 'succeeded', preimage = x'02'",
        ),
        (
            "invoices",
            "INSERT INTO invoices (hash, n, preimage, secret, text, token, created, expires, state)"
            " VALUES (x'01', 1, x'02', x'', '', x'', 0, 0, 'open')",
            "UPDATE invoices SET state = 'paid'",
        ),
    ],
)
async def test_a_preimage_that_stands_with_what_it_proves_is_known_for_good_there(
    store: SqliteStore, table: str, insert: str, proves: str
):
    known = "SELECT key, preimage FROM known WHERE key = x'01'"
    assert await fine(store, insert)
    assert store.rows(known) == [], "one that was not shown, or is not known yet"
    assert await fine(store, proves)
    assert await fine(store, KNOW.format("x'01'"))
    assert await fine(store, KNOW.format("x'07'"))
    assert store.rows("SELECT key FROM preimages") == [(b"\7",)], "it is kept once"
    for away in (
        f"UPDATE {table} SET preimage = x'03'",
        f"UPDATE {table} SET preimage = x''",
        f"UPDATE {table} SET hash = x'04'",
        f"DELETE FROM {table}",
        insert.replace("INSERT", "INSERT OR REPLACE"),
    ):
        assert not await fine(store, away)
    assert store.rows(known) == [(b"\1", b"\2")]


async def test_a_payment_with_a_preimage_is_kept_even_if_it_failed(store: SqliteStore):
    assert await fine(
        store,
        "INSERT INTO payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, state, preimage, at)"
        " VALUES (x'01', 1, '', x'', x'', x'', x'', x'', 0, 'failed', x'02', 0)",
    )
    assert not await fine(store, "DELETE FROM payments")


@pytest.mark.parametrize("phase", ["OPENING", "FROZEN"])
async def test_a_channel_is_forgotten_only_while_nothing_is_signed_in_it(store: SqliteStore, phase: str):
    assert await fine(store, "INSERT INTO channels (id, saved, phase) VALUES (x'01', x'', ?)", phase)
    assert await fine(store, "DELETE FROM channels WHERE id = x'01'")
    assert await fine(store, "INSERT INTO channels (id, saved, phase) VALUES (x'01', x'', ?)", phase)
    assert await fine(store, "INSERT INTO signed VALUES (x'01', 1, x'05')")
    assert not await fine(store, "DELETE FROM channels WHERE id = x'01'")
    assert not await fine(store, "INSERT OR REPLACE INTO channels (id, saved, phase) VALUES (x'01', x'', 'OPEN')")
    assert len(store.rows("SELECT id FROM channels")) == 1


async def test_what_was_signed_is_not_given_to_another_channel(store: SqliteStore):
    assert await fine(store, "INSERT INTO signed VALUES (x'01', 5, x'05')")
    assert not await fine(store, "UPDATE signed SET channel = x'02'")
    assert not await fine(store, "INSERT OR REPLACE INTO signed VALUES (x'01', 5, x'06')")
    assert not await fine(store, "INSERT OR REPLACE INTO signed VALUES (x'01', 4, x'04')")
    assert store.rows("SELECT * FROM signed") == [(b"\1", 5, b"\5")]


def test_no_law_is_missing_on_disk(tmp_path: Path):
    """The triggers are in the file, not in the connection: another program is held to them too."""
    store, other = SqliteStore(tmp_path / "laws.sqlite3"), SqliteStore(":memory:")
    triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    assert store.rows(triggers) == other.rows(triggers)
    assert len(store.rows(triggers)) > 30
    store.close()
    other.close()
