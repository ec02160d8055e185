"""What a link with a tower keeps on disk: the update under way, byte for byte, the newest receipt, and the states.

A tower is told only of states by which there is more to lose, so what it brings to the chain may be older than what we
have by then. Only who knows a state's body can `settle` by it and resolve its locks: without a copy of our own, money
would wait for the one who cheated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channeld.base.errors import Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import ChannelId, Digest, LockKey, Timestamp, Version
from channeld.core.channel import Body
from channeld.core.saved import load_body, save_body
from channeld.storage.store import Store
from channeld.wire import appointment
from channeld.wire.messages import AppointmentReceipt, decode, encode

FORM: Final = 2
"""1 had no `sent`."""
SENT: Final = 4
"""States kept: that of the newest receipt, and the newest of those sent since. Each may be what the tower has."""
MAX_BYTES: Final = 262_144
MAX_TOTAL: Final = 16_384
"""Items: `SENT` states with 512 locks each, seven items a lock, and the rest."""


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
    sent: Mapping[Version, Body] = field(default_factory=dict)
    """States that the tower may have: that of the newest receipt, and those sent since."""

    def sending(self, version: Version, body: Body) -> None:
        """A state is about to leave."""
        held = -1 if self.held is None else self.held.version
        kept = sorted({**self.sent, version: body}.items())
        newest = [one for one in kept if one[0] != held][1 - SENT :]
        self.sent = dict([one for one in kept if one[0] == held] + newest)

    def receipted(self, held: Held) -> None:
        """The tower has this one; what went before is replaced there."""
        self.held = held
        self.sent = {version: body for version, body in self.sent.items() if version >= held.version}

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
                [[version, save_body(body)] for version, body in sorted(self.sent.items())],
            ]
        )


def load_link(data: bytes) -> LinkState:
    """Malformed: not what `save` wrote."""
    try:
        form, seq, since, revealed, forget, pending, held, *more = unpack(
            data, max_bytes=MAX_BYTES, max_total=MAX_TOTAL
        )
        if (form, len(more)) not in ((1, 0), (FORM, 1)):
            raise Malformed(f"a link with a tower saved in form {form}, this program reads 1 and {FORM}")
        state = LinkState(seq=seq, since=since, revealed=revealed, forget=forget)
        state.sent = {version: load_body(body) for version, body in more[0]} if more else {}
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


def sent(store: Store, channel: ChannelId) -> dict[Version, Body]:
    """The states of a channel that some tower may have; also of towers that were removed, and before any is loaded."""
    found: dict[Version, Body] = {}
    for (saved,) in store.rows("SELECT saved FROM receipts WHERE channel = ?", channel):
        found.update(load_link(saved).sent)
    return found
