"""`python -m tests.verify`: run the campaigns' parts, or write down what they have found."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from tests.verify import ledger
from tests.verify.part import Found, Page, Part

PARTS: Final = (
    ("model", "PART"),
    ("signatures", "PART"),
    ("twin", "PART"),
    ("twin", "WRONG_TWINS"),
    ("slither", "PART"),
    ("forge", "PART"),
    ("halmos", "PART"),
    ("guards", "PART"),
    ("mutants", "PART"),
    ("machines", "PART"),
    ("cluster", "PART"),
    ("rules", "PART"),
    ("crashes", "PART"),
    ("crashes", "EVM_PART"),
    ("kills", "PART"),
    ("power", "PART"),
    ("decoders", "PART"),
)
"""Module and name of each."""


def parts() -> list[Part]:
    """All of them, in the order they are run."""
    return [getattr(import_module(f"tests.verify.{module}"), name) for module, name in PARTS]


def run(part: Part, seed: int, most: int) -> int:
    """Run what is left of a part, at most `most` chunks. 1 if it failed, which ends it, or cannot run here; else 0."""
    if why := part.missing():
        print(f"{part.name}: not run, {why}", flush=True)
        return 1
    code = ledger.subject(part)
    done = ledger.newest(ledger.load(part.name), code, seed)
    left = [chunk for chunk in range(part.chunks) if chunk not in done][:most]
    print(f"{part.name}: {part.what}; {len(done)} of {part.chunks} chunks done with seed {seed}", flush=True)
    for chunk in left:
        began = time.monotonic()
        try:
            counts = part.run(seed, chunk)
        except Found as found:
            print(f"{part.name}: FOUND in chunk {chunk}, seed {seed}: {found}", flush=True)
            return 1
        seconds = round(time.monotonic() - began)
        kept = ledger.Done(
            part=part.name,
            seed=seed,
            chunk=chunk,
            counts=counts,
            seconds=seconds,
            date=datetime.now(UTC).date().isoformat(),
            code=code,
            tools=part.tools(),
        )
        ledger.add(kept)
        print(f"{part.name}: chunk {chunk + 1} of {part.chunks} in {seconds} s: {part.said(counts)}", flush=True)
    return 0


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify", description=__doc__)
    parser.add_argument("--part", action="append", choices=names, help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other chances (default 1)")
    parser.add_argument("--most", type=int, default=10**9, help="chunks of each part at most, this time")
    parser.add_argument("--report", action="store_true", help="only write the results into their pages")
    return parser.parse_args()


def main() -> int:
    """The exit code: 0 if nothing was found, 1 if something was or cannot be run, 130 after Ctrl-C."""
    if find_spec("pyrevm") is None:
        print("the campaigns need pyrevm, which is not published for this Python", file=sys.stderr)
        return 1
    every = parts()
    given = _arguments([part.name for part in every])
    if given.report:
        for page in Page:
            here = [part for part in every if part.page is page]
            if not any(ledger.load(part.name) for part in here):
                print(f"{page.value} is left as it is: nothing of it was run here")
                continue
            ledger.write(ledger.ROOT / page.value, ledger.table(here))
            print(f"written into {page.value}")
        return 0
    try:
        return max([run(part, given.seed, given.most) for part in every if not given.part or part.name in given.part])
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
