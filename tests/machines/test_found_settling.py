"""What long runs of the cluster found and what is not mended yet: each test is expected to fail until it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from channeld.base.units import ChannelId
from tests.crash.scenarios import _down, _up, close_call, quiet, send_raw
from tests.crash.sim import TOKENS, Node, Sim, named_token, simulate
from tests.crash.tower import tower


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


async def _version(sleeper: Node, opened: ChannelId) -> int:
    held = [link.state.held for one in sleeper.service.towers._towers.values() for link in one.links.values()]
    return held[0].version if held and held[0] is not None else 0


@pytest.mark.xfail(strict=True, reason="nobody but the cheat can open the state that the tower put on chain")
def test_a_victim_is_paid_by_the_state_that_its_tower_held_though_it_has_gone_on_since(folder: Path) -> None:
    """Seeds 2011 and 2060. The tower holds a state; later ones gave the victim less, so nothing was uploaded again.
    The cheat closes with an older one while the victim sleeps, the tower answers and finalizes. The victim has no copy
    of that body, and the cheat need not settle: the channel's money stays in the contract for ever."""

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
        await _down(sleeper)
        await _down(cheat)
        send_raw(sim, cheat.key, close_call(old))
        await trio.sleep(5)
        word = sim.chain.model.channels[opened.hex()]
        assert word.version == newest
        while not sim.chain.model.channels[opened.hex()].final:
            await trio.sleep(2)
        await _up(sleeper)
        with trio.move_on_after(600):
            await sleeper.until(lambda: sleeper.channel(opened)["state"] == "closed", 500)
        return sim.chain.model.balance(named_token(), "0x" + sleeper.key.address.hex()) - TOKENS

    assert simulate(program, folder) >= 400
