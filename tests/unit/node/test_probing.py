"""A probe binds money for a while and moves none: nobody can take it, and no book knows it for a payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.keys import keccak, sha256
from channeld.base.units import NATIVE, Amount, LockKey, NodeId, Preimage, Seconds, Side
from channeld.core.channel import Session
from channeld.core.events import Offer
from channeld.core.messages import AddLock
from channeld.node.attempts import locks_of
from channeld.node.ledger import Attempt
from channeld.node.payments import Payments
from channeld.node.probing import RATE, UNDER_WAY, Probed
from channeld.wire.failure import FailureCode
from routing.splitting import Ask
from tests.unit.node.parts import Parts, parts
from tests.unit.node.streets import FARTHER, HUB, PAYEE, SECOND, THIRD, answer, attempts, lay, street


def ask(node: Parts, amount: int = 100, *, payee: NodeId = PAYEE.public, max_fee: int = 50) -> Ask:
    return node.payments.ways.ask(payee, NATIVE, Amount(amount), Amount(max_fee), final_delta=Seconds(20))


def drawn(node: Parts) -> list[bytes]:
    """What the node draws from now on: each something else."""
    numbers, seen = count(1), []

    def randomness(length: int) -> bytes:
        seen.append(keccak(next(numbers).to_bytes(4, "big"))[:length])
        return seen[-1]

    node.payments.probing._randomness = randomness
    return seen


@asynccontextmanager
async def probing(node: Parts, how_many: int = 1, amount: int = 10) -> AsyncIterator[list[Probed | Refused]]:
    """So many probes that are out, and what their callers are told."""
    told: list[Probed | Refused] = []

    async def call() -> None:
        try:
            told.append(await node.payments.probing.probe(ask(node, amount)))
        except Refused as fault:
            told.append(fault)

    with trio.fail_after(5):
        async with trio.open_nursery() as callers:
            for _ in range(how_many):
                callers.start_soon(call)
            await node.quiet()
            yield told
            await node.quiet()
            callers.cancel_scope.cancel()


def books(node: Parts) -> list[object]:
    """All that is told of payments."""
    tables = ("payments", "invoices", "events", "preimages", "known")
    return [node.store.rows(f"SELECT * FROM {table}") for table in tables]


async def test_nobody_knows_a_preimage(nursery: trio.Nursery) -> None:
    """The hash is drawn itself; none of the words that were drawn opens it."""
    with parts(nursery) as node:
        await street(node)
        words, before = drawn(node), books(node)
        async with probing(node):
            (attempt,) = attempts(node)
            assert attempt.hash in words
            assert attempt.hash not in {sha256(word) for word in words}
            (lock,) = [
                update.lock
                for actor in node.book.actors.values()
                for update in (actor.channel.outstanding.updates if actor.channel.outstanding else ())
                if isinstance(update, AddLock)
            ]
            assert (lock.key, lock.amount) == (attempt.hash, 13)
            assert lock.expiry == node.world.now + 20 + 3 * 2 + 10, "no longer than a payment's"
            node.payments.returned(attempt, answer(attempt, 1, FailureCode.UNKNOWN_PAYMENT))
        assert books(node) == before


@pytest.mark.parametrize(
    ("at", "said", "state", "failed", "code"),
    [
        (2, FailureCode.UNKNOWN_PAYMENT, "arrived", None, "payment_rejected"),
        (2, FailureCode.FINAL_INCORRECT_AMOUNT, "arrived", None, "payment_failed"),
        (0, FailureCode.TEMPORARY_CHANNEL_FAILURE, "failed", SECOND, "hop_short"),
        (1, FailureCode.TEMPORARY_CHANNEL_FAILURE, "failed", THIRD, "hop_short"),
        (1, FailureCode.UNKNOWN_NEXT_PEER, "failed", THIRD, "payee_offline"),
        (1, FailureCode.UNKNOWN_PAYMENT, "failed", THIRD, "payment_failed"),
        (2, FailureCode.TEMPORARY_CHANNEL_FAILURE, "failed", THIRD, "hop_short"),
        (2, FailureCode.SAFE_MODE, "failed", THIRD, "safe_mode"),
    ],
)
async def test_what_comes_back_says_how_far_it_got(
    nursery: trio.Nursery, at: int, said: FailureCode, state: str, failed: bytes | None, code: str
) -> None:
    """Only the payee can say that it has arrived, in the payee's words."""
    with parts(nursery) as node:
        await street(node, FARTHER)
        async with probing(node) as told:
            (attempt,) = attempts(node)
            node.payments.returned(attempt, answer(attempt, at, said))
        (probed,) = told
        assert isinstance(probed, Probed) and probed.lesson is not None
        assert ("arrived" if probed.lesson.final else "failed", probed.failed) == (state, failed)
        assert probed.lesson.code == code


async def test_it_teaches_like_a_payment(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await street(node, FARTHER)
        for code, at in ((FailureCode.UNKNOWN_PAYMENT, 2), (FailureCode.TEMPORARY_CHANNEL_FAILURE, 0)):
            drawn(node)
            async with probing(node, amount=100):
                attempt = attempts(node)[-1]
                amount = locks_of(attempt)[1][1].amount
                node.payments.returned(attempt, answer(attempt, at, code))
            chance = node.payments.liquidity.chance((SECOND, Side.A), amount, Amount(1_000), node.world.now)
            assert chance == 1.0 if code is FailureCode.UNKNOWN_PAYMENT else chance < 0.01


async def test_a_few_at_a_time(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await street(node, ours=3)
        drawn(node)
        async with probing(node, UNDER_WAY + 1) as told:
            assert len(attempts(node)) == UNDER_WAY
            (fault,) = told
            assert isinstance(fault, Refused) and fault.code == "busy" and fault.hint
            first = attempts(node)[0]
            node.payments.returned(first, answer(first, 1, FailureCode.UNKNOWN_PAYMENT))
            await node.quiet()
            assert len(told) == 2
            with trio.move_on_after(0.1):
                await node.payments.probing.probe(ask(node))
            assert len(node.store.rows("SELECT 1 FROM attempts")) == UNDER_WAY + 1, "one that is back makes room"


async def test_seldom(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await street(node, ours=3)
        drawn(node)
        for _ in range(RATE.burst):
            async with probing(node):
                attempt = attempts(node)[-1]
                node.payments.returned(attempt, answer(attempt, 1, FailureCode.UNKNOWN_PAYMENT))
        async with probing(node) as told:
            pass
        (fault,) = told
        assert isinstance(fault, Refused) and fault.code == "busy" and fault.hint
        node.clock[0] += RATE.every
        async with probing(node):
            assert len(node.store.rows("SELECT 1 FROM attempts")) == RATE.burst + 1


async def test_a_refusal_is_not_counted(nursery: trio.Nursery) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        await street(node)
        for _ in range(RATE.burst + 1):
            with pytest.raises(Refused) as told:
                await node.payments.probing.probe(ask(node, 501))
            assert told.value.code == "insufficient_balance"
        async with probing(node):
            assert len(attempts(node)) == 1


async def test_half_of_the_slots_are_kept_for_payments(nursery: trio.Nursery) -> None:
    """Ours have room for 8 locks."""
    with parts(nursery) as node:
        first = await street(node)
        drawn(node)
        for number in range(4):
            lock = Offer(tag=b"%d" % number, amount=Amount(1), key=bytes(32), expiry=node.world.now + 99, onion=b"")  # type: ignore[arg-type]
            node.book._offers[lock.tag] = Attempt(hash=LockKey(bytes(32)), route=b"")
            await first.ask(lock)
        async with probing(node) as told:
            assert attempts(node)[4:] == []
        (fault,) = told
        assert isinstance(fault, Refused) and fault.code == "busy" and "slots" in fault.text


async def test_one_that_hangs_is_waited_for_in_vain_and_keeps_its_place(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channeld.node.probing.PATIENCE", 0.05)
    with parts(nursery) as node:
        await street(node)
        drawn(node)
        async with probing(node, UNDER_WAY) as told:
            while len(told) < UNDER_WAY:
                await trio.sleep(0.01)
        assert {one.lesson for one in told if isinstance(one, Probed)} == {None}
        async with probing(node) as again:
            pass
        assert [one.code for one in again if isinstance(one, Refused)] == ["busy"]
        late = attempts(node)[0]
        node.payments.returned(late, answer(late, 0, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        chance = node.payments.liquidity.chance((SECOND, Side.A), Amount(10), Amount(1_000), node.world.now)
        assert chance < 0.01, "what comes late still teaches"


async def test_after_a_restart_it_is_nobodys(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await street(node)
        before = books(node)
        async with probing(node):
            (attempt,) = attempts(node)
        old = node.payments
        node.book.payer = node.payments = Payments(
            node.book,
            node.store,
            node.world,
            old._graph,
            domain=old._domain,
            us=old._us,
            randomness=old._randomness,
            nursery=nursery,
        )
        node.payments.resume()
        node.payments.returned(attempt, answer(attempt, 1, FailureCode.UNKNOWN_PAYMENT))
        node.payments.fulfilled(attempt, Preimage(bytes(32)), node.world.now)
        node.payments.forgotten(attempt.hash)
        await node.quiet()
        assert books(node) == before
        assert not any(actor.broken for actor in node.book.actors.values())


async def test_what_our_own_channel_says_is_told(nursery: trio.Nursery) -> None:
    """Others took what it had, since we looked."""
    with parts(nursery) as node:
        first = await street(node)
        drawn(node)
        async with probing(node, 2, amount=300) as told:
            assert len(attempts(node)) == 1
        (fault,) = told
        assert isinstance(fault, Refused) and fault.code == "insufficient_balance" and fault.hint
        assert not first.broken


@pytest.mark.parametrize("safe", [True, False])
async def test_in_safe_mode_none_is_sent(nursery: trio.Nursery, safe: bool) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        await street(node)
        node.world.fault = None if safe else "the endpoints disagree"
        async with probing(node) as told:
            assert len(attempts(node)) == safe
        assert [one.code for one in told if isinstance(one, Refused)] == ([] if safe else ["safe_mode"])


async def test_only_what_is_connected_is_probed(nursery: trio.Nursery) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        first = await street(node)
        lay(node, SECOND, HUB, PAYEE)
        first.channel = replace(first.channel, session=Session.CUT)
        with pytest.raises(Refused) as told:
            await node.payments.probing.probe(ask(node))
        assert told.value.code == "no_route"
