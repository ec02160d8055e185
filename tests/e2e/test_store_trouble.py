"""A node whose memory fails or is not its own, with real processes: a full disk, a second daemon, a restored copy.

The law is the same for all: what was signed is not signed otherwise, nobody loses a unit, and the program says what is
wrong and ends, or closes what it can.
"""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio

from channeld.cli.exits import Exit
from channeld.cli.stage import ETHER, Actor, Stage
from channeld.client import ApiError, Unreachable
from tests.e2e.people import DOLLAR, balances, channel, nodes, wallet

DEPOSIT = 100 * DOLLAR


async def _pay(payer: Actor, channel_id: str, amount: int) -> str:
    """What became of it: its state, or why there is none."""
    try:
        async with payer.client() as client:
            said = await client.send_transfers(channel_id=channel_id, transfers=[{"amount": amount}])
    except (ApiError, Unreachable) as fault:
        return type(fault).__name__
    return str(said["state"])


async def _ended(actor: Actor) -> int:
    assert actor.process is not None
    with trio.fail_after(30):
        return await actor.process.wait()


def _error(actor: Actor) -> dict[str, Any]:
    """The last line of its stderr."""
    return dict(json.loads(actor.log.read_text(encoding="utf-8").strip().splitlines()[-1]))


async def _refused(actor: Actor) -> dict[str, Any]:
    """Start it, and see it end by itself."""
    with pytest.raises(Exception, match="did not start"):
        await actor.start()
    return _error(actor)


def _signed(home: Path) -> list[tuple[int, bytes]]:
    store = sqlite3.connect(home / "node.sqlite3")
    rows = store.execute("SELECT version, digest FROM signed").fetchall()
    store.close()
    return rows


@pytest.mark.timeout(240)
async def test_a_full_disk_ends_the_node_and_costs_nothing(town: Stage) -> None:
    """T61: a limit on the size of its files stands for a disk that takes no more."""
    payer, payee = await nodes(town, "payer", "payee")
    opened = await town.open(payer, payee, DEPOSIT)
    assert await _pay(payer, opened, DOLLAR) == "succeeded"
    home, files = town.root / "payer", ("node.sqlite3", "node.sqlite3-wal")
    most = max((home / name).stat().st_size for name in files)
    limits = resource.prlimit(payer.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(payer.pid, resource.RLIMIT_FSIZE, (most, limits[1]))
    paid = 1
    with trio.fail_after(60):
        while await _pay(payer, opened, DOLLAR) == "succeeded":
            paid += 1
    assert await _ended(payer) == Exit.STORE
    error = _error(payer)
    assert error["code"] == "disk_failed", error
    assert "nothing more is signed" in payer.log.read_text(encoding="utf-8")
    before = _signed(home)

    await payer.start()
    with trio.fail_after(30):
        while not (await channel(payer, opened))["connected"]:
            await trio.sleep(0.1)
    assert await _pay(payer, opened, DOLLAR) == "succeeded"
    ((version, _),) = _signed(home)
    assert version > before[0][0]
    ours, theirs = (await balances(payer))[opened], (await balances(payee))[opened]
    assert ours + theirs == DEPOSIT
    assert theirs in ((paid + 1) * DOLLAR, (paid + 2) * DOLLAR), (
        "the one the disk failed on was paid whole, or not at all"
    )
    assert (await channel(payer, opened))["state"] == "open"


@pytest.mark.timeout(240)
async def test_a_second_daemon_on_the_database_ends_the_first(town: Stage) -> None:
    """T05: the lock on the folder is gone, as it is where two machines share a disk; the epoch is not."""
    payer, payee = await nodes(town, "payer", "payee")
    opened = await town.open(payer, payee, DEPOSIT)
    assert await _pay(payer, opened, DOLLAR) == "succeeded"
    home = town.root / "payer"
    words = ("run", "--data-dir", str(home), "--passphrase-file", str(town.root / "passphrase"), "--json")
    second = town.actor("second", *words, "--socket", str(town.root / "second.sock"), "--listen", "127.0.0.1:0")
    error = await _refused(second)
    assert error["code"] == "already_running"

    (home / "lock").unlink()
    await second.start()
    assert await _pay(payer, opened, DOLLAR) != "succeeded"
    assert await _ended(payer) == Exit.STORE
    assert _error(payer)["code"] == "fenced"
    with trio.fail_after(30):
        while not (await channel(second, opened))["connected"]:
            await trio.sleep(0.1)
    assert await _pay(second, opened, DOLLAR) == "succeeded"
    assert (await balances(payee))[opened] + (await balances(second))[opened] == DEPOSIT
    assert (await channel(payee, opened))["state"] == "open"


def _copy_of(home: Path, to: Path) -> None:
    """The database as it is now, whole; the node that owns it has ended."""
    shutil.copyfile(home / "node.sqlite3", to)


@pytest.mark.timeout(240)
async def test_a_backup_is_only_closed_and_its_honest_peer_helps(town: Stage) -> None:
    """T05: k states back; refused without a word of its owner's; with it nothing is signed, and all is paid out."""
    payer, payee = await nodes(town, "payer", "payee")
    opened = await town.open(payer, payee, DEPOSIT, period=town.min_period)
    assert await _pay(payer, opened, 10 * DOLLAR) == "succeeded"
    assert await payee.stop() == 0
    home = town.root / "payee"
    _copy_of(home, town.root / "backup")
    await payee.start()
    for _ in range(5):
        assert await _pay(payer, opened, 10 * DOLLAR) == "succeeded"
    start = await wallet(payer), await wallet(payee)
    await payee.kill()
    for file in home.glob("node.sqlite3-*"):
        file.unlink()
    shutil.copyfile(town.root / "backup", home / "copy")  # beside the old one, whose inode it must not get
    (home / "copy").replace(home / "node.sqlite3")
    old = _signed(home)
    error = await _refused(payee)
    assert error["code"] == "copied_database"
    assert "--restored" in error["hint"]

    payee.command.append("--restored")
    await payee.start()
    payee.command.pop()
    with trio.fail_after(30):
        while (await balances(payee))[opened] != 60 * DOLLAR:
            await trio.sleep(0.1)
    assert await _pay(payer, opened, DOLLAR) != "succeeded"
    ((version, _),) = _signed(home)
    assert version > old[0][0], "only adopted: the highest that the peer could prove"
    async with payee.client() as client:
        await client.close_channel(channel_id=opened, force=True)
    await town.channel_state(payee, opened, "closed", patience=90)
    await town.channel_state(payer, opened, "closed", patience=60)
    assert await wallet(payee) - start[1] == 60 * DOLLAR
    assert await wallet(payer) - start[0] == 40 * DOLLAR


@pytest.mark.timeout(240)
async def test_a_machine_set_back_learns_from_its_tower(town: Stage) -> None:
    """All files at the same place with old bytes in them, and a peer that says nothing: only the tower knows."""
    payer, payee = await nodes(town, "payer", "payee")
    tower = await town.tower("tower")
    await town.fund(tower.address, wei=ETHER)
    opened = await town.open(payer, payee, DEPOSIT, period=town.min_period)
    async with payee.client() as client:
        await client.tower_add(uri=tower.uri)
    home = town.root / "payee"
    for last in (False, True):
        assert await _pay(payer, opened, 30 * DOLLAR) == "succeeded"
        async with payee.client() as client:
            with trio.fail_after(30):
                while (told := await client.tower_status())["guarded"] < told["channels"]:
                    await trio.sleep(0.1)
        if not last:
            assert await payee.stop() == 0
            _copy_of(home, town.root / "snapshot")
            shutil.copyfile(home / "node.sqlite3.token", town.root / "snapshot.token")
            await payee.start()
    start = await wallet(payee)
    await payer.kill()
    await payee.kill()
    for file in home.glob("node.sqlite3-*"):
        file.unlink()
    (home / "node.sqlite3").write_bytes((town.root / "snapshot").read_bytes())
    error = await _refused(payee)
    assert error["code"] == "copied_database", "without the token of that time it is known for a copy"
    shutil.copyfile(town.root / "snapshot.token", home / "node.sqlite3.token")

    await payee.start()
    with trio.fail_after(30):
        while (await balances(payee))[opened] != 60 * DOLLAR:
            await trio.sleep(0.1)
    async with payee.client() as client:
        types = [one["type"] for one in (await client.events(since=0))["events"]]
        assert types.count("tower_ahead") == 1
        await client.close_channel(channel_id=opened, force=True)
    await town.channel_state(payee, opened, "closed", patience=90)
    assert await wallet(payee) - start == 60 * DOLLAR
