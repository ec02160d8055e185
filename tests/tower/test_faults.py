"""Kills, reorgs and bad endpoints: the tower converges on one effective challenge, or says that it cannot see."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from channeld.base.errors import Broken, Refused, Unreachable
from channeld.base.units import Address, NodeId, Side
from channeld.chain.reads import hexed
from channeld.tower.run import run
from channeld.wire.address import HostPort
from channeld.wire.messages import Ping, Pong
from tests.tower.proxy import start_proxy
from tests.tower.test_gate import AUTH, blob_of
from tests.tower.world import BOND, PERIOD, World, eventually, key_of

ROOT = Path(__file__).parents[2]
SHARE = 6 * 10**17


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A tower's process; has what a client needs to find it."""

    process: trio.Process
    listen: HostPort
    node_id: NodeId

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def tower_process(world: World, rpc: str) -> AsyncIterator[Running]:
    """The tower as a process, killed at the end if it still lives."""
    told = {
        "manager": hexed(world.where.manager),
        "registry": hexed(world.where.registry),
        "home": str(world.home / "tower"),
        "rpc": rpc,
    }
    if not await world.wei(key_of("tower").address):
        await world.fund(key_of("tower"))
    command = [sys.executable, "-m", "tests.tower.process", json.dumps(told)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
    out = process.stdout
    assert out is not None
    try:
        line = b""
        with trio.fail_after(30):
            while b"\n" not in line:
                more = await out.receive_some()
                assert more, "the tower ended before it was ready"
                line += more
        said = json.loads(line)
        yield Running(
            process=process,
            listen=HostPort(host="127.0.0.1", port=said["port"]),
            node_id=NodeId(bytes.fromhex(said["node_id"])),
        )
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before the send", "after the send"])
async def test_killed_between_journal_and_send_or_after_it_the_tower_sends_one_challenge(
    world: World, moment: str
) -> None:
    channel = await world.open()
    proxy = await start_proxy(world.nursery, world.node.url)
    reached = trio.Event()

    async def stop_here(request: dict[str, Any]) -> None:
        if request["method"] == "eth_sendRawTransaction":
            reached.set()
            await trio.sleep_forever()

    if moment == "before the send":
        proxy.before = stop_here
    else:
        proxy.after = stop_here
    async with tower_process(world, proxy.url) as tower:
        await world.guard(tower, channel, channel.state(2, SHARE))
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        with trio.fail_after(20):
            await reached.wait()
        await tower.kill()
    assert await world.challenges(channel) == ([] if moment == "before the send" else [2])
    async with tower_process(world, world.node.url):
        assert (await world.until(channel, lambda word: word.version == 2)).delegated
        await world.node.mine(3)
        await world.advance(PERIOD + 1)
        await world.until(channel, lambda word: word.final)
    assert await world.challenges(channel) == [2]
    sent = await world.node.rpc.call("eth_getTransactionCount", hexed(key_of("tower").address), "latest")
    assert int(sent, 16) == 2  # the challenge and the finalize


@pytest.mark.slow
async def test_a_challenge_that_waits_in_the_pool_is_not_sent_a_second_time_after_a_kill(world: World) -> None:
    channel = await world.open()
    async with tower_process(world, world.node.url) as tower:
        await world.guard(tower, channel, channel.state(2, SHARE))
        await world.mining(False)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)), wait=False)
        await world.node.mine()
        await eventually(world.pool)
        await tower.kill()
    async with tower_process(world, world.node.url):
        await trio.sleep(0.5)
        assert await world.pool() == 1
        await world.node.mine()
        assert (await world.word(channel)).delegated
        await world.node.mine(4)
        await trio.sleep(0.3)
        assert await world.pool() == 0
    sent = await world.node.rpc.call("eth_getTransactionCount", hexed(key_of("tower").address), "latest")
    assert int(sent, 16) == 1


@pytest.mark.slow
async def test_an_upload_whose_receipt_left_survives_a_kill(world: World) -> None:
    channel = await world.open()
    async with tower_process(world, world.node.url) as tower, world.client(tower, channel.salts[1], AUTH) as client:
        blob = blob_of(client, channel, channel.state(2, SHARE), 1)
        receipt = await client.put(blob, 1)
        await tower.kill()
    await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
    async with tower_process(world, world.node.url) as tower:
        async with world.client(tower, channel.salts[1], AUTH) as client:
            assert await client.put(blob, 1) == receipt
        await world.until(channel, lambda word: word.delegated)


async def test_a_close_that_a_reorg_removes_is_no_case_any_more_and_its_return_is_answered(world: World) -> None:
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(3, SHARE))
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.until(channel, lambda word: word.delegated)
        await world.seen_head(tower)
        assert (await tower.service.tower_status())["watched"] == 1
        await world.node.rpc.call("anvil_reorg", 2)
        await world.node.mine()
        await world.seen_head(tower)
        assert (await tower.service.tower_status())["watched"] == 0
        assert not (await world.word(channel)).closing
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(2, 0)))
        word = await world.until(channel, lambda word: word.delegated)
        assert word.version == 3
        await world.advance(PERIOD + 1)
        await world.until_status(tower, finalized=1, earned=str(BOND))


async def test_a_challenge_that_a_reorg_removes_is_made_again(world: World) -> None:
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(3, SHARE))
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.until(channel, lambda word: word.delegated)
        await world.seen_head(tower)
        await world.mining(False)
        await world.node.rpc.call("anvil_reorg", 1)
        assert (await world.word(channel)).version == 1
        await world.mining(True)
        await world.node.mine()
        await world.until(channel, lambda word: word.delegated)
        assert await world.challenges(channel) == [3]


async def test_a_tower_that_cannot_see_promises_nothing_and_catches_up(world: World) -> None:
    channel = await world.open()
    proxy = await start_proxy(world.nursery, world.node.url)
    async with world.tower(rpc=(proxy.url,)) as tower, world.client(tower, channel.salts[1], AUTH) as client:
        await client.put(blob_of(client, channel, channel.state(2, 5), 1), 1)
        proxy.down = True
        blob = blob_of(client, channel, channel.state(3, SHARE), 2)
        await world.blinded(tower)
        assert (await client.refused(client.upload(blob, 2))).code == "not_watching"
        assert await client.ask(Ping()) == Pong()
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        proxy.down = False
        word = await world.until(channel, lambda word: word.delegated)
        assert word.version == 2


async def test_an_endpoint_that_leaves_out_a_close_is_not_believed(world: World) -> None:
    """The contract's own count of closes gives it away: nothing after the hole is taken for seen."""
    channel = await world.open()
    proxy = await start_proxy(world.nursery, world.node.url)

    def omit(request: dict[str, Any], answer: dict[str, Any]) -> None:
        if request["method"] == "eth_getLogs":
            answer["result"] = []

    async with world.tower(rpc=(proxy.url,)) as tower, world.client(tower, channel.salts[1], AUTH) as client:
        await client.put(blob_of(client, channel, channel.state(2, SHARE), 1), 1)
        proxy.change = omit
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.blinded(tower)
        blob = blob_of(client, channel, channel.state(3, SHARE), 2)
        assert (await client.refused(client.upload(blob, 2))).code == "not_watching"
        proxy.change = None
        await world.until(channel, lambda word: word.delegated)


async def test_a_tower_refuses_what_is_not_its_chain_contract_or_store(world: World) -> None:
    config = world.config()
    key = key_of("tower")

    async def refused(name: str = "tower", **settings: Any) -> str:
        with pytest.raises(Refused) as caught, trio.fail_after(10):
            await run(world.config(name, **settings), key_of(name))
        return caught.value.code

    with pytest.raises(Unreachable):
        await run(world.config("lost", rpc=("http://127.0.0.1:9",)), key)
    wrong = world.where
    world.where = replace(wrong, manager=Address(key.address))
    assert await refused("contract") == "unknown_contract"
    world.where = wrong
    async with world.tower() as tower:
        assert await refused() == "store_in_use"
        assert await refused("other", listen=("127.0.0.1", tower.listen.port)) == "port_in_use"
    with pytest.raises(Refused, match="another tower") as caught:
        await run(config, key_of("another key"))
    assert caught.value.code == "store_foreign"
    for path in config.data_dir.iterdir():
        await trio.Path(path).write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(Broken):
        await run(config, key)
