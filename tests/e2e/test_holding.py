"""Hold invoices between real processes: held over the payee's death, settled and canceled by the command line."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client import ApiError
from tests.e2e.people import DOLLAR, balances, channel, knows_way, line_of, nodes
from tests.e2e.test_routes import knows_all

PREIMAGES = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
HASHES = [f"0x{hashlib.sha256(one).hexdigest()}" for one in PREIMAGES]


async def ask(payee: Actor, number: int, amount: int, **more: Any) -> str:
    async with payee.client() as client:
        made = await client.make_invoice(
            token="DemoUSD", amount=amount, payment_hash=HASHES[number], hold_time=600, **more
        )
    assert made["payment_hash"] == HASHES[number]
    return str(made["invoice"])


async def pay(payer: Actor, text: str, outcomes: list[str]) -> None:
    async with payer.client() as client:
        try:
            outcomes.append((await client.pay_invoice(invoice=text, timeout=100))["state"])
        except ApiError as fault:
            outcomes.append(fault.code)


async def becomes(payee: Actor, number: int, state: str) -> dict[str, Any]:
    with trio.fail_after(60):
        while True:
            async with payee.client() as client:
                found = dict(await client.lookup_invoice(payment_hash=HASHES[number]))
            if found["state"] == state:
                return found
            await trio.sleep(0.1)


@pytest.mark.timeout(240)
async def test_held_over_a_death_of_the_payee_then_settled_and_another_canceled(town: Stage) -> None:
    payer, hub, payee = actors = await nodes(town, "payer", "hub", "payee")
    first, second = await line_of(town, actors, 100 * DOLLAR)
    await knows_way(payer, payee)
    before = [await balances(actor) for actor in actors]
    outcomes: list[str] = []
    at = ("--data-dir", str(town.root / "payee"), "--json")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay, payer, await ask(payee, 0, 10 * DOLLAR), outcomes)
        held = await becomes(payee, 0, "held")
        assert (held["received"], held["preimage"]) == (str(10 * DOLLAR), None)
        await payee.kill()
        await payee.start()
        assert await becomes(payee, 0, "held") == held
        for actor, name in ((payer, first), (hub, second), (payee, second)):
            assert (await channel(actor, name))["locks"] == 1
        assert outcomes == []
        settled = await town.tell("invoice", "settle", f"0x{PREIMAGES[0].hex()}", *at)
        assert (settled["state"], settled["preimage"]) == ("paid", f"0x{PREIMAGES[0].hex()}")
    assert outcomes == ["succeeded"]
    async with payer.client() as client:
        assert (await client.lookup_payment(id=HASHES[0]))["preimage"] == f"0x{PREIMAGES[0].hex()}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay, payer, await ask(payee, 1, 5 * DOLLAR), outcomes)
        await becomes(payee, 1, "held")
        canceled = await town.tell("invoice", "cancel", HASHES[1], *at)
        assert canceled["state"] == "canceled"
    assert outcomes == ["succeeded", "payment_rejected"]
    async with payee.client() as client:
        told = [one["type"] for one in (await client.events(since=0))["events"]]
    assert told.count("invoice_held") == 2 and told.count("invoice_canceled") == 1
    fee = 10 * DOLLAR // 10_000
    after = [await balances(actor) for actor in actors]
    assert after[0][first] == before[0][first] - 10 * DOLLAR - fee
    assert after[2][second] == before[2][second] + 10 * DOLLAR
    assert sum(after[1].values()) == sum(before[1].values()) + fee


@pytest.mark.timeout(240)
async def test_a_payment_in_parts_is_held_as_one_and_given_back_in_time_by_itself(town: Stage) -> None:
    """No channel closes for it: the payee gives both parts back while there is time to."""
    payer, left, right, payee = await nodes(town, "payer", "left", "right", "payee")
    for hub in (left, right):
        await town.open(payer, hub, 100 * DOLLAR)
        await town.open(hub, payee, 40 * DOLLAR)
    await knows_way(payer, payee)
    await knows_all(town, payer, 4)
    async with payee.client() as client:
        made = await client.make_invoice(
            token="DemoUSD", amount=50 * DOLLAR, payment_hash=HASHES[2], hold_time=5, description="too late"
        )
    outcomes: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay, payer, made["invoice"], outcomes)
        held = await becomes(payee, 2, "held")
        assert held["received"] == str(50 * DOLLAR) and held["settle_by"]
        async with payee.client() as client:
            assert sum(one["locks"] for one in (await client.list_channels())["channels"]) > 1
        await becomes(payee, 2, "canceled")
    assert outcomes == ["payment_timeout"]
    for actor in (payer, left, right, payee):
        async with actor.client() as client:
            assert {one["state"] for one in (await client.list_channels())["channels"]} == {"open"}
