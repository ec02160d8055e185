"""The table people read and the file that programs read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.bench.rows import LEFT_OUT, Measured, Peer

WIDTHS = (34, 12, 5, 12, 9, 30, 9)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _cells(*cells: str) -> str:
    aligned = (f"{cell:<{width}}" if at in (0, 2, 5) else f"{cell:>{width}}" for at, (cell, width) in _numbered(cells))
    return " ".join(aligned).rstrip()


def _numbered(cells: Sequence[str]) -> Iterator[tuple[int, tuple[str, int]]]:
    return enumerate(zip(cells, WIDTHS, strict=True))


def _peer(peer: Peer) -> str:
    return f"{peer.name} {number(peer.value)}"


def line(found: Measured) -> list[str]:
    """The row's own line, and below it what its figure rests on."""
    row, ratio = found.row, found.ratio
    sign = "≥" if row.better == "higher" else "≤"
    told = [
        _cells(
            row.name,
            number(found.value),
            row.unit,
            f"{sign} {number(row.target)}",
            "reached" if found.reached else "MISSED",
            _peer(row.peers[0]) if row.peers else "",
            "" if ratio is None else f"x {number(ratio)}",
        )
    ]
    told.append(f"    {row.what}; samples {', '.join(number(one) for one in found.samples)}")
    if found.note:
        told.append(f"    {found.note}")
    if len(row.peers) > 1:
        told.append(f"    also: {'; '.join(_peer(peer) for peer in row.peers[1:])}")
    return told


def sources(rows: Iterable[Measured]) -> Iterator[str]:
    """Each peer's source and conditions, once."""
    seen = set()
    for found in rows:
        for peer in found.row.peers:
            said = f"  {peer.name}: {peer.source}" + (f" ({peer.conditions})" if peer.conditions else "")
            if said not in seen:
                seen.add(said)
                yield said


def table(rows: Sequence[Measured], machine: Sequence[str]) -> str:
    head = _cells("", "value", "", "target", "", "compared with", "ratio")
    told = [head, *(one for found in rows for one in line(found)), ""]
    told += ["The machine:", *(f"  {one}" for one in machine), ""]
    told += ["Peers' figures, from:", *sources(rows), ""]
    told += ["Not measured:", *(f"  {name}: {why}" for name, why in LEFT_OUT.items())]
    return "\n".join(told)


def write(rows: Sequence[Measured], path: Path) -> None:
    """As a JSON list, one object per row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([found.json() for found in rows], indent=1, ensure_ascii=False) + "\n", "utf-8")
