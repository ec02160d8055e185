"""The small merchant over real HTTP: what is paid for is delivered once, and nothing else is."""

from __future__ import annotations

import httpx
import pytest
import trio

from channeld.cli.stage import Stage
from tests.e2e.people import DOLLAR

PRICE = DOLLAR // 4


@pytest.mark.timeout(120)
async def test_one_payment_buys_one_answer(town: Stage):
    payer, merchant = await town.nodes("payer", "merchant", tokens=100 * DOLLAR)
    await town.open(payer, merchant, 10 * DOLLAR)
    words = ("shop", "--socket", str(merchant.socket), "--listen", "127.0.0.1:0", "--price", "0.25DemoUSD", "--json")
    shop = town.actor("shop", *words)
    await shop.start()
    url = shop.ready["url"]
    async with httpx.AsyncClient(trust_env=False) as http, payer.client() as client:
        offer = await http.get(url)
        asked = offer.json()
        assert (offer.status_code, asked["amount"]) == (402, str(PRICE))
        assert offer.headers["www-authenticate"] == f'Channeld invoice="{asked["invoice"]}"'

        async def show(payment_hash: str, preimage: str) -> int:
            receipt = {"Authorization": f"Channeld {payment_hash}:{preimage}"}
            return (await http.get(url, headers=receipt)).status_code

        assert await show(asked["payment_hash"], "0x" + "11" * 32) == 402  # no receipt
        assert await show("0x" + "22" * 32, "0x" + "11" * 32) == 402
        assert (await http.get(url, headers={"Authorization": "Basic eDp5"})).status_code == 402
        paid = await client.pay_invoice(invoice=asked["invoice"])
        assert await show(paid["id"], paid["preimage"]) == 200
        assert await show(paid["id"], paid["preimage"]) == 402  # sold already

        foreign = await _other_invoice(merchant)
        paid = await client.pay_invoice(invoice=foreign)
        assert await show(paid["id"], paid["preimage"]) == 402  # a payment for something else

        again = (await http.get(url)).json()
        paid = await client.pay_invoice(invoice=again["invoice"])
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await show(paid["id"], paid["preimage"]))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
        assert sorted(answers) == [200, 402, 402, 402]  # one receipt at the same moment four times

        assert (await http.post(url)).status_code == 405
        assert (await http.get(url.replace("/joke", "/else"))).status_code == 404
        await _garbage(shop.ready["listen"])
        assert (await http.get(url)).status_code == 402
        await merchant.stop()
        assert (await http.get(url)).status_code == 503
        await merchant.start()
        assert (await http.get(url)).status_code == 402


async def _other_invoice(merchant) -> str:
    async with merchant.client() as client:
        made = await client.make_invoice(token="DemoUSD", amount=PRICE, description="not a joke")
        return str(made["invoice"])


async def _garbage(listen: str) -> None:
    """Bytes that are no HTTP end that connection and nothing else."""
    host, port = listen.split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(b"\x00\xff garbage\r\n\r\n" * 10)
        with trio.fail_after(10):
            while await stream.receive_some(1_000):
                pass
