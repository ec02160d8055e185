"""What one node has learned is handed to another as a file, and is there after a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from channeld.cli.exits import Exit
from channeld.cli.stage import Actor, Stage
from channeld.client.errors import ApiError
from tests.e2e.people import DOLLAR, invoice, knows_way, nodes
from tests.e2e.test_routes import ended, knows_all


async def chance(payer: Actor, payee: Actor, amount: int) -> int:
    async with payer.client() as client:
        asked = await invoice(payee, amount)
        return int((await client.find_route(invoice=asked["invoice"]))["chance_ppm"])


async def exported(actor: Actor) -> list[dict[str, Any]]:
    async with actor.client() as client:
        return list((await client.export_liquidity())["channels"])


async def test_what_a_payer_has_learned_serves_another(town: Stage) -> None:
    payer, friend, hub, payee = await nodes(town, "payer", "friend", "hub", "payee")
    for one in (payer, friend):
        await town.open(one, hub, 100 * DOLLAR)
    street = await town.open(hub, payee, 100 * DOLLAR)
    for one in (payer, friend):
        await knows_all(town, one, 3)
    await knows_way(payer, payee, amount=30 * DOLLAR)
    await ended(town, payer)
    (learned,) = await exported(payer)
    assert (learned["channel_id"], learned["most"]) == (street, str(70 * DOLLAR))
    before = await chance(friend, payee, 65 * DOLLAR)
    file, home = town.root / "learned.json", str(town.root / "friend")

    said = await town.tell("routing", "export", str(file), "--data-dir", str(town.root / "payer"))

    assert said == {"file": str(file), "channels": 1}
    told = await town.tell("routing", "import", str(file), "--check", "--data-dir", home)
    assert told == {"taken": 1, "kept": 0, "unknown": 0} and await exported(friend) == []
    assert await town.tell("routing", "import", str(file), "--data-dir", home) == told
    assert await chance(friend, payee, 65 * DOLLAR) < before * 3 // 4, "of what it had, thirty are gone"
    assert await town.tell("routing", "import", str(file), "--data-dir", home) == {"taken": 0, "kept": 1, "unknown": 0}
    await hostile(town, friend, file)
    await friend.stop()
    await friend.start()
    assert await exported(friend) == [learned]


async def hostile(town: Stage, node: Actor, good: Path) -> None:
    """Files that are none, and one whose last channel cannot be: nothing changes."""
    before = await exported(node)
    (one,) = before
    fresh = [one | {"channel_id": f"0x{number:064x}"} for number in range(2_500)]
    better = one | {"least": one["most"], "at": one["at"] + 60}
    bad = {
        "text": b"not JSON",
        "deep": b"[" * 100_000,
        "another form": json.dumps({"version": 1}).encode(),
        "another version": json.dumps({"version": 2, "channels": []}).encode(),
        "a wrong last one": json.dumps({"version": 1, "channels": [better, *fresh, one | {"least": "-1"}]}).encode(),
        "one that cannot be": json.dumps(
            {"version": 1, "channels": [better, *fresh, one | {"least": "9", "most": "8"}]}
        ).encode(),
        "a huge number": b'{"version": 1, "channels": [' + b"9" * 5_000 + b"]}",
    }
    for name, data in bad.items():
        good.with_name("bad.json").write_bytes(data)
        words = ("routing", "import", str(good.with_name("bad.json")), "--data-dir", str(town.root / node.name))
        done = await trio.run_process(
            town.command(*words), env=town.environment(), capture_stdout=True, capture_stderr=True, check=False
        )
        assert done.returncode == Exit.USAGE, (name, done.stderr)
        assert await exported(node) == before, name
    async with node.client() as client:
        with pytest.raises(ApiError) as refused:
            await client.import_liquidity(channels=[better] * 2_001)
        assert refused.value.code == "invalid_params"
    assert await exported(node) == before
