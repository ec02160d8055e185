"""What a value in a request or an answer can be, said once.

A kind reads JSON into the value that the daemon works with (`read`: an amount becomes an int, hex becomes bytes),
writes it back (`write`), and describes itself as JSON Schema (`schema`) and as a Python type (`annotation`). From
these four follow the checks of a request, `rpc.discover`, the help of the command line and the typed client.
Everything a stranger can send is bounded here; what does not fit is `Malformed`, with the place in the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from channeld.base.errors import Malformed
from channeld.base.units import MAX_AMOUNT

Json: TypeAlias = dict[str, Any]
"""An object of JSON, as `json.loads` gives it."""


class Kind(Protocol):
    """One kind of value."""

    @property
    def annotation(self) -> str:
        """The Python type, as source, of what `write` gives: what travels."""

    @property
    def accepts(self) -> str:
        """The Python type, as source, of what a caller of the client may hand in."""

    def read(self, value: Any, where: str) -> Any:
        """The daemon's value for what arrived as JSON; Malformed, naming `where`, if it is none."""

    def write(self, value: Any) -> Any:
        """JSON for a value of ours."""

    def schema(self) -> Json:
        """JSON Schema, draft 7."""


class _Plain:
    """A kind that travels as it is."""

    def write(self, value: Any) -> Any:
        return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(_Plain):
    """Printable text of `least` to `most` characters, matching `pattern` in full if there is one."""

    most: int = 256
    least: int = 1
    pattern: str = ""
    says: str = ""

    annotation = "str"
    accepts = "str"

    def read(self, value: Any, where: str) -> str:
        if not isinstance(value, str):
            raise Malformed(f"{where} must be a string, not {_shown(value)}")
        if not self.least <= len(value) <= self.most:
            raise Malformed(f"{where} must have {self.least} to {self.most} characters, not {len(value)}")
        if not value.isprintable():
            raise Malformed(f"{where} contains characters that cannot be printed")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise Malformed(f"{where} must be {self.says or 'of the form ' + self.pattern}, not {_shown(value)}")
        return value

    def schema(self) -> Json:
        said: Json = {"type": "string", "minLength": self.least, "maxLength": self.most}
        return said | ({"pattern": f"^{self.pattern}$"} if self.pattern else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(_Plain):
    """An integer from `least` to `most`."""

    least: int = 0
    most: int = 2**53 - 1

    annotation = "int"
    accepts = "int"

    def read(self, value: Any, where: str) -> int:
        if type(value) is not int:  # a bool is an int to isinstance
            raise Malformed(f"{where} must be a whole number, not {_shown(value)}")
        if not self.least <= value <= self.most:
            raise Malformed(f"{where} must be from {self.least} to {self.most}, not {_shown(value)}")
        return value

    def schema(self) -> Json:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(_Plain):
    """true or false."""

    annotation = "bool"
    accepts = "bool"

    def read(self, value: Any, where: str) -> bool:
        if type(value) is not bool:
            raise Malformed(f"{where} must be true or false, not {_shown(value)}")
        return value

    def schema(self) -> Json:
        return {"type": "boolean"}


_DIGITS: Final = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_MOST_DIGITS: Final = len(str(MAX_AMOUNT))


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """An amount in base units of its token: a decimal string in JSON, an int in Python, never a float."""

    least: int = 0
    most: int = MAX_AMOUNT

    annotation = "str"
    accepts = "int | str"

    def read(self, value: Any, where: str) -> int:
        if not isinstance(value, str) or not _DIGITS.fullmatch(value):
            raise Malformed(f'{where} must be a decimal string of base units such as "1500000", not {_shown(value)}')
        amount = int(value) if len(value) <= _MOST_DIGITS else MAX_AMOUNT + 1
        if not self.least <= amount <= self.most:
            raise Malformed(f"{where} must be from {self.least} to {self.most} base units, not {_shown(value)}")
        return amount

    def write(self, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    def schema(self) -> Json:
        return {"type": "string", "pattern": "^(0|[1-9][0-9]*)$", "description": "base units, as a decimal string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hex:
    """Bytes as 0x and lower-case hex: of one length out of `lengths`."""

    lengths: tuple[int, ...] = (32,)

    annotation = "str"
    accepts = "bytes | str"

    def read(self, value: Any, where: str) -> bytes:
        try:
            found = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else b""
        except ValueError:
            found = b""
        if len(found) not in self.lengths or len(value) > 2 * len(found) + 2:
            sizes = " or ".join(str(length) for length in self.lengths)
            raise Malformed(f"{where} must be {sizes} bytes in hex, not {_shown(value)}")
        return found

    def write(self, value: Any) -> Any:
        return "0x" + bytes(value).hex() if isinstance(value, bytes | bytearray) else value

    def schema(self) -> Json:
        sizes = "|".join(f"[0-9a-fA-F]{{{2 * length}}}" for length in self.lengths)
        return {"type": "string", "pattern": f"^(0x)?({sizes})$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(_Plain):
    """One of a few words."""

    words: tuple[str, ...]

    accepts = "str"

    @property
    def annotation(self) -> str:
        return f"Literal[{', '.join(map(repr, self.words))}]".replace("'", '"')

    def read(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise Malformed(f"{where} must be one of {', '.join(self.words)}, not {_shown(value)}")
        return value

    def schema(self) -> Json:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """A list of up to `most` values of one kind."""

    of: Kind
    most: int = 1_000
    least: int = 0

    @property
    def annotation(self) -> str:
        return f"list[{self.of.annotation}]"

    @property
    def accepts(self) -> str:
        return f"Sequence[{self.of.accepts}]"

    def read(self, value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise Malformed(f"{where} must be a list of {self.least} to {self.most}, not {_shown(value)}")
        read = self.of.read
        return [read(item, f"{where}[{place}]") for place, item in enumerate(value)]

    def write(self, value: Any) -> Any:
        return [self.of.write(item) for item in value]

    def schema(self) -> Json:
        return {"type": "array", "items": self.of.schema(), "minItems": self.least, "maxItems": self.most}


@dataclass(frozen=True, slots=True, kw_only=True)
class Maybe:
    """A value or null."""

    of: Kind

    @property
    def annotation(self) -> str:
        return f"{self.of.annotation} | None"

    @property
    def accepts(self) -> str:
        return f"{self.of.accepts} | None"

    def read(self, value: Any, where: str) -> Any:
        return None if value is None else self.of.read(value, where)

    def write(self, value: Any) -> Any:
        return None if value is None else self.of.write(value)

    def schema(self) -> Json:
        return {"anyOf": [self.of.schema(), {"type": "null"}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything(_Plain):
    """Any JSON: only in answers."""

    annotation = "dict[str, Any]"
    accepts = "dict[str, Any]"

    def read(self, value: Any, where: str) -> Any:
        return value

    def schema(self) -> Json:
        return {}


REQUIRED: Final = object()
"""The default of a field that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A named value in a record or among a method's parameters; `help` is one line, with the unit."""

    name: str
    kind: Kind
    help: str = ""
    default: Any = REQUIRED
    """In the daemon's form, not JSON's; REQUIRED if the field must be there."""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    def schema(self) -> Json:
        said = self.kind.schema()
        if self.help:
            said["description"] = self.help
        if not self.required and self.default is not None:
            said["default"] = self.kind.write(self.default)
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An object with these fields and no others. `name` is that of its type in the client."""

    name: str
    fields: tuple[Field, ...]
    help: str = ""

    @property
    def annotation(self) -> str:
        return self.name

    @property
    def accepts(self) -> str:
        return "Mapping[str, Any]"

    def read(self, value: Any, where: str) -> Json:
        if not isinstance(value, dict):
            raise Malformed(f"{where} must be an object, not {_shown(value)}")
        found = {}
        used = 0
        for field in self.fields:
            if field.name in value:
                used += 1
                found[field.name] = field.kind.read(value[field.name], f"{where}.{field.name}" if where else field.name)
            elif field.default is REQUIRED:
                raise Malformed(f"{where + '.' if where else ''}{field.name} is missing")
            else:
                found[field.name] = field.default
        if used != len(value):
            known = {field.name for field in self.fields}
            extra = next(name for name in value if name not in known)
            raise Malformed(
                f"{where + ': ' if where else ''}unknown {_shown(extra)}; known: {', '.join(sorted(known)) or 'none'}"
            )
        return found

    def write(self, value: Mapping[str, Any]) -> Json:
        kinds = {field.name: field.kind for field in self.fields}
        return {name: kinds[name].write(item) if name in kinds else item for name, item in value.items()}

    def schema(self) -> Json:
        return {
            "title": self.name,
            "type": "object",
            "properties": {field.name: field.schema() for field in self.fields},
            "required": [field.name for field in self.fields if field.required],
            "additionalProperties": False,
        }
