"""The top level holds what the house has rooms for, and no file knows the machine it was written on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED = {
    *("channeld", "routing", "contracts", "tests", "examples", "setup.cfg"),
    *("README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "pyproject.toml", "Makefile"),
    *(".ci", ".adr", ".gitignore"),
}

# Put together from pieces, so that this file passes its own test.
MACHINE = re.compile(
    "|".join(
        [
            r"(?<![\w.<}/-])/(?:root|home|Users|work|opt)/\w",
            "registry" + r"\.npmjs",
            "files" + r"\.pythonhosted",
            "pypi" + r"\.org/simple",
            "deb" + r"\.debian\.org",
        ]
    )
)


def files() -> list[Path]:
    """What is, or is about to be, under version control."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_the_top_level_holds_nothing_else():
    assert {path.relative_to(ROOT).parts[0] for path in files()} <= ALLOWED


def test_no_file_names_a_machine_or_a_registry():
    found = []
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
    assert not found


@pytest.mark.parametrize("text", ["see /home/" + "me/x", '"/opt/' + 'wheels"', "registry" + ".npmjs" + ".org"])
def test_the_pattern_finds_what_it_looks_for(text):
    assert MACHINE.search(text)


def test_nothing_large_or_binary_slips_in():
    assert not [str(path) for path in files() if path.stat().st_size > 2_000_000]
