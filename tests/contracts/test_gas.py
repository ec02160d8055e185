"""What each call costs is written down: one that grows by more than 1 % fails here, and so does a stale snapshot.

After a change that is meant, `python -m tests.contracts.gas --write` makes a new snapshot, which the commit then shows.
"""

from __future__ import annotations

import json

import pytest

from tests.contracts.gas import BESIDE, SNAPSHOT, measure, table
from tests.contracts.world import World


@pytest.fixture(scope="module")
def found() -> dict[str, int]:
    return measure(World())


def test_no_call_costs_more_than_it_did(found: dict[str, int]) -> None:
    kept: dict[str, int] = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    assert found.keys() == kept.keys() == BESIDE.keys()
    grown = {name: (kept[name], gas) for name, gas in found.items() if gas * 100 > kept[name] * 101}
    assert grown == {}
    shrunk = {name: (kept[name], gas) for name, gas in found.items() if gas * 101 < kept[name] * 100}
    assert shrunk == {}, "cheaper than the snapshot: write a new one, or the next growth goes unseen"


def test_the_order_of_things(found: dict[str, int]) -> None:
    """Sanity that needs no snapshot: each figure contains what it must contain."""
    assert all(gas > (beside.floor or 0) for gas, beside in zip(found.values(), BESIDE.values(), strict=True))
    assert found["gas_open_batch_erc20"] < found["gas_open_erc20"] < found["gas_open_memo_erc20"]
    assert found["gas_challenge_batched"] < found["gas_challenge"]
    assert found["gas_lock_registered"] < found["gas_lock_new_secret"]
    assert found["gas_close"] + found["gas_settle_eth"] == pytest.approx(found["gas_unilateral_close_eth"], rel=0.01)


def test_the_table_says_what_is_missed(found: dict[str, int]) -> None:
    text = table(found | {"gas_open_eth": 60_000})
    assert "+25.0%" in text
    assert all(name in text for name in BESIDE)
