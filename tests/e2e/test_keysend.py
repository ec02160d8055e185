"""Payments without an invoice between real processes: over a hub, by the command line, once under their key."""

from __future__ import annotations

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client import ApiError
from tests.e2e.people import DOLLAR, balances, knows_way, line_of, nodes


async def who_takes_it(town: Stage) -> Actor:
    payee = await town.node("payee", start=False)
    path = town.root / "payee" / "config.toml"
    text = path.read_text(encoding="utf-8")
    assert "[payments]\n" in text
    path.write_text(text.replace("[payments]\n", "[payments]\naccept_keysend = true\n"), encoding="utf-8")
    await payee.start()
    await town.fund(payee.address, tokens=1_000 * DOLLAR)
    return payee


@pytest.mark.timeout(240)
async def test_over_a_hub_to_who_takes_it_once_under_a_key_across_a_death(town: Stage) -> None:
    payer, hub = await nodes(town, "payer", "hub")
    payee = await who_takes_it(town)
    first, second = await line_of(town, (payer, hub, payee), 100 * DOLLAR)
    await knows_way(payer, payee)
    before = [await balances(actor) for actor in (payer, hub, payee)]
    words = ("keysend", payee.node_id, "10DemoUSD", "--idempotency-key", "once")
    at = ("--data-dir", str(town.root / "payer"), "--json")

    paid = await town.tell(*words, *at)
    await payer.kill()
    await payer.start()
    again = await town.tell(*words, *at)

    assert (paid["state"], paid["kind"], paid["hops"]) == ("succeeded", "keysend", 2)
    assert again == paid
    after = [await balances(actor) for actor in (payer, hub, payee)]
    fee = 10 * DOLLAR // 10_000
    assert after[0][first] == before[0][first] - 10 * DOLLAR - fee
    assert sum(after[1].values()) == sum(before[1].values()) + fee
    assert after[2][second] == before[2][second] + 10 * DOLLAR
    async with payee.client() as client:
        told = await client.lookup_invoice(payment_hash=paid["id"])
        listed = (await client.list_payments(limit=1))["payments"][0]
        happened = [one["data"].get("payment_hash") for one in (await client.events(since=0))["events"]]
    assert (told["state"], told["keysend"], told["preimage"]) == ("paid", True, paid["preimage"])
    assert (listed["kind"], listed["direction"], listed["amount"]) == ("keysend", "in", str(10 * DOLLAR))
    assert happened.count(paid["id"]) == 1

    async with payer.client() as client:
        with pytest.raises(ApiError) as refused, trio.fail_after(60):  # the hub takes none
            await client.pay_keysend(node_id=hub.node_id, token="DemoUSD", amount=DOLLAR)
    assert refused.value.code == "payment_rejected"
    assert [await balances(actor) for actor in (payer, hub, payee)] == after
