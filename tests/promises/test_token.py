"""The token beside the database: a copy of the database alone is told, even at the place and inode of the original.

A death between the file and the row leaves a start possible; what `place` cannot tell is said there.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from channeld.base.errors import Refused
from channeld.storage.place import Origin, put_tokens, tokens_beside
from channeld.storage.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sqlite3"


def row(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        ((token,),) = connection.execute("SELECT token FROM owner").fetchall()
    return bytes(token)


def refused(path: Path) -> str:
    with pytest.raises(Refused) as told:
        SqliteStore(path)
    return told.value.code


def test_each_start_has_a_token_of_its_own(path: Path):
    seen = set()
    for _ in range(3):
        SqliteStore(path).close()
        assert tokens_beside(path) == (row(path),)
        seen.add(row(path))
    assert {len(token) for token in seen} == {16}
    assert len(seen) == 3


def test_an_older_copy_written_over_the_file_is_refused(path: Path, tmp_path: Path):
    SqliteStore(path).close()
    copy = tmp_path / "backup"
    shutil.copyfile(path, copy)
    SqliteStore(path).close()
    inode = path.stat().st_ino
    shutil.copyfile(copy, path)
    assert path.stat().st_ino == inode, "its place is the same"
    assert refused(path) == "copied_database"
    assert refused(path) == "copied_database"
    restored = SqliteStore(path, origin=Origin.COPY)
    assert restored.rows("SELECT place FROM owner") == [(b"nowhere",)]
    restored.stand_here()
    restored.close()
    SqliteStore(path).close()


@pytest.mark.parametrize("said", [None, b"", b"short", bytes(16), bytes(48)])
def test_a_token_that_is_gone_or_another_means_a_copy(path: Path, said: bytes | None):
    SqliteStore(path).close()
    beside = path.with_name(path.name + ".token")
    if said is None:
        beside.unlink()
    else:
        beside.write_bytes(said)
    assert refused(path) == "copied_database"
    SqliteStore(path, origin=Origin.MOVED).close()
    SqliteStore(path).close()


def test_a_death_before_or_after_the_row_is_no_copy(path: Path):
    SqliteStore(path).close()
    old = row(path)
    put_tokens(path, (old, b"n" * 16))  # and died before the transaction
    SqliteStore(path).close()
    put_tokens(path, (old, row(path)))  # and died after it
    SqliteStore(path).close()
    assert tokens_beside(path) == (row(path),)


def test_a_token_that_cannot_be_written_is_told_before_anything_is_taken_over(path: Path):
    SqliteStore(path).close()
    before = row(path)
    path.with_name(path.name + ".token.new").mkdir()
    assert refused(path) == "bad_database"
    assert row(path) == before


def test_a_start_while_another_process_holds_the_journal_is_refused(path: Path):
    """The checkpoint that a start makes would be left half done, in silence."""

    def impatient(name: str) -> sqlite3.Connection:
        return sqlite3.connect(name, isolation_level=None, check_same_thread=False, timeout=0.05)

    SqliteStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE other (n)")
        other.execute("BEGIN")
        other.execute("SELECT * FROM owner").fetchall()
        with closing(sqlite3.connect(path, isolation_level=None)) as third:
            third.execute("INSERT INTO other VALUES (1)")
            with pytest.raises(Refused) as told:
                SqliteStore(path, connect=impatient)
    assert told.value.code == "already_running"
    SqliteStore(path).close()
