"""A restored payee that has shown a preimage takes the lock, though its copy knows of no payment."""

from __future__ import annotations

from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.copies import keep, set_back, up
from tests.crash.enumerator import fresh_folder
from tests.crash.laws import signatures
from tests.crash.scenarios import line
from tests.crash.sim import TOKENS, Sim, named_token, simulate


def test_a_payee_that_was_set_back_takes_the_lock_whose_preimage_it_has_shown() -> None:
    """The hub has the preimage and its money from upstream, and says nothing: without a claim it keeps 70."""

    async def program(sim: Sim) -> tuple[int, list[str]]:
        (payer, hub, payee), (_left, right) = await line(sim, Actor, "payer", "hub", "payee")
        asked = await payee.invoice(70, "one")
        kept = await keep(payee)
        await hub.until(lambda: bool(hub.channel(right)["connected"]))
        shown: list[bytes] = []

        def judge(sender: str, to: str, message: wire.Message) -> float | None:
            if sender == "payee" and isinstance(message, wire.FulfilLock):
                shown.append(message.preimage)
                return 9_999.0
            return 0.0

        sim.judge = judge
        sim.nursery.start_soon(payer.pay, asked["invoice"])
        await hub.until(lambda: bool(shown))
        await set_back(payee, kept)
        await up(payee)
        await payee.until(lambda: payee.service.book.actors[right].channel.recovering)
        await payee.until(lambda: payee.channel(right)["state"] == "closed", 4_000)
        signatures(sim)
        mined = [done.tx.name for block in sim.chain.blocks for done in block.mined if done.ok]
        return sim.chain.model.balance(named_token(), "0x" + payee.key.address.hex()) - TOKENS, mined

    with fresh_folder() as folder:
        got, mined = simulate(program, folder)
    assert got == 70
    assert "register" in mined
