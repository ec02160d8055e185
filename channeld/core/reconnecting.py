"""What is said when an encrypted session stands again (R9, R10, R15): nothing else before both have spoken.

Messages lost in a cut are not kept anywhere: they follow from the channel. The acknowledgement and the outstanding
proposal go out again byte for byte, the acknowledgement first.
"""

from __future__ import annotations

from typing import Final

from channeld.base.digests import ALL, body_hash, cooperate_digest
from channeld.base.errors import Answer, PeerFault
from channeld.base.keys import Key
from channeld.base.keys import recover as recover_address
from channeld.base.quick import replace
from channeld.base.units import RECOVERY_FROM, Digest, Side, Timestamp, Version
from channeld.core.channel import ZERO, Channel, Coop, Outline, Phase, Session, Signed, next_version
from channeld.core.cooperating import LONGEST, SKEW, idle
from channeld.core.effects import Advanced, Forgotten, Note, Step
from channeld.core.events import Recover
from channeld.core.freezing import freeze
from channeld.core.messages import CoopSign, DepositSeen, Fault, Message, Proof, Reestablish
from channeld.core.updating import adopt, commit_of, our_locks, propose, unsent_transfers

_GREETED = (Phase.OPENING, Phase.OPEN, Phase.FROZEN)


def connected(channel: Channel) -> Step:
    if channel.phase not in _GREETED:
        return Step(replace(channel, session=Session.CUT))
    channel = replace(channel, session=Session.GREETING, ask=None, waiting=None)
    out, coop = channel.outstanding, channel.coop
    return Step(
        channel,
        (
            Reestablish(
                version=channel.current.version,
                hash=channel.current.body_hash,
                outstanding=out.version if out else Version(0),
                outstanding_hash=out.body_hash if out else ZERO,
                base=channel.base,
                coop_version=coop.version if coop else Version(0),
                coop_digest=coop.digest if coop else ZERO,
                coop_valid_until=coop.valid_until if coop else Timestamp(0),
            ),
        ),
    )


def disconnected(channel: Channel) -> Step:
    return Step(replace(channel, session=Session.CUT, ask=None, waiting=None))


def got_reestablish(channel: Channel, theirs: Reestablish, now: Timestamp, key: Key) -> Step:
    """R9, R10: compare where both stand, say again what the other has not heard."""
    if channel.session is not Session.GREETING:
        raise PeerFault(Answer.DISCONNECT, "reestablish in the middle of a session")
    ours, out = channel.current, channel.outstanding
    sends: list[Message] = []
    if theirs.version == ours.version:
        if theirs.hash != ours.body_hash:
            return freeze(channel, f"the peer holds another version {ours.version}", tell="state_differs")
        wrong = _coop_mismatch(channel, theirs, now)
        if not isinstance(wrong, str):
            channel = wrong
        elif channel.phase is not Phase.FROZEN or max(channel.base, theirs.base, theirs.coop_version) < RECOVERY_FROM:
            return freeze(channel, wrong, tell="base_differs")
        # else one of us is in recovery: no state is signed again, and a cooperate gets a version of its own
    elif theirs.version > ours.version:
        if out is None or (theirs.version, theirs.hash) != (out.version, out.body_hash):
            return Step(replace(channel, session=Session.PROVING))
    elif (
        channel.last_ack is not None
        and channel.last_ack.version == ours.version
        and (theirs.outstanding, theirs.outstanding_hash) == (ours.version, ours.body_hash)
    ):
        sends.append(channel.last_ack)
    else:
        sends.append(
            Proof(
                version=ours.version,
                body=ours.body,
                signature_a=ours.signature_a,
                signature_b=ours.signature_b,
            ),
        )
    channel = replace(channel, session=Session.LIVE)
    if channel.recovering:
        sends.append(_RECOVERING)
    if any(channel.told):
        sends.append(DepositSeen(deposit_a=channel.told[0], deposit_b=channel.told[1]))
    if channel.phase is Phase.OPEN and out is not None and out.version > theirs.version:
        sends.append(commit_of(out))
    coop = channel.coop
    if coop is not None and not coop.asked:
        sends.append(CoopSign(coop_version=coop.version, signature=coop.signature_ours))
    after = propose(channel, key)
    return Step(after.channel, (*sends, *after.sends), after.notes)


def _coop_mismatch(channel: Channel, theirs: Reestablish, now: Timestamp) -> Channel | str:
    """R15, for equal states: what the peer's cooperate and base mean for ours, or what is wrong with them."""
    coop, base = channel.coop, channel.base
    if theirs.coop_version:
        if coop is not None:
            same = (coop.version, coop.digest) == (theirs.coop_version, theirs.coop_digest)
            return channel if same else "the peer holds another cooperate"
        if theirs.coop_version == base and base > channel.current.version:
            return channel  # lapsed here already; it will lapse there
        free = idle(channel) and not channel.recovering
        asked = channel.leaving and free and theirs.coop_valid_until <= now + LONGEST + SKEW
        if not asked or theirs.coop_version != next_version(channel.we, base):
            return f"the peer holds a cooperate {theirs.coop_version} that we cannot have asked for"
        net = channel.current.body.net
        digest = cooperate_digest(
            channel.domain,
            channel.id,
            theirs.coop_version,
            net,
            ALL,
            ALL,
            theirs.coop_valid_until,
        )
        if digest != theirs.coop_digest:
            return "the peer holds a cooperate that is not on our state"
        live = Coop(
            version=theirs.coop_version,
            net=net,
            valid_until=theirs.coop_valid_until,
            digest=digest,
            asked=True,
            signature_ours=b"",
            signature_theirs=b"",
        )
        return replace(channel, coop=live, base=theirs.coop_version)
    if coop is not None:
        behind = theirs.base == base or (not coop.asked and next_version(channel.we.other, theirs.base) == base)
        return channel if behind else f"the peer's base is {theirs.base}, ours {base}"
    if theirs.base == base or next_version(channel.we.other, theirs.base) == base:
        return channel
    if next_version(channel.we, base) == theirs.base:
        return replace(channel, base=theirs.base)  # lapsed there before we ever heard of it
    return f"the peer's base is {theirs.base}, ours {base}"


def got_proof(channel: Channel, proof: Proof) -> Step:
    """R9: the peer shows a state newer than ours. If we did sign it, our store is old: recovery, for good."""
    if channel.session is not Session.PROVING or proof.version <= channel.current.version:
        return Step(channel)
    if not is_proven(channel, proof):
        raise PeerFault(Answer.DISCONNECT, f"no proof of version {proof.version}")
    if channel.outstanding is not None and channel.outstanding.version == proof.version:
        raise PeerFault(Answer.DISCONNECT, f"version {proof.version} is our own proposal: it wants an acknowledgement")
    found = replace(adopt_proof(channel, proof), session=Session.LIVE)
    frozen = freeze(found, f"the peer proved version {proof.version}, newer than our store: in recovery")
    return Step(frozen.channel, (_RECOVERING,), (*frozen.notes, *_forgotten(channel, found)))


def recover(channel: Channel, event: Recover) -> Step:
    """Somebody else than the peer knows that our store is old: sign nothing again, and adopt what is proven."""
    proof = event.proof
    frozen = freeze(replace(channel, recovering=True, ask=None, waiting=None), f"in recovery: {event.reason}")
    channel, notes, out = frozen.channel, frozen.notes, channel.outstanding
    if proof is not None and proof.version > channel.current.version and is_proven(channel, proof):
        if out is not None and (out.version, out.body) == (proof.version, proof.body):
            theirs = proof.signature_a if channel.we is Side.B else proof.signature_b
            channel, adopted = adopt(channel, theirs, b"")
            notes = (*notes, *adopted)
        else:
            before, channel = channel, adopt_proof(channel, proof)
            notes = (*notes, *_forgotten(before, channel))
    if event.outline is not None and event.outline.version > channel.best.version:
        before, channel = channel, adopt_outline(channel, event.outline)
        notes = (*notes, *_forgotten(before, channel))
    sends = (_RECOVERING,) if frozen.notes and channel.session is Session.LIVE else ()
    return Step(channel, sends, notes)


_RECOVERING: Final = Fault(code="recovering", text="our store is older than the channel; it can only be closed")


def is_proven(channel: Channel, proof: Proof) -> bool:
    """Whether both have signed this state, we among them."""
    return _both_signed(channel, proof, proof.body.hash(channel.blind(proof.version)))


def _both_signed(channel: Channel, state: Proof | Outline, hash_: Digest) -> bool:
    digest = channel.digest(state.version, hash_)
    mine, theirs = state.signature_a, state.signature_b
    if channel.we is Side.B:
        mine, theirs = theirs, mine
    return recover_address(digest, mine) == key_of(channel) and recover_address(digest, theirs) == channel.peer_key


def adopt_outline(channel: Channel, state: Outline) -> Channel:
    """What we close and challenge with from now on, if both have signed it; `current` stays what we can open."""
    hash_ = body_hash(state.net, state.locked_ab, state.locked_ba, state.locks_hash, channel.blind(state.version))
    if hash_ != state.body_hash or not _both_signed(channel, state, hash_):
        return channel
    return replace(_moved_to(channel, state.version, hash_), outline=state)


def adopt_proof(channel: Channel, proof: Proof) -> Channel:
    """The state that both signed becomes `current`, in recovery for good."""
    hash_ = proof.body.hash(channel.blind(proof.version))
    state = Signed(
        version=proof.version,
        body=proof.body,
        body_hash=hash_,
        signature_a=proof.signature_a,
        signature_b=proof.signature_b,
    )
    outline = channel.outline if channel.outline and channel.outline.version > proof.version else None
    moved = _moved_to(channel, proof.version, hash_)
    return replace(moved, current=state, outline=outline, recovering=True)


def _moved_to(channel: Channel, version: Version, hash_: Digest) -> Channel:
    """Nothing that was signed up to `version` counts any more, and no version up to it is free."""
    return replace(
        channel,
        outstanding=channel.outstanding if channel.outstanding_version > version else None,
        coop=channel.coop if channel.coop and channel.coop.version > version else None,  # else it had lapsed
        top=max(channel.top, (version, channel.digest(version, hash_))),
        base=Version(max(channel.base, version)),
    )


def _forgotten(before: Channel, channel: Channel) -> tuple[Note, ...]:
    """What an adopted state makes of ours: what is not in it any more was paid or came back, nobody can say which."""
    ours = our_locks(channel)
    locks = [id_ for id_ in our_locks(before) if id_ not in ours and id_ not in before.lost]
    still = unsent_transfers(channel)
    transfers = [one.payment_id for one in unsent_transfers(before) if one not in still]
    return (
        *(Forgotten(what=id_) for id_ in locks),
        *(Forgotten(what=name) for name in transfers),
        Advanced(version=channel.current.version),
    )


def key_of(channel: Channel) -> bytes:
    """The address whose signature on a state is ours."""
    return channel.terms.participant(channel.we)
