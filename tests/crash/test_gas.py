"""T19, I22: whole daemons whose accounts cannot pay for ending their channels, in simulated time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from channeld.base.errors import Refused
from channeld.node.reserve import LEAST, MORE_LOCKS
from tests.contracts.model import COIN
from tests.crash.copies import down
from tests.crash.scenarios import close_call, quiet, send_raw
from tests.crash.sim import Node, Sim, simulate


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


async def leave(sim: Sim, node: Node, wei: int) -> None:
    """That much is in the account from now on, and the node has seen it."""
    has = sim.chain.model.balance(COIN, "0x" + node.key.address.hex())
    sim.chain.fund(node.key.address, coin=wei - has)
    number = sim.chain.head.number
    await node.until(lambda: node.service.world.head is not None and node.service.world.head.latest.number > number + 1)


def least(node: Node) -> int:
    return node.service.reserve.needed(LEAST, locks=MORE_LOCKS)


def locks(node: Node) -> int:
    channels = [actor.channel for actor in node.service.book.actors.values()]
    return sum(len(channel.current.body.locks) + len(channel.newest_body.locks) for channel in channels)


def told(node: Node) -> list[str]:
    rows = node.service.store.rows("SELECT type FROM events WHERE type LIKE 'gas_%' ORDER BY n")
    return [type_ for (type_,) in rows]


async def failure(payer: Node, payee: Node) -> str:
    """State of a payment of 7."""
    asked = await payee.invoice(7)
    return await payer.pay(asked["invoice"], 20)


def test_i22_who_cannot_pay_for_a_dispute_opens_nothing(folder: Path) -> None:
    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        await payer.open(payee, 1_000)
        enough = payer.service.reserve.needed(5, channels=1)
        for wei, opens in ((enough - 1, False), (enough, True)):
            await leave(sim, payer, wei)
            refused = ""
            try:
                await payer.within(lambda service: _open(service, payee))
            except Refused as fault:
                refused = fault.code
            assert refused == ("" if opens else "insufficient_gas")
        assert len(payer.service.book.actors) == 2

    simulate(program, folder)


async def _open(service: object, payee: Node) -> object:
    return await service.open_channel(  # type: ignore[attr-defined]
        peer=payee.uri,
        token="DemoUSD",
        amount=100,
        peer_amount=0,
        challenge_period=None,
        public=True,
        idempotency_key=None,
    )


def test_i22_who_cannot_pay_for_a_dispute_accepts_nothing(folder: Path) -> None:
    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        enough = payee.service.reserve.needed(5, channels=1)
        await leave(sim, payee, enough - 1)
        with pytest.raises(Refused, match="insufficient_gas") as fault:
            await payer.within(lambda service: _open(service, payee))
        assert fault.value.code == "peer_refused"
        assert not payee.service.book.actors
        sim.chain.fund(payee.key.address, coin=1)  # it is asked before the next block shows that
        number = sim.chain.head.number
        await payer.within(lambda service: _open(service, payee))
        assert sim.chain.head.number == number
        await payee.until(lambda: len(payee.service.book.actors) == 1)

    simulate(program, folder)


def test_i22_who_cannot_enforce_a_lock_passes_none_on_and_keeps_none(folder: Path) -> None:
    async def program(sim: Sim) -> None:
        payer, hub, payee = [await sim.node(name) for name in ("payer", "hub", "payee")]
        first = await payer.open(hub, 1_000)
        out = await hub.open(payee, 1_000)
        await payer.until(lambda: out in payer.service.gossip.known)
        assert await failure(payer, payee) == "succeeded"
        for poor in (hub, payee):
            rich = sim.chain.model.balance(COIN, "0x" + poor.key.address.hex())
            await poor.until(lambda poor=poor: not locks(poor))  # type: ignore[misc]
            await leave(sim, poor, least(poor) - 1)
            said = (await poor.ask("get_info"))["gas_short"]
            assert said is not None
            assert "wei" in said
            assert await failure(payer, payee) in ("failed", "no_route", "hop_short", "payment_failed")
            assert not poor.service.book.actors[out].channel.current.body.locks
            assert await payer.transfer(first, [3], f"direct {poor.name}") != "failed"  # takes no gas to keep
            await payer.until(lambda: not locks(payer))
            await leave(sim, poor, rich)
            assert (await poor.ask("get_info"))["gas_short"] is None
            assert await failure(payer, payee) == "succeeded"
            assert told(poor) == ["gas_low", "gas_enough"]
        assert told(payer) == []

    simulate(program, folder)


def test_an_endpoint_that_tells_no_gas_keeps_nobody_from_the_defence(folder: Path) -> None:
    """I40: the reserve is looked at in the guard's own turn. Its trouble ends neither the turn nor the daemon,
    nor does nonsense in answer to an estimate of the challenge: it is asked again."""

    async def program(sim: Sim) -> tuple[int, int]:
        cheat, victim = await sim.node("cheat"), await sim.node("victim")
        opened = await cheat.open(victim, 1_000)
        await cheat.transfer(opened, [50], "a little")
        await quiet((cheat, victim))
        old = cheat.service.book.actors[opened].channel
        await cheat.transfer(opened, [450], "more")
        await quiet((cheat, victim))
        newest = victim.service.book.actors[opened].channel.current.version
        sim.chain.tells_price, sim.chain.garbled = False, 3
        await down(cheat)
        send_raw(sim, cheat.key, close_call(old))
        await victim.until(lambda: victim.channel(opened)["state"] == "closing")
        await victim.until(lambda: sim.chain.model.channels[opened.hex()].version == newest, 300)
        return sim.deaths, sim.chain.garbled

    assert simulate(program, folder) == (0, 0)
