"""What long runs of the cluster found, each in as few steps as it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from channeld.base.units import ChannelId
from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.copies import down, up
from tests.crash.laws import money
from tests.crash.scenarios import close_call, line, quiet, send_raw
from tests.crash.sim import TOKENS, Node, Sim, named_token, simulate
from tests.crash.tower import tower


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


async def _version(sleeper: Node, opened: ChannelId) -> int:
    held = [link.state.held for one in sleeper.service.towers._towers.values() for link in one.links.values()]
    return held[0].version if held and held[0] is not None else 0


def test_a_victim_is_paid_by_the_state_that_its_tower_held_though_it_has_gone_on_since(folder: Path) -> None:
    """Seeds 2011 and 2060. The tower holds a state; later ones gave the victim less, so nothing was uploaded again.
    The cheat closes with an older one while the victim sleeps, the tower answers and finalizes. The victim has no copy
    of that body but the one it keeps of what it gave its tower, and the cheat need not settle."""

    async def program(sim: Sim) -> int:
        guard = await tower(sim)
        cheat, sleeper = await sim.node("cheat"), await sim.node("sleeper", towers=(guard.uri,))
        opened = await cheat.open(sleeper, 1_000)
        await cheat.transfer(opened, [50], "a little")
        await quiet((cheat, sleeper))
        old = cheat.service.book.actors[opened].channel
        await cheat.transfer(opened, [450], "more")
        await quiet((cheat, sleeper))
        newest = sleeper.service.book.actors[opened].channel.current.version
        with trio.fail_after(60):
            while await _version(sleeper, opened) < newest:
                await trio.sleep(0.5)
        await sleeper.transfer(opened, [100], "back")
        await quiet((cheat, sleeper))
        assert sleeper.service.towers.at_risk(opened)[0] == 0
        await down(sleeper)
        await down(cheat)
        send_raw(sim, cheat.key, close_call(old))
        await trio.sleep(5)
        word = sim.chain.model.channels[opened.hex()]
        assert word.version == newest
        while not sim.chain.model.channels[opened.hex()].final:
            await trio.sleep(2)
        await up(sleeper)
        with trio.move_on_after(600):
            await sleeper.until(lambda: sleeper.channel(opened)["state"] == "closed", 500)
        return sim.chain.model.balance(named_token(), "0x" + sleeper.key.address.hex()) - TOKENS

    assert simulate(program, folder) >= 400
