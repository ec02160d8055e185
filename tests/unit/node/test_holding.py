"""R22: what is held stands until it is settled, canceled or short of time; each of them once, through any crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from channeld.base.errors import Refused
from channeld.base.keys import sha256
from channeld.base.units import NATIVE, LockId, LockKey, Preimage, Seconds, Timestamp
from channeld.core.channel import Phase
from channeld.core.closing import Margins, RegisterAct, due
from channeld.core.effects import Learned
from channeld.core.events import CloseAlone, Leave, Recover
from channeld.node.holding import Holding
from channeld.storage.store import Batch, wide
from channeld.wire.failure import FailureCode
from tests.roles import CLOSE, PERIOD, START, Node
from tests.unit.node.hub import IN_EXPIRY, KEY, PREIMAGE, SECRET, Hub, hub, packet_here, payload_here, start
from tests.unit.node.test_restart import life, peers_of

HOLD = 600
LEAST = START + 20 - 2 + HOLD
"""The earliest expiry that leaves the time asked for: the network's final delta, less the skew, and the hold."""
LAST = IN_EXPIRY - 4 - 2 - 1
"""The last second at which a preimage may still go off chain: a time to get into a block and the skew are kept."""


async def ask(node: Hub, *, amount: int = 100, expires: int = START + 900) -> None:
    """A hold invoice of ours, of which we know the hash only."""
    batch = Batch()
    batch.add(
        "INSERT INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, hold, state) "
        "VALUES (?, 1, x'', ?, '', ?, ?, ?, ?, ?, 'open')",
        *(KEY, SECRET, NATIVE, wide(amount), START, expires, HOLD),
    )
    await node.store.commit(batch)


async def hold(node: Hub) -> None:
    await ask(node)
    await node.offered(packet_here(payload_here()), 100)
    assert state(node) == "held"


def state(node: Hub) -> str:
    ((state,),) = node.store.rows("SELECT state FROM invoices")
    return str(state)


def events(node: Hub) -> list[str]:
    return [one for (one,) in node.store.rows("SELECT type FROM events WHERE type <> 'channel_frozen' ORDER BY n")]


def standing(node: Hub) -> int:
    """Locks of the payer's that both have signed."""
    return sum(side is not node.into.actor.channel.we for side, _ in node.into.actor.channel.current.body.locks)


def paid(node: Hub) -> bool:
    return any(isinstance(one, Learned) and one.preimage == PREIMAGE for one in node.into.peer.notes)


async def refusal(node: Hub, what: str = "settle") -> str:
    call = node.desk.holding.settle(PREIMAGE) if what == "settle" else node.desk.cancel(KEY)
    with pytest.raises(Refused) as told:
        await call
    return told.value.code


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Hub]:
    with hub(nursery) as made:
        await start(made)
        yield made


# -- held, settled, canceled


async def test_a_payment_is_held_and_then_taken_with_the_preimage(node: Hub):
    await hold(node)
    assert (standing(node), paid(node), events(node)) == (1, False, ["invoice_held"])
    assert node.store.rows("SELECT preimage FROM invoices") == [(b"",)]
    for _ in range(2):
        assert await node.desk.holding.settle(PREIMAGE) == KEY
    await node.settle()
    assert (standing(node), paid(node), state(node)) == (0, True, "paid")
    assert node.into.actor.channel.balance == 1_100
    assert events(node) == ["invoice_held", "payment_received"]
    assert node.store.rows("SELECT count(*) FROM arrivals") == [(0,)]
    assert await refusal(node, "cancel") == "invoice_paid"


async def test_a_payment_that_is_canceled_comes_back_with_that_word(node: Hub):
    await ask(node)
    packet = packet_here(payload_here())
    await node.offered(packet, 100)
    for _ in range(2):
        await node.desk.cancel(KEY)
    await node.settle()
    assert node.answer(packet) is FailureCode.REJECTED_BY_PAYEE
    assert (standing(node), state(node), events(node)) == (0, "canceled", ["invoice_held", "invoice_canceled"])
    assert node.store.rows("SELECT count(*) FROM parts UNION ALL SELECT count(*) FROM arrivals") == [(0,), (0,)]
    assert await refusal(node) == "invoice_canceled"
    assert node.into.actor.channel.balance == 1_000


@pytest.mark.parametrize("ordinary", [True, False])
async def test_an_open_invoice_that_is_canceled_is_void(node: Hub, ordinary: bool):
    await (node.invoice() if ordinary else ask(node))
    part = packet_here(payload_here(60))
    await node.offered(part, 60)
    for _ in range(2):
        await node.desk.cancel(KEY)
    await node.settle()
    assert node.answer(part) is FailureCode.REJECTED_BY_PAYEE
    late = packet_here(payload_here())
    await node.offered(late, 100)
    assert node.answer(late) is FailureCode.UNKNOWN_PAYMENT
    assert (state(node), events(node), paid(node)) == ("canceled", ["invoice_canceled"], False)


def stalled(node: Hub, monkeypatch: pytest.MonkeyPatch, state: str) -> trio.Event:
    """The disk takes its time to save that state, until the event is set."""
    go_on, commit = trio.Event(), node.store.commit

    async def slowly(batch: Batch) -> None:
        if any(f"SET state = '{state}'" in sql for sql, _ in batch.writes):
            await go_on.wait()
        await commit(batch)

    monkeypatch.setattr(node.store, "commit", slowly)
    return go_on


@pytest.mark.parametrize("ordinary", [True, False])
async def test_a_lock_that_comes_while_its_invoice_is_being_canceled_is_not_taken(
    node: Hub, ordinary: bool, monkeypatch: pytest.MonkeyPatch
):
    """The disk says open until the cancel is saved; a claim then would break a law and stop the channel."""
    await (node.invoice() if ordinary else ask(node))
    go_on = stalled(node, monkeypatch, "canceled")
    packet = packet_here(payload_here())
    async with trio.open_nursery() as callers:
        callers.start_soon(node.desk.cancel, KEY)
        await trio.testing.wait_all_tasks_blocked()
        await node.offered(packet, 100)
        assert state(node) == "open"
        go_on.set()
    await node.settle()
    assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT
    assert (state(node), node.into.actor.broken, paid(node)) == ("canceled", None, False)


async def test_what_comes_while_it_is_being_saved_that_it_is_held_is_given_back(
    node: Hub, monkeypatch: pytest.MonkeyPatch
):
    await ask(node)
    go_on = stalled(node, monkeypatch, "held")
    await node.offered(packet_here(payload_here()), 100)
    again = packet_here(payload_here())
    await node.offered(again, 100)
    assert (state(node), events(node)) == ("open", [])
    assert node.answer(again) is FailureCode.UNKNOWN_PAYMENT
    go_on.set()
    await node.desk.holding.settle(PREIMAGE)  # asked before it was told: it waits for the disk
    await node.settle()
    assert (state(node), node.into.actor.channel.balance) == ("paid", 1_100)
    assert events(node) == ["invoice_held", "payment_received"]


async def test_nobody_settles_what_is_not_held(node: Hub):
    assert await refusal(node) == "unknown_invoice"
    assert await refusal(node, "cancel") == "unknown_invoice"
    await ask(node)
    await node.offered(packet_here(payload_here(60)), 60)
    assert await refusal(node) == "invoice_not_held"
    assert (state(node), standing(node), events(node)) == ("open", 1, [])


async def test_an_invoice_that_is_paid_is_not_canceled(node: Hub):
    await node.invoice()
    await node.offered(packet_here(payload_here()), 100)
    assert await refusal(node, "cancel") == "invoice_paid"
    assert (state(node), paid(node)) == ("paid", True)


async def test_r21_parts_are_held_together_once_they_are_whole(node: Hub):
    await ask(node)
    await node.offered(packet_here(payload_here(60)), 60)
    assert (state(node), events(node)) == ("open", [])
    await node.offered(packet_here(payload_here(40)), 40)
    assert (state(node), standing(node)) == ("held", 2)
    await node.desk.holding.settle(PREIMAGE)
    await node.settle()
    assert (standing(node), node.into.actor.channel.balance) == (0, 1_100)
    assert node.store.rows("SELECT count(*) FROM parts") == [(2,)]


async def test_what_comes_while_it_is_held_is_given_back(node: Hub):
    """A second payment, or a part too many, is nobody's."""
    await hold(node)
    for amount in (100, 60):
        again = packet_here(payload_here(amount))
        await node.offered(again, amount)
        assert node.answer(again) is FailureCode.UNKNOWN_PAYMENT
    await node.desk.holding.settle(PREIMAGE)
    await node.settle()
    assert node.into.actor.channel.balance == 1_100


@pytest.mark.parametrize(("expiry", "held"), [(LEAST, True), (LEAST - 1, False)])
async def test_r18_a_lock_must_leave_the_time_that_was_asked_for(node: Hub, expiry: int, held: bool):
    await ask(node)
    packet = packet_here(payload_here(expiry=expiry))
    await node.offered(packet, 100, expiry)
    assert state(node) == ("held" if held else "open")
    assert node.answer(packet) is (None if held else FailureCode.FINAL_INCORRECT_EXPIRY)


async def test_r11_no_channel_is_closed_together_while_it_holds_a_lock(node: Hub):
    await hold(node)
    await node.into.actor.ask(Leave(now=Timestamp(START), valid_for=600, draw=1))
    assert node.into.actor.channel.ask is None and node.into.actor.channel.coop is None
    node.into.peer.do(Leave(now=Timestamp(START), valid_for=600, draw=1))
    await node.settle()
    assert node.into.actor.channel.coop is None


# -- races


@pytest.mark.parametrize("first", ["settle", "cancel"])
async def test_of_settling_and_canceling_at_once_one_wins(node: Hub, first: str):
    await ask(node)
    packet = packet_here(payload_here())
    await node.offered(packet, 100)
    told: list[str] = []

    async def settle() -> None:
        try:
            await node.desk.holding.settle(PREIMAGE)
            told.append("settled")
        except Refused as fault:
            told.append(fault.code)

    async def cancel() -> None:
        try:
            await node.desk.cancel(KEY)
            told.append("canceled")
        except Refused as fault:
            told.append(fault.code)

    both = (settle, cancel) if first == "settle" else (cancel, settle)
    held = node.desk.holding
    async with trio.open_nursery() as callers:
        for one in both:
            callers.start_soon(one)
            await trio.lowlevel.checkpoint()
        held.sweep()
    await node.settle()
    outcome = {"paid": {"settled", "invoice_paid"}, "canceled": {"canceled", "invoice_canceled"}}[state(node)]
    assert set(told) == outcome
    assert paid(node) is (state(node) == "paid")
    assert node.answer(packet) is (None if paid(node) else FailureCode.REJECTED_BY_PAYEE)
    assert len(events(node)) == 2


async def test_settled_twice_at_once_is_settled_once(node: Hub):
    await hold(node)
    async with trio.open_nursery() as callers:
        callers.start_soon(node.desk.holding.settle, PREIMAGE)
        callers.start_soon(node.desk.holding.settle, PREIMAGE)
    await node.settle()
    assert events(node) == ["invoice_held", "payment_received"]
    assert node.into.actor.channel.balance == 1_100


async def test_a_caller_that_goes_away_leaves_nothing_half_done(node: Hub):
    await hold(node)
    with trio.CancelScope() as scope:
        scope.cancel()
        await node.desk.holding.settle(PREIMAGE)
    await node.settle()
    assert (state(node), paid(node)) in (("paid", True), ("held", False))
    await node.desk.holding.settle(PREIMAGE)
    await node.settle()
    assert (state(node), paid(node)) == ("paid", True)


# -- time


async def test_it_can_be_settled_until_the_last_second_and_not_after(node: Hub):
    await hold(node)
    assert node.desk.holding.settle_by(KEY) == LAST
    node.at(LAST + 1)
    assert await refusal(node) == "hold_expired"
    assert (state(node), standing(node)) == ("held", 1)
    node.at(LAST)
    node.desk.sweep()
    await node.desk.holding.settle(PREIMAGE)
    await node.settle()
    assert (state(node), paid(node)) == ("paid", True)


async def test_without_time_it_is_given_back_by_itself_and_the_channel_lives(node: Hub):
    await ask(node)
    packet = packet_here(payload_here())
    await node.offered(packet, 100)
    node.at(LAST)
    node.desk.sweep()
    await node.settle()
    assert state(node) == "held"
    node.at(LAST + 1)
    node.desk.sweep()
    await node.settle()
    assert node.answer(packet) is FailureCode.PAYMENT_TIMEOUT
    assert (state(node), standing(node), node.into.actor.channel.phase) == ("canceled", 0, Phase.OPEN)
    assert await refusal(node) == "invoice_canceled"
    ((data,),) = node.store.rows("SELECT data FROM events WHERE type = 'invoice_canceled'")
    assert "hold_expired" in data


async def test_the_part_that_ends_first_ends_all(node: Hub):
    await ask(node)
    await node.offered(packet_here(payload_here(60)), 60)
    await node.offered(packet_here(payload_here(40, expiry=LEAST)), 40, LEAST)
    last = LEAST - 4 - 2 - 1
    assert node.desk.holding.settle_by(KEY) == last
    node.at(last + 1)
    assert await refusal(node) == "hold_expired"
    node.desk.sweep()
    await node.settle()
    assert (state(node), standing(node), paid(node)) == ("canceled", 0, False)


@pytest.mark.parametrize(("at", "settled"), [(IN_EXPIRY, True), (IN_EXPIRY + 1, False)])
async def test_a_secret_that_is_registered_in_time_wins_whatever_the_clock_says(node: Hub, at: int, settled: bool):
    await hold(node)
    node.world.registered[KEY] = Timestamp(at)
    node.at(IN_EXPIRY + 10)
    node.desk.sweep()
    await node.settle()
    assert state(node) == ("held" if settled else "canceled")
    if settled:
        await node.desk.holding.settle(PREIMAGE)
        await node.settle()
        assert (state(node), paid(node)) == ("paid", True)


async def test_what_we_paid_onwards_ourselves_is_not_given_back(node: Hub):
    """A swap: our payment of the same hash has shown the preimage, and whoever should settle has gone."""
    await hold(node)
    batch = Batch()
    batch.add("INSERT INTO preimages VALUES (?, ?)", KEY, PREIMAGE)
    await node.store.commit(batch)
    assert await refusal(node, "cancel") == "preimage_known"
    node.at(LAST + 1)
    node.desk.sweep()
    await node.quiet()
    assert (state(node), node.into.actor.channel.claims) == ("paid", {LockId(1): PREIMAGE})
    assert registering(node) == [PREIMAGE], "too late for the peer alone"


# -- the chain


def registering(node: Hub) -> list[Preimage]:
    margins = Margins(inclusion=Seconds(4), skew=Seconds(2), period=PERIOD)
    acts = due(node.into.actor.channel, now=node.world.chain_time, registered={}, margins=margins)
    return [secret for act in acts if isinstance(act, RegisterAct) for secret in act.secrets]


async def test_in_a_channel_that_goes_to_the_chain_it_is_settled_there(node: Hub):
    await hold(node)
    await node.into.actor.ask(CloseAlone())
    assert node.into.actor.channel.phase is Phase.FROZEN
    node.desk.sweep()
    assert (state(node), registering(node)) == ("held", [])
    await node.desk.holding.settle(PREIMAGE)
    await node.quiet()
    assert (state(node), registering(node)) == ("paid", [PREIMAGE])


async def test_unsettled_in_a_channel_on_chain_it_expires(node: Hub):
    await hold(node)
    await node.into.actor.ask(CloseAlone())
    node.at(LAST + 1)
    node.desk.sweep()
    await node.quiet()
    assert (state(node), registering(node), node.into.actor.channel.queue) == ("canceled", [], ())


async def test_what_was_settled_without_its_lock_shows_no_preimage(node: Hub):
    """R21: a part is lost on chain; the preimage would buy the payer the rest for less."""
    await hold(node)
    channel = node.into.actor.channel
    case = replace(CLOSE, final=True, settled=True, left=())
    node.into.actor.channel = replace(channel, phase=Phase.SETTLED, onchain=case)
    assert await refusal(node) == "hold_expired"
    node.desk.sweep()
    await node.quiet()
    assert (state(node), paid(node)) == ("canceled", False)


async def test_a_channel_in_recovery_claims_nothing_without_a_preimage(node: Hub):
    """Claiming looks among our invoices: one of these has none."""
    await hold(node)
    await node.into.actor.ask(Recover(reason="a copy"))
    await node.quiet()
    assert (node.into.actor.channel.claims, node.into.actor.broken) == ({}, None)
    await node.desk.holding.settle(PREIMAGE)
    await node.quiet()
    assert node.into.actor.channel.claims == {LockId(1): PREIMAGE}


# -- restarts


async def test_it_stands_over_restarts_and_is_settled_after_them(tmp_path: Path):
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await hold(node)
        peers = peers_of(node)
    for _ in range(2):
        async with life(path, peers) as node:
            node.at(START + 950)  # the invoice has expired, and the lock has less than the hold left: that is over
            node.desk.sweep()
            await node.settle()
            assert (state(node), standing(node), events(node)) == ("held", 1, ["invoice_held"])
    async with life(path, peers) as node:
        again = packet_here(payload_here())
        await node.offered(again, 100)
        assert node.answer(again) is FailureCode.UNKNOWN_PAYMENT
        await node.desk.holding.settle(PREIMAGE)
        await node.settle()
        assert (state(node), paid(node), standing(node)) == ("paid", True, 0)


async def dies(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str, call: str = "", payment: tuple[int, ...] = (100,)
) -> tuple[Node, Node]:
    """The payee holds a payment, or is about to, and dies in the middle of `step`."""

    async def death(*_: object) -> None: ...

    async with life(path) as node:
        await ask(node)
        if step == "_save_held":
            monkeypatch.setattr(Holding, step, death)
        for amount in payment:
            await node.offered(packet_here(payload_here(amount)), amount)
        if step == "fulfil":
            monkeypatch.setattr(node.book, "fulfil", lambda *_: None)
        if step == "give_back":
            monkeypatch.setattr("channeld.node.holding.give_back", lambda *_: None)
        if call == "settle":
            await node.desk.holding.settle(PREIMAGE)
        if call == "cancel":
            await node.desk.cancel(KEY)
        await node.quiet()
        peers = peers_of(node)
    monkeypatch.undo()
    return peers


@pytest.mark.parametrize("payment", [(100,), (60, 40)])
async def test_a_death_before_it_is_saved_that_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payment: tuple[int, ...]
):
    path = tmp_path / "node.sqlite3"
    peers = await dies(path, monkeypatch, "_save_held", payment=payment)
    async with life(path, peers) as node:
        await node.settle()
        assert (state(node), standing(node), events(node)) == ("held", len(payment), ["invoice_held"])


@pytest.mark.parametrize("payment", [(100,), (60, 40)])
async def test_a_death_between_the_saved_preimage_and_the_fulfil(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payment: tuple[int, ...]
):
    path = tmp_path / "node.sqlite3"
    peers = await dies(path, monkeypatch, "fulfil", "settle", payment)
    async with life(path, peers) as node:
        await node.settle()
        assert (state(node), paid(node), standing(node)) == ("paid", True, 0)
        assert node.into.actor.channel.balance == 1_100
        assert events(node) == ["invoice_held", "payment_received"]


@pytest.mark.parametrize("payment", [(100,), (60, 40)])
async def test_a_death_between_the_saved_cancel_and_the_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payment: tuple[int, ...]
):
    path = tmp_path / "node.sqlite3"
    peers = await dies(path, monkeypatch, "give_back", "cancel", payment)
    async with life(path, peers) as node:
        await node.settle()
        assert (state(node), paid(node), standing(node)) == ("canceled", False, 0)
        assert node.answer(packet_here(payload_here(payment[-1]))) is FailureCode.REJECTED_BY_PAYEE
        assert await refusal(node) == "invoice_canceled"
        assert node.store.rows("SELECT count(*) FROM parts") == [(0,)]


async def test_a_set_of_which_a_part_is_gone_after_a_restart_is_not_settled(tmp_path: Path):
    """It cannot be: but if it were, a preimage for a part would be worth less than it costs."""
    path = tmp_path / "node.sqlite3"
    async with life(path) as node:
        await ask(node)
        for amount in (60, 40):
            await node.offered(packet_here(payload_here(amount)), amount)
        batch = Batch()
        batch.add("DELETE FROM arrivals WHERE lock = 2")
        await node.store.commit(batch)
        peers = peers_of(node)
    async with life(path, peers) as node:
        await node.settle()
        assert state(node) == "canceled"
        assert await refusal(node) == "invoice_canceled"


async def test_another_preimage_is_of_another_invoice(node: Hub):
    await hold(node)
    other = Preimage(sha256(b"another"))
    with pytest.raises(Refused) as told:
        await node.desk.holding.settle(other)
    assert told.value.code == "unknown_invoice"
    assert LockKey(sha256(other)) != KEY and state(node) == "held"
