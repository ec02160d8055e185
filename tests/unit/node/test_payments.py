"""Asked twice is paid once, and the outcome is told to everybody who asked."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import trio

from channeld.base.errors import Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Amount, NodeId, Seconds
from channeld.node.service import Service
from channeld.wire import invoice
from channeld.wire.invoice import Invoice
from tests.roles import DOMAIN, START, lock_key, name, open_pair
from tests.unit.node.parts import SECRET, Parts, parts, renamed

PAYEE = Key(sha256(b"the payee"))


def asked(**more: object) -> Invoice:
    values: dict[str, object] = {
        "domain": DOMAIN,
        "token": NATIVE,
        "amount": Amount(100),
        "payment_hash": lock_key(1),
        "payment_secret": SECRET,
        "created": START,
        "expiry": Seconds(3_600),
        "description": "",
        "payee": NodeId(PAYEE.public),
        "min_final_delta": Seconds(20),
        "hints": (),
    }
    return Invoice(**(values | more))  # type: ignore[arg-type]


async def test_two_calls_at_once_begin_one_payment_and_hear_one_outcome(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        text = invoice.encode(asked(), PAYEE)
        told: list[str] = []

        async def pay() -> None:
            try:
                await node.payments.pay(text, None, None, 5)
            except Refused as fault:
                told.append(fault.code)

        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                callers.start_soon(pay)
                callers.start_soon(pay)
        assert len(told) == 2
        assert len(set(told)) == 1
        assert node.store.rows("SELECT state FROM payments") == [("failed",)]
        assert len(node.store.rows("SELECT n FROM events WHERE type = 'payment_failed'")) == 1


def service_of(node: Parts, **more: Any) -> Service:
    """The calls that need no chain, no lines and, unless there is `more`, no configuration and no key."""
    missing = {field.name: None for field in fields(Service) if field.init and field.default_factory is MISSING}
    given = {"book": node.book, "store": node.store, "world": node.world, "payments": node.payments}
    return Service(**(missing | given | more))  # type: ignore[arg-type]


async def test_a_transfer_asked_for_twice_at_once_is_made_once(nursery: trio.Nursery) -> None:
    """A caller that repeats itself neither pays twice nor stops the channel."""
    with parts(nursery) as node:
        actor = await node.add(open_pair().acceptor.channel)
        service = service_of(node)
        states: list[str] = []

        async def send() -> None:
            told = await service.send_transfers(
                channel_id=actor.channel.id, transfers=[{"id": name(1), "amount": 10}], wait=False
            )
            states.append(told["state"])

        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                for _ in range(3):
                    callers.start_soon(send)
        assert states == ["pending"] * 3
        assert not actor.broken
        out = actor.channel.outstanding
        assert len(actor.channel.queue) + len(out.updates if out else ()) == 1


async def test_a_failed_payment_asked_for_under_the_same_key_is_not_tried_again(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        service, text = service_of(node), invoice.encode(asked(), PAYEE)
        codes: list[str] = []

        async def pay(key: str) -> None:
            try:
                await service.pay_invoice(invoice=text, amount=None, max_fee=5, timeout=5, idempotency_key=key)
            except Refused as fault:
                codes.append(fault.code)

        for key in ("one", "one", "two"):
            await pay(key)
        assert (len(codes), len(set(codes))) == (3, 1)
        assert len(node.store.rows("SELECT n FROM events WHERE type = 'payment_failed'")) == 2


async def test_one_key_used_by_two_callers_at_once_does_its_work_once(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        service, text = service_of(node), invoice.encode(asked(), PAYEE)
        codes: list[str] = []

        async def pay() -> None:
            try:
                await service.pay_invoice(invoice=text, amount=None, max_fee=5, timeout=5, idempotency_key="one")
            except Refused as fault:
                codes.append(fault.code)

        async with trio.open_nursery() as callers:
            for _ in range(3):
                callers.start_soon(pay)
        assert (len(codes), len(set(codes))) == (3, 1)
        assert len(node.store.rows("SELECT n FROM events WHERE type = 'payment_failed'")) == 1


async def test_what_others_took_meanwhile_goes_over_another_channel(nursery: trio.Nursery) -> None:
    """Payments asked for together look at the same saved channel; it has room for the first of them only."""
    with parts(nursery) as node:
        small = await node.add(replace(renamed(open_pair(deposit_b=150).acceptor.channel, 7), peer=PAYEE.public))
        large = await node.add(replace(renamed(open_pair().acceptor.channel, 8), peer=PAYEE.public))
        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                for number in (1, 2, 3):
                    text = invoice.encode(asked(payment_hash=lock_key(number)), PAYEE)
                    callers.start_soon(node.payments.pay, text, None, None, 5)
                await node.quiet()
                await node.quiet()
                rows = node.store.rows("SELECT channel, count(*) FROM attempts GROUP BY channel ORDER BY channel")
                assert rows == [(small.channel.id, 1), (large.channel.id, 2)]
                assert node.store.rows("SELECT DISTINCT state FROM payments") == [("pending",)]
                callers.cancel_scope.cancel()


async def test_when_no_channel_takes_it_the_reason_is_that_of_the_first(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        await node.add(replace(open_pair(deposit_b=150).acceptor.channel, peer=PAYEE.public))
        told: list[str] = []

        async def pay(number: int) -> None:
            try:
                await node.payments.pay(invoice.encode(asked(payment_hash=lock_key(number)), PAYEE), None, None, 5)
            except Refused as fault:
                told.append(fault.code)

        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                callers.start_soon(pay, 1)
                callers.start_soon(pay, 2)
                while not told:
                    await trio.sleep(0.01)
                callers.cancel_scope.cancel()
        assert told == ["insufficient_balance"]


async def test_an_older_attempt_that_comes_back_again_begins_no_other(nursery: trio.Nursery) -> None:
    """A close on chain can give a lock back that was given back before, while the next attempt is under way."""
    with parts(nursery) as node:
        await node.add(replace(renamed(open_pair().acceptor.channel, 7), peer=PAYEE.public))
        await node.add(replace(renamed(open_pair().acceptor.channel, 8), peer=PAYEE.public))
        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                callers.start_soon(node.payments.pay, invoice.encode(asked(), PAYEE), None, None, 5)
                await node.quiet()
                ((channel, lock, route),) = node.store.rows("SELECT channel, lock, route FROM attempts")
                under_way = node.book.attempt((channel, lock))
                assert under_way is not None
                node.payments.returned(replace(under_way, route=route), b"")
                await node.quiet()
                assert node.store.rows("SELECT count(*) FROM attempts") == [(1,)]
                node.payments.returned(under_way, b"")
                await node.quiet()
                assert node.store.rows("SELECT count(*) FROM attempts") == [(2,)]
                callers.cancel_scope.cancel()
