"""Closing together: one signed `cooperate` that pays everything out (R11-R15).

The offer is unsigned and made only with nothing outstanding and no locks; whoever signs it consumes its version,
and while it is live no state is signed. It lives until a finalized block shows that it was executed, or that its
time has passed without it; never by a local clock.

A channel in recovery does not know which versions it has signed. It signs only a cooperate that it offered itself,
under a version drawn at random from 2^39 up, where no forgotten signature stands; the peer, whose channel is frozen
because it was told, takes any version there.
"""

from __future__ import annotations

from typing import Final

from channeld.base.digests import ALL, cooperate_digest
from channeld.base.errors import PeerFault, Refused
from channeld.base.keys import Key, recover
from channeld.base.quick import replace
from channeld.base.units import MAX_VERSION, RECOVERY_FROM, Digest, Side, Timestamp, Version
from channeld.core.channel import Ask, Channel, Coop, Phase, Session, next_version
from channeld.core.effects import CoopDenied, CoopReady, Dropped, Ended, Forgotten, Note, Step
from channeld.core.events import Leave, SeenCooperated
from channeld.core.freezing import freeze
from channeld.core.messages import CoopNo, CoopPropose, CoopSign
from channeld.core.paying import with_queue
from channeld.core.updating import got_commit, our_locks, propose, unsent_transfers

LONGEST: Final = 3600
"""Seconds of chain time for which a cooperate may stay valid (R14)."""
SKEW: Final = 120
"""Seconds by which the peer's newest block may be ahead of ours."""


def leave(channel: Channel, event: Leave) -> Step:
    """Offer to close together now, or remember that we want to."""
    if channel.phase not in (Phase.OPENING, Phase.OPEN, Phase.FROZEN):
        raise Refused("channel_closing", f"channel {channel.name} is {channel.phase.value} already")
    if not 0 < event.valid_for <= LONGEST:
        raise Refused("bad_validity", f"a cooperate is valid for 1 to {LONGEST} s, not {event.valid_for}")
    channel = replace(channel, leaving=True)
    if not idle(channel) or channel.session is not Session.LIVE or channel.ask is not None:
        return Step(channel)
    version = _drawn(channel, event.draw) if channel.recovering else next_version(channel.we, channel.base)
    if version is None:
        return Step(channel)
    ask = Ask(
        version=version,
        state=channel.current.version,
        net=channel.current.body.net,
        valid_until=Timestamp(event.now + event.valid_for),
    )
    offer = CoopPropose(
        version=channel.current.version,
        hash=channel.current.body_hash,
        coop_version=ask.version,
        net=ask.net,
        valid_until=ask.valid_until,
    )
    return Step(replace(channel, ask=ask), (offer,))


def _drawn(channel: Channel, draw: int | None) -> Version | None:
    """Recovery: a version that nothing we have forgotten was signed with; above any that we know of."""
    least = max(RECOVERY_FROM, channel.top[0] + 1)
    if draw is None or least > MAX_VERSION:
        return None
    return Version(least + draw % (MAX_VERSION + 1 - least))


def idle(channel: Channel) -> bool:
    """R11, R12: nothing outstanding or queued, no locks, no live cooperate. In recovery a queue is never signed."""
    return (
        channel.outstanding is None
        and channel.outline is None  # a newer state, and one with locks
        and not channel.current.body.locks
        and channel.coop is None
        and (channel.recovering or not channel.queue)
    )


def got_propose(channel: Channel, offer: CoopPropose, now: Timestamp, key: Key) -> Step:
    """R12: sign, or say no. If both have offered, the opener yields."""
    recovery = offer.coop_version >= RECOVERY_FROM
    if channel.ask is not None and (channel.recovering or (channel.we is Side.B and not recovery)):
        return Step(channel)
    channel = replace(channel, ask=None)
    exact = offer.coop_version == next_version(channel.we.other, channel.base)
    free = recovery and channel.phase is Phase.FROZEN and offer.coop_version > channel.top[0]
    good = (
        channel.session is Session.LIVE
        and channel.phase in (Phase.OPENING, Phase.OPEN, Phase.FROZEN)
        and any(channel.told)  # else a stranger has a signature of ours for a few messages
        and not channel.closing_alone  # it would put off our close for as long as it is valid
        and not channel.recovering  # it signs what it has drawn a version for, and nothing else
        and idle(channel)
        and (offer.version, offer.hash) == (channel.current.version, channel.current.body_hash)
        and (free if recovery else exact)
        and offer.net == channel.current.body.net
        and now < offer.valid_until <= now + LONGEST + SKEW
    )
    if not good:
        after = propose(channel, key)
        return Step(after.channel, (CoopNo(coop_version=offer.coop_version), *after.sends), after.notes)
    digest = _digest(channel, offer.coop_version, offer.net, offer.valid_until)
    coop = Coop(
        version=offer.coop_version,
        net=offer.net,
        valid_until=offer.valid_until,
        digest=digest,
        asked=False,
        signature_ours=key.sign(digest),
        signature_theirs=b"",
    )
    channel = replace(channel, coop=coop, base=coop.version, top=(coop.version, digest))
    return Step(channel, (CoopSign(coop_version=coop.version, signature=coop.signature_ours),))


def got_no(channel: Channel, answer: CoopNo, key: Key) -> Step:
    if channel.ask is None or channel.ask.version != answer.coop_version:
        return Step(channel)
    after = propose(replace(channel, ask=None), key)
    return Step(after.channel, after.sends, (CoopDenied(), *after.notes))


def got_sign(channel: Channel, answer: CoopSign, key: Key) -> Step:
    """R13: both have signed; ours is made now, and the whole goes on chain. Anything else is ignored."""
    ask, coop = channel.ask, channel.coop
    if channel.session is not Session.LIVE:
        return Step(channel)  # R9: nothing counts before both have spoken
    if coop is not None and coop.asked and not coop.signature_theirs and coop.version == answer.coop_version:
        net, valid_until = coop.net, coop.valid_until  # said again after a cut (R15)
    elif coop is None and ask is not None and ask.version == answer.coop_version and _unchanged(channel, ask):
        net, valid_until = ask.net, ask.valid_until
    else:
        return Step(channel)
    digest = _digest(channel, answer.coop_version, net, valid_until)
    if recover(digest, answer.signature) != channel.peer_key:
        return Step(channel)
    live = Coop(
        version=answer.coop_version,
        net=net,
        valid_until=valid_until,
        digest=digest,
        asked=True,
        signature_ours=key.sign(digest),
        signature_theirs=answer.signature,
    )
    channel = replace(channel, ask=None, coop=live, base=live.version, top=(live.version, digest))
    return Step(channel, notes=(CoopReady(),))


def _unchanged(channel: Channel, ask: Ask) -> bool:
    return channel.current.version == ask.state and idle(channel)


def _digest(channel: Channel, version: Version, net: int, valid_until: Timestamp) -> Digest:
    return cooperate_digest(channel.domain, channel.id, version, net, ALL, ALL, valid_until)


def executed(channel: Channel, seen: SeenCooperated) -> Step:
    """Everything was paid out, in a finalized block. One that we have not signed shows that our store is old."""
    unsent: tuple[Note, ...] = tuple(Dropped(update=update) for update in channel.queue)
    lost = channel.lost
    if channel.recovering or seen.version > channel.top[0]:
        locks = [id_ for id_ in our_locks(channel) if id_ not in lost]
        unsent = (
            *(Forgotten(what=id_) for id_ in locks),
            *(Forgotten(what=one.payment_id) for one in unsent_transfers(channel)),
        )
        lost |= frozenset(locks)
        channel = replace(channel, recovering=True)
    ended = with_queue(replace(channel, phase=Phase.CLOSED, coop=None, waiting=None, lost=lost), ())
    return Step(ended, notes=(*unsent, Ended()))


def lapse(channel: Channel, final: Timestamp, key: Key) -> Step:
    """R14: a finalized block is past `valid_until` and none showed it executed. `base` stays."""
    if channel.coop is None or final <= channel.coop.valid_until:
        return Step(channel)
    waiting = channel.waiting
    channel = replace(channel, coop=None, waiting=None)
    if waiting is None or channel.phase is not Phase.OPEN:
        return propose(channel, key)
    try:
        return got_commit(channel, waiting, key)
    except PeerFault as fault:  # it was the peer's, though it is the chain that has spoken
        return freeze(channel, fault.text, tell="protocol_error")
