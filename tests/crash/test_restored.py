"""Nodes that come back with old files and nobody's word for it: what was pending ends, and nothing is claimed."""

from __future__ import annotations

import trio

from channeld.core.channel import Phase
from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.copies import keep, set_back, up
from tests.crash.enumerator import fresh_folder
from tests.crash.laws import signatures
from tests.crash.scenarios import line, quiet
from tests.crash.sim import TOKENS, Sim, named_token, simulate


def test_a_payment_that_was_decided_after_the_copy_is_unknown_and_not_paid_again() -> None:
    """I28: its lock is in neither the copy's last word nor the peer's. It was pending for ever (cluster, seed 24)."""

    async def program(sim: Sim) -> tuple[str, str, str, str]:
        (payer, _hub, payee), (left, _right) = await line(sim, Actor, "payer", "hub", "payee")
        sim.judge = lambda sender, to, message: (
            20.0 if sender == "payee" and isinstance(message, wire.FulfilLock) else 0.0
        )
        asked = await payee.invoice(70, "one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(payer.pay, asked["invoice"])
            await payer.until(lambda: bool(payer.service.book.actors[left].channel.current.body.locks))
            kept = await keep(payer)
            await payer.until(lambda: not payer.service.book.actors[left].channel.newest_body.locks, 400)
        await set_back(payer, kept)
        await up(payer)
        await payer.until(lambda: payer.service.book.actors[left].channel.phase is not Phase.OPEN)
        await payer.until(lambda: not payer.service.store.rows("SELECT 1 FROM payments WHERE state = 'pending'"))
        again = await payer.pay(asked["invoice"])
        ((state,),) = payer.service.store.rows("SELECT state FROM payments")
        ((attempt,),) = payer.service.store.rows("SELECT state FROM attempts")
        ((invoice,),) = payee.service.store.rows("SELECT state FROM invoices")
        signatures(sim)
        return state, again, attempt, invoice

    with fresh_folder() as folder:
        assert simulate(program, folder) == ("unknown", "payment_unknown", "unknown", "paid")


def test_a_restored_channel_is_closed_together_by_the_newest_balance() -> None:
    """The peer proves what was forgotten; no close alone, no challenge: one cooperate pays by it."""

    async def program(sim: Sim) -> tuple[set[str], int, list[str]]:
        (payer, payee), (opened,) = await line(sim, Actor, "payer", "payee")
        await payer.transfer(opened, [100], "before")
        await quiet((payer, payee))
        kept = await keep(payer)
        await payer.until(lambda: payer.channel(opened)["connected"])
        await payer.transfer(opened, [200], "forgotten")
        await payee.until(lambda: int(payee.channel(opened)["ours"]) == 300)
        await quiet((payer, payee))
        await set_back(payer, kept)
        await up(payer)
        await payer.until(lambda: payer.service.book.actors[opened].channel.recovering)
        told = await payer.ask("close_channel", channel_id=opened, force=False, timeout=30)
        for node in (payer, payee):
            await node.until(lambda node=node: node.channel(opened)["state"] == "closed")  # type: ignore[misc]
        mined = {done.tx.name for block in sim.chain.blocks for done in block.mined if done.ok}
        signatures(sim)
        got = sim.chain.model.balance(named_token(), "0x" + payee.key.address.hex()) - TOKENS
        return mined & {"close", "challenge", "cooperate"}, got, [told["how"]]

    with fresh_folder() as folder:
        assert simulate(program, folder) == ({"cooperate"}, 300, ["cooperative"])
