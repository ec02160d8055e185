"""What the forwarder does with a lock that came in: pass it on, keep it, or say why not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from channeld.base.keys import sha256
from channeld.base.units import Amount, ChannelId, LockId, LockKey, Side, Timestamp
from channeld.core.channel import Channel
from channeld.core.effects import Learned
from channeld.core.events import CloseAlone, Disconnected, Fail, Fulfil
from channeld.node.forwarding import SET_TIMEOUT
from channeld.wire import onion
from channeld.wire.failure import Failure, FailureCode
from tests.roles import START, preimage
from tests.unit.node.hub import (
    IN_EXPIRY,
    KEY,
    MAX_EXPIRY,
    NODE_KEY,
    OUT_EXPIRY,
    PREIMAGE,
    Hub,
    hub,
    packet_here,
    packet_on,
    payload_here,
    payload_on,
    start,
)

FEE = 3
"""Of 100: 2 and one percent."""


@pytest.fixture
async def node(nursery: trio.Nursery) -> AsyncIterator[Hub]:
    with hub(nursery) as made:
        await start(made)
        yield made


def rows(node: Hub, table: str) -> int:
    ((count,),) = node.store.rows(f"SELECT count(*) FROM {table}")
    return int(count)


# -- passing on


async def test_a_lock_goes_on_with_the_onion_and_the_fee_stays(node: Hub):
    await node.offered(packet_on(node.out.id), 100 + FEE)
    (out,) = node.waiting()
    assert (out.amount, out.key, out.expiry) == (100, KEY, OUT_EXPIRY)
    node.out.peer.do(Fulfil(lock_id=out.id, preimage=PREIMAGE))
    await node.settle()
    assert Learned(lock_id=LockId(1), preimage=PREIMAGE) in node.into.peer.notes
    assert node.into.actor.channel.balance == 1_000 + 103
    assert node.out.actor.channel.balance == 1_000 - 100
    assert node.store.rows("SELECT state FROM forwards") == [("fulfilled",)]
    assert rows(node, "arrivals") == 0


async def test_an_error_from_the_payee_is_wrapped_for_the_payer(node: Hub):
    packet = packet_on(node.out.id)
    await node.offered(packet, 100 + FEE)
    (out,) = node.waiting()
    reason = node.book.failure(packet.secrets[1], FailureCode.UNKNOWN_PAYMENT)
    node.out.peer.do(Fail(lock_id=out.id, reason=reason))
    await node.settle()
    assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT
    assert node.store.rows("SELECT state FROM forwards") == [("returned",)]


TOO_SOON = START + 2 * 4 + 2  # now, two inclusions and a skew
BAD_TERMS = {
    "one less than the fee": (100 + FEE - 1, IN_EXPIRY, 100, OUT_EXPIRY, FailureCode.FEE_INSUFFICIENT),
    "below our minimum": (50, IN_EXPIRY, 9, OUT_EXPIRY, FailureCode.AMOUNT_BELOW_MINIMUM),
    "above our maximum": (600, IN_EXPIRY, 501, OUT_EXPIRY, FailureCode.AMOUNT_BELOW_MINIMUM),
    "R18: a second less than the delta": (103, IN_EXPIRY - 1, 100, OUT_EXPIRY, FailureCode.INCORRECT_EXPIRY),
    "R17: no time to act on": (103, IN_EXPIRY, 100, TOO_SOON, FailureCode.EXPIRY_TOO_SOON),
    "pending for too long": (103, START + MAX_EXPIRY + 1, 100, OUT_EXPIRY, FailureCode.EXPIRY_TOO_FAR),
}


@pytest.mark.parametrize("name", BAD_TERMS)
async def test_terms_we_do_not_take(node: Hub, name: str):
    amount, in_expiry, told, out_expiry, code = BAD_TERMS[name]
    packet = packet_on(node.out.id, told, out_expiry)
    await node.offered(packet, amount, in_expiry)
    assert node.answer(packet) is code
    assert node.waiting() == []
    assert (rows(node, "arrivals"), rows(node, "forwards")) == (0, 0)


OUR_WORD = b"our policy, signed"
OURS = {FailureCode.FEE_INSUFFICIENT, FailureCode.AMOUNT_BELOW_MINIMUM, FailureCode.INCORRECT_EXPIRY}


@pytest.mark.parametrize("name", BAD_TERMS)
async def test_the_policy_that_forbids_a_lock_comes_with_the_failure(node: Hub, name: str):
    """That of the channel it was to leave by; nothing where no other policy would help."""
    said: list[ChannelId] = []

    def word(channel: Channel) -> bytes:
        said.append(channel.id)
        return OUR_WORD

    node.desk.word = word
    amount, in_expiry, told, out_expiry, code = BAD_TERMS[name]
    packet = packet_on(node.out.id, told, out_expiry)
    await node.offered(packet, amount, in_expiry)
    assert node.failure(packet) == Failure(code=code, data=OUR_WORD if code in OURS else b"")
    assert said == ([node.out.id] if code in OURS else [])


async def test_a_temporary_failure_says_nothing_more(node: Hub):
    """Too little and too many locks look the same, or a balance could be read from it."""
    node.desk.word = lambda _: OUR_WORD
    await node.offered(packet_on(node.out.id, 500), 500 + 7)
    packet = packet_on(node.out.id, 500)
    await node.offered(packet, 500 + 7)
    assert node.failure(packet) == Failure(code=FailureCode.TEMPORARY_CHANNEL_FAILURE)


JUST_GOOD = {
    "exactly the fee": (103, IN_EXPIRY, 100, OUT_EXPIRY),
    "the smallest": (10 + 3, IN_EXPIRY, 10, OUT_EXPIRY),
    "the largest": (500 + 7, IN_EXPIRY, 500, OUT_EXPIRY),
    "the shortest": (103, TOO_SOON + 1 + 20, 100, TOO_SOON + 1),
    "the longest": (103, START + MAX_EXPIRY, 100, OUT_EXPIRY),
}


@pytest.mark.parametrize("name", JUST_GOOD)
async def test_terms_we_just_take(node: Hub, name: str):
    amount, in_expiry, told, out_expiry = JUST_GOOD[name]
    await node.offered(packet_on(node.out.id, told, out_expiry), amount, in_expiry)
    assert [lock.amount for lock in node.waiting()] == [told]


async def test_a_key_that_is_registered_is_not_passed_on(node: Hub):
    node.world.registered[KEY] = START
    packet = packet_on(node.out.id)
    await node.offered(packet, 103)
    assert node.answer(packet) is FailureCode.KEY_ALREADY_REGISTERED


async def test_i30_in_safe_mode_nothing_is_passed_on_or_kept(node: Hub):
    node.world.fault = "the endpoints disagree"
    await node.invoice()
    for packet in (packet_on(node.out.id), packet_here(payload_here())):
        await node.offered(packet, 103)
        assert node.answer(packet) is FailureCode.SAFE_MODE


@pytest.mark.parametrize("next_channel", ["none", "the one it came by"])
async def test_a_next_channel_that_is_none(node: Hub, next_channel: str):
    packet = packet_on(ChannelId(bytes(32)) if next_channel == "none" else node.into.id)
    await node.offered(packet, 103)
    expected = FailureCode.UNKNOWN_NEXT_PEER if next_channel == "none" else FailureCode.CHANNEL_CLOSING
    assert node.answer(packet) is expected


async def test_a_next_peer_that_is_away(node: Hub):
    node.out.actor.post(Disconnected(), line=node.out.line)
    packet = packet_on(node.out.id)
    await node.offered(packet, 103)
    assert node.answer(packet) is FailureCode.UNKNOWN_NEXT_PEER


async def test_a_next_channel_that_closes(node: Hub):
    await node.quiet()
    node.out.actor.post(CloseAlone())
    packet = packet_on(node.out.id)
    await node.offered(packet, 103)
    assert node.answer(packet) is FailureCode.CHANNEL_CLOSING


async def test_a_next_channel_that_cannot_carry_it(node: Hub):
    """The offer is refused by the channel itself, after the desk had nothing against it."""
    for number in range(1, 3):
        key = LockKey(sha256(preimage(number)))
        await node.offered(packet_on(node.out.id, 480, key=key), 487, key=key)
    packet = packet_on(node.out.id, 50)
    await node.offered(packet, 53, key=KEY)
    assert node.answer(packet) is FailureCode.TEMPORARY_CHANNEL_FAILURE
    assert len(node.waiting()) == 2
    assert rows(node, "arrivals") == 0


async def test_an_onion_that_is_not_ours_goes_back_unexplained(node: Hub):
    """Without a shared secret there is nobody we could tell."""
    packet = packet_on(node.out.id, key=LockKey(bytes(32)))  # bound to another payment
    await node.offered(packet, 103)
    assert node.into.peer.channel.current.body.locks == {}
    assert node.waiting() == []


@pytest.mark.parametrize("wrong", ["a forward at the end", "a last payload in between", "no payload"])
async def test_a_payload_that_does_not_fit_its_place(node: Hub, wrong: str):
    hops = {
        "a forward at the end": [(NODE_KEY.public, payload_on(node.out.id))],
        "a last payload in between": [(NODE_KEY.public, payload_here()), (NODE_KEY.public, payload_here())],
        "no payload": [(NODE_KEY.public, b"nothing")],
    }[wrong]
    await node.invoice()
    packet = onion.build(hops, KEY, sha256(b"session"))
    await node.offered(packet, 103)
    assert node.answer(packet) is FailureCode.INVALID_PAYLOAD


# -- keeping


async def test_r21_a_payment_for_our_invoice_is_kept_once(node: Hub):
    await node.invoice()
    await node.offered(packet_here(payload_here()), 100)
    assert Learned(lock_id=LockId(1), preimage=PREIMAGE) in node.into.peer.notes
    ((state, received),) = node.store.rows("SELECT state, received FROM invoices")
    assert (state, int.from_bytes(received, "big")) == ("paid", 100)
    again = packet_here(payload_here())
    await node.offered(again, 100)
    assert node.answer(again) is FailureCode.UNKNOWN_PAYMENT
    assert node.into.actor.channel.balance == 1_100


BAD_ENDS = {
    "another secret": (payload_here(secret=b"x" * 32), 100, IN_EXPIRY, FailureCode.UNKNOWN_PAYMENT),
    "less than the onion says": (payload_here(), 99, IN_EXPIRY, FailureCode.FINAL_INCORRECT_AMOUNT),
    "less than the invoice says": (payload_here(99, 99), 99, IN_EXPIRY, FailureCode.FINAL_INCORRECT_AMOUNT),
    "sooner than the onion says": (payload_here(), 100, IN_EXPIRY - 1, FailureCode.FINAL_INCORRECT_EXPIRY),
    "too soon to act on": (payload_here(expiry=START), 100, START + 17, FailureCode.FINAL_INCORRECT_EXPIRY),
    "pending for too long": (payload_here(), 100, START + MAX_EXPIRY + 1, FailureCode.FINAL_INCORRECT_EXPIRY),
}


@pytest.mark.parametrize("name", BAD_ENDS)
async def test_r21_payments_we_do_not_keep(node: Hub, name: str):
    told, amount, expiry, code = BAD_ENDS[name]
    await node.invoice()
    packet = packet_here(told)
    await node.offered(packet, amount, expiry)
    assert node.answer(packet) is code
    assert node.store.rows("SELECT state FROM invoices") == [("open",)]


async def test_the_shortest_expiry_we_keep(node: Hub):
    await node.invoice()
    await node.offered(packet_here(payload_here(expiry=START)), 100, START + 18)
    assert node.store.rows("SELECT state FROM invoices") == [("paid",)]


@pytest.mark.parametrize("why", ["no invoice", "expired", "registered"])
async def test_the_payee_does_not_say_which(node: Hub, why: str):
    if why != "no invoice":
        await node.invoice(expires=START - 1 if why == "expired" else START + 900)
    if why == "registered":
        node.world.registered[KEY] = START
    packet = packet_here(payload_here())
    await node.offered(packet, 100)
    assert node.answer(packet) is FailureCode.UNKNOWN_PAYMENT


async def test_an_invoice_without_amount_takes_what_is_paid(node: Hub):
    await node.invoice(None)
    await node.offered(packet_here(payload_here(77, 77)), 80)
    ((received,),) = node.store.rows("SELECT received FROM invoices")
    assert int.from_bytes(received, "big") == 80


async def test_r21_parts_wait_for_each_other_and_are_taken_together(node: Hub):
    await node.invoice()
    await node.offered(packet_here(payload_here(60, 100)), 60)
    assert node.into.actor.channel.claims == {}
    assert rows(node, "arrivals") == 1
    await node.offered(packet_here(payload_here(40, 100)), 40)
    assert node.into.actor.channel.balance == 1_100
    assert (rows(node, "arrivals"), rows(node, "parts")) == (0, 2)


async def test_r21_parts_of_another_total_are_not_of_the_set(node: Hub):
    await node.invoice()
    await node.offered(packet_here(payload_here(60, 100)), 60)
    other = packet_here(payload_here(60, 120))
    await node.offered(other, 60)
    assert node.answer(other) is FailureCode.FINAL_INCORRECT_AMOUNT
    assert rows(node, "arrivals") == 1


@pytest.mark.parametrize("over", [0, 1])
async def test_r21_a_set_that_stays_incomplete_is_given_back(node: Hub, over: int):
    await node.invoice()
    packet = packet_here(payload_here(60, 100))
    await node.offered(packet, 60)
    node.at(START + SET_TIMEOUT + over)
    node.desk.sweep()
    await node.settle()
    assert node.answer(packet) is (FailureCode.PAYMENT_TIMEOUT if over else None)


async def test_a_preimage_that_is_known_is_never_failed(node: Hub):
    """R17: from the moment of release the lock can only be taken, whatever else is asked for."""
    await node.invoice()
    await node.offered(packet_here(payload_here()), 100)
    node.into.actor.post(Fail(lock_id=LockId(1), reason=b""))
    await node.settle()
    assert node.into.actor.channel.balance == 1_100


async def test_r17_past_the_cut_off_a_secret_is_remembered_and_not_told(node: Hub):
    await node.offered(packet_on(node.out.id), 103)
    (out,) = node.waiting()
    node.at(IN_EXPIRY - 6)
    node.book.fulfil(node.into.id, LockId(1), PREIMAGE)
    await node.settle()
    assert node.into.actor.channel.claims == {LockId(1): PREIMAGE}
    assert (Side.A, LockId(1)) in node.into.peer.channel.current.body.locks
    node.world.registered[KEY] = Timestamp(IN_EXPIRY - 5)
    node.book.fulfil(node.into.id, LockId(1), PREIMAGE)
    await node.settle()
    assert node.into.actor.channel.balance == 1_000 + Amount(103)
    assert out.key == KEY
