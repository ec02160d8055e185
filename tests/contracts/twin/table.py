"""What a campaign plays with: the contracts on both sides, roles, tokens and receivers of every mood, channels.

A `Line` is one channel as its participants know it: terms, keys, salts, the bodies they made up. Its terms come from a
generator of chances, and are as often odd (a participant that is a contract, one payout address for both, a bond of
nothing, a period out of bounds) as they are plain.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from channeld.base.digests import Domain, channel_id, salt_commitment
from channeld.base.keys import Key, keccak, sha256
from channeld.base.units import NATIVE, Address, ChannelId, Digest
from contracts import artifact
from contracts.deploy import PERMIT2
from tests.contracts.twin.build import HERE, Built, vyper
from tests.contracts.twin.calls import adr, manager, num, words_of
from tests.contracts.twin.pair import CHAIN_ID, Pair
from tests.contracts.zoo import permit2_code, permit2_domain

MIN_PERIOD: Final = 60
MASK88: Final = 2**88 - 1
RICH: Final = 2**104
"""Coin and tokens of each role: more than a channel can hold."""
LOCK_BYTES: Final = 57
RECEIVERS: Final = {
    "refuses": "5f5ffd",
    "eats all gas": "5b5f56",
    "returns 8 KiB": "6120005ff3",
    "accepts": "00",
    "accepts if slot 0 is set": "5f546008575f5ffd5b00",
    "wants nearly all of 50,000 gas": "61b7985a11600b575f5ffd5b00",
    "wants more than 50,000 gas": "61d6d85a11600b575f5ffd5b00",
}
"""Runtime code of accounts that are paid, by what it does."""


@cache
def role(name: str) -> Key:
    return Key(keccak(b"twin " + name.encode()))


SIDES: Final = ("first", "second", "third")
OTHERS: Final = ("tower", "anyone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a state says, packed, and its locks."""

    packed: bytes
    locks: tuple[bytes, ...]

    @property
    def hash(self) -> Digest:
        return Digest(keccak(self.packed))


EMPTY: Final = Body(packed=bytes(160), locks=())
"""How a close without a state is opened."""


@dataclass(slots=True, kw_only=True)
class Line:
    """One channel, and what its participants know of it."""

    token: Address
    participants: tuple[Address, Address]
    keys: tuple[Key | None, Key | None]
    """None for a participant that is a contract, or nobody."""
    payouts: tuple[Address, Address]
    salts: tuple[bytes, bytes]
    bond: int
    terms: bytes
    id: ChannelId
    bodies: list[Body] = field(default_factory=list)
    state: bytes = bytes(32)
    """Body hash that is recorded on chain."""
    bond_to: Address = NATIVE
    locks: tuple[bytes, ...] = ()
    """Those unresolved, once settled."""

    @property
    def hash(self) -> bytes:
        return keccak(self.terms)

    @property
    def period(self) -> int:
        """How long it may be challenged, seconds."""
        return max(MIN_PERIOD, min(int.from_bytes(self.terms[128:160], "big"), 30 * 86400))

    @property
    def body(self) -> Body:
        """The one recorded, or the empty one."""
        return next((one for one in self.bodies if one.hash == self.state), EMPTY)


class Table:
    """Both sides set up, with a way back to this moment."""

    def __init__(self, twin: Mapping[str, Built], ours: bytes | None = None) -> None:
        self.pair = Pair()
        self.rich = role("rich").address
        self.pair.give(self.rich, 2**120)
        pair, rich = self.pair, self.rich
        self.registry = pair.deploy(rich, artifact("SecretRegistry").bytecode, twin["SecretRegistry"].bytecode)
        arguments = adr(self.registry) + adr(PERMIT2) + num(MIN_PERIOD)
        self.manager = pair.deploy(
            rich, (ours or artifact("ChannelManager").bytecode) + arguments, twin["ChannelManager"].bytecode + arguments
        )
        self.domain = Domain(chain_id=CHAIN_ID, manager=self.manager)
        pair.place(PERMIT2, permit2_code(CHAIN_ID, PERMIT2))
        self.permits = permit2_domain(CHAIN_ID, PERMIT2)
        self.plain = pair.deploy(rich, artifact("TestToken").bytecode)
        self.nasty = pair.deploy(rich, artifact("NastyToken").bytecode)
        self.agent = pair.deploy(rich, artifact("Reentrant").bytecode)
        self.echo = pair.deploy(rich, vyper(HERE / "Echo.vy"))
        self.receivers = {name: self._plant(bytes.fromhex(code)) for name, code in RECEIVERS.items()}
        self.roles = tuple(role(name).address for name in SIDES + OTHERS)
        for who in (*self.roles, self.agent):
            self._fund(who)
        # In one mode this token asks what it is aimed at, and tells the gas it has if that answers. This does not.
        aim = keccak(b"aim(address,bytes)")[:4] + words_of(adr(self.manager), 64, 4, manager("closings", 0), bytes(28))
        pair.call(rich, self.nasty, aim)
        pair.watched = [*self.roles, rich, self.manager, self.agent, self.echo, *self.receivers.values()]
        self.beginning = pair.snapshot()
        self.depth = pair.depth()

    def _plant(self, runtime: bytes) -> Address:
        return self.pair.deploy(self.rich, bytes.fromhex(f"61{len(runtime):04x}80600a5f395ff3") + runtime)

    def _fund(self, who: Address) -> None:
        self.pair.give(who, RICH)
        mint, approve = keccak(b"mint(address,uint256)")[:4], keccak(b"approve(address,uint256)")[:4]
        for token in (self.plain, self.nasty):
            self.pair.call(self.rich, token, mint + words_of(adr(who), RICH))
        for spender in (self.manager, PERMIT2) if who in self.roles else ():
            self.pair.call(who, self.plain, approve + words_of(adr(spender), 2**256 - 1))

    def reset(self) -> None:
        """Back to the beginning."""
        self.pair.revert(self.beginning)
        self.beginning = self.pair.snapshot()
        if self.pair.depth() > self.depth:
            raise RuntimeError("a snapshot was left open")

    # -- chances

    def line(self, rng: random.Random, nonce: int) -> Line:
        """A new channel."""
        token = rng.choices((NATIVE, self.plain, self.nasty, self.roles[4], self.registry), weights=(40, 24, 32, 3, 1))[
            0
        ]
        keys: list[Key | None] = [role(name) for name in rng.sample(SIDES, 2)]
        participants = [Address(NATIVE) if key is None else key.address for key in keys]
        odd = rng.randrange(40)
        if odd < 3:
            side = rng.randrange(2)
            keys[side], participants[side] = None, (self.agent, NATIVE, self.manager)[odd]
        elif odd == 3:
            keys[1], participants[1] = keys[0], participants[0]
        payouts = (self._payout(rng, nonce, 0), self._payout(rng, nonce, 1))
        if rng.randrange(12) == 0:
            payouts = (payouts[0], payouts[0])
        salts = keccak(b"salt a%d" % nonce), keccak(b"salt b%d" % nonce)
        bond = rng.choices((10**15, 0, 1, 2**100, 2**255), weights=(60, 20, 10, 5, 5))[0]
        period = rng.choices((3600, 60, 0, 30 * 86400, 2**255), weights=(60, 15, 10, 10, 5))[0]
        commitment = salt_commitment(keccak(salts[0]), keccak(salts[1]))
        terms = words_of(*map(adr, participants), *map(adr, payouts), period, commitment, bond, nonce)
        return Line(
            token=token,
            participants=(participants[0], participants[1]),
            keys=(keys[0], keys[1]),
            payouts=payouts,
            salts=salts,
            bond=bond,
            terms=terms,
            id=channel_id(self.domain, token, Digest(keccak(terms))),
        )

    def _payout(self, rng: random.Random, nonce: int, side: int) -> Address:
        kind = rng.randrange(20)
        if kind < 7:
            return Address(keccak(b"payout %d %d" % (nonce, side))[:20])
        if kind < 14:
            return rng.choices(list(self.receivers.values()), weights=(2, 1, 1, 1, 5, 2, 5))[0]
        if kind < 17:
            return self.echo
        return rng.choice((self.manager, NATIVE, Address(bytes(19) + b"\x02"), self.roles[0], self.nasty, self.agent))


def secret(number: int) -> bytes:
    return keccak(b"secret %d" % number)


def scalar(number: int) -> int:
    return int.from_bytes(keccak(b"scalar %d" % number), "big") >> 1


@cache
def point(number: int) -> bytes:
    """The key of a lock on the point of a scalar."""
    return adr(Key(num(scalar(number))).address)


SECRETS: Final = 8
"""How many secrets and scalars there are to guess."""


SHOWN: Final = {sha256(secret(number)): number for number in range(SECRETS)} | {
    point(number): number for number in range(SECRETS)
}
"""Which secret or scalar opens a lock's key."""


def body(rng: random.Random, line: Line, a: int, b: int, now: int) -> Body:
    """A body for deposits of about `a` and `b`, right or out of all bounds."""
    locks = [_lock(rng, number, a + b, now) for number in range(rng.choices((0, 1, 2, 3, 5), (30, 25, 25, 15, 5))[0])]
    net = rng.randint(-b, a)
    if rng.randrange(3) == 0:
        net = rng.choice((0, a, -b, a + 1, -b - 1, 2**255 - 1, -(2**255)))
    held = [sum(int.from_bytes(one[10:21], "big") for one in locks if one[8] == side) for side in (0, 1)]
    for side in (0, 1):
        if rng.randrange(8) == 0:
            held[side] = rng.choice((0, 1, a + b, MASK88, 2**256 - 1))
    hashed = keccak(b"".join(locks))
    if rng.randrange(25) == 0:
        hashed = rng.choice((bytes(32), keccak(b"none"), keccak(b"".join(locks) + b"\0")))
    packed = words_of(net, *held, hashed, rng.randbytes(32))
    made = Body(packed=packed, locks=tuple(locks))
    line.bodies.append(made)
    return made


def _lock(rng: random.Random, number: int, most: int, now: int) -> bytes:
    which = rng.randrange(SECRETS)
    kind = rng.choices((1, 2, rng.randrange(256)), (60, 35, 5))[0]
    key = point(which) if kind == 2 else sha256(secret(which))
    amount = rng.choice((1, rng.randint(0, min(most, MASK88)), min(most // 3 + 1, MASK88), MASK88))
    expiry = min(rng.choice((now - 1, now + rng.randrange(200), now + rng.randrange(8000), 2**32 - 1, 0)), 2**32 - 1)
    direction = rng.choices((0, 1, rng.randrange(256)), (48, 48, 4))[0]
    lock = (number + 1).to_bytes(8, "big") + bytes((direction, kind)) + amount.to_bytes(11, "big")
    return lock + key + expiry.to_bytes(4, "big")
