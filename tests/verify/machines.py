"""Part "machines": the walks of `tests.machines` by the thousand: two nodes, a lying peer, disputes to the last wei.

A walk is one seed; the seeds of `make test` are the first few hundred from zero, those here lie above a million.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from tests.machines.play import MACHINES, play
from tests.verify.part import Counts, Found, Page, Part

EACH: Final = 250
"""Walks of each machine in a chunk, about a minute."""


def run(seed: int, chunk: int) -> Counts:
    first = seed * 1_000_000 + chunk * EACH
    if found := play(first, EACH):
        raise Found("{} with seed {}: {}".format(*found))
    return {"walks": EACH * len(MACHINES), "of them disputes": EACH, "laws broken": 0}


def tools() -> dict[str, str]:
    return {"hypothesis": version("hypothesis")}


PART: Final = Part(
    name="machines",
    what="two nodes, a lying peer, and disputes with crash, cheat, restore and reorg, to the last wei",
    chunks=40,
    run=run,
    tools=tools,
    page=Page.ENGINE,
    about=(
        "channeld/base",
        "channeld/core",
        "tests/machines/court.py",
        "tests/machines/play.py",
        "tests/machines/test_disputes.py",
        "tests/machines/test_lying_peer.py",
        "tests/machines/test_two_nodes.py",
        "tests/contracts/model.py",
        "tests/roles.py",
        "tests/verify/machines.py",
    ),
)
