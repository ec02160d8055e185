"""The Solidity twin, compiled by the solc of npm (`make tools`) through node.

The optimizer is on, the pipeline is the old one (no IR), and no metadata is added. What was compiled before is kept in
`build/twin`, by the hash of the whole input, so that only a change costs the few seconds again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channeld.base.keys import keccak
from contracts.build import compiled as artifact_of

HERE: Final = Path(__file__).parent
TOOLS: Final = HERE.parents[1] / "tools"
KEPT: Final = HERE.parents[2] / "build" / "twin"
DRIVER: Final = TOOLS / "solc-native"
"""What makes a program of it: standard JSON from stdin to stdout."""
SOLC: Final = "0.8.30"
RUNS: Final = 200
MOST: Final = 24_576
"""Bytes of runtime code (EIP-170)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One contract of the twin."""

    abi: list[dict[str, Any]]
    bytecode: bytes
    """Init code; constructor arguments follow it."""
    size: int
    """Bytes of runtime code."""


def missing() -> str | None:
    """Why the twin cannot be compiled here, or None if it can."""
    if shutil.which("node") is None:
        return "needs node and solc (make tools)"
    if not (TOOLS / "node_modules" / "solc" / "package.json").exists():
        return "needs solc (make tools)"
    try:
        version()
    except RuntimeError as error:
        return f"needs solc {SOLC} (make tools): {error}"
    return None


def version() -> str:
    """Version of the installed solc, e.g. "0.8.30"; RuntimeError if it is not the pinned one."""
    stored = json.loads((TOOLS / "node_modules" / "solc" / "package.json").read_text(encoding="utf-8"))
    if stored["version"] != SOLC:
        raise RuntimeError(f"solc {stored['version']} is installed, but the twin is pinned to {SOLC}")
    return SOLC


def sources(changes: Mapping[str, tuple[str, str]] | None = None) -> dict[str, str]:
    """Text of each source file by its name; `changes` replaces (old, new) in a file, once. ValueError if it cannot."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.sol"))}
    for name, (old, new) in (changes or {}).items():
        if texts[name].count(old) != 1:
            raise ValueError(f"{name} has not one place that reads {old!r}")
        texts[name] = texts[name].replace(old, new)
    return texts


def vyper(source: Path, old: str = "", new: str = "") -> bytes:
    """Init code of a Vyper contract, with `old` in its source replaced. ValueError unless it is there once."""
    text = source.read_text(encoding="utf-8")
    if old:
        if text.count(old) != 1:
            raise ValueError(f"{source.name} has not one place that reads {old!r}")
        text = text.replace(old, new)
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT) as folder:
        changed = Path(folder) / source.name
        changed.write_text(text, encoding="utf-8")
        return bytes.fromhex(json.loads(artifact_of(changed))["bytecode"].removeprefix("0x"))


def request(texts: Mapping[str, str]) -> str:
    """Standard JSON input for the compiler."""
    return json.dumps(
        {
            "language": "Solidity",
            "sources": {name: {"content": text} for name, text in texts.items()},
            "settings": {
                "evmVersion": "cancun",
                "optimizer": {"enabled": True, "runs": RUNS},
                "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
                "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
            },
        }
    )


def compiled(changes: Mapping[str, tuple[str, str]] | None = None) -> dict[str, Built]:
    """Contracts by name, with their sources changed as told. RuntimeError with the compiler's errors."""
    given = request(sources(changes))
    kept = KEPT / f"{keccak((version() + given).encode()).hex()[:32]}.json"
    if not kept.exists():
        done = subprocess.run(
            ["node", str(DRIVER), "--standard-json"],
            input=given,
            capture_output=True,
            check=True,
            text=True,
            timeout=100,
        )
        output = json.loads(done.stdout)
        wrong = [one["formattedMessage"] for one in output.get("errors", ())]
        if wrong:
            raise RuntimeError("\n".join(wrong))
        KEPT.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.write_text(done.stdout, encoding="utf-8")
        fresh.replace(kept)
    output = json.loads(kept.read_text(encoding="utf-8"))
    found = {name: one for file in output["contracts"].values() for name, one in file.items()}
    return {
        name: Built(
            abi=one["abi"],
            bytecode=bytes.fromhex(one["evm"]["bytecode"]["object"]),
            size=len(one["evm"]["deployedBytecode"]["object"]) // 2,
        )
        for name, one in found.items()
    }
