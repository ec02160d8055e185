"""Every point of every crash scenario, before and after: whole daemons in simulated time, on the contracts' model.

`EVM_PART` plays those that go on chain with the contracts' bytecode beside the model (`tests.crash.bytecode`): a spread
of their points that has every kind of point in it, on a chain that ends the run where the two differ.

A chunk is a scenario's share of the points; with another seed tasks that are ready together take other turns, and the
dead stay down for another time. The counts say how many deaths there were, of how many kinds.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from tests.crash.bytecode import TwinChain
from tests.crash.enumerator import Tally, die_at, points, spread
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

ON_CHAIN: Final = ("open", "together", "alone", "dispute", "secret", "gone", "reorg close", "reorg secret", "withdraw")
"""Scenarios that are played on bytecode, too."""
ROUNDS: Final = 4
"""Chunks of each."""
DEATHS: Final = 25
"""In such a chunk, of points that are drawn."""


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Nodes that die say a lot."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def counted(tally: Tally) -> Counts:
    """Deaths by kind; `Found` if one ended unlawfully."""
    if tally.found:
        raise Found(f"{len(tally.found)} of {tally.deaths} deaths:\n" + "\n".join(tally.found))
    counts: Counts = {"deaths": tally.deaths, "second deaths": tally.second, "unlawful ends": len(tally.found)}
    for kind in ("save", "sign", "send", "submit"):
        counts[f"at a {kind}"] = sum(n for point, n in tally.names.items() if point.split()[1] == kind)
    return counts


def run(seed: int, chunk: int) -> Counts:
    name, share = list(SCENARIOS)[chunk // SHARES], chunk % SHARES
    chance, tally, asleep = random.Random(f"{seed} {chunk}"), Tally(), 0
    with quiet_logs():
        every = points(name, seed=seed)
        for point in every[share::SHARES]:
            die_at(name, point, tally, seed=seed, down_for=chance.choice(DOWN))
            if chance.random() < 0.5:
                die_at(name, point, tally, seed=seed, down_for=chance.choice(DOWN), again=chance.randint(1, AGAIN))
            if point.node in LONG.get(name, ()) and chance.random() < 0.25:
                die_at(name, point, tally, seed=seed, down_for=chance.choice(LONG_DOWN))
                asleep += 1
    return counted(tally) | {"long asleep": asleep}


def run_on_bytecode(seed: int, chunk: int) -> Counts:
    name, tally, chance = ON_CHAIN[chunk // ROUNDS], Tally(), random.Random(f"bytecode {seed} {chunk}")
    with quiet_logs():
        for point in spread(points(name, seed=seed), DEATHS, chance):
            again = chance.randint(1, AGAIN) if chance.random() < 0.3 else None
            down_for = chance.choice(DOWN)
            die_at(name, point, tally, seed=seed, down_for=down_for, again=again, chain=TwinChain)
    return counted(tally)


ABOUT: Final = (
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
)

PART: Final = Part(
    name="crashes",
    what="a node dies before and after every save, sign, send and submit, comes back, and the laws hold",
    chunks=len(SCENARIOS) * SHARES,
    run=run,
    tools=lambda: {"trio": version("trio")},
    page=Page.ENGINE,
    about=ABOUT,
)

EVM_PART: Final = Part(
    name="crashes-evm",
    what="deaths at a spread of those points, the contracts' bytecode beside the model: both agree, and the laws hold",
    chunks=len(ON_CHAIN) * ROUNDS,
    run=run_on_bytecode,
    tools=lambda: {name: version(name) for name in ("trio", "py-evm")},
    page=Page.ENGINE,
    about=(*ABOUT, "contracts/artifacts", "tests/contracts/evm.py", "tests/contracts/world.py"),
)
