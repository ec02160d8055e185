"""Mutated signatures by the hundred thousand: the daemon accepts exactly those that the contract accepts."""

from __future__ import annotations

from importlib.metadata import version
from random import Random

from tests.contracts.revm import Revm
from tests.contracts.test_signatures import predicate
from tests.contracts.world import CHAIN_ID, START, World
from tests.verify.part import Counts, Found, Part

EACH = 10_000


def run(seed: int, chunk: int) -> Counts:
    counts: Counts = {"signatures": 0, "of them accepted": 0, "differences": 0}
    for ours, theirs in predicate(World(Revm(START, CHAIN_ID)), Random(f"{seed}/{chunk}"), EACH):
        counts["signatures"] += 1
        counts["of them accepted"] += ours
        if ours != theirs:
            raise Found(f"signature {counts['signatures']}: daemon {ours}, contract {theirs}")
    return counts


def tools() -> dict[str, str]:
    return {name: version(name) for name in ("coincurve", "pyrevm", "vyper")}


PART = Part(
    name="signatures",
    what="mutated signatures, daemon against contract",
    chunks=10,
    run=run,
    tools=tools,
    about=("tests/contracts/test_signatures.py", "channeld/base/keys.py"),
)
