"""What is known of each chain: id, finality, time allowances, fees, tokens, contracts.

Profiles ship in `networks.toml`; `network("base", overrides)` is one of them with a user's values over it, checked as
a whole, so that a typing error stops the daemon at its start and not in a dispute.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any, Final

from channeld.base.errors import Refused
from channeld.base.units import MAX_AMOUNT, NATIVE, Address, Seconds

CODE: Final = "bad_network"
MAX_PERIOD: Final = 30 * 86_400
"""The contract's upper bound of a challenge period, seconds."""
RESOLVING_GAS: Final = 52_000
"""A registration by itself, and a lock's share of `resolveLocks`: tests/contracts/gas.json, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finality:
    """How to tell which blocks stay: by the node's tags, or by depth in blocks."""

    tags: bool = True
    safe_depth: int = 1
    final_depth: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """What transactions may cost, wei per gas, and when to pay more."""

    min_tip: int = 1_000_000
    max_fee: int = 500_000_000_000
    """Never offer more than this per gas, base fee included."""
    usual: int = 0
    """Of an ordinary day: what a lock must be worth is reckoned with it. 0: gas costs nothing worth counting."""
    replace_after: Seconds = Seconds(30)
    """Raise the fee of a transaction that is not mined after so many seconds of chain time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An ERC-20 by the name users write."""

    symbol: str
    address: Address
    decimals: int
    resolving: int = 0
    """What resolving one lock costs in this token, base units, rounded; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One chain's profile. Times in seconds; see `networks.toml` for what each is."""

    id: str
    name: str
    chain_id: int
    challenge_period: Seconds
    min_challenge_period: Seconds = Seconds(3_600)
    delta_inclusion: Seconds
    forward_delta: Seconds
    final_delta: Seconds
    clock_skew: Seconds
    confirmations: int
    max_head_age: Seconds
    poll: float
    close_bond: int
    """Wei that a closer posts, sized to one challenge."""
    finality: Finality = field(default_factory=Finality)
    fees: Fees = field(default_factory=Fees)
    tokens: tuple[Token, ...] = ()
    manager: Address | None = None
    registry: Address | None = None
    rpc: str | None = None

    def resolving(self, token: Address) -> int:
        """Base units of `token` that resolving one lock on chain costs on an ordinary day; 0: not known."""
        if token == NATIVE:
            return min(RESOLVING_GAS * self.fees.usual, MAX_AMOUNT)
        return next((known.resolving for known in self.tokens if known.address == token), 0)

    def token(self, text: str) -> Address:
        """The token named by symbol or 0x-address; "native" is the chain's coin. Refused `unknown_token`."""
        if text.lower() in ("native", "eth"):
            return NATIVE
        for token in self.tokens:
            if token.symbol.lower() == text.lower():
                return token.address
        try:
            return _address(text, "token")
        except Refused:
            known = ", ".join(["native", *(token.symbol for token in self.tokens)])
            raise Refused("unknown_token", f"no token {text!r} on {self.name}", f"known: {known}; or 0x…") from None


@cache
def shipped() -> Mapping[str, Mapping[str, Any]]:
    """The profiles as the file has them."""
    return tomllib.loads(files("channeld.chain").joinpath("networks.toml").read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    return tuple(shipped())


def network(name: str, overrides: Mapping[str, Any] | None = None) -> Network:
    """The profile `name` with `overrides` (same keys; tables are merged) over it.

    Raises:
        Refused: `bad_network`, saying which value is wrong and what it may be.
    """
    base = shipped().get(name)
    if base is None and not (overrides and "chain_id" in overrides):
        raise Refused(CODE, f"no network {name!r} is known", "known: " + ", ".join(names()))
    values = _merge(base or {}, overrides or {})
    known = {one.name for one in fields(Network)} - {"id"}
    for key in values:
        if key not in known:
            raise Refused(CODE, f"{name}: unknown setting {key!r}", "known: " + ", ".join(sorted(known)))
    built = _build(name, values)
    _check(built)
    return built


def by_chain_id(chain_id: int) -> Network | None:
    """The shipped profile with that id."""
    for name, values in shipped().items():
        if values["chain_id"] == chain_id:
            return network(name)
    return None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _build(name: str, values: dict[str, Any]) -> Network:
    values = dict(values)
    finality, fees = (_table(name, values, key) for key in ("finality", "fees"))
    tokens = _table(name, values, "tokens")
    manager, registry = (
        None if text is None else _address(text, f"{name}: {key}")
        for key, text in ((key, values.pop(key, None)) for key in ("manager", "registry"))
    )
    values.setdefault("name", name)
    poll, rpc = values.pop("poll", None), values.pop("rpc", None)
    if isinstance(poll, bool) or not isinstance(poll, int | float):
        raise Refused(CODE, f"{name}: poll is {poll!r}", "seconds, for example 2 or 0.25")
    if rpc is not None and not (isinstance(rpc, str) and rpc.startswith(("http://", "https://"))):
        raise Refused(CODE, f"{name}: rpc is {rpc!r}", "an address that begins with http:// or https://")
    title = values.pop("name")
    missing = {one.name for one in fields(Network) if one.type in ("Seconds", "int")} - set(values)
    missing -= {"min_challenge_period"}
    if missing:
        raise Refused(CODE, f"{name}: {min(missing)} is missing", "a network of your own needs every time and depth")
    try:
        return Network(
            id=name,
            name=str(title),
            poll=float(poll),
            rpc=rpc,
            finality=Finality(**_numbers(name, finality)),
            fees=Fees(**_numbers(name, fees)),
            tokens=tuple(_token(name, symbol, value) for symbol, value in tokens.items()),
            manager=manager,
            registry=registry,
            **_numbers(name, values),
        )
    except TypeError as fault:
        raise Refused(CODE, f"{name}: {fault!s:.120}", "see networks.toml for every setting") from None


def _table(name: str, values: dict[str, Any], key: str) -> Mapping[str, Any]:
    table = values.pop(key, {})
    if not isinstance(table, Mapping):
        raise Refused(CODE, f"{name}: {key} is {table!r}", "a table")
    return table


def _numbers(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if key == "tags":
            if not isinstance(value, bool):
                raise Refused(CODE, f"{name}: {key} is {value!r}", "true or false")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise Refused(CODE, f"{name}: {key} is {value!r}", "a whole number, not below 0")
    return dict(values)


def _token(name: str, symbol: str, value: Any) -> Token:
    decimals = value.get("decimals") if isinstance(value, Mapping) else None
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= 36:
        raise Refused(
            CODE, f"{name}: token {symbol} needs address and decimals", 'like { address = "0x…", decimals = 6 }'
        )
    resolving = value.get("resolving", 0)
    if isinstance(resolving, bool) or not isinstance(resolving, int) or not 0 <= resolving <= MAX_AMOUNT:
        raise Refused(CODE, f"{name}: token {symbol}: resolving is {resolving!r:.60}", "base units, 0 if not known")
    return Token(
        symbol=symbol,
        address=_address(value.get("address"), f"{name}: token {symbol}"),
        decimals=decimals,
        resolving=resolving,
    )


def _address(value: Any, what: str) -> Address:
    hint = "an address is 0x and 40 hexadecimal digits"
    if not isinstance(value, str) or not value.startswith("0x") or len(value) != 42:
        raise Refused(CODE, f"{what}: {value!r:.60} is no address", hint)
    try:
        return Address(bytes.fromhex(value[2:]))
    except ValueError:
        raise Refused(CODE, f"{what}: {value!r:.60} is no address", hint) from None


def _check(made: Network) -> None:
    """The laws between values; the first one broken is told."""
    period, least = made.challenge_period, made.min_challenge_period
    inclusion, depths = made.delta_inclusion, made.finality
    laws = (
        (0 < made.chain_id < 2**63, "chain_id must be above 0"),
        (0 < least <= period <= MAX_PERIOD, "0 < min_challenge_period <= challenge_period <= 30 days"),
        (inclusion > 0, "delta_inclusion must be above 0"),
        (3 * inclusion <= period, "challenge_period must be three times delta_inclusion at least"),
        (made.clock_skew < made.forward_delta, "forward_delta must be above clock_skew"),
        (inclusion + made.clock_skew < made.final_delta, "final_delta must be above delta_inclusion + clock_skew"),
        (1 <= made.confirmations <= 10_000, "confirmations must be 1 to 10000"),
        (made.max_head_age > 0, "max_head_age must be above 0"),
        (0.01 <= made.poll <= 3_600, "poll must be 0.01 to 3600 seconds"),
        (made.fees.max_fee > 0 and made.fees.min_tip <= made.fees.max_fee, "fees: min_tip must not exceed max_fee"),
        (made.fees.usual <= made.fees.max_fee, "fees: usual must not exceed max_fee"),
        (made.fees.replace_after > 0, "fees: replace_after must be above 0"),
        (depths.safe_depth <= depths.final_depth, "finality: safe_depth must not exceed final_depth"),
        ((made.manager is None) == (made.registry is None), "manager and registry go together"),
    )
    for holds, text in laws:
        if not holds:
            raise Refused(CODE, f"{made.id}: {text}", "see networks.toml for what each setting means")
