"""Part "cluster": three to five daemons and a tower, by the seed: pay, die, cut, reorganise, cheat, lie, restore."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.crash.bytecode import TwinChain
from tests.crash.chain import ModelChain
from tests.machines.cluster import run as play
from tests.verify.part import Counts, Found, Page, Part

EACH: Final = 40
"""Runs in a chunk, about a minute."""
EVM_EVERY: Final = 4
"""Every fourth run has the contracts' bytecode beside their model."""


def run(seed: int, chunk: int) -> Counts:
    met: Counter[str] = Counter()
    for number in range(EACH):
        drawn = seed * 1_000_000 + chunk * EACH + number
        with TemporaryDirectory() as folder:
            try:
                met += play(drawn, Path(folder), chain=ModelChain if number % EVM_EVERY else TwinChain)
            except* AssertionError as found:
                raise Found(f"with seed {drawn}: {found.exceptions}") from found
    return {
        "runs": EACH,
        "on the bytecode": len(range(0, EACH, EVM_EVERY)),
        "deaths": met["deaths"],
        "reorgs": met["reorgs"],
        "payments": met["payment succeeded"],
        "in parts": met["paid in parts"],
        "old states closed": met["old states closed"],
        "lies": met["lies"] + met["acknowledgements kept back"],
        "fulfils held up": met["fulfils held up"],
        "saved by a tower": met["saved by the tower"],
        "copies restored": met["restored"],
        "wei lost": 0,
    }


def tools() -> dict[str, str]:
    return {"trio": version("trio"), "py-evm": version("py-evm")}


PART: Final = Part(
    name="cluster",
    what="three to five whole daemons and a tower on a bad wire and an unsteady chain, settled and audited to the wei",
    chunks=50,
    run=run,
    tools=tools,
    page=Page.ENGINE,
    about=(
        "channeld",
        "routing",
        "tests/machines/cluster.py",
        "tests/machines/cluster_laws.py",
        "tests/machines/cluster_lies.py",
        "tests/machines/cluster_odd.py",
        "tests/crash",
        "contracts/artifacts",
        "tests/contracts/evm.py",
        "tests/contracts/model.py",
        "tests/contracts/world.py",
        "tests/verify/cluster.py",
    ),
)
