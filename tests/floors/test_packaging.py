"""The wheel carries what the program needs: it is built, installed into an empty venv and started from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import channeld

ROOT = Path(__file__).parents[2]
HEAVY = {"web3", "eth_tester", "eth", "networkx", "numpy", "scipy", "vyper", "pydantic", "aiohttp"}
"""Libraries that take long to import, and that a command's help does not need."""


def run(*command: str | Path, cwd: Path) -> str:
    """What `command` prints, started in `cwd` with none of this checkout on its path."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=outside, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the files under version control, built beside the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "source" / name)
    pip = (sys.executable, "-m", "pip", "-qq", "wheel")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", place, place / "source", cwd=place)
    return next(place.glob("channeld-*.whl"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The `bin` of an empty venv with the locked libraries and the wheel, and nothing else."""
    venv = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=venv.parent)
    pip = (venv / "bin" / "python", "-m", "pip", "-qq", "install", "--no-deps", "--no-compile")
    run(*pip, "--require-hashes", "-r", ROOT / ".ci" / "requirements.lock", cwd=venv.parent)
    run(*pip, wheel, cwd=venv.parent)
    run(venv / "bin" / "python", "-m", "pip", "check", cwd=venv.parent)
    return venv / "bin"


@pytest.mark.slow
def test_the_wheel_holds_code_and_artifacts_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    whole = f"channeld-{channeld.__version__}"
    assert tops == {"channeld", "routing", "contracts", f"{whole}.dist-info", f"{whole}.data"}
    assert f"{whole}.data/data/share/channeld/examples/cheat.py" in names
    for needed in ("ChannelManager", "SecretRegistry"):
        assert f"contracts/artifacts/{needed}.json" in names
        assert f"contracts/{needed}.vy" in names
    assert "channeld/py.typed" in names


@pytest.mark.slow
def test_every_data_file_beside_the_code_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = (".json", ".toml", ".sql", ".vy", ".vyi")
    beside = {
        str(path.relative_to(ROOT))
        for package in ("channeld", "contracts", "routing")
        for path in (ROOT / package).rglob("*")
        if path.suffix in data
    }
    assert beside <= names


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_program_starts_from_another_folder(installed, tmp_path):
    assert channeld.__version__ in run(installed / "channeld", "--version", cwd=tmp_path)
    assert "deploy" in run(installed / "channeld", "deploy", "--help", cwd=tmp_path)
    loads = "import contracts, routing; print(contracts.__file__, len(contracts.artifact('ChannelManager').bytecode))"
    where, size = run(installed / "python", "-c", loads, cwd=tmp_path).split()
    assert Path(where).is_relative_to(installed.parent)
    assert int(size) > 1_000


def test_help_loads_nothing_heavy():
    """What keeps `channeld --help` under 0.3 s: outcome, not milliseconds."""
    program = (
        "import sys\n"
        "from channeld.cli.main import main\n"
        "sys.argv = ['channeld', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as done:\n    assert not done.code, done.code\n"
        "print('modules:', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    printed = run(sys.executable, "-c", program, cwd=ROOT)
    loaded = set(printed.splitlines()[-1].split()[1:])
    assert "click" in loaded
    assert not loaded & HEAVY
