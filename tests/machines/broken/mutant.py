"""A break of one rule: one piece of source exchanged for another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """`old`, which stands exactly once in `file` of `channeld`, is exchanged for `new`.

    `rule`: R1 to R22 with a sub-rule, "recovery" or "on chain" (what stands at the end of the protocol's page).
    """

    rule: str
    name: str
    file: str
    old: str
    new: str
