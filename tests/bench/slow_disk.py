"""A node on a slow disk: the ordinary command line, and below it SQLite's own syncs that take longer by a while.

`python -m tests.bench.slow_disk MS run --data-dir …`: everything behind MS is what `channeld` takes. The database runs
on a VFS (apsw) whose every sync of every file is the real one and then sleeps for MS milliseconds, the journal's and a
checkpoint's alike, wherever the store makes it sync. It begins without that; SIGUSR1 puts it on, and off again, so that
one pair of nodes shows both.
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from channeld.cli.main import main as channeld
from channeld.node import run as node
from channeld.storage.place import Origin
from channeld.storage.sqlite import SqliteStore
from tests.power.disk import connect

NAME: Final = "slow"


class SlowDisk(apsw.VFS):
    """`late`: seconds that each sync takes longer, now. `syncs`: how many there were."""

    def __init__(self, name: str = NAME) -> None:
        super().__init__(name, "")
        self.name = name
        self.late = 0.0
        self.syncs = 0

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: SlowDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._disk.syncs += 1
        time.sleep(self._disk.late)


def main() -> None:
    disk, late = SlowDisk(), float(sys.argv.pop(1)) / 1e3

    def turn(*_: Any) -> None:
        disk.late = late - disk.late

    def opened(path: Path, origin: Origin) -> SqliteStore:
        return SqliteStore(path, origin=origin, connect=connect(disk.name))

    signal.signal(signal.SIGUSR1, turn)
    node.run = partial(node.run, outside=node.Outside(store=opened))
    channeld()


if __name__ == "__main__":
    main()
