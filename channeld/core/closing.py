"""A channel on chain: what we see there, and what is due there (R16-R20).

Seeing changes the channel (`seen_…`); `due` reads off it which acts the chain needs from us now. Nothing is owed
in a list of its own: after a crash `due` says the same again, and the sender knows each act by its key. We close
with `current` only, never with a commit we ignored; in recovery with a newer state that a tower showed us, even if we
cannot open it (`Channel.best`). A secret registered by its lock's expiry wins that lock for
good, so once it is registered there is no hurry left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from channeld.base.digests import ALL, Lock, locks_hash, pack_locks
from channeld.base.quick import replace
from channeld.base.units import Address, Digest, LockKey, Preimage, Seconds, Timestamp, Version
from channeld.core.channel import EMPTY, ZERO, Body, Channel, OnChain, Outline, Phase
from channeld.core.effects import Dropped, Ended, Forgotten, Learned, Note, Returned, Step
from channeld.core.events import (
    CloseAlone,
    SeenChallenge,
    SeenClose,
    SeenHead,
    SeenResolved,
    SeenSecret,
    SeenSettled,
)
from channeld.core.freezing import freeze
from channeld.core.messages import AddLock
from channeld.core.paying import with_queue
from channeld.core.updating import adopt, our_locks, unsent_transfers
from channeld.core.watching import Case, Evidence, Verdict, judge

# -- acts: what may be asked of the chain. Each is safe to do twice; `key` names it for the sender.


@dataclass(frozen=True, slots=True, kw_only=True)
class CooperateAct:
    version: Version
    net: int
    out_a: int
    out_b: int
    valid_until: Timestamp
    signature_theirs: bytes
    signature_ours: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAct:
    """`signature` is the peer's, empty to close without a state; salts as the contract wants them."""

    version: Version
    body_hash: Digest
    signature: bytes
    salt_other: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeAct:
    version: Version
    body_hash: Digest
    signature_a: bytes
    signature_b: bytes
    before: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeAct:
    body_hash: Digest
    bond_to: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleAct:
    """Opens the body; blind is zero for a close without a state."""

    net: int
    locked_ab: int
    locked_ba: int
    locks_hash: Digest
    blind: bytes
    bond_to: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveAct:
    locks: bytes
    secrets: tuple[Preimage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterAct:
    secrets: tuple[Preimage, ...]
    before: Timestamp


Act = CooperateAct | CloseAct | ChallengeAct | FinalizeAct | SettleAct | ResolveAct | RegisterAct


# -- seeing


def close_alone(channel: Channel, event: CloseAlone) -> Step:
    if channel.phase in (Phase.CLOSING, Phase.SETTLED, Phase.CLOSED):
        return Step(channel)
    frozen = freeze(channel, event.reason, tell="closing")
    return Step(replace(frozen.channel, closing_alone=True), frozen.sends, frozen.notes)


def seen_close(channel: Channel, seen: SeenClose) -> Step:
    frozen = freeze(channel, f"side {seen.closer.name} closed at version {seen.version}")
    case = OnChain(
        closer=seen.closer,
        version=seen.version,
        body_hash=seen.body_hash,
        deadline=seen.deadline,
        body=_body_shown(channel, seen),
    )
    closing = replace(frozen.channel, phase=Phase.CLOSING, onchain=case, recovering=_old(channel, seen.version))
    return Step(closing, frozen.sends, frozen.notes)


def _old(channel: Channel, version: Version) -> bool:
    """Whether our store is older than the channel: the contract takes no state that we have not signed."""
    return channel.recovering or version > channel.top[0]


def seen_challenge(channel: Channel, seen: SeenChallenge) -> Step:
    if channel.onchain is None:
        return Step(channel)
    case = replace(
        channel.onchain,
        version=seen.version,
        body_hash=seen.body_hash,
        bond_to=seen.bond_to,
        body=_body_shown(channel, seen),
    )
    return Step(replace(channel, onchain=case, recovering=_old(channel, seen.version)))


def seen_final(channel: Channel) -> Step:
    if channel.onchain is None:
        return Step(channel)
    return Step(replace(channel, onchain=replace(channel.onchain, final=True)))


def final_body(channel: Channel) -> Body | None:
    """The body the contract has paid or will pay by; None if we cannot open it."""
    case = channel.onchain
    if case is None:
        return None
    return _body_of(channel, case.body_hash) if case.body is None else case.body


def _body_shown(channel: Channel, seen: SeenClose | SeenChallenge) -> Body | None:
    """Of a state on chain: one that we have, or the one handed in with it, if it is that one."""
    body = seen.body
    if body is not None and body.hash(channel.blind(seen.version)) == seen.body_hash:
        return body
    return _body_of(channel, seen.body_hash)


def _body_of(channel: Channel, hash_: Digest) -> Body | None:
    if hash_ == ZERO:
        return EMPTY
    for state in (channel.current, channel.outstanding):
        if state is not None and hash_ == state.body_hash:
            return state.body
    known = channel.onchain.body if channel.onchain is not None and channel.onchain.body_hash == hash_ else None
    return known


def seen_settled(channel: Channel, seen: SeenSettled) -> Step:
    """The outcome is in a finalized block: whatever of ours is not in it has come back (R8)."""
    if channel.onchain is None or channel.phase is not Phase.CLOSING:
        return Step(channel)
    body = final_body(channel)
    notes: list[Note] = []
    case, out = channel.onchain, channel.outstanding
    if body is None:  # one we cannot open stood unchallenged: what it holds is not known, so no lock has come back
        settled = replace(channel, phase=Phase.SETTLED, onchain=replace(case, final=True, settled=True))
        return _end_if_empty(settled, [*unsent(channel)]) if seen.empty else Step(settled, notes=unsent(channel))
    if out is not None and (case.version, case.body_hash) == (out.version, out.body_hash):
        channel, adopted = adopt(channel, b"", b"")  # the peer signed it too, and enforced it
        notes += adopted
    back = [id_ for id_ in our_locks(channel) if (channel.we, id_) not in body.locks and id_ not in channel.lost]
    notes += [Forgotten(what=id_) if channel.recovering else Returned(lock_id=id_, reason=b"") for id_ in back]
    notes += unsent(channel)
    left = tuple(sorted(body.locks))
    case = replace(case, final=True, settled=True, left=left, body=body)
    channel = with_queue(replace(channel, phase=Phase.SETTLED, onchain=case, outstanding=None), ())
    channel = replace(channel, lost=channel.lost | frozenset(back))
    return _end_if_empty(channel, notes)


def unsent(channel: Channel) -> tuple[Note, ...]:
    """Our transfers that the outcome on chain leaves out. In recovery an earlier state may have paid them."""
    left = unsent_transfers(channel)
    return tuple(Forgotten(what=one.payment_id) if channel.recovering else Dropped(update=one) for one in left)


def seen_resolved(channel: Channel, seen: SeenResolved) -> Step:
    if channel.onchain is None or channel.phase is not Phase.SETTLED or seen.left is None:
        return Step(channel)
    return _end_if_empty(replace(channel, onchain=replace(channel.onchain, left=seen.left)), [])


def _end_if_empty(channel: Channel, notes: list[Note]) -> Step:
    if channel.onchain is not None and not channel.onchain.left:
        return Step(replace(channel, phase=Phase.CLOSED), notes=(*notes, Ended()))
    return Step(channel, notes=tuple(notes))


def seen_unclosed(channel: Channel) -> Step:
    """A reorg took the close away; the channel stays frozen (R16), and closing it again is ours to do."""
    if channel.phase is not Phase.CLOSING:
        return Step(channel)
    return Step(replace(channel, phase=Phase.FROZEN, onchain=None))


def seen_head(channel: Channel, seen: SeenHead) -> Step:
    """R20: a lock is ours again once a finalized block is past its expiry with nothing registered.

    From then on the peer may not take it any more (`Channel.lost`), and one that is still queued is never offered.
    In recovery the peer may have taken it off chain, in a state that we have forgotten: only what the final state
    holds can come back.
    """
    if channel.recovering and channel.phase not in (Phase.SETTLED, Phase.CLOSED):
        return Step(channel)
    ours = our_locks(channel)
    back = [
        id_
        for id_, lock in ours.items()
        if seen.final > lock.expiry and lock.key in seen.unregistered and id_ not in channel.lost
    ]
    if not back:
        return Step(channel)
    queue = tuple(u for u in channel.queue if not (isinstance(u, AddLock) and u.lock.id in back))
    body = final_body(channel)
    unsure = {id_ for id_ in back if channel.recovering and (body is None or (channel.we, id_) not in body.locks)}
    notes = tuple(Forgotten(what=id_) if id_ in unsure else Returned(lock_id=id_, reason=b"") for id_ in back)
    channel = replace(with_queue(channel, queue), lost=channel.lost.intersection(ours) | frozenset(back))
    return Step(channel, notes=notes)


def seen_secret(channel: Channel, seen: SeenSecret) -> Step:
    notes = [
        Learned(lock_id=id_, preimage=seen.preimage) for id_, lock in our_locks(channel).items() if lock.key == seen.key
    ]
    return Step(channel, notes=tuple(notes))


# -- doing


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """What a chain needs: `inclusion` (Δ) and `skew` in seconds, `period` as the contract clamps it."""

    inclusion: Seconds
    skew: Seconds
    period: Seconds


def due(
    channel: Channel,
    *,
    now: Timestamp,
    registered: Mapping[LockKey, Timestamp],
    margins: Margins,
) -> tuple[Act, ...]:
    """Which acts the chain needs from us at `now`, the newest block's time; asked again at each block.

    `registered`: registration times of those of the channel's lock keys that the registry holds.
    """
    if channel.phase is Phase.CLOSED:
        return ()
    acts: list[Act] = []
    coop = channel.coop
    if coop is not None and coop.signature_theirs and now <= coop.valid_until:
        acts.append(
            CooperateAct(
                version=coop.version,
                net=coop.net,
                out_a=ALL,
                out_b=ALL,
                valid_until=coop.valid_until,
                signature_theirs=coop.signature_theirs,
                signature_ours=coop.signature_ours,
            ),
        )
    acts += _register(channel, now, registered, margins)
    stuck = channel.phase is Phase.FROZEN and (bool(channel.current.body.locks) or channel.outline is not None)
    live = coop is not None and bool(coop.signature_ours)  # one we never signed cannot be executed
    if channel.onchain is None and channel.phase is Phase.FROZEN and (channel.closing_alone or stuck) and not live:
        acts.append(_close(channel))
    elif channel.phase is Phase.CLOSING:
        acts += _defend(channel, now, margins)
    elif channel.phase is Phase.SETTLED:
        acts += _resolve(channel, now, registered)
    return tuple(acts)


def _close(channel: Channel) -> CloseAct:
    state = channel.best
    return CloseAct(
        version=state.version,
        body_hash=state.body_hash,
        signature=state.signature(channel.we.other),
        salt_other=channel.salt_theirs,
    )


def _register(
    channel: Channel,
    now: Timestamp,
    registered: Mapping[LockKey, Timestamp],
    margins: Margins,
) -> list[Act]:
    """R17: past the cut-off, or once the channel is on its way to the chain, the secret is registered first."""
    leaving = channel.phase is not Phase.OPEN
    wanted = [
        lock
        for lock in incoming_claimed(channel)
        if lock.key not in registered
        and now <= lock.expiry
        and (leaving or now + margins.inclusion + margins.skew >= lock.expiry)
    ]
    if not wanted:
        return []
    secrets = tuple(channel.claims[lock.id] for lock in wanted)
    return [RegisterAct(secrets=secrets, before=min(lock.expiry for lock in wanted))]


def incoming_claimed(channel: Channel) -> list[Lock]:
    """Locks the peer offered that still stand and whose preimage we know, by number."""
    chosen = final_body(channel)
    locks = {**(chosen.locks if chosen is not None else {}), **channel.current.body.locks}
    return [locks[name] for id_ in sorted(channel.claims) if (name := (channel.we.other, id_)) in locks]


def _defend(channel: Channel, now: Timestamp, margins: Margins) -> list[Act]:
    case = channel.onchain
    if case is None or case.settled:
        return []
    state, body = channel.best, final_body(channel)
    verdict = judge(
        Case(version=case.version, deadline=case.deadline, delegated=any(case.bond_to), final=case.final),
        Evidence(version=state.version),
        now=now,
        period=margins.period,
    )
    if verdict is Verdict.CHALLENGE:
        return [
            ChallengeAct(
                version=state.version,
                body_hash=state.body_hash,
                signature_a=state.signature_a,
                signature_b=state.signature_b,
                before=case.deadline,
            ),
        ]
    stagger = 0 if case.closer is channel.we else margins.period // 10
    if verdict is Verdict.WAIT or now <= case.deadline + stagger:
        return []
    if body is not None:
        return [_settle(channel, case, body)]
    if channel.outline is not None and channel.outline.body_hash == case.body_hash:
        return [_settle_by_outline(channel, case, channel.outline)]
    return [] if case.final else [FinalizeAct(body_hash=case.body_hash, bond_to=case.bond_to)]


def _settle(channel: Channel, case: OnChain, body: Body) -> SettleAct:
    no_state = case.body_hash == ZERO
    return SettleAct(
        net=body.net,
        locked_ab=body.locked_ab,
        locked_ba=body.locked_ba,
        locks_hash=ZERO if no_state else locks_hash(body.locks.values()),
        blind=bytes(32) if no_state else channel.blind(case.version),
        bond_to=case.bond_to,
    )


def _settle_by_outline(channel: Channel, case: OnChain, state: Outline) -> SettleAct:
    """The balances are paid out; the locks stay in the contract until somebody who knows them resolves them."""
    return SettleAct(
        net=state.net,
        locked_ab=state.locked_ab,
        locked_ba=state.locked_ba,
        locks_hash=state.locks_hash,
        blind=channel.blind(state.version),
        bond_to=case.bond_to,
    )


def _resolve(channel: Channel, now: Timestamp, registered: Mapping[LockKey, Timestamp]) -> list[Act]:
    """Once every lock that is left is decided (registered, or expired), one call resolves them all."""
    case = channel.onchain
    if case is None or not case.left:
        return []
    body = final_body(channel)
    if body is None or not all(name in body.locks for name in case.left):
        return []  # a state we cannot open: whoever can resolves its locks
    locks = [body.locks[name] for name in case.left]
    if not all(lock.key in registered or now > lock.expiry for lock in locks):
        return []
    return [ResolveAct(locks=pack_locks(locks), secrets=())]
