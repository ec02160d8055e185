"""Plays the machines' walks, seed by seed, until one fails: which machine finds a fault, and with which seed.

    python -m tests.machines.play [first]

One line of JSON: the machine, its seed and what failed, or null; with `first`, each machine starts at that seed. The
exit code is 0 either way. `rules` runs it in a copy of the project with one rule broken, so it says, too, where the
code it played is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import channeld
from channeld.base.errors import ChanneldError
from tests.contracts.model import Refusal
from tests.machines import test_disputes, test_lying_peer, test_two_nodes

FAULTS: Final = (
    *(AssertionError, ChanneldError, Refusal),
    *(ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError),
)
"""What a broken rule may end in: a law that fails, or code that no longer fits together."""
MACHINES: Final[dict[str, tuple[Callable[[int], Any], int]]] = {
    "two nodes": (test_two_nodes.walk, 160),
    "lying peer": (test_lying_peer.walk, 120),
    "disputes": (test_disputes.walk, 150),
}
"""Name -> one walk by its seed, and how many are played."""


def play(first: int = 0, count: int | None = None) -> tuple[str, int, str] | None:
    """The first machine that fails, with its seed and why. `count` walks of each, else as many as it has."""
    for name, (walk, most) in MACHINES.items():
        for seed in range(first, first + (most if count is None else count)):
            try:
                walk(seed)
            except FAULTS as fault:
                return name, seed, f"{type(fault).__name__}: {fault}"[:200]
    return None


def main(arguments: list[str]) -> None:
    found = play(int(arguments[0]) if arguments else 0)
    print(json.dumps({"code": str(Path(channeld.__file__).parent), "found": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
