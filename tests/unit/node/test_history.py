"""A long history costs nobody anything: a page of it is as many steps of SQLite as of a short one, and pages fit.

Steps are counted by SQLite itself (its progress handler), so a scan that an index should have spared shows whatever
the machine does meanwhile.
"""

from __future__ import annotations

from typing import Any

import pytest

from channeld.base.errors import Malformed
from channeld.node.service import Service
from channeld.storage.store import Batch, wide
from tests.roles import START
from tests.unit.node import test_service
from tests.unit.node.test_service import invoice, out_of

SHORT, LONG = 100, 20_000
service = test_service.service
"""The fixture: a forwarder with a payer and a payee, behind the socket's calls."""


async def lengthen(service: Service, text: str, first: int, count: int) -> None:
    """So many payments, paid invoices, open invoices and transfers more, a second between two of a kind."""
    batch = Batch()
    rows = "WITH RECURSIVE g(x) AS (SELECT ? UNION ALL SELECT x + 1 FROM g WHERE x + 1 < ?) INSERT INTO "
    some, amount = (first, first + count), wide(7)
    batch.add(
        f"{rows} payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, hops, state, preimage, code, "
        "text, at, settled_at) "
        "SELECT randomblob(32), x + 1, ?, zeroblob(20), x'', ?, ?, ?, 0, 1, 'succeeded', x'05', '', '', ? + x, ? + x "
        "FROM g",
        *(*some, text, amount, wide(0), wide(0), START, START),
    )
    for state, number in (("paid", 2), ("open", 3)):
        batch.add(
            f"{rows} invoices (hash, n, preimage, secret, text, token, amount, created, expires, state, received, "
            "paid_at) SELECT randomblob(32), 2 * x + ?, x'05', x'', ?, zeroblob(20), ?, 0, ? + x, ?, ?, ? + x FROM g",
            *(*some, number, text, amount, START, state, amount, START),
        )
    batch.add(
        f"{rows} transfers SELECT NULL, ?, randomblob(16), 1, ?, 'succeeded', 1, x'', ? + x, ? + x FROM g",
        *(*some, out_of(service), amount, START, START),
    )
    await service.store.commit(batch)


class Steps:
    """Counts the steps that SQLite takes, by whichever connection."""

    def __init__(self, service: Service) -> None:
        store: Any = service.store
        self._connections = {store._reader, store._writer}
        self.count = 0

    def __enter__(self) -> Steps:
        for one in self._connections:
            one.set_progress_handler(self._more, 1)
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._connections:
            one.set_progress_handler(None, 1)

    def _more(self) -> int:
        self.count += 1
        return 0


@pytest.fixture
async def text(service: Service) -> str:
    return str((await invoice(service))["invoice"])


async def test_a_page_costs_the_same_however_long_the_history_is(service: Service, text: str):
    async def costs() -> list[int]:
        (some,) = service.store.rows("SELECT id FROM transfers ORDER BY n LIMIT 1")
        (hash_,) = service.store.rows("SELECT hash FROM payments ORDER BY n LIMIT 1")
        found = []
        for call, asked in (
            (service.list_payments, {"limit": 50, "cursor": None}),
            (service.list_payments, {"limit": 50, "cursor": f"60.{START + 60}.0.60"}),
            (service.list_invoices, {"limit": 50, "cursor": None}),
            (service.list_invoices, {"limit": 50, "cursor": "90"}),
            (service.lookup_payment, {"id": some[0]}),
            (service.lookup_payment, {"id": hash_[0]}),
        ):
            with Steps(service) as steps:
                told = await call(**asked)
            assert len(told.get("payments") or told.get("invoices") or [told]) in (1, 50)
            found.append(steps.count)
        return found

    await lengthen(service, text, 0, SHORT)
    short = await costs()
    assert min(short) > 10
    await lengthen(service, text, SHORT, LONG)
    assert await costs() == pytest.approx(short, rel=0.1)


async def test_pages_follow_each_other_whatever_comes_in_between(service: Service, text: str):
    await lengthen(service, text, 0, 30)
    whole = (await service.list_payments(limit=1_000, cursor=None))["payments"]
    assert len(whole) == 90
    times = [one["settled_at"] for one in whole]
    assert times == sorted(times, reverse=True)
    kinds = {(one["kind"], one["direction"]) for one in whole[:3]}
    assert kinds == {("invoice", "out"), ("invoice", "in"), ("transfer", "out")}
    listed: list[dict[str, Any]] = []
    cursor: str | None = None
    for number in range(13):
        page = await service.list_payments(limit=7, cursor=cursor)
        listed += page["payments"]
        cursor = page["next"]
        assert cursor is None or len(cursor) <= 64, "as the schema says"
        await lengthen(service, text, 30 + number, 1)
    assert listed == whole
    assert cursor is None


@pytest.mark.parametrize("cursor", ["x", "1.2.3", "1.2.3.4.5", "1.2.3.-4", "1.2.3.9999999999999999", "1.2.3.²"])
async def test_a_cursor_that_is_none_is_refused(service: Service, cursor: str):
    with pytest.raises(Malformed):
        await service.list_payments(limit=2, cursor=cursor)


async def test_ids_of_our_own_making_are_in_the_order_of_time(service: Service):
    """So both books put each where they put the one before."""
    ids: list[str] = []
    for number in range(20):
        service.world.clock = lambda number=number: START + number / 1_000  # type: ignore[misc]
        done = await service.send_transfers(
            channel_id=out_of(service), transfers=[{"id": None, "amount": 1}] * 2, wait=True
        )
        assert len(set(done["ids"])) == 2
        ids += [min(done["ids"]), max(done["ids"])]
    assert ids == sorted(ids)
    mine = b"\xff" * 16
    done = await service.send_transfers(channel_id=out_of(service), transfers=[{"id": mine, "amount": 1}], wait=True)
    assert done["ids"] == [f"0x{mine.hex()}"], "a wallet's own is its own"
