"""Payments between real processes that need more than one way: in parts, round a hop that fails, from far away."""

from __future__ import annotations

import os
import signal
import sqlite3
from typing import Any

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client.errors import ApiError
from tests.e2e.people import DOLLAR, balances, invoice, knows_way, line_of, nodes

STREETS = ("left", "middle", "right")


async def streets(town: Stage, *, wide: str = "") -> tuple[Actor, list[Actor], Actor, list[str], list[str]]:
    """A payer, three hubs and a payee; 100 dollars from the payer to each hub, 40 from each on, 200 from `wide`.

    A hub lets one neighbour bind half of that.
    """
    payer, *hubs, payee = await nodes(town, "payer", *STREETS, "payee")
    firsts, seconds = [], []
    for hub in hubs:
        firsts.append(await town.open(payer, hub, 100 * DOLLAR))
        seconds.append(await town.open(hub, payee, (200 if hub.name == wide else 40) * DOLLAR))
    await knows_way(payer, payee)
    await knows_all(town, payer, 6)
    return payer, hubs, payee, firsts, seconds


async def knows_all(town: Stage, actor: Actor, count: int) -> None:
    """Wait until gossip has told of so many channels, both sides of each."""
    with trio.fail_after(30):
        while len(rows(town, actor, "SELECT 1 FROM gossip WHERE kind = 50")) < 2 * count:
            await trio.sleep(0.2)


def rows(town: Stage, actor: Actor, sql: str) -> list[tuple[Any, ...]]:
    database = sqlite3.connect(f"file:{town.root / actor.name / 'node.sqlite3'}?mode=ro", uri=True)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


async def ended(town: Stage, actor: Actor) -> None:
    """Wait until every lock of the actor's payments has had its outcome: the first preimage is told before that."""
    with trio.fail_after(30):
        while rows(town, actor, "SELECT 1 FROM attempts WHERE state = 'offered'"):
            await trio.sleep(0.1)


async def pay(payer: Actor, asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    async with payer.client() as client:
        return dict(await client.pay_invoice(invoice=asked["invoice"], **more))


async def test_a_payment_that_only_arrives_in_three_parts(town: Stage) -> None:
    payer, _, payee, firsts, seconds = await streets(town)
    await ended(town, payer)
    before = [await balances(actor) for actor in (payer, payee)]
    asked = await invoice(payee, 50 * DOLLAR, "more than two streets carry")

    async with payer.client() as client:
        planned = await client.find_route(invoice=asked["invoice"])
    assert planned["amount"] == str(50 * DOLLAR) and len(planned["parts"]) >= 2
    assert sum(int(part["amount"]) for part in planned["parts"]) == 50 * DOLLAR
    assert all(part["hops"][-1]["node_id"] == payee.node_id for part in planned["parts"])
    assert 0 < planned["chance_ppm"] < 1_000_000
    told = await town.tell("route", asked["invoice"], "--data-dir", str(town.root / "payer"))
    assert told == planned
    assert await balances(payer) == before[0], "nothing is paid by asking"

    paid = await pay(payer, asked)

    assert (paid["state"], paid["hops"], paid["amount"]) == ("succeeded", 2, str(50 * DOLLAR))
    await ended(town, payer)
    after = [await balances(actor) for actor in (payer, payee)]
    assert len(rows(town, payer, "SELECT 1 FROM attempts WHERE state = 'fulfilled'")) >= 3 + 1  # and the first try
    sent = [before[0][one] - after[0][one] for one in firsts]
    got = [after[1][one] - before[1][one] for one in seconds]
    assert sum(got) == 50 * DOLLAR and sum(sent) == 50 * DOLLAR + int(paid["fee"])
    assert all(got) and max(got) <= 20 * DOLLAR
    async with payee.client() as client:
        told = await client.lookup_invoice(payment_hash=asked["payment_hash"])
    assert (told["state"], told["preimage"]) == ("paid", paid["preimage"])


async def test_a_payment_goes_round_a_hop_that_fails_and_learns(town: Stage) -> None:
    """The wide street is the likeliest, until it turns out that its money is on the other side."""
    payer, hubs, payee, _, seconds = await streets(town, wide="middle")
    async with hubs[1].client() as client:
        await client.send_transfers(channel_id=seconds[1], transfers=[{"amount": 190 * DOLLAR}])
    before = len(rows(town, payer, "SELECT 1 FROM attempts"))

    paid = await pay(payer, await invoice(payee, 15 * DOLLAR))

    assert paid["state"] == "succeeded"
    await ended(town, payer)
    tried = [state for (state,) in rows(town, payer, "SELECT state FROM attempts")[before:]]
    assert (tried[0], {*tried[1:]}) == ("returned", {"fulfilled"})
    again = await pay(payer, await invoice(payee, 12 * DOLLAR))
    await ended(town, payer)
    assert again["state"] == "succeeded"
    later = rows(town, payer, "SELECT state FROM attempts")[before + len(tried) :]
    assert {state for (state,) in later} == {"fulfilled"}, "it has learned"


async def test_a_node_that_joins_late_pays_across_five_hops(town: Stage) -> None:
    actors = await nodes(town, "first", "second", "third", "fourth", "payee")
    await line_of(town, actors, 50 * DOLLAR)
    await knows_way(actors[0], actors[-1])
    (late,) = await nodes(town, "late")
    await town.open(late, actors[0], 50 * DOLLAR)
    await knows_way(late, actors[-1])

    paid = await pay(late, await invoice(actors[-1], 5 * DOLLAR))

    assert (paid["state"], paid["hops"]) == ("succeeded", 5)
    assert 0 < int(paid["fee"]) < 10_000


@pytest.mark.timeout(240)
async def test_all_or_nothing_when_the_payee_dies_after_the_second_part(town: Stage) -> None:
    """It comes back with two parts on disk. Whether the third still comes in time is chance; none is taken alone."""
    payer, hubs, payee, _, _ = await streets(town)
    await ended(town, payer)
    before = [await balances(actor) for actor in (payer, *hubs, payee)]
    asked = await invoice(payee, 50 * DOLLAR, "all or nothing")
    os.kill(hubs[2].pid, signal.SIGSTOP)
    told: list[str] = []

    async def call() -> None:
        try:
            await pay(payer, asked, timeout=20)
        except ApiError as fault:
            told.append(fault.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with trio.fail_after(20):
            while len(rows(town, payee, "SELECT 1 FROM arrivals")) < 2:
                await trio.sleep(0.05)
        await payee.kill()
        os.kill(hubs[2].pid, signal.SIGCONT)
        await payee.start()
        with trio.fail_after(150):
            while (state := rows(town, payer, "SELECT state FROM payments ORDER BY n DESC LIMIT 1")) == [("pending",)]:
                await trio.sleep(0.5)
    await ended(town, payer)
    after = [await balances(actor) for actor in (payer, *hubs, payee)]
    ((invoiced,),) = rows(town, payee, "SELECT state FROM invoices ORDER BY n DESC LIMIT 1")
    got = sum(after[-1].values()) - sum(before[-1].values())
    if state == [("failed",)]:
        assert set(told) <= {"payee_offline", "hop_short", "payment_timeout", "payment_failed"}
        assert (after, invoiced, got) == (before, "open", 0), "nobody has paid anything"
    else:  # the third part came while the payee still kept the others
        ((fee,),) = rows(town, payer, "SELECT fee FROM payments ORDER BY n DESC LIMIT 1")
        assert (state, invoiced, got) == ([("succeeded",)], "paid", 50 * DOLLAR)
        paid = sum(before[0].values()) - sum(after[0].values())
        assert paid == 50 * DOLLAR + int.from_bytes(fee, "big")
