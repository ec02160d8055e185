"""Settings as values: what each is called, what it may be, its default, its unit and why it is there.

A configuration is a frozen dataclass whose fields are made by `setting`; the command line reads file, environment and
flags by these descriptions, prints them in `config check` and writes them into the file that `init` makes. A reader
takes what TOML or the environment (text) gives and returns the daemon's value, or raises ValueError saying what the
value may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final

from channeld.base.units import MAX_AMOUNT, Address, Amount

Reader = Callable[[object], Any]

_KEY: Final = "setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting. `key` is its place in the file, `table.name`."""

    key: str
    read: Reader
    default: Any
    unit: str
    why: str

    @property
    def env(self) -> str:
        """Its name in the environment."""
        return "CHANNELD_" + self.key.replace(".", "_").upper()


def setting(key: str, read: Reader, default: Any, why: str, *, unit: str = "") -> Any:
    """A dataclass field that is a setting."""
    return field(default=default, metadata={_KEY: Setting(key=key, read=read, default=default, unit=unit, why=why)})


def settings_of(kind: Any) -> dict[str, Setting]:
    """The settings of a configuration's dataclass by the names of their fields."""
    return {one.name: one.metadata[_KEY] for one in fields(kind) if _KEY in one.metadata}


def whole(least: int, most: int) -> Reader:
    """An integer from `least` to `most`; text may group digits by underscores."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9][0-9_]{0,48}", value):
            value = int(value.replace("_", ""))
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return read


def amount(value: object) -> Amount:
    """Base units of a token."""
    return Amount(whole(0, MAX_AMOUNT)(value))


def flag(value: object) -> bool:
    """true or false."""
    found = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, str):
        value = found.get(value.lower())
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def text(most: int, pattern: str = r"[^\x00-\x1f\x7f]*", says: str = "printable text") -> Reader:
    """Text of at most `most` bytes in UTF-8 that matches `pattern` in full."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value.encode(errors="replace")) > most or not re.fullmatch(pattern, value):
            raise ValueError(f"must be {says} of at most {most} bytes")
        return value

    return read


def choice(*words: str) -> Reader:
    """One of `words`."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return value

    return read


def many(read_one: Reader, most: int = 16) -> Reader:
    """A list; in the environment, separated by commas."""

    def read(value: object) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple) or len(value) > most:
            raise ValueError(f"must be a list of at most {most}")
        return tuple(read_one(part) for part in value)

    return read


def maybe(read_one: Reader) -> Reader:
    """A value, or nothing where it is empty."""

    def read(value: object) -> Any:
        return None if value is None or value == "" else read_one(value)

    return read


def address(value: object) -> Address:
    """An EVM address as 0x and 40 hex digits."""
    if not isinstance(value, str) or not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        raise ValueError("must be an address: 0x and 40 hexadecimal digits")
    return Address(bytes.fromhex(value[2:]))


def endpoint(value: object) -> tuple[str, int]:
    """host:port, or [v6]:port; port 0 where a free one is to be chosen."""
    found = re.fullmatch(
        r"(\[[0-9a-fA-F:.]{2,45}\]|[^\s:\[\]/@]{1,253}):([0-9]{1,5})", value if isinstance(value, str) else ""
    )
    if found is None or int(found[2]) > 65_535:
        raise ValueError("must be host:port")
    return found[1].strip("[]"), int(found[2])


def endpoint_text(value: tuple[str, int]) -> str:
    """The text that `endpoint` reads back."""
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


url: Final = text(2_048, r"https?://[^\s]+", "an address that begins with http:// or https://")
node_uri: Final = text(200, r"(0x)?[0-9a-fA-F]{66}@[^\s@]+:[0-9]{1,5}", "node-id@host:port")


def shown(value: Any) -> str:
    """A setting's value for people."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        return endpoint_text(value)
    return ", ".join(map(shown, value)) if isinstance(value, tuple) else str(value)
