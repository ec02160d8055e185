"""The contracts' reference model behind the contracts' own interface: calldata in, storage, logs and reverts out.

`tests/contracts/model.py` says what the contracts hold and pay; it knows names instead of addresses, and bodies instead
of their hashes. Here the two are joined. A call is decoded by the committed ABI; who signed is found out by recovering;
an outcome that is known by its hash only stands in the model under that hash (`_unopened`), and is replaced by what it
says as soon as somebody opens it, which is when the model first needs to know. Every call runs on a copy of the state:
what the model refuses changes nothing, as a revert does.

What a node must not notice: the model has no gas, and its token is a plain one. What it may lean on: the same reasons,
in the same order, the same events and the same word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from eth_abi.abi import decode, encode

from channeld.base.digests import (
    NO_LOCKS,
    Domain,
    Lock,
    Terms,
    body_hash,
    channel_id,
    close_digest,
    cooperate_digest,
    delegation_digest,
    registry_key,
    rest_hash,
    state_digest,
)
from channeld.base.keys import keccak, recover, sha256
from channeld.base.units import (
    NATIVE,
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
)
from contracts import artifact
from tests.contracts.model import (
    COIN,
    NOBODY,
    Evidence,
    ModelChannel,
    ModelManager,
    Outcome,
    Refusal,
    Signed,
    refuse_unless,
)

LOCK_BYTES: Final = 57
ZERO: Final = bytes(32)
_OPEN: Final = ModelChannel(token=COIN, parties=("", ""), payouts=("", ""), period=0, bond=0)
"""A channel of which nobody has shown the terms yet: a deposit names their hash only."""


@dataclass(frozen=True, slots=True)
class Log:
    """An event as the chain keeps it."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(slots=True, kw_only=True)
class State:
    """Everything the contracts and the accounts hold after some block. `coins` and tokens are the model's balances."""

    model: ModelManager
    nonces: dict[Address, int] = field(default_factory=dict)
    allowances: dict[tuple[str, str], int] = field(default_factory=dict)
    """(token, owner) -> what the manager may still take."""
    slots: dict[bytes, bytes] = field(default_factory=dict)
    """Registry slot -> the lock key that the model knows it by."""

    def copy(self) -> State:
        model = replace(
            self.model,
            balances=dict(self.model.balances),
            channels=dict(self.model.channels),
            registered=dict(self.model.registered),
            owed=dict(self.model.owed),
            refusing=set(self.model.refusing),
        )
        return State(model=model, nonces=dict(self.nonces), allowances=dict(self.allowances), slots=dict(self.slots))


def named(address: bytes) -> str:
    """How the model names an account or a token."""
    return COIN if address == NATIVE else "0x" + address.hex()


def _shape(one: dict[str, Any]) -> str:
    if one["type"].startswith("tuple"):
        return f"({','.join(_shape(part) for part in one['components'])}){one['type'][5:]}"
    return str(one["type"])


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    inputs: tuple[str, ...]
    names: tuple[str, ...]


def _functions(source: str) -> dict[bytes, _Function]:
    found = {}
    for entry in artifact(source).abi:
        if entry["type"] == "function":
            inputs = tuple(_shape(one) for one in entry["inputs"])
            selector = keccak(f"{entry['name']}({','.join(inputs)})".encode())[:4]
            found[selector] = _Function(entry["name"], inputs, tuple(one["name"] for one in entry["inputs"]))
    return found


def _events(source: str) -> dict[str, tuple[bytes, list[tuple[str, str, bool]]]]:
    found = {}
    for entry in artifact(source).abi:
        if entry["type"] == "event":
            inputs = [(one["name"], _shape(one), bool(one["indexed"])) for one in entry["inputs"]]
            topic = keccak(f"{entry['name']}({','.join(shape for _, shape, _ in inputs)})".encode())
            found[entry["name"]] = (topic, inputs)
    return found


MANAGER_CALLS: Final = _functions("ChannelManager")
REGISTRY_CALLS: Final = _functions("SecretRegistry")
TOKEN_CALLS: Final = _functions("TestToken")
EVENTS: Final = _events("ChannelManager") | _events("SecretRegistry")


def word_of(channel: ModelChannel) -> int:
    """deposit_a 88 ‖ deposit_b 88 ‖ version 40 ‖ deadline 32 ‖ flags 8 bits."""
    return (
        channel.deposit_a << 168
        | channel.deposit_b << 80
        | channel.version << 40
        | channel.deadline << 8
        | flags_of(channel)
    )


def flags_of(channel: ModelChannel) -> int:
    marks = (channel.beaten, channel.delegated, channel.void, channel.final, channel.dead)
    return (channel.closer if channel.deadline else 0) | sum(2 << place for place, mark in enumerate(marks) if mark)


def _unopened(hash_: bytes, bond_to: str = NOBODY) -> Outcome:
    """An outcome of which only the hash is known: two are equal iff their hashes are."""
    if hash_ == ZERO:
        return Outcome(bond_to=bond_to)
    return Outcome(net=int.from_bytes(hash_, "big"), stated=True, bond_to=bond_to)


def _unlisted(hash_: bytes) -> tuple[Lock, ...]:
    """Locks of which only the list's hash is known."""
    lock = Lock(id=LockId(1), sender=Side.A, amount=Amount(1), key=LockKey(hash_), expiry=Timestamp(1))
    return () if hash_ in (NO_LOCKS, ZERO) else (lock,)


def _listed(packed: bytes) -> tuple[Lock, ...] | None:
    """The locks that a list says; None for bytes that are no list."""
    if len(packed) % LOCK_BYTES:
        return None
    try:
        return tuple(
            Lock(
                id=LockId(int.from_bytes(one[:8], "big")),
                sender=Side(one[8]),
                kind=LockKind(one[9]),
                amount=Amount(int.from_bytes(one[10:21], "big")),
                key=LockKey(one[21:53]),
                expiry=Timestamp(int.from_bytes(one[53:], "big")),
            )
            for one in (packed[at : at + LOCK_BYTES] for at in range(0, len(packed), LOCK_BYTES))
        )
    except ValueError:
        return None


def record_of(channel: ModelChannel) -> bytes:
    """What the contract keeps beside the word, 32 bytes."""
    if channel.dead:
        if not channel.outcome.locks:
            return ZERO
        return rest_hash(channel.outcome.locks) if channel.chained else channel.outcome.locks[0].key
    if not channel.deadline:
        return ZERO
    hash_ = channel.outcome.net.to_bytes(32, "big") if channel.outcome.stated else ZERO
    bond_to = bytes.fromhex(channel.outcome.bond_to[2:]) if channel.outcome.bond_to else bytes(20)
    return keccak(hash_ + bytes(12) + bond_to)


def _full(pair: tuple[bytes, bytes]) -> bytes:
    """The 65 bytes of a compact signature; empty for empty."""
    r, vs = pair
    if not any(r) and not any(vs):
        return b""
    return r + bytes([vs[0] & 127]) + vs[1:] + bytes([27 + (vs[0] >> 7)])


class Call:
    """One call of a contract: what it does to `state`, and the events it emits. Refusal: it reverts."""

    def __init__(self, state: State, domain: Domain, registry: Address, min_period: int) -> None:
        self.state, self.model, self.domain, self.registry = state, state.model, domain, registry
        self.min_period = min_period
        self.logs: list[Log] = []
        self.sender = ""
        self.value = 0

    def run(self, sender: Address, to: Address, data: bytes, value: int) -> bytes:
        """The returned bytes. The value is taken by who takes it (deposit, close); another call refuses it."""
        self.sender, self.value = named(sender), value
        before = dict(self.model.owed)
        table = {self.domain.manager: MANAGER_CALLS, self.registry: REGISTRY_CALLS}.get(to, TOKEN_CALLS)
        function = table.get(data[:4])
        if function is None:
            raise Refusal("no such function")
        arguments = decode(function.inputs, data[4:])
        if to not in (self.domain.manager, self.registry):
            return self._token(to, function.name, arguments)
        refuse_unless(value == 0 or function.name in ("deposit", "close"), "value")
        does: Callable[..., bytes | None] = getattr(self, f"_{function.name.lower()}")
        answer = does(*arguments)
        for (token, owner), amount in self.model.owed.items():
            more = amount - before.get((token, owner), 0)
            if more > 0:
                self._log("Owed", token=_address(token), owner=_address(owner), amount=more)
        return answer or b""

    # -- names

    def _signed(self, digest: Digest, pair: tuple[bytes, bytes]) -> Signed:
        signature = _full(pair)
        if not signature:
            return NOBODY
        who = recover(digest, signature)
        return None if who is None else named(who)

    def _known(self, token: str, terms: Sequence[Any]) -> tuple[ChannelId, str, Terms]:
        """The channel that has these terms: its id, its name in the model, and they."""
        addresses = [Address(bytes.fromhex(one[2:])) for one in terms[:4]]
        agreed = Terms(
            participant_a=addresses[0],
            participant_b=addresses[1],
            payout_a=addresses[2],
            payout_b=addresses[3],
            challenge_period=Seconds(terms[4]),
            salt_commitment=Digest(terms[5]),
            close_bond=terms[6],
            nonce=terms[7],
        )
        coin = Address(bytes.fromhex(token[2:]))
        id_ = channel_id(self.domain, coin, agreed.hash)
        name = id_.hex()
        channel = self.model.channels.get(name, replace(_OPEN, token=named(coin)))
        self.model.channels[name] = replace(
            channel,
            parties=(named(agreed.participant_a), named(agreed.participant_b)),
            payouts=(named(agreed.payout_a), named(agreed.payout_b)),
            period=min(max(agreed.challenge_period, self.min_period), 30 * 86_400),
            bond=agreed.close_bond,
        )
        return id_, name, agreed

    def _log(self, name: str, **values: Any) -> None:
        topic, inputs = EVENTS[name]
        indexed = [encode([shape], [values[key]]) for key, shape, index in inputs if index]
        rest = [(shape, values[key]) for key, shape, index in inputs if not index]
        data = encode([shape for shape, _ in rest], [value for _, value in rest])
        place = self.registry if name == "SecretRegistered" else self.domain.manager
        self.logs.append(Log(place, (topic, *indexed), data))

    # -- the manager

    def _deposit(
        self, token: str, terms_hash: bytes, side: int, amount: int, memo: Sequence[bytes] = (ZERO,) * 6
    ) -> None:
        coin = Address(bytes.fromhex(token[2:]))
        id_ = channel_id(self.domain, coin, Digest(terms_hash))
        name, kind = id_.hex(), named(coin)
        self.model.channels.setdefault(name, replace(_OPEN, token=kind))
        if any(memo[0]):
            self._log("Memo", channel_id=id_, memo=memo)
        if kind != COIN:
            left = self.state.allowances.get((kind, self.sender), 0) - amount
            refuse_unless(left >= 0 and self.model.balance(kind, self.sender) >= amount, "transferFrom")
            self.state.allowances[kind, self.sender] = left
        self.model.deposit(self.sender, name, side, amount, self.value)
        self._log("Deposited", channel_id=id_, word=word_of(self.model.channels[name]))

    def _cooperate(
        self,
        token: str,
        terms: Sequence[Any],
        version: int,
        net: int,
        out_a: int,
        out_b: int,
        valid_until: int,
        first: tuple[bytes, bytes],
        second: tuple[bytes, bytes] = (ZERO, ZERO),
    ) -> None:
        id_, name, agreed = self._known(token, terms)
        digest = cooperate_digest(self.domain, id_, Version(version), net, out_a, out_b, Timestamp(valid_until))
        before = self.model.channels[name]
        signed = self._signed(digest, first), self._signed(digest, second)
        self.model.cooperate(self.sender, name, version, net, (out_a, out_b), valid_until, *signed)
        after = self.model.channels[name]
        n = max(-before.deposit_b, min(net, before.deposit_a))
        paid_a, paid_b = before.deposit_a - n - after.deposit_a, before.deposit_b + n - after.deposit_b
        self._log("Cooperated", channel_id=id_, word=word_of(after), paid_a=paid_a, paid_b=paid_b)
        if after.final and not before.final:
            self._finalized(id_, after, agreed.payout(Side(before.closer)))

    def _close(
        self,
        token: str,
        terms: Sequence[Any],
        version: int,
        hash_: bytes,
        signature: tuple[bytes, bytes],
        salt_other: bytes,
        own_hash: bytes,
        order: tuple[int, tuple[bytes, bytes]] = (0, (ZERO, ZERO)),
    ) -> None:
        id_, name, agreed = self._known(token, terms)
        as_a, as_b = keccak(own_hash + keccak(salt_other)), keccak(keccak(salt_other) + own_hash)
        closer = self.sender
        ordered: tuple[int, Signed] | None = None
        if order[0]:
            digest = close_digest(self.domain, id_, Version(version), Digest(hash_), Timestamp(order[0]))
            ordered = (order[0], self._signed(digest, order[1]))
            closer = ordered[1] or ""
        side = Side.A if closer == named(agreed.participant_a) else Side.B
        shown = (as_a if side is Side.A else as_b) == agreed.salt_commitment
        signed = self._signed(state_digest(self.domain, id_, Version(version), Digest(hash_)), signature)
        outcome = _unopened(hash_)
        salt_of = side.other if shown else side
        self.model.close(self.sender, name, version, outcome, signed, salt_of, self.value, ordered)
        self._log(
            "Closed",
            channel_id=id_,
            word=word_of(self.model.channels[name]),
            body_hash=hash_,
            salt=salt_other,
            closing_index=self.model.closings,
        )

    def _challenge(self, given: Sequence[Any]) -> None:
        token, terms, version, hash_, first, second, payout, delay, delegation = given
        id_, name, _ = self._known(token, terms)
        digest = state_digest(self.domain, id_, Version(version), Digest(hash_))
        to = Address(bytes.fromhex(payout[2:]))
        nobody = to == NATIVE
        promised = delegation_digest(self.domain, id_, Version(version), to, Seconds(delay)) if not nobody else None
        self.model.challenge(
            self.sender,
            Evidence(
                channel=name,
                version=version,
                outcome=_unopened(hash_),
                signed_a=self._signed(digest, first),
                signed_b=self._signed(digest, second),
                payout=NOBODY if nobody else named(to),
                delay=delay,
                delegated_by=None if promised is None else self._signed(promised, delegation),
            ),
        )
        after = self.model.channels[name]
        bond_to = after.outcome.bond_to or named(NATIVE)
        self._log("Challenged", channel_id=id_, word=word_of(after), body_hash=hash_, bond_to=_address(bond_to))

    def _challenge_many(self, given: Sequence[Any]) -> bytes:
        counted = 0
        for place, one in enumerate(given):
            kept = dict(self.model.channels)
            try:
                self._challenge(one)
            except Refusal:
                self.model.channels = kept
            else:
                counted |= 1 << place
        return counted.to_bytes(32, "big")

    def _finalize(self, token: str, terms: Sequence[Any], hash_: bytes, bond_to: str) -> None:
        id_, name, agreed = self._known(token, terms)
        self.model.finalize(name, _unopened(hash_, _bond(bond_to)))
        after = self.model.channels[name]
        self._finalized(id_, after, self._winner(after, agreed))

    def _winner(self, channel: ModelChannel, terms: Terms) -> Address:
        if not channel.beaten:
            return terms.payout(Side(channel.closer))
        if channel.outcome.bond_to:
            return Address(_bytes(channel.outcome.bond_to))
        return terms.payout(Side(channel.closer).other)

    def _finalized(self, id_: ChannelId, channel: ModelChannel, winner: Address) -> None:
        self._log("Finalized", channel_id=id_, word=word_of(channel), bond_to=winner, bond=channel.bond)

    def _settle(self, token: str, terms: Sequence[Any], body: Sequence[Any], bond_to: str) -> None:
        id_, name, agreed = self._known(token, terms)
        net, locked_ab, locked_ba, locks, blind = body
        stated = any(one != 0 for one in (net, locked_ab, locked_ba)) or any(locks) or any(blind)
        hash_ = body_hash(net, locked_ab, locked_ba, Digest(locks), blind) if stated else ZERO
        before = self.model.channels[name]
        given = _unopened(hash_, _bond(bond_to))
        if given == before.outcome:
            given = replace(given, net=net, locked_ab=locked_ab, locked_ba=locked_ba, locks=_unlisted(locks))
            self.model.channels[name] = replace(before, outcome=given)
        winner = self._winner(before, agreed)
        self.model.settle(name, given)
        after = self.model.channels[name]
        if not before.final:
            self._finalized(id_, after, winner)
        a, b = before.deposit_a, before.deposit_b
        n = 0 if before.void else max(-b, min(given.net, a))
        self._log(
            "Settled",
            channel_id=id_,
            word=word_of(after),
            paid_a=a - n - after.deposit_a,
            paid_b=b + n - after.deposit_b,
            locks_hash=record_of(after),
        )

    @staticmethod
    def _has(channel: ModelChannel, side: Side) -> int:
        return channel.deposit_a if side is Side.A else channel.deposit_b

    def _resolve_locks(
        self,
        token: str,
        terms: Sequence[Any],
        packed: bytes,
        secrets: Sequence[bytes],
        opening: Sequence[Any] = ((0, 0, 0, ZERO, ZERO), "0x" + "00" * 20),
    ) -> None:
        self._register(secrets)
        id_, name, _ = self._known(token, terms)
        if not self.model.channels[name].dead:
            refuse_unless(any(opening[0][3]), "not settled")
            self._settle(token, terms, opening[0], opening[1])
        before = self.model.channels[name]
        locks = _listed(packed)
        if not before.outcome.locks or locks is None or record_of(before) not in (keccak(packed), rest_hash(locks)):
            return
        self.model.channels[name] = replace(before, outcome=replace(before.outcome, locks=locks))
        self.model.resolve(name, locks, [])
        after = self.model.channels[name]
        got: dict[Side, int] = dict.fromkeys(Side, 0)
        held = {side: self._has(before, side) for side in Side}
        for lock in locks:  # what the event says; that it is what was paid, `entitled` shows
            at = self.model.registered.get(lock.key, 0)
            in_time = 0 < at <= lock.expiry
            if not in_time and self.model.now <= lock.expiry:
                continue
            amount = min(lock.amount, held[lock.sender])
            held[lock.sender] -= amount
            got[lock.sender.other if in_time else lock.sender] += amount
        for side in Side:
            got[side] += held[side] - self._has(after, side)
        self._log(
            "LocksResolved",
            channel_id=id_,
            word=word_of(after),
            paid_a=got[Side.A],
            paid_b=got[Side.B],
            locks_hash=record_of(after),
        )

    def _withdraw(self, token: str, owner: str, to: str) -> bytes:
        kind, whose, goes = (named(_bytes(one)) for one in (token, owner, to))
        amount = self.model.owed.get((kind, whose), 0)
        self.model.withdraw(self.sender, kind, whose, goes)
        self._log("Withdrawn", token=_bytes(token), owner=_bytes(owner), to=_bytes(to), amount=amount)
        return amount.to_bytes(32, "big")

    # -- the registry

    def _register(self, secrets: Sequence[bytes]) -> None:
        for secret in secrets:
            key = sha256(secret)
            slot = registry_key(LockKind.HASH, key)
            if key not in self.model.registered:
                self.state.slots[slot] = key
                self._log("SecretRegistered", key=slot, secret=secret)
        self.model.register([sha256(secret) for secret in secrets])

    def _registered_at(self, slot: bytes) -> bytes:
        return self.model.registered.get(self.state.slots.get(slot, b""), 0).to_bytes(32, "big")

    # -- questions

    def _channel(self, id_: bytes) -> bytes:
        channel = self.model.channels.get(id_.hex(), _OPEN)
        return b"".join(
            one.to_bytes(32, "big")
            for one in (
                channel.deposit_a,
                channel.deposit_b,
                channel.version,
                channel.deadline,
                flags_of(channel),
            )
        ) + record_of(channel)

    def _owed(self, token: str, owner: str) -> bytes:
        return self.model.owed.get((named(_bytes(token)), named(_bytes(owner))), 0).to_bytes(32, "big")

    def _registry(self) -> bytes:
        return bytes(12) + self.registry

    def _closings(self) -> bytes:
        return self.model.closings.to_bytes(32, "big")

    def __getattr__(self, name: str) -> Any:
        raise Refusal(f"{name[1:]} is not modelled")

    # -- a plain token

    def _token(self, token: Address, name: str, arguments: Sequence[Any]) -> bytes:
        kind = named(token)
        match name:
            case "balanceOf":
                return self.model.balance(kind, named(_bytes(arguments[0]))).to_bytes(32, "big")
            case "allowance":
                given = self.state.allowances.get((kind, named(_bytes(arguments[0]))), 0)
                return (given if _bytes(arguments[1]) == self.domain.manager else 0).to_bytes(32, "big")
            case "approve":
                refuse_unless(_bytes(arguments[0]) == self.domain.manager, "only the manager is approved here")
                self.state.allowances[kind, self.sender] = arguments[1]
            case "transfer":
                refuse_unless(self.model.balance(kind, self.sender) >= arguments[1], "balance")
                self.model.move(kind, self.sender, named(_bytes(arguments[0])), arguments[1])
            case _:
                raise Refusal(f"{name} is not modelled")
        return (1).to_bytes(32, "big")


def _bytes(address: str) -> Address:
    """Of an address as the codec or the model has it."""
    return NATIVE if address == COIN else Address(bytes.fromhex(address[2:]))


def _address(name: str) -> str:
    return "0x" + _bytes(name).hex()


def _bond(address: str) -> str:
    who = _bytes(address)
    return NOBODY if who == NATIVE else named(who)
