"""The benchmark gives every row a figure, in the form that others read. Tiny counts: the figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import degraded, gossip_sync, learning, machine, report
from tests.bench.rows import LEFT_OUT, ROWS, Measured, Row

FIRST = {
    "transfers_per_second",
    "payments_1hop_per_second",
    "invoice_payments_1hop_per_second",
    "payments_3hop_per_second",
    "latency_1hop_p50_ms",
    "latency_3hop_p50_ms",
    "restart_10k_channels_seconds",
    "history_transfers_ratio",
    "history_payments_ratio",
}

_APART = {*degraded.ROWS, *learning.ROWS, *gossip_sync.ROWS}
GROUPS = (
    tuple(name for name in ROWS if name not in _APART),
    learning.ROWS,
    gossip_sync.ROWS,
    *(names for _, names in degraded.SCENES),
)
"""All rows, in parts that each take their own processes."""


def run(out: Path, *names: str) -> str:
    command = [sys.executable, "-m", "tests.bench", *names, "--seconds", "0.02", "--repeats", "1", "--out", str(out)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=230, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_every_row_has_a_figure_in_the_file_and_in_the_table(tmp_path: Path, names: tuple[str, ...]) -> None:
    printed = run(tmp_path / "build" / "bench.json", *names)
    written = json.loads((tmp_path / "build" / "bench.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in written] == [name for name in ROWS if name in names]
    for one in written:
        assert list(one) == ["name", "value", "unit", "target", "better", "peer", "samples"]
        assert one["value"] > 0 and one["target"] > 0 and all(sample > 0 for sample in one["samples"])
        assert one["better"] in ("higher", "lower")
        assert all(peer["value"] > 0 and peer["source"] for peer in one["peer"].values())
        assert one["name"] in printed
    assert "fdatasync" in printed


def test_rows_can_be_asked_for_by_name(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    printed = run(out, "gas_challenge")
    assert [one["name"] for one in json.loads(out.read_text(encoding="utf-8"))] == ["gas_challenge"]
    assert "DIFFER" not in printed


def test_the_first_rows_are_there_and_nothing_is_both_measured_and_left_out() -> None:
    assert set(ROWS) >= FIRST
    assert {name for names in GROUPS for name in names} == set(ROWS)
    assert not set(ROWS) & set(LEFT_OUT)


@pytest.mark.parametrize(("better", "value", "reached"), [("higher", 90, False), ("lower", 90, True)])
def test_a_missed_target_is_called_missed(better, value, reached) -> None:
    row = Row(name="row", what="something", unit="1/s", target=100, better=better)
    found = Measured(row=row, samples=(1, value, 1_000))
    assert (found.value, found.reached, found.ratio) == (value, reached, None)
    assert ("reached" if reached else "MISSED") in report.line(found)[0]


def test_the_disk_is_measured(tmp_path: Path) -> None:
    assert machine.fdatasyncs_per_second(tmp_path, 10) > 0
    assert not list(tmp_path.iterdir())
