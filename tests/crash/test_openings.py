"""What strangers can do with openings that they begin, agree on, freeze, pay a little into, or talk round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from channeld.base.keys import Key
from channeld.base.units import Amount, Side
from channeld.core.channel import Phase, Session
from channeld.core.events import Leave
from channeld.node import announcing, unpaid
from channeld.node.config import TokenPolicy
from channeld.storage.store import Batch
from channeld.wire import messages as wire
from channeld.wire.address import node_address
from routing.fees import Policy
from tests.contracts.model import COIN
from tests.crash.copies import down
from tests.crash.sim import ETHER, Node, Sim, simulate
from tests.crash.strangers import Stranger
from tests.crash.test_unpaid import phase, refused, soon, words

__all__ = ["soon"]  # a fixture


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: databases are synced at every save."""
    shm = Path("/dev/shm")
    with TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else None) as made:
        yield Path(made)


def test_what_was_begun_while_there_was_room_is_not_agreed_when_there_is_none(folder: Path):
    async def program(sim: Sim) -> None:
        acceptor = await sim.node("acceptor")
        crowd = [Stranger(number, "203.0.113.7") for number in range(10)]
        for stranger in crowd:
            for _ in range(unpaid.OF_PEER):
                await stranger.begin(acceptor)
            assert stranger.codes(wire.OpenRefused) == []
        async with trio.open_nursery() as at_once:
            for stranger in crowd:
                for channel in stranger.begun(acceptor):
                    at_once.start_soon(stranger.agree, acceptor, channel)
        assert len(acceptor.service.book.actors) == unpaid.OF_ORIGIN
        assert acceptor.service.openings._theirs == {}
        assert set(crowd[-1].codes(wire.Error)) == {"too_many_openings"}
        alone = Stranger(99, "198.51.100.1")
        for _ in range(2):  # begun, agreed in part, and begun again
            for _ in range(unpaid.OF_PEER):
                await alone.begin(acceptor)
            for channel in alone.begun(acceptor)[:-1]:
                await alone.agree(acceptor, channel)
        mine = [actor for actor in acceptor.service.book.actors.values() if actor.channel.peer == alone.peer]
        assert len(mine) == unpaid.OF_PEER

    simulate(program, folder)


def test_i22_what_is_agreed_late_is_held_against_the_reserve_too(folder: Path):
    async def program(sim: Sim) -> None:
        acceptor = await sim.node("acceptor")
        reserve = acceptor.service.reserve
        crowd = [Stranger(number, f"203.0.113.{number}") for number in range(4)]
        for stranger in crowd:
            for _ in range(10):
                await stranger.begin(acceptor)
        enough = reserve.needed(5, channels=7, strangers=True)
        has = sim.chain.model.balance(COIN, "0x" + acceptor.key.address.hex())
        sim.chain.fund(acceptor.key.address, coin=enough - has)
        await trio.sleep(6)
        for stranger in crowd:
            for channel in stranger.begun(acceptor):
                await stranger.agree(acceptor, channel)
        assert len(acceptor.service.book.actors) == 7
        assert "insufficient_gas" in crowd[-1].codes(wire.Error)

    simulate(program, folder)


def test_a_handshake_that_newer_ones_displace_while_it_is_saved_ends_nothing(folder: Path):
    async def program(sim: Sim) -> None:
        acceptor = await sim.node("acceptor")
        openings = acceptor.service.openings
        first, late = Stranger(0, "192.0.2.1"), Stranger(1, "192.0.2.2")
        await first.begin(acceptor)
        (channel,) = first.begun(acceptor)
        crowd = [Stranger(2 + number, f"198.51.100.{number}") for number in range(64)]
        for number in range(unpaid.IN_ALL - 1):
            await crowd[number // unpaid.OF_PEER].begin(acceptor)
        assert len(openings._theirs) == unpaid.IN_ALL
        save = openings._save

        async def slowly(*what: object) -> None:
            await late.begin(acceptor)
            await save(*what)  # type: ignore[arg-type]

        openings._save = slowly  # type: ignore[assignment]
        await first.agree(acceptor, channel)
        assert first.begun(acceptor) == []
        assert late.begun(acceptor) != []
        assert channel in acceptor.service.book.actors

    simulate(program, folder)


def test_an_offer_to_close_together_gets_no_signature_where_nothing_was_paid_in(folder: Path):
    """Else a stranger has a channel that is signed in, for a few messages: kept for good and counted nowhere."""

    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        for _ in range(unpaid.OF_PEER):
            id_ = await words(opener, acceptor)
            actor = opener.service.book.actors[id_]
            while actor.channel.session is not Session.LIVE:
                await trio.sleep(0.1)
            await actor.ask(Leave(now=opener.service.world.chain_time, valid_for=600, draw=5))
            await trio.sleep(0.5)
        assert acceptor.service.store.rows("SELECT * FROM signed") == []
        assert not acceptor.service.lines.has_channel(opener.node_id)
        assert "too_many_openings" in await refused(opener, acceptor)
        await acceptor.until(lambda: not acceptor.service.book.actors)

    simulate(program, folder)


def test_what_we_are_closing_is_not_forgotten_with_our_bond_in_it(folder: Path, monkeypatch: pytest.MonkeyPatch):
    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        opened = await words(opener, acceptor)
        await down(opener)
        monkeypatch.setattr(unpaid, "LASTS", 10**6)
        await trio.sleep(200)
        monkeypatch.setattr(unpaid, "LASTS", 100)
        acceptor.service.openings._unpaid._next = 0  # the next look is in the turn that sends the close
        await acceptor.ask("close_channel", channel_id=opened, force=True, timeout=0)
        await acceptor.until(lambda: phase(acceptor, opened) is Phase.CLOSED, 2_000)
        name = "0x" + acceptor.key.address.hex()
        assert sim.chain.model.balance(COIN, name) + sim.chain.gas_of(acceptor.key.address) == 100 * ETHER

    simulate(program, folder)


@pytest.mark.parametrize("frozen", [False, True])
def test_we_match_no_more_than_the_opener_has_paid_in_and_nothing_in_a_frozen_channel(folder: Path, frozen: bool):
    async def program(sim: Sim) -> None:
        terms = TokenPolicy(match_deposit=Amount(1_000))
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor", policy=terms)
        opened = await words(opener, acceptor)
        if frozen:
            line = opener.service.lines.of(acceptor.node_id)
            assert line is not None
            line.send([wire.Error(channel_id=opened, code="protocol_error", text="so")])
            await acceptor.until(lambda: phase(acceptor, opened) is Phase.FROZEN)
        await opener.within(lambda service: service.openings.deposit(opened, Amount(7), "a little"))
        await acceptor.until(lambda: bool(acceptor.service.book.actors[opened].channel.told[Side.A]))
        await trio.sleep(30)
        held = sim.chain.model.channels[opened.hex()]
        assert (held.deposit_a, held.deposit_b) == (7, 0 if frozen else 7)

    simulate(program, folder)


@pytest.mark.parametrize("side", Side)
def test_deposits_without_the_agreed_memo_take_no_places_for_good(folder: Path, side: Side):
    """Be it that the stranger pays in for itself or, a present, for us."""

    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        opened = [await words(opener, acceptor) for _ in range(unpaid.OF_PEER)]
        for id_ in opened:
            channel = replace(opener.service.book.actors[id_].channel, we=side)
            await opener.within(
                lambda service, channel=channel: service.openings._deposit(channel, Amount(1), "bad", bytes(192))  # type: ignore[misc]
            )
        assert "too_many_openings" in await refused(opener, acceptor)
        await acceptor.until(lambda: not acceptor.service.book.actors)
        for id_ in opened:  # it has its own back
            await opener.ask("close_channel", channel_id=id_, force=True, timeout=0)
        await opener.until(lambda: all(phase(opener, id_) is Phase.CLOSED for id_ in opened), 3_000)
        assert sim.chain.model.balance("0x" + sim.chain.token.hex(), "manager") == 0

    simulate(program, folder)


def test_nothing_of_what_its_peer_told_stays_of_a_forgotten_channel(folder: Path):
    async def program(sim: Sim) -> None:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        opened = await words(opener, acceptor)
        gossip, line = acceptor.service.gossip, acceptor.service.lines.of(opener.node_id)
        assert line is not None
        terms = Policy(
            fee_base=Amount(0),
            fee_ppm=0,
            expiry_delta=acceptor.service.config.network.forward_delta,
            timestamp=acceptor.service.world.now,
        )
        await gossip.heard(line, announcing.update_of(opened, Side.A, terms, opener.service.node_key))
        assert len(gossip.known.private) == 1
        await acceptor.until(lambda: not acceptor.service.book.actors)
        await trio.sleep(40)
        assert gossip.known.private == {}
        kept = acceptor.service.store.rows("SELECT * FROM gossip")
        assert not [row for row in kept if any(bytes(opened) in value for value in row if isinstance(value, bytes))]

    simulate(program, folder)


def test_who_knows_a_large_graph_can_open_at_once(folder: Path):
    """What a stranger has to say is not held up by its own news, of which it is not asked before."""

    async def program(sim: Sim) -> tuple[float, int]:
        opener, acceptor = await sim.node("opener"), await sim.node("acceptor")
        await _learn(opener, 3_000)
        await opener.service.lines.connect(node_address(acceptor.uri))
        await trio.sleep(1)
        began = sim.time()
        assert await refused(opener, acceptor) == ""
        took = sim.time() - began
        paid = await opener.open(acceptor, 500)
        assert paid in acceptor.service.book.actors
        return took, sim.deaths

    took, _ = simulate(program, folder)
    assert took < 5  # simulated seconds


async def _learn(node: Node, count: int) -> None:
    """So many nodes, by signed announcements of theirs, in its store and its memory."""
    batch = Batch()
    now = node.service.world.now
    said = announcing.node_of(now, ("127.0.0.1:5",), "x" * 20, Key((7).to_bytes(32, "big")))
    for number in range(count):
        one = replace(said, node_id=Key((number + 1).to_bytes(32, "big")).public)
        batch.add("INSERT INTO gossip VALUES (?, ?, ?, ?)", 48, one.node_id, now, wire.encode(one))
    await node.service.store.commit(batch)
