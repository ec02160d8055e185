"""The dev chain behaves as a node does; where anvil is installed, the same calls are put to it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.keys import Key, keccak
from channeld.chain.devchain import DEV_BALANCE, dev_keys, serve_devchain
from channeld.chain.rpc import Rpc, RpcError
from tests.chain.nodes import Node, needs_anvil, signed, start_anvil

ONE = 10**18
PAYER, PAYEE = dev_keys()[0], dev_keys()[1]


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


async def balance(node: Node, key: Key, tag: Any = "latest") -> int:
    return int(await node.rpc.call("eth_getBalance", hexed(key.address), tag), 16)


async def test_development_keys_are_the_well_known_ones(node: Node) -> None:
    assert hexed(PAYER.address) == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert await node.rpc.call("eth_accounts") == [hexed(key.address) for key in dev_keys()]
    assert [await balance(node, key) for key in dev_keys()] == [DEV_BALANCE] * 10
    assert await node.rpc.call("eth_chainId") == hex(31337)
    assert await node.rpc.call("net_version") == "31337"


@pytest.mark.parametrize("kind", [0, 2])
async def test_a_transfer_is_mined_at_once_and_exact(node: Node, kind: int) -> None:
    raw = signed(PAYER, 0, to=PAYEE.address, value=ONE, kind=kind)
    receipt = await node.send(raw)
    tx_hash = hexed(keccak(raw))
    assert receipt["transactionHash"] == tx_hash
    block = await node.rpc.call("eth_getBlockByNumber", "latest", True)
    price = int(receipt["effectiveGasPrice"], 16)
    assert (receipt["status"], receipt["gasUsed"], receipt["type"]) == ("0x1", hex(21_000), hex(kind))
    if kind == 2:
        assert price == int(block["baseFeePerGas"], 16) + 10**9
    assert await balance(node, PAYER) == DEV_BALANCE - ONE - 21_000 * price
    assert await balance(node, PAYEE) == DEV_BALANCE + ONE
    assert block["transactions"][0]["hash"] == tx_hash
    assert block["hash"] == receipt["blockHash"]
    assert await node.rpc.call("eth_getTransactionCount", hexed(PAYER.address), "latest") == "0x1"
    by_hash = await node.rpc.call("eth_getTransactionByHash", tx_hash)
    assert (by_hash["from"], by_hash["to"], int(by_hash["value"], 16)) == (
        hexed(PAYER.address), hexed(PAYEE.address), ONE,
    )  # fmt: skip


async def test_state_of_old_blocks_stays_readable(node: Node) -> None:
    genesis = await node.rpc.call("eth_getBlockByNumber", "0x0", False)
    await node.send(signed(PAYER, 0, to=PAYEE.address, value=ONE))
    assert await balance(node, PAYEE, "0x0") == DEV_BALANCE
    assert await balance(node, PAYEE, {"blockHash": genesis["hash"], "requireCanonical": True}) == DEV_BALANCE
    assert await balance(node, PAYEE) == DEV_BALANCE + ONE


async def test_safe_and_finalized_lag_behind(node: Node) -> None:
    await node.mine(5)
    numbers = [
        int((await node.rpc.call("eth_getBlockByNumber", tag, False))["number"], 16)
        for tag in ("latest", "safe", "finalized", "earliest", "pending")
    ]
    assert numbers == [5, 4, 3, 0, 6]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nonce": 0, "after": 1}, "nonce too low"),
        ({"value": DEV_BALANCE}, "insufficient funds"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"chain_id": 1}, "invalid chain id"),
        ({"gas": 10**9}, "gas limit"),
        ({"tip": 9 * 10**9}, "max priority fee per gas higher than max fee per gas"),
    ],
)
async def test_a_bad_transaction_is_refused_in_gethss_words(devchain: Node, change: dict[str, Any], words: str) -> None:
    change = dict(change)
    if change.pop("after", 0):
        await devchain.rpc.call("eth_sendRawTransaction", hexed(signed(PAYER, 0, to=PAYEE.address, value=7)))
    raw = signed(PAYER, change.pop("nonce", 0), to=PAYEE.address, **change)
    with pytest.raises(RpcError, match=words):
        await devchain.rpc.call("eth_sendRawTransaction", hexed(raw))


@pytest.mark.parametrize(
    "raw", ["0x", "0x02", "0x02c0", "0x03c0", "0x7f00", "0xc0", "0xff", "0x" + "f8" * 80, "zz", 7, None]
)
async def test_bytes_that_are_no_transaction(devchain: Node, raw: Any) -> None:
    with pytest.raises(RpcError):
        await devchain.rpc.call("eth_sendRawTransaction", raw)
    assert await devchain.rpc.call("eth_blockNumber") == "0x0"


async def test_what_waits_is_replaced_only_for_a_tenth_more(node: Node) -> None:
    send = partial(node.rpc.call, "eth_sendRawTransaction")
    await node.rpc.call("evm_setAutomine", False)
    cheap = signed(PAYER, 0, to=PAYEE.address, value=1, fee=10 * 10**9, tip=10**9)
    await send(hexed(cheap))
    with pytest.raises(RpcError, match=r"(?i)already|imported"):
        await send(hexed(cheap))
    if node.kind != "anvil":  # which takes any rise
        with pytest.raises(RpcError, match="underpriced"):
            await send(hexed(signed(PAYER, 0, to=PAYEE.address, value=2, fee=10 * 10**9 + 1, tip=10**9)))
    dear = signed(PAYER, 0, to=PAYEE.address, value=3, fee=20 * 10**9, tip=2 * 10**9)
    await send(hexed(dear))
    await send(hexed(signed(PAYER, 2, to=PAYEE.address, value=5)))  # behind a gap
    assert await node.rpc.call("eth_getTransactionCount", hexed(PAYER.address), "pending") == "0x1"
    assert await node.rpc.call("eth_getTransactionByHash", hexed(keccak(cheap))) is None
    await node.mine()
    assert await balance(node, PAYEE) == DEV_BALANCE + 3
    assert (await node.rpc.call("eth_getTransactionReceipt", hexed(keccak(dear))))["status"] == "0x1"


async def test_better_tips_go_first(devchain: Node) -> None:
    await devchain.rpc.call("evm_setAutomine", False)
    raws = [
        signed(key, 0, to=PAYEE.address, tip=tip * 10**9) for key, tip in zip(dev_keys()[2:5], (1, 3, 2), strict=True)
    ]
    for raw in raws:
        await devchain.rpc.call("eth_sendRawTransaction", hexed(raw))
    await devchain.mine()
    block = await devchain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert block["transactions"] == [hexed(keccak(raws[number])) for number in (1, 2, 0)]


async def test_time_travel(node: Node) -> None:
    start = int((await node.rpc.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16)
    await node.rpc.call("evm_increaseTime", 1_000)
    await node.mine()
    later = int((await node.rpc.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16)
    assert start + 1_000 <= later <= start + 1_010
    await node.rpc.call("evm_setNextBlockTimestamp", later + 50)
    await node.mine()
    assert int((await node.rpc.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16) == later + 50
    await node.mine()
    assert int((await node.rpc.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16) >= later + 50
    with pytest.raises(RpcError):
        await node.rpc.call("evm_setNextBlockTimestamp", later)


async def test_snapshot_and_revert_give_another_branch(node: Node) -> None:
    snapshot = await node.rpc.call("evm_snapshot")
    await node.send(signed(PAYER, 0, to=PAYEE.address, value=ONE))
    gone = await node.rpc.call("eth_getBlockByNumber", "latest", False)
    assert await node.rpc.call("evm_revert", snapshot) is True
    assert await balance(node, PAYEE) == DEV_BALANCE
    assert await node.rpc.call("eth_getTransactionReceipt", gone["transactions"][0]) is None
    await node.send(signed(PAYER, 0, to=PAYEE.address, value=2))
    other = await node.rpc.call("eth_getBlockByNumber", "latest", False)
    assert other["number"] == gone["number"]
    assert other["hash"] != gone["hash"]
    assert not await node.rpc.call("evm_revert", snapshot)


async def test_a_reorg_of_empty_blocks_still_changes_hashes(devchain: Node) -> None:
    await devchain.mine(3)
    before = [await devchain.rpc.call("eth_getBlockByNumber", hex(number), False) for number in (1, 2, 3)]
    await devchain.rpc.call("anvil_reorg", 2, [])
    after = [await devchain.rpc.call("eth_getBlockByNumber", hex(number), False) for number in (1, 2, 3)]
    assert [old["hash"] == new["hash"] for old, new in zip(before, after, strict=True)] == [True, False, False]
    assert await devchain.rpc.call("eth_getBlockByHash", before[2]["hash"], False) is None
    with pytest.raises(RpcError, match="unknown block"):
        await devchain.rpc.call("eth_getLogs", {"blockHash": before[2]["hash"]})


async def test_money_moved_by_decree_shows_in_the_supply(devchain: Node) -> None:
    await devchain.rpc.call("eth_sendRawTransaction", hexed(signed(PAYER, 0, to=PAYEE.address, value=ONE)))
    supply = await devchain.rpc.call("dev_supply")
    assert int(supply["total"], 16) == int(supply["genesis"], 16) - int(supply["burnt"], 16)
    assert int(supply["burnt"], 16) > 0
    await devchain.rpc.call("dev_setBalance", hexed(PAYEE.address), hex(DEV_BALANCE + ONE - 1))
    assert await balance(devchain, PAYEE) == DEV_BALANCE + ONE - 1
    robbed = await devchain.rpc.call("dev_supply")
    assert int(robbed["total"], 16) == int(supply["total"], 16) - 1


async def test_fees(node: Node) -> None:
    await node.mine(3)
    history = await node.rpc.call("eth_feeHistory", "0x3", "latest", [50])
    assert int(history["oldestBlock"], 16) == 1
    assert len(history["baseFeePerGas"]) == 4
    assert len(history["gasUsedRatio"]) == len(history["reward"]) == 3
    base = [int(fee, 16) for fee in history["baseFeePerGas"]]
    assert base == sorted(base, reverse=True)
    assert int(await node.rpc.call("eth_gasPrice"), 16) > base[-1]
    assert int(await node.rpc.call("eth_maxPriorityFeePerGas"), 16) > 0


async def test_interval_mining_makes_time_pass(nursery: trio.Nursery) -> None:
    chain = await nursery.start(partial(serve_devchain, block_time=0.05))
    async with Rpc(chain.url) as rpc:
        await trio.sleep(0.5)
        assert 3 <= int(await rpc.call("eth_blockNumber"), 16) <= 10
        await rpc.call("evm_setIntervalMining", 0)
        await trio.sleep(0.1)
        height = await rpc.call("eth_blockNumber")
        await trio.sleep(0.2)
        assert await rpc.call("eth_blockNumber") == height


async def test_genesis_accounts_with_code_and_storage(nursery: trio.Nursery, tmp_path: Path) -> None:
    where = "0x" + "c0" * 20
    slots = {hex(slot): hex(slot + 1) for slot in range(2_000)}
    genesis = tmp_path / "genesis.json"
    genesis.write_text(json.dumps({where: {"balance": 5, "code": "0x5f355460005260205ff3", "storage": slots}}))
    chain = await nursery.start(partial(serve_devchain, genesis=genesis))
    async with Rpc(chain.url) as rpc:
        assert int(await rpc.call("eth_getBalance", where, "latest"), 16) == 5
        assert int(await rpc.call("eth_getStorageAt", where, hex(1_999), "latest"), 16) == 2_000
        asked = await rpc.call("eth_call", {"to": where, "data": "0x" + (77).to_bytes(32, "big").hex()}, "latest")
        assert int(asked, 16) == 78


@pytest.mark.parametrize("text", ["", "[]", "{", '{"0x12": {}}', '{"0x' + "11" * 20 + '": {"balance": -1}}'])
async def test_a_bad_genesis_file_is_refused(tmp_path: Path, text: str) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text(text)
    with pytest.raises(Refused) as refused:
        await serve_devchain(genesis=genesis)
    assert refused.value.code == "bad_genesis"


async def test_a_port_in_use_is_refused(devchain: Node) -> None:
    with pytest.raises(Refused) as refused:
        await serve_devchain(port=int(devchain.url.rsplit(":", 1)[1]))
    assert refused.value.code == "port_in_use"


GARBAGE = [
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"A" * 100_000,
    b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
]


async def test_garbage_on_the_socket_hurts_nobody(devchain: Node) -> None:
    port = int(devchain.url.rsplit(":", 1)[1])
    for garbage in GARBAGE:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            try:
                await stream.send_all(garbage)
                await stream.send_eof()
                with trio.move_on_after(1):
                    while await stream.receive_some():
                        pass
            except trio.BrokenResourceError:
                pass
    assert await devchain.rpc.call("eth_chainId") == "0x7a69"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"[" * 50_000,
        b"\xff\xfe",
        b'{"method": 5}',
        b'{"method": "eth_call", "params": {"a": 1}}',
        b'{"method": "eth_getLogs", "params": []}',
        b'{"method": "eth_getLogs", "params": [{"topics": [1,2,3,4,5]}]}',
        b'{"method": "eth_getBlockByNumber", "params": ["0x", false]}',
        b'{"method": "eth_getBlockByNumber", "params": [[1], false]}',
        b'{"method": "eth_getStorageAt", "params": ["0x00", "0x0", "latest"]}',
        b'{"method": "evm_increaseTime", "params": [-5]}',
        b'{"method": "evm_increaseTime", "params": ["0xffffffffffffffffffffffffffffffff"]}',
        b'{"method": "evm_mine", "params": [{"blocks": 1e9}]}',
        b'{"method": "evm_revert", "params": ["0x99"]}',
        b'{"method": "__class__", "params": []}',
        b'{"method": "_mine", "params": [1]}',
        b'{"method": "eth_feeHistory", "params": ["0x5", "latest", ["x"]]}',
    ],
)
async def test_garbage_in_a_request_gets_an_error_object(devchain: Node, body: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = (await client.post(devchain.url, content=body)).json()
    assert "error" in answer or answer["result"] is False
    await devchain.mine()
    assert int(await devchain.rpc.call("eth_blockNumber"), 16) >= 1


@needs_anvil
async def test_gas_is_the_same_as_on_anvil(devchain: Node, nursery: trio.Nursery) -> None:
    """Deploying everything and a first deposit cost the same to the last gas."""
    from channeld.base.units import NATIVE, Amount, Digest, Side
    from channeld.chain.bindings import Contracts

    used = []
    async with Rpc(await start_anvil(nursery)) as rpc:
        for node in (devchain, Node(url="", rpc=rpc, kind="anvil")):
            where = await node.deploy(token=True)
            contracts = Contracts(manager=where.manager, registry=where.registry)
            call = contracts.deposit(NATIVE, Digest(b"\x01" * 32), Side.A, Amount(ONE), b"memo" * 48)
            raw = signed(PAYER, 0, to=where.manager, value=call.value, data=call.data, gas=200_000)
            receipt = await node.send(raw)
            used.append((where.gas_used, int(receipt["gasUsed"], 16), receipt["status"]))
    assert used[0] == used[1]
    assert used[0][2] == "0x1"
