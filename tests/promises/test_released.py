"""Databases of released versions open, are brought up to date, and their channels go on from where they stood.

`databases/` keeps one of each released version, as it was. A new schema is a new script in
`channeld/storage/migrations`; what was there before it must come out of it unchanged.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from channeld.base.errors import Refused
from channeld.core.channel import Phase, Session
from channeld.core.events import Connected, Got, Propose
from channeld.core.machine import step
from channeld.core.messages import Commit, Reestablish
from channeld.core.saved import save
from channeld.storage.sqlite import SCHEMA, SqliteStore
from channeld.storage.store import Batch
from tests.promises.databases import make_0_1_0
from tests.roles import OPENER_KEY, START, pay

KEPT = Path(__file__).parent / "databases"
RELEASED = sorted(path.name for path in KEPT.glob("*.sqlite3"))
NEW = {"owner"}
"""Tables that later schemas added."""


@pytest.fixture(params=RELEASED)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(KEPT / request.param, tmp_path / "node.sqlite3"))


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row by table, with the columns of the first schema."""
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(KEPT / RELEASED[0])) as first:
        tables = [name for (name,) in first.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for table in tables:
            columns = ", ".join(name for (name,) in first.execute(f"SELECT name FROM pragma_table_info('{table}')"))
            found[table] = connection.execute(f"SELECT {columns} FROM {table} ORDER BY rowid").fetchall()
        return found


def test_the_first_release_is_kept_and_has_something_in_every_table():
    assert "0.1.0.sqlite3" in RELEASED
    found = content(KEPT / "0.1.0.sqlite3")
    assert len(found) == 20
    assert [table for table, rows in found.items() if not rows] == []


def test_nothing_is_lost_on_the_way_to_the_newest_schema(old: Path):
    before = content(old)
    SqliteStore(old).close()
    assert content(old) == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(SCHEMA,)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_it_has_the_same_laws_as_a_new_one(old: Path):
    with closing(SqliteStore(old)) as store, closing(SqliteStore(":memory:")) as fresh:
        schema = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        assert store.rows(schema) == fresh.rows(schema)


def test_its_channels_load_as_they_were_saved(old: Path):
    with closing(sqlite3.connect(old)) as connection:
        saved = [one for (one,) in connection.execute("SELECT saved FROM channels ORDER BY rowid")]
    with closing(SqliteStore(old)) as store:
        loaded = list(store.channels())
        assert [save(channel) for channel in loaded] == saved
        shown = store.rows("SELECT phase, recovering FROM channels ORDER BY rowid")
        assert shown == [(channel.phase.name, int(channel.recovering)) for channel in loaded]
    assert {channel.phase for channel in loaded} == {
        Phase.OPEN,
        Phase.CLOSING,
        Phase.FROZEN,
        Phase.CLOSED,
        Phase.OPENING,
    }


async def test_its_channel_goes_on(old: Path):
    """It says again what it had proposed, byte for byte, and signs nothing at that version but this."""
    with closing(SqliteStore(old)) as store:
        (channel,) = (one for one in store.channels() if one.phase is Phase.OPEN)
        ((version, digest),) = store.rows("SELECT version, digest FROM signed WHERE channel = ?", channel.id)
        outstanding = channel.outstanding
        assert outstanding is not None
        assert (version, digest) == channel.top
        hello = step(channel, Connected(), OPENER_KEY)
        (said,) = hello.sends
        assert isinstance(said, Reestablish)
        theirs = Reestablish(
            version=channel.current.version,
            hash=channel.current.body_hash,
            outstanding=type(channel.current.version)(0),
            outstanding_hash=said.coop_digest,
            base=channel.base,
            coop_version=said.coop_version,
            coop_digest=said.coop_digest,
            coop_valid_until=said.coop_valid_until,
        )
        met = step(hello.channel, Got(message=theirs, now=START), OPENER_KEY)
        (again,) = (one for one in met.sends if isinstance(one, Commit))
        assert (again.version, again.signature) == (outstanding.version, outstanding.signature)
        queued = step(met.channel, pay(1, 99), OPENER_KEY).channel
        assert len(queued.queue) == len(channel.queue) + 1
        after = step(queued, Propose(), OPENER_KEY)
        assert after.channel.top == channel.top, "nothing new is signed while that is unanswered"
        assert after.channel.session is Session.LIVE
        batch = Batch()
        batch.channel(after.channel)
        await store.commit(batch)
        assert save(next(one for one in store.channels() if one.id == channel.id)) == save(after.channel)


def test_a_migration_that_fails_leaves_the_old_database(old: Path):
    """One transaction: what cannot be brought up to date is as it was, for the program that knows it."""
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE channels SET saved = x'00' WHERE id = (SELECT id FROM channels LIMIT 1)")
        connection.commit()
    before = content(old)
    with pytest.raises(Refused, match=r"not a saved channel|msgpack") as told:
        SqliteStore(old)
    assert told.value.code == "bad_database"
    assert content(old) == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchall() == [(1,)]
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & NEW


def test_how_it_was_made_is_kept(tmp_path: Path):
    """The script still makes such a database; what it holds now need not be what was released."""
    make_0_1_0.make(tmp_path / "made.sqlite3")
    assert content(tmp_path / "made.sqlite3").keys() == content(KEPT / "0.1.0.sqlite3").keys()
