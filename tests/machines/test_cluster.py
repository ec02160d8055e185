"""Whole daemons on a bad wire and an unsteady chain, a dozen seeds of `cluster`; thousands in `make verify`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from tests.machines.cluster import KINDS, run

SEEDS = 12


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


@pytest.mark.parametrize("first", range(0, SEEDS, 3))
def test_nobody_honest_loses_and_no_channel_ends_without_cause(first: int, folder: Path) -> None:
    met: Counter[str] = Counter()
    for seed in range(first, first + 3):
        met += run(seed, folder / str(seed))
    assert met["payment succeeded"]
    assert met["deaths"] + met["lines cut"] + met["lines cut at a message"] >= 3


def test_every_kind_of_run_is_among_the_seeds() -> None:
    assert {Random(seed).choice(KINDS) for seed in range(SEEDS)} == set(KINDS)


def test_the_same_seed_gives_the_same_run(folder: Path) -> None:
    assert run(1, folder / "one") == run(1, folder / "other")
