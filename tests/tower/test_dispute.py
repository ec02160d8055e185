"""The tower answers an old close while the victim sleeps, and is paid by the cheat's bond."""

from __future__ import annotations

from channeld.base.units import NATIVE, Side
from tests.tower.world import BOND, DEPOSIT, PERIOD, World, eventually, key_of


async def test_a_stale_close_is_challenged_and_the_delegation_pays_the_tower(world: World) -> None:
    channel = await world.open()
    old, new = channel.state(1, 10**17), channel.state(2, 6 * 10**17)
    async with world.tower() as tower:
        await world.guard(tower, channel, new)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, old))

        async def answered() -> bool:
            return (await world.word(channel)).delegated

        await eventually(answered)
        word = await world.word(channel)
        assert (word.version, word.beaten) == (2, True)
        await world.advance(PERIOD + 1)

        async def paid() -> bool:
            status = await tower.service.tower_status()
            return status["finalized"] == 1 and status["earned"] == str(BOND)

        await eventually(paid)
        status = await tower.service.tower_status()
        assert status["challenges_sent"] == status["challenges_mined"] == 1
        account = key_of("tower").address
        assert await world.wei(account) == 10**20 + BOND - int(status["spent"])
        assert status["balance"] == str(await world.wei(account))
    # The sleeper wakes up and opens the body: everybody has what the newest state says, to the wei.
    settle = world.contracts.settle(
        NATIVE,
        channel.terms,
        net=new.body.net,
        locks_hash=new.body.locks_hash,
        blind=new.body.blind,
        bond_to=account,
    )
    await world.send(key_of("sleeper"), settle)
    assert await world.wei(channel.terms.payout_a) == DEPOSIT - 6 * 10**17
    assert await world.wei(channel.terms.payout_b) == 6 * 10**17
    assert await world.wei(world.where.manager) == 0
