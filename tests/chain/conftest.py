"""Fixtures of a chain's tests: `devchain` is ours, `node` is each chain that is there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from channeld.chain.devchain import serve_devchain
from channeld.chain.rpc import Rpc
from tests.chain.nodes import Node, needs_anvil, start_anvil


@pytest.fixture
async def devchain(nursery: trio.Nursery) -> AsyncIterator[Node]:
    started = await nursery.start(serve_devchain)
    async with Rpc(started.url) as rpc:
        yield Node(url=started.url, rpc=rpc, kind="devchain")


@pytest.fixture(params=["devchain", pytest.param("anvil", marks=needs_anvil)])
async def node(request: pytest.FixtureRequest, nursery: trio.Nursery) -> AsyncIterator[Node]:
    if request.param == "anvil":
        url = await start_anvil(nursery)
    else:
        url = (await nursery.start(serve_devchain)).url
    async with Rpc(url) as rpc:
        yield Node(url=url, rpc=rpc, kind=request.param)
