"""Part "kills": real daemons killed with `kill -9` under load, at saves, at starts, two at once (`tests/kills`).

A chunk is a town of four nodes and its audit. Turned round in the first chunk: in a copy of the project whose nodes
speak before they save, the same campaign must find what is wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.machines.rules import copy
from tests.verify.part import Counts, Found, Page, Part

ROOT: Final = Path(__file__).resolve().parents[2]
KILLS: Final = 13
"""In a chunk, a minute or two."""
PATIENCE: Final = 900
TURNS: Final = 5
"""Seeds with which a broken copy may be tried until it is caught."""
SAVES: Final = """            if turn.batch:
                await self._store.commit(turn.batch)
"""
SPEAKS_FIRST: Final = (
    """            if turn.line is not None and turn.sends:
                turn.line.say(turn.channel, turn.sends)
                turn.sends = []
                await trio.sleep(0.05)
"""
    + SAVES
)


def _play(home: Path, seed: str, kills: int) -> tuple[Counts, list[str]]:
    """The campaign on the code in `home`: its counts, and what it has found."""
    command = [sys.executable, "-m", "tests.kills.campaign", seed, str(kills)]
    environment = {"PYTHONPATH": str(home), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if len(lines) != 2 or Path(lines[0]["code"]) != home / "channeld":
        raise Found(f"the campaign did not end, seed {seed}: {done.stdout[-500:]} {done.stderr[-2_000:]}")
    return ({}, lines[1]["wrong"]) if done.returncode else (lines[1], [])


def _speaks_first(seed: int) -> int:
    """1 if nodes that speak before they save are found. `Found` if they are not."""
    with copy() as home:
        path = home / "channeld" / "node" / "loop.py"
        source = path.read_text(encoding="utf-8")
        if source.count(SAVES) != 1:
            raise Found("the loop does not save where it is to be broken")
        path.write_text(source.replace(SAVES, SPEAKS_FIRST), encoding="utf-8")
        for turn in range(TURNS):
            _, wrong = _play(home, f"{seed}/broken/{turn}", KILLS)
            if wrong:
                return 1
    raise Found("nodes that speak before they save are not found")


def run(seed: int, chunk: int) -> Counts:
    told, wrong = _play(ROOT, f"{seed}/{chunk}", KILLS)
    if wrong:
        raise Found("\n".join(wrong))
    kinds = ("any moment", "at a save", "two at once", "while starting", "for long")
    counts = {"kills": told["kills"]} | {kind: told.get(kind, 0) for kind in kinds}
    for name in ("payments succeeded", "payments not", "transfers", "openings", "closes", "signatures compared"):
        counts[name] = told.get(name, 0)
    return counts | {"found speaking first": 0 if chunk else _speaks_first(seed)}


PART: Final = Part(
    name="kills",
    what="four real daemons under load, killed with `kill -9`: one outcome each, no wei lost, no version signed twice",
    chunks=40,
    run=run,
    tools=lambda: {"trio": version("trio")},
    page=Page.ENGINE,
    about=(
        "channeld",
        "contracts/artifacts",
        "routing",
        "tests/kills",
        "tests/machines/rules.py",
        "tests/verify/kills.py",
    ),
)
