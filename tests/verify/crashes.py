"""Every point of every crash scenario, before and after: whole daemons on the contracts' model in simulated time.

A chunk is a scenario's share of the points; with another seed tasks that are ready together take other turns, and the
dead stay down for another time. The counts say how many deaths there were, of how many kinds.
"""

from __future__ import annotations

import logging
import random
from importlib.metadata import version
from typing import Final

from tests.crash.enumerator import Tally, die_at, points
from tests.crash.scenarios import LONG, SCENARIOS
from tests.verify.part import Counts, Found, Page, Part

SHARES: Final = 6
"""Chunks of each scenario: every sixth point, beginning at another."""
DOWN: Final = (0.5, 1.0, 3.0, 8.0)
"""Seconds for which the dead stay down."""
LONG_DOWN: Final = (90.0, 400.0)
"""The same for those that may sleep past a challenge or an expiry (`scenarios.LONG`): every fourth of their deaths."""
AGAIN: Final = 60
"""Points after a return within which every other one dies again."""


def run(seed: int, chunk: int) -> Counts:
    name, share = list(SCENARIOS)[chunk // SHARES], chunk % SHARES
    chance, tally, asleep = random.Random(f"{seed} {chunk}"), Tally(), 0
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # nodes that die say a lot
    try:
        every = points(name, seed=seed)
        for point in every[share::SHARES]:
            die_at(name, point, tally, seed=seed, down_for=chance.choice(DOWN))
            if chance.random() < 0.5:
                die_at(name, point, tally, seed=seed, down_for=chance.choice(DOWN), again=chance.randint(1, AGAIN))
            if point.node in LONG.get(name, ()) and chance.random() < 0.25:
                die_at(name, point, tally, seed=seed, down_for=chance.choice(LONG_DOWN))
                asleep += 1
    finally:
        logging.disable(before)
    if tally.found:
        raise Found(f"{len(tally.found)} of {tally.deaths} deaths:\n" + "\n".join(tally.found))
    counts: Counts = {"deaths": tally.deaths, "second deaths": tally.second, "long asleep": asleep}
    counts["unlawful ends"] = len(tally.found)
    for kind in ("save", "sign", "send", "submit"):
        counts[f"at a {kind}"] = sum(n for point, n in tally.names.items() if point.split()[1] == kind)
    return counts


PART = Part(
    name="crashes",
    what="a node dies before and after every save, sign, send and submit, comes back, and the laws hold",
    chunks=len(SCENARIOS) * SHARES,
    run=run,
    tools=lambda: {name: version(name) for name in ("trio",)},
    page=Page.ENGINE,
    about=(
        "channeld/base",
        "channeld/chain",
        "channeld/core",
        "channeld/node",
        "channeld/peers",
        "channeld/storage",
        "channeld/wire",
        "routing",
        "tests/contracts/model.py",
        "tests/crash",
        "tests/verify/crashes.py",
    ),
)
