"""Plays the machines' walks, seed by seed, until one fails: which machine finds a fault, and with which seed.

    python -m tests.machines.play [machine:seed | machine:seed:count ...]

Without arguments each machine plays as many walks as it has. One line of JSON: the machine, its seed and what failed,
or null. The exit code is 0 either way. `rules` runs it in a copy of the project with one rule broken, so it says, too,
where the code it played is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import trio

import channeld
from channeld.base.errors import ChanneldError
from tests.contracts.model import Refusal
from tests.machines import cluster, test_disputes, test_lying_peer, test_two_nodes

FAULTS: Final = (
    *(AssertionError, ChanneldError, Refusal, trio.TooSlowError),
    *(ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError),
)
"""What a broken rule may end in: a law that fails, or code that no longer fits together."""


def cluster_walk(seed: int) -> None:
    """One run of whole daemons, in memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as folder:
        cluster.run(seed, Path(folder))


Walks = dict[str, tuple[Callable[[int], Any], int]]
"""Name -> one walk by its seed, and how many are played."""
MACHINES: Final[Walks] = {
    "two nodes": (test_two_nodes.walk, 160),
    "lying peer": (test_lying_peer.walk, 120),
    "disputes": (test_disputes.walk, 150),
}
"""Those of the core alone."""
ALL: Final[Walks] = {**MACHINES, "cluster": (cluster_walk, 24)}


def play(first: int = 0, count: int | None = None) -> tuple[str, int, str] | None:
    """The first machine that fails, with its seed and why. `count` walks of each, else as many as it has."""
    return search(
        (name, range(first, first + (most if count is None else count))) for name, (_, most) in MACHINES.items()
    )


def search(what: Iterable[tuple[str, Iterable[int]]]) -> tuple[str, int, str] | None:
    """The first walk that fails of these machines and seeds, and why."""
    for name, seeds in what:
        walk, _ = ALL[name]
        for seed in seeds:
            try:
                walk(seed)
            except FAULTS as fault:
                return name, seed, f"{type(fault).__name__}: {fault}"[:200]
            except BaseExceptionGroup as group:
                fault_ = next((one for one in leaves(group) if isinstance(one, FAULTS)), None)
                if fault_ is None:
                    raise
                return name, seed, f"{type(fault_).__name__}: {fault_}"[:200]
    return None


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors in a group that are no groups."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from leaves(one)
        else:
            yield one


def main(arguments: list[str]) -> None:
    wanted: list[tuple[str, Iterable[int]]] = [(name, range(most)) for name, (_, most) in ALL.items()]
    if arguments:
        wanted = []
        for one in arguments:
            name, seed, *count = one.split(":")
            wanted.append((name, range(int(seed), int(seed) + (int(count[0]) if count else 1))))
    print(json.dumps({"code": str(Path(channeld.__file__).parent), "found": search(wanted)}))


if __name__ == "__main__":
    main(sys.argv[1:])
