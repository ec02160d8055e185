"""Scenarios of payments that are held, and of one without an invoice; `scenarios` plays and judges them."""

from __future__ import annotations

from contextlib import suppress

import trio

from channeld.base.errors import Refused
from channeld.base.keys import keccak, sha256
from channeld.node.loop import Actor
from tests.crash.played import Played, line, quiet
from tests.crash.sim import Node, Sim, Unlawful


async def held(sim: Sim, actor: type[Actor]) -> Played:
    """Two payments of which the payee knows the hash only: one is settled, one canceled, each once it is held."""
    (payer, hub, payee), _ = await line(sim, actor, "payer", "hub", "payee")
    sim.watching = True
    for number, preimage in enumerate((keccak(b"settled"), keccak(b"canceled"))):
        hash_ = sha256(preimage)
        asked = await payee.invoice(70, f"held {number}", payment_hash=hash_)
        outcome: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_told, payer, asked["invoice"], outcome)
            while not outcome and (await payee.ask("lookup_invoice", payment_hash=hash_))["state"] != "held":
                await trio.sleep(0.25)
            if not outcome:
                call = {"preimage": preimage} if number == 0 else {"payment_hash": hash_}
                told = await payee.ask("cancel_invoice" if number else "settle_invoice", **call)
                if told["state"] != ("canceled" if number else "paid"):
                    raise Unlawful(f"it was settled or canceled, and is {told['state']}")
        if number and outcome == ["succeeded"]:
            raise Unlawful("what was canceled is paid")
    await quiet((payer, hub, payee))
    return Played(honest=(payer, hub, payee))


async def _told(payer: Node, text: str, outcome: list[str]) -> None:
    outcome.append(await payer.pay(text))


async def keysend(sim: Sim, actor: type[Actor]) -> Played:
    """A payment without an invoice, asked for again under its key until there is an answer."""
    (payer, hub, payee), _ = await line(sim, actor, "payer", "hub", "payee", accept_keysend=True)
    sim.watching = True
    call = {"node_id": payee.node_id, "token": "DemoUSD", "amount": 70, "max_fee": None, "timeout": 120}
    with suppress(Refused):  # it may fail, and nothing is paid then
        for _ in range(2):
            told = await payer.ask("pay_keysend", **call, idempotency_key="once")
            if told["state"] != "succeeded":
                raise Unlawful(f"a keysend is told to be {told['state']}")
    await quiet((payer, hub, payee))
    for node, table in ((payer, "payments"), (payee, "invoices")):
        if len((await node.ready()).store.rows(f"SELECT hash FROM {table}")) > 1:
            raise Unlawful(f"one key has paid twice, say the {table} of the {node.name}")
    return Played(honest=(payer, hub, payee))


async def held_on_chain(sim: Sim, actor: type[Actor]) -> Played:
    """The payee's channel closes while it holds two payments: one is settled, through the registry, one expires."""
    (payer, hub, payee), (_left, right) = await line(sim, actor, "payer", "hub", "payee")
    preimages = keccak(b"settled"), keccak(b"expires")
    sim.watching = True
    async with trio.open_nursery() as nursery:
        for number, preimage in enumerate(preimages):
            asked = await payee.invoice(70, f"held {number}", payment_hash=sha256(preimage), hold_time=120)
            nursery.start_soon(payer.pay, asked["invoice"], 30)
        with trio.move_on_after(25):  # a death may give one back before
            for preimage in preimages:
                while (await payee.ask("lookup_invoice", payment_hash=sha256(preimage)))["state"] != "held":
                    await trio.sleep(0.25)
        await payee.ask("close_channel", channel_id=right, force=True, timeout=0)
        with suppress(Refused):  # it is not held
            await payee.ask("settle_invoice", preimage=preimages[0])
    for node in (payee, hub):
        await node.until(lambda node=node: node.channel(right)["state"] == "closed")  # type: ignore[misc]
    await payer.until(lambda: not payer.service.store.rows("SELECT 1 FROM payments WHERE state = 'pending'"))
    states = {
        number: (await payee.ask("lookup_invoice", payment_hash=sha256(preimage)))["state"]
        for number, preimage in enumerate(preimages)
    }
    if states[1] == "paid" or (states[0] == "held" or states[1] == "held"):
        raise Unlawful(f"after the channel's end the invoices are {states}")
    return Played(honest=(payer, hub, payee), wounded=True)
