"""Where a database file stands: what a copy of it does not have, and the file itself keeps.

A copied database is a trap: it does not know what the original has signed since. So a database remembers the place it
was opened at, its inode and the machine, and an open elsewhere is refused until its owner says what happened. A file
that is renamed, or whose folder is, keeps its inode. What brings back the same file at the same place with old bytes in
it (a snapshot of the whole machine, a copy written over the file, one that gets a freed inode again) is not seen here:
towers and peers tell, or the owner does.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from typing import Final

MACHINE: Final = Path("/etc/machine-id")
"""Linux's own; where there is none, or it cannot be read, the inode speaks alone."""
NOWHERE: Final = b"nowhere"
"""The place of a copy whose channels are not in recovery yet; no file stands there."""


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
