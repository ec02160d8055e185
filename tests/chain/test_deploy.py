"""`channeld deploy` over JSON-RPC: asking again sends nothing, and the proxy is put where it is missing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.keys import Key
from channeld.base.units import Address, Seconds
from channeld.chain.deploy import Deployment
from channeld.chain.devchain import DevChain, dev_keys, serve_devchain
from channeld.chain.reads import hexed
from channeld.chain.rpc import Rpc
from contracts.deploy import (
    PERMIT2,
    PROXY,
    PROXY_CODE,
    PROXY_GAS,
    PROXY_PRICE,
    PROXY_SENDER,
    addresses,
    created_at,
    manager_code,
    proxied,
    registry_code,
)
from tests.chain.nodes import Node, needs_anvil, signed, start_anvil
from tests.tower.proxy import start_proxy

FIRST, SECOND = dev_keys()[8], dev_keys()[9]
PERIOD = Seconds(10)
OTHER_PERMIT2 = Address(b"\x22" * 20)


@asynccontextmanager
async def opened(url: str, kind: str) -> AsyncIterator[Node]:
    async with Rpc(url) as rpc:
        yield Node(url=url, rpc=rpc, kind=kind)


async def without_proxy(nursery: trio.Nursery, tmp_path: Path, kind: str, *, unprotected: bool) -> str:
    """A chain on which nobody has put the proxy yet."""
    if kind == "anvil":
        return await start_anvil(nursery, "--disable-default-create2-deployer")
    genesis = tmp_path / "genesis.json"
    genesis.write_text(json.dumps({hexed(PROXY): {}}))
    started: DevChain = await nursery.start(partial(serve_devchain, genesis=genesis, unprotected=unprotected))
    return started.url


async def nonce(node: Node, key: Key) -> int:
    return int(await node.rpc.call("eth_getTransactionCount", hexed(key.address), "latest"), 16)


async def balance(node: Node, who: Address) -> int:
    return int(await node.rpc.call("eth_getBalance", hexed(who), "latest"), 16)


async def refused(node: Node, code: str, words: str, **more: Any) -> None:
    known = pytest.RaisesExc(Refused, match=words, check=lambda fault: fault.code == code)
    with pytest.RaisesGroup(known, flatten_subgroups=True):
        await node.deploy(key=FIRST, **more)


async def test_asking_again_sends_nothing(node: Node) -> None:
    await node.mine(3)
    first = await node.deploy(key=FIRST, token=True)
    assert (first.manager, first.registry) == addresses(PERIOD)
    assert first.permit2 == PERMIT2
    assert await nonce(node, FIRST) == 3
    await node.mine(2)
    again = await node.deploy(key=SECOND, token=True)
    assert await nonce(node, SECOND) == 0
    assert (again.gas_used, again.fee) == (0, 0)
    assert (again.manager, again.registry, again.token) == (first.manager, first.registry, first.token)
    assert again.block == first.block + 1  # the registry came first
    await node.chain(again).check()
    other = await node.deploy(key=SECOND, permit2=OTHER_PERMIT2, min_period=Seconds(11))
    assert (other.registry, other.permit2) == (first.registry, OTHER_PERMIT2)
    assert other.manager not in (first.manager, first.registry)
    assert await nonce(node, SECOND) == 1


async def test_two_operators_at_once_end_with_the_same(devchain: Node) -> None:
    """The faster one's transactions wait for a block while the slower one is refused for them."""
    found: list[Deployment] = []

    async def one(key: Key) -> None:
        found.append(await devchain.deploy(key=key))

    async def mine_slowly() -> None:
        while True:
            await trio.sleep(0.3)
            await devchain.mine()

    await devchain.rpc.call("evm_setAutomine", False)
    async with trio.open_nursery() as miner:
        miner.start_soon(mine_slowly)
        async with trio.open_nursery() as both:
            both.start_soon(one, FIRST)
            both.start_soon(one, SECOND)
        miner.cancel_scope.cancel()
    assert [(one.manager, one.registry) for one in found] == [addresses(PERIOD)] * 2
    await devchain.chain(found[0]).check()


async def test_a_second_run_finishes_what_the_first_has_begun(devchain: Node) -> None:
    half = signed(SECOND, 0, to=PROXY, data=proxied(registry_code()), gas=2_000_000)
    assert (await devchain.send(half))["status"] == "0x1"
    where = await devchain.deploy(key=FIRST)
    assert (where.manager, where.registry) == addresses(PERIOD)
    assert await nonce(devchain, FIRST) == 1


async def test_a_registry_of_ones_own(devchain: Node) -> None:
    plain = await devchain.deploy(key=SECOND, plain=True)
    await refused(devchain, "unknown_contract", "not that of SecretRegistry", registry=plain.manager)
    assert await nonce(devchain, FIRST) == 0  # found out before anything was sent
    over = await devchain.deploy(key=FIRST, registry=plain.registry)
    assert await nonce(devchain, FIRST) == 1
    assert over.manager == created_at(manager_code(plain.registry, PERIOD))


async def test_foreign_code_at_our_address_is_refused(devchain: Node) -> None:
    where = await devchain.deploy(key=SECOND)
    other = await devchain.deploy(key=SECOND, min_period=Seconds(99))
    code = await devchain.rpc.call("eth_getCode", hexed(other.manager), "latest")
    await devchain.rpc.call("anvil_setCode", hexed(where.manager), code)
    await refused(devchain, "unknown_contract", "other arguments")
    await devchain.rpc.call("anvil_setCode", hexed(where.manager), code[:-2] + "00" + "00")
    await refused(devchain, "unknown_contract", "not that of ChannelManager")
    await devchain.rpc.call("anvil_setCode", hexed(PROXY), "0x00")
    await refused(devchain, "no_proxy", "not the deployment proxy")


@pytest.mark.parametrize("kind", ["devchain", pytest.param("anvil", marks=needs_anvil)])
async def test_the_proxy_is_put_where_it_is_missing(nursery: trio.Nursery, tmp_path: Path, kind: str) -> None:
    url = await without_proxy(nursery, tmp_path, kind, unprotected=True)
    async with opened(url, kind) as node:
        before = await balance(node, FIRST.address)
        where = await node.deploy(key=FIRST)
        assert (where.manager, where.registry) == addresses(PERIOD)
        assert await node.rpc.call("eth_getCode", hexed(PROXY), "latest") == hexed(PROXY_CODE)
        left = await balance(node, PROXY_SENDER)
        assert left == (PROXY_GAS - 68_137) * PROXY_PRICE
        assert before - await balance(node, FIRST.address) == where.fee + left
        assert await nonce(node, FIRST) == 3


async def test_a_node_that_wants_chain_ids_says_so_before_money_is_spent(nursery: trio.Nursery, tmp_path: Path) -> None:
    url = await without_proxy(nursery, tmp_path, "devchain", unprotected=False)
    async with opened(url, "devchain") as node:
        before = await balance(node, FIRST.address)
        await refused(node, "no_proxy", "replay-protected")
        assert await balance(node, FIRST.address) == before
        plain, again = [await node.deploy(key=FIRST, plain=True) for _ in range(2)]
        await node.chain(plain).check()
        assert plain.manager not in (again.manager, addresses(PERIOD)[0])


async def test_a_proxy_that_can_never_come_is_not_paid_for(nursery: trio.Nursery, tmp_path: Path) -> None:
    url = await without_proxy(nursery, tmp_path, "devchain", unprotected=True)
    async with opened(url, "devchain") as node:
        await node.rpc.call("anvil_setNonce", hexed(PROXY_SENDER), "0x1")
        await refused(node, "no_proxy", "has failed on this chain")
        assert await balance(node, PROXY_SENDER) == 0


@pytest.mark.parametrize(
    ("method", "answer", "words"),
    [
        ("eth_estimateGas", hex(PROXY_GAS + 1), "this chain wants 100001"),
        ("eth_getBlockByNumber", {"baseFeePerGas": hex(PROXY_PRICE + 1)}, "gas costs more"),
    ],
)
async def test_where_the_proxys_transaction_would_be_lost(
    nursery: trio.Nursery, tmp_path: Path, method: str, answer: Any, words: str
) -> None:
    """It can be sent but once: a chain with other gas rules, or dearer gas, gets none."""

    def change(request: dict[str, Any], said: dict[str, Any]) -> None:
        if request["method"] == method and method == "eth_estimateGas":
            said["result"] = answer
        elif request["method"] == method and said["result"]:
            said["result"] |= answer

    between = await start_proxy(nursery, await without_proxy(nursery, tmp_path, "devchain", unprotected=True))
    between.change = change
    async with opened(between.url, "devchain") as node:
        await refused(node, "no_proxy", words)
        assert "eth_sendRawTransaction" not in between.seen


async def test_a_node_without_old_states(nursery: trio.Nursery, devchain: Node) -> None:
    def forget(request: dict[str, Any], said: dict[str, Any]) -> None:
        if request["method"] == "eth_getCode" and request["params"][1].startswith("0x"):
            said.pop("result")
            said["error"] = {"code": -32000, "message": "missing trie node"}

    await devchain.deploy(key=SECOND)
    between = await start_proxy(nursery, devchain.url)
    between.change = forget
    async with opened(between.url, "devchain") as node:
        assert (await node.deploy(key=FIRST)).block == 0
