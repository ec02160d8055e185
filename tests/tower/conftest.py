"""One chain with the contracts for each test, and the roles funded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from channeld.chain.devchain import serve_devchain
from channeld.chain.rpc import Rpc
from tests.chain.nodes import Node
from tests.tower.world import World, key_of


@pytest.fixture
async def world(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[World]:
    started = await nursery.start(serve_devchain)
    async with Rpc(started.url) as rpc:
        node = Node(url=started.url, rpc=rpc, kind="devchain")
        where = await node.deploy()
        chain = node.chain(where)
        made = World(node=node, where=where, contracts=chain.contracts, chain=chain, home=tmp_path, nursery=nursery)
        for role in ("cheat", "sleeper", "runner"):
            await made.fund(key_of(role))
        yield made
