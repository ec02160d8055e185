"""A merchant sells three things: it makes an invoice for each order and delivers when the event of the payment comes.

    python examples/take_a_payment_as_a_merchant.py

The merchant's own program (`sell`) needs the client and the socket of its node, nothing else. The order's number is
the idempotency key, so that asking twice never makes two invoices; the cursor of the last event is all it must
remember to go on after a restart.
"""

from __future__ import annotations

from typing import Any

import trio

from channeld.cli.stage import stage

DOLLAR = 1_000_000
ORDERS = {"order-1": ("a cup of tea", 2 * DOLLAR), "order-2": ("a book", 15 * DOLLAR), "order-3": ("a map", 7 * DOLLAR)}


async def sell(node: Any, orders: dict[str, tuple[str, int]], till: trio.MemorySendChannel[str]) -> None:
    """Invoices go out by `till`; each thing is handed over when its invoice was paid."""
    waiting = {}
    cursor = (await node.events(since=0))["cursor"]
    for number, (what, price) in orders.items():
        made = await node.make_invoice(token="DemoUSD", amount=price, description=what, idempotency_key=number)
        waiting[made["payment_hash"]] = number
        await till.send(made["invoice"])
    while waiting:
        news = await node.events(since=cursor, wait=True)
        cursor = news["cursor"]
        for event in news["events"]:
            order = waiting.pop(str(event["data"].get("payment_hash")), "")
            if event["type"] == "payment_received" and order:
                print(f"{order} is paid: here is {orders[order][0]}")


async def main() -> None:
    async with stage() as town:
        print("starting a chain, a merchant and a payer ...")
        await town.chain()
        await town.deploy()
        payer, merchant = await town.nodes("payer", "merchant", tokens=100 * DOLLAR)
        channel = await town.open(payer, merchant, 50 * DOLLAR)

        till, invoices = trio.open_memory_channel[str](len(ORDERS))
        async with merchant.client() as theirs, payer.client() as ours, trio.open_nursery() as nursery:
            nursery.start_soon(sell, theirs, ORDERS, till)
            for _ in ORDERS:
                invoice = await invoices.receive()
                asked = await ours.decode_invoice(invoice=invoice)
                paid = await ours.pay_invoice(invoice=invoice)
                print(f"the payer pays {int(paid['amount']) / DOLLAR:.2f} dollars for {asked['description']}")
        shown = await town.channel_state(merchant, channel, "open", quiet=True)
        print(f"the merchant has {int(shown['ours']) / DOLLAR:.2f} dollars in its channel")


if __name__ == "__main__":
    trio.run(main)
