"""What all lines together may have waiting for peers that do not read: beyond it the largest is cut (I38).

Each line has a bound of its own (`lines.MAX_UNSENT`); without one over all, as many lines as strangers may have would
hold that many times it. Bytes handed to the operating system and not taken yet count until they are. Whoever reads
has little waiting, and so is never the largest for long. Lines that are being cut count no more: one is enough.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from channeld.base.units import NodeId, short

log = logging.getLogger(__name__)
MAX_IN_ALL: Final = 128 * 1024 * 1024
"""Bytes that may wait on all lines together."""


class Waiting(Protocol):
    """A line, as far as it is weighed."""

    peer: NodeId

    @property
    def held(self) -> int:
        """Bytes that wait, those being sent included."""

    @property
    def is_cut(self) -> bool: ...

    def cut(self) -> None: ...


class Budget:
    """Of the lines that have entered and not left; `most` bytes together."""

    def __init__(self, most: int = MAX_IN_ALL) -> None:
        self._most = most
        self._lines: set[Waiting] = set()

    def enter(self, line: Waiting) -> None:
        self._lines.add(line)

    def leave(self, line: Waiting) -> None:
        self._lines.discard(line)

    def weigh(self) -> None:
        """Cut the largest while too much waits."""
        standing = sorted((line for line in self._lines if not line.is_cut), key=lambda line: (line.held, line.peer))
        total = sum(line.held for line in standing)
        while standing and total > self._most:
            largest = standing.pop()
            total -= largest.held
            log.warning("peer=%s cut: too much waits for all peers together", short(largest.peer[1:]))
            largest.cut()
