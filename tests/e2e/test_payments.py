"""Payments between real processes: three hops, both ends' books, and closing together."""

from __future__ import annotations

from channeld.cli.stage import Stage
from tests.e2e.people import DOLLAR, balances, invoice, knows_way, line_of, nodes, wallet


async def test_three_hops_and_every_fee(town: Stage) -> None:
    payer, _, _, payee = actors = await nodes(town, "payer", "left", "right", "payee")
    first, second, third = await line_of(town, actors, 100 * DOLLAR)
    await knows_way(payer, payee)
    before = [await balances(actor) for actor in actors]
    asked = await invoice(payee, 10 * DOLLAR, "three hops away")

    async with payer.client() as client:
        paid = await client.pay_invoice(invoice=asked["invoice"])

    assert (paid["state"], paid["hops"], paid["amount"]) == ("succeeded", 3, str(10 * DOLLAR))
    after = [await balances(actor) for actor in actors]
    fee_right = 10 * DOLLAR // 10_000
    fee_left = -(-(10 * DOLLAR + fee_right) // 10_000)
    assert int(paid["fee"]) == fee_left + fee_right
    assert after[0][first] == before[0][first] - 10 * DOLLAR - fee_left - fee_right
    assert after[1][first] + after[1][second] == before[1][first] + before[1][second] + fee_left
    assert after[2][second] + after[2][third] == before[2][second] + before[2][third] + fee_right
    assert after[3][third] == before[3][third] + 10 * DOLLAR
    async with payee.client() as client:
        told = await client.lookup_invoice(payment_hash=asked["payment_hash"])
    assert (told["state"], told["preimage"]) == ("paid", paid["preimage"])


async def test_closing_together_pays_both_out(town: Stage) -> None:
    payer, payee = await nodes(town, "payer", "payee")
    (channel,) = await line_of(town, (payer, payee), 50 * DOLLAR)
    async with payer.client() as client:
        sent = await client.send_transfers(channel_id=channel, transfers=[{"amount": 7 * DOLLAR}])
        assert sent["state"] == "succeeded"
    start = await wallet(payer), await wallet(payee)

    async with payee.client() as client:
        said = await client.close_channel(channel_id=channel)

    assert said["how"] == "cooperative"
    for actor in (payer, payee):
        await town.channel_state(actor, channel, "closed")
    assert (await wallet(payer), await wallet(payee)) == (start[0] + 43 * DOLLAR, start[1] + 7 * DOLLAR)
