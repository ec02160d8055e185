"""The tower answers an old close while the victim sleeps, and is paid by the cheat's bond."""

from __future__ import annotations

import pytest
import trio

from channeld.base.keys import keccak, sha256
from channeld.base.units import NATIVE, LockKey, Preimage, Side
from tests.tower.world import BOND, DEPOSIT, PERIOD, World, eventually, key_of

SHARE = 6 * 10**17
"""What the newest state gives side B."""
FUNDED = 10**20
TOWER = key_of("tower").address


async def test_a_stale_close_is_challenged_and_the_delegation_pays_the_tower(world: World) -> None:
    channel = await world.open()
    old, new = channel.state(1, 10**17), channel.state(2, SHARE)
    async with world.tower() as tower:
        await world.guard(tower, channel, new)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, old))
        word = await world.until(channel, lambda word: word.delegated)
        assert (word.version, word.beaten) == (2, True)
        await world.advance(PERIOD + 1)
        status = await world.until_status(tower, finalized=1, earned=str(BOND))
        assert status["challenges_sent"] == status["challenges_mined"] == 1
        assert await world.wei(TOWER) == FUNDED + BOND - int(status["spent"])
        assert status["balance"] == str(await world.wei(TOWER))
    # The sleeper wakes up and opens the body: everybody has what the newest state says, to the wei.
    settle = world.contracts.settle(
        NATIVE, channel.terms, net=new.body.net, locks_hash=new.body.locks_hash, blind=new.body.blind, bond_to=TOWER
    )
    await world.send(key_of("sleeper"), settle)
    assert await world.wei(channel.terms.payout_a) == DEPOSIT - SHARE
    assert await world.wei(channel.terms.payout_b) == SHARE
    assert await world.wei(world.where.manager) == 0


async def test_the_opener_sleeps_and_the_acceptor_closes_without_a_state(world: World) -> None:
    channel = await world.open(a="sleeper", b="cheat")
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(1, 10), victim=Side.A)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.B, None))
        word = await world.until(channel, lambda word: word.delegated)
        assert word.version == 1


async def test_a_client_that_lets_the_tower_settle_need_never_wake(world: World) -> None:
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(2, SHARE), settles=True)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.until(channel, lambda word: word.delegated)
        await world.advance(PERIOD + 1)
        await world.until(channel, lambda word: word.dead)
        await world.until_status(tower, finalized=1, earned=str(BOND))
    assert await world.wei(channel.terms.payout_a) == DEPOSIT - SHARE
    assert await world.wei(channel.terms.payout_b) == SHARE


async def test_the_newest_close_is_left_alone_and_an_own_close_reveals_nothing(world: World) -> None:
    honest, own = await world.open(), await world.open()
    async with world.tower() as tower:
        await world.guard(tower, honest, honest.state(2, SHARE))
        await world.guard(tower, own, own.state(2, SHARE))
        await world.send(key_of("cheat"), honest.close(world.contracts, Side.A, honest.state(2, SHARE)))
        await world.send(key_of("sleeper"), own.close(world.contracts, Side.B, own.state(1, 0)))
        await world.seen_head(tower)
        await world.advance(PERIOD + 1)
        await world.node.mine(3)
        await world.seen_head(tower)
        status = await tower.service.tower_status()
        assert (status["challenges_sent"], status["finalized"], status["spent"]) == (0, 0, "0")


async def test_a_copy_without_the_delegation_that_comes_first_does_not_unpay_the_tower(world: World) -> None:
    channel = await world.open()
    new = channel.state(2, SHARE)
    async with world.tower() as tower:
        await world.guard(tower, channel, new)
        await world.mining(False)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)), wait=False)
        await trio.sleep(0.3)
        assert await world.pool() == 1  # a close in the pool is no close
        await world.node.mine()
        await eventually(world.pool)  # the tower's challenge waits, for everyone to see
        copy = channel.challenge(world.contracts, new)
        await world.send(key_of("runner"), copy, tip=40 * 10**9, wait=False)
        await world.node.mine()
        assert await world.challenges(channel) == [2, 2]
        assert (await world.word(channel)).delegated
        await world.mining(True)
        await world.advance(PERIOD + 1)
        await world.until_status(tower, finalized=1, earned=str(BOND), challenges_mined=1)


async def test_an_older_state_put_in_front_of_the_tower_s_changes_nothing(world: World) -> None:
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(3, SHARE))
        await world.mining(False)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)), wait=False)
        await world.node.mine()
        await eventually(world.pool)
        older = channel.challenge(world.contracts, channel.state(2, 1))
        await world.send(key_of("runner"), older, tip=40 * 10**9, wait=False)
        await world.node.mine()
        assert await world.challenges(channel) == [2, 3]
        word = await world.word(channel)
        assert (word.version, word.delegated) == (3, True)


async def test_a_copy_that_stands_when_the_tower_comes_up_gets_its_delegation(world: World) -> None:
    channel = await world.open()
    new = channel.state(2, SHARE)
    async with world.tower() as tower:
        await world.guard(tower, channel, new)
    await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
    await world.send(key_of("runner"), channel.challenge(world.contracts, new))
    await world.node.mine(5)  # the close is final meanwhile
    async with world.tower() as tower:
        await world.until(channel, lambda word: word.delegated)
        await world.advance(PERIOD + 1)
        await world.until_status(tower, finalized=1, earned=str(BOND))


async def test_a_tower_waits_for_its_slot(world: World) -> None:
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(2, SHARE), delay=30)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.advance(5)
        await world.seen_head(tower)
        assert (await tower.service.tower_status())["challenges_sent"] == 0
        await world.advance(30)
        assert (await world.until(channel, lambda word: word.version == 2)).delegated


async def test_a_slot_that_comes_too_late_is_not_waited_for(world: World) -> None:
    """The state is shown at 60 % of the period without pay, the delegation brought when its time comes."""
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(2, SHARE), delay=55)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.advance(38)
        assert not (await world.until(channel, lambda word: word.version == 2)).delegated
        await world.advance(18)
        await world.until(channel, lambda word: word.delegated)


async def test_a_challenge_is_still_made_after_the_deadline(world: World) -> None:
    channel = await world.open()
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(2, SHARE))
    await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
    await world.advance(PERIOD + 100)
    async with world.tower() as tower:
        await world.until_status(tower, finalized=1, earned=str(BOND))
        assert (await world.word(channel)).version == 2


@pytest.mark.parametrize("payout", ["thief", None])
async def test_a_delegation_that_does_not_count_is_left_out_and_the_victim_gets_the_bond(
    world: World, payout: str | None
) -> None:
    channel = await world.open()
    new = channel.state(2, SHARE)
    async with world.tower(finalize_all=True) as tower:
        other = key_of(payout).address if payout else None
        await world.guard(tower, channel, new, payout=other, signer=key_of("cheat") if payout is None else None)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        assert not (await world.until(channel, lambda word: word.version == 2)).delegated
        await world.advance(PERIOD + 1)
        await world.until_status(tower, finalized=1, earned="0")
        assert await world.wei(channel.terms.payout_b) == BOND


async def test_a_bond_below_the_operator_s_limit_is_not_defended(world: World) -> None:
    small, large = await world.open(bond=10**12), await world.open()
    async with world.tower(min_bond=10**14) as tower:
        for channel in (small, large):
            await world.guard(tower, channel, channel.state(2, SHARE))
        for channel in (small, large):
            await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.until(large, lambda word: word.delegated)
        await world.seen_head(tower)
        assert (await world.word(small)).version == 1


async def test_entrusted_secrets_are_registered_as_soon_as_the_close_is_seen(world: World) -> None:
    channel = await world.open()
    secrets = tuple(Preimage(keccak(bytes([number]))) for number in range(3))
    await world.send(key_of("runner"), world.contracts.register(secrets[:1]))
    async with world.tower() as tower:
        await world.guard(tower, channel, channel.state(2, SHARE), preimages=secrets)
        # Even the newest state needs them: its locks are resolved after it.
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(2, SHARE)))

        async def registered() -> bool:
            times = [await world.chain.registered_at(LockKey(sha256(secret))) for secret in secrets]
            return all(times)

        await eventually(registered)
        await world.seen_head(tower)
        assert (await tower.service.tower_status())["challenges_sent"] == 0


async def test_garbage_under_the_same_hint_does_not_hide_the_victim_s_row(world: World) -> None:
    """The cheat knows the salt too: it fills the hint with rows of its own, well-formed ones and noise."""
    channel = await world.open()
    old, new = channel.state(1, 0), channel.state(2, SHARE)
    async with world.tower() as tower:

        async def squat(number: int) -> None:
            auth = key_of(f"squatter {number}")
            async with world.client(tower, channel.salts[Side.B], auth) as client:
                kinds = (
                    bytes([number]) * 1_024,
                    client.sealed(channel.evidence(old, Side.B, TOWER, signer=key_of("cheat")), old.body, 9),
                    client.sealed(channel.evidence(new, Side.A, TOWER, signer=key_of("cheat")), new.body, 8)[::-1],
                )
                await client.put(kinds[number % 3], 9)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(squat, number)
        await world.guard(tower, channel, new)
        async with trio.open_nursery() as nursery:
            for number in range(30, 60):
                nursery.start_soon(squat, number)
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, old))
        word = await world.until(channel, lambda word: word.version == 2)
        assert word.delegated
        assert (await tower.service.tower_status())["appointments"] == 61


async def test_many_closes_at_once_are_all_answered(world: World) -> None:
    channels = [await world.open() for _ in range(8)]
    async with world.tower() as tower:
        for channel in channels:
            await world.guard(tower, channel, channel.state(2, SHARE))
        await world.mining(False)
        for channel in channels:
            await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)), wait=False)
        await world.node.mine()
        await world.mining(True)
        await world.node.mine()
        for channel in channels:
            await world.until(channel, lambda word: word.delegated)
        status = await tower.service.tower_status()
        assert (status["watched"], status["challenges_sent"]) == (8, 8)
