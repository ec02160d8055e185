"""Part "forge": invariants of the contracts' bytecode, by forge, with ghost handlers in Solidity.

The project in `tests/contracts/forge` is copied to a folder of its own, and the committed init codes are written next
to its sources as `Code.sol`: what runs is what would be deployed. Forge calls the handlers in random order; each call
goes out with what it has to do by the specification, and the ghost ledger compares. What was called, how often and with
what end the handlers write into `counts.jsonl`, a line for each run.

Needs the tools of `make tools`: forge, and solc (behind `tests/tools/solc-native`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts import artifact
from tests.verify.part import Counts, Found, Part

ROOT: Final = Path(__file__).parents[2]
TOOLS: Final = ROOT / "tests" / "tools"
FORGE: Final = TOOLS / "node_modules" / ".bin" / "forge"
SOLC: Final = TOOLS / "solc-native"
PROJECT: Final = ROOT / "tests" / "contracts" / "forge"
CODES: Final = {"manager": "ChannelManager", "registry": "SecretRegistry", "plain": "TestToken", "nasty": "NastyToken"}
RUNS, DEPTH, CHUNKS = 256, 200, 20
"""Of one chunk: sequences, and calls in each. 20 chunks make 1,024,000 calls."""
DEEP: Final = {
    "settle-with-locks": 0.01,
    "resolve-part": 0.005,
    "lock-claimed": 0.01,
    "lock-refunded": 0.01,
    "challenge-delegated": 0.01,
    "challenge-again": 0.001,
    "cooperate-closing": 0.01,
    "close-by-order": 0.01,
    "refilled": 0.01,
    "copied": 0.1,
    "withdraw": 0.01,
}
"""What has to happen this often in a run on average, or the campaign has not been where it should."""


def missing() -> str | None:
    """Why forge cannot be run here, if it cannot."""
    there = FORGE.exists() and (TOOLS / "node_modules" / "solc").exists() and shutil.which("node") is not None
    return None if there else "needs forge and solc (make tools)"


def code(names: dict[str, str], other: dict[str, bytes] | None = None) -> str:
    """Source of a Solidity library with the init code of each artifact; `other` codes take the place of some."""
    lines = ["// SPDX-License-Identifier: MIT", "pragma solidity ^0.8.20;", "", "library Code {"]
    for function, name in names.items():
        init = (other or {}).get(function, artifact(name).bytecode)
        lines += [
            f"    function {function}() internal pure returns (bytes memory) {{",
            f'        return hex"{init.hex()}";',
        ]
        lines += ["    }"]
    return "\n".join([*lines, "}", ""])


def write_if_new(path: Path, text: str) -> None:
    """Write `text` if the file does not hold it yet, so that forge's cache keeps what it compiled."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def prepare(folder: Path, other: dict[str, bytes] | None = None) -> None:
    """Make `folder` a forge project with the sources as they are and the bytes under test."""
    for source in sorted(PROJECT.rglob("*")):
        if source.suffix in (".sol", ".toml"):
            write_if_new(folder / source.relative_to(PROJECT), source.read_text(encoding="utf-8"))
    write_if_new(folder / "src" / "Code.sol", code(CODES, other))


def forge(folder: Path, *arguments: str, seconds: int = 1800, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `forge` in `folder`, whatever a user's own settings say. `settings` become its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOUNDRY_", "DAPP_", "FORGE_"))}
    return subprocess.run(
        [str(FORGE), *arguments, "--root", str(folder), "--use", str(SOLC), "--color", "never"],
        env={**kept, **settings, "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What a run of forge did: calls of handlers, and what the handlers counted, by name."""

    sequences: int
    calls: int
    counts: Counter[str]


def campaign(
    folder: Path, seed: int, runs: int, depth: int, other: dict[str, bytes] | None = None, shrink: int = 200
) -> Campaign:
    """`runs` sequences of `depth` calls; Found with forge's own report if an invariant does not hold.

    `seed` decides everything, 256 bits. `other`: init codes to test in the place of the committed ones. `shrink`: how
    often forge may try to make a failing sequence shorter.
    """
    prepare(folder, other)
    lines = folder / "counts.jsonl"
    lines.unlink(missing_ok=True)
    shutil.rmtree(folder / "cache" / "invariant", ignore_errors=True)  # else forge begins with the last failure
    done = forge(
        folder,
        "test",
        "--fuzz-seed",
        hex(seed),
        FOUNDRY_INVARIANT_RUNS=str(runs),
        FOUNDRY_INVARIANT_DEPTH=str(depth),
        FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT=str(shrink),
    )
    said = re.search(r"\(runs: (\d+), calls: (\d+), reverts: (\d+)\)", done.stdout)
    if done.returncode != 0 or said is None:
        first = re.search(r"\[FAIL: (.*?)\]", done.stdout)
        what = first[1] if first else "forge failed"
        raise Found(f"{what}; seed {seed:#x}, {runs} × {depth}:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    if int(said[3]) != 0:
        raise Found(f"a handler reverted {said[3]} times, seed {seed:#x}:\n{done.stdout[-6000:]}")
    counts: Counter[str] = Counter()
    for line in lines.read_text(encoding="utf-8").splitlines():
        counts.update(json.loads(line))
    return Campaign(sequences=int(said[1]), calls=int(said[2]), counts=counts)


def shallow(done: Campaign) -> list[str]:
    """Names of what happened too rarely."""
    return [name for name, least in DEEP.items() if done.counts[name] < least * done.sequences]


def run(seed: int, chunk: int) -> Counts:
    """One chunk: RUNS sequences of DEPTH calls."""
    reason = missing()
    if reason:
        raise RuntimeError(reason)
    done = campaign(ROOT / "build" / "forge", (seed << 32) | chunk, RUNS, DEPTH)
    poor = shallow(done)
    if poor:
        raise Found(f"the handlers hardly reach {', '.join(poor)}: {dict(done.counts)}")
    return {"sequences": done.sequences, "calls": done.calls, **dict(sorted(done.counts.items()))}


def tools() -> dict[str, str]:
    """Versions of forge and solc."""
    versions = {}
    for name, program in (("forge", FORGE), ("solc", SOLC)):
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"Version: (\S+)", said)
        versions[name] = found[1] if found else said.strip()
    return versions


PART: Final = Part(
    name="forge",
    what="invariants I1 to I9 on the contracts' bytecode, ghost handlers, honest, lying and colluding participants",
    chunks=CHUNKS,
    run=run,
    tools=tools,
    shown=(
        "sequences",
        "calls",
        "challenge-delegated",
        "settle-with-locks",
        "lock-claimed",
        "lock-refunded",
        "refilled",
    ),
    about=("tests/contracts/forge", "tests/verify/forge.py"),
)
