"""Part `power-loss`: disk images in which what was not synced is dropped, torn or out of order (`tests/power`).

A chunk plays several workloads, each of chance, and judges images of each. Turned round in every chunk: the same store
that does not sync each commit must be caught.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import apsw

from tests.power.workload import Lost, campaign
from tests.verify.part import Counts, Found, Page, Part

WORKLOADS: Final = 10
IMAGES: Final = 50
"""Of each workload."""


def run(seed: int, chunk: int) -> Counts:
    counts: Counts = {}
    for number in range(WORKLOADS):
        try:
            told = campaign(f"{seed}/{chunk}/{number}", IMAGES)
        except Lost as lost:
            raise Found(str(lost)) from None
        counts = {name: counts.get(name, 0) + count for name, count in told.items()}
    return counts | {"found without syncs": _found_without(seed, chunk)}


def _found_without(seed: int, chunk: int) -> int:
    """1 if the campaign sees that synchronous=NORMAL loses what was promised."""
    for number in range(WORKLOADS):
        try:
            campaign(f"{seed}/{chunk}/normal/{number}", IMAGES, synchronous="NORMAL")
        except Lost:
            return 1
    raise Found("synchronous=NORMAL is not told from FULL")


def tools() -> dict[str, str]:
    return {"apsw": apsw.apsw_version(), "SQLite": apsw.sqlite_lib_version(), "opened with": sqlite3.sqlite_version}


PART: Final = Part(
    name="power-loss",
    what="disk images after a power cut, unsynced writes dropped, torn, reordered: whole, nothing promised is lost",
    chunks=20,
    run=run,
    tools=tools,
    about=("channeld/storage", "tests/power"),
    page=Page.ENGINE,
)
