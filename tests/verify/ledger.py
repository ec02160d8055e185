"""What has been verified so far: one JSON line per finished chunk in `build/verify`, and the table made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from contracts import artifact
from tests.verify.part import Counts, Page, Part

ROOT: Final = Path(__file__).parents[2]
KEPT: Final = ROOT / "build" / "verify"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One finished chunk. `code`: what it was about, as `subject` has it."""

    part: str
    seed: int
    chunk: int
    counts: Counts
    seconds: int
    date: str
    code: str
    tools: dict[str, str]


def load(part: str, folder: Path = KEPT) -> list[Done]:
    """All that was ever done of a part, oldest first. A last line that a crash has cut short is left out."""
    path = folder / f"{part}.jsonl"
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        found.append(Done(**json.loads(line)))
    return found


def add(done: Done, folder: Path = KEPT) -> None:
    """Keep a finished chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{done.part}.jsonl"
    if path.exists() and not (text := path.read_text(encoding="utf-8")).endswith("\n"):
        path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")  # what a crash has left half written
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(done)) + "\n")


def subject(part: Part, root: Path = ROOT) -> str:
    """What a result is about: hash, in hex, of the files the part rests on; for the contracts' page of bytecode too.

    A part of the engine is not voided by a new bytecode that it never ran; one that runs the contracts names
    `contracts/artifacts` in its `about`.
    """
    digest = hashlib.sha256()
    if part.page is Page.CONTRACTS:
        for name in ("ChannelManager", "SecretRegistry"):
            digest.update(artifact(name).code_hash)
    for place in part.about:
        path = root / place
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def newest(done: Iterable[Done], code: str, seed: int) -> dict[int, Done]:
    """By chunk, what counts for this bytecode and seed."""
    return {one.chunk: one for one in done if one.code == code and one.seed == seed}


def total(chunks: Iterable[Done]) -> Counts:
    """The counts of all chunks together."""
    found: Counts = {}
    for one in chunks:
        for name, count in one.counts.items():
            found[name] = found.get(name, 0) + count
    return found


def table(parts: Iterable[Part], folder: Path = KEPT) -> str:
    """Markdown: each part with its best-covered seed, of what holds for the code as it is."""
    lines = ["| part | what | result | chunks | seed | date | time | tools |", "|---|---|---|---|---|---|---|---|"]
    for part in parts:
        every, code = load(part.name, folder), subject(part)
        seeds = {one.seed for one in every if one.code == code}
        if not seeds:
            lines.append(f"| `{part.name}` | {part.what} | not run | 0 of {part.chunks} | | | | |")
            continue
        best = max(seeds, key=lambda seed: (len(newest(every, code, seed)), -seed))
        chunks = newest(every, code, best)
        counts = part.said(total(chunks.values()))
        tools: Mapping[str, str] = next(reversed(chunks.values())).tools
        said = ", ".join(f"{name} {version}" for name, version in tools.items())
        minutes = sum(one.seconds for one in chunks.values()) / 60
        date = max(one.date for one in chunks.values())
        lines.append(
            f"| `{part.name}` | {part.what} | {counts} | {len(chunks)} of {part.chunks} "
            f"| {best} | {date} | {minutes:.0f} min | {said} |"
        )
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put `text` between the page's two marks. ValueError if they are not there."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} has no place for results")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
