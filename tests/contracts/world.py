"""A chain with the contracts on it, and channels to play with: what every test in this folder stands on.

The chain is bare py-evm (`tests.contracts.evm`); calls are encoded from the committed ABI. Every digest, id and body
hash a channel here uses comes from `channeld.base.digests`, so whatever the contract accepts proves that both sides
compute the same. Roles: `payer` is side A (the opener), `payee` side B; `anyone` is no party to anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from eth_abi.abi import decode, encode

from channeld.base.digests import (
    ALL,
    Domain,
    Lock,
    Terms,
    body_hash,
    channel_id,
    close_digest,
    cooperate_digest,
    delegation_digest,
    locks_hash,
    pack_locks,
    registry_key,
    salt_commitment,
    state_digest,
)
from channeld.base.keys import Key, compact, keccak, sha256
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
from contracts.deploy import manager_code, registry_code, token_code
from tests.contracts.evm import Evm, Result

MIN_PERIOD: Final = Seconds(60)
PERIOD: Final = Seconds(3600)
BOND: Final = 10**15
ETHER: Final = 10**18
GAS: Final = 30_000_000
CHAIN_ID: Final = 31337
START: Final = 1_900_000_000
"""block.timestamp at the beginning."""

CLOSER_B, BEATEN, DELEGATED, VOID, FINAL, DEAD = 1, 2, 4, 8, 16, 32


def key_of(role: str) -> Key:
    """The key of a role; the same in every run."""
    return Key(keccak(b"role " + role.encode()))


class Reverted(Exception):
    """A transaction that failed, with the contract's reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A decoded log entry; a channel's word is given by its fields."""

    name: str
    source: Address
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a transaction did."""

    gas: int
    events: tuple[Event, ...]
    created: Address
    sender: Address
    timestamp: int
    output: bytes

    def event(self, name: str) -> dict[str, Any]:
        """The fields of the only event called `name`."""
        (found,) = (event for event in self.events if event.name == name)
        return found.fields

    def names(self) -> list[str]:
        return [event.name for event in self.events]


def _types(parameters: list[dict[str, Any]]) -> list[str]:
    return [
        "(" + ",".join(_types(one["components"])) + ")" + one["type"].removeprefix("tuple")
        if one["type"].startswith("tuple")
        else one["type"]
        for one in parameters
    ]


def words_of(memo: bytes) -> list[bytes]:
    """A memo of 192 bytes as the ABI wants it."""
    return [memo[at : at + 32] for at in range(0, 192, 32)]


WORD: Final = ("deposit_a", "deposit_b", "version", "deadline", "flags")


def unpacked(word: int) -> tuple[int, int, int, int, int]:
    """The fields of a storage word, in the order of `WORD`."""
    return word >> 168, word >> 80 & 2**88 - 1, word >> 40 & 2**40 - 1, word >> 8 & 2**32 - 1, word & 255


@cache
def _function(contract: str, name: str, arity: int) -> tuple[bytes, list[str], list[str]]:
    (entry,) = (
        entry
        for entry in artifact(contract).abi
        if entry["type"] == "function" and entry["name"] == name and len(entry["inputs"]) == arity
    )
    inputs = _types(entry["inputs"])
    return keccak(f"{name}({','.join(inputs)})".encode())[:4], inputs, _types(entry["outputs"])


@cache
def _events() -> dict[bytes, tuple[str, list[str], list[tuple[str, str]]]]:
    found = {}
    for contract in ("ChannelManager", "SecretRegistry"):
        for entry in artifact(contract).abi:
            if entry["type"] == "event":
                signature = f"{entry['name']}({','.join(_types(entry['inputs']))})"
                indexed = [one["name"] for one in entry["inputs"] if one["indexed"]]
                rest = [(one["name"], one["type"]) for one in entry["inputs"] if not one["indexed"]]
                found[keccak(signature.encode())] = (entry["name"], indexed, rest)
    return found


def _plain(value: Any, kind: str) -> Any:
    return bytes.fromhex(value[2:]) if kind == "address" else value


def _reason(output: bytes) -> str:
    if output[:4] == keccak(b"Error(string)")[:4]:
        return str(decode(["string"], output[4:])[0])
    return "no reason" if not output else output.hex()


def call_data(contract: str, name: str, *arguments: Any) -> bytes:
    """The bytes of a call, from the ABI."""
    selector, inputs, _ = _function(contract, name, len(arguments))
    return selector + encode(inputs, arguments)


class World:
    """One chain with a registry, a manager and two tokens, on an EVM of its own if none is given.

    Time only moves on.
    """

    def __init__(self, evm: Evm | None = None) -> None:
        self.evm = evm or Evm(timestamp=START, chain_id=CHAIN_ID)
        self.rich = key_of("rich").address
        self.evm.give(self.rich, 10**9 * ETHER)
        self.known = {self.rich}
        self.names: dict[Address, str] = {}
        self.registry = self.deploy("SecretRegistry", registry_code())
        self.manager = self.deploy("ChannelManager", manager_code(self.registry, MIN_PERIOD))
        self.token = self.deploy("TestToken", token_code())
        self.nasty = self.deploy("NastyToken", artifact("NastyToken").bytecode)
        self.domain = Domain(chain_id=CHAIN_ID, manager=self.manager)
        self.count = 0

    # -- the chain

    @property
    def now(self) -> int:
        """block.timestamp of the last transaction; the next one comes a second later."""
        return self.evm.timestamp

    def travel(self, timestamp: int) -> None:
        """Let time pass until `timestamp`, if that is not over."""
        self.evm.timestamp = max(self.evm.timestamp, timestamp)

    def deploy(self, name: str, code: bytes) -> Address:
        created = self.send(self.rich, None, code).created
        self.names[created] = name
        return created

    def plant(self, runtime: bytes) -> Address:
        """A contract of which only these bytes of code matter."""
        copy = bytes.fromhex(f"61{len(runtime):04x}80600a5f395ff3")
        return self.send(self.rich, None, copy + runtime).created

    def fund(self, key: Key) -> Address:
        """Make `key` an account that can send, with coin and both tokens and an allowance for the manager."""
        if key.address not in self.known:
            self.known.add(key.address)
            self.evm.give(key.address, 10**9 * ETHER)
            for token in (self.token, self.nasty):
                self.do(self.rich, token, "mint", key.address, 10**24)
            self.do(key.address, self.token, "approve", self.manager, 2**256 - 1)
        return key.address

    def send(self, sender: Address, to: Address | None, data: bytes, value: int = 0, gas: int = GAS) -> Receipt:
        """Mine one transaction; Reverted with the reason if it fails."""
        done = self.evm.send(sender, to, data, value, gas)
        if not done.good:
            raise Reverted(_reason(done.output))
        return Receipt(
            gas=done.gas,
            events=tuple(self._decoded(done)),
            created=done.created,
            sender=sender,
            timestamp=self.now,
            output=done.output,
        )

    def _decoded(self, done: Result) -> Iterator[Event]:
        for source, topics, data in done.logs:
            if self.names.get(source) not in ("ChannelManager", "SecretRegistry"):
                continue
            name, indexed, rest = _events()[topics[0]]
            values = decode([kind for _, kind in rest], data)
            fields = {field: _plain(value, kind) for (field, kind), value in zip(rest, values, strict=True)}
            if name == "Memo":
                fields["memo"] = b"".join(fields["memo"])
            if "word" in fields:
                fields |= zip(WORD, unpacked(fields.pop("word")), strict=True)
            yield Event(name=name, source=source, fields=fields | dict(zip(indexed, topics[1:], strict=True)))

    def do(self, sender: Address, to: Address, name: str, *arguments: Any, value: int = 0, gas: int = GAS) -> Receipt:
        """Send the call `name` to one of our contracts."""
        return self.send(sender, to, call_data(self.names[to], name, *arguments), value, gas)

    def ask(self, to: Address, name: str, *arguments: Any) -> Any:
        """The result of a view: one value, or a tuple of them."""
        _, _, outputs = _function(self.names[to], name, len(arguments))
        done = self.evm.ask(to, call_data(self.names[to], name, *arguments))
        if not done.good:
            raise Reverted(_reason(done.output))
        values = [_plain(value, kind) for value, kind in zip(decode(outputs, done.output), outputs, strict=True)]
        return values[0] if len(values) == 1 else tuple(values)

    # -- money

    def balance(self, token: Address, who: Address) -> int:
        if token == NATIVE:
            return self.evm.balance(who)
        return int(self.ask(token, "balanceOf", who))

    def owed(self, token: Address, who: Address) -> int:
        return int(self.ask(self.manager, "owed", token, who))

    def reveal(self, *secrets: bytes) -> Receipt:
        return self.do(self.rich, self.registry, "register", list(secrets))

    # -- channels

    def channel(self, token: Address = NATIVE, **changes: Any) -> Channel:
        """A new channel between `payer` (A) and `payee` (B), nothing deposited yet."""
        self.count += 1
        payer, payee = key_of("payer"), key_of("payee")
        for key in (payer, payee, key_of("anyone")):
            self.fund(key)
        salt_a, salt_b = keccak(b"salt a" + bytes([self.count % 256])), keccak(b"salt b" + bytes([self.count % 256]))
        terms = Terms(
            participant_a=payer.address,
            participant_b=payee.address,
            payout_a=Address(keccak(b"payout a %d" % self.count)[:20]),
            payout_b=Address(keccak(b"payout b %d" % self.count)[:20]),
            challenge_period=PERIOD,
            salt_commitment=salt_commitment(keccak(salt_a), keccak(salt_b)),
            close_bond=BOND,
            nonce=self.count,
        )
        return Channel(
            world=self,
            token=token,
            terms=replace(terms, **changes),
            keys=(payer, payee),
            salts=(salt_a, salt_b),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a state says. `locked_*` default to the sums of the locks."""

    net: int = 0
    locks: tuple[Lock, ...] = ()
    locked: tuple[int, int] | None = None
    blind: bytes = bytes(31) + b"\x01"

    def held(self) -> tuple[int, int]:
        if self.locked is not None:
            return self.locked
        by_side = [sum(lock.amount for lock in self.locks if lock.sender is side) for side in Side]
        return by_side[0], by_side[1]

    @property
    def locks_hash(self) -> Digest:
        return locks_hash(self.locks)

    @property
    def hash(self) -> Digest:
        return body_hash(self.net, *self.held(), self.locks_hash, self.blind)

    def opened(self) -> tuple[int, int, int, bytes, bytes]:
        """The struct that `settle` takes."""
        return (self.net, *self.held(), self.locks_hash, self.blind)


NO_STATE: Final = (0, 0, 0, bytes(32), bytes(32))
"""How settle opens a close without a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel and all its secrets: builds and sends what the tests want, valid unless told otherwise."""

    world: World
    token: Address
    terms: Terms
    keys: tuple[Key, Key]
    salts: tuple[bytes, bytes]
    tower: Key = field(default_factory=lambda: key_of("tower"))

    @property
    def id(self) -> ChannelId:
        return channel_id(self.world.domain, self.token, self.terms.hash)

    @property
    def head(self) -> tuple[Address, tuple[Any, ...]]:
        """Token and terms, as most calls begin."""
        one = self.terms
        return self.token, (
            one.participant_a,
            one.participant_b,
            one.payout_a,
            one.payout_b,
            one.challenge_period,
            one.salt_commitment,
            one.close_bond,
            one.nonce,
        )

    def do(self, sender: Address, name: str, *arguments: Any, value: int = 0, gas: int = GAS) -> Receipt:
        """Send a call to the manager."""
        return self.world.do(sender, self.world.manager, name, *arguments, value=value, gas=gas)

    def would(self, sender: Address, name: str, *arguments: Any, value: int = 0) -> str:
        """The reason for which a call to the manager would fail now, "" if it would not. Nothing is carried out."""
        data = call_data("ChannelManager", name, *arguments)
        done = self.world.evm.ask(self.world.manager, data, sender, value=value)
        return "" if done.good else _reason(done.output)

    def stored(self) -> tuple[int, int, int, int, int, bytes]:
        """deposit_a, deposit_b, version, deadline, flags, record."""
        found: tuple[int, int, int, int, int, bytes] = self.world.ask(self.world.manager, "channel", self.id)
        return found

    def paid(self, side: Side) -> int:
        """What the side's payout address holds of the channel's token."""
        return self.world.balance(self.token, self.terms.payout(side))

    # -- signatures

    def sign(self, version: int, body: bytes) -> tuple[bytes, bytes]:
        digest = state_digest(self.world.domain, self.id, Version(version), Digest(body))
        return self.keys[0].sign(digest), self.keys[1].sign(digest)

    def agree(self, version: int, net: int, out_a: int, out_b: int, valid_until: int) -> tuple[bytes, bytes]:
        digest = cooperate_digest(
            self.world.domain, self.id, Version(version), net, out_a, out_b, Timestamp(valid_until)
        )
        return self.keys[0].sign(digest), self.keys[1].sign(digest)

    def delegate(self, victim: Side, version: int, payout: Address, delay: int) -> bytes:
        digest = delegation_digest(self.world.domain, self.id, Version(version), payout, Seconds(delay))
        return self.keys[victim].sign(digest)

    # -- calls

    def deposit(self, side: Side, amount: int, memo: bytes | None = None) -> Receipt:
        sender = self.keys[side].address
        value = amount if self.token == NATIVE else 0
        rest = () if memo is None else (words_of(memo),)
        return self.do(sender, "deposit", self.token, self.terms.hash, int(side), amount, *rest, value=value)

    def funded(self, a: int = 10 * ETHER, b: int = 4 * ETHER) -> Channel:
        """Itself, with deposits."""
        for side, amount in ((Side.A, a), (Side.B, b)):
            if amount:
                self.deposit(side, amount)
        return self

    def cooperate(
        self,
        version: int,
        net: int = 0,
        out_a: int = ALL,
        out_b: int = ALL,
        valid_until: int = 2**63,
        sender: Address | None = None,
    ) -> Receipt:
        """By both signatures if `sender` is no party, else with the sender's left out."""
        sender = self.world.rich if sender is None else sender
        signed = self.agree(version, net, out_a, out_b, valid_until)
        given = [compact(one) for key, one in zip(self.keys, signed, strict=True) if key.address != sender]
        return self.do(sender, "cooperate", *self.head, version, net, out_a, out_b, valid_until, *given)

    def order(self, side: Side, version: int, body: bytes, valid_until: int) -> tuple[int, tuple[bytes, bytes]]:
        """The signed Close of `side`, for somebody else to send."""
        digest = close_digest(self.world.domain, self.id, Version(version), Digest(body), Timestamp(valid_until))
        return valid_until, compact(self.keys[side].sign(digest))

    def close(self, side: Side, version: int = 0, body: Body | None = None, **changes: Any) -> Receipt:
        """By the state given, or without one. `changes`: sender, value, signature, salt, own_hash, order."""
        state = bytes(32) if body is None else body.hash
        signature = b"" if body is None else self.sign(version, state)[side.other]
        return self.do(
            changes.get("sender", self.keys[side].address),
            "close",
            *self.head,
            version,
            state,
            compact(changes.get("signature", signature)),
            changes.get("salt", self.salts[side.other]),
            changes.get("own_hash", keccak(self.salts[side])),
            *((changes["order"],) if "order" in changes else ()),
            value=changes.get("value", self.terms.close_bond),
        )

    def evidence(self, version: int, body: Body, **changes: Any) -> tuple[Any, ...]:
        """The struct that `challenge` takes, with both signatures. `changes`: signatures, payout, delay, delegation."""
        signatures = changes.get("signatures", self.sign(version, body.hash))
        return (
            *self.head,
            version,
            body.hash,
            *map(compact, signatures),
            changes.get("payout", NATIVE),
            changes.get("delay", 0),
            compact(changes.get("delegation", b"")),
        )

    def challenge(self, version: int, body: Body, sender: Address | None = None, **changes: Any) -> Receipt:
        """With both signatures. `changes` as in `evidence`."""
        given = self.evidence(version, body, **changes)
        return self.do(self.world.rich if sender is None else sender, "challenge", given)

    def delegated(self, victim: Side, version: int, body: Body, delay: int = 0) -> tuple[Any, ...]:
        """`evidence` with the victim's delegation to the tower's address."""
        delegation = self.delegate(victim, version, self.tower.address, delay)
        return self.evidence(version, body, payout=self.tower.address, delay=delay, delegation=delegation)

    def tower_challenge(self, victim: Side, version: int, body: Body, delay: int = 0) -> Receipt:
        """As a tower with the victim's delegation does it; the bond is to go to the tower's address."""
        return self.do(self.world.rich, "challenge", self.delegated(victim, version, body, delay))

    def wait(self, over: int = 1) -> None:
        """Until the deadline is `over` seconds past."""
        self.world.travel(self.stored()[3] + over)

    def finalize(self, body: Body | None, bond_to: Address = NATIVE) -> Receipt:
        return self.do(self.world.rich, "finalize", *self.head, bytes(32) if body is None else body.hash, bond_to)

    def settle(
        self, body: Body | None, bond_to: Address = NATIVE, gas: int = GAS, sender: Address | None = None
    ) -> Receipt:
        opened = NO_STATE if body is None else body.opened()
        return self.do(self.world.rich if sender is None else sender, "settle", *self.head, opened, bond_to, gas=gas)

    def resolve(self, locks: tuple[Lock, ...], *secrets: bytes, gas: int = GAS) -> Receipt:
        return self.do(self.world.rich, "resolve_locks", *self.head, pack_locks(locks), list(secrets), gas=gas)

    def settle_and_resolve(
        self, body: Body | None, *secrets: bytes, bond_to: Address = NATIVE, locks: tuple[Lock, ...] | None = None
    ) -> Receipt:
        """Both at once, by the locks of the body unless others are given."""
        opened = NO_STATE if body is None else body.opened()
        given = (body.locks if body else ()) if locks is None else locks
        packed = pack_locks(given)
        return self.do(self.world.rich, "resolve_locks", *self.head, packed, list(secrets), (opened, bond_to))


def secret_of(number: int) -> bytes:
    return keccak(b"secret %d" % number)


def lock(number: int, sender: Side, amount: int, expiry: int, secret: bytes | None = None) -> Lock:
    """A hash-lock, opened by `secret_of(number)` unless told otherwise."""
    return Lock(
        id=LockId(number),
        sender=sender,
        kind=LockKind.HASH,
        amount=Amount(amount),
        key=LockKey(sha256(secret_of(number) if secret is None else secret)),
        expiry=Timestamp(expiry),
    )


def key_in_registry(secret: bytes) -> bytes:
    return registry_key(LockKind.HASH, sha256(secret))
