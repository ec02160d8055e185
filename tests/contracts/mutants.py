"""Breaks each check of the contracts in turn: every assert, comparison, `and`, `or`, `not`, minimum and maximum.

A mutant is a copy of the project with one place of a contract's source exchanged and compiled; the contracts' tests are
run on it and must fail. The places are found among the source's tokens, so a new check is a new mutant without anyone
thinking of it. What cannot fail because the mutant does the same as the original stands in `mutants.equivalent`, a line
each with its reason; an entry there that is not a mutant any more, or that some test kills, is an error.

`python -m tests.contracts.mutants` lists them; `make verify PART=mutants` runs them.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.build import compiled

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("ChannelManager", "SecretRegistry")
EQUIVALENT: Final = Path(__file__).with_name("mutants.equivalent")
COPIED: Final = ("channeld", "contracts", "tests", "setup.cfg", "pyproject.toml")
FAST: Final = (
    "test_close.py",
    "test_challenge.py",
    "test_cooperate.py",
    "test_deposit.py",
    "test_settle.py",
    "test_finalize.py",
    "test_resolve_locks.py",
    "test_register.py",
    "test_payouts.py",
    "test_relayed_close.py",
    "test_many.py",
    "test_authorised_deposits.py",
    "test_boundaries.py",
    "test_signatures.py",
    "test_build.py::test_the_constructor_refuses_what_cannot_work",
)
SLOW: Final = (
    "test_zoo_tokens.py",
    "test_zoo_receivers.py",
    "test_caps.py",
    "test_plots.py",
)
KILLERS: Final = (*FAST, *SLOW)
"""In the order in which they are tried: what is fast and kills much comes first."""
OTHERS: Final = {
    "==": ("!=",),
    "!=": ("==",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
    "and": ("or",),
    "or": ("and",),
    "min": ("max",),
    "max": ("min",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change. `name` says where and what: contract, function, the source line, and what became of it."""

    contract: str
    name: str
    source: str
    """The whole mutated source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    start: tuple[int, int]
    end: tuple[int, int]
    text: str


def mutants() -> list[Mutant]:
    """All of them, in the order of the sources."""
    found: list[Mutant] = []
    for contract in SOURCES:
        source = (ROOT / "contracts" / f"{contract}.vy").read_text(encoding="utf-8")
        seen: dict[str, int] = {}
        for change in _changes(source):
            name = _name(contract, source, change)
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            found.append(Mutant(contract=contract, name=name, source=_changed(source, change)))
    return found


def _changes(source: str) -> Iterator[_Change]:
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(source).readline) if one.type != tokenize.COMMENT]
    inside = False  # of some function: what is declared before is not code
    for at, token in enumerate(tokens):
        if token.string == "def":
            inside = True
        if not inside:
            continue
        if token.type == tokenize.NAME and token.string == "assert":
            last = _condition(tokens, at + 1)
            yield _Change(start=tokens[at + 1].start, end=last.end, text="True")
        elif token.type == tokenize.NAME and token.string == "not" and tokens[at + 1].string != "in":
            yield _Change(start=token.start, end=tokens[at + 1].start, text="")
        elif token.type in (tokenize.OP, tokenize.NAME):
            for other in OTHERS.get(token.string, ()):
                yield _Change(start=token.start, end=token.end, text=other)


def _condition(tokens: list[tokenize.TokenInfo], at: int) -> tokenize.TokenInfo:
    """The last token of an assert's condition: before the comma of its reason, or the end of the line."""
    depth, last = 0, tokens[at]
    for token in tokens[at:]:
        if token.string in ("(", "["):
            depth += 1
        elif token.string in (")", "]"):
            depth -= 1
        elif depth == 0 and (token.string == "," or token.type == tokenize.NEWLINE):
            return last
        last = token
    raise ValueError("an assert without an end")


def _changed(source: str, change: _Change) -> str:
    lines = source.split("\n")
    (first, left), (last, right) = change.start, change.end
    tail = lines[last - 1][right:]
    lines[first - 1 : last] = [lines[first - 1][:left] + change.text + tail]
    return "\n".join(lines)


def _name(contract: str, source: str, change: _Change) -> str:
    lines = source.split("\n")
    row, column = change.start
    function = next(found[1] for line in reversed(lines[:row]) if (found := re.match(r"def (\w+)", line)) is not None)
    old = lines[row - 1][column : change.end[1]] if change.end[0] == row else lines[row - 1][column:]
    return f"{contract}.{function}: {lines[row - 1].strip()} [{old.strip()} at {column}] -> [{change.text}]"


def equivalent(path: Path = EQUIVALENT) -> dict[str, str]:
    """Name of each mutant that does the same as the original, and why. Lines `name # why`; ValueError without a why."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, mark, why = line.rpartition(" # ")
            if not mark or not why.strip():
                raise ValueError(f"no reason: {line}")
            found[name] = why
    return found


class Bench:
    """A copy of the project in which one mutant after the other is tried. Use as a context."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.root = Path(self._folder.name)

    def __enter__(self) -> Bench:
        skip = shutil.ignore_patterns("__pycache__", "node_modules", ".hypothesis")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.root / name, ignore=skip)
            else:
                shutil.copy(ROOT / name, self.root / name)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def killed(self, mutant: Mutant | None) -> str:
        """The test that fails, "does not compile", or "" if the mutant lives. None tries the original."""
        for contract in SOURCES:
            for place in (f"contracts/{contract}.vy", f"contracts/artifacts/{contract}.json"):
                shutil.copy(ROOT / place, self.root / place)
        if mutant is not None:
            path = self.root / "contracts" / f"{mutant.contract}.vy"
            path.write_text(mutant.source, encoding="utf-8")
            compiled.cache_clear()
            try:
                artifact = compiled(path)
            except Exception as fault:  # noqa: BLE001 - whatever the compiler says: this is nothing that could run
                return f"does not compile: {type(fault).__name__}"
            (self.root / "contracts" / "artifacts" / f"{mutant.contract}.json").write_text(artifact, encoding="utf-8")
        for names in (FAST, SLOW):
            if killer := self._failed(names):
                return killer
        return ""

    def _failed(self, names: tuple[str, ...]) -> str:
        """The first of these tests that fails, or ""."""
        tests = [f"tests/contracts/{name}" for name in names]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "--no-header",
            "--tb=no",
            *tests,
        ]
        done = subprocess.run(
            command,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        if done.returncode == 0:
            return ""
        failed = re.search(r"^(?:FAILED|ERROR) tests/contracts/(\S+)", done.stdout, re.MULTILINE)
        return failed[1] if failed else f"pytest: exit code {done.returncode}: {done.stdout[-300:]}"


def main() -> int:
    """List the mutants; the exit code is 1 if a line of `mutants.equivalent` names none of them."""
    every = mutants()
    same = equivalent()
    for mutant in every:
        print(mutant.name + (f"  # {same[mutant.name]}" if mutant.name in same else ""))
    unknown = same.keys() - {mutant.name for mutant in every}
    print(f"{len(every)} mutants, {len(same)} of them equivalent")
    for name in sorted(unknown):
        print(f"no such mutant: {name}", file=sys.stderr)
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
