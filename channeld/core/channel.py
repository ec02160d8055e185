"""A channel as one of its two nodes knows it: a frozen value with its laws.

A transition returns a new value; the laws are checked each time one is made, so a channel that does not add up
is never saved, signed or sent. `current` is the newest state both signed and acknowledged, `outstanding` the one
newer state that only we have signed. Balances follow from `net` (what A has transferred to B), the locks, and the
deposits: what we may spend counts the deposit that the *peer* has announced, what the peer may spend the deposit
that *we* have announced (protocol R6), so both sides judge a proposal by the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from channeld.base.digests import NO_LOCKS, Domain, Lock, Terms, body_hash, locks_hash, state_digest
from channeld.base.errors import Broken
from channeld.base.keys import keccak
from channeld.base.units import (
    MAX_VERSION,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockId,
    NodeId,
    Preimage,
    Side,
    Timestamp,
    Version,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from channeld.core.messages import Ack, Commit, Update

LockName = tuple[Side, LockId]
"""(who offered it, its number): locks are matched by this, never by hash (T-rules; protocol §4)."""
ZERO: Final = Digest(bytes(32))
MAX_BATCH: Final = 512
"""Most updates in one commit."""
MAX_LOCKS: Final = 256
"""Most locks a side may have pending in one channel; both directions together are the contract's 512."""


class Phase(Enum):
    """Where a channel stands. Saved by name; a name never changes its meaning."""

    OPENING = "opening"
    """Terms agreed; the deposit is not yet known to both."""
    OPEN = "open"
    FROZEN = "frozen"
    """No state is signed ever again (R16); not yet closing on chain."""
    CLOSING = "closing"
    """A unilateral close is on chain and can still be challenged or waits to be settled."""
    SETTLED = "settled"
    """Paid out on chain but for some locks."""
    CLOSED = "closed"
    """Nothing left."""


_ON_CHAIN: Final = (Phase.CLOSING, Phase.SETTLED)
"""The phases in which a close stands on chain."""


class Session(Enum):
    """What the connection to the peer allows; never saved."""

    CUT = "cut"
    GREETING = "greeting"
    """Connected; our reestablish is out, the peer's has not come."""
    PROVING = "proving"
    """The peer claims a state we do not have: its ack or its proof must come first (R9)."""
    LIVE = "live"


@dataclass(frozen=True)
class Body:
    """What a state says: `net` from A to B in base units (may be negative) and the pending locks."""

    net: int
    locks: Mapping[LockName, Lock] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def locked_ab(self) -> Amount:
        """Sum of the locks that A offered."""
        return Amount(sum(lock.amount for lock in self.locks.values() if lock.sender is Side.A))

    @cached_property
    def locked_ba(self) -> Amount:
        return Amount(sum(lock.amount for lock in self.locks.values() if lock.sender is Side.B))

    def locked(self, sender: Side) -> Amount:
        return self.locked_ab if sender is Side.A else self.locked_ba

    @cached_property
    def _count_a(self) -> int:
        return sum(side is Side.A for side, _ in self.locks)

    def count(self, sender: Side) -> int:
        return self._count_a if sender is Side.A else len(self.locks) - self._count_a

    def balance(self, side: Side, deposit: int) -> int:
        """What `side` may still spend, given its deposit; may come out negative for a forbidden body."""
        return deposit - (self.net if side is Side.A else -self.net) - self.locked(side)

    def hash(self, blind: bytes) -> Digest:
        locks = locks_hash(self.locks.values()) if self.locks else NO_LOCKS
        return body_hash(self.net, self.locked_ab, self.locked_ba, locks, blind)


EMPTY: Final = Body(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A state both have signed. Version 0 is the beginning: an empty body, hash zero, no signatures."""

    version: Version
    body: Body
    body_hash: Digest
    signature_a: bytes = b""
    signature_b: bytes = b""

    def signature(self, side: Side) -> bytes:
        return self.signature_a if side is Side.A else self.signature_b


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A state both have signed of whose locks we know the sums and the hash only: what a tower keeps for us.

    It is enough to close, challenge and settle by; who resolves its locks must know them. Its blind is `Channel.blind`.
    """

    version: Version
    body_hash: Digest
    signature_a: bytes
    signature_b: bytes
    net: int
    locked_ab: Amount
    locked_ba: Amount
    locks_hash: Digest

    def signature(self, side: Side) -> bytes:
        return self.signature_a if side is Side.A else self.signature_b


BEGINNING: Final = Signed(version=Version(0), body=EMPTY, body_hash=ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A state only we have signed, with the updates that make it from `current`; sent again as it is."""

    version: Version
    base: Version
    body: Body
    body_hash: Digest
    updates: tuple[Update, ...]
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Coop:
    """A live `cooperate`: while it is, no state is signed (R14). It pays everything out.

    `signature_theirs` is empty until the peer's has come; `asked` tells whether we proposed it.
    """

    version: Version
    net: int
    valid_until: Timestamp
    digest: Digest
    asked: bool
    signature_ours: bytes
    signature_theirs: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Our unanswered coop_propose. We are quiet until it is answered or the session ends (R11); never saved."""

    version: Version
    state: Version
    """The version of `current` it was made on."""
    net: int
    valid_until: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """A unilateral close as the chain shows it, at one confirmation."""

    closer: Side
    version: Version
    body_hash: Digest
    deadline: Timestamp
    bond_to: Address = Address(bytes(20))
    final: bool = False
    """`finalize` has run: the outcome stands."""
    settled: bool = False
    left: tuple[LockName, ...] = ()
    """Locks the settled contract still lists, in its order."""
    body: Body | None = None
    """What `body_hash` says, kept from when we could tell: `current` may move on by a late ack. None: unknown to us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """All that one node knows of one channel. See the file's head for the laws."""

    id: ChannelId
    domain: Domain
    token: Address
    terms: Terms
    we: Side
    peer: NodeId
    salt_ours: bytes
    salt_theirs: bytes
    max_locks: int
    public: bool = False

    phase: Phase = Phase.OPENING
    told: tuple[Amount, Amount] = (Amount(0), Amount(0))
    """Deposits (of A, of B) as we announced them, at our finality; they never go down."""
    heard: tuple[Amount, Amount] = (Amount(0), Amount(0))
    """Deposits as the peer announced them."""

    current: Signed = BEGINNING
    outstanding: Proposal | None = None
    top: tuple[Version, Digest] = (Version(0), ZERO)
    """Highest version we ever signed, and its digest."""
    base: Version = Version(0)
    coop: Coop | None = None
    last_ack: Ack | None = None
    """Our newest commit_ack, to be said again."""
    queue: tuple[Update, ...] = ()
    """Our updates that no proposal carries yet, oldest first."""
    reserved: Amount = Amount(0)
    """What the queue will take from our balance."""
    reserved_locks: int = 0
    next_lock: LockId = LockId(1)
    their_last_lock: LockId = LockId(0)
    claims: Mapping[LockId, Preimage] = field(default_factory=dict)
    """Preimages we know of locks the peer offered: with one here, failing the lock is refused for ever."""
    lost: frozenset[LockId] = frozenset()
    """Locks we offered that the registry has given back to us for good (R20): fulfilling one now is a fault."""
    reason: str = ""
    """Why it is frozen."""
    leaving: bool = False
    """We want it closed together: nothing new is offered."""
    closing_alone: bool = False
    """We want our `current` on chain."""
    recovering: bool = False
    """A newer state of ours than the store's was shown to us: in recovery for good."""
    onchain: OnChain | None = None
    outline: Outline | None = None
    """In recovery: a state newer than `current` that we cannot open. It is what we close and challenge with."""

    session: Session = Session.CUT
    ask: Ask | None = None
    waiting: Commit | None = None
    """A commit that came while a cooperate was live for us (R14); looked at when it has lapsed."""

    def __post_init__(self) -> None:
        out, coop = self.outstanding, self.coop
        if out is not None and out.version <= self.current.version:
            raise Broken(f"{self.name}: outstanding {out.version} is not above {self.current.version}")
        if out is not None and out.version != next_version(self.we, out.base):
            raise Broken(f"{self.name}: {out.version} on {out.base} is not for side {self.we.name} to propose (R1)")
        if out is not None and coop is not None:
            raise Broken(f"{self.name}: {out.version} is outstanding while cooperate {coop.version} is live (R14)")
        if self.top[0] < max(self.current.version if not self.recovering else 0, self.outstanding_version):
            raise Broken(f"{self.name}: top {self.top[0]} is below a version we signed")
        if coop is not None and (coop.version > self.base or (coop.signature_ours and coop.version > self.top[0])):
            raise Broken(f"{self.name}: cooperate {coop.version} above base {self.base} or top {self.top[0]}")
        if not 0 <= self.current.version <= self.base <= MAX_VERSION and not self.recovering:
            raise Broken(f"{self.name}: base {self.base} below current {self.current.version}")
        if self.outline is not None and not (self.recovering and self.outline.version > self.current.version):
            raise Broken(
                f"{self.name}: version {self.outline.version} is known in outline, {self.current.version} in full"
            )
        if min(*self.told, *self.heard) < 0:
            raise Broken(f"{self.name}: a deposit below zero: {self.told}, {self.heard}")
        if self.phase is not Phase.CLOSED and (self.onchain is not None) != (self.phase in _ON_CHAIN):
            raise Broken(f"{self.name}: {self.phase.value} with {self.onchain}")
        if self.phase in (Phase.OPEN, Phase.FROZEN):
            if self.current.version and not (self.current.signature_a and self.current.signature_b):
                raise Broken(f"{self.name}: version {self.current.version} is not signed by both")
            for state in (self.current, out):
                if state is not None and not self.recovering:
                    self._must_add_up(state.body)

    def _must_add_up(self, body: Body) -> None:
        ours = body.balance(self.we, self.heard[self.we])
        theirs = body.balance(self.we.other, self.told[self.we.other])
        if ours < 0 or theirs < 0:
            raise Broken(f"{self.name}: a side is below zero: ours {ours}, theirs {theirs}")

    @property
    def name(self) -> str:
        """How logs call it."""
        return short(self.id)

    @property
    def outstanding_version(self) -> int:
        return 0 if self.outstanding is None else self.outstanding.version

    @property
    def best(self) -> Signed | Outline:
        """The newest state we can enforce: both have signed it, whether or not we can open it."""
        return self.current if self.outline is None else self.outline

    @property
    def newest_body(self) -> Body:
        """The body our next proposal starts from, or the one we have proposed already."""
        return self.current.body if self.outstanding is None else self.outstanding.body

    @property
    def balance(self) -> Amount:
        """What we own in `current` and have not locked; a deposit that only the peer has seen counts nothing."""
        return Amount(max(0, self.current.body.balance(self.we, min(self.heard[self.we], self.told[self.we]))))

    @property
    def spendable(self) -> Amount:
        """What a new update of ours may take: counts what is proposed and what is queued."""
        return Amount(max(0, self.newest_body.balance(self.we, self.heard[self.we]) - self.reserved))

    @property
    def peer_balance(self) -> Amount:
        return Amount(self.current.body.balance(self.we.other, self.told[self.we.other]))

    @property
    def signs(self) -> bool:
        """Whether states may still be signed at all."""
        return self.phase is Phase.OPEN and self.coop is None

    @property
    def peer_key(self) -> Address:
        """The address whose signature on a state is the peer's."""
        return self.terms.participant(self.we.other)

    def blind(self, version: int) -> bytes:
        """32 bytes that hide a body's hash: both sides know them, nobody else does until `settle`."""
        salt_a, salt_b = self.salts
        return keccak(b"channeld/blind" + salt_a + salt_b + version.to_bytes(5, "big"))

    @property
    def salts(self) -> tuple[bytes, bytes]:
        """(of A, of B), 32 bytes each."""
        return (self.salt_ours, self.salt_theirs) if self.we is Side.A else (self.salt_theirs, self.salt_ours)

    def digest(self, version: Version, hash_: Digest) -> Digest:
        """What is signed for a state of this channel."""
        return state_digest(self.domain, self.id, version, hash_)


def next_version(proposer: Side, base: int) -> Version:
    """R1: the opener signs odd versions, the acceptor even ones; whoever has waited wins a crossing.

    base + 2 if `proposer` proposed `base`, else base + 3; 0 counts as the acceptor's.
    """
    proposed_base = Side.A if base % 2 else Side.B
    return Version(base + 2 if proposer is proposed_base else base + 3)
