"""The watchtower's process: what lives under what, and who goes last.

The store outlives everything, since all others save there; under it the sender and the lookout; under them the gate,
which is opened only when the chain has been read up to its head. Shutdown is that order backwards: no new receipt,
then no new act, then the store is closed. What is under way on chain goes on at the next start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import ChanneldError, Refused, Unreachable
from channeld.base.keys import Key
from channeld.base.units import NodeId, Seconds, Timestamp
from channeld.chain.connect import first_usable
from channeld.chain.reads import RpcChain
from channeld.chain.sender import Sender
from channeld.peers.listen import Caps, bind_tcp, listen
from channeld.tower.config import TowerConfig
from channeld.tower.gate import Gate
from channeld.tower.intents import TowerIntents
from channeld.tower.lookout import Lookout
from channeld.tower.service import OurTower
from channeld.tower.store import TowerStore, open_store
from channeld.wire.address import HostPort
from contracts.deploy import manager_immutables

log = logging.getLogger(__name__)

STORE: Final = "tower.sqlite3"
TURNS: Final = 200
"""Handshakes in a second: to a tower all are strangers, and each channel comes by a connection of its own."""
SWEEP: Final = 3_600.0
"""Seconds between looks for rows whose time is over."""


async def connect(config: TowerConfig, stack: AsyncExitStack) -> tuple[RpcChain, Seconds]:
    """The first endpoint that answers and has our contracts; and the contract's shortest challenge period."""
    network = config.network
    if network.registry is None:
        raise Refused("bad_config", f"no registry is known on {network.id}", "chain.registry goes with chain.manager")
    return await first_usable(
        config.rpc, network, manager=config.manager, registry=network.registry, look=_min_period, stack=stack
    )


async def _min_period(chain: RpcChain) -> Seconds:
    await chain.check()
    return manager_immutables(await chain.code(chain.contracts.manager)).min_period


Bind = Callable[[HostPort], Awaitable[tuple[HostPort, Sequence[trio.abc.Listener[trio.abc.Stream]]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a tower stands on besides time and its key: TCP, a file, and HTTP, unless others are passed."""

    bind: Bind = bind_tcp
    """As `peers.listen` takes it."""
    store: Callable[[Path, Domain, NodeId], AbstractAsyncContextManager[TowerStore]] = lambda path, domain, tower: (
        open_store(path, domain=domain, tower=tower)
    )
    chain: Callable[[TowerConfig, AsyncExitStack], Awaitable[tuple[RpcChain, Seconds]]] = connect
    """Connects to a chain that has our contracts, and says the contract's shortest challenge period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerReady:
    """A tower that takes appointments: its socket's service, and where clients find it."""

    service: OurTower
    listen: HostPort
    node_id: NodeId


async def run(
    config: TowerConfig,
    key: Key,
    *,
    clock: Callable[[], float] = time.time,
    outside: Outside | None = None,
    task_status: trio.TaskStatus[TowerReady] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a watchtower until cancelled or told to stop; `started` once it takes appointments.

    Args:
        key: the tower's account: it pays for gas; its id and its receipts are by `key.derive("node")`.
        clock: seconds since 1970.
        outside: network, disk and chain, if they are not those of this machine.

    Raises:
        Refused: `wrong_chain`, `unknown_contract`, `store_in_use`, `store_foreign`, `other_chain`, `port_in_use`.
        Unreachable: no RPC endpoint answers.
        Broken: the store cannot be written.
    """
    try:
        async with AsyncExitStack() as stack:
            await _run(config, key, clock, outside or Outside(), stack, task_status)
    except ExceptionGroup as group:
        fault = first_fault(group)
        if fault is None:
            raise
        raise fault from None


async def _run(
    config: TowerConfig,
    key: Key,
    clock: Callable[[], float],
    outside: Outside,
    stack: AsyncExitStack,
    task_status: trio.TaskStatus[TowerReady],
) -> None:
    chain, min_period = await outside.chain(config, stack)
    network, contracts, node_key = config.network, chain.contracts, key.derive("node")
    domain = Domain(chain_id=network.chain_id, manager=contracts.manager)
    payout = config.payout or key.address
    store = await stack.enter_async_context(outside.store(config.data_dir / STORE, domain, node_key.public))
    sender = Sender(
        chain.rpc,
        key,
        TowerIntents(store),
        chain_id=network.chain_id,
        fees=network.fees,
        finality=network.finality,
        poll=network.poll,
    )
    lookout = Lookout(
        store,
        chain,
        sender,
        contracts=contracts,
        domain=domain,
        tower=node_key.public,
        payout=payout,
        policy=config.policy,
        poll=network.poll,
        max_head_age=network.max_head_age,
        clock=clock,
    )
    gate = Gate(
        store,
        key=node_key,
        domain=domain,
        payout=payout,
        min_period=min_period,
        policy=config.policy,
        watch=lambda: lookout.watch,
        max_lag=network.max_head_age,
        clock=clock,
    )
    stopping = trio.Event()
    async with trio.open_nursery() as chain_tasks:
        await chain_tasks.start(sender.run)
        await chain_tasks.start(lookout.run)
        async with trio.open_nursery() as door:
            place = await door.start(partial(_listen, config, node_key, gate, outside.bind))
            door.start_soon(_sweep, store, lookout, config)
            service = OurTower(
                config=config,
                node_id=node_key.public,
                account=key.address,
                listen=place,
                store=store,
                chain=chain,
                lookout=lookout,
                clock=clock,
                stopping=stopping,
            )
            log.info("tower=%s listens at %s", node_key.public.hex(), place)
            task_status.started(TowerReady(service=service, listen=place, node_id=node_key.public))
            await stopping.wait()
            door.cancel_scope.cancel()
        chain_tasks.cancel_scope.cancel()


async def _listen(
    config: TowerConfig, node_key: Key, gate: Gate, bind: Bind, *, task_status: trio.TaskStatus[HostPort]
) -> None:
    host, port = config.listen
    caps = Caps(connections=config.policy.max_connections, from_one=config.policy.max_from_one, turns=TURNS)
    try:
        await listen(
            HostPort(host=host, port=port), node_key, gate.serve, caps=caps, bind=bind, task_status=task_status
        )
    except Unreachable as fault:
        raise Refused("port_in_use", str(fault), "choose another with tower.listen, port 0 for any") from None


async def _sweep(store: TowerStore, lookout: Lookout, config: TowerConfig) -> None:
    """Forget what is neither promised any more nor possibly needed in a close that still runs."""
    while True:
        watch = lookout.watch
        if watch is not None:
            gone = await store.forget_before(Timestamp(watch.time - config.policy.grace))
            if gone:
                log.info("%d appointments are over", gone)
        await trio.sleep(SWEEP)


def first_fault(group: BaseExceptionGroup[BaseException]) -> ChanneldError | None:
    """The first error raised on purpose in a group that holds nothing else."""
    found: ChanneldError | None = None
    for fault in group.exceptions:
        inner = first_fault(fault) if isinstance(fault, BaseExceptionGroup) else fault
        if not isinstance(inner, ChanneldError):
            return None
        found = found or inner
    return found
