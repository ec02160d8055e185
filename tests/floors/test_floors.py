"""Imports point down and the pure floors stay pure; and the check that says so can say no."""

from __future__ import annotations

import ast
import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("channeld", "contracts", "routing")

BAD_IMPORTS = {
    "channeld/core/__init__.py": "import time",
    "channeld/wire/__init__.py": "import trio",
    "routing/__init__.py": "import channeld.core",
    "channeld/base/__init__.py": "import channeld.wire",
    "channeld/tower/__init__.py": "import channeld.node",
    "channeld/client/__init__.py": "import channeld.node",
    "contracts/__init__.py": "import web3",
}
"""One forbidden line for each kind of rule."""

REQUIRED = {"trio", "coincurve", "msgpack", "web3", "cryptography", "networkx"}


NAMES = {"pycryptodome": "Crypto", "py-evm": "eth", "safe-pysha3": "sha3"}
"""Libraries that are imported under another name than their own."""


def declared(requirements: str) -> set[str]:
    """Import names of the libraries in a list of setup.cfg."""
    names = [Requirement(line).name for line in requirements.splitlines() if line.strip()]
    return {NAMES.get(name, name.replace("-", "_")) for name in names}


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


def imported(package: str) -> set[str]:
    """Top-level names of all that `package` imports, early or late."""
    names: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


def test_every_contract_of_setup_cfg_holds():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("file", "line"), BAD_IMPORTS.items(), ids=BAD_IMPORTS)
def test_a_bad_import_is_caught(tmp_path, file, line):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    name, bad = file.removesuffix("/__init__.py").replace("/", "."), line.removeprefix("import ")
    assert f"{name} -> {bad}" in done.stdout


def test_the_router_needs_nothing_but_units_and_numbers():
    outside = imported("routing") - sys.stdlib_module_names
    assert outside <= {"routing", "channeld", "networkx", "numpy", "scipy"}


def test_every_library_that_must_be_used_is_used():
    assert imported("channeld") | imported("routing") >= REQUIRED


def test_what_is_declared_is_what_is_imported():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    program = declared(config["options"]["install_requires"])
    extra = declared(config["options.extras_require"]["devchain"])
    used = (imported("channeld") | imported("routing") | imported("contracts")) - sys.stdlib_module_names - {*PACKAGES}
    assert program <= used
    assert used <= program | extra | {"vyper"}, "vyper builds the artifacts; all else must be declared"


def test_no_file_outgrows_a_reader():
    """Files that a program wrote are left out."""
    lines = {
        str(path.relative_to(ROOT)): text.count("\n")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "do not edit" not in (text := path.read_text())[:200]
    }
    assert max(lines.values()) <= 700, sorted(lines.items(), key=lambda pair: pair[1])[-3:]
