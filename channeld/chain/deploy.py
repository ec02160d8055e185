"""Put the contracts on a chain by way of a `Sender`, and make sure that what is there is what we know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.units import Address, Seconds
from channeld.chain.chain import Call
from channeld.chain.intents import Intent, Status
from channeld.chain.reads import hexed
from channeld.chain.rpc import Rpc, RpcError
from channeld.chain.sender import Sender
from contracts import artifact, same_code
from contracts.deploy import manager_code, registry_code, token_code

PATIENCE: Final = 180.0
"""Seconds to wait for one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the contracts are, and the block from which a follower has to read."""

    manager: Address
    registry: Address
    token: Address | None
    block: int
    gas_used: int
    """Of all transactions together."""
    fee: int
    """Wei paid for them."""


async def deploy(
    sender: Sender, rpc: Rpc, *, min_period: Seconds, registry: Address | None = None, token: bool = False
) -> Deployment:
    """Deploy the registry (unless one is given), the manager and, if asked, the development token.

    `sender.run` must be running. Asking again with the same sender gives the same contracts.

    Raises:
        Refused: `deploy_failed` with the reason, or `unknown_contract` if the code is not ours afterwards.
        Unreachable: the node does not answer.
    """
    done: list[Intent] = []
    if registry is None:
        done.append(await _create(sender, "deploy:registry", registry_code()))
        registry = _created(done[-1])
    name = f"deploy:manager:{registry.hex()}:{min_period}"
    done.append(await _create(sender, name, manager_code(registry, min_period)))
    manager = _created(done[-1])
    coin = None
    if token:
        done.append(await _create(sender, "deploy:token", token_code()))
        coin = _created(done[-1])
    await _verify(rpc, "SecretRegistry", registry)
    await _verify(rpc, "ChannelManager", manager)
    if coin is not None:
        await _verify(rpc, "TestToken", coin)
    receipts = [intent.receipt for intent in done if intent.receipt is not None]
    return Deployment(
        manager=manager,
        registry=registry,
        token=coin,
        block=min(receipt.block.number for receipt in receipts),
        gas_used=sum(receipt.gas_used for receipt in receipts),
        fee=sum(receipt.fee for receipt in receipts),
    )


async def _create(sender: Sender, key: str, code: bytes) -> Intent:
    await sender.submit(Intent.of(sender.address, key, Call(to=None, data=code)))
    try:
        with trio.fail_after(PATIENCE):
            intent = await sender.wait(key)
    except trio.TooSlowError:
        known = await sender.find(key)
        why = (known.reason if known else "") or sender.trouble or "it is not mined"
        hint = "has the account enough of the chain's coin? does the node answer?"
        raise Refused("deploy_failed", f"{key.split(':')[1]}: {why}", hint) from None
    if intent.status not in (Status.MINED, Status.BURIED) or intent.receipt is None or not intent.receipt.ok:
        hint = "has the account enough of the chain's coin?"
        raise Refused("deploy_failed", f"{key.split(':')[1]} was not deployed: {intent.reason}", hint)
    return intent


def _created(intent: Intent) -> Address:
    if intent.receipt is None or intent.receipt.created is None:
        raise Refused("deploy_failed", "the receipt names no contract")
    return intent.receipt.created


async def _verify(rpc: Rpc, name: str, address: Address) -> None:
    try:
        code = await rpc.call("eth_getCode", hexed(address), "latest")
    except RpcError as fault:
        raise Unreachable(f"eth_getCode: {fault}") from None
    if not same_code(artifact(name), bytes.fromhex(code[2:])):
        raise Refused("unknown_contract", f"the code at {hexed(address)} is not that of {name}")
