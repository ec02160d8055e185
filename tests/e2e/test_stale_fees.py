"""A hub asks more than the payer knows: it says so with the failure, and the payment goes through in the same call."""

from __future__ import annotations

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client.errors import ApiError
from tests.e2e.people import DOLLAR, invoice, knows_way, nodes
from tests.e2e.test_routes import ended, rows


async def asks(hub: Actor, ppm: int) -> None:
    """The hub's owner changes the fee and restarts it."""
    await hub.stop()
    hub.environment = {**hub.environment, "CHANNELD_POLICY_FEE_PPM": str(ppm)}
    await hub.start()


async def back(*others: Actor, hub: Actor) -> None:
    """The hub's peers are connected to it again."""
    with trio.fail_after(60):
        for other in others:
            async with other.client() as client:
                while not all(one["connected"] for one in (await client.list_channels())["channels"]):
                    await trio.sleep(0.1)
    async with hub.client() as client:
        assert (await client.get_info())["peers"] >= len(others)


async def states(town: Stage, payer: Actor, since: int) -> list[str]:
    await ended(town, payer)
    return [state for (state,) in rows(town, payer, "SELECT state FROM attempts ORDER BY rowid")[since:]]


async def test_a_hint_that_is_older_than_the_hubs_fee(town: Stage) -> None:
    """The payee's invoice says what the hub asked when it was made."""
    payer, hub, payee = await nodes(town, "payer", "hub", "payee")
    await town.open(payer, hub, 100 * DOLLAR)
    await town.open(hub, payee, 100 * DOLLAR, public=False)
    await knows_way(payer, payee)
    before = len(rows(town, payer, "SELECT 1 FROM attempts"))
    asked, later = await invoice(payee, 10 * DOLLAR), await invoice(payee, 10 * DOLLAR)
    dear = await invoice(payee, 10 * DOLLAR)
    await asks(hub, 5_000)
    await back(payer, payee, hub=hub)

    async with payer.client() as client:
        paid = await client.pay_invoice(invoice=asked["invoice"])
        assert (paid["state"], int(paid["fee"])) == ("succeeded", 10 * DOLLAR * 5_000 // 10**6)
        again = await client.pay_invoice(invoice=later["invoice"])
        assert int(again["fee"]) == int(paid["fee"])

    assert await states(town, payer, before) == ["returned", "fulfilled", "fulfilled"], "it was learned for a while"
    await asks(hub, 50_000)
    await back(payer, payee, hub=hub)
    async with payer.client() as client:
        with pytest.raises(ApiError, match="fee_insufficient") as too_dear:
            await client.pay_invoice(invoice=dear["invoice"])
    assert too_dear.value.code == "fee_budget", "a twentieth of the amount is more than the usual limit"
