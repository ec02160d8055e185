"""A stale close on real processes: beaten by the tower, by the victim that wakes in time, and in spite of helpers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from channeld.cli.stage import ETHER, Actor, Stage
from tests.e2e.cheating import challenge_with, channel_in, close_with, key_of, snapshot
from tests.e2e.people import DOLLAR, nodes, wallet

PERIOD = 16
DEPOSIT = 100 * DOLLAR


async def _paid(cheat: Actor, channel: str, amount: int) -> None:
    async with cheat.client() as client:
        said = await client.send_transfers(channel_id=channel, transfers=[{"amount": amount}])
    assert said["state"] == "succeeded"


async def _guarded(victim: Actor, tower: Actor) -> None:
    """The victim's tower holds the newest state."""
    async with victim.client() as client:
        await client.tower_add(uri=tower.uri)
        with trio.fail_after(30):
            while (told := await client.tower_status())["guarded"] < told["channels"]:
                await trio.sleep(0.1)


async def _tower(town: Stage) -> Actor:
    tower = await town.tower("tower")
    await town.fund(tower.address, wei=ETHER)
    return tower


async def _tower_status(tower: Actor) -> dict[str, Any]:
    from channeld.client import connect_tower

    async with connect_tower(tower.socket) as client:
        return dict(await client.tower_status())


@pytest.mark.timeout(240)
async def test_the_tower_beats_a_stale_close_while_the_victim_sleeps(town: Stage, tmp_path: Path) -> None:
    cheat, victim = await nodes(town, "cheat", "victim")
    tower = await _tower(town)
    opened = await town.open(cheat, victim, DEPOSIT, period=PERIOD)
    await _paid(cheat, opened, 10 * DOLLAR)
    old = channel_in(snapshot(cheat, town.root, "old"), opened)
    await _paid(cheat, opened, 60 * DOLLAR)
    await _guarded(victim, tower)
    start = await wallet(cheat), await wallet(victim)
    await victim.stop()
    await cheat.kill()

    assert await close_with(town, old, key_of(town, "cheat")) == ""
    with trio.fail_after(60):
        while not int((await _tower_status(tower))["earned"]):
            await trio.sleep(0.2)
    status = await _tower_status(tower)
    assert (status["challenges_mined"], status["finalized"]) == (1, 1)
    assert int(status["earned"]) == old.terms.close_bond
    assert int(status["spent"]) > 0

    await victim.start()  # wakes long after the deadline, and has only to collect
    await town.channel_state(victim, opened, "closed", patience=60)
    await cheat.start()
    await town.channel_state(cheat, opened, "closed", patience=60)
    assert await wallet(victim) - start[1] == 70 * DOLLAR
    assert await wallet(cheat) - start[0] == 30 * DOLLAR


@pytest.mark.timeout(240)
async def test_without_a_tower_the_victim_answers_when_it_wakes_in_time(town: Stage) -> None:
    cheat, victim = await nodes(town, "cheat", "victim")
    tower = await _tower(town)
    opened = await town.open(cheat, victim, DEPOSIT, period=30)
    await _paid(cheat, opened, 10 * DOLLAR)
    old = channel_in(snapshot(cheat, town.root, "old"), opened)
    await _paid(cheat, opened, 60 * DOLLAR)
    await _guarded(victim, tower)
    start = await wallet(cheat), await wallet(victim)
    await victim.kill()
    await tower.stop()
    await cheat.kill()

    assert await close_with(town, old, key_of(town, "cheat")) == ""
    await trio.sleep(4)
    await victim.start()
    with trio.fail_after(30):
        async with victim.client() as client:
            while not [e for e in (await client.events(since=0))["events"] if e["type"] == "challenge_seen"]:
                await trio.sleep(0.2)
    await town.channel_state(victim, opened, "closed", patience=90)
    await cheat.start()
    await town.channel_state(cheat, opened, "closed", patience=60)
    assert await wallet(victim) - start[1] == 70 * DOLLAR
    assert await wallet(cheat) - start[0] == 30 * DOLLAR


@pytest.mark.timeout(240)
async def test_an_older_challenge_put_in_front_changes_nothing(town: Stage) -> None:
    """A friend of the cheat's answers the close first, with a state that is newer than the close and still old."""
    cheat, victim = await nodes(town, "cheat", "victim")
    tower = await _tower(town)
    opened = await town.open(cheat, victim, DEPOSIT, period=PERIOD)
    await _paid(cheat, opened, 10 * DOLLAR)
    old = channel_in(snapshot(cheat, town.root, "old"), opened)
    await _paid(cheat, opened, 20 * DOLLAR)
    between = channel_in(snapshot(cheat, town.root, "between"), opened)
    await _paid(cheat, opened, 40 * DOLLAR)
    await _guarded(victim, tower)
    start = await wallet(cheat), await wallet(victim)
    await victim.stop()
    await cheat.kill()
    friend = town.dev_key(5)

    await tower.stop()  # so that the friend is first
    assert await close_with(town, old, key_of(town, "cheat")) == ""
    assert await challenge_with(town, between, friend) == ""
    await tower.start()
    with trio.fail_after(60):
        while not int((await _tower_status(tower))["earned"]):
            await trio.sleep(0.2)
    assert int((await _tower_status(tower))["earned"]) == old.terms.close_bond

    await victim.start()
    await town.channel_state(victim, opened, "closed", patience=60)
    assert await wallet(victim) - start[1] == 70 * DOLLAR
    await cheat.start()
    assert await wallet(cheat) - start[0] == 30 * DOLLAR
