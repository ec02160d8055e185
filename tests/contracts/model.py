"""The contract's arithmetic in Python: one channel, no signatures, no storage tricks. The reference for tests.

A `ModelChannel` is a value; each function returns the next one and what it pays, or raises `Refusal` with the
contract's reason. Signatures, salts and hashes are taken to be right: what is modelled is time, versions, the bond,
clamping and locks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from channeld.base.digests import Lock
from channeld.base.keys import keccak
from channeld.base.units import MAX_AMOUNT, Side

ALL: Final = 2**128 - 1


class Refusal(Exception):
    """The contract reverts, for this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A body as the contract reads it. `bond_to` names a delegate, or nobody."""

    net: int = 0
    locked_ab: int = 0
    locked_ba: int = 0
    locks: tuple[Lock, ...] = ()
    bond_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChannel:
    """All that the contract remembers of a channel. Once dead, the deposits are what the locks hold back."""

    period: int
    bond: int
    deposit_a: int = 0
    deposit_b: int = 0
    version: int = 0
    deadline: int = 0
    closer: Side = Side.A
    beaten: bool = False
    delegated: bool = False
    void: bool = False
    final: bool = False
    dead: bool = False
    outcome: Outcome = Outcome()

    @property
    def holds(self) -> int:
        """Base units of the channel's token in the contract."""
        return self.deposit_a + self.deposit_b

    @property
    def bonded(self) -> int:
        """Wei of bond in the contract."""
        return self.bond if self.deadline and not self.final else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """What a call pays: to A, to B, and the bond to "a", "b" or the delegate."""

    a: int = 0
    b: int = 0
    bond: int = 0
    bond_to: str = ""


def refuse_unless(good: bool, reason: str) -> None:
    if not good:
        raise Refusal(reason)


def split(a: int, b: int, net: int) -> tuple[int, int]:
    """Balances after A gives B `net`, as far as there is money."""
    net = max(-b, min(net, a))
    return a - net, b + net


def deposit(channel: ModelChannel, side: Side, amount: int) -> ModelChannel:
    refuse_unless(channel.deadline == 0, "not open")
    refuse_unless(amount > 0, "nothing")
    refuse_unless(channel.holds + amount <= MAX_AMOUNT, "too much")
    if side is Side.A:
        return replace(channel, deposit_a=channel.deposit_a + amount)
    return replace(channel, deposit_b=channel.deposit_b + amount)


def cooperate(channel: ModelChannel, version: int, net: int, out_a: int, out_b: int) -> tuple[ModelChannel, Payout]:
    refuse_unless(not channel.dead, "dead")
    refuse_unless(version > channel.version, "old version")
    a, b = split(channel.deposit_a, channel.deposit_b, net)
    paid_a, paid_b = min(a, out_a), min(b, out_b)
    after = replace(channel, deposit_a=a - paid_a, deposit_b=b - paid_b, version=version)
    if not channel.deadline:
        return after, Payout(a=paid_a, b=paid_b)
    if after.holds == 0 and (channel.final or not channel.beaten):
        paid = Payout(a=paid_a, b=paid_b, bond=channel.bonded, bond_to=_name(channel.closer))
        return replace(after, final=True, dead=True), paid
    return replace(after, void=True), Payout(a=paid_a, b=paid_b)


def close(channel: ModelChannel, side: Side, now: int, version: int, outcome: Outcome) -> ModelChannel:
    """`version` 0: without a state."""
    refuse_unless(channel.deadline == 0, "not open")
    refuse_unless(version == 0 or version > channel.version, "old version")
    return replace(
        channel,
        closer=side,
        version=version or channel.version,
        deadline=now + channel.period,
        outcome=outcome if version else Outcome(),
    )


def challenge(channel: ModelChannel, now: int, version: int, outcome: Outcome, delay: int = 0) -> ModelChannel:
    """`outcome.bond_to` names the delegate of a delegation signed by the victim, if there is one."""
    refuse_unless(channel.deadline != 0, "not closing")
    refuse_unless(not channel.final and not channel.dead, "final")
    if now < channel.deadline - channel.period + delay:
        outcome = replace(outcome, bond_to="")
    if version == channel.version and channel.beaten and not channel.delegated and not channel.void:
        refuse_unless(outcome.bond_to != "", "nothing new")
        refuse_unless(replace(outcome, bond_to="") == channel.outcome, "other body")
    else:
        refuse_unless(version > channel.version, "old version")
    return replace(channel, version=version, beaten=True, delegated=outcome.bond_to != "", void=False, outcome=outcome)


def finalize(channel: ModelChannel, now: int) -> tuple[ModelChannel, Payout]:
    refuse_unless(channel.deadline != 0, "not closing")
    refuse_unless(not channel.final and not channel.dead, "final")
    refuse_unless(now > channel.deadline, "too early")
    winner = _name(channel.closer)
    if channel.beaten:
        winner = channel.outcome.bond_to or _name(channel.closer.other)
    return replace(channel, final=True), Payout(bond=channel.bond, bond_to=winner)


def settle(channel: ModelChannel, now: int) -> tuple[ModelChannel, Payout]:
    refuse_unless(channel.deadline != 0, "not closing")
    refuse_unless(not channel.dead, "dead")
    paid = Payout()
    if not channel.final:
        channel, paid = finalize(channel, now)
    a, b, held_a, held_b = channel.deposit_a, channel.deposit_b, 0, 0
    outcome = channel.outcome
    if not channel.void:
        a, b = split(a, b, outcome.net)
        if outcome.locks:
            held_a, held_b = min(outcome.locked_ab, a), min(outcome.locked_ba, b)
    rest = outcome if held_a + held_b else Outcome()
    dead = replace(channel, deposit_a=held_a, deposit_b=held_b, dead=True, outcome=rest)
    return dead, replace(paid, a=a - held_a, b=b - held_b)


def resolve(channel: ModelChannel, now: int, registered: dict[bytes, int]) -> tuple[ModelChannel, Payout]:
    """`registered`: lock key -> time of the first registration of its secret."""
    refuse_unless(channel.dead, "not settled")
    held, paid, rest = [channel.deposit_a, channel.deposit_b], [0, 0], []
    for lock in channel.outcome.locks:
        in_time = 0 < registered.get(lock.key, 0) <= lock.expiry
        if not in_time and now <= lock.expiry:
            rest.append(lock)
            continue
        amount = min(lock.amount, held[lock.sender])
        held[lock.sender] -= amount
        paid[lock.sender.other if in_time else lock.sender] += amount
    if not rest or held == [0, 0]:
        paid, held, rest = [paid[0] + held[0], paid[1] + held[1]], [0, 0], []
    left = replace(channel.outcome, locks=tuple(rest))
    return replace(channel, deposit_a=held[0], deposit_b=held[1], outcome=left), Payout(a=paid[0], b=paid[1])


def rest_hash(locks: tuple[Lock, ...]) -> bytes:
    """The record of locks that stayed listed: a chain from zero, 32 bytes."""
    rest = bytes(32)
    for lock in locks:
        rest = keccak(rest + lock.packed())
    return rest


def _name(side: Side) -> str:
    return "a" if side is Side.A else "b"
