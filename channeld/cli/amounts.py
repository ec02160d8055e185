"""Amounts as people write them, exactly: `1.5usdc`, `20gwei`; digits are moved as text, there is no float."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from channeld.base.errors import Refused
from channeld.base.units import MAX_AMOUNT

COIN: Final = {"eth": 18, "native": 18, "gwei": 9, "wei": 0}
"""Units of the chain's own coin, with their decimals."""
_ZERO: Final = "0x" + "0" * 40
_FORM: Final = re.compile(r"([0-9][0-9_]*)(?:\.([0-9]+))?\s*([A-Za-z][A-Za-z0-9.]*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount of a token: `units` in base units; `token` as the API takes it."""

    units: int
    token: str


def parse(text: str, tokens: Iterable[Mapping[str, Any]], *, raw: bool = False, token: str | None = None) -> Money:
    """The amount in `text`.

    Args:
        text: digits and a unit, such as `1.5usdc`, `0.1eth`, `20gwei`; with `raw`, base units and no unit.
        tokens: symbol, token and decimals of each known, as `get_info` lists them.
        token: the token where `raw`; `native` if None. Without `raw` it must agree with the unit.

    Raises:
        Refused: `usage`, or `unknown_token`.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise Refused(
            "usage", f"{text!r:.60} is no amount", "write it like 1.5usdc or 0.01eth; base units: --raw 1500000"
        )
    whole, part, unit = found[1].replace("_", ""), found[2] or "", found[3]
    if raw:
        if part or unit:
            raise Refused(
                "usage", f"{text!r:.60}: base units are whole and have no unit", "like --raw 1500000 --token usdc"
            )
        return _bounded(whole, token or "native", text)
    if unit is None:
        if not whole.strip("0") and not part and token:
            return Money(units=0, token=token)
        raise Refused("usage", f"{text!r:.60} has no unit", "write it like 1.5usdc or 0.01eth; base units: --raw")
    name, decimals = _unit(unit, tokens)
    if token is not None and token.lower() != name.lower() and not (name == "native" and token.lower() in COIN):
        raise Refused("usage", f"{text!r:.60} is not in {token}", "one command deals in one token")
    part = part.rstrip("0")
    if len(part) > decimals:
        raise Refused("usage", f"{text!r:.60} is finer than {unit} can be divided", f"at most {decimals} decimals")
    return _bounded(whole + part.ljust(decimals, "0"), name, text)


def _bounded(digits: str, token: str, text: str) -> Money:
    digits = digits.lstrip("0") or "0"
    units = int(digits) if len(digits) <= len(str(MAX_AMOUNT)) else MAX_AMOUNT + 1
    if units > MAX_AMOUNT:
        raise Refused("usage", f"{text!r:.60} is more than a channel can hold", f"at most {MAX_AMOUNT} base units")
    return Money(units=units, token=token)


def _unit(unit: str, tokens: Iterable[Mapping[str, Any]]) -> tuple[str, int]:
    known = list(tokens)
    for one in known:
        if one["symbol"].lower() == unit.lower() and one["token"] != _ZERO:
            return one["symbol"], one["decimals"]
    if unit.lower() in COIN:
        return "native", COIN[unit.lower()]
    names = ", ".join([*COIN, *(one["symbol"] for one in known if one["token"] != _ZERO)])
    raise Refused("unknown_token", f"no token {unit!r:.40} is known on this network", f"known: {names}")


def address(token: str, tokens: Iterable[Mapping[str, Any]]) -> str:
    """The address that a token of the API's stands for; the coin's is all zeros."""
    if token == "native":
        return _ZERO
    return next((one["token"] for one in tokens if one["symbol"].lower() == token.lower()), token.lower())


def shown(units: str | int | None, token: str, tokens: Iterable[Mapping[str, Any]]) -> str:
    """Base units for people: `1.5 USDC`; in full, never rounded."""
    if units is None:
        return ""
    for one in tokens:
        if one["token"] == token and token != _ZERO:
            return f"{decimal(int(units), one['decimals'])} {one['symbol']}"
    if token == _ZERO:
        return f"{decimal(int(units), 18)} eth"
    return f"{int(units)} of {token}"


def decimal(units: int, decimals: int) -> str:
    """`units` with the point moved `decimals` places, without idle zeros."""
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(decimals + 1, "0")
    whole, part = (digits[:-decimals], digits[-decimals:].rstrip("0")) if decimals else (digits, "")
    return sign + whole + (f".{part}" if part else "")
