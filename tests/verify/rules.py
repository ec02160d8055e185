"""Part "rules": each rule of the protocol broken in the code in turn, and what catches it.

The first chunk plays the unchanged code, which must pass; each other one breaks one rule (`tests.machines.broken`).
One that nothing catches is a finding. `python -m tests.machines.rules` prints the table of what catches which, with
machine and seed; the newest is kept in `tests/machines/RULES.md`, and what it names is tried first.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from tests.machines.broken import LIVENESS, MUTANTS
from tests.machines.rules import caught, copy, record, try_one
from tests.verify.part import Counts, Found, Page, Part


def run(seed: int, chunk: int) -> Counts:
    """Break one rule; there is no chance in it but the machines' own seeds."""
    with copy() as home:
        if chunk == 0:
            if killer := caught(home):
                raise Found(f"the unchanged code fails: {killer}")
            return {"rules broken": 0, "caught by a machine": 0, "by a unit test": 0}
        mutant = MUTANTS[chunk - 1]
        killer = try_one(mutant, home, record().get(mutant.name, ""))
    if not killer and mutant.name not in LIVENESS:
        raise Found(f"nothing catches {mutant.rule}: {mutant.name}")
    by_test = killer.startswith("tests/")
    return {"rules broken": 1, "caught by a machine": int(bool(killer) and not by_test), "by a unit test": int(by_test)}


def tools() -> dict[str, str]:
    return {"hypothesis": version("hypothesis")}


PART: Final = Part(
    name="rules",
    what="every rule R1 to R22 broken in turn",
    chunks=len(MUTANTS) + 1,
    run=run,
    tools=tools,
    page=Page.ENGINE,
    about=(
        "channeld/core",
        "channeld/node",
        "tests/machines",
        "tests/crash",
        "tests/unit/core",
        "tests/unit/node",
        "tests/contracts/model.py",
        "tests/roles.py",
        "tests/verify/rules.py",
    ),
)
