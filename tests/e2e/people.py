"""What the end-to-end tests do with a stage again and again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import trio

from channeld.cli.stage import Actor, Stage

DOLLAR = 1_000_000


async def nodes(town: Stage, *names: str, extra: str = "", tokens: int = 1_000 * DOLLAR) -> list[Actor]:
    """Nodes that stand and have money."""
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(lambda name=name: town.node(name, extra=extra))  # type: ignore[misc]
    made = [town.actors[name] for name in names]
    for actor in made:
        await town.fund(actor.address, tokens=tokens)
    return made


async def line_of(town: Stage, actors: Sequence[Actor], amount: int, **more: Any) -> list[str]:
    """Channels between neighbours, each opened and funded from the left."""
    return [await town.open(left, right, amount, **more) for left, right in pairwise(actors)]


async def invoice(payee: Actor, amount: int, description: str = "test") -> dict[str, Any]:
    async with payee.client() as client:
        return dict(await client.make_invoice(token="DemoUSD", amount=amount, description=description))


async def knows_way(payer: Actor, payee: Actor, amount: int = 1, patience: float = 30.0) -> None:
    """Wait until gossip has shown the payer a way: it can pay a small invoice."""
    last: Exception | None = None
    with trio.move_on_after(patience):
        while True:
            asked = await invoice(payee, amount, "a first try")
            async with payer.client() as client:
                try:
                    await client.pay_invoice(invoice=asked["invoice"])
                except Exception as fault:  # noqa: BLE001 - any refusal: not yet
                    last = fault
                    await trio.sleep(0.3)
                else:
                    return
    raise AssertionError(f"no way from {payer.name} to {payee.name}: {last}")


async def channel(actor: Actor, channel_id: str) -> dict[str, Any]:
    async with actor.client() as client:
        return dict((await client.list_channels(channel_id=channel_id))["channels"][0])


async def balances(actor: Actor, patience: float = 30.0) -> dict[str, int]:
    """ours of each channel once no lock is pending in an open one: a payment ends before every hop's books show it."""
    with trio.fail_after(patience):
        async with actor.client() as client:
            shown = (await client.list_channels())["channels"]
            while any(one["locks"] and one["state"] == "open" for one in shown):
                await trio.sleep(0.1)
                shown = (await client.list_channels())["channels"]
    return {one["channel_id"]: int(one["ours"]) for one in shown}


async def wallet(actor: Actor, symbol: str = "DemoUSD") -> int:
    async with actor.client() as client:
        told = (await client.get_balance())["balances"]
    return next(int(one["wallet"]) for one in told if one["symbol"] == symbol)
