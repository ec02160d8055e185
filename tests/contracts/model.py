"""The contracts in Python, to be read: what they hold, owe and pay, and why they refuse. The reference for tests.

`ModelManager` has a clock, balances, channels and a registry of secrets. Nothing is hashed or signed here: whoever
agrees is named, a body is a value, and a call is given who signed what (`Signed`: a name, or None for a signature that
is nobody's). Each call either changes everything it must or raises `Refusal` with the contract's reason, checked in the
contract's order, and changes nothing. Names stand for addresses; side A signs as the channel's `parties[0]` and is paid
at `payouts[0]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from channeld.base.digests import Lock
from channeld.base.keys import keccak
from channeld.base.units import MAX_AMOUNT, Side

COIN: Final = "coin"
MANAGER: Final = "manager"
NOBODY: Final = ""
MAX_VERSION: Final = 2**40 - 1

Signed = str | None
"""Who made a signature; None for one that is nobody's or of something else."""


class Refusal(Exception):
    """The contract reverts, for this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A body as the contract reads it. `stated` is False for a close without a state. `bond_to`: delegate or nobody."""

    net: int = 0
    locked_ab: int = 0
    locked_ba: int = 0
    locks: tuple[Lock, ...] = ()
    stated: bool = False
    bond_to: str = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChannel:
    """All that the contract remembers of a channel. Once dead, the deposits are what the locks hold back."""

    token: str
    parties: tuple[str, str]
    payouts: tuple[str, str]
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
    chained: bool = False
    """Some locks have been resolved and some are left: the record is a chain over these."""
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
class Evidence:
    """What a challenge brings. `payout` is nobody without a delegation."""

    channel: str
    version: int
    outcome: Outcome
    signed_a: Signed
    signed_b: Signed
    payout: str = NOBODY
    delay: int = 0
    delegated_by: Signed = None


def refuse_unless(good: bool, reason: str) -> None:
    if not good:
        raise Refusal(reason)


def split(a: int, b: int, net: int) -> tuple[int, int]:
    """Balances after A gives B `net`, as far as there is money."""
    net = max(-b, min(net, a))
    return a - net, b + net


def rest_hash(locks: Sequence[Lock]) -> bytes:
    """The record of locks that stayed listed: a chain from zero, 32 bytes."""
    rest = bytes(32)
    for lock in locks:
        rest = keccak(rest + lock.packed())
    return rest


@dataclass(slots=True, kw_only=True)
class ModelManager:
    """Both contracts and the money round them. `now` is the block's time; `refusing` are receivers that take none."""

    now: int
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    channels: dict[str, ModelChannel] = field(default_factory=dict)
    registered: dict[bytes, int] = field(default_factory=dict)
    """Lock key -> time of the first registration."""
    owed: dict[tuple[str, str], int] = field(default_factory=dict)
    closings: int = 0
    refusing: set[tuple[str, str]] = field(default_factory=set)
    """(token, receiver)"""

    # -- money

    def balance(self, token: str, who: str) -> int:
        return self.balances.get((token, who), 0)

    def move(self, token: str, owner: str, to: str, amount: int) -> None:
        self.balances[token, owner] = self.balance(token, owner) - amount
        self.balances[token, to] = self.balance(token, to) + amount

    def pay(self, token: str, to: str, amount: int) -> None:
        """Push, or owe."""
        if amount == 0:
            return
        if (token, to) in self.refusing:
            self.owed[token, to] = self.owed.get((token, to), 0) + amount
        else:
            self.move(token, MANAGER, to, amount)

    def pay_both(self, channel: ModelChannel, paid_a: int, paid_b: int) -> None:
        self.pay(channel.token, channel.payouts[0], paid_a)
        self.pay(channel.token, channel.payouts[1], paid_b)

    def entitled(self, token: str) -> int:
        """What the manager must hold of a token: deposits and locks, debts and, in coin, bonds."""
        held = sum(one.holds for one in self.channels.values() if one.token == token)
        bonds = sum(one.bonded for one in self.channels.values()) if token == COIN else 0
        return held + bonds + sum(amount for (kind, _), amount in self.owed.items() if kind == token)

    # -- in agreement

    def deposit(self, sender: str, name: str, side: int, amount: int, value: int | None = None) -> None:
        """`value`: coin sent along, as much as it takes unless given. The sender has approved the manager for ever."""
        token = self.channels[name].token
        due = amount if token == COIN else 0
        refuse_unless(value in (None, due), "value")
        self._credit(name, side, amount)
        self.move(token, sender, MANAGER, amount)

    def deposit_many(self, sender: str, token: str, deposits: Sequence[tuple[str, int, int]]) -> None:
        """(channel, side, amount) of each; all or none."""
        kept = dict(self.channels)
        try:
            for name, side, amount in deposits:
                self._credit(name, side, amount)
        except Refusal:
            self.channels = kept
            raise
        self.move(token, sender, MANAGER, sum(amount for _, _, amount in deposits))

    def _credit(self, name: str, side: int, amount: int) -> None:
        channel = self.channels[name]
        refuse_unless(side in (0, 1), "side")
        refuse_unless(amount > 0, "nothing")
        refuse_unless(channel.deadline == 0, "not open")
        refuse_unless(channel.holds + amount <= MAX_AMOUNT, "too much")
        if side == 0:
            self.channels[name] = replace(channel, deposit_a=channel.deposit_a + amount)
        else:
            self.channels[name] = replace(channel, deposit_b=channel.deposit_b + amount)

    def cooperate(
        self,
        sender: str,
        name: str,
        version: int,
        net: int,
        outs: tuple[int, int],
        valid_until: int,
        first: Signed,
        second: Signed = NOBODY,
    ) -> None:
        """`first` and `second` signed; `second` nobody where it is left out."""
        channel = self.channels[name]
        refuse_unless(not channel.dead, "dead")
        refuse_unless(version <= MAX_VERSION, "version")
        refuse_unless(version > channel.version, "old version")
        refuse_unless(self.now <= valid_until, "expired")
        a, b = channel.parties
        if second == NOBODY:
            refuse_unless(
                first == (b if sender == a else a if sender == b else None) and first is not None, "signature"
            )
        else:
            refuse_unless(first == a and second == b, "signature")
        a_has, b_has = split(channel.deposit_a, channel.deposit_b, net)
        paid_a, paid_b = min(a_has, outs[0]), min(b_has, outs[1])
        after = replace(channel, deposit_a=a_has - paid_a, deposit_b=b_has - paid_b, version=version)
        if channel.deadline:
            if after.holds == 0 and (channel.final or not channel.beaten):
                after = replace(after, final=True, dead=True, outcome=Outcome())
                self.pay(COIN, channel.payouts[channel.closer], channel.bonded)
            else:
                after = replace(after, void=True)
        self.channels[name] = after
        self.pay_both(channel, paid_a, paid_b)

    # -- in dispute

    def close(
        self,
        sender: str,
        name: str,
        version: int,
        outcome: Outcome,
        signed: Signed,
        salt_of: Side,
        value: int,
        order: tuple[int, Signed] | None = None,
    ) -> None:
        """`version` 0: without a state. `salt_of`: whose salt is shown. `order`: (valid until, who signed a Close)."""
        channel = self.channels[name]
        refuse_unless(channel.deadline == 0, "not open")
        refuse_unless(value == channel.bond, "bond")
        closer: Signed = sender
        if order is not None:
            refuse_unless(self.now <= order[0], "expired")
            closer = order[1]
        refuse_unless(closer in channel.parties, "not a participant")
        side = Side.A if closer == channel.parties[0] else Side.B
        refuse_unless(salt_of is side.other, "salt")
        if version == 0:
            refuse_unless(not outcome.stated, "no state")
        else:
            refuse_unless(version <= MAX_VERSION, "version")
            refuse_unless(version > channel.version, "old version")
            refuse_unless(signed == channel.parties[side.other], "signature")
        refuse_unless(self.now + channel.period < 2**32, "too late")
        self.move(COIN, sender, MANAGER, value)
        self.closings += 1
        self.channels[name] = replace(
            channel,
            closer=side,
            version=version or channel.version,
            deadline=self.now + channel.period,
            outcome=replace(outcome, bond_to=NOBODY),
        )

    def challenge(self, sender: str, given: Evidence) -> None:
        """A newer state, and perhaps a delegation of the bond to `payout`."""
        channel = self.channels[given.channel]
        refuse_unless(channel.deadline != 0, "not closing")
        refuse_unless(not channel.final and not channel.dead, "final")
        refuse_unless(given.version <= MAX_VERSION, "version")
        bond_to = NOBODY
        if given.payout != NOBODY:
            refuse_unless(given.delegated_by == channel.parties[channel.closer.other], "delegation")
            if self.now - (channel.deadline - channel.period) >= given.delay:
                bond_to = given.payout
        outcome = replace(given.outcome, bond_to=bond_to)
        if given.version == channel.version and channel.beaten and not channel.delegated and not channel.void:
            refuse_unless(bond_to != NOBODY, "nothing new")
            refuse_unless(given.outcome == channel.outcome, "other body")
        else:
            refuse_unless(given.version > channel.version, "old version")
        for party, signed in zip(channel.parties, (given.signed_a, given.signed_b), strict=True):
            refuse_unless(sender == party if signed == NOBODY else signed == party, "signature")
        self.channels[given.channel] = replace(
            channel, version=given.version, beaten=True, delegated=bond_to != NOBODY, void=False, outcome=outcome
        )

    def challenge_many(self, sender: str, many: Sequence[Evidence]) -> int:
        """Bit i is set iff item i counted."""
        counted = 0
        for place, given in enumerate(many):
            try:
                self.challenge(sender, given)
            except Refusal:
                continue
            counted |= 1 << place
        return counted

    def finalize(self, name: str, named: Outcome) -> None:
        """`named`: the outcome that the caller says is recorded."""
        channel = self.channels[name]
        refuse_unless(channel.deadline != 0, "not closing")
        refuse_unless(not channel.final and not channel.dead, "final")
        refuse_unless(self.now > channel.deadline, "too early")
        refuse_unless(named == channel.outcome, "other outcome")
        self.channels[name] = replace(channel, final=True)
        self.pay(COIN, self._winner(channel), channel.bond)

    @staticmethod
    def _winner(channel: ModelChannel) -> str:
        """Whose the bond is: the closer's if unbeaten, else the delegate's, else the victim's."""
        if not channel.beaten:
            return channel.payouts[channel.closer]
        return channel.outcome.bond_to or channel.payouts[channel.closer.other]

    def settle(self, name: str, opened: Outcome) -> None:
        """`opened`: the outcome as the caller opens it; empty for a close without a state."""
        channel = self.channels[name]
        refuse_unless(channel.deadline != 0, "not closing")
        refuse_unless(not channel.dead, "dead")
        if not (channel.final and channel.void):
            refuse_unless(opened == channel.outcome, "other outcome")
        refuse_unless(channel.final or self.now > channel.deadline, "too early")
        a, b, held_a, held_b = channel.deposit_a, channel.deposit_b, 0, 0
        if not channel.void:
            a, b = split(a, b, channel.outcome.net)
            if channel.outcome.locks:
                held_a, held_b = min(channel.outcome.locked_ab, a), min(channel.outcome.locked_ba, b)
        rest = channel.outcome if held_a + held_b else Outcome()
        self.channels[name] = replace(channel, deposit_a=held_a, deposit_b=held_b, final=True, dead=True, outcome=rest)
        if not channel.final:
            self.pay(COIN, self._winner(channel), channel.bond)
        self.pay_both(channel, a - held_a, b - held_b)

    def resolve(
        self, name: str, locks: tuple[Lock, ...] | None, keys: Sequence[bytes], opened: Outcome | None = None
    ) -> None:
        """`locks`: the list that the caller gives, None for bytes that are no list; `keys`: of the secrets it gives,
        which are registered first.

        `opened`: settle first, by this outcome, if that is still to do.
        """
        if not self.channels[name].dead:
            if opened is None or not opened.stated:
                raise Refusal("not settled")
            self.settle(name, opened)
        channel = self.channels[name]
        self.register(keys)
        if locks is None or not channel.outcome.locks or locks != channel.outcome.locks:
            return
        held, paid, rest = [channel.deposit_a, channel.deposit_b], [0, 0], []
        for lock in locks:
            in_time = 0 < self.registered.get(lock.key, 0) <= lock.expiry
            if not in_time and self.now <= lock.expiry:
                rest.append(lock)
                continue
            amount = min(lock.amount, held[lock.sender])
            held[lock.sender] -= amount
            paid[lock.sender.other if in_time else lock.sender] += amount
        if not rest or held == [0, 0]:
            paid, held, rest = [paid[0] + held[0], paid[1] + held[1]], [0, 0], []
        left = replace(channel.outcome, locks=tuple(rest)) if rest else Outcome()
        self.channels[name] = replace(channel, deposit_a=held[0], deposit_b=held[1], chained=bool(rest), outcome=left)
        self.pay_both(channel, paid[0], paid[1])

    def register(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.registered.setdefault(key, self.now)

    def withdraw(self, sender: str, token: str, owner: str, to: str) -> None:
        refuse_unless(sender == owner or to == owner, "not the owner")
        amount = self.owed.get((token, owner), 0)
        refuse_unless(amount != 0, "nothing")
        refuse_unless((token, to) not in self.refusing, "transfer")
        del self.owed[token, owner]
        self.move(token, MANAGER, to, amount)
