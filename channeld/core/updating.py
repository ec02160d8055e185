"""The update protocol: one side proposes a whole batch with one signature, the other acknowledges (R1-R8).

A proposal is self-contained: its body is `current` plus exactly its own updates. When two cross, the one with the
higher version wins, which belongs to the side that has waited; the loser's updates go back to the front of its
queue. Whether a commit is acceptable depends on shared data only, never on a clock or a fee (R6).
"""

from __future__ import annotations

from types import MappingProxyType

from channeld.base.digests import Lock, receipt_digest, transfers_hash
from channeld.base.errors import Answer, Broken, ChanneldError, PeerFault
from channeld.base.keys import Key, recover, sha256
from channeld.base.quick import replace
from channeld.base.units import MAX_LOCK_ID, RECOVERY_FROM, Digest, LockId, LockKind, Side
from channeld.core.channel import (
    MAX_BATCH,
    Body,
    Channel,
    LockName,
    Phase,
    Proposal,
    Session,
    Signed,
    next_version,
)
from channeld.core.effects import Advanced, Arrived, Dropped, Held, Learned, Note, Received, Returned, Sent, Step
from channeld.core.messages import Ack, AddLock, Commit, FailLock, FulfilLock, Transfer, Update
from channeld.core.paying import with_queue


class Forbidden(ChanneldError):
    """An update that the state it starts from does not allow (R6, R7)."""


def apply(channel: Channel, proposer: Side, updates: tuple[Update, ...]) -> Body:
    """The body that `updates` of `proposer` make of `current`; Forbidden if one may not be (R6, R7)."""
    body, other = channel.current.body, proposer.other
    ours = proposer is channel.we
    left = body.balance(proposer, (channel.heard if ours else channel.told)[proposer])
    room = channel.max_locks - body.count(proposer)
    last = 0 if ours else channel.their_last_lock
    sign = 1 if proposer is Side.A else -1
    net, locks = body.net, dict(body.locks)
    for update in updates:
        match update:
            case Transfer():
                left, net = left - update.amount, net + sign * update.amount
                if update.amount <= 0:
                    raise Forbidden("a transfer of nothing")
            case AddLock(lock=lock):
                left, room = left - lock.amount, room - 1
                if lock.sender is not proposer or lock.kind is not LockKind.HASH or not last < lock.id <= MAX_LOCK_ID:
                    raise Forbidden(f"lock {lock.id} after {last} from side {lock.sender.name}")
                if room < 0:
                    raise Forbidden(f"more than {channel.max_locks} locks")
                last = lock.id
                locks[proposer, lock.id] = lock
            case FulfilLock() | FailLock():
                gone = _take(locks, (other, update.lock_id))
                if isinstance(update, FulfilLock):
                    if sha256(update.preimage) != gone.key:
                        raise Forbidden(f"a wrong preimage for lock {update.lock_id}")
                    left, net = left + gone.amount, net - sign * gone.amount
        if left < 0:
            raise Forbidden("more than the proposer has")
    return Body(net, MappingProxyType(locks))


def _take(locks: dict[LockName, Lock], name: LockName) -> Lock:
    lock = locks.pop(name, None)
    if lock is None:
        raise Forbidden(f"lock {name[1]} is not there to be taken")
    return lock


def propose(channel: Channel, key: Key) -> Step:
    """Sign what is queued, if R3 allows it now; otherwise nothing happens."""
    version = next_version(channel.we, channel.base)
    if not may_propose(channel) or version >= RECOVERY_FROM:
        return Step(channel)
    updates, dropped, body = _fitting(channel)
    channel = with_queue(channel, channel.queue[len(updates) + len(dropped) :])
    notes: tuple[Note, ...] = tuple(Dropped(update=update) for update in dropped)
    if not updates:
        return Step(channel, notes=notes)
    hash_ = body.hash(channel.blind(version))
    digest = channel.digest(version, hash_)
    signature = key.sign(digest)
    proposal = Proposal(
        version=version,
        base=channel.base,
        body=body,
        body_hash=hash_,
        updates=updates,
        signature=signature,
    )
    channel = replace(channel, outstanding=proposal, top=(version, digest))
    return Step(channel, (commit_of(proposal),), notes)


def may_propose(channel: Channel) -> bool:
    """R3, and R11: quiet while an offer to close together is unanswered."""
    return (
        channel.session is Session.LIVE
        and channel.signs
        and channel.outstanding is None
        and channel.ask is None
        and bool(channel.queue)
    )


def commit_of(proposal: Proposal) -> Commit:
    return Commit(
        version=proposal.version,
        base=proposal.base,
        updates=proposal.updates,
        signature=proposal.signature,
    )


def _fitting(channel: Channel) -> tuple[tuple[Update, ...], tuple[Update, ...], Body]:
    """The front of the queue, at most MAX_BATCH: what fits `current`, what does not any more, and what the first makes
    of it."""
    front = channel.queue[:MAX_BATCH]
    try:
        return front, (), apply(channel, channel.we, front)
    except Forbidden:
        pass
    kept: tuple[Update, ...] = ()
    dropped: tuple[Update, ...] = ()
    for update in front:
        try:
            apply(channel, channel.we, (*kept, update))
        except Forbidden:
            dropped += (update,)
        else:
            kept += (update,)
    return kept, dropped, apply(channel, channel.we, kept)


def got_commit(channel: Channel, commit: Commit, key: Key) -> Step:
    """R4: answer the peer's proposal."""
    if channel.session is not Session.LIVE:
        raise PeerFault(Answer.DISCONNECT, "a commit before reestablish")
    if channel.phase is not Phase.OPEN:
        return Step(channel, notes=_learn(channel, commit.updates))
    if channel.coop is not None:
        return Step(replace(channel, waiting=commit))
    if commit.version == channel.current.version:
        return _say_ack_again(channel, commit)
    if commit.version != next_version(channel.we.other, channel.base) or commit.base != channel.base:
        raise PeerFault(
            Answer.FREEZE,
            f"version {commit.version} on base {commit.base}, ours is {channel.base}",
        )
    if len(commit.updates) > MAX_BATCH or not commit.updates:
        raise PeerFault(Answer.FREEZE, f"a commit of {len(commit.updates)} updates")
    try:
        body = apply(channel, channel.we.other, commit.updates)
    except Forbidden as why:
        raise PeerFault(Answer.FREEZE, f"version {commit.version}: {why}") from why
    hash_ = body.hash(channel.blind(commit.version))
    digest = channel.digest(commit.version, hash_)
    if recover(digest, commit.signature) != channel.peer_key:
        raise PeerFault(Answer.FREEZE, f"the signature of version {commit.version} is not the peer's")
    late = [u.lock_id for u in commit.updates if isinstance(u, FulfilLock) and u.lock_id in channel.lost]
    if late:
        raise PeerFault(Answer.FREEZE, f"version {commit.version} takes lock {late[0]}, which has come back to us")
    if channel.outstanding is not None and channel.outstanding.version > commit.version:
        return Step(channel, notes=_learn(channel, commit.updates))  # theirs loses the crossing
    return _accept(channel, commit, body, hash_, digest, key)


def _accept(channel: Channel, commit: Commit, body: Body, hash_: Digest, digest: Digest, key: Key) -> Step:
    signature = key.sign(digest)
    transfers = [(u.payment_id, u.amount) for u in commit.updates if isinstance(u, Transfer)]
    receipt = b""
    if transfers:
        receipt = key.sign(receipt_digest(channel.domain, channel.id, commit.version, transfers_hash(transfers)))
    ack = Ack(version=commit.version, signature=signature, receipt=receipt)
    dropped = channel.outstanding.updates if channel.outstanding else ()
    added = [u.lock.id for u in commit.updates if isinstance(u, AddLock)]
    ours_first = (commit.signature, signature) if channel.we is Side.B else (signature, commit.signature)
    notes = _their_notes(channel, commit)
    channel = replace(
        channel,
        current=Signed(
            version=commit.version,
            body=body,
            body_hash=hash_,
            signature_a=ours_first[0],
            signature_b=ours_first[1],
        ),
        outstanding=None,
        base=commit.version,
        top=(commit.version, digest),
        last_ack=ack,
        their_last_lock=added[-1] if added else channel.their_last_lock,
    )
    if dropped:
        channel = with_queue(channel, dropped + channel.queue)
    after = propose(channel, key)
    return Step(after.channel, (ack, *after.sends), (*notes, *after.notes))


def _their_notes(channel: Channel, commit: Commit) -> tuple[Note, ...]:
    notes: list[Note] = []
    for update in commit.updates:
        match update:
            case Transfer():
                notes.append(Received(payment_id=update.payment_id, amount=update.amount, version=commit.version))
            case AddLock():
                notes.append(Arrived(lock=update.lock, onion=update.onion))
            case FulfilLock():
                notes.append(Learned(lock_id=update.lock_id, preimage=update.preimage))
            case FailLock():
                notes.append(Returned(lock_id=update.lock_id, reason=update.reason))
    notes.append(Advanced(version=commit.version))
    return tuple(notes)


def _learn(channel: Channel, updates: tuple[Update, ...]) -> tuple[Note, ...]:
    """R4 (iii): preimages are worth keeping even from a proposal that has no effect."""
    bodies = [channel.current.body] + ([channel.outstanding.body] if channel.outstanding else [])
    notes = []
    for update in updates:
        if isinstance(update, FulfilLock):
            lock = next((b.locks[name] for b in bodies if (name := (channel.we, update.lock_id)) in b.locks), None)
            if lock is not None and sha256(update.preimage) == lock.key:
                notes.append(Learned(lock_id=update.lock_id, preimage=update.preimage))
    return tuple(notes)


def _say_ack_again(channel: Channel, commit: Commit) -> Step:
    digest = channel.digest(channel.current.version, channel.current.body_hash)
    ack = channel.last_ack
    if ack is None or ack.version != commit.version or recover(digest, commit.signature) != channel.peer_key:
        raise PeerFault(Answer.FREEZE, f"another proposal of version {commit.version}")
    return Step(channel, (ack,))


def got_ack(channel: Channel, ack: Ack, key: Key) -> Step:
    """R5: what we proposed is agreed."""
    if channel.session is not Session.LIVE:
        raise PeerFault(Answer.DISCONNECT, "a commit_ack before reestablish")
    proposal = channel.outstanding
    if proposal is None or proposal.version != ack.version:
        if ack.version <= channel.current.version:
            return Step(channel)
        raise PeerFault(Answer.FREEZE, f"commit_ack of {ack.version}, which we did not propose")
    if recover(channel.digest(proposal.version, proposal.body_hash), ack.signature) != channel.peer_key:
        raise PeerFault(Answer.FREEZE, f"the signature in commit_ack {ack.version} is not the peer's")
    transfers = [(u.payment_id, u.amount) for u in proposal.updates if isinstance(u, Transfer)]
    if transfers:
        digest = receipt_digest(channel.domain, channel.id, ack.version, transfers_hash(transfers))
        if recover(digest, ack.receipt) != channel.peer_key:
            raise PeerFault(Answer.FREEZE, f"no receipt for the transfers of version {ack.version}")
    channel, notes = adopt(channel, ack.signature, ack.receipt)
    after = propose(channel, key)
    return Step(after.channel, after.sends, (*notes, *after.notes))


def adopt(channel: Channel, signature: bytes, receipt: bytes) -> tuple[Channel, tuple[Note, ...]]:
    """Our outstanding proposal has become `current`: by the peer's ack, or because the peer enforced it on chain.

    `signature` is the peer's, empty when the chain has shown only that there is one.
    """
    proposal = channel.outstanding
    if proposal is None:
        raise Broken(f"{channel.name}: nothing outstanding to adopt")
    both = (proposal.signature, signature) if channel.we is Side.A else (signature, proposal.signature)
    notes: list[Note] = []
    claims = dict(channel.claims)
    for update in proposal.updates:
        match update:
            case Transfer():
                notes.append(
                    Sent(
                        payment_id=update.payment_id,
                        amount=update.amount,
                        version=proposal.version,
                        receipt=receipt,
                    ),
                )
            case AddLock():
                notes.append(Held(lock_id=update.lock.id))
            case FulfilLock():
                if channel.phase is Phase.OPEN:  # else an older state may still win on chain
                    claims.pop(update.lock_id, None)
            case FailLock():
                pass
    notes.append(Advanced(version=proposal.version))
    state = Signed(
        version=proposal.version,
        body=proposal.body,
        body_hash=proposal.body_hash,
        signature_a=both[0],
        signature_b=both[1],
    )
    return (
        replace(channel, current=state, outstanding=None, base=proposal.version, claims=claims, outline=None),
        tuple(notes),
    )


def unsent_transfers(channel: Channel) -> tuple[Transfer, ...]:
    """Our transfers that are proposed or queued, and not agreed."""
    updates = (channel.outstanding.updates if channel.outstanding else ()) + channel.queue
    return tuple(update for update in updates if isinstance(update, Transfer))


def our_locks(channel: Channel) -> dict[LockId, Lock]:
    """Every lock we offered that some state or the queue still holds, by number."""
    locks = {id_: lock for (side, id_), lock in channel.newest_body.locks.items() if side is channel.we}
    for (side, id_), lock in channel.current.body.locks.items():
        if side is channel.we:
            locks[id_] = lock
    for update in channel.queue:
        if isinstance(update, AddLock):
            locks[update.lock.id] = update.lock
    return locks
