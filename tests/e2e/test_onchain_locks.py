"""A channel closes with a lock pending: the receiver registers the secret, and every forwarder is made whole."""

from __future__ import annotations

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client import ApiError
from tests.e2e.link import link
from tests.e2e.people import DOLLAR, balances, channel, invoice, knows_way, line_of, nodes, wallet


@pytest.mark.timeout(240)
async def test_r17_r18_the_receiver_registers_and_every_forwarder_is_made_whole(town: Stage) -> None:
    """The last forwarder hears nothing from the payee, who closes alone with the lock in its newest state."""
    payer, left, right, payee = actors = await nodes(town, "payer", "left", "right", "payee")
    async with link(int(payee.ready["listen"].rpartition(":")[2])) as wire:
        payee.ready["listen"] = f"127.0.0.1:{wire.port}"
        first, second, third = await line_of(town, actors, 100 * DOLLAR, period=12)
        await knows_way(payer, payee)
        before = [await balances(actor) for actor in actors]
        start = [await wallet(actor) for actor in actors]
        asked = await invoice(payee, 10 * DOLLAR, "by way of the chain")
        outcome: dict[str, str] = {}
        async with trio.open_nursery() as nursery:
            wire.mute = True
            nursery.start_soon(_pay, payer, asked["invoice"], outcome)
            with trio.fail_after(30):
                while (await _state(payee, asked["payment_hash"])) != "paid":
                    await trio.sleep(0.1)
            assert (await channel(payee, third))["locks"] == 1, "the lock is in the payee's newest state"
            async with payee.client() as client:
                assert (await client.close_channel(channel_id=third, force=True))["how"] == "unilateral"
            with trio.fail_after(60):
                while (await channel(left, second))["locks"] or (await channel(payer, first))["locks"]:
                    await trio.sleep(0.2)
        assert outcome["state"] == "succeeded"
        for actor in (right, payee):
            await town.channel_state(actor, third, "closed", patience=90)
    after, end = [await balances(actor) for actor in actors], [await wallet(actor) for actor in actors]
    fee_right = 10 * DOLLAR // 10_000
    fee_left = -(-(10 * DOLLAR + fee_right) // 10_000)
    assert after[0][first] == before[0][first] - 10 * DOLLAR - fee_right - fee_left
    assert sum(after[1].values()) == sum(before[1].values()) + fee_left
    assert after[2][second] == before[2][second] + 10 * DOLLAR + fee_right
    assert end[2] - start[2] == before[2][third] - 10 * DOLLAR
    assert end[3] - start[3] == before[3][third] + 10 * DOLLAR


async def _pay(payer: Actor, text: str, outcome: dict[str, str]) -> None:
    async with payer.client() as client:
        try:
            outcome["state"] = (await client.pay_invoice(invoice=text, timeout=100))["state"]
        except ApiError as fault:
            outcome["state"] = fault.code


async def _state(actor: Actor, payment_hash: str) -> str:
    async with actor.client() as client:
        return str((await client.lookup_invoice(payment_hash=payment_hash))["state"])
