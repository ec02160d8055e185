"""T47: what strangers agree on and never pay for is bounded, and ends: whole daemons in simulated time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.units import Amount, ChannelId
from channeld.core.channel import Phase
from channeld.core.events import Recover
from channeld.node import unpaid
from channeld.node.config import TokenPolicy
from channeld.node.service import Service
from channeld.wire import messages as wire
from tests.crash.copies import down, up
from tests.crash.sim import Node, Sim, simulate


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day is long where blocks come every two seconds."""
    monkeypatch.setattr(unpaid, "LASTS", 100)
    monkeypatch.setattr(unpaid, "EVERY", 20.0)


async def words(opener: Node, acceptor: Node) -> ChannelId:
    """Agreed, and nobody pays: the acceptor matches no deposit, and the opener has promised none."""

    async def work(service: Service) -> dict[str, Any]:
        return await service.open_channel(
            peer=acceptor.uri,
            token="DemoUSD",
            amount=0,
            peer_amount=100,
            challenge_period=None,
            public=True,
            idempotency_key=None,
        )

    opened = ChannelId(bytes.fromhex((await opener.within(work))["channel_id"][2:]))
    await acceptor.until(lambda: opened in acceptor.service.book.actors)
    return opened


def held(node: Node) -> list[tuple[Any, ...]]:
    return [*node.service.store.rows("SELECT id FROM channels"), *node.service.store.rows("SELECT id FROM openings")]


async def refused(opener: Node, acceptor: Node) -> str:
    try:
        await words(opener, acceptor)
    except Refused as fault:
        return fault.text
    return ""


@pytest.mark.parametrize("frozen", [False, True])
def test_a_peer_that_never_pays_is_refused_and_has_its_places_again_when_they_are_forgotten(folder: Path, frozen: bool):
    """To freeze them, which costs a message each, brings no more places."""

    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        opened = [await words(opener, acceptor) for _ in range(unpaid.OF_PEER)]
        reserve = acceptor.service.reserve
        assert reserve.needed(2) == 0
        assert reserve.needed(2, strangers=True) > 0
        if frozen:
            for id_ in opened:
                opener.service.lines.of(acceptor.node_id).send(  # type: ignore[union-attr]
                    [wire.Error(channel_id=id_, code="protocol_error", text="so")]
                )
            await acceptor.until(lambda: all(phase(acceptor, id_) is Phase.FROZEN for id_ in opened))
            assert reserve.needed(2) == 0
        assert not acceptor.service.lines.has_channel(opener.node_id)  # it takes a stranger's place at the door
        assert "too_many_openings" in await refused(opener, acceptor)
        assert len(acceptor.service.book.actors) == unpaid.OF_PEER
        await acceptor.until(lambda: not acceptor.service.book.actors)
        assert sim.time() >= 100
        await trio.sleep(1)
        assert held(acceptor) == []
        assert reserve.needed(2, strangers=True) == 0
        assert acceptor.service.store.rows("PRAGMA integrity_check") == [("ok",)]
        if not frozen:  # the opener was told, and puts nothing in any more
            await opener.until(lambda: all(phase(opener, id_) is Phase.FROZEN for id_ in opened))
        assert await refused(opener, acceptor) == ""
        await acceptor.open(opener, 50)  # all goes on

    simulate(program, folder)


def phase(node: Node, id_: ChannelId) -> Phase:
    return node.service.book.actors[id_].channel.phase


def test_what_is_paid_into_is_not_forgotten_nor_what_is_ours_or_younger(folder: Path):
    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        paid = await opener.open(acceptor, 1_000)
        mine = await words(acceptor, opener)  # `opener` forgets it; whose it is does not
        await trio.sleep(60)
        young = await words(opener, acceptor)
        await opener.until(lambda: mine not in opener.service.book.actors)
        assert set(acceptor.service.book.actors) >= {paid, mine, young}
        await acceptor.until(lambda: young not in acceptor.service.book.actors)
        await trio.sleep(100)
        assert set(acceptor.service.book.actors) == {paid, mine}
        assert await opener.transfer(paid, [5], "goes on") != "failed"

    simulate(program, folder)


def test_a_deposit_that_is_on_the_chain_and_not_deep_enough_keeps_its_channel(folder: Path):
    """The chain is asked; what the node has been told yet is not enough."""

    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        opened = await words(opener, acceptor)
        acceptor.service.world.network = _deep(acceptor)
        acceptor.service.guard._world.network = acceptor.service.world.network
        await opener.within(lambda service: service.openings.deposit(opened, 70, "late"))  # type: ignore[arg-type]
        assert not any(acceptor.service.book.actors[opened].channel.told)
        await trio.sleep(300)
        assert opened in acceptor.service.book.actors
        assert not any(acceptor.service.book.actors[opened].channel.told)

    simulate(program, folder)


def _deep(node: Node) -> Any:
    return replace(node.service.world.network, confirmations=10_000)


def test_what_we_would_have_put_in_is_ours_again(folder: Path):
    async def program(sim: Sim) -> None:
        terms = TokenPolicy(match_deposit=Amount(1_000))
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor", policy=terms)
        for _ in range(3):
            await words(opener, acceptor)
        await acceptor.until(lambda: not acceptor.service.book.actors)
        assert acceptor.service.openings.promised == 0
        await acceptor.open(opener, 50)

    simulate(program, folder)


def test_nothing_is_forgotten_by_a_copy_that_may_not_know(folder: Path):
    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        opened = await words(opener, acceptor)
        await down(acceptor)
        await up(acceptor)
        await acceptor.until(lambda: opened in acceptor.service.book.actors)
        await acceptor.service.book.actors[opened].ask(Recover(reason="an old copy"))
        await trio.sleep(300)
        assert phase(acceptor, opened) is Phase.FROZEN

    simulate(program, folder)
