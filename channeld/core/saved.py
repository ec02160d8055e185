"""A channel as bytes for the store, and back. The session, an unanswered ask and a waiting commit are not saved.

The first element is the form's number. A form that was released is read for ever; names of phases never change
their meaning. Anything else than what `save` wrote is `Malformed`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from channeld.base.digests import Domain, Lock, Terms
from channeld.base.errors import Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import LockKind, Side
from channeld.core.channel import Body, Channel, Coop, OnChain, Outline, Phase, Proposal, Signed
from channeld.core.messages import Ack, AddLock, FailLock, FulfilLock, Transfer, Update
from channeld.core.paying import with_queue

FORM: Final = 2
"""1 has no `outline`; a channel is saved in the oldest form that can hold it."""
MAX_BYTES: Final = 64 * 1024 * 1024


def save(channel: Channel) -> bytes:
    c, t = channel, channel.terms
    return pack(
        [
            1 if c.outline is None else FORM,
            c.id,
            [c.domain.chain_id, c.domain.manager],
            c.token,
            [
                t.participant_a,
                t.participant_b,
                t.payout_a,
                t.payout_b,
                t.challenge_period,
                t.salt_commitment,
                _big(t.close_bond),
                t.nonce,
            ],
            int(c.we),
            c.peer,
            [c.salt_ours, c.salt_theirs],
            c.max_locks,
            c.public,
            c.phase.name,
            [_big(amount) for amount in (*c.told, *c.heard)],
            _signed(c.current),
            _proposal(c.outstanding),
            list(c.top),
            c.base,
            _coop(c.coop),
            [c.last_ack.version, c.last_ack.signature, c.last_ack.receipt] if c.last_ack else None,
            [_update(update) for update in c.queue],
            [c.next_lock, c.their_last_lock],
            [[id_, preimage] for id_, preimage in sorted(c.claims.items())],
            sorted(c.lost),
            c.reason,
            [c.leaving, c.closing_alone, c.recovering],
            _onchain(c.onchain),
            *(() if c.outline is None else (_outline(c.outline),)),
        ],
    )


def load(data: bytes) -> Channel:
    """Malformed: not what `save` wrote. Broken: it is a channel that breaks a law."""
    try:
        return _load(unpack(data, max_bytes=MAX_BYTES, max_items=65_536, max_total=MAX_BYTES))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as fault:
        raise Malformed(f"not a saved channel: {fault}") from fault


def _load(fields: Any) -> Channel:
    (
        form,
        id_,
        domain,
        token,
        terms,
        we,
        peer,
        salts,
        max_locks,
        public,
        phase,
        deposits,
        current,
        outstanding,
        top,
        base,
        coop,
        ack,
        queue,
        numbers,
        claims,
        lost,
        reason,
        flags,
        onchain,
        *more,
    ) = fields
    if (form, len(more)) not in ((1, 0), (FORM, 1)):
        raise Malformed(f"a channel saved in form {form}, this program reads 1 to {FORM}")
    told_a, told_b, heard_a, heard_b = (_small(amount) for amount in deposits)
    channel = Channel(
        id=id_,
        domain=Domain(chain_id=domain[0], manager=domain[1]),
        token=token,
        terms=Terms(
            participant_a=terms[0],
            participant_b=terms[1],
            payout_a=terms[2],
            payout_b=terms[3],
            challenge_period=terms[4],
            salt_commitment=terms[5],
            close_bond=_small(terms[6]),
            nonce=terms[7],
        ),
        we=Side(we),
        peer=peer,
        salt_ours=salts[0],
        salt_theirs=salts[1],
        max_locks=max_locks,
        public=public,
        phase=Phase[phase],
        told=(told_a, told_b),
        heard=(heard_a, heard_b),
        current=_load_signed(current),
        outstanding=None if outstanding is None else _load_proposal(outstanding),
        top=(top[0], top[1]),
        base=base,
        coop=None if coop is None else _load_coop(coop),
        last_ack=None if ack is None else Ack(version=ack[0], signature=ack[1], receipt=ack[2]),
        next_lock=numbers[0],
        their_last_lock=numbers[1],
        claims=dict(claims),
        lost=frozenset(lost),
        reason=reason,
        leaving=flags[0],
        closing_alone=flags[1],
        recovering=flags[2],
        onchain=None if onchain is None else _load_onchain(onchain),
        outline=_load_outline(more[0]) if more else None,
    )
    return with_queue(channel, tuple(_load_update(update) for update in queue)) if queue else channel


def save_body(body: Body) -> list[Any]:
    """A body as nested lists; also used for what a node seals for itself."""
    return [_int(body.net), [_lock(body.locks[name]) for name in sorted(body.locks)]]


def load_body(fields: Any) -> Body:
    net, locks = fields
    loaded = [_load_lock(lock) for lock in locks]
    return Body(_load_int(net), MappingProxyType({(lock.sender, lock.id): lock for lock in loaded}))


def _big(amount: int) -> bytes:
    return amount.to_bytes(16, "big")


def _small(data: bytes) -> Any:
    return int.from_bytes(data, "big")


def _int(value: int) -> bytes:
    return value.to_bytes(17, "big", signed=True)


def _load_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _lock(lock: Lock) -> list[Any]:
    return [lock.id, int(lock.sender), int(lock.kind), _big(lock.amount), lock.key, lock.expiry]


def _load_lock(fields: Any) -> Lock:
    id_, sender, kind, amount, key, expiry = fields
    return Lock(id=id_, sender=Side(sender), kind=LockKind(kind), amount=_small(amount), key=key, expiry=expiry)


def _update(update: Update) -> list[Any]:
    match update:
        case Transfer():
            return [0, update.payment_id, _big(update.amount)]
        case AddLock():
            return [1, _lock(update.lock), update.onion]
        case FulfilLock():
            return [2, update.lock_id, update.preimage]
        case FailLock():
            return [3, update.lock_id, update.reason]


def _load_update(fields: Any) -> Update:
    match fields:
        case [0, name, amount]:
            return Transfer(name, _small(amount))
        case [1, lock, onion]:
            return AddLock(_load_lock(lock), onion)
        case [2, id_, preimage]:
            return FulfilLock(id_, preimage)
        case [3, id_, reason]:
            return FailLock(id_, reason)
        case _:
            raise Malformed(f"a saved update of kind {fields!r:.20}")


def _signed(state: Signed) -> list[Any]:
    return [state.version, save_body(state.body), state.body_hash, state.signature_a, state.signature_b]


def _load_signed(fields: Any) -> Signed:
    version, body, hash_, a, b = fields
    return Signed(version=version, body=load_body(body), body_hash=hash_, signature_a=a, signature_b=b)


def _proposal(out: Proposal | None) -> list[Any] | None:
    if out is None:
        return None
    updates = [_update(update) for update in out.updates]
    return [out.version, out.base, save_body(out.body), out.body_hash, updates, out.signature]


def _load_proposal(fields: Any) -> Proposal:
    version, base, body, hash_, updates, signature = fields
    return Proposal(
        version=version,
        base=base,
        body=load_body(body),
        body_hash=hash_,
        updates=tuple(_load_update(update) for update in updates),
        signature=signature,
    )


def _coop(coop: Coop | None) -> list[Any] | None:
    if coop is None:
        return None
    return [
        coop.version,
        _int(coop.net),
        coop.valid_until,
        coop.digest,
        coop.asked,
        coop.signature_ours,
        coop.signature_theirs,
    ]


def _load_coop(fields: Any) -> Coop:
    version, net, until, digest, asked, ours, theirs = fields
    return Coop(
        version=version,
        net=_load_int(net),
        valid_until=until,
        digest=digest,
        asked=asked,
        signature_ours=ours,
        signature_theirs=theirs,
    )


def _onchain(case: OnChain | None) -> list[Any] | None:
    if case is None:
        return None
    return [
        int(case.closer),
        case.version,
        case.body_hash,
        case.deadline,
        case.bond_to,
        case.final,
        case.settled,
        [[int(side), id_] for side, id_ in case.left],
        None if case.body is None else save_body(case.body),
    ]


def _load_onchain(fields: Any) -> OnChain:
    closer, version, hash_, deadline, bond_to, final, settled, left, body = fields
    return OnChain(
        closer=Side(closer),
        version=version,
        body_hash=hash_,
        deadline=deadline,
        bond_to=bond_to,
        final=final,
        settled=settled,
        left=tuple((Side(side), id_) for side, id_ in left),
        body=None if body is None else load_body(body),
    )


def _outline(state: Outline) -> list[Any]:
    return [
        state.version,
        state.body_hash,
        state.signature_a,
        state.signature_b,
        _int(state.net),
        _big(state.locked_ab),
        _big(state.locked_ba),
        state.locks_hash,
    ]


def _load_outline(fields: Any) -> Outline:
    version, hash_, a, b, net, locked_ab, locked_ba, locks = fields
    return Outline(
        version=version,
        body_hash=hash_,
        signature_a=a,
        signature_b=b,
        net=_load_int(net),
        locked_ab=_small(locked_ab),
        locked_ba=_small(locked_ba),
        locks_hash=locks,
    )
