"""What a link with a tower keeps on disk: the update under way, byte for byte, and the newest receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from channeld.base.errors import Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import Digest, LockKey, Timestamp, Version
from channeld.wire import appointment
from channeld.wire.messages import AppointmentReceipt, decode, encode

FORM: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An update without receipt. `blob`: empty for a deletion. `entrusted`: locks whose preimages it holds."""

    seq: int
    version: Version
    entrusted: frozenset[LockKey]
    blob: bytes

    @property
    def blob_hash(self) -> Digest:
        return appointment.blob_hash(self.blob) if self.blob else appointment.NO_BLOB


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The newest receipt and what it is for."""

    version: Version
    entrusted: frozenset[LockKey]
    receipt: AppointmentReceipt


@dataclass(slots=True, kw_only=True)
class LinkState:
    """All of a link that outlives a crash."""

    seq: int = 0
    """The highest number ever used; it never goes down, whatever is deleted."""
    since: Timestamp | None = None
    """Since when something has been at risk here."""
    revealed: bool = False
    """A close has shown our salt: the tower promises nothing any more."""
    forget: bool = False
    """The tower is to delete what it holds."""
    pending: Pending | None = None
    held: Held | None = None

    def save(self) -> bytes:
        pending, held = self.pending, self.held
        return pack(
            [
                FORM,
                self.seq,
                self.since,
                self.revealed,
                self.forget,
                pending and [pending.seq, pending.version, sorted(pending.entrusted), pending.blob],
                held and [held.version, sorted(held.entrusted), encode(held.receipt)],
            ]
        )


def load_link(data: bytes) -> LinkState:
    """Malformed: not what `save` wrote."""
    try:
        form, seq, since, revealed, forget, pending, held = unpack(data)
        if form != FORM:
            raise Malformed(f"a link with a tower saved in form {form}, this program reads {FORM}")
        state = LinkState(seq=seq, since=since, revealed=revealed, forget=forget)
        if pending:
            seq, version, keys, blob = pending
            state.pending = Pending(seq=seq, version=version, entrusted=frozenset(keys), blob=blob)
        if held:
            version, keys, receipt = held
            found = decode(receipt)
            if not isinstance(found, AppointmentReceipt):
                raise Malformed("a saved receipt is none")
            state.held = Held(version=version, entrusted=frozenset(keys), receipt=found)
    except (ValueError, TypeError) as fault:
        raise Malformed(f"not a saved link: {fault}") from fault
    return state
