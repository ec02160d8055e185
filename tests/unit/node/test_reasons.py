"""Each reason why a payment does not go has a code of its own, a text that names what is in the way, and a hint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.keys import Key
from channeld.base.units import Amount, Seconds, Timestamp
from channeld.core.channel import Session
from channeld.wire import invoice
from channeld.wire.failure import FailureCode
from tests.roles import START
from tests.unit.node.parts import Parts, parts
from tests.unit.node.streets import FARTHER, HUB, PAYEE, TOLL, answer, attempts, street
from tests.unit.node.test_payments import asked, service_of

STRANGER = Key(b"\x42" * 32)


def text_of(amount: int = 100, payee: Key = PAYEE, created: int = START) -> str:
    return invoice.encode(asked(amount=Amount(amount), payee=payee.public, created=Timestamp(created)), payee)


async def refusal(node: Parts, text: str, max_fee: int = 50) -> Refused:
    with pytest.raises(Refused) as told:
        await service_of(node).pay_invoice(invoice=text, amount=None, max_fee=max_fee, timeout=30, idempotency_key=None)
    return told.value


@pytest.mark.parametrize(
    ("code", "says", "text", "max_fee"),
    [
        ("unknown_payee", STRANGER.public.hex(), text_of(payee=STRANGER), 50),
        ("insufficient_balance", "no own channel can send 501", text_of(501), 50),
        ("insufficient_balance", "no own channel on the way can send 500", text_of(500), 50),
        ("fee_budget", "more than 2 in fees", text_of(), 2),
        ("invoice_expired", "expired", text_of(created=START - 99_999), 50),
    ],
)
async def test_what_is_known_before_anything_is_sent(
    nursery: trio.Nursery, code: str, says: str, text: str, max_fee: int
) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        await street(node)
        told = await refusal(node, text, max_fee)
        assert (told.code, says in told.text) == (code, True), told.text
        assert told.hint
        assert attempts(node) == []


async def test_no_route(nursery: trio.Nursery) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        await street(node, policy=replace(TOLL, disabled=True))
        told = await refusal(node, text_of())
        assert (told.code, bool(told.hint)) == ("no_route", True)
        assert PAYEE.public.hex() in told.text


async def test_too_long(nursery: trio.Nursery) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        await street(node, policy=replace(TOLL, expiry_delta=Seconds(15 * 86_400)))
        told = await refusal(node, text_of())
        assert (told.code, bool(told.hint)) == ("no_route", True)
        assert "1209600 s of lock time" in told.text


async def test_an_own_channel_whose_peer_is_away_is_not_used(nursery: trio.Nursery) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        first = await street(node)
        first.channel = replace(first.channel, session=Session.CUT)
        told = await refusal(node, text_of())
        assert (told.code, told.text) == ("no_route", "no own channel in this token can be used")
        assert told.hint


@asynccontextmanager
async def under_way(node: Parts, *between: Key) -> AsyncIterator[list[Refused]]:
    """A payment over the street whose first lock is out, and what its caller is told."""
    told: list[Refused] = []
    await street(node, *between)

    async def call() -> None:
        told.append(await refusal(node, text_of()))

    with trio.fail_after(5):
        async with trio.open_nursery() as callers:
            callers.start_soon(call)
            await node.quiet()
            assert len(attempts(node)) == 1
            yield told
            await node.quiet()


@pytest.mark.parametrize(
    ("code", "between", "at", "said", "says"),
    [
        ("hop_short", (), 0, FailureCode.TEMPORARY_CHANNEL_FAILURE, ("hop 1 of 2", HUB)),
        ("hop_short", (FARTHER,), 1, FailureCode.TEMPORARY_CHANNEL_FAILURE, ("hop 2 of 3", FARTHER)),
        ("payee_offline", (), 0, FailureCode.UNKNOWN_NEXT_PEER, ("hop 1 of 2", HUB)),
        ("payee_offline", (FARTHER,), 1, FailureCode.UNKNOWN_NEXT_PEER, ("hop 2 of 3", FARTHER)),
        ("payment_failed", (FARTHER,), 0, FailureCode.UNKNOWN_NEXT_PEER, ("hop 1 of 3", HUB)),
        ("payment_rejected", (), 1, FailureCode.UNKNOWN_PAYMENT, ("hop 2 of 2", PAYEE)),
        ("payment_timeout", (), 1, FailureCode.PAYMENT_TIMEOUT, ("hop 2 of 2", PAYEE)),
        ("safe_mode", (), 0, FailureCode.SAFE_MODE, ("hop 1 of 2", HUB)),
        ("payment_failed", (), 0, FailureCode.FEE_INSUFFICIENT, ("hop 1 of 2", HUB)),
    ],
)
async def test_what_a_hop_says(
    nursery: trio.Nursery, code: str, between: tuple[Key, ...], at: int, said: FailureCode, says: tuple[str, Key]
) -> None:
    with parts(nursery) as node:
        async with under_way(node, *between) as told:
            (attempt,) = attempts(node)
            node.payments.returned(attempt, answer(attempt, at, said))
        (fault,) = told
        assert fault.code == code
        place, hop = says
        assert place in fault.text and hop.public.hex()[:16] in fault.text and said.name.lower() in fault.text
        assert fault.hint.startswith("nothing was paid")


async def test_the_deadline(nursery: trio.Nursery) -> None:
    """What comes back after it is not tried again, though there may be another way."""
    with parts(nursery) as node:
        async with under_way(node) as told:
            (attempt,) = attempts(node)
            node.clock[0] += 31
            node.payments.returned(attempt, answer(attempt, 0, FailureCode.TEMPORARY_CHANNEL_FAILURE))
        (fault,) = told
        assert fault.code == "payment_timeout"
        assert "in time" in fault.text and "hop 1 of 2" in fault.text and "--timeout" in fault.hint


async def test_the_same_question_without_an_invoice_has_the_same_reasons(nursery: trio.Nursery) -> None:
    with parts(nursery) as node, trio.fail_after(5):
        await street(node)
        for payee, amount, max_fee, code in (
            (STRANGER, 100, 50, "unknown_payee"),
            (PAYEE, 501, 50, "insufficient_balance"),
            (PAYEE, 100, 2, "fee_budget"),
        ):
            told = await refusal(node, text_of(amount, payee), max_fee)
            with pytest.raises(Refused) as planned:
                await service_of(node).find_route(invoice=text_of(amount, payee), amount=None, max_fee=max_fee)
            with pytest.raises(Refused) as estimated:
                node.payments.ways.plan(
                    node.payments.ways.ask(
                        payee.public,
                        asked().token,
                        Amount(amount),
                        Amount(max_fee),
                        final_delta=Seconds(20),
                    )
                )
            assert told.code == planned.value.code == estimated.value.code == code
            assert told.text == planned.value.text == estimated.value.text
            assert planned.value.hint and planned.value.hint == estimated.value.hint
