"""Every example runs as its first lines say, prints what happens, and leaves neither a process nor a file behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {"cheat.py", "withhold.py"}
"""Adversaries: the demo and `catch_a_cheat.py` run them."""

SAYS = {
    "pay_a_neighbour.py": (
        "the payer has sent 20 transfers of a dollar",
        "the payee has paid an invoice of 5 dollars: succeeded",
        "closing: cooperative",
        "payer has 35.00 dollars on chain",
        "payee has 15.00 dollars on chain",
    ),
    "pay_through_two_hops.py": (
        "succeeded over 2 hops for a fee of 2000 base units",
        "the receipt fits the invoice: True",
        "payer has 29.998 dollars in its channel",
        "payee has 20.0 dollars in its channel",
    ),
    "catch_a_cheat.py": (
        "the cheat closes with state #",
        "the tower has answered with the newest state and has the cheat's bond of 1000000000000000 wei",
        "the victim wakes up and has its 35.00 dollars on chain",
    ),
    "come_back_after_a_crash.py": (
        "kill -9 of the hub when",
        "the hub is back",
        "both ends agree on 50 of 50 payments",
        "payer's channel still holds 100 dollars, 0 locks pending",
        "payee's channel still holds 100 dollars, 0 locks pending",
    ),
    "simulate.py": (
        "payments over the real network, balances hidden",
        "first attempt arrived, with its 95 % interval",
        "how often an attempt of learning arrived, by how likely it was thought",
        "how often an attempt of parts arrived, by how likely it was thought",
    ),
    "take_a_payment_as_a_merchant.py": (
        "order-1 is paid: here is a cup of tea",
        "order-2 is paid: here is a book",
        "order-3 is paid: here is a map",
        "the merchant has 24.00 dollars in its channel",
    ),
}
"""What each prints, in this order."""
FEW = {"simulate.py": ("--payments", "30", "--by", "fixed", "learning", "parts")}
"""Arguments, for less of the same."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where temporary files go: a short path, for there are sockets in it."""
    with tempfile.TemporaryDirectory(prefix="ex-") as folder:
        yield Path(folder)


def commands_with(text: str) -> list[str]:
    """Command lines of running processes that hold `text`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found


def test_every_example_is_run_here():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == PROGRAMS | set(SAYS)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SAYS)
def test_an_example_says_what_happens(name: str, place: Path):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CHANNELD_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *FEW.get(name, ())],
        cwd=place,
        env=kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    said = done.stdout
    for words in SAYS[name]:
        before, found, said = said.partition(words)
        assert found, f"{words!r} is not in {before}"
    assert list(place.iterdir()) == []
    assert commands_with(str(place)) == []
