"""Deposits, and the moment a channel can pay (R6; contracts/README.md).

Opening needs no signature: a deposit alone is safe, since a close without a state returns it. A channel is open
once we have told the peer a deposit that we saw at our own finality and the peer has told us one. What is told
never goes down.
"""

from __future__ import annotations

from channeld.base.errors import Answer, PeerFault
from channeld.base.quick import replace
from channeld.base.units import Amount
from channeld.core.channel import Channel, Phase, Session
from channeld.core.effects import Opened, Step
from channeld.core.events import SeenDeposit
from channeld.core.messages import DepositSeen, Message


def seen_deposit(channel: Channel, seen: SeenDeposit) -> Step:
    """The contract's holdings at our finality: say so, if they have grown."""
    told = (
        Amount(max(channel.told[0], seen.deposit_a)),
        Amount(max(channel.told[1], seen.deposit_b)),
    )
    if told == channel.told:
        return Step(channel)
    channel = replace(channel, told=told)
    sends: tuple[Message, ...] = ()
    if channel.session is Session.LIVE:
        sends = (DepositSeen(deposit_a=told[0], deposit_b=told[1]),)
    return _open(channel, sends)


def got_deposit_seen(channel: Channel, said: DepositSeen) -> Step:
    """What the peer counts as final. It may only grow; what it says of our side bounds what we propose (R6)."""
    if channel.session is not Session.LIVE:
        raise PeerFault(Answer.DISCONNECT, "deposit_seen before reestablish")
    if said.deposit_a < channel.heard[0] or said.deposit_b < channel.heard[1]:
        raise PeerFault(Answer.WARN, "deposit_seen goes down")
    return _open(replace(channel, heard=(said.deposit_a, said.deposit_b)), ())


def _open(channel: Channel, sends: tuple[Message, ...]) -> Step:
    if channel.phase is Phase.OPENING and any(channel.told) and any(channel.heard):
        return Step(replace(channel, phase=Phase.OPEN), sends, (Opened(),))
    return Step(channel, sends)
