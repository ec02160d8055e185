"""`step` and MOVES: every phase with every event, and never another error than ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest

from channeld.base.errors import Answer, Broken, PeerFault, Refused
from channeld.base.keys import Key
from channeld.base.units import (
    Address,
    Amount,
    Digest,
    LockId,
    LockKey,
    Preimage,
    Side,
    Timestamp,
    Version,
)
from channeld.core import events, messages
from channeld.core.channel import Body, Channel, Phase, Session
from channeld.core.effects import Step
from channeld.core.events import CloseAlone, Connected, Event, Got, Leave, Propose, SeenCooperated, SeenDeposit
from channeld.core.machine import MOVES, step
from channeld.core.saved import load, save
from tests.roles import (
    ACCEPTOR_KEY,
    ONION,
    OPENER_KEY,
    START,
    lock,
    name,
    offer,
    open_pair,
    pair,
    pay,
    preimage,
    saved_part,
)
from tests.unit.core.test_closing import close_of, settled, with_locks

HASH = Digest(b"?" * 32)
SIGNATURE = bytes(64) + b"\x1b"

MESSAGES: list[messages.Message] = [
    messages.Commit(
        version=Version(3),
        base=Version(0),
        updates=(messages.Transfer(name(1), Amount(1)), messages.AddLock(lock(Side.A, 1, 1), ONION)),
        signature=SIGNATURE,
    ),
    messages.Ack(version=Version(3), signature=SIGNATURE),
    messages.DepositSeen(deposit_a=Amount(5_000), deposit_b=Amount(5_000)),
    messages.Reestablish(
        version=Version(9),
        hash=HASH,
        outstanding=Version(0),
        outstanding_hash=HASH,
        base=Version(9),
        coop_version=Version(4),
        coop_digest=HASH,
        coop_valid_until=Timestamp(2**64 - 1),
    ),
    messages.Proof(version=Version(9), body=Body(2**90), signature_a=SIGNATURE, signature_b=b""),
    messages.CoopPropose(version=Version(0), hash=HASH, coop_version=Version(3), net=0, valid_until=Timestamp(0)),
    messages.CoopNo(coop_version=Version(3)),
    messages.CoopSign(coop_version=Version(3), signature=SIGNATURE),
    messages.Fault(code="x", text="y" * 1_000),
]
EVENTS: list[Event] = [
    pay(1),
    pay(10**30),
    offer(1),
    events.Fulfil(lock_id=LockId(1), preimage=preimage(1)),
    events.Fulfil(lock_id=LockId(7), preimage=Preimage(HASH)),
    events.Fail(lock_id=LockId(1), reason=b"r"),
    events.Cancel(lock_id=LockId(1)),
    Propose(),
    Leave(now=START, valid_for=60),
    CloseAlone(),
    events.Recover(reason="a copy"),
    events.Recover(
        reason="a lying tower",
        proof=messages.Proof(version=Version(9), body=Body(2**90), signature_a=SIGNATURE, signature_b=b""),
    ),
    Connected(),
    events.Disconnected(),
    SeenDeposit(deposit_a=Amount(9), deposit_b=Amount(9)),
    events.SeenClose(closer=Side.A, version=Version(0), body_hash=HASH, deadline=START),
    events.SeenChallenge(version=Version(3), body_hash=HASH, bond_to=Address(b"\1" * 20)),
    events.SeenFinal(),
    events.SeenSettled(version=Version(0)),
    events.SeenResolved(left=((Side.A, LockId(4)),)),
    events.SeenResolved(left=()),
    SeenCooperated(version=Version(3)),
    events.SeenUnclosed(),
    events.SeenHead(now=START, final=Timestamp(2**32 - 1), unregistered=frozenset({LockKey(HASH)})),
    events.SeenSecret(key=LockKey(HASH), preimage=Preimage(HASH), at=START),
    *(Got(message=message, now=START) for message in MESSAGES),
]


def busy(side: Side) -> Channel:
    both = with_locks()
    both.do(side, pay(5))
    both.do(side, Propose())
    both.do(side, offer(5, 3))
    return both.node(side).channel


def live(side: Side) -> Channel:
    both = open_pair()
    both.do(Side.A, Leave(now=START, valid_for=60))
    both.pump()
    return both.node(side).channel


def asking(side: Side) -> Channel:
    return open_pair().node(side).do(Leave(now=START, valid_for=60)).channel


def greeting(side: Side) -> Channel:
    return replace(open_pair().node(side).do(Connected()).channel)


def frozen(side: Side) -> Channel:
    both = with_locks()
    return both.do(side, CloseAlone()).channel


def closing(side: Side) -> Channel:
    node = with_locks().node(side)
    return node.do(close_of(node.channel)).channel


def closed(side: Side) -> Channel:
    return open_pair().node(side).do(SeenCooperated(version=Version(9))).channel


CHANNELS: dict[str, Callable[[Side], Channel]] = {
    "opening": lambda side: pair().node(side).do(Connected()).channel,
    "open": lambda side: open_pair().node(side).channel,
    "busy": busy,
    "cooperating": live,
    "asking": asking,
    "greeting": greeting,
    "proving": lambda side: replace(open_pair().node(side).channel, session=Session.PROVING),
    "cut": lambda side: replace(busy(side), session=Session.CUT),
    "frozen": frozen,
    "closing": closing,
    "settled": lambda side: settled().node(side).channel,
    "closed": closed,
}


def outcome(channel: Channel, event: Event, key: Key) -> Step | Refused | PeerFault:
    try:
        return step(channel, event, key)
    except (Refused, PeerFault) as fault:
        return fault


def test_the_matrix_is_whole():
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    assert {type(message) for message in MESSAGES} == set(get_args(messages.Message))
    assert {CHANNELS[which](Side.A).phase for which in CHANNELS} == set(Phase)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("which", sorted(CHANNELS))
def test_every_state_takes_every_event_or_refuses_it_by_name(which: str, side: Side):
    channel = CHANNELS[which](side)
    key = (OPENER_KEY, ACCEPTOR_KEY)[side]
    for event in EVENTS:
        done = outcome(channel, event, key)
        if isinstance(done, Refused):
            assert not isinstance(event, Got), event
            assert done.code
        elif isinstance(done, PeerFault):
            assert isinstance(event, Got), event
            assert done.answer is not Answer.FREEZE, "freezing is a step, not an error"
        else:
            ends = MOVES.get((channel.phase, type(event)), {channel.phase})
            assert done.channel.phase in ends
            assert load(save(done.channel)) == saved_part(done.channel)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("which", sorted(CHANNELS))
def test_two_events_in_a_row_are_no_worse_than_one(which: str, side: Side):
    start = CHANNELS[which](side)
    key = (OPENER_KEY, ACCEPTOR_KEY)[side]
    for first in EVENTS:
        done = outcome(start, first, key)
        if isinstance(done, Step):
            for second in EVENTS:
                outcome(done.channel, second, key)


@pytest.mark.parametrize("phase", list(Phase))
def test_moves_no_phase_is_left_out_and_the_end_is_the_end(phase: Phase):
    assert {kind for where, kind in MOVES if where is phase}
    ends = {end for (where, _), found in MOVES.items() if where is phase for end in found}
    if phase is Phase.CLOSED:
        assert ends == {Phase.CLOSED}
    if phase not in (Phase.OPENING, Phase.OPEN):
        assert Phase.OPEN not in ends, "frozen is for good (R16)"


def test_moves_bind_step(monkeypatch: pytest.MonkeyPatch):
    channel = open_pair().opener.channel
    monkeypatch.setitem(MOVES, (Phase.OPEN, CloseAlone), frozenset({Phase.OPEN}))
    with pytest.raises(Broken):
        step(channel, CloseAlone(), OPENER_KEY)


def test_out_of_turn_we_are_refused_and_the_world_is_ignored():
    channel = closed(Side.A)
    for wish in (pay(1), offer(1), events.Cancel(lock_id=LockId(1)), Leave(now=START, valid_for=1), CloseAlone()):
        with pytest.raises(Refused) as refusal:
            step(channel, wish, OPENER_KEY)
        assert refusal.value.code == "channel_closing"
    for event in EVENTS:
        if isinstance(event, Got):
            assert step(channel, event, OPENER_KEY).channel == channel


def test_a_step_is_a_function_of_its_arguments():
    for event in (pay(1), Propose(), Leave(now=START, valid_for=60)):
        channel = open_pair().opener.channel
        assert step(channel, event, OPENER_KEY) == step(channel, event, OPENER_KEY)
