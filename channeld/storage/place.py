"""Where a database file stands: what a copy of it does not have, and the file itself keeps.

A copied database is a trap: it does not know what the original has signed since. So a database remembers the place it
was opened at, its inode and the machine, and an open elsewhere is refused until its owner says what happened. A file
that is renamed, or whose folder is, keeps its inode.

A copy can come to stand at the same place: written over the file, or with a freed inode. So there is a second sign, a
token: 16 random bytes in a file beside the database, new at each start, and the same in the database. A copy of the
database alone, from an earlier start, says another one than the file. Around the change the file says both, so that a
death at any moment leaves a start possible. What brings back both files (a snapshot of the whole machine, a copy of the
whole directory in place), or a copy made since the last start and put back before the next, is not seen here: towers
and peers tell, or the owner does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final

MACHINE: Final = Path("/etc/machine-id")
"""Linux's own; where there is none, or it cannot be read, the inode speaks alone."""
NOWHERE: Final = b"nowhere"
"""The place of a copy whose channels are not in recovery yet; no file stands there."""


TOKEN_BYTES: Final = 16
TOKEN_SUFFIX: Final = ".token"


class Origin(Enum):
    """Where a database comes from."""

    SAME = "same"
    """It was never anywhere else: the usual start."""
    MOVED = "moved"
    """It stands elsewhere than before, and is the newest and the only one: its owner vouches for that."""
    COPY = "copy"
    """A backup, or an old state of the machine: other copies may have gone on."""


def place_of(path: Path, machine: Path = MACHINE) -> bytes:
    """16 bytes that stand for the file at `path` on this machine. OSError if it is not there."""
    try:
        name = machine.read_bytes().strip()
    except OSError:
        name = b""
    return hashlib.sha256(b"channeld/place" + path.stat().st_ino.to_bytes(16, "big") + name).digest()[:16]


def tokens_beside(path: Path) -> tuple[bytes, ...]:
    """What the file beside the database says, 16 bytes each; nothing if it is not there or says something else."""
    try:
        said = _beside(path).read_bytes()
    except FileNotFoundError:
        return ()
    whole = len(said) in (TOKEN_BYTES, 2 * TOKEN_BYTES)
    return tuple(said[at : at + TOKEN_BYTES] for at in range(0, len(said), TOKEN_BYTES)) if whole else ()


def put_tokens(path: Path, tokens: Sequence[bytes]) -> None:
    """Say these beside the database, whole and on disk when it returns. OSError: it cannot be written."""
    beside = _beside(path)
    draft = beside.with_name(beside.name + ".new")
    with draft.open("wb") as file:
        file.write(b"".join(tokens))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(beside)
    folder = os.open(beside.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + TOKEN_SUFFIX)
