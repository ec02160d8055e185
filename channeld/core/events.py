"""What can happen to a channel. `Seen…` comes from the chain, `Got` from the peer, a plain verb from ourselves.

Chain times come in here and nowhere else; the machine has no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from channeld.base.units import Address, Amount, Digest, LockId, LockKey, PaymentId, Preimage, Side, Timestamp, Version
from channeld.core.channel import Body, Outline
from channeld.core.messages import Message, Proof

# -- ourselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Pay:
    """Queue direct transfers (id, amount), all or none. Refused: insufficient_balance, channel_not_open,
    channel_closing, bad_amount, busy."""

    transfers: tuple[tuple[PaymentId, Amount], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Queue a lock. Refused as `Pay`, and too_many_locks. The note `Queued` names it."""

    tag: bytes
    """The caller's name for it, given back in `Queued`; not sent."""
    amount: Amount
    key: LockKey
    expiry: Timestamp
    onion: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fulfil:
    """Take a lock the peer offered. Durable: from here on it cannot be failed. Said twice, it is one."""

    lock_id: LockId
    preimage: Preimage
    off_chain: bool = True
    """False past the cut-off (R17): only remembered, until the secret is registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Give a lock back. Refused (preimage_known) once its preimage is known. Said twice, it is one."""

    lock_id: LockId
    reason: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Take an offered lock back out of the queue; refused (already_offered) if it was signed or is gone."""

    lock_id: LockId


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Sign and send what is queued, if the rules allow it now (R3). The shell says so after each batch of events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Close together (R11). `now` is chain time; the offer is valid for `valid_for` seconds, at most an hour."""

    now: Timestamp
    valid_for: int
    draw: int | None = None
    """At least 39 fresh random bits; a channel in recovery offers nothing without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseAlone:
    """Put `current` on chain; the channel freezes."""

    reason: str = "closed by its owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover:
    """Our store is older than the channel: a tower holds what we have forgotten, or its owner says it is a copy.

    `proof`: the newest state the tower holds, if we can read it. What it does not prove is not adopted.
    """

    reason: str
    proof: Proof | None = None
    outline: Outline | None = None
    """Instead of a proof: that state, if its locks are not known to us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """An encrypted session with the peer stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    pass


# -- the peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A message of the peer. `now` is chain time, used only to bound a coop's validity."""

    message: Message
    now: Timestamp


# -- the chain


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDeposit:
    """What the contract holds for A and B, at our finality, memo checked."""

    deposit_a: Amount
    deposit_b: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenClose:
    """Somebody closed (one confirmation)."""

    closer: Side
    version: Version
    body_hash: Digest
    deadline: Timestamp
    body: Body | None = None
    """What opens `body_hash`, if it is a state that we gave a tower and have gone on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenChallenge:
    version: Version
    body_hash: Digest
    bond_to: Address
    body: Body | None = None
    """As with a close: towers know states that we do not keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFinal:
    """The outcome of a close is fixed (one confirmation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSettled:
    """Paid out but for locks, in a finalized block. `empty`: the contract lists no lock of it."""

    version: Version
    empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenResolved:
    """The contract's list of unresolved locks after `resolve_locks`, in a finalized block.

    None: some are left, of a state that we cannot open.
    """

    left: tuple[tuple[Side, LockId], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCooperated:
    """A cooperate was executed, in a finalized block."""

    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenUnclosed:
    """A reorg took the close away (R16: the channel stays frozen)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHead:
    """A new block. `final` is the finalized block's time.

    `registered`: for each lock key that the registry holds as of now, its time; `unregistered`: keys whose
    registry storage was empty *at the finalized block* (R20).
    """

    now: Timestamp
    final: Timestamp
    registered: Mapping[LockKey, Timestamp] = field(default_factory=dict)
    unregistered: frozenset[LockKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSecret:
    """The registry showed a preimage, first at `at`."""

    key: LockKey
    preimage: Preimage
    at: Timestamp


Wish = Pay | Offer | Fulfil | Fail | Cancel | Propose | Leave | CloseAlone | Recover
Seen = (
    SeenDeposit
    | SeenClose
    | SeenChallenge
    | SeenFinal
    | SeenSettled
    | SeenResolved
    | SeenCooperated
    | SeenUnclosed
    | SeenSecret
)
Event = Wish | Seen | SeenHead | Connected | Disconnected | Got
