"""A short run of forge's invariants (`tests.verify.forge` is the long one), on the contracts and on one that steals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify import forge
from tests.verify.guards import init_code
from tests.verify.part import Found

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(forge.missing() is not None, reason="needs forge and solc (make tools)"),
]
RUNS, DEPTH = 8, 120


def test_invariants_hold(tmp_path: Path) -> None:
    done = forge.campaign(tmp_path, 1, RUNS, DEPTH)
    assert (done.sequences, done.calls) == (RUNS, RUNS * DEPTH)
    for name in ("settle-with-locks", "lock-claimed", "lock-refunded", "challenge-delegated", "withdraw", "copied"):
        assert done.counts[name] > 0, name


def test_a_theft_is_found(tmp_path: Path) -> None:
    source = (forge.ROOT / "contracts" / "ChannelManager.vy").read_text(encoding="utf-8")
    guard = '    assert msg.sender == owner or to == owner, "not the owner"\n'
    assert source.count(guard) == 1
    with pytest.raises(Found, match="a stranger withdrew to itself"):
        forge.campaign(tmp_path, 1, RUNS, DEPTH, {"manager": init_code(source.replace(guard, ""), tmp_path)}, shrink=0)
