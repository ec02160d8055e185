"""`step`: the one door into the channel machine. MOVES is every move there is, and `step` holds itself to it.

An event that a phase has no entry for is out of turn: our own wish is refused, a peer's message is ignored or
answered, a fact of the chain has been seen before. The state diagram in README.md is drawn from MOVES
(`core.diagram`), so the picture cannot lie.
"""

from __future__ import annotations

from typing import Final, assert_never

from channeld.base.errors import Answer, Broken, PeerFault, Refused
from channeld.base.keys import Key
from channeld.core import closing, cooperating, opening, paying, reconnecting, updating
from channeld.core.channel import Channel, Phase, Session
from channeld.core.effects import Step
from channeld.core.events import (
    Cancel,
    CloseAlone,
    Connected,
    Disconnected,
    Event,
    Fail,
    Fulfil,
    Got,
    Leave,
    Offer,
    Pay,
    Propose,
    Recover,
    Seen,
    SeenChallenge,
    SeenClose,
    SeenCooperated,
    SeenDeposit,
    SeenFinal,
    SeenHead,
    SeenResolved,
    SeenSecret,
    SeenSettled,
    SeenUnclosed,
    Wish,
)
from channeld.core.freezing import freeze
from channeld.core.messages import (
    Ack,
    Commit,
    CoopNo,
    CoopPropose,
    CoopSign,
    DepositSeen,
    Fault,
    Message,
    Proof,
    Reestablish,
)

_OPENING, _OPEN, _FROZEN, _CLOSING, _SETTLED, _CLOSED = Phase
_STAY: Final = {phase: frozenset({phase}) for phase in Phase}


def _moves() -> dict[tuple[Phase, type[Event]], frozenset[Phase]]:
    moves: dict[tuple[Phase, type[Event]], frozenset[Phase]] = {}
    for phase in Phase:
        for kind in (Connected, Disconnected, SeenHead, SeenSecret, Propose, Fulfil, Fail):
            moves[phase, kind] = _STAY[phase]
    for phase in (_OPENING, _OPEN, _FROZEN, _CLOSING):
        moves[phase, Got] = _STAY[phase]
        moves[phase, SeenClose] = frozenset({_CLOSING})
        moves[phase, SeenCooperated] = frozenset({_CLOSED})
        moves[phase, SeenDeposit] = _STAY[phase]
    for phase in (_OPENING, _OPEN, _FROZEN):
        moves[phase, Leave] = _STAY[phase]
        moves[phase, CloseAlone] = frozenset({_FROZEN})
        moves[phase, Recover] = frozenset({_FROZEN})
    moves[_CLOSING, Recover] = _STAY[_CLOSING]
    for phase in (_OPENING, _OPEN, _FROZEN, _CLOSING, _SETTLED):
        moves[phase, Cancel] = _STAY[phase]
    moves[_OPENING, SeenDeposit] = frozenset({_OPENING, _OPEN})
    moves[_OPENING, Got] = frozenset({_OPENING, _OPEN, _FROZEN})
    moves[_OPEN, Got] = frozenset({_OPEN, _FROZEN})
    moves[_OPEN, SeenHead] = frozenset({_OPEN, _FROZEN})  # a lie that waited for a cooperate to lapse
    for phase in (_OPENING, _OPEN, _FROZEN):  # refused there with a code of their own
        moves[phase, Pay] = moves[phase, Offer] = _STAY[phase]
    moves[_CLOSING, SeenChallenge] = moves[_CLOSING, SeenFinal] = _STAY[_CLOSING]
    moves[_CLOSING, SeenSettled] = frozenset({_SETTLED, _CLOSED})
    moves[_CLOSING, SeenUnclosed] = frozenset({_FROZEN})
    moves[_SETTLED, SeenResolved] = frozenset({_SETTLED, _CLOSED})
    return moves


MOVES: Final = _moves()
"""(phase, kind of event) -> the phases it may end in."""


def step(channel: Channel, event: Event, key: Key) -> Step:
    """Decide what `event` makes of `channel`. `key` signs; it is our participant key of this channel.

    Raises:
        Refused: our own request does not fit the channel as it stands.
        PeerFault: the peer's message does not. With Answer.FREEZE the caller passes `freezing.freeze`'s step on.
        Broken: a law of ours fails; the caller keeps the channel it has, and stops.
    """
    ends = MOVES.get((channel.phase, type(event)))
    if ends is None:
        return _out_of_turn(channel, event)
    done = _decide(channel, event, key)
    if done.channel.phase not in ends:
        raise Broken(f"{channel.name}: {channel.phase.name} -> {done.channel.phase.name} on {type(event).__name__}")
    return done


def _out_of_turn(channel: Channel, event: Event) -> Step:
    if isinstance(event, Pay | Offer | Cancel | Leave | CloseAlone):
        raise Refused("channel_closing", f"channel {channel.name} is {channel.phase.value}")
    return Step(channel)  # a peer talking of what is over, or the chain telling it twice


def _decide(channel: Channel, event: Event, key: Key) -> Step:
    match event:
        case Got():
            return _got(channel, event, key)
        case Pay() | Offer() | Fulfil() | Fail() | Cancel() | Propose() | Leave() | CloseAlone() | Recover():
            return _wished(channel, event, key)
        case Connected():
            return reconnecting.connected(channel)
        case Disconnected():
            return reconnecting.disconnected(channel)
        case SeenHead():
            lapsed = cooperating.lapse(channel, event.final, key)
            seen = closing.seen_head(lapsed.channel, event)
            return Step(seen.channel, lapsed.sends, (*lapsed.notes, *seen.notes))
        case _:
            return _seen(channel, event)


def _wished(channel: Channel, event: Wish, key: Key) -> Step:
    match event:
        case Pay():
            return paying.pay(channel, event)
        case Offer():
            return paying.offer(channel, event)
        case Fulfil():
            return paying.fulfil(channel, event)
        case Fail():
            return paying.fail(channel, event)
        case Cancel():
            return paying.cancel(channel, event)
        case Propose():
            return updating.propose(channel, key)
        case Leave():
            return cooperating.leave(channel, event)
        case CloseAlone():
            return closing.close_alone(channel, event)
        case Recover():
            return reconnecting.recover(channel, event)
        case _:
            assert_never(event)


def _seen(channel: Channel, event: Seen) -> Step:
    match event:
        case SeenDeposit():
            return opening.seen_deposit(channel, event)
        case SeenClose():
            return closing.seen_close(channel, event)
        case SeenChallenge():
            return closing.seen_challenge(channel, event)
        case SeenFinal():
            return closing.seen_final(channel)
        case SeenSettled():
            return closing.seen_settled(channel, event)
        case SeenResolved():
            return closing.seen_resolved(channel, event)
        case SeenCooperated():
            return cooperating.executed(channel, event)
        case SeenUnclosed():
            return closing.seen_unclosed(channel)
        case SeenSecret():
            return closing.seen_secret(channel, event)
        case _:
            assert_never(event)


def _got(channel: Channel, event: Got, key: Key) -> Step:
    try:
        return _heard(channel, event.message, event, key)
    except PeerFault as fault:
        if fault.answer is not Answer.FREEZE:
            raise
        return freeze(channel, fault.text, tell="protocol_error")


def _heard(channel: Channel, message: Message, event: Got, key: Key) -> Step:
    if channel.phase is Phase.CLOSING and channel.session is not Session.LIVE:
        return Step(channel)  # a peer that has not seen the close yet
    match message:
        case Commit():
            return updating.got_commit(channel, message, key)
        case Ack():
            return updating.got_ack(channel, message, key)
        case DepositSeen():
            return opening.got_deposit_seen(channel, message)
        case Reestablish():
            return reconnecting.got_reestablish(channel, message, event.now, key)
        case Proof():
            return reconnecting.got_proof(channel, message)
        case CoopPropose():
            return cooperating.got_propose(channel, message, event.now, key)
        case CoopNo():
            return cooperating.got_no(channel, message, key)
        case CoopSign():
            return cooperating.got_sign(channel, message, key)
        case Fault():
            return freeze(channel, f"the peer says {message.code}: {message.text}")
        case _:
            assert_never(message)
