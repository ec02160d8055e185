"""What is signed and what is hashed, in the contract's own words (EIP-712, Solidity ABI), packed by hand.

Every digest of a channel is bound to chain id, contract and channel. The contract computes the same values;
`tests/contracts` compares the two on py-evm, so that a change on one side fails at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from channeld.base.keys import keccak
from channeld.base.units import (
    MAX_AMOUNT,
    MAX_TIMESTAMP,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockId,
    LockKey,
    LockKind,
    Seconds,
    Side,
    Timestamp,
    Version,
    exactly,
)

DOMAIN_NAME: Final = "channeld"
DOMAIN_VERSION: Final = "1"

DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
STATE_TYPE: Final = "State(bytes32 channelId,uint40 version,bytes32 bodyHash)"
COOPERATE_TYPE: Final = (
    "Cooperate(bytes32 channelId,uint40 version,int128 net,uint128 outA,uint128 outB,uint64 validUntil)"
)
CLOSE_TYPE: Final = "Close(bytes32 channelId,uint40 version,bytes32 bodyHash,uint64 validUntil)"
DELEGATION_TYPE: Final = "Delegation(bytes32 channelId,uint40 version,address payout,uint32 delay)"
RECEIPT_TYPE: Final = "TransferReceipt(bytes32 channelId,uint40 version,bytes32 transfers)"
ANNOUNCEMENT_TYPE: Final = "Announcement(bytes32 channelId,bytes32 nodes)"
WITNESS_TYPE: Final = "ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)"

_DOMAIN_HASH: Final = keccak(DOMAIN_TYPE.encode())
_STATE_HASH: Final = keccak(STATE_TYPE.encode())
_COOPERATE_HASH: Final = keccak(COOPERATE_TYPE.encode())
_CLOSE_HASH: Final = keccak(CLOSE_TYPE.encode())
_DELEGATION_HASH: Final = keccak(DELEGATION_TYPE.encode())
_RECEIPT_HASH: Final = keccak(RECEIPT_TYPE.encode())
_ANNOUNCEMENT_HASH: Final = keccak(ANNOUNCEMENT_TYPE.encode())
_WITNESS_HASH: Final = keccak(WITNESS_TYPE.encode())
_NAME_HASH: Final = keccak(DOMAIN_NAME.encode())
_DOMAIN_VERSION_HASH: Final = keccak(DOMAIN_VERSION.encode())

ALL: Final = MAX_AMOUNT
"""`outA`/`outB` of a cooperate: pay out everything this side has, for none has more."""
MEMO_BYTES: Final = 192
LOCK_BYTES: Final = 57
NO_LOCKS: Final = Digest(keccak(b""))
"""`locks_hash` of a body without locks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Where signatures count: one chain and one manager contract."""

    chain_id: int
    manager: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What two participants agree on for the life of a channel; stored nowhere on chain but in the id.

    `challenge_period` in seconds, clamped by the contract to its bounds; `close_bond` in wei of the native
    coin, below 2**128; `nonce` makes each channel of a pair a new one, below 2**64.
    """

    participant_a: Address
    participant_b: Address
    payout_a: Address
    payout_b: Address
    challenge_period: Seconds
    salt_commitment: Digest
    close_bond: int
    nonce: int

    def __post_init__(self) -> None:
        for name in ("participant_a", "participant_b", "payout_a", "payout_b"):
            address = exactly(20, getattr(self, name), name)
            if not any(address):
                raise ValueError(f"{name} is the zero address")
        if self.participant_a == self.participant_b:
            raise ValueError("a channel needs two different participants")
        exactly(32, self.salt_commitment, "salt_commitment")
        if not (0 <= self.challenge_period < 2**32 and 0 <= self.close_bond < 2**128 and 0 <= self.nonce < 2**64):
            raise ValueError("terms out of range")

    def participant(self, side: Side) -> Address:
        return self.participant_a if side is Side.A else self.participant_b

    def payout(self, side: Side) -> Address:
        return self.payout_a if side is Side.A else self.payout_b

    def abi(self) -> bytes:
        """The eight words of the Solidity tuple, 256 bytes."""
        return (
            _word(self.participant_a)
            + _word(self.participant_b)
            + _word(self.payout_a)
            + _word(self.payout_b)
            + _uint(self.challenge_period)
            + self.salt_commitment
            + _uint(self.close_bond)
            + _uint(self.nonce)
        )

    @property
    def hash(self) -> Digest:
        return Digest(keccak(self.abi()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """An amount that waits for a secret. `sender` is the side that offered it and gets it back after `expiry`."""

    id: LockId
    sender: Side
    kind: LockKind = LockKind.HASH
    amount: Amount
    key: LockKey
    expiry: Timestamp

    def __post_init__(self) -> None:
        if not (0 < self.id < 2**64 and 0 < self.amount <= MAX_AMOUNT and 0 < self.expiry <= MAX_TIMESTAMP):
            raise ValueError(f"lock {self.id} of {self.amount} until {self.expiry} is out of range")
        exactly(32, self.key, "lock key")

    def packed(self) -> bytes:
        """57 bytes: id 8 ‖ direction 1 (0 from A, 1 from B) ‖ kind 1 ‖ amount 11 ‖ key 32 ‖ expiry 4, big-endian."""
        return (
            self.id.to_bytes(8, "big")
            + bytes([self.sender, self.kind])
            + self.amount.to_bytes(11, "big")
            + self.key
            + self.expiry.to_bytes(4, "big")
        )


def pack_locks(locks: Iterable[Lock]) -> bytes:
    """The flat list the contract reads: 57 bytes a lock, ordered by (direction, id)."""
    return b"".join(lock.packed() for lock in sorted(locks, key=lambda lock: (lock.sender, lock.id)))


def locks_hash(locks: Iterable[Lock]) -> Digest:
    return Digest(keccak(pack_locks(locks)))


def rest_hash(locks: Iterable[Lock]) -> Digest:
    """The contract's record of locks that stayed listed when others were resolved: a chain from 32 zeros, in order."""
    rest = bytes(32)
    for lock in locks:
        rest = keccak(rest + lock.packed())
    return Digest(rest)


def salt_commitment(salt_a_hash: bytes, salt_b_hash: bytes) -> Digest:
    """keccak(keccak(salt_a) ‖ keccak(salt_b)), from the two hashes."""
    return Digest(keccak(exactly(32, salt_a_hash, "salt hash") + exactly(32, salt_b_hash, "salt hash")))


def channel_id(domain: Domain, token: Address, terms_hash: Digest) -> ChannelId:
    return ChannelId(keccak(_uint(domain.chain_id) + _word(domain.manager) + _word(token) + terms_hash))


def body_hash(net: int, locked_ab: int, locked_ba: int, locks: Digest, blind: bytes) -> Digest:
    """Hash of what a state says. `net` is what A has transferred to B, may be negative; `blind` 32 bytes."""
    return Digest(
        keccak(_int(net) + _uint(locked_ab) + _uint(locked_ba) + locks + exactly(32, blind, "blind")),
    )


def registry_key(kind: LockKind, value: bytes) -> bytes:
    """The `SecretRegistry` slot of a lock key: keccak(abi_encode(kind, value))."""
    return keccak(_uint(kind) + exactly(32, value, "lock key"))


@lru_cache(maxsize=64)
def domain_separator(domain: Domain) -> bytes:
    return keccak(
        _DOMAIN_HASH + _NAME_HASH + _DOMAIN_VERSION_HASH + _uint(domain.chain_id) + _word(domain.manager),
    )


def _typed(domain: Domain, struct: bytes) -> Digest:
    return Digest(keccak(b"\x19\x01" + domain_separator(domain) + keccak(struct)))


def state_digest(domain: Domain, channel: ChannelId, version: Version, body: Digest) -> Digest:
    """What both participants sign for a state."""
    return _typed(domain, _STATE_HASH + channel + _uint(version) + body)


def cooperate_digest(
    domain: Domain,
    channel: ChannelId,
    version: Version,
    net: int,
    out_a: int,
    out_b: int,
    valid_until: Timestamp,
) -> Digest:
    """What both participants sign to take money out together; `ALL` as an out means everything."""
    return _typed(
        domain,
        _COOPERATE_HASH + channel + _uint(version) + _int(net) + _uint(out_a) + _uint(out_b) + _uint(valid_until),
    )


def close_digest(domain: Domain, channel: ChannelId, version: Version, body: Digest, valid_until: Timestamp) -> Digest:
    """What a closer signs so that somebody else may send its close (and post the bond) until `valid_until`.

    `version` 0 and 32 zeros for a close without a state. Whoever signs this signs no state of the channel any more.
    """
    return _typed(domain, _CLOSE_HASH + channel + _uint(version) + body + _uint(valid_until))


def delegation_digest(
    domain: Domain,
    channel: ChannelId,
    version: Version,
    payout: Address,
    delay: Seconds,
) -> Digest:
    """What a victim signs so that `payout` gets the bond for presenting `version`, not before `delay` seconds."""
    return _typed(domain, _DELEGATION_HASH + channel + _uint(version) + _word(payout) + _uint(delay))


def memo_hash(memo: bytes) -> Digest:
    """Of a deposit's memo, 192 bytes; zeros for none."""
    return Digest(keccak(exactly(MEMO_BYTES, memo, "memo")))


def authorization_nonce(channel: ChannelId, side: Side, memo: Digest, owner_nonce: bytes) -> Digest:
    """The nonce of the EIP-3009 authorization that is a deposit into `channel` for `side` and nothing else.

    `memo` as `memo_hash` makes it; `owner_nonce` 32 bytes, once per owner and deposit.
    """
    return Digest(keccak(channel + _uint(side) + memo + exactly(32, owner_nonce, "nonce")))


def permit_witness(channel: ChannelId, side: Side, memo: Digest) -> Digest:
    """The witness that a Permit2 permit must carry to be a deposit into `channel` for `side`; `memo` is its hash."""
    return Digest(keccak(_WITNESS_HASH + channel + _uint(side) + memo))


def receipt_digest(domain: Domain, channel: ChannelId, version: Version, transfers: Digest) -> Digest:
    """What a payee signs for the direct transfers that `version` brought; see `transfers_hash`."""
    return _typed(domain, _RECEIPT_HASH + channel + _uint(version) + transfers)


def transfers_hash(transfers: Iterable[tuple[bytes, int]]) -> Digest:
    """keccak of (payment id 16 ‖ amount 11) for each transfer in the order of its commit."""
    return Digest(
        keccak(b"".join(exactly(16, name, "payment id") + amount.to_bytes(11, "big") for name, amount in transfers))
    )


def announcement_digest(domain: Domain, channel: ChannelId, node_a: bytes, node_b: bytes) -> Digest:
    """What both nodes and both participants sign to make a channel public."""
    return _typed(
        domain, _ANNOUNCEMENT_HASH + channel + keccak(exactly(33, node_a, "node") + exactly(33, node_b, "node"))
    )


def _uint(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _int(value: int) -> bytes:
    return value.to_bytes(32, "big", signed=True)


def _word(address: Address) -> bytes:
    return bytes(12) + exactly(20, address, "address")
