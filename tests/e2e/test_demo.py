"""The demo as its users run it: it holds, its processes are what they say, and each fault makes its line fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LINES = (
    *("chain", "deploy", "nodes", "money", "shop", "open", "guard", "pay", "copy", "call", "calls", "receipt"),
    *("sleep", "CHEAT", "caught", "bond", "settle", "close"),
    *("audit coin", "audit token", "audit payer", "audit hub", "audit merchant", "audit tower", "done"),
)
BREAKS = {
    "tower-stopped": "caught",
    "tower-emptied": "caught",
    "hub-stopped": "pay",
    "preimage-withheld": "pay",
    "one-wei": "audit payer",
}
"""Each fault and the line that must name it."""

Lines = dict[str, dict[str, Any]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, for there are sockets in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CHANNELD_", "XDG_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def demo(place: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "channeld", "demo", "--json", "--keep", str(place / "kept"), *words],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


def read(process: subprocess.Popen[str], until: str = "") -> Lines:
    """Lines as they come, by name; up to the one called `until`, or to the end."""
    found: Lines = {}
    assert process.stdout is not None
    for text in process.stdout:
        line = json.loads(text)
        if "line" in line:
            found[line["line"]] = line
            if line["line"] == until:
                break
    return found


def processes(lines: Lines) -> list[tuple[str, int, str]]:
    """(name, pid, host:port) of each that the demo says it has started."""
    chain = lines["chain"]
    return [
        ("chain", chain["pid"], chain["url"].removeprefix("http://")),
        *((one["name"], one["pid"], one["listen"]) for one in lines["nodes"]["processes"]),
        ("shop", lines["shop"]["pid"], lines["shop"]["listen"]),
    ]


def listens(pid: int) -> set[str]:
    """host:port of every TCP socket on which the process listens, as the kernel says."""
    inodes = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    found = set()
    for row in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        cells = row.split()
        if cells[3] == "0A" and f"socket:[{cells[9]}]" in inodes:
            host, port = cells[1].split(":")
            dotted = ".".join(str(byte) for byte in reversed(bytes.fromhex(host)))
            found.add(f"{dotted}:{int(port, 16)}")
    return found


def info(place: Path, name: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "channeld", "info", "--json", "--data-dir", str(place / "kept" / name)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


def gone(pid: int) -> bool:
    """Whether no process of ours has this pid any more."""
    try:
        return b"channeld" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def balances(lines: Lines) -> None:
    """The audit's own numbers, added up once more."""
    coin, token = lines["audit coin"], lines["audit token"]
    parts = [int(coin[part]) for part in ("accounts", "contracts", "tips", "burnt")]
    assert sum(parts) == int(coin["genesis"]) == 10 * 10_000 * 10**18
    assert all(part > 0 for part in (parts[0], *parts[2:]))
    assert int(token["accounts"]) + int(token["contracts"]) == int(token["minted"]) == 2_000 * 10**6
    party = {name: lines[f"audit {name}"] for name in ("payer", "hub", "merchant", "tower")}
    for one in party.values():
        assert int(one["units"]) == int(one["received"]) - int(one["paid"]) + int(one["fees"])
        assert int(one["wei"]) == int(one["bond"]) - int(one["gas"])
        assert int(one["gas"]) > 0 or one["transactions"] == 0
    assert all(party[name]["transactions"] > 0 for name in ("payer", "hub", "tower"))
    assert sum(int(one["units"]) for one in party.values()) == 0
    assert int(party["hub"]["bond"]) == -int(party["tower"]["bond"]) == -int(lines["bond"]["bond"])
    assert party["merchant"]["received"] == party["payer"]["paid"] == str(20 * 10**6 + 201 * 10**5)
    assert party["hub"]["fees"] == str(2_000 + 201 * 10)


@pytest.mark.timeout(300)
def test_the_demo_holds_and_its_processes_are_what_they_say(place: Path):
    with demo(place, "--exit") as process:
        lines = read(process, until="shop")
        started = processes(lines)
        assert len({pid for _, pid, _ in started}) == len(started) >= 6
        for name, pid, listen in started:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            assert words[1:3] == ["-m", "channeld"], f"{name} was not started through the command line: {words}"
            assert listen in listens(pid), f"{name} does not listen where it says"
        for name in ("payer", "hub", "merchant", "tower"):
            told = info(place, name)
            assert (name, told["listen"]) in {(other, listen) for other, _, listen in started}
        lines |= read(process)
        errors = process.stderr.read() if process.stderr else ""
    assert (process.returncode, errors) == (0, "")
    assert tuple(lines) == LINES
    assert all(line["ok"] for line in lines.values())
    assert lines["calls"]["calls"] == 200 and 0 < lines["calls"]["p50_ms"] <= lines["calls"]["p99_ms"]
    balances(lines)
    assert [name for name, pid, _ in started if not gone(pid)] == []
    assert (place / "kept" / "tower.log").exists()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", BREAKS)
def test_a_fault_makes_its_line_fail(fault: str, place: Path):
    with demo(place, "--break", fault) as process:
        lines = read(process)
        errors = process.stderr.read() if process.stderr else ""
    named = BREAKS[fault]
    assert process.returncode == 8
    assert [name for name, line in lines.items() if not line["ok"]] == [named]
    assert tuple(lines) == LINES[: LINES.index(named) + 1]
    told = json.loads(errors)
    assert told["code"] == "demo_failed" and f"`{named}`" in told["message"]
    assert lines[named]["text"] in told["message"]
    assert [name for name, pid, _ in processes(lines) if not gone(pid)] == []


@pytest.mark.timeout(120)
def test_a_demo_that_is_stopped_takes_its_processes_with_it(place: Path):
    with demo(place) as process:
        started = processes(read(process, until="shop"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
    assert process.returncode == 130
    assert [name for name, pid, _ in started if not gone(pid)] == []


def test_a_folder_that_is_in_use_is_refused(place: Path):
    (place / "kept").mkdir()
    (place / "kept" / "mine").write_text("mine", encoding="utf-8")
    with demo(place) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "not empty" in json.loads(errors)["message"]
    assert [path.name for path in (place / "kept").iterdir()] == ["mine"]
