"""The core's words and the wire's messages are the same: each comes back as it was said, through bytes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.digests import LOCK_BYTES, Lock
from channeld.base.errors import Answer, Malformed, PeerFault
from channeld.base.units import (
    MAX_AMOUNT,
    MAX_TIMESTAMP,
    MAX_VERSION,
    Amount,
    ChannelId,
    Digest,
    LockId,
    LockKey,
    LockKind,
    PaymentId,
    Preimage,
    Side,
    Timestamp,
    Version,
)
from channeld.core import messages as core
from channeld.core.channel import MAX_BATCH, Body
from channeld.node.translate import ChannelMessage, Gatherer, to_wire, unpack_locks
from channeld.wire import messages as wire

CHANNEL = ChannelId(b"c" * 32)
WORD = st.binary(min_size=32, max_size=32)
DIGEST = WORD.map(Digest)
SIGNATURE = st.binary(min_size=65, max_size=65)
AMOUNT = st.integers(0, MAX_AMOUNT).map(Amount)
POSITIVE = st.integers(1, MAX_AMOUNT).map(Amount)
VERSION = st.integers(0, MAX_VERSION).map(Version)
LOCK_ID = st.integers(1, 2**64 - 1).map(LockId)
TIME = st.integers(1, MAX_TIMESTAMP).map(Timestamp)
UNTIL = st.integers(0, 2**64 - 1).map(Timestamp)
NET = st.integers(-(2**95), 2**95 - 1)
ONION = WORD.map(lambda ends: ends + bytes(1_366 - 32))


def lock_of(sender: Side) -> st.SearchStrategy[Lock]:
    return st.builds(
        Lock,
        id=LOCK_ID,
        sender=st.just(sender),
        kind=st.sampled_from(LockKind),
        amount=POSITIVE,
        key=WORD.map(LockKey),
        expiry=TIME,
    )


def update_of(proposer: Side) -> st.SearchStrategy[core.Update]:
    return st.one_of(
        st.builds(core.Transfer, st.binary(min_size=16, max_size=16).map(PaymentId), POSITIVE),
        st.builds(core.AddLock, lock_of(proposer), ONION),
        st.builds(core.FulfilLock, LOCK_ID, WORD.map(Preimage)),
        st.builds(core.FailLock, LOCK_ID, st.binary(max_size=512)),
    )


BODY = st.builds(
    lambda net, locks: Body(net, MappingProxyType({(lock.sender, lock.id): lock for lock in locks})),
    NET,
    st.lists(st.sampled_from(Side).flatmap(lock_of), max_size=4),
)
SINGLE: dict[type[Any], st.SearchStrategy[Any]] = {
    core.Ack: st.builds(core.Ack, version=VERSION, signature=SIGNATURE, receipt=st.just(b"") | SIGNATURE),
    core.DepositSeen: st.builds(core.DepositSeen, deposit_a=AMOUNT, deposit_b=AMOUNT),
    core.Reestablish: st.builds(
        core.Reestablish,
        version=VERSION,
        hash=DIGEST,
        outstanding=VERSION,
        outstanding_hash=DIGEST,
        base=VERSION,
        coop_version=VERSION,
        coop_digest=DIGEST,
        coop_valid_until=UNTIL,
    ),
    core.Proof: st.builds(core.Proof, version=VERSION, body=BODY, signature_a=SIGNATURE, signature_b=SIGNATURE),
    core.CoopPropose: st.builds(
        core.CoopPropose, version=VERSION, hash=DIGEST, coop_version=VERSION, net=NET, valid_until=UNTIL
    ),
    core.CoopNo: st.builds(core.CoopNo, coop_version=VERSION),
    core.CoopSign: st.builds(core.CoopSign, coop_version=VERSION, signature=SIGNATURE),
}


def through(message: core.Message, proposer: Side) -> core.Message | None:
    """As the peer hears it: said, encoded, decoded and gathered. Every part but the last is still incomplete."""
    gatherer = Gatherer(proposer)
    *parts, last = (wire.decode(wire.encode(part)) for part in to_wire(CHANNEL, message, proposer))
    assert all(gatherer.take(part) is None for part in parts)  # type: ignore[arg-type]
    return gatherer.take(last)  # type: ignore[arg-type]


def test_every_word_of_the_core_is_tried():
    assert {*SINGLE, core.Commit, core.Fault} == set(core.Message.__args__)


@given(st.sampled_from(sorted(SINGLE, key=lambda kind: kind.__name__)).flatmap(lambda kind: SINGLE[kind]))
def test_a_message_comes_back_as_it_was_said(message: core.Message):
    assert through(message, Side.A) == message


@given(st.sampled_from(Side), st.data())
def test_r2_a_commit_comes_back_with_its_updates_in_order(proposer: Side, data: st.DataObject):
    message = core.Commit(
        version=data.draw(VERSION),
        base=data.draw(VERSION),
        updates=tuple(data.draw(st.lists(update_of(proposer), min_size=1, max_size=8))),
        signature=data.draw(SIGNATURE),
    )
    said = to_wire(CHANNEL, message, proposer)
    assert len(said) == len(message.updates) + 1
    assert isinstance(said[-1], wire.Commit)
    assert all(isinstance(part, ChannelMessage) and part.channel_id == CHANNEL for part in said)
    assert through(message, proposer) == message


def test_a_fault_is_an_error_that_can_be_sent():
    (said,) = to_wire(CHANNEL, core.Fault(code="x" * 40, text="häßlich\n\0" + "y" * 500), Side.A)
    assert said == wire.Error(channel_id=CHANNEL, code="x" * 32, text=("h??lich??" + "y" * 500)[:200])
    wire.encode(said)


def transfer(version: int, number: int = 1) -> wire.Transfer:
    name = PaymentId(number.to_bytes(16, "big"))
    return wire.Transfer(channel_id=CHANNEL, version=Version(version), payment_id=name, amount=Amount(1))


def commit(version: int, count: int) -> wire.Commit:
    return wire.Commit(
        channel_id=CHANNEL,
        version=Version(version),
        base=Version(0),
        count=count,
        signature=b"s" * 65,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "said",
    [
        [transfer(1), commit(1, 2)],
        [transfer(1), transfer(1, 2), commit(1, 1)],
        [transfer(1), commit(2, 1)],
        [transfer(1), transfer(2)],
        [commit(1, 1)],
        [transfer(1), wire.CoopNo(channel_id=CHANNEL, coop_version=Version(1))],
        [transfer(1)] * (MAX_BATCH + 1),
    ],
)
def test_r2_updates_that_belong_to_no_commit_disconnect(said: list[wire.Message]):
    gatherer = Gatherer(Side.A)
    for part in said[:-1]:
        assert gatherer.take(part) is None  # type: ignore[arg-type]
    with pytest.raises(PeerFault) as told:
        gatherer.take(said[-1])  # type: ignore[arg-type]
    assert told.value.answer is Answer.DISCONNECT


def test_r2_the_largest_batch_is_gathered_and_the_next_begins_empty():
    gatherer = Gatherer(Side.A)
    for number in range(MAX_BATCH):
        assert gatherer.take(transfer(1, number)) is None
    whole = gatherer.take(commit(1, MAX_BATCH))
    assert isinstance(whole, core.Commit)
    assert len(whole.updates) == MAX_BATCH
    assert gatherer.take(transfer(2)) is None
    again = gatherer.take(commit(2, 1))
    assert isinstance(again, core.Commit)
    assert len(again.updates) == 1


def test_a_commit_of_nothing_is_for_the_core_to_judge():
    whole = Gatherer(Side.A).take(commit(1, 0))
    assert isinstance(whole, core.Commit)
    assert whole.updates == ()


def test_a_lock_belongs_to_who_said_it():
    """The wire names no sender, so nobody can add a lock in the other's name."""
    gatherer = Gatherer(Side.B)
    gatherer.take(
        wire.AddLock(
            channel_id=CHANNEL,
            version=Version(2),
            lock_id=LockId(1),
            kind=LockKind.HASH,
            amount=Amount(5),
            key=LockKey(bytes(32)),
            expiry=Timestamp(9),
            onion=bytes(1_366),
        )
    )
    whole = gatherer.take(commit(2, 1))
    assert isinstance(whole, core.Commit)
    (update,) = whole.updates
    assert isinstance(update, core.AddLock)
    assert update.lock.sender is Side.B


@given(st.binary(max_size=LOCK_BYTES * 3).map(lambda data: data[: len(data) // LOCK_BYTES * LOCK_BYTES]) | st.binary())
def test_any_list_of_locks_is_one_or_malformed(data: bytes):
    try:
        locks = unpack_locks(data)
    except Malformed:
        return
    assert b"".join(lock.packed() for lock in locks) == data
