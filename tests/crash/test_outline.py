"""A restored node whose tower holds a state with locks that the copy has never heard of, and whose peer is gone.

The tower keeps the state without its locks. The node cannot open it, but nothing older may be closed with.
"""

from __future__ import annotations

import trio

from channeld.base.units import ChannelId
from channeld.core.channel import Phase
from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.copies import down, keep, set_back, up
from tests.crash.enumerator import fresh_folder
from tests.crash.laws import signatures
from tests.crash.scenarios import line
from tests.crash.sim import TOKENS, Node, Sim, named_token, simulate
from tests.crash.tower import tower


def _held(node: Node, opened: ChannelId) -> int:
    """The version that the node's tower holds."""
    links = [one.links.get(opened) for one in node.service.towers._towers.values()]
    return max((link.state.held.version for link in links if link is not None and link.state.held), default=0)


def _mined(sim: Sim) -> list[str]:
    return [done.tx.name for block in sim.chain.blocks for done in block.mined if done.ok]


def test_a_copy_closes_with_what_its_tower_holds_though_it_does_not_know_the_locks() -> None:
    async def program(sim: Sim) -> tuple[list[int], int, str]:
        guard = await tower(sim)
        (payer, hub, payee), (left, right) = await line(sim, Actor, "payer", "hub", "payee")
        await hub.ask("tower_add", uri=guard.uri)
        await payer.transfer(left, [100], "before")
        await hub.until(lambda: int(hub.channel(left)["ours"]) == 100)
        kept = await keep(hub)
        await payer.until(lambda: payer.channel(left)["connected"])
        await hub.until(lambda: all(one["connected"] for one in (hub.channel(left), hub.channel(right))))
        sim.judge = lambda sender, to, message: (
            9_999.0 if sender == "payee" and isinstance(message, wire.FulfilLock) else 0.0
        )
        asked = await payee.invoice(70, "hangs", expiry=30)
        sim.nursery.start_soon(payer.pay, asked["invoice"])
        await hub.until(lambda: bool(hub.service.book.actors[left].channel.current.body.locks))
        await down(payee)
        await payer.transfer(left, [200], "guarded")
        await hub.until(lambda: int(hub.channel(left)["ours"]) == 300)
        newest = hub.service.book.actors[left].channel.current
        assert newest.body.locks
        await hub.until(lambda: _held(hub, left) == newest.version)
        await down(payer)
        await set_back(hub, kept)
        await up(hub)
        await hub.until(lambda: hub.service.book.actors[left].channel.outline is not None)
        shown = hub.channel(left)["detail"]
        await hub.ask("close_channel", channel_id=left, force=True, timeout=1)
        actors = hub.service.book.actors
        await hub.until(lambda: all(actors[one].channel.phase is Phase.SETTLED for one in (left, right)), 4_000)
        got = sim.chain.model.balance(named_token(), "0x" + hub.key.address.hex())
        said = hub.channel(left)["detail"]
        assert _mined(sim).count("challenge") == 0, "it closed with the newest at once, and beat no older one"
        assert "whose locks we do not know" in said
        assert "a tower holds version" in shown
        await up(payer)  # it knows the lock and takes it back after its expiry
        await hub.until(lambda: hub.channel(left)["state"] == "closed", 40_000)
        versions = [word.version for name, word in sim.chain.model.channels.items() if name == left.hex()]
        signatures(sim)
        return versions, got - TOKENS, "" if versions == [newest.version] else f"{newest.version}"

    with fresh_folder() as folder:
        versions, got, wrong = simulate(program, folder)
    assert not wrong, (versions, wrong)
    assert got == 300 - 70, "the other channel, too, was closed with its lock for the payee"


def test_a_copy_that_is_told_to_close_closes_with_what_its_tower_has_proven() -> None:
    """The state has no locks, so the tower's copy says all of it; the peer is gone."""

    async def program(sim: Sim) -> tuple[int, int]:
        guard = await tower(sim)
        (payer, payee), (opened,) = await line(sim, Actor, "payer", "payee")
        await payee.ask("tower_add", uri=guard.uri)
        await payer.transfer(opened, [100], "before")
        await payee.until(lambda: int(payee.channel(opened)["ours"]) == 100 and _held(payee, opened) > 0)
        kept = await keep(payee)
        await payer.until(lambda: payer.channel(opened)["connected"])
        await payer.transfer(opened, [200], "forgotten")
        await payee.until(lambda: int(payee.channel(opened)["ours"]) == 300)
        newest = payee.service.book.actors[opened].channel.current.version
        await payee.until(lambda: _held(payee, opened) == newest)
        await down(payer)
        await set_back(payee, kept)
        await up(payee)
        with trio.move_on_after(5):
            await payee.ask("close_channel", channel_id=opened, force=True, timeout=1)
        await payee.until(lambda: payee.service.book.actors[opened].channel.onchain is not None)
        await payee.until(lambda: payee.channel(opened)["state"] == "closed", 4_000)
        assert "challenge" not in _mined(sim), "it closed with the newest at once, and beat no older one"
        return int(sim.chain.model.channels[opened.hex()].version), newest

    with fresh_folder() as folder:
        closed, newest = simulate(program, folder)
    assert closed == newest
