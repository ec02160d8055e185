"""Ten million inputs for the decoders, made of valid ones by seeded mutation: a value or the documented refusal."""

from __future__ import annotations

from importlib.metadata import version
from random import Random

from tests.attacks import judge, mutate
from tests.attacks.decoders import TARGETS
from tests.attacks.judge import Escaped
from tests.verify.part import Counts, Found, Page, Part

EACH = 3_500
"""Inputs of a target in one chunk; a slow one gets a tenth."""
WEIGHED = 20
"""Of these the memory and calls are counted."""


def run(seed: int, chunk: int) -> Counts:
    counts: Counts = {"inputs": 0, "of them taken": 0, "weighed": 0, "targets": len(TARGETS)}
    for target in TARGETS:
        seeds, random = list(target.seeds()), Random(f"{seed}/{chunk}/{target.name}")
        grown = list(seeds)
        for number in range(EACH // 10 if target.slow else EACH):
            data = mutate.of(random, grown, tree=target.tree)
            try:
                taken = judge.law(target, data)
                if number < WEIGHED:
                    judge.bounded(target, data)
            except Escaped as found:
                raise Found(f"input {number}: {found}") from found
            counts["inputs"] += 1
            counts["of them taken"] += taken
            counts["weighed"] += number < WEIGHED
            if taken and len(grown) < 4 * len(seeds) + 16:  # what was taken is a seed too: changes add up
                grown.append(data)
    return counts


def tools() -> dict[str, str]:
    return {name: version(name) for name in ("msgpack", "coincurve", "cryptography")}


PART = Part(
    name="decoders",
    what="mutated inputs of every decoder: a value or the documented refusal, memory and calls bounded",
    chunks=100,
    run=run,
    tools=tools,
    page=Page.ENGINE,
    about=(
        "channeld/wire",
        "channeld/base",
        "channeld/core/saved.py",
        "channeld/node/chainbook.py",
        "channeld/node/tower_saved.py",
        "channeld/node/translate.py",
        "channeld/tower/intents.py",
        "channeld/api/kinds.py",
        "channeld/api/schema.py",
        "channeld/chain/networks.py",
        "tests/attacks",
    ),
    shown=("inputs", "of them taken", "weighed"),
)
