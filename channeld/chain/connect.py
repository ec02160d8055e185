"""The chain by way of the first of several endpoints that can be used: it answers, on our chain, with our contracts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

import trio

from channeld.base.errors import Unreachable
from channeld.base.units import Address
from channeld.chain.bindings import Contracts
from channeld.chain.networks import Network
from channeld.chain.reads import RpcChain
from channeld.chain.rpc import Rpc

log = logging.getLogger(__name__)
T = TypeVar("T")


async def first_usable(
    urls: Sequence[str],
    network: Network,
    *,
    manager: Address,
    registry: Address,
    look: Callable[[RpcChain], Awaitable[T]],
    stack: AsyncExitStack,
) -> tuple[RpcChain, T]:
    """The first endpoint that `look` finds nothing wrong with, and what it says; closed with `stack`.

    Raises:
        Unreachable: none answers.
        Refused: what `look` raises of one that does: another chain or contract is no reason to try the next.
    """
    contracts = await trio.to_thread.run_sync(partial(Contracts, manager=manager, registry=registry))
    trouble = Unreachable("no JSON-RPC endpoint is given")
    for url in urls:
        rpc = await stack.enter_async_context(Rpc(url))
        chain = RpcChain(rpc, contracts, chain_id=network.chain_id, finality=network.finality)
        try:
            return chain, await look(chain)
        except Unreachable as fault:
            log.warning("rpc passed over: %s", fault)
            trouble = fault
    raise trouble
