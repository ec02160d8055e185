"""A watchtower in the simulated world: `channeld.tower.run.run` itself, on the clock, chain and wire of `sim`.

It is a `Node` like the others, so it dies, comes back and is kept apart like them; its clients' messages pass
`sim.judge`. Its database is a file; each job on it is a transaction of its own, in turn, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import trio

from channeld.base.digests import Domain
from channeld.base.keys import Key
from channeld.base.units import NodeId, Seconds
from channeld.chain.networks import network
from channeld.chain.reads import RpcChain
from channeld.node.loop import Actor
from channeld.tower.config import TowerConfig
from channeld.tower.run import Outside, TowerReady, run
from channeld.tower.store import TowerStore, _commit, _Job, open_store
from tests.crash.sim import ETHER, OVERRIDES, Life, MemoryNet, Node, Sim, contracts, only_deaths

Result = TypeVar("Result")


class TurnedStore(TowerStore):
    """The tower's store without its thread: a job is done when it is asked for."""

    async def do(self, work: Callable[[Any], Result]) -> Result:
        await trio.lowlevel.checkpoint()
        job = _Job(work)
        _commit(self._connection, [cast("_Job[object]", job)])
        if job.failure is not None:
            raise job.failure
        return cast("Result", job.result)


class Tower(Node):
    """A watchtower that comes back whenever it dies."""

    async def _live(self, life: Life) -> None:
        sim = self.sim

        async def chain(config: TowerConfig, stack: AsyncExitStack) -> tuple[RpcChain, Seconds]:
            found = RpcChain(life.rpc, contracts(), chain_id=config.network.chain_id, finality=config.network.finality)
            await found.check()
            return found, Seconds(sim.chain.min_period)

        @asynccontextmanager
        async def store(path: Path, domain: Domain, tower: NodeId) -> AsyncIterator[TowerStore]:
            async with open_store(path, domain=domain, tower=tower) as opened:
                yield TurnedStore(opened._connection, opened._bell)

        class Status(trio.TaskStatus[TowerReady]):
            def started(self, value: TowerReady | None = None) -> None:
                life.started(cast("Any", value).service)

        config = TowerConfig(
            data_dir=self.folder,
            network=network("dev", OVERRIDES),
            socket=self.folder / "socket",
            rpc=("http://model",),
            listen=("127.0.0.1", self.port),
        )
        with life.scope:
            try:
                await run(
                    config,
                    Key(self.secret),
                    clock=sim.time,
                    outside=Outside(bind=MemoryNet(life)._bind, store=store, chain=chain),
                    task_status=Status(),
                )
            except BaseException as fault:
                if not life.dead or not only_deaths(fault):
                    raise


async def tower(sim: Sim, name: str = "tower") -> Tower:
    """A tower of that name with coins for gas, up."""
    made = Tower(sim, name, Actor, {})
    sim.nodes[name] = made
    made.folder.mkdir(parents=True, exist_ok=True)
    sim.chain.fund(made.key.address, coin=100 * ETHER)
    sim.nursery.start_soon(made.keep)
    made.start()
    await made.ready()
    return made
