"""Deposits by signature: what an owner signs for its token (EIP-3009) or for Permit2, and the call that carries it.

Each is a value with a field for everything that is signed, plus the call's arguments made of it. A test changes a field
before or after signing, and the two no longer fit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

from channeld.base.digests import Domain, authorization_nonce, channel_id, memo_hash, permit_witness
from channeld.base.keys import Key, compact, keccak
from channeld.base.units import Address, ChannelId, Digest, Side
from contracts.deploy import PERMIT2
from tests.contracts.world import CHAIN_ID, Channel, call_data, words_of
from tests.contracts.zoo import permit2_domain

RECEIVE_TYPE: Final = keccak(
    b"ReceiveWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
PERMISSIONS_TYPE: Final = keccak(b"TokenPermissions(address token,uint256 amount)")
PERMIT_TYPE: Final = keccak(
    b"PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
    b"ChannelDeposit witness)ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)"
    b"TokenPermissions(address token,uint256 amount)"
)
DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
MEMO: Final = bytes(range(1, 193))
FAR: Final = 2**40
"""A time that never comes."""


def _uint(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _typed(domain: bytes, struct: bytes) -> Digest:
    return Digest(keccak(b"\x19\x01" + domain + keccak(struct)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent(ABC):
    """What both kinds of signature are about: so much of the owner's money into one side of one channel."""

    owner: Key
    token: Address
    terms_hash: Digest
    side: Side
    amount: int
    memo: bytes = MEMO
    manager: Address
    chain_id: int = CHAIN_ID

    @classmethod
    def to(cls, channel: Channel, owner: Key, side: Side = Side.A, amount: int = 1000, **more: Any) -> Self:
        """For a channel of a world."""
        return cls(
            owner=owner,
            token=channel.token,
            terms_hash=channel.terms.hash,
            side=side,
            amount=amount,
            manager=channel.world.manager,
            **more,
        )

    @property
    def channel(self) -> ChannelId:
        return channel_id(Domain(chain_id=self.chain_id, manager=self.manager), self.token, self.terms_hash)

    @abstractmethod
    def digest(self) -> Digest:
        """What the owner signs."""

    @abstractmethod
    def arguments(self) -> list[Any]:
        """Of the call, signed."""

    def signed(self) -> bytes:
        """By the owner, 65 bytes."""
        return self.owner.sign(self.digest())

    def but(self, **changes: Any) -> Self:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization(Consent):
    """A deposit by EIP-3009."""

    call: ClassVar[str] = "deposit_with_authorization"
    valid_after: int = 0
    valid_before: int = FAR
    owner_nonce: bytes = bytes(31) + b"\x07"

    def digest(self) -> Digest:
        domain = keccak(DOMAIN_TYPE + keccak(b"Nasty") + keccak(b"1") + _uint(self.chain_id) + bytes(12) + self.token)
        nonce = authorization_nonce(self.channel, self.side, memo_hash(self.memo), self.owner_nonce)
        struct = bytes(12) + self.owner.address + bytes(12) + self.manager + _uint(self.amount)
        struct += _uint(self.valid_after) + _uint(self.valid_before) + nonce
        return _typed(domain, RECEIVE_TYPE + struct)

    def arguments(self) -> list[Any]:
        """Of the call, signed."""
        return [
            self.token,
            self.terms_hash,
            int(self.side),
            self.amount,
            words_of(self.memo),
            self.owner.address,
            self.valid_after,
            self.valid_before,
            self.owner_nonce,
            compact(self.signed()),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit(Consent):
    """A deposit by Permit2."""

    call: ClassVar[str] = "deposit_with_permit2"
    nonce: int = 7
    deadline: int = FAR
    permit2: Address = PERMIT2

    def digest(self) -> Digest:
        permitted = keccak(PERMISSIONS_TYPE + bytes(12) + self.token + _uint(self.amount))
        struct = permitted + bytes(12) + self.manager + _uint(self.nonce) + _uint(self.deadline)
        struct += permit_witness(self.channel, self.side, memo_hash(self.memo))
        return _typed(permit2_domain(self.chain_id, self.permit2), PERMIT_TYPE + struct)

    def arguments(self) -> list[Any]:
        """Of the call, signed."""
        return [
            self.token,
            self.terms_hash,
            int(self.side),
            self.amount,
            words_of(self.memo),
            self.owner.address,
            self.nonce,
            self.deadline,
            compact(self.signed()),
        ]


def data(consent: Authorization | Permit) -> bytes:
    """The call's bytes."""
    return call_data("ChannelManager", consent.call, *consent.arguments())
