"""The locks pin and hash everything, say nothing of the machine they were made on, and fit setup.cfg."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
RUN = ROOT / ".ci" / "requirements.lock"
TEST = ROOT / ".ci" / "requirements-test.lock"

PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][0-9a-z.]*)( ; [^/@\n]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def not_allowed(text: str) -> list[str]:
    """Lines of a lock that are neither a pinned package nor a hash: addresses, indexes, files, comments."""
    return [line for line in text.splitlines() if not (PIN.fullmatch(line) or HASH.fullmatch(line))]


def pins(lock: Path) -> dict[str, Version]:
    return {match[1]: Version(match[2]) for match in PIN.finditer(lock.read_text())}


def wanted(*extras: str) -> list[Requirement]:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += config["options.extras_require"][extra].splitlines()
    found = [Requirement(line) for line in lines if line.strip()]
    return [requirement for requirement in found if requirement.name != "channeld"]


@pytest.mark.parametrize("lock", [RUN, TEST], ids=lambda lock: lock.name)
def test_a_lock_holds_pins_and_hashes_only(lock):
    text = lock.read_text()
    assert not not_allowed(text)
    assert len(pins(lock)) == len(re.findall("^[a-z]", text, re.MULTILINE)) > 20


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example/simple",
        "--extra-index-url file:///srv/simple",
        "--find-links /srv/wheels",
        "-r other.lock",
        "-e .",
        "trio @ file:///srv/trio-0.35.0-py3-none-any.whl \\",
        "trio @ https://packages.example/trio.whl \\",
        "trio>=0.35 \\",
        "trio==0.35.0",
        "    # via -r /srv/channeld/setup.cfg",
    ],
)
def test_addresses_indexes_and_files_are_refused(line):
    assert not_allowed(f"{RUN.read_text()}{line}\n") == [line]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [(RUN, ["devchain"]), (TEST, ["devchain", "test", "dev"])],
    ids=["run", "test"],
)
def test_a_lock_has_what_setup_cfg_asks_for(lock, extras):
    have = pins(lock)
    for requirement in wanted(*extras):
        version = have.get(requirement.name)
        assert version is not None, f"{requirement.name} is in setup.cfg but not in {lock.name}: run make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: run make lock"
    assert "setuptools" in have


def test_the_two_locks_agree():
    assert pins(RUN).items() <= pins(TEST).items()


def test_the_tools_lock_names_no_registry_and_hashes_all():
    text = (ROOT / "tests" / "tools" / "package-lock.json").read_text()
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert "://" not in text
    assert packages
    for entry in packages.values():
        assert "resolved" not in entry
        assert entry["integrity"].startswith("sha512-")
