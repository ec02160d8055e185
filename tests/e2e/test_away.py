"""A node that is away is gone round, by the payments after the one that found out too."""

from __future__ import annotations

from channeld.cli.stage import Stage
from tests.e2e.people import DOLLAR, invoice, knows_way, nodes
from tests.e2e.test_routes import ended, knows_all, pay, rows
from tests.e2e.test_stale_fees import asks


async def test_only_the_first_payment_meets_the_node_that_is_away(town: Stage) -> None:
    """The cheap street leads over two hubs, of which the second is killed; the dear one over another."""
    payer, near, far, dear, payee = await nodes(town, "payer", "near", "far", "dear", "payee")
    await asks(dear, 9_000)
    await town.open(payer, near, 100 * DOLLAR)
    away = await town.open(near, far, 100 * DOLLAR)
    await town.open(far, payee, 100 * DOLLAR)
    await town.open(payer, dear, 100 * DOLLAR)
    await town.open(dear, payee, 100 * DOLLAR)
    await knows_way(payer, payee)
    await knows_all(town, payer, 5)
    assert (await pay(payer, await invoice(payee, 2 * DOLLAR)))["hops"] == 3
    await ended(town, payer)
    before = len(rows(town, payer, "SELECT 1 FROM attempts"))
    await far.kill()

    first = await pay(payer, await invoice(payee, 2 * DOLLAR))
    again = await pay(payer, await invoice(payee, 3 * DOLLAR))

    assert (first["hops"], again["hops"]) == (2, 2)
    await ended(town, payer)
    tried = [state for (state,) in rows(town, payer, "SELECT state FROM attempts ORDER BY rowid")[before:]]
    assert tried == ["returned", "fulfilled", "fulfilled"]
    async with payer.client() as client:
        beliefs = {one["channel_id"]: one for one in (await client.export_liquidity())["channels"]}
    assert int(beliefs[away]["most"]) - int(beliefs[away]["least"]) > 90 * DOLLAR, "it was not about the amount"
