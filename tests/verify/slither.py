"""Part `slither`: Slither over the Solidity twin; whatever it finds must be in a list that says why it is none.

Slither wants an older web3 than the daemon, so it gets a venv of its own under `build/`, made when it is missing. It
runs the compiler as a program called `solc`, which is made here of the solc of npm. A finding is known by its
detector, the function (or variable, …) it is about and the expressions it points at, not by its line:
`tests/contracts/twin/slither.allowed` has one per line, with the reason behind `#`. What is allowed there and found no
longer is an error too. A name may end in `*`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.contracts.twin import build
from tests.verify.part import Counts, Found, Part

VERSION: Final = "0.11.5"
PLACE: Final = build.KEPT.parent / "slither"
ALLOWED: Final = build.HERE / "slither.allowed"


def installed() -> Path:
    """Slither's program; makes its venv if need be."""
    program = PLACE / "venv" / "bin" / "slither"
    done = PLACE / f"{VERSION}.done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE / "venv")], check=True, timeout=120)
        pip = [str(program.with_name("python")), "-m", "pip", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", f"slither-analyzer=={VERSION}"], check=True, timeout=600)
        done.touch()
    return program


def missing() -> str | None:
    """Why Slither cannot run here, or None; tries to make its venv."""
    reason = build.missing()
    if reason:
        return reason
    try:
        installed()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        return f"needs slither-analyzer {VERSION}, which could not be installed: {error}"
    return None


def findings() -> dict[str, str]:
    """What Slither finds, "detector element" -> its description."""
    program = installed()
    tools = PLACE / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    named = tools / "solc"
    named.write_text(f'#!/bin/sh\nexec node {shlex.quote(str(build.DRIVER))} "$@"\n', encoding="utf-8")
    named.chmod(0o755)
    asked = json.loads(build.request(build.sources()))
    del asked["settings"]["outputSelection"]  # Slither says itself what it needs
    given, answer = PLACE / "twin.json", PLACE / "found.json"
    given.write_text(json.dumps(asked), encoding="utf-8")
    answer.unlink(missing_ok=True)
    done = subprocess.run(
        [str(program), str(given), "--compile-force-framework", "solc-json", "--json", str(answer)],
        cwd=build.HERE,  # it looks the sources up by their names
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if not answer.exists():
        raise RuntimeError(f"slither: {done.stderr[-2000:]}")
    told = json.loads(answer.read_text(encoding="utf-8"))
    if not told["success"]:
        raise RuntimeError(f"slither: {told['error']}")
    return {_name(one): one["description"].strip() for one in told["results"].get("detectors", ())}


def _name(finding: dict[str, Any]) -> str:
    """Detector, the element it is about, and the expressions it points at; no line, which every edit moves."""
    elements = finding["elements"] or [{"name": "-", "type": "-"}]
    parent = elements[0].get("type_specific_fields", {}).get("parent", {}).get("name", "")
    name = f"{finding['check']} {parent}.{elements[0]['name']}".replace(" .", " ")
    # Of a reentrancy these would be half the function.
    points = [one["name"] for one in elements if one["type"] == "node"]
    if finding["check"].startswith("reentrancy"):
        points = []
    return " | ".join([name, *filter(str.strip, points)])


def allowed() -> dict[str, str]:
    """The findings that are none, with the reason of each; ValueError for a line without one."""
    known = {}
    for line in ALLOWED.read_text(encoding="utf-8").splitlines():
        name, _, reason = line.partition("#")
        if not name.strip():
            continue
        if not reason.strip():
            raise ValueError(f"slither.allowed: no reason for {name.strip()}")
        known[name.strip()] = reason.strip()
    return known


def judged(found: set[str], known: set[str]) -> tuple[set[str], set[str]]:
    """Findings that nothing allows, and what is allowed but not found."""

    def fits(name: str, pattern: str) -> bool:
        return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern

    fresh = {name for name in found if not any(fits(name, one) for one in known)}
    return fresh, {one for one in known if not any(fits(name, one) for name in found)}


def run(seed: int, chunk: int) -> Counts:
    """The whole; chance and chunk do not matter."""
    del seed, chunk
    found, known = findings(), allowed()
    fresh, gone = judged(set(found), set(known))
    if fresh:
        raise Found("slither: " + "\n".join(f"{name}\n    {found[name]}" for name in sorted(fresh)))
    if gone:
        raise Found(f"slither finds no longer what slither.allowed allows: {', '.join(sorted(gone))}")
    return {"findings": len(found), "unexplained": 0}


def tools() -> dict[str, str]:
    return {"slither": VERSION, "solc": build.version()}


PART: Final = Part(
    name="slither",
    what="Slither's detectors over the Solidity twin: nothing but what is explained",
    chunks=1,
    run=run,
    tools=tools,
    about=("tests/contracts/twin", "tests/verify/slither.py"),
    missing=missing,
)
