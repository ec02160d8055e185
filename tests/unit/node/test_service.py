"""What the socket's calls do to the books: asked twice is done once, lists have an order, refusals leave nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from channeld.base.errors import Malformed, Refused
from channeld.base.keys import keccak
from channeld.base.units import Address, ChannelId
from channeld.chain.networks import network
from channeld.node.config import Config
from channeld.node.payments import Payments
from channeld.node.pruning import KEPT_ANSWERS, Pruning
from channeld.node.service import Service
from channeld.storage.store import Batch
from channeld.wire.address import HostPort
from routing.graph import Graph
from tests.roles import DOMAIN, START, lock_key, preimage
from tests.unit.node.hub import FORWARDER_KEY, NODE_KEY, PAYEE_KEY, Hub, hub, start


class NoHints:
    """A view of the network in which no private channel is worth telling."""

    def hints(self, token: Address) -> list[Any]:
        return []


class Talking:
    """Delivers between the forwarder and its peers while a call waits."""

    def __init__(self, node: Hub) -> None:
        self.node = node

    async def run(self) -> None:
        while True:
            await trio.sleep(0.01)
            for leg in self.node.legs:
                leg.deliver()


def service_of(node: Hub, place: Path, seed: int = 1) -> Service:
    """The calls of a node that stands there, without its chain, lines and towers. `seed`: of its chance."""
    numbers = count(seed)

    def randomness(length: int) -> bytes:
        return keccak(next(numbers).to_bytes(4, "big"))[:length]

    payments = Payments(
        node.book,
        node.store,
        node.world,
        Graph(),
        domain=DOMAIN,
        us=NODE_KEY.public,
        randomness=randomness,
        nursery=node.nursery,
    )
    return Service(
        config=Config(
            data_dir=place,
            network=replace(network("dev"), manager=DOMAIN.manager, registry=Address(b"\6" * 20)),
            socket=place / "rpc.sock",
            rpc=("http://127.0.0.1:8545",),
        ),
        book=node.book,
        store=node.store,
        world=node.world,
        lines=cast(Any, None),
        openings=cast(Any, None),
        payments=payments,
        desk=node.desk,
        guard=cast(Any, None),
        reserve=cast(Any, None),
        gossip=cast(Any, NoHints()),
        towers=cast(Any, None),
        account_key=FORWARDER_KEY,
        node_key=NODE_KEY,
        domain=DOMAIN,
        randomness=randomness,
        listen=HostPort(host="127.0.0.1", port=1),
        stop_=trio.Event(),
    )


@pytest.fixture
async def service(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[Service]:
    with hub(nursery) as node:
        await start(node)
        nursery.start_soon(Talking(node).run)
        yield service_of(node, tmp_path)


async def invoice(
    service: Service, amount: int | None = 5, key: str | None = None, text: str = "a kite"
) -> dict[str, Any]:
    return await service.make_invoice(token="native", amount=amount, description=text, expiry=600, idempotency_key=key)


async def test_an_invoice_made_twice_under_one_key_is_one(service: Service):
    first, again = await invoice(service, key="k"), await invoice(service, key="k")
    assert first == again
    assert (await service.list_invoices(limit=10, cursor=None))["invoices"] == [first]
    with pytest.raises(Refused) as told:
        await invoice(service, 6, key="k")
    assert told.value.code == "idempotency_conflict"
    assert await invoice(service) != first


async def hold_invoice(service: Service, number: int = 7, hold: int | None = None, key: str | None = None) -> Any:
    return await service.make_invoice(
        token="native",
        amount=5,
        description="a swap",
        expiry=600,
        payment_hash=lock_key(number),
        hold_time=hold,
        idempotency_key=key,
    )


async def test_an_invoice_for_a_hash_of_the_callers_asks_for_time_and_knows_no_preimage(service: Service):
    made, longer = await hold_invoice(service), await hold_invoice(service, 8, 86_400)
    final = service.config.network.final_delta
    assert (made["payment_hash"], made["hold_time"]) == (f"0x{lock_key(7).hex()}", 3_600)
    assert service.payments.read(made["invoice"]).min_final_delta == final + 3_600
    assert service.payments.read(longer["invoice"]).min_final_delta == final + 86_400
    assert service.store.rows("SELECT preimage FROM invoices") == [(b"",), (b"",)]
    found = await service.lookup_invoice(payment_hash=lock_key(7))
    assert (found["state"], found["preimage"], found["settle_by"]) == ("open", None, None)
    assert found == made


async def test_a_hash_has_one_invoice(service: Service):
    """Also for two calls at the same moment; under one idempotency key they are one call."""
    told: list[str] = []

    async def make() -> None:
        try:
            told.append((await hold_invoice(service))["state"])
        except Refused as fault:
            told.append(fault.code)

    async with trio.open_nursery() as callers:
        callers.start_soon(make)
        callers.start_soon(make)
    assert sorted(told) == ["invoice_exists", "open"]
    first, again = await hold_invoice(service, 8, key="k"), await hold_invoice(service, 8, key="k")
    assert first == again
    with pytest.raises(Refused) as conflict:
        await hold_invoice(service, 8, 700, key="k")
    assert conflict.value.code == "idempotency_conflict"


@pytest.mark.parametrize("known", ["here", "on chain"])
async def test_no_invoice_for_a_preimage_that_others_may_know(service: Service, known: str):
    if known == "here":
        batch = Batch()
        batch.add("INSERT INTO preimages VALUES (?, ?)", lock_key(7), preimage(7))
        await service.store.commit(batch)
    else:
        service.world.registered[lock_key(7)] = START
    with pytest.raises(Refused) as told:
        await hold_invoice(service)
    assert told.value.code == "invoice_exists"


async def test_what_is_not_held_has_no_time_to_hold_it(service: Service):
    with pytest.raises(Malformed):
        await service.make_invoice(
            token="native", amount=5, description="", expiry=600, hold_time=60, idempotency_key=None
        )
    assert service.store.rows("SELECT * FROM invoices") == []


async def test_a_canceled_invoice_is_shown_as_that_however_late(service: Service):
    made = await invoice(service)
    hash_ = bytes.fromhex(made["payment_hash"][2:])
    told = await service.cancel_invoice(payment_hash=hash_)
    assert told["state"] == "canceled" and told == await service.lookup_invoice(payment_hash=hash_)
    with pytest.raises(Refused) as refused:
        await service.settle_invoice(preimage=preimage(7))
    assert refused.value.code == "unknown_invoice"


async def test_the_newest_answers_are_kept_and_the_oldest_forgotten_but_those_that_last(service: Service):
    first = await invoice(service, key="first")
    batch = service.asked.claim("a channel", ("open_channel", 1), {"channel_id": "0x07"}, lasts=True)
    batch.add(
        "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO asked SELECT 'key ' || i, 'another', '{}', 0 FROM n",
        KEPT_ANSWERS,
    )
    await service.store.commit(batch)
    pruning = Pruning(service.store, service.world, service.book.actors)
    await pruning.bite()
    assert await invoice(service, key="first") == first
    await invoice(service, key="one more")
    await pruning.bite()
    assert service.store.rows("SELECT count(*), min(rowid) FROM asked") == [(KEPT_ANSWERS, 2)]
    assert await invoice(service, key="first") != first
    await invoice(service, key="two more")
    await pruning.bite()
    kept = service.store.rows("SELECT key FROM asked ORDER BY rowid LIMIT 2")
    assert kept == [("a channel",), ("key 4",)], "the channel's is older than all that were forgotten"
    assert await invoice(service, key="one more") == await invoice(service, key="one more")


async def test_invoices_are_listed_newest_first_in_pages(service: Service):
    made = [(await invoice(service, amount))["payment_hash"] for amount in (1, 2, 3, 4, 5)]
    listed: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = await service.list_invoices(limit=2, cursor=cursor)
        listed += [one["payment_hash"] for one in page["invoices"]]
        cursor = page["next"]
    assert listed == made[::-1]
    assert cursor is None
    with pytest.raises(Malformed):
        await service.list_invoices(limit=2, cursor="x")


async def test_our_own_invoice_is_not_paid(service: Service):
    made = await invoice(service)
    with pytest.raises(Refused) as told:
        await service.pay_invoice(invoice=made["invoice"], amount=None, max_fee=None, timeout=5, idempotency_key=None)
    assert told.value.code == "invoice_own"
    assert service.store.rows("SELECT * FROM payments") == []


async def test_a_way_to_a_node_without_an_invoice(service: Service):
    def to(node_id: bytes, token: str = "native", amount: int = 5) -> dict[str, Any]:
        return {"node_id": node_id, "token": token, "amount": amount, "max_fee": None}

    told = await service.estimate(**to(PAYEE_KEY.public))
    assert (told["amount"], told["fee"], told["chance_ppm"], len(told["parts"])) == ("5", "0", 1_000_000, 1)
    ((hop,),) = [part["hops"] for part in told["parts"]]
    assert hop["node_id"] == "0x" + service.book.actors[ChannelId(out_of(service))].channel.peer.hex()
    for code, asked in (
        ("payee_own", to(NODE_KEY.public)),
        ("unknown_payee", to(PAYEE_KEY.public[:-1] + b"x")),
        ("unknown_token", to(PAYEE_KEY.public, "gold")),
        ("insufficient_balance", to(PAYEE_KEY.public, amount=10**6)),
    ):
        for call in (service.estimate, service.probe):
            if call == service.probe:
                service.config = replace(service.config, probing=True)
            with pytest.raises(Refused) as refused:
                await call(**asked)
            assert (refused.value.code, bool(refused.value.hint)) == (code, True)
    service.config = replace(service.config, probing=False)
    with pytest.raises(Refused) as refused:
        await service.probe(**to(PAYEE_KEY.public))
    assert refused.value.code == "probing_off"
    assert service.store.rows("SELECT * FROM attempts") == service.store.rows("SELECT * FROM payments") == []


@pytest.mark.parametrize(
    ("code", "call", "asked"),
    [
        ("unknown_invoice", "lookup_invoice", {"payment_hash": bytes(32)}),
        ("unknown_payment", "lookup_payment", {"id": bytes(16)}),
        ("unknown_payment", "lookup_payment", {"id": bytes(32)}),
        ("unknown_channel", "list_channels", {"channel_id": bytes(32), "closed": True}),
        ("unknown_channel", "close_channel", {"channel_id": bytes(32), "force": True, "timeout": 1}),
    ],
)
async def test_what_is_not_ours_is_said_to_be_unknown(service: Service, code: str, call: str, asked: dict[str, Any]):
    with pytest.raises(Refused) as told:
        await getattr(service, call)(**asked)
    assert told.value.code == code


def out_of(service: Service) -> bytes:
    return next(id_ for id_, actor in service.book.actors.items() if actor.channel.we == 0)


async def test_transfers_are_counted_by_their_ids(service: Service):
    channel = out_of(service)
    batch = [{"id": bytes([number]) * 16, "amount": 10} for number in range(1, 4)]
    with trio.fail_after(5):
        for _ in range(2):
            done = await service.send_transfers(channel_id=channel, transfers=batch, wait=True)
            assert done["state"] == "succeeded"
            assert len(done["ids"]) == 3
    assert service._actor(channel).channel.balance == 970
    listed = (await service.list_payments(limit=10, cursor=None))["payments"]
    assert [one["amount"] for one in listed] == ["10", "10", "10"]
    found = await service.lookup_payment(id=bytes([1]) * 16)
    assert (found["state"], found["direction"]) == ("succeeded", "out")


async def test_a_batch_that_is_too_much_sends_nothing(service: Service):
    batch = [{"id": None, "amount": 600}, {"id": None, "amount": 600}]
    with pytest.raises(Refused) as told:
        await service.send_transfers(channel_id=out_of(service), transfers=batch, wait=True)
    assert told.value.code == "insufficient_balance"
    assert service.store.rows("SELECT * FROM transfers") == []


async def test_i30_in_safe_mode_nothing_is_begun(service: Service):
    service.world.fault = "the endpoints disagree"
    with pytest.raises(Refused) as told:
        await service.send_transfers(channel_id=out_of(service), transfers=[{"id": None, "amount": 1}], wait=False)
    assert told.value.code == "safe_mode"


async def test_closing_together_is_told_as_such(service: Service):
    channel = out_of(service)
    with trio.fail_after(10):
        told = await service.close_channel(channel_id=channel, force=False, timeout=8)
    assert (told["how"], told["state"]) == ("cooperative", "closing")


async def test_closing_by_force_asks_nobody(service: Service):
    told = await service.close_channel(channel_id=out_of(service), force=True, timeout=8)
    assert (told["how"], told["state"]) == ("unilateral", "closing")


async def test_events_are_told_from_a_cursor_on(service: Service):
    now = (await service.events(since=None, limit=10, wait=False))["cursor"]
    await service.close_channel(channel_id=out_of(service), force=True, timeout=1)
    with trio.fail_after(5):
        told = await service.events(since=now, limit=10, wait=True)
    assert [one["type"] for one in told["events"]] == ["channel_frozen"]
    assert told["cursor"] == now + 1
    assert (await service.events(since=told["cursor"], limit=10, wait=False))["events"] == []
