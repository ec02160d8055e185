"""Crash before and after every save, sign, send and submit of a scenario, and judge what becomes of it.

A scenario is run once to list its points. Then each point is run again: the world is the same up to there (same seed,
same order of everything), the node dies at that very point, comes back from its database, and everything must end
lawfully. A run in which the point is not reached is a finding too, since then nothing was tried.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from channeld.node.loop import Actor
from tests.crash import scenarios
from tests.crash.chain import ModelChain
from tests.crash.sim import Point, Unlawful


@dataclass(slots=True)
class Tally:
    """What so many deaths came to."""

    deaths: int = 0
    second: int = 0
    """Runs in which the node died again on its way back."""
    names: Counter[str] = field(default_factory=Counter)
    """Deaths by point, without its number."""
    found: list[str] = field(default_factory=list)
    """Each with all that is needed to see it again."""


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


def points(
    name: str, *, seed: int = 0, actor: type[Actor] = Actor, chain: type[ModelChain] = ModelChain
) -> tuple[Point, ...]:
    """All points of a scenario, in the order in which they are passed."""
    with fresh_folder() as folder:
        found = scenarios.run(name, folder, seed=seed, actor=actor, chain=chain).points
    only = scenarios.ONLY.get(name)
    return tuple(point for point in found if only is None or point.node in only)


def spread(every: Sequence[Point], most: int, chance: random.Random) -> list[Point]:
    """At most so many of them, drawn so that each kind of point has its turn before any has a second."""
    kinds: dict[tuple[str, str, str], list[Point]] = {}
    for point in every:
        kinds.setdefault((point.node, point.name, point.when), []).append(point)
    stacks = list(kinds.values())
    chance.shuffle(stacks)
    for stack in stacks:
        chance.shuffle(stack)
    drawn: list[Point] = []
    while stacks and len(drawn) < most:
        stacks = [stack for stack in stacks if stack]
        drawn += [stack.pop() for stack in stacks]
    return drawn[:most]


def die_at(
    name: str,
    point: Point,
    tally: Tally,
    *,
    seed: int = 0,
    down_for: float = 1.0,
    again: int | None = None,
    actor: type[Actor] = Actor,
    chain: type[ModelChain] = ModelChain,
) -> None:
    """One death, or a second one `again` points after the return from it, and what was found in `tally`."""
    try:
        with fresh_folder() as folder:
            result = scenarios.run(
                name, folder, seed=seed, doomed=point, again=again, down_for=down_for, actor=actor, chain=chain
            )
        if not result.deaths:
            raise Unlawful("the point was not reached again: the run does not repeat")
        tally.second += result.deaths == 2
    except (BaseExceptionGroup, Unlawful, trio.TooSlowError) as fault:  # what a node raises comes in a group
        twice = "" if again is None else f", again {again} points later"
        tally.found.append(f"{name}, seed {seed}, down for {down_for:g} s, {point}{twice}: {said(fault)}")
    tally.deaths += 1
    tally.names[f"{point.when} {point.name}"] += 1


def said(fault: BaseException) -> str:
    """The innermost errors of a group, without those that only follow from them."""
    if isinstance(fault, BaseExceptionGroup):
        return "; ".join(said(one) for one in fault.exceptions if not isinstance(one, trio.Cancelled))
    return f"{type(fault).__name__}: {fault}"
