"""Whole daemons on a bad wire and an unsteady chain, a dozen seeds of `cluster`; thousands in `make verify`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from tests.crash.sim import Unlawful
from tests.machines.cluster import KINDS, run
from tests.machines.play import leaves

SEEDS = (0, 1, 2, 4, 6, 7, 8, 9, 12, 13, 17, 19)
MET = (7, 11, 31)
"""Seeds among whose runs are poor nodes, low caps, payments in parts and in halves."""
ASLEEP = 10
"""A seed whose victim sleeps while the cheat closes with an older state."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 3))
def test_nobody_honest_loses_and_no_channel_ends_without_cause(first: int, folder: Path) -> None:
    met: Counter[str] = Counter()
    for seed in SEEDS[first : first + 3]:
        met += run(seed, folder / str(seed))
    assert met["payment succeeded"]
    assert met["deaths"] + met["lines cut"] + met["lines cut at a message"] >= 3
    assert met["signatures looked at"] >= 30


def test_caps_sets_and_reserves_are_met(folder: Path) -> None:
    """I15, I21, I22 are looked at where it counts: at the caps, for sets of parts, and by who can pay for little."""
    met: Counter[str] = Counter()
    for seed in MET:
        met += run(seed, folder / str(seed))
    for name in ("shares of slots met", "counts of dust met", "sets of two parts", "paid in parts"):
        assert met[name], name
    assert met["passed on by the poor"]
    assert met["half of 1 payment_failed"]


def test_every_kind_of_run_is_among_the_seeds() -> None:
    assert {Random(seed).choice(KINDS) for seed in SEEDS} == set(KINDS)


def test_the_same_seed_gives_the_same_run(folder: Path) -> None:
    assert run(1, folder / "one") == run(1, folder / "other")


def test_a_victim_that_sleeps_is_saved_by_its_tower(folder: Path) -> None:
    assert run(ASLEEP, folder)["saved by the tower"]


def test_without_the_tower_it_would_be_robbed(folder: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        run(ASLEEP, folder, tower_sleeps=True)
    (found,) = {str(one) for one in leaves(caught.value) if isinstance(one, Unlawful)}
    assert found.startswith("I26: an old state")
