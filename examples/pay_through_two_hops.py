"""A payer pays a stranger through a hub that both have a channel with. The hub takes a fee and cannot take more.

    python examples/pay_through_two_hops.py

The route is found by gossip, the path is hidden in an onion, and the preimage that the payer gets is its receipt.
"""

from __future__ import annotations

import hashlib
from typing import Any

import trio

from channeld.cli.stage import Actor, stage
from channeld.client import ApiError

DOLLAR = 1_000_000


async def pay(payer: Actor, payee: Actor, amount: int) -> Any:
    """Pay an invoice of the payee's; ask again while the payer's map of the network is still empty."""
    async with payer.client() as ours, payee.client() as theirs:
        while True:
            asked = await theirs.make_invoice(token="DemoUSD", amount=amount, description="a book")
            try:
                return await ours.pay_invoice(invoice=asked["invoice"])
            except ApiError as fault:
                if fault.code not in ("no_route", "unknown_payee"):
                    raise
                await trio.sleep(0.2)


async def main() -> None:
    async with stage() as town:
        print("starting a chain and three nodes ...")
        await town.chain()
        await town.deploy()
        payer, hub, payee = await town.nodes("payer", "hub", "payee", tokens=100 * DOLLAR)
        first = await town.open(payer, hub, 50 * DOLLAR)
        second = await town.open(hub, payee, 50 * DOLLAR)
        print("open: payer ── hub ── payee")

        paid = await pay(payer, payee, 20 * DOLLAR)
        receipt = hashlib.sha256(bytes.fromhex(paid["preimage"][2:])).hexdigest()
        print(f"{paid['state']} over {paid['hops']} hops for a fee of {paid['fee']} base units")
        print(f"the receipt fits the invoice: {'0x' + receipt == paid['id']}")

        for actor, channel in ((payer, first), (payee, second)):
            shown = await town.channel_state(actor, channel, "open", quiet=True)
            print(f"{actor.name} has {int(shown['ours']) / DOLLAR} dollars in its channel")


if __name__ == "__main__":
    trio.run(main)
