"""Put the contracts on a chain by way of a `Sender`, and make sure that what is there is what we know.

Each contract goes through the deterministic deployment proxy (`contracts.deploy`), so its address is known before
anything is sent. What is there already is checked and left alone: a second run, after a crash or by somebody else,
sends only what is missing, and two that run at once end with the same contracts, for the loser of the race finds its
own address taken by the same code. `plain` does without the proxy: new contracts each time, at addresses that hang on
the sender's account and nonce.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.keys import keccak
from channeld.base.units import Address, Seconds
from channeld.chain.chain import Call
from channeld.chain.intents import Intent, Status
from channeld.chain.reads import hexed
from channeld.chain.rpc import Rpc, RpcError
from channeld.chain.sender import Sender
from contracts import artifact, same_code
from contracts.deploy import (
    PERMIT2,
    PROXY,
    PROXY_CODE,
    PROXY_GAS,
    PROXY_INIT,
    PROXY_PRICE,
    PROXY_SENDER,
    PROXY_TRANSACTION,
    Immutables,
    created_at,
    manager_code,
    manager_immutables,
    proxied,
    registry_code,
    token_code,
)

PATIENCE: Final = 180.0
"""Seconds to wait for one transaction."""
PLAIN: Final = "--plain does without the proxy; the addresses are then this chain's own"
POLL: Final = 0.1
"""Seconds between looks for what others' transactions do."""
_PROXY_HASH: Final = keccak(PROXY_TRANSACTION)
_KNOWN: Final = ("already known", "already imported", "known transaction", "nonce too low")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the contracts are, and the block from which a follower has to read."""

    manager: Address
    registry: Address
    token: Address | None
    block: int
    """The first that this run has put something in. Where nothing was sent: the first with the manager's code, or 0 if
    the node has no old states to tell it by."""
    gas_used: int
    """Of all transactions together; 0 if nothing was sent."""
    fee: int
    """Wei paid for them."""
    permit2: Address
    permit2_there: bool
    """Whether there is any code at that address; if not, deposits by Permit2 revert until there is."""


async def deploy(
    sender: Sender,
    rpc: Rpc,
    *,
    min_period: Seconds,
    registry: Address | None = None,
    permit2: Address = PERMIT2,
    token: bool = False,
    plain: bool = False,
) -> Deployment:
    """Deploy the registry (unless one is given), the manager and, if asked, the development token.

    `sender.run` must be running. Asking again, with any sender, gives the same contracts; with `plain`, only asking
    the same sender does.

    Raises:
        Refused: `deploy_failed` with the reason, `no_proxy` where the proxy is missing and cannot be put there, or
            `unknown_contract` if the code is not ours, or not with these arguments.
        Unreachable: the node does not answer.
    """
    work = _Work(sender=sender, rpc=rpc, plain=plain)
    if not plain:
        await work.need_proxy()
    if registry is None:
        registry = await work.put("SecretRegistry", registry_code())
    await _verify(rpc, "SecretRegistry", registry)
    manager = await work.put("ChannelManager", manager_code(registry, min_period, permit2))
    found = manager_immutables(await _verify(rpc, "ChannelManager", manager))
    if found != Immutables(registry=registry, min_period=min_period, permit2=permit2):
        raise Refused("unknown_contract", f"the manager at {hexed(manager)} was made with other arguments")
    coin = None
    if token:
        coin = await work.put("TestToken", token_code())
        await _verify(rpc, "TestToken", coin)
    receipts = [intent.receipt for intent in work.done if intent.receipt is not None]
    blocks = [receipt.block.number for receipt in receipts]
    return Deployment(
        manager=manager,
        registry=registry,
        token=coin,
        block=min(blocks) if blocks else await _since(rpc, manager),
        gas_used=sum(receipt.gas_used for receipt in receipts) + work.proxy_gas,
        fee=sum(receipt.fee for receipt in receipts) + work.proxy_gas * PROXY_PRICE,
        permit2=permit2,
        permit2_there=bool(await _code(rpc, permit2)),
    )


@dataclass(slots=True, kw_only=True)
class _Work:
    """One run: what it has sent."""

    sender: Sender
    rpc: Rpc
    plain: bool
    done: list[Intent] = field(default_factory=list)
    proxy_gas: int = 0

    async def put(self, name: str, code: bytes) -> Address:
        """A contract of this init code: the one that is there, or a new one."""
        if self.plain:
            key = f"deploy:{name}:{created_at(code).hex()}"
            intent = await self._send(key, Call(to=None, data=code))
            if intent.receipt is None or intent.receipt.created is None:
                raise Refused("deploy_failed", "the receipt names no contract")
            return intent.receipt.created
        address = created_at(code)
        if await _code(self.rpc, address):
            return address
        try:
            await self._send(f"create2:{name}:{address.hex()}", Call(to=PROXY, data=proxied(code)))
        except Refused:
            if not await self._overtaken(address):
                raise
        return address

    async def _overtaken(self, address: Address) -> bool:
        """Whether somebody else has just put a contract there, or is about to: ours was then refused for that."""
        with trio.move_on_after(PATIENCE):
            while True:
                if await _code(self.rpc, address):
                    return True
                if not await _code(self.rpc, address, "pending"):
                    return False
                await trio.sleep(POLL)
        return False

    async def _send(self, key: str, call: Call) -> Intent:
        name = key.split(":")[1]
        await self.sender.submit(Intent.of(self.sender.address, key, call))
        hint = "has the account enough of the chain's coin?"
        try:
            with trio.fail_after(PATIENCE):
                intent = await self.sender.wait(key)
        except trio.TooSlowError:
            known = await self.sender.find(key)
            why = (known.reason if known else "") or self.sender.trouble or "it is not mined"
            raise Refused("deploy_failed", f"{name}: {why}", f"{hint} does the node answer?") from None
        if intent.status not in (Status.MINED, Status.BURIED) or not intent.succeeded:
            raise Refused("deploy_failed", f"{name} was not deployed: {intent.reason}", hint)
        self.done.append(intent)
        return intent

    # -- the proxy ---------------------------------------------------------------------------------------------------

    async def need_proxy(self) -> None:
        """Make sure that the proxy is there: by its one transaction, whose sender is given the money for it."""
        if await _proxy_there(self.rpc):
            return
        await self._can_be_made()
        # Asked first, paid then: a node that takes no such transaction says so whatever its sender has.
        refusal = await self._offer()
        if "insufficient funds" in refusal.lower():
            held = int(await _asked(self.rpc, "eth_getBalance", hexed(PROXY_SENDER), "latest"), 16)
            missing = max(1, PROXY_GAS * PROXY_PRICE - held)
            await self._send(f"fund:proxy:{held}", Call(to=PROXY_SENDER, data=b"", value=missing))
            refusal = await self._offer()
        if refusal and not await _proxy_there(self.rpc):
            raise Refused(
                "no_proxy", f"the node does not take the transaction of the deployment proxy: {refusal}", PLAIN
            )
        ask = partial(_asked, self.rpc, "eth_getTransactionReceipt", hexed(_PROXY_HASH))
        receipt = await ask()
        with trio.move_on_after(PATIENCE):
            while receipt is None and not await _proxy_there(self.rpc):
                await trio.sleep(POLL)
                receipt = await ask()
        if not await _proxy_there(self.rpc):
            raise Refused("no_proxy", "the transaction of the deployment proxy is not mined, or failed", PLAIN)
        if receipt is not None and not refusal:
            self.proxy_gas = int(receipt["gasUsed"], 16)

    async def _can_be_made(self) -> None:
        """Refuse where the proxy's transaction would be lost, and with it the address, for it can be sent but once."""
        nonce = int(await _asked(self.rpc, "eth_getTransactionCount", hexed(PROXY_SENDER), "latest"), 16)
        if nonce:
            raise Refused("no_proxy", "the deployment proxy's one transaction has failed on this chain", PLAIN)
        fields = {"from": hexed(self.sender.address), "data": hexed(PROXY_INIT)}
        gas = int(await _asked(self.rpc, "eth_estimateGas", fields), 16)
        if gas > PROXY_GAS:
            text = f"the deployment proxy's one transaction brings {PROXY_GAS} gas, this chain wants {gas}"
            raise Refused("no_proxy", text, PLAIN)
        block = await _asked(self.rpc, "eth_getBlockByNumber", "latest", False)
        if int(block.get("baseFeePerGas") or "0x0", 16) > PROXY_PRICE:
            text = f"gas costs more than the {PROXY_PRICE // 10**9} gwei of the deployment proxy's transaction"
            raise Refused("no_proxy", text, f"wait until it is cheaper; {PLAIN}")

    async def _offer(self) -> str:
        """Send the proxy's transaction; the node's words if it will not have it."""
        try:
            await self.rpc.call("eth_sendRawTransaction", hexed(PROXY_TRANSACTION))
        except RpcError as fault:
            known = any(words in fault.message.lower() for words in _KNOWN)
            return "" if known else fault.message or "without a reason"
        return ""


async def _proxy_there(rpc: Rpc) -> bool:
    code = await _code(rpc, PROXY)
    if code and code != PROXY_CODE:
        raise Refused("no_proxy", f"at {hexed(PROXY)} is not the deployment proxy", PLAIN)
    return bool(code)


async def _since(rpc: Rpc, address: Address) -> int:
    """The first block in whose state `address` has code; 0 if the node does not know."""
    low, high = 0, int(await _asked(rpc, "eth_blockNumber"), 16)
    while low < high:
        middle = (low + high) // 2
        try:
            code = await rpc.call("eth_getCode", hexed(address), hex(middle))
        except RpcError:
            return 0
        low, high = (low, middle) if code != "0x" else (middle + 1, high)
    return low


async def _verify(rpc: Rpc, name: str, address: Address) -> bytes:
    """The code at `address`, which is that of `name`; else Refused."""
    code = await _code(rpc, address)
    if not same_code(artifact(name), code):
        raise Refused("unknown_contract", f"the code at {hexed(address)} is not that of {name}")
    return code


async def _code(rpc: Rpc, address: Address, tag: str = "latest") -> bytes:
    return bytes.fromhex((await _asked(rpc, "eth_getCode", hexed(address), tag))[2:])


async def _asked(rpc: Rpc, method: str, *params: Any) -> Any:
    try:
        return await rpc.call(method, *params)
    except RpcError as fault:
        raise Unreachable(f"{method}: {fault}") from None
