"""The chain as facts: what was seen, in which block, and what can be read at one.

Values only. The follower makes facts of logs; `RpcChain` in `reads` answers the questions of `Chain`; whoever
listens acts on `BlockRef`s, so that a fact told twice, or taken back by a reorg, is recognised. Times are seconds of
`block.timestamp`, amounts base units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from channeld.base.units import (
    MAX_AMOUNT,
    MAX_TIMESTAMP,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockKey,
    Side,
    Timestamp,
    Version,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """A block by number and hash (32 bytes), with its time."""

    number: int
    hash: bytes
    timestamp: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far the chain has come: the newest block, the one unlikely to go, and the one that stays."""

    latest: BlockRef
    safe: BlockRef
    finalized: BlockRef

    def age(self, now: int) -> int:
        """Seconds from the newest block to `now`, a clock's time; never below zero."""
        return max(0, now - self.latest.timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    block: BlockRef
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDeposit(_Seen):
    """Money came into a channel. `deposit_a` and `deposit_b` are the totals after it."""

    channel_id: ChannelId
    deposit_a: Amount
    deposit_b: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMemo(_Seen):
    """The deposit that follows carries a memo, 192 bytes."""

    channel_id: ChannelId
    memo: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCooperate(_Seen):
    """Both took money out together; the deposits are what is left."""

    channel_id: ChannelId
    version: Version
    paid_a: Amount
    paid_b: Amount
    deposit_a: Amount
    deposit_b: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenClose(_Seen):
    """One side closes alone. `salt` is the *other* side's; `body_hash` is zero for a close without a state."""

    channel_id: ChannelId
    closer: Side
    version: Version
    body_hash: Digest
    deadline: Timestamp
    salt: bytes
    index: int
    """Number of this close among all of the contract, without gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenChallenge(_Seen):
    """A newer state was put against a close. `bond_to` is zero without a delegation."""

    channel_id: ChannelId
    version: Version
    body_hash: Digest
    bond_to: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFinal(_Seen):
    """The outcome is fixed, and the closer's bond paid or returned to `bond_to`."""

    channel_id: ChannelId
    version: Version
    bond_to: Address
    bond: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSettle(_Seen):
    """Both were paid; the channel id is dead. What the locks hold stays in the contract."""

    channel_id: ChannelId
    version: Version
    paid_a: Amount
    paid_b: Amount
    locked_ab: Amount
    locked_ba: Amount
    locks_hash: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLocks(_Seen):
    """Some locks of a settled channel were paid out; `locks_hash` is of those that are left."""

    channel_id: ChannelId
    paid_a: Amount
    paid_b: Amount
    locked_ab: Amount
    locked_ba: Amount
    locks_hash: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOwed(_Seen):
    """A payment could not be pushed and waits for `withdraw`."""

    token: Address
    owner: Address
    amount: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWithdrawn(_Seen):
    """What was owed has been paid to `to`."""

    token: Address
    owner: Address
    to: Address
    amount: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSecret(_Seen):
    """A secret was registered for the first time, at `timestamp`. `key` is `digests.registry_key`."""

    key: bytes
    secret: bytes
    timestamp: Timestamp


Fact = (
    SeenDeposit
    | SeenMemo
    | SeenCooperate
    | SeenClose
    | SeenChallenge
    | SeenFinal
    | SeenSettle
    | SeenLocks
    | SeenOwed
    | SeenWithdrawn
    | SeenSecret
)
"""What one log of the manager or the registry says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWord:
    """What the contract keeps of a channel. All zero: nobody has paid into it."""

    deposit_a: Amount
    deposit_b: Amount
    version: Version
    deadline: Timestamp
    """0 while open."""
    flags: int
    record: Digest
    """Hash of the outcome while closing; after settling, of the locks that are left."""

    @classmethod
    def unpack(cls, word: int, record: Digest) -> ChannelWord:
        """From the storage word: deposit_a 88 ‖ deposit_b 88 ‖ version 40 ‖ deadline 32 ‖ flags 8 bits."""
        return cls(
            deposit_a=Amount(word >> 168),
            deposit_b=Amount(word >> 80 & MAX_AMOUNT),
            version=Version(word >> 40 & 2**40 - 1),
            deadline=Timestamp(word >> 8 & MAX_TIMESTAMP),
            flags=word & 255,
            record=record,
        )

    @property
    def closing(self) -> bool:
        return self.deadline != 0

    @property
    def closer(self) -> Side:
        """Who closed; means nothing while open."""
        return Side(self.flags & 1)

    @property
    def beaten(self) -> bool:
        """A challenge has replaced what the closer presented."""
        return bool(self.flags & 2)

    @property
    def delegated(self) -> bool:
        """That challenge came with a delegation."""
        return bool(self.flags & 4)

    @property
    def void(self) -> bool:
        """A cooperate has overtaken the recorded state."""
        return bool(self.flags & 8)

    @property
    def final(self) -> bool:
        """The outcome is fixed and the bond paid."""
        return bool(self.flags & 16)

    @property
    def dead(self) -> bool:
        """Settled: nothing more can happen to the id but its locks."""
        return bool(self.flags & 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A transaction's content, unsigned. `to` None creates a contract; `value` in wei."""

    to: Address | None
    data: bytes
    value: int = 0


class Chain(Protocol):
    """Questions to the chain. `at` names the block whose state is asked, the newest if None.

    Every method raises Unreachable when the node does not answer (or no longer knows the block).
    """

    async def head(self) -> Head: ...

    async def channel(self, channel_id: ChannelId, at: BlockRef | None = None) -> ChannelWord: ...

    async def channels(self, ids: Sequence[ChannelId]) -> list[ChannelWord]:
        """The same for many, by now and in their order, hundreds in one request; their records are left out (zero)."""
        ...

    async def registered_at(self, key: LockKey, at: BlockRef | None = None) -> Timestamp:
        """When the preimage of hash-lock `key` was registered; 0 if it was not."""
        ...

    async def registered_of(self, keys: Sequence[LockKey]) -> dict[LockKey, Timestamp]:
        """The same for many, by now; those that were not registered are left out."""
        ...

    async def owed(self, token: Address, owner: Address, at: BlockRef | None = None) -> Amount: ...

    async def closings(self, at: BlockRef | None = None) -> int:
        """How many closes the manager has seen."""
        ...

    async def balance(self, owner: Address, token: Address, at: BlockRef | None = None) -> int:
        """Base units of `token`, or wei for the zero address."""
        ...

    async def allowance(self, token: Address, owner: Address, at: BlockRef | None = None) -> int:
        """How much of `owner`'s the manager may take."""
        ...

    async def check(self) -> None:
        """That this is the chain and these are the contracts we know; else Refused."""
        ...
