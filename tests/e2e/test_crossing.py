"""R4: proposals that cross on a slow line; the lower one is dropped and comes again, nothing is lost or paid twice."""

from __future__ import annotations

import trio

from channeld.cli.stage import Actor, Stage
from tests.e2e.link import link
from tests.e2e.people import DOLLAR, channel, nodes

ROUNDS = 8


async def test_r4_a_dropped_crossing_proposal_is_made_again(town: Stage) -> None:
    opener, acceptor = await nodes(town, "opener", "acceptor")
    port = int(acceptor.ready["listen"].rpartition(":")[2])
    async with link(port) as wire:
        acceptor.ready["listen"] = f"127.0.0.1:{wire.port}"
        opened = await town.open(opener, acceptor, 100 * DOLLAR)
        await _pay(opener, opened, [50 * DOLLAR])
        wire.delay = 0.15
        states = []
        for _ in range(ROUNDS):  # both sign at the same moment: on this line every round crosses
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pay, opener, opened, [3, 4])
                nursery.start_soon(_pay, acceptor, opened, [5])
            states.append((await channel(opener, opened))["version"])
        wire.delay = 0.0

        for actor, ours in ((opener, 50 * DOLLAR - 2 * ROUNDS), (acceptor, 50 * DOLLAR + 2 * ROUNDS)):
            shown = await channel(actor, opened)
            assert (int(shown["ours"]), shown["version"]) == (ours, states[-1])
        assert await _totals(opener) == {"in": 5 * ROUNDS, "out": 7 * ROUNDS + 50 * DOLLAR}
        assert await _totals(acceptor) == {"in": 7 * ROUNDS + 50 * DOLLAR, "out": 5 * ROUNDS}
        # without a crossing a round takes two signed states of consecutive turns; a dropped one skips a version
        assert states[-1] - states[0] > 2 * (ROUNDS - 1)

        wire.delay = 0.15
        async with trio.open_nursery() as nursery:  # and with a cut in the middle of a crossing
            nursery.start_soon(_pay, opener, opened, [11])
            nursery.start_soon(_pay, acceptor, opened, [13])
            await trio.sleep(0.1)
            wire.cut()
        assert await _totals(opener) == {"in": 5 * ROUNDS + 13, "out": 7 * ROUNDS + 50 * DOLLAR + 11}
        assert await _totals(acceptor) == {"in": 7 * ROUNDS + 50 * DOLLAR + 11, "out": 5 * ROUNDS + 13}


async def _pay(actor: Actor, opened: str, amounts: list[int]) -> None:
    async with actor.client() as client:
        said = await client.send_transfers(channel_id=opened, transfers=[{"amount": amount} for amount in amounts])
    assert said["state"] == "succeeded"


async def _totals(actor: Actor) -> dict[str, int]:
    totals = {"in": 0, "out": 0}
    async with actor.client() as client:
        for one in (await client.list_payments(limit=500))["payments"]:
            assert one["state"] == "succeeded"
            totals[one["direction"]] += int(one["amount"])
    return totals
