"""A part of the long campaign: what it looks for, in how many chunks, and how one chunk is run.

A chunk is small enough (a minute or a few) that stopping between two loses little. Whatever chance a chunk takes comes
from (seed, chunk), so that a finding can be run again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Page(Enum):
    """The pages of results, from the project's root."""

    CONTRACTS = "contracts/VERIFICATION.md"
    """What is tried against the contracts' bytecode: a new bytecode voids every result."""
    ENGINE = "tests/VERIFICATION.md"
    """What is tried against the daemon: results rest on the files a part names, and on nothing else. A part that runs
    the contracts too names `contracts/artifacts` among them."""


Counts = dict[str, int]
"""What a chunk counted, by name: sequences, calls, differences, …"""


class Found(Exception):
    """The campaign found what should not be there, or a defence that no test misses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of `make verify`."""

    name: str
    what: str
    """One line for the table of results."""
    chunks: int
    """How many make the whole."""
    run: Callable[[int, int], Counts]
    """(seed, chunk) -> counts; `Found` with everything needed to see it again."""
    tools: Callable[[], dict[str, str]]
    """Name and version of each tool the result rests on."""
    about: tuple[str, ...] = ()
    """Files and folders, from the project's root, that a result rests on: a change voids it."""
    page: Page = Page.CONTRACTS
    """Where its results are reported. What is about the contracts rests on their bytecode too."""
    missing: Callable[[], str | None] = lambda: None
    """Why the part cannot run here, e.g. a tool that is not installed; None if it can."""
    shown: tuple[str, ...] = ()
    """Which counts people want to see, in this order; all if empty. All are kept."""

    def said(self, counts: Counts) -> str:
        """The counts for people."""
        return ", ".join(f"{counts.get(name, 0):,} {name}" for name in self.shown or counts)
