"""Clients at the tower's door: one encrypted connection, one client key, one appointment.

The static key a client proves in the Noise handshake is its `auth`: fresh for each (channel, tower), so two
connections have nothing in common but an address. Everything is keyed by it, nothing can be asked about a hint, and
an upload counts only with that key's signature over tower, chain, contract, hint, sequence and blob. The receipt
leaves after the row is on disk. Rows are never limited per hint: such a limit would be the way to hide one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from channeld.base.digests import Domain
from channeld.base.keys import Key
from channeld.base.units import Address, BlockNumber, Digest, NodeId, Seconds, Signature, Timestamp, short
from channeld.peers.talk import PeerStream
from channeld.tower.policy import Allowance, Policy
from channeld.tower.store import MAX_SEQ, Behind, Full, Kept, Row, TowerStore
from channeld.wire import appointment
from channeld.wire.messages import (
    Appointment,
    AppointmentReceipt,
    DeleteAppointment,
    Error,
    GetAppointment,
    Init,
    Message,
    Ping,
    Pong,
    PutAppointment,
    TowerError,
    TowerInfo,
    TowerInfoRequest,
    Warning,
    encode,
)

log = logging.getLogger(__name__)

STRIKES: Final = 20
"""Refusals for haste after which the connection is closed."""
SLOW_DOWN: Final = TowerError(code="slow_down", text="too many requests on this connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How far the tower has looked: the newest block it has acted on."""

    number: BlockNumber
    time: Timestamp


class Gate:
    """Takes appointments and answers for them with the tower's signature."""

    def __init__(
        self,
        store: TowerStore,
        *,
        key: Key,
        domain: Domain,
        payout: Address,
        min_period: Seconds,
        policy: Policy,
        max_lag: int,
        watch: Callable[[], Watch | None],
        clock: Callable[[], float],
    ) -> None:
        """
        Args:
            key: the tower's node key: clients know it as the tower's id, and it signs receipts.
            payout: where delegations must send the bond.
            min_period: the contract's shortest challenge period.
            watch: the newest block acted on, None while there is none to rely on.
            max_lag: seconds by which that block may be behind the clock: a tower that is blind says so.
            clock: seconds since 1970.
        """
        self._store = store
        self._key = key
        self._domain = domain
        self._payout = payout
        self._min_period = min_period
        self._policy = policy
        self._max_lag = max_lag
        self._watch = watch
        self._clock = clock
        self.refused = 0
        self.kept = 0

    async def serve(self, client: PeerStream) -> None:
        """Answer `client` until it goes, is silent for too long, or will not be told to slow down."""
        allowance = Allowance(self._policy, trio.current_time())
        strikes = 0
        while strikes < STRIKES:
            with trio.move_on_after(self._policy.idle) as silence:
                messages = await client.receive()
            if silence.cancelled_caught:
                return
            answers = []
            for message in messages:
                if strikes >= STRIKES:
                    break
                if isinstance(message, Init | Error | Warning | Pong):
                    continue
                if allowance.take(trio.current_time()):
                    answers.append(encode(await self.answer(message, client.remote)))
                else:
                    strikes += 1
                    answers.append(encode(SLOW_DOWN))
            with trio.move_on_after(self._policy.idle) as deaf:
                await client.send(answers)
            if deaf.cancelled_caught:
                return

    async def answer(self, message: Message, auth: NodeId) -> Message:
        """What the tower says to `message` of the client `auth`."""
        match message:
            case PutAppointment():
                answer = await self._put(message, auth)
            case TowerInfoRequest():
                answer = self._info()
            case GetAppointment():
                answer = await self._get(auth)
            case DeleteAppointment():
                answer = await self._delete(message, auth)
            case Ping():
                answer = Pong(pad=message.pad)
            case _:
                answer = TowerError(code="unexpected", text=f"a tower has no answer to {type(message).__name__}")
        if isinstance(answer, TowerError):
            self.refused += 1
        return answer

    def _info(self) -> TowerInfo:
        return TowerInfo(
            payout=self._payout,
            chain_id=self._domain.chain_id,
            manager=self._domain.manager,
            min_period=self._min_period,
            max_validity=self._policy.validity,
        )

    def _seeing(self) -> Watch | None:
        """The newest block acted on, if it is recent enough to promise anything."""
        watch = self._watch()
        if watch is None or self._clock() - watch.time > self._max_lag:
            return None
        return watch

    async def _put(self, put: PutAppointment, auth: NodeId) -> Message:
        if (put.chain_id, put.manager) != (self._domain.chain_id, self._domain.manager):
            return TowerError(code="foreign_domain", text=f"this tower watches chain {self._domain.chain_id}")
        if put.seq > MAX_SEQ:
            return TowerError(code="bad_seq", text=f"a sequence goes up to {MAX_SEQ}")
        blob_hash = appointment.blob_hash(put.blob)
        if not self._signed_by(auth, put.hint, put.seq, blob_hash, put.signature):
            return TowerError(code="bad_signature", text="the update is not signed by this connection's key")
        return await self._keep(auth, put.hint, put.seq, put.blob, blob_hash, put.signature)

    async def _delete(self, delete: DeleteAppointment, auth: NodeId) -> Message:
        held = await self._store.by_auth(auth)
        if held is None:
            return TowerError(code="unknown", text="there is no appointment of this key")
        if delete.seq > MAX_SEQ:
            return TowerError(code="bad_seq", text=f"a sequence goes up to {MAX_SEQ}")
        if not self._signed_by(auth, held.hint, delete.seq, appointment.NO_BLOB, delete.signature):
            return TowerError(code="bad_signature", text="the delete is not signed by this connection's key")
        return await self._keep(auth, held.hint, delete.seq, b"", appointment.NO_BLOB, delete.signature)

    async def _keep(
        self, auth: NodeId, hint: Digest, seq: int, blob: bytes, blob_hash: Digest, signature: Signature
    ) -> Message:
        watch = self._seeing()
        if watch is None:
            return TowerError(code="not_watching", text="the tower does not see the chain just now; try again")
        valid_until = self._policy.valid_until(watch.time)
        receipt = self._key.sign(
            appointment.receipt_digest(self._domain, auth, hint, seq, blob_hash, watch.number, watch.time, valid_until)
        )
        row = Row(
            auth=auth,
            hint=hint,
            seq=seq,
            blob=blob,
            blob_hash=blob_hash,
            signature=signature,
            head_number=watch.number,
            head_time=watch.time,
            valid_until=valid_until,
            receipt=receipt,
        )
        kept = await self._store.put(row, room=self._policy.room)
        match kept:
            case Full():
                return TowerError(code="full", text="this tower takes no more channels")
            case Behind():
                return _behind(kept.row, row)
            case Kept():
                pass
        if kept.revealed:  # best effort: kept, and used if it helps, but nothing is promised
            text = "a close has revealed this channel's salt: the update is kept, without cover"
            return TowerError(code="revealed", text=text, seq=kept.row.seq, blob_hash=kept.row.blob_hash)
        self.kept += 1
        log.debug("appointment of %s seq=%d", short(auth[1:]), seq)
        return _receipt(kept.row)

    async def _get(self, auth: NodeId) -> Message:
        held = await self._store.by_auth(auth)
        if held is None:
            return TowerError(code="unknown", text="there is no appointment of this key")
        if not held.blob:
            text = "the appointment was deleted"
            return TowerError(code="deleted", text=text, seq=held.seq, blob_hash=held.blob_hash)
        return Appointment(
            chain_id=self._domain.chain_id,
            manager=self._domain.manager,
            hint=held.hint,
            seq=held.seq,
            blob=held.blob,
            signature=held.signature,
            head_number=held.head_number,
            head_time=held.head_time,
            valid_until=held.valid_until,
            receipt=held.receipt,
        )

    def _signed_by(self, auth: NodeId, hint: Digest, seq: int, blob_hash: Digest, signature: Signature) -> bool:
        tower = self._key.public
        return appointment.is_update_signed(self._domain, tower, auth, hint, seq, blob_hash, signature)


def _receipt(row: Row) -> AppointmentReceipt:
    return AppointmentReceipt(
        hint=row.hint,
        seq=row.seq,
        blob_hash=row.blob_hash,
        head_number=row.head_number,
        head_time=row.head_time,
        valid_until=row.valid_until,
        signature=row.receipt,
    )


def _behind(held: Row, asked: Row) -> TowerError:
    """The client is behind, or was restored: it learns what we hold, and can fetch it."""
    if held.hint != asked.hint:
        return TowerError(
            code="other_hint", text="this key guards another channel", seq=held.seq, blob_hash=held.blob_hash
        )
    code = "other_bytes" if held.seq == asked.seq else "behind"
    text = f"the tower holds sequence {held.seq}"
    return TowerError(code=code, text=text, seq=held.seq, blob_hash=held.blob_hash)
