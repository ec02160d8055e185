"""Draws the channel machine from MOVES, as Mermaid, into README.md beside this file.

    python -m channeld.core.diagram        shows the diagram
    python -m channeld.core.diagram FILE   prints FILE with its diagram drawn anew

Events that leave a phase as it is, and may do nothing else, are not drawn. A test compares README.md with this.
"""

from __future__ import annotations

import sys
from typing import Final

from channeld.core.channel import Phase
from channeld.core.machine import MOVES

BEGIN: Final = "```mermaid\n"
END: Final = "```\n"


def draw() -> str:
    """The state diagram in Mermaid: one arrow for each pair of phases, labelled with the events that take it."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, kind), ends in MOVES.items():
        for end in ends - {phase}:
            arrows.setdefault((phase, end), []).append(kind.__name__)
    order = list(Phase)
    lines = ["stateDiagram-v2", "    [*] --> OPENING"]
    for start, end in sorted(arrows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        lines.append(f"    {start.name} --> {end.name}: {', '.join(sorted(arrows[start, end]))}")
    lines.append("    CLOSED --> [*]")
    return "\n".join(lines) + "\n"


def redraw(text: str) -> str:
    """`text` with what stands in its first Mermaid block drawn anew. ValueError: it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("no Mermaid block to draw into")
    return before + begin + draw() + end + after


def main(arguments: list[str]) -> None:
    """Write the diagram, or a file with it, to standard output."""
    if not arguments:
        sys.stdout.write(draw())
        return
    with open(arguments[0], encoding="utf-8") as file:
        sys.stdout.write(redraw(file.read()))


if __name__ == "__main__":
    main(sys.argv[1:])
