"""Breaks the rules of the protocol in the code, one at a time, and shows what catches each, with which seed.

    python -m tests.machines.rules                  all of them; the table for RULES.md
    python -m tests.machines.rules R12 "any preimage opens a lock"      those of a rule, or one by its name
    python -m tests.machines.rules --search [...]   as if RULES.md were empty

Each break is a copy of the project with one piece of source exchanged. What caught it last, as RULES.md tells, is tried
first: one walk or one test, so that the whole takes minutes. If that passes, all are tried: the machines' walks, whole
daemons (`cluster`), at last the unit tests of the core and of the node. A break that lives makes the exit code 1. Not
part of the test suite: the long campaign runs it (`tests.verify.rules`), in which the unchanged code must pass first.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.machines.broken import LIVENESS, MUTANTS, Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("channeld", "contracts", "routing", "tests", "setup.cfg", "pyproject.toml")
RECORD: Final = Path(__file__).with_name("RULES.md")
SUITES: Final = ("tests/unit/core", "tests/unit/node")
FEW: Final = 8
"""Runs of whole daemons for what is broken in the core and no machine of the core catches."""
PATIENCE: Final = 400
"""Seconds of the processor's time after which code that does not end counts as caught."""
STANDSTILL: Final = 3_600
"""Seconds after which code that waits for ever does."""
FAILED: Final = re.compile(r"^FAILED (.+?)(?: - .*)?$", re.MULTILINE)
GONE: Final = 4
"""What pytest ends with when the test it is asked for is not there (any more)."""
ROW: Final = re.compile(r"^\| \S.* \| (?P<name>[^|]+) \| (?P<killer>[^|]+) \|$", re.MULTILINE)
HEAD: Final = "broken"
"""The table's head over the breaks' names."""
WALK: Final = re.compile(r"(?P<machine>[a-z ]+), seed (?P<seed>\d+)")


class Unfit(Exception):
    """Not a finding about a rule: the mutant does not fit the source, or the tests do not run."""


@contextmanager
def copy() -> Iterator[Path]:
    """A copy of the project, to be broken."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, home / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(source, home / name)
        yield home


def record() -> dict[str, str]:
    """What caught each break last: its name -> a walk or a test."""
    rows = ROW.finditer(RECORD.read_text(encoding="utf-8"))
    return {row["name"]: row["killer"] for row in rows if row["name"] != HEAD}


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 5))


def _run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Python in the copy; None if it does not end."""
    environment = {
        "PYTHONPATH": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "mutants",
    }
    try:
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=STANDSTILL,
            preexec_fn=_limit,
        )
    except subprocess.TimeoutExpired:
        return None
    return None if run.returncode < 0 else run


def machine(home: Path, *walks: str) -> str:
    """Which machine fails on the code in `home`, with its first seed; an empty string if none does."""
    run = _run(home, "-m", "tests.machines.play", *walks)
    if run is None:
        return "the machines: they do not end"
    if run.returncode:
        raise Unfit(run.stderr[-2000:])
    said = json.loads(run.stdout.splitlines()[-1])
    if Path(said["code"]) != home / "channeld":
        raise Unfit(f"played the code in {said['code']}")
    return f"{said['found'][0]}, seed {said['found'][1]}" if said["found"] else ""


def first_failing(home: Path, suites: tuple[str, ...]) -> str:
    """The first unit test that fails on the code in `home`, or an empty string."""
    for suite in suites:
        run = _run(home, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", suite)
        if run is None:
            return f"{suite} does not end"
        if run.returncode == 1:
            found = FAILED.search(run.stdout)
            return found[1] if found else suite
        if run.returncode:
            raise Unfit(f"pytest ended with {run.returncode}\n{run.stdout[-2000:]}{run.stderr[-500:]}")
    return ""


def caught_again(home: Path, killer: str) -> str:
    """`killer` if the walk or the test of that name fails on the code in `home`, else an empty string."""
    walk = WALK.fullmatch(killer)
    if walk:
        return machine(home, f"{walk['machine']}:{walk['seed']}")
    if "::" not in killer:
        return ""
    there = _run(home, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", killer)
    return "" if there is not None and there.returncode == GONE else first_failing(home, (killer,))


def caught(home: Path, file: str = "core/") -> str:
    """What fails on the code in `home`, broken in `file`: a machine with its seed, else a test; else an empty string.

    The first three machines play the core, then a few whole daemons do; what is broken in the node goes to daemons at
    once.
    """
    if not file.startswith("core/"):
        return machine(home, "cluster:0:24") or first_failing(home, SUITES[1:])
    return machine(home) or machine(home, f"cluster:0:{FEW}") or first_failing(home, SUITES)


def try_one(mutant: Mutant, home: Path, known: str = "") -> str:
    """Break the copy, see what fails, mend it. Unfit: the source is not as the mutant says."""
    path = home / "channeld" / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise Unfit(f"{mutant.name}: its source stands {source.count(mutant.old)} times in {mutant.file}")
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return (known and caught_again(home, known)) or caught(home, mutant.file)
    finally:
        path.write_text(source, encoding="utf-8")


def main(arguments: list[str]) -> int:
    wanted = {one for one in arguments if one != "--search"}
    known, lived = {} if "--search" in arguments else record(), 0
    print("| rule | broken | caught by |\n|---|---|---|", flush=True)
    with copy() as home:
        for mutant in MUTANTS:
            if wanted and not {mutant.rule, mutant.name} & wanted:
                continue
            try:
                killer = try_one(mutant, home, known.get(mutant.name, ""))
            except Unfit as fault:
                print(fault, file=sys.stderr, flush=True)
                killer = ""
            lived += not killer and mutant.name not in LIVENESS
            print(f"| {mutant.rule} | {mutant.name} | {killer or 'LIVES'} |", flush=True)
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
