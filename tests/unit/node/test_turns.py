"""A channel's turns: save before anything leaves, what waits goes together, and trouble stays in its channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import MISSING, fields

import pytest
import trio

from channeld.base.errors import Answer, Refused, StoreFailed
from channeld.base.units import Amount, LockId, PaymentId, Side, Timestamp
from channeld.core.channel import Phase, Session
from channeld.core.effects import Learned
from channeld.core.events import Cancel, Connected, Disconnected, Fulfil, Offer, Pay
from channeld.core.messages import Ack, Commit, DepositSeen
from channeld.node import service, transfers
from channeld.node.ledger import Attempt
from channeld.node.loop import Actor, Reply
from channeld.storage.store import Batch
from channeld.wire import onion
from tests.roles import START
from tests.unit.node.hub import (
    FORWARDER_KEY,
    IN_EXPIRY,
    KEY,
    OUT_EXPIRY,
    PREIMAGE,
    Hub,
    Leg,
    Recorder,
    hub,
    packet_here,
    packet_on,
    payload_here,
    start,
)


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Hub]:
    with hub(nursery) as made:
        await start(made)
        yield made


def pay(number: int = 1, amount: int = 5) -> Pay:
    return Pay(transfers=((PaymentId(number.to_bytes(16, "big")), Amount(amount)),))


def note(name: str) -> Batch:
    batch = Batch()
    batch.add("INSERT INTO notes VALUES (?, x'')", name)
    return batch


def notes(node: Hub) -> list[str]:
    return [name for (name,) in node.store.rows("SELECT name FROM notes ORDER BY name")]


# -- saved, then let out


async def test_a_signed_state_is_on_disk_before_it_is_said(node: Hub):
    """R3: what was signed is remembered first."""
    node.out.actor.post(pay())
    await node.quiet()
    assert node.journal == ["saved", "said Commit"]
    (commit,) = node.out.line.said
    assert isinstance(commit, Commit)
    rows = node.store.rows("SELECT version FROM signed WHERE channel = ?", node.out.id)
    assert rows == [(commit.version,)]


async def test_an_acknowledgement_is_on_disk_before_it_is_said(node: Hub):
    node.into.peer.do(pay())
    await node.settle()
    assert node.journal == ["saved", "said Ack"]
    ((version,),) = node.store.rows("SELECT version FROM signed WHERE channel = ?", node.into.id)
    assert version == node.into.actor.channel.current.version > 0


async def test_whoever_asks_is_answered_after_the_save(node: Hub):
    node.journal.clear()
    await node.out.actor.ask(pay(), writes=note("asked"))
    assert node.journal[0] == "saved"
    assert notes(node) == ["asked"]


async def test_nothing_leaves_when_the_disk_fails(nursery: trio.Nursery):
    """The node goes down with it: what cannot be remembered must not be signed."""
    with hub(nursery) as node:
        await start(node)
        pages = node.store._writer.execute("PRAGMA page_count").fetchone()[0]
        node.store._writer.execute(f"PRAGMA max_page_count = {pages}")
        big = Batch()
        big.add("INSERT INTO notes VALUES ('big', ?)", bytes(1_000_000))
        actor, reply = Actor(node.out.actor.channel, FORWARDER_KEY, node.store, node.book, now=lambda: START), Reply()
        actor.line = node.out.line
        actor.post(pay(), writes=big, reply=reply)
        with pytest.raises(StoreFailed):
            await actor.run()
        assert node.out.line.said == []
        assert not reply.done.is_set()


# -- together


async def test_what_waits_is_saved_and_signed_together(node: Hub):
    for number in range(100):
        node.out.actor.post(pay(number, 1), writes=note(f"{number:03}"))
    await node.quiet()
    assert node.journal == ["saved", "said Commit"]
    (commit,) = node.out.line.said
    assert isinstance(commit, Commit)
    assert len(commit.updates) == 100
    assert len(notes(node)) == 100


async def test_what_comes_while_one_proposal_is_out_goes_with_the_next(node: Hub):
    node.out.actor.post(pay(0, 1))
    await node.quiet()
    for number in range(1, 50):
        node.out.actor.post(pay(number, 1))
        await node.quiet()
    await node.settle()
    assert node.journal.count("said Commit") == 2
    assert node.out.peer.channel.balance == 1_050


async def test_a_turn_that_changes_nothing_saves_nothing(node: Hub):
    node.into.hear(DepositSeen(deposit_a=Amount(2_000), deposit_b=Amount(1_000)))
    await node.quiet()
    assert node.journal == []


# -- refused


async def test_a_refusal_is_told_to_who_asked_and_leaves_no_trace(node: Hub):
    with pytest.raises(Refused) as told:
        await node.out.actor.ask(pay(1, 1_001), writes=note("never"))
    assert told.value.code == "insufficient_balance"
    assert notes(node) == []
    assert node.out.line.said == []
    heard: list[str] = []
    node.out.actor.post(pay(1, 1_001), writes=note("never"), on_refusal=lambda fault: heard.append(fault.code))
    await node.quiet()
    assert heard == ["insufficient_balance"]
    assert notes(node) == []


async def test_one_refusal_does_not_hinder_its_neighbours(node: Hub):
    replies = [Reply() for _ in range(3)]
    for reply, amount in zip(replies, (10, 5_000, 20), strict=True):
        node.out.actor.post(pay(amount, amount), reply=reply)
    await node.settle()
    assert [reply.fault.code if isinstance(reply.fault, Refused) else None for reply in replies] == [
        None,
        "insufficient_balance",
        None,
    ]
    assert node.out.peer.channel.balance == 1_030


async def test_a_faulty_peer_is_told_and_hung_up_on_and_nothing_is_saved(node: Hub):
    node.out.actor.post(Connected(), line=node.out.line)  # its reestablish has not come yet
    await node.quiet()
    node.journal.clear()
    node.out.hear(Ack(version=node.out.actor.channel.base, signature=b"x" * 65))
    await node.quiet()
    assert node.journal == ["complained DISCONNECT"]
    assert node.out.line.faults[0].answer is Answer.DISCONNECT
    assert node.out.actor.channel.session is Session.CUT
    assert node.out.actor.channel.phase is Phase.OPEN


async def test_a_line_that_was_replaced_is_not_heard_any_more(node: Hub):
    node.into.actor.post(Connected(), line=Recorder(node.journal))
    await node.quiet()
    node.into.hear(DepositSeen(deposit_a=Amount(9_999), deposit_b=Amount(9_999)))
    await node.quiet()
    assert node.into.actor.channel.heard == (2_000, 1_000)
    assert node.into.line.faults == []


async def test_backpressure_waits_for_turns(node: Hub):
    for number in range(50):
        node.out.actor.post(pay(number, 1))
    assert node.out.actor.backlog == 50
    with trio.fail_after(5):
        await node.out.actor.room(10)
    assert node.out.actor.backlog <= 10


async def test_a_law_that_breaks_stops_its_channel_alone(node: Hub):
    await node.store.commit(note("taken"))
    with pytest.raises(Refused) as told:
        await node.out.actor.ask(pay(), writes=note("taken"))
    assert told.value.code == "channel_broken"
    assert node.out.actor.broken
    assert node.out.line.said == [], "nothing of that turn was said"
    with pytest.raises(Refused) as again:
        await node.out.actor.ask(pay(2))
    assert again.value.code == "channel_broken"
    await node.into.actor.ask(pay(3))
    await node.settle()
    assert node.into.peer.channel.balance == 2_005


async def test_a_lock_for_a_broken_channel_goes_back_to_the_payer(node: Hub):
    await node.store.commit(note("taken"))
    with pytest.raises(Refused):
        await node.out.actor.ask(pay(), writes=note("taken"))
    packet = packet_on(node.out.id)
    await node.offered(packet, 103)
    assert node.answer(packet) is not None
    assert node.into.peer.channel.balance == 2_000


async def test_a_cut_forgets_the_line_and_keeps_the_queue(node: Hub):
    node.out.actor.post(Disconnected(), line=node.out.line)
    await node.out.actor.ask(pay())
    await node.quiet()
    assert node.out.line.said == []
    assert len(node.out.actor.channel.queue) == 1
    node.out.peer.do(Disconnected())
    node.out.actor.post(Connected(), line=node.out.line)
    node.out.hear(*node.out.peer.do(Connected()).sends)
    await node.settle()
    assert node.out.peer.channel.balance == 1_005


async def test_what_was_not_signed_yet_can_be_taken_back(node: Hub):
    node.out.actor.post(Disconnected(), line=node.out.line)
    tag = node.book.tag(Attempt(hash=KEY, route=b""))
    await node.out.actor.ask(Offer(tag=tag, amount=Amount(5), key=KEY, expiry=OUT_EXPIRY, onion=b""))
    await node.out.actor.ask(Cancel(lock_id=LockId(1)))
    assert node.store.rows("SELECT state FROM attempts") == [("returned",)]
    assert node.out.actor.channel.queue == ()


# -- R17: a fulfil that comes late


async def late(node: Hub) -> None:
    """The payee takes the forwarded lock when its cut-off is over."""
    await node.offered(packet_on(node.out.id), 103)
    node.at(OUT_EXPIRY - 5)
    (out,) = node.waiting()
    node.out.peer.do(Fulfil(lock_id=out.id, preimage=PREIMAGE))
    node.journal.clear()
    for _ in range(3):
        await node.quiet()
        node.out.deliver()
    await node.quiet()


async def test_r17_a_late_fulfil_waits_until_the_secret_is_safe_upstream(node: Hub):
    await late(node)
    assert "said Ack" not in node.journal
    assert (Side.A, LockId(1)) in node.out.actor.channel.current.body.locks
    node.world.registered[KEY] = Timestamp(OUT_EXPIRY - 4)
    with trio.fail_after(5):
        while "said Ack" not in node.journal:
            await trio.sleep(0.05)
    await node.settle()
    assert node.out.peer.channel.balance == 1_100
    assert node.into.actor.channel.balance == 1_103


async def test_r17_it_goes_on_by_itself_once_upstream_has_agreed(node: Hub):
    """The lock that came in has its own, later cut-off, so the payer can still be shown the secret."""
    await late(node)
    with trio.fail_after(5):
        while "said Ack" not in node.journal:
            await node.quiet()
            node.into.deliver()
            await trio.sleep(0.05)
    await node.settle()
    assert Learned(lock_id=LockId(1), preimage=PREIMAGE) in node.into.peer.notes
    assert node.into.actor.channel.balance == 1_103


async def test_r17_what_follows_a_held_commit_waits_behind_it(node: Hub):
    await late(node)
    node.out.peer.do(pay(1, 5))
    node.out.hear(DepositSeen(deposit_a=Amount(1_000), deposit_b=Amount(1_500)))
    await node.quiet()
    assert node.out.actor.channel.heard == (1_000, 1_000)
    assert node.out.actor.backlog >= 2
    node.world.registered[KEY] = Timestamp(OUT_EXPIRY - 4)
    with trio.fail_after(5):
        while node.out.actor.channel.heard != (1_000, 1_500):
            await trio.sleep(0.05)


async def test_r17_a_lock_that_is_nowhere_safe_after_its_expiry_closes_the_channel(node: Hub):
    await late(node)
    node.at(OUT_EXPIRY + 11)
    with trio.fail_after(5):
        while node.out.actor.channel.phase is not Phase.FROZEN:
            await trio.sleep(0.05)
    await node.quiet()
    assert node.out.actor.channel.closing_alone
    assert node.out.actor.backlog == 0, "what was held is judged, once"
    assert node.into.actor.channel.claims == {LockId(1): PREIMAGE}
    assert "said Ack" not in node.journal


# -- told once


def bad() -> Batch:
    batch = Batch()
    batch.add("INSERT INTO notes VALUES ('broken', NULL)")
    return batch


async def test_what_was_refused_in_a_turn_that_then_breaks_is_told_once(node: Hub):
    """Else a payment would make two attempts at the same time, and a payee could take both."""
    told: list[Refused] = []
    too_much = Offer(tag=b"large", amount=Amount(10**9), key=KEY, expiry=OUT_EXPIRY, onion=bytes(1_366))
    node.out.actor.post(too_much, on_refusal=told.append)
    node.out.actor.post(pay(7), writes=bad())
    await node.quiet()
    assert node.out.actor.broken
    assert [fault.code for fault in told] == ["insufficient_balance"]


# -- a turn that rests on another


async def bring_a_lock(node: Hub, packet: onion.Built, amount: int = 103) -> None:
    """The payer's commit with a lock, heard and waiting for its turn."""
    node.into.peer.do(Offer(tag=b"t", amount=Amount(amount), key=KEY, expiry=IN_EXPIRY, onion=packet.packet))
    assert node.into.deliver()


async def test_a_turn_that_is_not_saved_stops_its_own_channel_only(node: Hub):
    """The lock that it brought is on its way further by then: there it is as if it had never come."""
    await bring_a_lock(node, packet_on(node.out.id))
    node.into.actor.post(pay(7), writes=bad())
    other = pay(8)
    node.out.actor.post(other)
    await node.quiet()
    assert node.into.actor.broken and node.out.actor.broken is None
    assert node.store.rows("SELECT (SELECT count(*) FROM forwards), (SELECT count(*) FROM arrivals)") == [(0, 0)]
    await node.settle()
    assert node.waiting() == [] and node.into.line.said == []
    assert node.out.peer.channel.balance == 1_005, "what had nothing to do with it went on"


def not_saved(node: Hub, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Another channel's turn that the store refuses together with the first that rests on it."""
    below, commit = Batch(), node.store.commit

    async def failing(batch: Batch) -> None:
        below.failed |= any(one is below for one in batch.after)
        await commit(batch)

    monkeypatch.setattr(node.store, "commit", failing)
    return below


async def again(node: Hub, leg: Leg) -> None:
    """The peer connects on a new line, and both go on."""
    leg.line.faults.clear()
    leg.line.said.clear()
    leg.peer.do(Disconnected())
    leg.actor.post(Connected(), line=leg.line)
    leg.hear(*leg.peer.do(Connected()).sends)
    await node.settle()


async def test_what_the_peer_said_in_a_turn_that_is_not_saved_it_says_again(
    node: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.out.peer.do(pay(3))
    node.out.deliver()
    node.out.actor.post(pay(9, 50), after=not_saved(node, monkeypatch))
    await node.quiet()
    channel = node.out.actor.channel
    assert node.out.actor.broken is None
    assert [fault.answer for fault in node.out.line.faults] == [Answer.DISCONNECT]
    assert (channel.session, channel.current.version, node.out.line.said) == (Session.CUT, 0, [])
    await again(node, node.out)
    assert node.out.actor.channel.balance == 1_005 and node.out.actor.channel.phase is Phase.OPEN


async def test_what_was_refused_in_a_turn_that_is_not_saved_stays_refused(
    node: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there would be room for it now: whoever heard the refusal may have begun another attempt."""
    told: list[Refused] = []
    node.out.actor.post(pay(9, 200), after=not_saved(node, monkeypatch), on_refusal=told.append)
    tag = node.book.tag(Attempt(hash=KEY, route=b""))
    large = Offer(tag=tag, amount=Amount(900), key=KEY, expiry=OUT_EXPIRY, onion=bytes(1_366))
    node.out.actor.post(large, on_refusal=told.append)
    await node.quiet()
    assert [fault.code for fault in told] == ["insufficient_balance", "channel_broken"]
    await node.settle()
    assert node.waiting() == []


async def test_a_lock_that_comes_again_after_a_turn_that_is_not_saved_is_decided_anew(
    node: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its first coming led to is over: nothing gives back what the second passes on."""
    packet, given_back = packet_on(node.out.id), []
    monkeypatch.setattr(node.desk, "_give_back", lambda *what: given_back.append(what))
    await bring_a_lock(node, packet)
    node.into.actor.post(pay(7), after=not_saved(node, monkeypatch))
    await node.quiet()
    assert node.into.actor.channel.session is Session.CUT and node.waiting() == []
    await again(node, node.into)
    assert (len(node.waiting()), node.answer(packet), given_back) == (1, None, [])
    assert node.book._offers == {}, "nothing of either time is left under its tag"


async def test_a_preimage_is_taken_upstream_though_the_turn_that_showed_it_is_not_saved(node: Hub):
    await node.offered(packet_on(node.out.id), 103)
    (lock,) = node.waiting()
    node.out.peer.do(Fulfil(lock_id=lock.id, preimage=PREIMAGE))
    node.out.deliver()
    node.out.actor.post(pay(7), writes=bad())
    await node.quiet()
    assert node.out.actor.broken and node.into.actor.broken is None
    await node.settle()
    assert Learned(lock_id=LockId(1), preimage=PREIMAGE) in node.into.peer.notes


async def test_a_preimage_outlives_the_turn_that_stops_its_channel(node: Hub):
    """The guard takes the lock on chain with it."""
    await node.offered(packet_on(node.out.id), 103)
    node.into.actor.post(Fulfil(lock_id=LockId(1), preimage=PREIMAGE))
    node.into.actor.post(pay(7), writes=bad())
    await node.quiet()
    assert node.into.actor.broken
    assert node.into.actor.channel.claims == {LockId(1): PREIMAGE}


async def test_an_invoice_is_open_again_when_the_turn_that_paid_it_is_not_saved(node: Hub):
    await node.invoice()
    await bring_a_lock(node, packet_here(payload_here()), 100)
    node.into.actor.post(pay(7), writes=bad())
    await node.quiet()
    told = node.desk.invoice(KEY)
    assert node.into.actor.broken and told is not None and told.open
    assert node.store.rows("SELECT state FROM invoices") == [("open",)]


async def test_a_transfer_repeated_while_the_disk_stalls_is_made_once(
    node: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than a caller that has gone is waited for: the second call waits for the first one's row."""
    monkeypatch.setattr(transfers, "TURN", 0.02)
    needed = [field.name for field in fields(service.Service) if field.init and field.default_factory is MISSING]
    missing = dict.fromkeys(needed)
    given = {"book": node.book, "store": node.store, "world": node.world}
    socket = service.Service(**(missing | given))  # type: ignore[arg-type]
    commit = node.store.commit

    async def slow(batch: Batch) -> None:
        await trio.sleep(0.2)
        await commit(batch)

    monkeypatch.setattr(node.store, "commit", slow)

    async def call(*names: bytes) -> None:
        asked = [{"id": name * 16, "amount": 5} for name in names]
        await socket.send_transfers(channel_id=node.out.id, transfers=asked, wait=False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, b"1")
        await trio.sleep(0.05)
        nursery.start_soon(call, b"2", b"1")
        await trio.sleep(0.05)
        nursery.start_soon(call, b"2")  # while the call before waits for the first
    assert node.out.actor.broken is None
    assert node.store.rows("SELECT count(*) FROM transfers") == [(2,)]
