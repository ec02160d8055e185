"""Real processes on loopback: every test gets a stage of its own, with a chain and contracts on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channeld.cli.stage import Stage, stage


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Stage]:
    """Chain and contracts stand; the test adds nodes and towers. Sockets need a short path."""
    async with stage() as made:
        await made.chain(block_time=0.5)
        await made.deploy()
        yield made
