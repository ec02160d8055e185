"""Mutants of the contracts: each must fail some test, but for those whose equivalence is written down.

The first chunk also tries the unchanged sources, which must pass, and that every line of `mutants.equivalent` names a
mutant. Those are tried too: one that a test kills is no equivalent.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from tests.contracts.mutants import KILLERS, Bench, Mutant, equivalent, mutants
from tests.verify.part import Counts, Found, Part

CHUNKS = 24
FILES = tuple(name.partition("::")[0] for name in KILLERS)
ALLOWED = 3
"""Per cent of all mutants that may live, each with its reason."""


@cache
def _every() -> list[Mutant]:
    return mutants()


def run(seed: int, chunk: int) -> Counts:
    """Every mutant whose number leaves `chunk` when divided by `CHUNKS`; there is no chance in it."""
    every, same = _every(), equivalent()
    if unknown := same.keys() - {mutant.name for mutant in every}:
        raise Found(f"no such mutants: {sorted(unknown)}")
    if len(same) * 100 > ALLOWED * len(every):
        raise Found(f"{len(same)} of {len(every)} mutants are called equivalent, more than {ALLOWED} %")
    counts: Counts = {"mutants": 0, "killed": 0, "equivalent": 0}
    lived: list[str] = []
    with Bench() as bench:
        if chunk == 0 and (failed := bench.killed(None)):
            raise Found(f"the unchanged contracts fail: {failed}")
        for mutant in every[chunk::CHUNKS]:
            killer = bench.killed(mutant)
            counts["mutants"] += 1
            counts["killed"] += bool(killer)
            counts["equivalent"] += not killer and mutant.name in same
            if killer and mutant.name in same:
                raise Found(f"called equivalent, but killed by {killer}: {mutant.name}")
            if not killer and mutant.name not in same:
                lived.append(mutant.name)
    if lived:
        raise Found("no test fails for:\n  " + "\n  ".join(lived))
    return counts


def tools() -> dict[str, str]:
    return {"vyper": version("vyper")}


PART = Part(
    name="mutants",
    what="every check broken in turn",
    chunks=CHUNKS,
    run=run,
    tools=tools,
    about=(
        "tests/contracts/mutants.py",
        "tests/contracts/mutants.equivalent",
        *(f"tests/contracts/{name}" for name in FILES),
    ),
)
