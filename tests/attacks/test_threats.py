"""`tests/THREATS.md` leaves no row out, and names no test that is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS / "THREATS.md"
IDS = [f"T{number:02}" for number in range(1, 73)] + [f"I{number}" for number in range(1, 41)]
NAMED = re.compile(r"`([\w/.]+\.(?:py|sol))::(\w+)`")


def rows() -> dict[str, list[str]]:
    """Each row's cells after its id; a second row of one id is a mistake."""
    found: dict[str, list[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        first, *cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        first = first.removeprefix("| ")
        if re.fullmatch(r"[TI]\d+", first):
            assert first not in found, first
            found[first] = cells
    return found


@cache
def named_in(path: Path) -> frozenset[str]:
    """Names of the tests (of a machine too) in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sol":
        return frozenset(re.findall(r"function (\w+)\(", text))
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(node.name for node in found if node.name.startswith("test_"))


def unknown(text: str) -> list[str]:
    """Tests named in `text` that are not there."""
    found = []
    for place, name in NAMED.findall(text):
        path = TESTS / place
        if not path.is_file() or name not in named_in(path):
            found.append(f"{place}::{name}")
    return found


def test_every_threat_and_invariant_has_a_row():
    assert list(rows()) == IDS


@pytest.mark.parametrize("number", IDS)
def test_its_tests_exist_or_it_says_why_not(number: str):
    cells = rows()[number]
    assert len(cells) == (3 if number[0] == "T" else 2)
    told = cells[-1]
    assert not unknown(told)
    assert NAMED.search(told) or "**Missing**" in told or told.startswith("Not defended")
    quoted = set(re.findall(r"`([^`]*::[^`]*)`", told))
    assert quoted == {f"{place}::{name}" for place, name in NAMED.findall(told)}  # nothing is named in another form


def test_a_test_that_is_not_there_is_seen():
    assert unknown("`attacks/test_threats.py::test_gone`") == ["attacks/test_threats.py::test_gone"]
    assert unknown("`attacks/test_gone.py::test_a`") == ["attacks/test_gone.py::test_a"]
    assert not unknown("`attacks/test_threats.py::test_every_threat_and_invariant_has_a_row`")
