"""A payment of ours in parts: never more than the amount is promised, and it fails only when nothing is under way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from channeld.base.errors import Broken, Refused
from channeld.base.units import Amount
from channeld.node import finding, payments
from channeld.node.attempts import locks_of
from channeld.node.ledger import Attempt
from channeld.node.payments import Payments
from channeld.storage.store import Batch
from channeld.wire import invoice, onion
from routing.search import Route
from tests.roles import lock_key, open_pair, preimage
from tests.unit.node.parts import Parts, parts, renamed
from tests.unit.node.test_payments import PAYEE, asked

WHOLE = 800
"""More than one channel has, of 500 each."""


@asynccontextmanager
async def paying(nursery: trio.Nursery, channels: int) -> AsyncIterator[tuple[Parts, list[str]]]:
    """A payment under way over so many channels with the payee, and what its caller was told."""
    told: list[str] = []
    with parts(nursery) as node:
        for number in range(channels):
            await node.add(replace(renamed(open_pair().acceptor.channel, 7 + number), peer=PAYEE.public))

        async def pay() -> None:
            text = invoice.encode(asked(amount=Amount(WHOLE)), PAYEE)
            try:
                told.append((await node.payments.pay(text, None, None, 5)).state)
            except Refused as fault:
                told.append(fault.code)

        with trio.fail_after(5):
            async with trio.open_nursery() as callers:
                callers.start_soon(pay)
                await node.quiet()
                yield node, told
                callers.cancel_scope.cancel()


def under_way(node: Parts) -> list[Attempt]:
    rows = node.store.rows("SELECT channel, lock FROM attempts ORDER BY rowid")
    found = [node.book.attempt((channel, lock)) for channel, lock in rows]
    return [one for one in found if one is not None]


def amounts(some: list[Attempt]) -> list[int]:
    return [int(locks_of(one)[1][-1].amount) for one in some]


async def test_both_channels_are_used_and_promise_the_amount(nursery: trio.Nursery) -> None:
    async with paying(nursery, 2) as (node, told):
        assert sum(amounts(under_way(node))) == WHOLE and len(under_way(node)) == 2
        assert node.store.rows("SELECT state, hops FROM payments") == [("pending", 1)]
        assert told == []


async def test_only_what_came_back_is_sent_again(nursery: trio.Nursery) -> None:
    async with paying(nursery, 3) as (node, told):
        first = under_way(node)
        node.payments.returned(first[0], b"")
        await node.quiet()
        later = under_way(node)[len(first) :]
        assert sum(amounts(later)) == amounts(first)[0]
        used = {locks_of(one)[1][0].direction for one in later}
        assert locks_of(first[0])[1][0].direction not in used
        assert told == []


async def test_it_fails_once_nothing_is_under_way(nursery: trio.Nursery) -> None:
    """No way is left for the first part; the second may still be taken, so nobody is told before it is back."""
    async with paying(nursery, 2) as (node, told):
        one, other = under_way(node)
        node.payments.returned(one, b"")
        await node.quiet()
        assert len(under_way(node)) == 2 and told == []
        assert node.store.rows("SELECT state FROM payments") == [("pending",)]
        node.payments.returned(other, b"")
        await node.quiet()
        assert told == ["payment_failed"]
        assert node.store.rows("SELECT state FROM payments") == [("failed",)]
        assert len(node.store.rows("SELECT n FROM events WHERE type = 'payment_failed'")) == 1


async def test_the_first_preimage_pays_it(nursery: trio.Nursery) -> None:
    async with paying(nursery, 2) as (node, told):
        one, _ = under_way(node)
        node.payments.fulfilled(one, preimage(1), node.world.now)
        await node.quiet()
        assert told == ["succeeded"]


async def test_after_a_restart_nothing_is_promised_twice(nursery: trio.Nursery) -> None:
    async with paying(nursery, 5) as (node, _):
        before = under_way(node)
        old = node.payments
        node.payments = Payments(
            node.book,
            node.store,
            node.world,
            old._graph,
            domain=old._domain,
            us=old._us,
            randomness=old._randomness,
            nursery=nursery,
        )
        (gone,) = node.store.rows("SELECT channel, lock FROM attempts ORDER BY rowid LIMIT 1")
        batch = Batch()
        batch.add("UPDATE attempts SET state = 'returned' WHERE channel = ? AND lock = ?", *gone)
        await node.store.commit(batch)  # and what followed from it was not saved
        node.payments.resume()
        await node.quiet()
        assert under_way(node) == before, "it is not given up, though no way is looked for yet"
        assert node.store.rows("SELECT state FROM payments") == [("pending",)]
        node.payments.returned(before[1], b"")
        await node.quiet()
        assert sum(amounts(under_way(node)[len(before) :])) == WHOLE
        assert node.store.rows("SELECT hash FROM payments") == [(lock_key(1),)]


async def test_a_mistake_in_finding_a_way_ends_the_payment_and_no_channel(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes back is planned anew in the turn of the channel that brought it."""

    def mistaken(*_: object, **__: object) -> tuple[Route, ...]:
        raise IndexError("a mistake")

    async with paying(nursery, 2) as (node, told):
        monkeypatch.setattr(finding, "find_parts", mistaken)
        for one in under_way(node):
            node.payments.returned(one, b"")
        await node.quiet()
        assert told == ["internal"]
        assert node.store.rows("SELECT state, code FROM payments") == [("failed", "internal")]


async def test_an_onion_that_cannot_be_built_ends_the_payment_and_no_channel(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_: object, **__: object) -> onion.Built:
        raise Broken("no onion can be built")

    async with paying(nursery, 2) as (node, told):
        monkeypatch.setattr(finding, "find_parts", lambda *_, **__: (Route(hops=(), cost=0),))
        monkeypatch.setattr(payments, "build", too_long)
        for one in under_way(node):
            node.payments.returned(one, b"")
        await node.quiet()
        assert told == ["internal"]
        assert node.store.rows("SELECT state, code FROM payments") == [("failed", "internal")]
