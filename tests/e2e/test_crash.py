"""`kill -9` of the hub with hundreds of locks pending, at seeded moments: no payment has two outcomes."""

from __future__ import annotations

import os
import random
import signal
from typing import Any

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client import ApiError
from tests.e2e.people import DOLLAR, balances, channel, knows_way, line_of, nodes

PAYMENTS = 220
SEED = 20


@pytest.mark.timeout(400)
async def test_the_hub_dies_five_times_with_two_hundred_locks_pending(town: Stage) -> None:
    """R8, I28: each payment ends the same at both ends, and the sums are unchanged."""
    payer, hub, payee = actors = await nodes(town, "payer", "hub", "payee")
    left, right = await line_of(town, actors, 500 * DOLLAR)
    await knows_way(payer, payee)
    start = await _sum(actors)
    chance = random.Random(SEED)
    for moment in range(5):
        invoices = await _invoices(payee, PAYMENTS)
        os.kill(payee.pid, signal.SIGSTOP)  # nobody fulfils: the locks pile up at the hub
        outcomes: dict[str, str] = {}
        async with payer.client() as client, trio.open_nursery() as nursery:
            for one in invoices:
                nursery.start_soon(_pay, client, one["invoice"], one["payment_hash"], outcomes)
            await _pending(hub, left, 200)
            if moment % 2:  # every other time in the middle of the wave of fulfils
                assert (await channel(hub, left))["locks"] >= 200
                os.kill(payee.pid, signal.SIGCONT)
                await trio.sleep(chance.uniform(0.0, 0.05))
                await hub.kill()
            else:
                await trio.sleep(chance.uniform(0.0, 0.3))
                assert (await channel(hub, left))["locks"] >= 200
                await hub.kill()
                os.kill(payee.pid, signal.SIGCONT)
            await hub.start()
        await _same_outcomes(payer, payee, [one["payment_hash"] for one in invoices], outcomes)
        await _quiet(actors)
        assert await _sum(actors) == start, "money came or went"
    assert (await channel(payer, left))["state"] == (await channel(payee, right))["state"] == "open"


async def _invoices(payee: Actor, count: int) -> list[dict[str, str]]:
    async with payee.client() as client:
        return [dict(await client.make_invoice(token="DemoUSD", amount=1_000 + n)) for n in range(count)]


async def _pay(client: Any, text: str, name: str, outcomes: dict[str, str]) -> None:
    try:
        outcomes[name] = (await client.pay_invoice(invoice=text, timeout=60))["state"]
    except ApiError as fault:
        outcomes[name] = fault.code


async def _pending(hub: Actor, opened: str, least: int) -> None:
    with trio.fail_after(60):
        while (await channel(hub, opened))["locks"] < least:
            await trio.sleep(0.1)


async def _same_outcomes(payer: Actor, payee: Actor, hashes: list[str], outcomes: dict[str, str]) -> None:
    async with payer.client() as paying, payee.client() as paid:
        for name in hashes:
            ours = (await paying.lookup_payment(id=name))["state"]
            theirs = (await paid.lookup_invoice(payment_hash=name))["state"]
            assert ours in ("succeeded", "failed"), f"{name} has no outcome: {ours}, told {outcomes.get(name)}"
            assert (ours == "succeeded") == (theirs == "paid"), f"{name}: payer {ours}, payee {theirs}"
            assert (outcomes[name] == "succeeded") == (ours == "succeeded")


async def _quiet(actors: list[Actor]) -> None:
    """Wait until no lock is pending anywhere, and every line stands again."""
    with trio.fail_after(60):
        for actor in actors:
            for opened in await balances(actor):
                while (shown := await channel(actor, opened))["locks"] or not shown["connected"]:
                    await trio.sleep(0.1)


async def _sum(actors: list[Actor]) -> int:
    return sum([sum((await balances(actor)).values()) for actor in actors])
