"""The harness itself: whole daemons in simulated time, the same again with the same seed, deaths that are deaths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.crash.sim import TOKENS, Point, Sim, named_token, simulate


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


async def over_two_hops(sim: Sim) -> tuple[list[Point], float]:
    payer, hub, payee = [await sim.node(name) for name in ("payer", "hub", "payee")]
    await payer.open(hub, 1_000)
    out = await hub.open(payee, 1_000)
    await payer.until(lambda: out in payer.service.gossip.known)
    asked = await payee.invoice(70)
    assert await payer.pay(asked["invoice"]) == "succeeded"
    assert int(payee.channel(out)["ours"]) == 70
    for node, opened in ((payer, payer.service.book.actors), (hub, hub.service.book.actors)):
        for id_ in list(opened):
            if node.channel(id_)["state"] == "open":
                await node.ask("close_channel", channel_id=id_, force=False, timeout=20)
    await hub.until(lambda: all(hub.channel(id_)["state"] == "closed" for id_ in hub.service.book.actors))
    money = {
        node.name: sim.chain.model.balance(named_token(), "0x" + node.key.address.hex()) for node in (payer, payee)
    }
    assert money["payee"] == TOKENS + 70
    assert TOKENS - 80 <= money["payer"] <= TOKENS - 70
    assert sim.chain.model.balance(named_token(), "manager") == 0
    assert not sim.chain.refused
    return sim.points, sim.clock.current_time()


def test_the_same_seed_gives_the_same_run(folder: Path) -> None:
    one = simulate(over_two_hops, folder / "one", seed=1)
    assert one == simulate(over_two_hops, folder / "other", seed=1)
    names = {point.name.split()[0] for point in one[0]}
    assert names == {"save", "sign", "send", "submit"}


def test_a_dead_node_does_nothing_more_and_comes_back(folder: Path) -> None:
    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        opened = await payer.open(payee, 1_000)
        payer.restart = False
        dead = payer.life
        payer.crash()
        assert dead is not None
        await dead.over.wait()
        said = len([one for one in sim.spoken if one[0] == "payer"])
        asked = await payee.invoice(7)
        await payee.until(lambda: not payee.channel(opened)["connected"])
        assert len([one for one in sim.spoken if one[0] == "payer"]) == said
        payer.restart = True
        payer.start()
        assert await payer.pay(asked["invoice"]) == "succeeded"
        assert payer.lives == 2

    simulate(program, folder)
