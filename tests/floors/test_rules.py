"""Every rule of the protocol, R1 to R22, is named by a test that holds the code to it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
NAME = re.compile(r"^\s*(?:async )?def test_\w*|@pytest\.mark\.rule\(\"(R\d+)\"\)", re.MULTILINE)


def named() -> set[str]:
    found: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for match in NAME.finditer(path.read_text(encoding="utf-8")):
            found |= (
                {match[1]} if match[1] else {f"R{number}" for number in re.findall(r"_r(\d+)(?=_)", match[0] + "_")}
            )
    return found


@pytest.mark.parametrize("number", range(1, 23))
def test_the_rule_has_a_test_of_its_name(number: int):
    assert f"R{number}" in named()
