"""`python -m tests.bench [NAME…]`: measure the rows named, or all, print the table and write build/bench.json."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.bench import (
    degraded,
    gas,
    gossip_sync,
    history,
    hostile,
    learning,
    machine,
    payments,
    report,
    restart,
    routes,
)
from tests.bench.payments import Effort
from tests.bench.rows import ROWS, Measured

OUT = Path(__file__).parents[2] / "build" / "bench.json"


def measure(names: Sequence[str], effort: Effort) -> list[Measured]:
    """The rows named, in the order of `ROWS`."""
    found: dict[str, Measured] = {}
    for module in (payments, restart, degraded, history, gossip_sync):
        for name, one in trio.run(module.measure, names, effort).items():
            found[name] = Measured(row=ROWS[name], samples=tuple(one.samples), note=one.note)
    for name, way in (routes.measure(names, effort.repeats) | learning.measure(names, effort)).items():
        found[name] = Measured(row=ROWS[name], samples=tuple(way.samples), note=way.note)
    if hostile.ROW in names:
        bad = trio.run(hostile.measure, effort)
        found[hostile.ROW] = Measured(row=ROWS[hostile.ROW], samples=tuple(bad.samples), note=bad.note)
    if any(name.startswith("gas_") for name in names):
        for name, (used, note) in gas.both().items():
            if name in names:
                found[name] = Measured(row=ROWS[name], samples=(used,), note=note)
    return [found[name] for name in ROWS if name in names]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *ROWS], help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=Effort().seconds, help="for one sample of a rate")
    parser.add_argument("--repeats", type=int, default=Effort().repeats, help="samples of each row")
    parser.add_argument("--out", type=Path, default=OUT, help="the file to write")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    began = machine.load()
    rows = measure(given.names or list(ROWS), Effort(seconds=given.seconds, repeats=given.repeats))
    told = machine.describe(Path(tempfile.gettempdir()))
    print(report.table(rows, [*told, f"load average before the first sample {began:.1f}"]))
    report.write(rows, given.out)


if __name__ == "__main__":
    main()
