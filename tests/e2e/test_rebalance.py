"""Between real processes: money moved from one channel to another round the network, and locks sent only to learn."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client.errors import ApiError, Unreachable
from tests.e2e.people import DOLLAR, balances, knows_way, nodes
from tests.e2e.test_routes import ended, knows_all, rows


async def triangle(town: Stage, *, probing: bool = False) -> tuple[list[Actor], list[str]]:
    """Three nodes and three channels of 100 dollars, each opened from the left: owner, left, right, owner."""
    owner, left, right = await nodes(town, "owner", "left", "right")
    if probing:
        await owner.stop()
        settings = town.root / "owner" / "config.toml"
        settings.write_text(settings.read_text().replace("[payments]\n", "[payments]\nprobing = true\n"))
        await owner.start()
    pairs = ((owner, left), (left, right), (right, owner))
    opened = [await town.open(one, other, 100 * DOLLAR) for one, other in pairs]
    await knows_way(owner, right)
    await knows_all(town, owner, 3)
    await ended(town, owner)
    return [owner, left, right], opened


async def rebalance(owner: Actor, out: str, into: str, amount: int, **more: Any) -> dict[str, Any]:
    async with owner.client() as client:
        return dict(await client.rebalance(from_channel=out, to_channel=into, amount=amount, **more))


async def refused(owner: Actor, out: str, into: str, amount: int, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as told:
        await rebalance(owner, out, into, amount, **more)
    return told.value


async def listed(actor: Actor) -> list[dict[str, Any]]:
    async with actor.client() as client:
        return [dict(one) for one in (await client.list_payments())["payments"]]


async def told_since(actor: Actor, cursor: int) -> list[str]:
    async with actor.client() as client:
        return [one["type"] for one in (await client.events(since=cursor))["events"]]


async def cursor_of(actor: Actor) -> int:
    async with actor.client() as client:
        return int((await client.events(since=0, limit=1_000))["cursor"])


async def test_money_moves_from_one_channel_to_the_other(town: Stage) -> None:
    actors, (out, middle, into) = await triangle(town)
    owner = actors[0]
    before, shown, heard = [await balances(one) for one in actors], await listed(owner), await cursor_of(owner)

    paid = await rebalance(owner, out, into, 20 * DOLLAR, idempotency_key="once")

    fee = int(paid["fee"])
    assert (paid["state"], paid["kind"], paid["direction"]) == ("succeeded", "rebalance", "self")
    assert (paid["amount"], paid["hops"], fee > 0) == (str(20 * DOLLAR), 3, True)
    assert (paid["from_channel"], paid["to_channel"]) == (out, into)
    assert await rebalance(owner, out, into, 20 * DOLLAR, idempotency_key="once") == paid, "it is done once"
    await ended(town, owner)
    after = [await balances(one) for one in actors]
    assert after[0] == before[0] | {out: before[0][out] - 20 * DOLLAR - fee, into: before[0][into] + 20 * DOLLAR}
    earned = [sum(now.values()) - sum(was.values()) for now, was in zip(after, before, strict=True)]
    assert earned[0] == -fee and earned[1] + earned[2] == fee and min(earned[1:]) > 0
    assert after[1][middle] < before[1][middle], "it went round"
    assert await listed(owner) == [paid, *shown], "one payment, that nobody is said to have made to us"
    assert await told_since(owner, heard) == ["payment_sent"]
    async with owner.client() as client:
        assert (await client.list_invoices())["invoices"] == []

    home = ("--data-dir", str(town.root / "owner"))
    back = await town.tell("rebalance", into[:20], out[:20], "5DemoUSD", *home)
    assert back["state"] == "succeeded"
    assert len(await listed(owner)) == 2 + len(shown)
    assert sum((await balances(owner)).values()) == sum(after[0].values()) - int(back["fee"])


async def test_a_rebalance_that_cannot_be_says_why_and_costs_nothing(town: Stage) -> None:
    (owner, left, right), (out, middle, into) = await triangle(town)
    assert (await refused(owner, out, out, DOLLAR)).code == "bad_circle"
    assert (await refused(owner, out, "0x" + "07" * 32, DOLLAR)).code == "unknown_channel"
    told = await refused(owner, out, into, DOLLAR, max_fee=0)
    assert told.code == "fee_budget" and "--max-fee" in told.hint
    assert (await refused(owner, out, into, 100 * DOLLAR)).code == "insufficient_balance"
    told = await refused(owner, into, out, 20 * DOLLAR)  # all of it is on the other side
    assert told.code == "insufficient_balance" and into in told.message
    async with right.client() as client:
        await client.send_transfers(channel_id=into, transfers=[{"amount": 50 * DOLLAR}])
    before = await balances(owner)
    told = await refused(owner, into, out, 40 * DOLLAR, max_fee=DOLLAR)
    assert told.code == "hop_short" and out in told.message
    async with left.client() as client:  # what lies between is short now, and only trying tells
        await client.send_transfers(channel_id=middle, transfers=[{"amount": 95 * DOLLAR}])
    told = await refused(owner, out, into, 20 * DOLLAR, timeout=10)
    assert told.code == "hop_short" and "hop 1 of 3" in told.message and told.hint
    await left.stop()
    with trio.fail_after(20):
        while (told := await refused(owner, out, into, DOLLAR)).code != "unreachable":
            await trio.sleep(0.2)
    assert out in told.message

    await ended(town, owner)
    assert await balances(owner) == before
    assert {one["state"] for one in await listed(owner) if one["kind"] == "rebalance"} == {"failed"}


async def test_two_channels_with_one_peer(town: Stage) -> None:
    owner, hub = await nodes(town, "owner", "hub")
    out = await town.open(owner, hub, 50 * DOLLAR)
    into = await town.open(hub, owner, 50 * DOLLAR, public=False)
    before = [await balances(one) for one in (owner, hub)]
    paid: dict[str, Any] = {}
    with trio.fail_after(30):
        while not paid:
            try:
                paid = await rebalance(owner, out, into, 10 * DOLLAR)
            except ApiError as fault:
                if fault.code != "no_route":  # until the hub has told what it takes there
                    raise
                await trio.sleep(0.2)
    await ended(town, owner)
    after = [await balances(one) for one in (owner, hub)]
    fee = int(paid["fee"])
    assert (paid["hops"], fee) == (2, 10 * DOLLAR // 10_000)
    assert after[0] == before[0] | {out: before[0][out] - 10 * DOLLAR - fee, into: before[0][into] + 10 * DOLLAR}
    assert sum(after[1].values()) == sum(before[1].values()) + fee


@pytest.mark.timeout(240)
async def test_a_crash_on_the_way_round_leaves_both_or_none(town: Stage) -> None:
    (owner, _, right), (out, _, into) = await triangle(town)
    before = await balances(owner)
    os.kill(right.pid, signal.SIGSTOP)

    async def call() -> None:
        with suppress(ApiError, Unreachable):  # the daemon goes before it answers
            await rebalance(owner, out, into, 20 * DOLLAR)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with trio.fail_after(20):
            while not rows(town, owner, "SELECT 1 FROM attempts WHERE state = 'offered'"):
                await trio.sleep(0.02)
        await trio.sleep(0.3)
        await owner.kill()
        nursery.cancel_scope.cancel()
    os.kill(right.pid, signal.SIGCONT)
    await owner.start()
    with trio.fail_after(120):
        while rows(town, owner, "SELECT 1 FROM payments WHERE state = 'pending'"):
            await trio.sleep(0.3)
    await ended(town, owner)
    after = await balances(owner)
    (told,) = [one for one in await listed(owner) if one["kind"] == "rebalance"]
    fee = int(told["fee"])
    done = before | {out: before[out] - 20 * DOLLAR - fee, into: before[into] + 20 * DOLLAR}
    assert (told["from_channel"], told["to_channel"]) == (out, into)
    assert after == (done if told["state"] == "succeeded" else before)


async def test_a_probe_learns_and_pays_nothing(town: Stage) -> None:
    (owner, left, right), (_, middle, _) = await triangle(town, probing=True)
    before = [await balances(one) for one in (owner, left, right)]
    shown, heard, paid = await listed(owner), await cursor_of(owner), rows(town, owner, "SELECT * FROM payments")

    async with owner.client() as client:
        asked = {"node_id": right.node_id, "token": "DemoUSD", "amount": 20 * DOLLAR}
        expected = await client.estimate(**asked)
        said = await client.probe(**asked)
        assert (said["state"], said["failed_channel"], said.get("error")) == ("arrived", None, None)
        assert said["plan"] == expected
        assert [hop["node_id"] for hop in said["plan"]["parts"][0]["hops"]] == [left.node_id, right.node_id]
        assert (await client.estimate(**asked))["chance_ppm"] > expected["chance_ppm"]

    async with left.client() as client:
        await client.send_transfers(channel_id=middle, transfers=[{"amount": 85 * DOLLAR}])
    home = ("--data-dir", str(town.root / "owner"))
    told = await town.tell("probe", right.node_id, "18DemoUSD", *home)
    assert (told["state"], told["error"], told["failed_channel"]) == ("failed", "hop_short", middle)
    assert "hop 1 of 2" in told["error_text"]
    likely = await town.tell("estimate", right.node_id, "18DemoUSD", *home)
    assert likely["chance_ppm"] < told["plan"]["chance_ppm"]

    await ended(town, owner)
    after = [await balances(one) for one in (owner, left, right)]
    assert after[0] == before[0] and sum(map(sum, map(dict.values, after))) == sum(map(sum, map(dict.values, before)))
    assert (await listed(owner), rows(town, owner, "SELECT * FROM payments")) == (shown, paid)
    assert await told_since(owner, heard) == []


async def test_a_probe_is_sent_only_where_the_owner_allows_it(town: Stage) -> None:
    owner, hub = await nodes(town, "owner", "hub")
    await town.open(owner, hub, 10 * DOLLAR)
    async with owner.client() as client:
        with pytest.raises(ApiError) as told:
            await client.probe(node_id=hub.node_id, token="DemoUSD", amount=DOLLAR)
        assert told.value.code == "probing_off" and "payments.probing" in told.value.hint
        estimated = await client.estimate(node_id=hub.node_id, token="DemoUSD", amount=DOLLAR)
        assert (estimated["fee"], estimated["chance_ppm"]) == ("0", 1_000_000)
    assert rows(town, owner, "SELECT 1 FROM attempts") == []
