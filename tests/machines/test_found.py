"""What long runs of the cluster found, each in as few steps as it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.laws import money
from tests.crash.scenarios import line, quiet
from tests.crash.sim import Sim, simulate


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


def test_a_wish_to_close_alone_outlives_a_cooperate_that_is_never_executed(folder: Path) -> None:
    """Seed 1005: the payee has signed a cooperate, and the payer has forgotten it or is gone for good. The payee's
    owner asks to close alone meanwhile: when the cooperate has lapsed, that happens."""

    async def program(sim: Sim) -> None:
        (payer, payee), (opened,) = await line(sim, Actor, "payer", "payee")
        await payer.transfer(opened, [100], "paid")
        await quiet((payer, payee))

        def judge(sender: str, to: str, message: wire.Message) -> float | None:
            if isinstance(message, wire.CoopSign):
                payer.restart = False
                payer.crash()
                return None
            return 0.0

        sim.judge = judge
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: payer.ask("close_channel", channel_id=opened, force=False, timeout=60))
            await payee.until(lambda: payee.service.book.actors[opened].channel.coop is not None)
            nursery.cancel_scope.cancel()
        await payee.ask("close_channel", channel_id=opened, force=True, timeout=0)
        await payee.until(lambda: payee.service.book.actors[opened].channel.coop is None, 2_000)
        await payee.until(lambda: payee.channel(opened)["state"] == "closed", 600)
        money(sim, payee, 100)

    simulate(program, folder)
