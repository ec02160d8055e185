"""`step` and MOVES: every phase with every event, and never another error than ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest

from channeld.base.digests import ALL, cooperate_digest, receipt_digest, transfers_hash
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
from channeld.core.channel import Body, Channel, Phase, Session, next_version
from channeld.core.effects import Step
from channeld.core.events import CloseAlone, Connected, Event, Got, Leave, Propose, SeenCooperated, SeenDeposit
from channeld.core.machine import MOVES, step
from channeld.core.saved import load, save
from channeld.core.updating import Forbidden, apply
from tests.roles import (
    ACCEPTOR_KEY,
    ONION,
    OPENER_KEY,
    START,
    RecordingKey,
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


def waiting(side: Side) -> Channel:
    """A cooperate is live, and a commit of a peer for which it has lapsed waits (R14)."""
    channel = live(side)
    commit = next(
        w.message for w in honest_words(channel) if isinstance(w, Got) and isinstance(w.message, messages.Commit)
    )
    return replace(channel, waiting=commit)


STATES: dict[str, Callable[[Side], Channel]] = {
    **CHANNELS,
    "deposit told": lambda side: pair().node(side).do(SeenDeposit(deposit_a=Amount(9), deposit_b=Amount(9))).channel,
    "live": lambda side: with_locks().node(side).channel,
    "live and frozen": lambda side: with_locks().node(side).do(CloseAlone()).channel,
    "recovering": lambda side: replace(frozen(side), recovering=True),
    "waiting": waiting,
}
PRODUCT = [(which, session) for which in sorted(STATES) for session in Session]
"""Every phase with every session: `replace` puts even those together that no run would."""


def may_sign(channel: Channel, event: Event) -> bool:
    """R3, R4, R12-R14, R16: when this event may make us sign anything at all."""
    both_spoke = channel.session is Session.LIVE or (
        isinstance(event, Got)
        and isinstance(event.message, messages.Reestablish)
        and channel.session is Session.GREETING
    )
    states = channel.phase is Phase.OPEN and both_spoke
    together = channel.phase in (Phase.OPENING, Phase.OPEN, Phase.FROZEN) and channel.session is Session.LIVE
    match event:
        case Propose() | events.SeenHead():
            return states
        case Got(message=messages.Commit() | messages.Ack() | messages.CoopNo() | messages.Reestablish()):
            return states
        case Got(message=messages.CoopPropose()):
            return states or (together and not channel.recovering and not channel.closing_alone)
        case Got(message=messages.CoopSign()):  # closing together stays possible while it closes (R16)
            return together or (channel.phase is Phase.CLOSING and channel.session is Session.LIVE)
        case _:
            return False


def honest_words(channel: Channel) -> list[Event]:
    """What a peer that is where `channel` is may rightly say: the words that are most likely to be signed for."""
    other = channel.we.other
    key = (OPENER_KEY, ACCEPTOR_KEY)[other]
    version = next_version(other, channel.base)
    updates = (messages.Transfer(name(77), Amount(1)),)
    current = channel.current
    try:
        digest = channel.digest(version, apply(channel, other, updates).hash(channel.blind(version)))
    except Forbidden:
        digest = HASH
    until = Timestamp(START + 60)
    words: list[messages.Message] = [
        messages.Commit(version=version, base=channel.base, updates=updates, signature=key.sign(digest)),
        messages.CoopPropose(
            version=current.version,
            hash=current.body_hash,
            coop_version=version,
            net=current.body.net,
            valid_until=until,
        ),
        messages.Reestablish(
            version=current.version,
            hash=current.body_hash,
            outstanding=Version(0),
            outstanding_hash=HASH,
            base=channel.base,
            coop_version=Version(0),
            coop_digest=HASH,
            coop_valid_until=Timestamp(0),
        ),
    ]
    if channel.outstanding is not None:
        out = channel.outstanding
        transfers = [(u.payment_id, u.amount) for u in out.updates if isinstance(u, messages.Transfer)]
        listed = receipt_digest(channel.domain, channel.id, out.version, transfers_hash(transfers))
        agreed = key.sign(channel.digest(out.version, out.body_hash))
        words.append(messages.Ack(version=out.version, signature=agreed, receipt=key.sign(listed)))
    if channel.ask is not None:
        coop = cooperate_digest(
            channel.domain, channel.id, channel.ask.version, channel.ask.net, ALL, ALL, channel.ask.valid_until
        )
        words.append(messages.CoopSign(coop_version=channel.ask.version, signature=key.sign(coop)))
    return [Got(message=word, now=START) for word in words]


def test_the_product_is_whole():
    assert {(STATES[which](Side.A).phase, session) for which, session in PRODUCT} == {
        (phase, session) for phase in Phase for session in Session
    }


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("which", "session"), PRODUCT)
def test_nothing_is_signed_where_nothing_may_be(which: str, session: Session, side: Side):
    channel = replace(STATES[which](side), session=session)
    key = RecordingKey((OPENER_KEY, ACCEPTOR_KEY)[side].secret)
    for event in [*EVENTS, *honest_words(channel)]:
        key.signed.clear()
        done = outcome(channel, event, key)
        signs = may_sign(channel, event)
        assert signs or not key.signed, f"signed on {event}"
        if not isinstance(done, Step):
            assert not key.signed, "signed, and then refused"
            assert isinstance(event, Got) is isinstance(done, PeerFault)
            continue
        after = done.channel
        assert after.phase in MOVES.get((channel.phase, type(event)), {channel.phase})
        assert load(save(after)) == saved_part(after)
        if channel.phase is not Phase.OPEN:
            assert after.outstanding in (None, channel.outstanding), "a frozen channel proposed"
            assert after.phase is not Phase.OPEN or channel.phase is Phase.OPENING
        if not key.signed:
            assert after.top[0] in (channel.top[0], 9), "top rose and nobody signed"


def test_where_something_may_be_signed_it_is():
    """The test above would pass for a machine that never signs."""
    signed: set[tuple[str, Phase]] = set()
    for which, side in ((which, side) for which in STATES for side in Side):
        channel = replace(STATES[which](side), session=Session.LIVE)
        key = RecordingKey((OPENER_KEY, ACCEPTOR_KEY)[side].secret)
        for event in [*EVENTS, *honest_words(channel)]:
            key.signed.clear()
            outcome(channel, event, key)
            kind = type(event.message).__name__ if isinstance(event, Got) else type(event).__name__
            if key.signed:
                signed.add((kind, channel.phase))
    assert signed >= {
        ("Commit", Phase.OPEN),
        ("Ack", Phase.OPEN),
        ("CoopPropose", Phase.OPENING),
        ("CoopPropose", Phase.OPEN),
        ("CoopSign", Phase.OPEN),
        ("SeenHead", Phase.OPEN),
    }
    assert {kind for kind, phase in signed if phase not in (Phase.OPENING, Phase.OPEN)} <= {"CoopPropose", "CoopSign"}


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
