"""A hub is killed (`kill -9`) in the middle of fifty payments and started again. Nothing is lost, nothing paid twice.

    python examples/come_back_after_a_crash.py

Every node saves before it acts, so a hub that comes back goes on where it was: each payment that was under way ends
the same way at both ends.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import trio

from channeld.cli.stage import Actor, stage
from channeld.client import ApiError

DOLLAR = 1_000_000
PAYMENTS = 50


async def pay(payer: Any, invoice: str, answered: list[str], some: trio.Event) -> None:
    """One payment; what the payer is told of it. `some` is set when a few are done."""
    try:
        answered.append((await payer.pay_invoice(invoice=invoice))["state"])
    except ApiError as fault:
        answered.append(fault.code)
    if len(answered) >= 5:
        some.set()


async def knows_way(payer: Actor, payee: Actor) -> None:
    """Wait until the payer's map shows a way: a payment of one unit arrives."""
    async with payer.client() as ours, payee.client() as theirs:
        while True:
            asked = await theirs.make_invoice(token="DemoUSD", amount=1)
            try:
                await ours.pay_invoice(invoice=asked["invoice"])
                return
            except ApiError:
                await trio.sleep(0.2)


async def main() -> None:
    async with stage() as town:
        print("starting a chain and three nodes ...")
        await town.chain()
        await town.deploy()
        payer, hub, payee = await town.nodes("payer", "hub", "payee", tokens=200 * DOLLAR)
        first = await town.open(payer, hub, 100 * DOLLAR)
        second = await town.open(hub, payee, 100 * DOLLAR)
        await knows_way(payer, payee)

        answered: list[str] = []
        some = trio.Event()
        async with payer.client() as ours, payee.client() as theirs:
            made = [await theirs.make_invoice(token="DemoUSD", amount=DOLLAR) for _ in range(PAYMENTS)]
            async with trio.open_nursery() as nursery:
                for one in made:
                    nursery.start_soon(pay, ours, one["invoice"], answered, some)
                await some.wait()
                await hub.kill()
                print(f"kill -9 of the hub when {len(answered)} of {PAYMENTS} payments were done")
                await hub.start()
                print("the hub is back")
            print(f"the payer was told: {dict(Counter(answered))}")

            same = paid = 0
            for one in made:
                out = (await ours.lookup_payment(id=one["payment_hash"]))["state"]
                in_ = (await theirs.lookup_invoice(payment_hash=one["payment_hash"]))["state"]
                same += (out == "succeeded") == (in_ == "paid")
                paid += in_ == "paid"
            print(f"both ends agree on {same} of {PAYMENTS} payments; {paid} were paid")

        for actor, channel in ((payer, first), (payee, second)):
            shown = await town.channel_state(actor, channel, "open", quiet=True)
            total = int(shown["ours"]) + int(shown["theirs"])
            print(f"{actor.name}'s channel still holds {total // DOLLAR} dollars, {shown['locks']} locks pending")


if __name__ == "__main__":
    trio.run(main)
