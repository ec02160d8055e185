"""Two neighbours open a channel, pay each other, and close it together.

    python examples/pay_a_neighbour.py

Everything is real and local: a development chain, the contracts, two node processes. Amounts are in base units of the
play token DemoUSD, which has six decimals.
"""

from __future__ import annotations

import trio

from channeld.cli.stage import stage

DOLLAR = 1_000_000


async def main() -> None:
    async with stage() as town:
        print("starting a chain and two nodes ...")
        await town.chain()
        await town.deploy()
        payer, payee = await town.nodes("payer", "payee", tokens=100 * DOLLAR)

        channel = await town.open(payer, payee, 50 * DOLLAR)
        print(f"channel {channel[:10]} is open: the payer has put in 50 dollars")

        async with payer.client() as ours, payee.client() as theirs:
            # To a neighbour money needs no invoice: many transfers go in one signed batch.
            await ours.send_transfers(channel_id=channel, transfers=[{"amount": DOLLAR}] * 20)
            print("the payer has sent 20 transfers of a dollar")

            # The other way round with an invoice: its preimage is the receipt.
            asked = await ours.make_invoice(token="DemoUSD", amount=5 * DOLLAR, description="change")
            paid = await theirs.pay_invoice(invoice=asked["invoice"])
            print(f"the payee has paid an invoice of 5 dollars: {paid['state']}, receipt {paid['preimage'][:10]}")

            said = await ours.close_channel(channel_id=channel)
            print(f"closing: {said['how']}")
        for actor in (payer, payee):
            shown = await town.channel_state(actor, channel, "closed")
            print(f"{actor.name} has {int(shown['paid_ours']) / DOLLAR:.2f} dollars on chain")


if __name__ == "__main__":
    trio.run(main)
