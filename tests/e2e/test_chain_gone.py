"""The chain's RPC is gone for longer than the safe-mode limit: nothing new, what is pending ends, all well again."""

from __future__ import annotations

import os
import signal

import pytest
import trio

from channeld.cli.stage import Actor, Stage
from channeld.client import ApiError
from tests.e2e.link import link
from tests.e2e.people import DOLLAR, channel, invoice, knows_way, line_of, nodes

LIMIT = 4


@pytest.mark.timeout(180)
async def test_safe_mode_refuses_new_locks_and_ends_by_itself(town: Stage) -> None:
    """I30."""
    direct = town.url
    async with link(int(direct.rpartition(":")[2])) as rpc:
        town.url = f"http://127.0.0.1:{rpc.port}"
        town.settings = {"max_head_age": str(LIMIT)}
        payer, hub, payee = actors = await nodes(town, "payer", "hub", "payee")
        left, _ = await line_of(town, actors, 100 * DOLLAR)
        await knows_way(payer, payee)
        asked = [await invoice(payee, DOLLAR) for _ in range(3)]

        async with payer.client() as client, hub.client() as watching, trio.open_nursery() as nursery:
            os.kill(payee.pid, signal.SIGSTOP)
            pending: dict[str, str] = {}
            nursery.start_soon(_pay, payer, asked[2]["invoice"], pending)
            with trio.fail_after(20):
                while not (await channel(hub, left))["locks"]:
                    await trio.sleep(0.1)
            rpc.down = True
            rpc.cut()
            await trio.sleep(LIMIT + 2)
            assert (await watching.get_info())["safe_mode"]
            os.kill(payee.pid, signal.SIGCONT)
            with trio.fail_after(20):
                while (await channel(hub, left))["locks"]:
                    await trio.sleep(0.1)
            with trio.fail_after(20):
                while "state" not in pending:
                    await trio.sleep(0.1)
            assert pending["state"] in ("succeeded", "safe_mode", "payment_failed"), "what was pending has an outcome"
            with pytest.raises(ApiError) as refused:
                await client.pay_invoice(invoice=asked[0]["invoice"])
            assert refused.value.code == "safe_mode"
            with pytest.raises(ApiError) as refused:
                await client.send_transfers(channel_id=left, transfers=[{"amount": 1}])
            assert refused.value.code == "safe_mode"

            rpc.down = False
            with trio.fail_after(30):
                while (await client.get_info())["safe_mode"] or (await watching.get_info())["safe_mode"]:
                    await trio.sleep(0.2)
            paid = await client.pay_invoice(invoice=asked[1]["invoice"])
        assert paid["state"] == "succeeded"
        async with payee.client() as client:
            told = await client.lookup_invoice(payment_hash=asked[2]["payment_hash"])
        assert (pending["state"] == "succeeded") == (told["state"] == "paid"), "one outcome on both ends"


async def _pay(payer: Actor, text: str, outcome: dict[str, str]) -> None:
    async with payer.client() as client:
        try:
            outcome["state"] = (await client.pay_invoice(invoice=text, timeout=100))["state"]
        except ApiError as fault:
            outcome["state"] = fault.code
