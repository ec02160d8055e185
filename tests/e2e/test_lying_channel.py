"""A peer that really has a channel with a node, and then lies: that channel freezes, no other does."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from channeld.base.digests import receipt_digest, transfers_hash
from channeld.base.keys import Key, recover
from channeld.base.units import Digest, LockId, Preimage, Version
from channeld.cli.stage import ETHER, Actor, Stage
from channeld.core.channel import ZERO, Body, Channel, next_version
from channeld.wire import messages as wire
from tests.e2e.liar import Liar, Talk, meet
from tests.e2e.people import DOLLAR, channel, line_of, nodes

DEPOSIT = 10**15
Lie = Callable[[Liar, Talk, Channel], Awaitable[None]]


async def _too_much(liar: Liar, talk: Talk, lied: Channel) -> None:
    await talk.say(*liar.transfer(lied, DEPOSIT + 1))


async def _foreign_signature(liar: Liar, talk: Talk, lied: Channel) -> None:
    await talk.say(*liar.transfer(lied, 5, signer=Key(secrets.token_bytes(32))))


async def _another_sum(liar: Liar, talk: Talk, lied: Channel) -> None:
    """A good signature, of another body than the updates make."""
    update, _ = liar.transfer(lied, 5)
    _, commit = liar.transfer(lied, 6)
    await talk.say(update, commit)


async def _skipped_version(liar: Liar, talk: Talk, lied: Channel) -> None:
    await talk.say(*liar.transfer(lied, 5, base=3))


async def _nothing_there(liar: Liar, talk: Talk, lied: Channel) -> None:
    """Takes a lock that nobody offered."""
    version = Version(3)
    await talk.say(
        wire.FulfilLock(channel_id=lied.id, version=version, lock_id=LockId(1), preimage=Preimage(bytes(32))),
        wire.Commit(channel_id=lied.id, version=version, base=Version(0), count=1, signature=_signed(liar, lied)),
    )


async def _unasked_ack(liar: Liar, talk: Talk, lied: Channel) -> None:
    await talk.say(wire.CommitAck(channel_id=lied.id, version=Version(2), signature=_signed(liar, lied)))


async def _another_past(liar: Liar, talk: Talk, lied: Channel) -> None:
    """After a cut, a state of the same version that the node has not signed."""
    async with meet(liar.town, liar.victim, liar.key) as again:
        await liar.greet(again, lied, (0, Digest(b"\x01" * 32)))
        await _is_told(again, lied, "state_differs")


def _signed(liar: Liar, lied: Channel) -> Any:
    version = next_version(lied.we, 0)
    return liar.account.sign(lied.digest(version, Body(0).hash(lied.blind(version))))


async def _is_told(talk: Talk, lied: Channel, code: str) -> None:
    told = await talk.hear(wire.Error, lied.id)
    assert told.code == code, told
    assert told.text


LIES: dict[Lie, str] = {
    _too_much: "more than the proposer has",
    _foreign_signature: "signature of version 3 is not the peer's",
    _another_sum: "signature of version 3 is not the peer's",
    _skipped_version: "on base 3, ours is 0",
    _nothing_there: "lock 1 is not there",
    _unasked_ack: "which we did not propose",
    _another_past: "the peer holds another version 0",
}


@pytest.mark.timeout(240)
async def test_r6_r16_a_lie_freezes_its_own_channel_only(town: Stage) -> None:
    payer, victim = await nodes(town, "payer", "victim")
    (honest,) = await line_of(town, (payer, victim), 100 * DOLLAR)
    liar = Liar(town=town, victim=victim)
    await town.fund(liar.account.address, wei=ETHER)
    async with meet(town, victim, liar.key) as talk:
        good = await liar.open(talk, DEPOSIT)
        bad = {lie: await liar.open(talk, DEPOSIT) for lie in LIES}

        paid = await _pays(liar, talk, good, 100)  # so far the peer is a good one
        for lie in [lie for lie in LIES if lie is not _another_past]:
            await lie(liar, talk, bad[lie])
            await _is_told(talk, bad[lie], "protocol_error")
            await _honest(payer, honest)
            assert (await _shown(victim, good))["frozen"] is False
        paid = await _pays(liar, talk, good, 100, base=paid, before=100)
        assert (await _shown(victim, good))["ours"] == "200"
    await _another_past(liar, talk, bad[_another_past])

    for lie, reason in LIES.items():
        shown = await _shown(victim, bad[lie])
        assert (shown["frozen"], shown["version"], shown["ours"]) == (True, 0, "0"), lie.__name__
        assert reason in shown["detail"], (lie.__name__, shown["detail"])
    assert (await _shown(victim, good))["frozen"] is False
    await _honest(payer, honest)

    await victim.kill()  # a frozen channel is still one after a crash
    await victim.start()
    assert (await _shown(victim, bad[_too_much]))["frozen"] is True
    await town.channel_state(victim, honest, "open")
    with trio.fail_after(20):
        while not (await channel(payer, honest))["connected"]:
            await trio.sleep(0.1)
    await _honest(payer, honest)


@pytest.mark.timeout(240)
async def test_r2_r9_r10_messages_out_of_turn_cost_the_connection_and_nothing_else(town: Stage) -> None:
    """Half a proposal, a proposal before reestablish, deposits out of thin air: cut off, and well again after."""
    (victim,) = await nodes(town, "victim")
    liar = Liar(town=town, victim=victim)
    await town.fund(liar.account.address, wei=ETHER)
    async with meet(town, victim, liar.key) as talk:
        mine = await liar.open(talk, DEPOSIT)
        update, commit = liar.transfer(mine, 7)
        await talk.say(update, wire.DepositSeen(channel_id=mine.id, deposit_a=mine.told[0], deposit_b=mine.told[1]))
        assert await talk.hung_up(), "updates without their commit"

    async with meet(town, victim, liar.key) as talk:
        await talk.say(update, commit)
        assert await talk.hung_up(), "a commit before reestablish"

    async with meet(town, victim, liar.key) as talk:
        await liar.greet(talk, mine)
        await talk.say(update)  # and the line is cut: R2, nothing of it survives

    async with meet(town, victim, liar.key) as talk:
        await liar.greet(talk, mine)
        await talk.say(wire.Reestablish(channel_id=mine.id, version=Version(0), hash=ZERO, base=Version(0)))
        assert await talk.hung_up(), "reestablish twice"

    async with meet(town, victim, liar.key) as talk:
        await liar.greet(talk, mine)
        await talk.say(*[update] * 513)
        assert await talk.hung_up(), "more updates than a commit may have"

    async with meet(town, victim, liar.key) as talk:
        await liar.greet(talk, mine)
        await talk.say(commit)
        assert await talk.hung_up(), "a commit that counts updates which did not come"

    async with meet(town, victim, liar.key) as talk:
        await liar.greet(talk, mine)
        assert (await _shown(victim, mine))["frozen"] is False
        assert await _pays(liar, talk, mine, 9) == next_version(mine.we, 0)
        assert (await _shown(victim, mine))["ours"] == "9"


async def _pays(liar: Liar, talk: Talk, on: Channel, amount: int, *, base: int = 0, before: int = 0) -> int:
    """An honest transfer; the acknowledgement and its receipt are the victim's. Its version."""
    update, commit = liar.transfer(on, amount, base=base, before=before)
    await talk.say(update, commit)
    ack = await talk.hear(wire.CommitAck, on.id)
    digest = on.digest(commit.version, Body(before + amount).hash(on.blind(commit.version)))
    assert recover(digest, ack.signature) == on.peer_key
    told = receipt_digest(on.domain, on.id, commit.version, transfers_hash([(update.payment_id, update.amount)]))
    assert recover(told, ack.receipt) == on.peer_key
    return commit.version


async def _honest(payer: Actor, opened: str) -> None:
    with trio.fail_after(10):
        async with payer.client() as client:
            said = await client.send_transfers(channel_id=opened, transfers=[{"amount": DOLLAR}])
    assert said["state"] == "succeeded"


async def _shown(victim: Actor, one: Channel) -> dict[str, Any]:
    return await channel(victim, f"0x{one.id.hex()}")
