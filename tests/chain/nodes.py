"""Chains to test on: our own over HTTP, and anvil where it is installed; and what tests do with them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_account import Account

from channeld.base.keys import Key
from channeld.base.units import Seconds
from channeld.chain.bindings import Contracts
from channeld.chain.deploy import Deployment, deploy
from channeld.chain.devchain import DEV_CHAIN_ID, dev_keys
from channeld.chain.intents import IntentStore, MemoryIntents
from channeld.chain.networks import Fees, Finality
from channeld.chain.reads import RpcChain
from channeld.chain.rpc import Rpc
from channeld.chain.sender import Sender

ANVIL = Path(__file__).parents[1] / "tools" / "node_modules" / ".bin" / "anvil"
needs_anvil = pytest.mark.skipif(not ANVIL.exists(), reason="needs anvil: run make tools")
FEES = Fees(min_tip=10**9, max_fee=200 * 10**9, replace_after=Seconds(2))
POLL = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running chain."""

    url: str
    rpc: Rpc
    kind: str

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.rpc.call("evm_mine")

    async def send(self, raw: bytes) -> Any:
        """Send a transaction and give its receipt once there is one (anvil mines a moment later)."""
        tx_hash = await self.rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
        for _ in range(200):
            receipt = await self.rpc.call("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                return receipt
            await trio.sleep(0.01)
        raise AssertionError("never mined")

    def sender(self, key: Key, store: IntentStore | None = None, fees: Fees = FEES) -> Sender:
        store = MemoryIntents() if store is None else store
        return Sender(self.rpc, key, store, chain_id=DEV_CHAIN_ID, fees=fees, finality=Finality(tags=True), poll=POLL)

    def chain(self, where: Deployment) -> RpcChain:
        contracts = Contracts(manager=where.manager, registry=where.registry)
        return RpcChain(self.rpc, contracts, chain_id=DEV_CHAIN_ID, finality=Finality(tags=True))

    async def deploy(self, *, token: bool = False, key: Key | None = None, **more: Any) -> Deployment:
        """The contracts, least period 10 s unless `more` (arguments of `channeld.chain.deploy`) says otherwise."""
        sender = self.sender(key or dev_keys()[9])
        async with trio.open_nursery() as nursery:
            await nursery.start(sender.run)
            where = await deploy(sender, self.rpc, **{"min_period": Seconds(10), "token": token} | more)
            nursery.cancel_scope.cancel()
        return where


async def start_anvil(nursery: trio.Nursery, *extra: str) -> str:
    """Anvil on a free port, with the same lags of safe and finalized as the dev chain; `extra`: further options."""
    command = [
        str(ANVIL),
        "--port",
        "0",
        "--chain-id",
        str(DEV_CHAIN_ID),
        "--slots-in-an-epoch",
        "1",
        "--hardfork",
        "prague",
        *extra,
    ]
    process = await nursery.start(
        partial(trio.run_process, command, stdout=subprocess.PIPE, capture_stdout=False, check=False)
    )
    told = b""
    with trio.fail_after(20):
        while not (found := re.search(rb"Listening on ([0-9.:]+)", told)):
            told += await process.stdout.receive_some()
    nursery.start_soon(_drain, process.stdout)
    return "http://" + found[1].decode()


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass


def signed(
    key: Key,
    nonce: int,
    *,
    to: bytes | None = None,
    value: int = 0,
    data: bytes = b"",
    gas: int = 100_000,
    fee: int = 3 * 10**9,
    tip: int = 10**9,
    chain_id: int = DEV_CHAIN_ID,
    kind: int = 2,
) -> bytes:
    """A transaction of `key`'s, fees in wei per gas; `kind` 0 is a legacy one that offers `fee`."""
    fields: dict[str, Any] = {"chainId": chain_id, "nonce": nonce, "gas": gas, "value": value, "data": data}
    fields |= {"gasPrice": fee} if kind == 0 else {"type": 2, "maxFeePerGas": fee, "maxPriorityFeePerGas": tip}
    if to is not None:
        fields["to"] = to
    return bytes(Account.sign_transaction(fields, key.secret).raw_transaction)
