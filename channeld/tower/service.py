"""What the tower says about itself to its operator: the methods of its own socket, plain values for JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from channeld import __version__
from channeld.base.errors import Refused
from channeld.base.units import NATIVE, Address, NodeId
from channeld.chain.chain import BlockRef, Head
from channeld.chain.reads import RpcChain, hexed
from channeld.tower.config import TowerConfig
from channeld.tower.gate import Watch
from channeld.tower.intents import Tally, TowerIntents
from channeld.tower.lookout import Lookout
from channeld.tower.store import TowerStore
from channeld.wire.address import HostPort

Json = dict[str, Any]
COIN_DECIMALS: Final = 18
ANSWERS: Final = ("challenge", "attach")
"""Purposes of intents that put a newer state on the chain."""
ENDS: Final = ("finalize", "settle")


class OurTower:
    """The service behind the tower's socket; `stop` ends `run`."""

    def __init__(
        self,
        *,
        config: TowerConfig,
        node_id: NodeId,
        account: Address,
        listen: HostPort,
        store: TowerStore,
        chain: RpcChain,
        lookout: Lookout,
        clock: Callable[[], float],
        stopping: trio.Event,
    ) -> None:
        self.node_id = node_id
        self.listen = listen
        self._config = config
        self._account = account
        self._store = store
        self._intents = TowerIntents(store)
        self._chain = chain
        self._lookout = lookout
        self._clock = clock
        self._stopping = stopping

    @property
    def watch(self) -> Watch | None:
        """The newest block that was acted on."""
        return self._lookout.watch

    async def get_info(self) -> Json:
        network, contracts = self._config.network, self._chain.contracts
        announced = [HostPort(host=host, port=port) for host, port in self._config.announce] or [self.listen]
        return {
            "role": "tower",
            "version": __version__,
            "node_id": hexed(self.node_id),
            "alias": self._config.alias,
            "address": hexed(self._account),
            "network": network.id,
            "chain_id": network.chain_id,
            "manager": hexed(contracts.manager),
            "registry": hexed(contracts.registry),
            "listen": str(self.listen),
            "uris": [f"{self.node_id.hex()}@{place}" for place in announced],
            "socket": str(self._config.socket),
            "head": self._head(),
            "safe_mode": self._lookout.trouble,
            "tokens": [
                {"symbol": "native", "token": hexed(NATIVE), "decimals": COIN_DECIMALS},
                *(
                    {"symbol": token.symbol, "token": hexed(token.address), "decimals": token.decimals}
                    for token in network.tokens
                ),
            ],
            "peers": 0,
            "channels": {},
        }

    async def tower_status(self) -> Json:
        tallies = await self._intents.tallies()
        answers = [tallies.get(purpose, Tally()) for purpose in ANSWERS]
        deadlines = self._lookout.deadlines
        return {
            "role": "tower",
            "appointments": await self._store.count(),
            "watched": len(deadlines),
            "challenges_sent": sum(tally.sent for tally in answers),
            "challenges_mined": sum(tally.worked for tally in answers),
            "finalized": sum(tallies.get(purpose, Tally()).worked for purpose in ENDS),
            "earned": str(await self._store.earned()),
            "spent": str(sum(tally.fee for tally in tallies.values())),
            "balance": str(await self._chain.balance(self._account)),
            "head": self._head(),
            "next_deadline": deadlines[0] if deadlines else None,
        }

    async def stop(self) -> Json:
        self._stopping.set()
        return {"stopping": True}

    def _head(self) -> Json:
        head: Head | None = self._lookout.head
        if head is None:
            raise Refused("unreachable", "the chain has not been read yet", "try again")
        return {
            "latest": _block(head.latest),
            "safe": _block(head.safe),
            "finalized": _block(head.finalized),
            "age": head.age(int(self._clock())),
        }


def _block(block: BlockRef) -> Json:
    return {"number": block.number, "timestamp": block.timestamp, "hash": hexed(block.hash)}
