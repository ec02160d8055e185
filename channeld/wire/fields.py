"""Field codecs of the peer messages: how a value stands in a msgpack array, and within which limits.

A message class names for each field a codec in its annotation (`Annotated[Version, UINT40]`). `Layout` turns
these, once per class, into one function each way, generated as `dataclasses` generates `__init__`: reading a
message is on the path of every payment. What reads is exact (no bool for an int, no list that is too long),
so that with the canonical-form check of `Family.decode` each value has one encoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar, get_type_hints

import msgpack

from channeld.base.errors import Malformed
from channeld.base.pack import type_error
from channeld.base.shape import count
from channeld.base.units import LockKind, Side


@dataclass(frozen=True, slots=True)
class Codec:
    """Python expressions over the name `v`.

    `good`: whether the received value is acceptable. `read`: the field's value made of it. `fits`: whether a
    field's value may be sent. `write`: what is packed for it.
    """

    good: str
    fits: str
    read: str = "v"
    write: str = "v"


def uint(bits: int, least: int = 0) -> Codec:
    """An unsigned msgpack integer of at most `bits` (≤ 64) bits, `least` or more."""
    return Codec(
        good=f"type(v) is int and {least} <= v < {1 << bits}",
        fits=f"isinstance(v, int) and v is not True and v is not False and {least} <= v < {1 << bits}",
        write="int(v)",
    )


def fixed(length: int) -> Codec:
    """Bytes of one length."""
    return Codec(good=f"type(v) is bytes and len(v) == {length}", fits=f"type(v) is bytes and len(v) == {length}")


def upto(length: int, multiple: int = 1) -> Codec:
    """At most `length` bytes, a multiple of `multiple`."""
    test = f"type(v) is bytes and len(v) <= {length}" + (f" and len(v) % {multiple} == 0" if multiple > 1 else "")
    return Codec(good=test, fits=test)


def nothing_or(length: int) -> Codec:
    """No bytes at all, or `length` of them."""
    test = f"type(v) is bytes and (len(v) == {length} or not v)"
    return Codec(good=test, fits=test)


def wide(length: int, least: int = 0) -> Codec:
    """An unsigned integer too wide for msgpack, as `length` big-endian bytes."""
    floor = f" and int_from(v, 'big') >= {least}" if least else ""
    return Codec(
        good=f"type(v) is bytes and len(v) == {length}{floor}",
        fits=f"type(v) is int and {least} <= v < {1 << 8 * length}",
        read="int_from(v, 'big')",
        write=f"v.to_bytes({length}, 'big')",
    )


def signed(length: int) -> Codec:
    """A signed integer as `length` big-endian bytes, two's complement."""
    half = 1 << 8 * length - 1
    return Codec(
        good=f"type(v) is bytes and len(v) == {length}",
        fits=f"type(v) is int and {-half} <= v < {half}",
        read="int_from(v, 'big', signed=True)",
        write=f"v.to_bytes({length}, 'big', signed=True)",
    )


def text(length: int) -> Codec:
    """At most `length` bytes of UTF-8."""
    test = f"type(v) is str and len(v) <= {length} and len(v.encode(errors='surrogatepass')) <= {length}"
    return Codec(good=test, fits=test)


def texts(count: int, length: int) -> Codec:
    """At most `count` texts of at most `length` bytes of UTF-8 each."""
    each = f"all(type(t) is str and len(t.encode(errors='surrogatepass')) <= {length} for t in v)"
    return Codec(
        good=f"type(v) is list and len(v) <= {count} and {each}",
        fits=f"type(v) is tuple and len(v) <= {count} and {each}",
        read="tuple(v)",
        write="list(v)",
    )


def chunks(count: int, length: int, multiple: int) -> Codec:
    """At most `count` byte strings, each of `multiple` to `length` bytes and a multiple of `multiple`."""
    each = f"all(type(t) is bytes and 0 < len(t) <= {length} and len(t) % {multiple} == 0 for t in v)"
    return Codec(
        good=f"type(v) is list and len(v) <= {count} and {each}",
        fits=f"type(v) is tuple and len(v) <= {count} and {each}",
        read="tuple(v)",
        write="list(v)",
    )


UINT8: Final = uint(8)
UINT16: Final = uint(16)
UINT32: Final = uint(32)
UINT40: Final = uint(40)
UINT64: Final = uint(64)
AMOUNT: Final = wide(11)
POSITIVE_AMOUNT: Final = wide(11, least=1)
BYTES16: Final = fixed(16)
BYTES20: Final = fixed(20)
BYTES32: Final = fixed(32)
BYTES33: Final = fixed(33)
BYTES48: Final = fixed(48)
SIGNATURE: Final = fixed(65)
MAYBE_SIGNATURE: Final = nothing_or(65)
BOOL: Final = Codec(good="type(v) is bool", fits="type(v) is bool")
SIDE: Final = Codec(good="type(v) is int and v in sides", fits="v in sides", read="sides[v]", write="int(v)")
LOCK_KIND: Final = Codec(good="type(v) is int and v in kinds", fits="v in kinds", read="kinds[v]", write="int(v)")

_NAMES: Final[dict[str, Any]] = {
    "int_from": int.from_bytes,
    "sides": {int(side): side for side in Side},
    "kinds": {int(kind): kind for kind in LockKind},
    "Malformed": Malformed,
    "new": object.__new__,
}


class Layout:
    """The array form of one frozen dataclass whose fields are all annotated with codecs.

    `read(values)`: the message in `[number, *fields]`, whose number was looked at before; Malformed names the
    field that is wrong. `write(message)`: that list; ValueError for a message outside its limits.
    """

    __slots__ = ("cls", "number", "read", "write")

    def __init__(self, number: int, cls: type[Any]) -> None:
        self.number = number
        self.cls = cls
        codecs = _codecs(cls)
        self.read: Callable[[list[Any]], Any] = _compile(cls, _reader(cls, codecs))
        self.write: Callable[[Any], list[Any]] = _compile(cls, _writer(cls, number, codecs))


def _codecs(cls: type[Any]) -> dict[str, Codec]:
    hints = get_type_hints(cls, include_extras=True)
    found: dict[str, Codec] = {}
    for field in dataclasses.fields(cls):
        codecs = [note for note in getattr(hints[field.name], "__metadata__", ()) if isinstance(note, Codec)]
        if len(codecs) != 1:
            raise TypeError(f"{cls.__name__}.{field.name} needs one codec")
        found[field.name] = codecs[0]
    return found


def _expression(code: str, name: str) -> str:
    """`code` over the variable `name` in place of `v`."""
    out, word = "", ""
    for sign in code + " ":
        if sign.isalnum() or sign in "_.'":
            word += sign
            continue
        head, dot, tail = word.partition(".")
        out += (name if head == "v" else head) + dot + tail + sign
        word = ""
    return out.rstrip()


def _reader(cls: type[Any], codecs: dict[str, Codec]) -> str:
    names = [f"f_{name}" for name in codecs]
    lines = [
        "def run(values):",
        f"    if len(values) != {len(names) + 1}:",
        f"        raise Malformed('{cls.__name__} has {len(names)} fields, not %d' % (len(values) - 1))",
        f"    {', '.join(['_', *names])}{',' if not names else ''} = values",
    ]
    for name, codec in codecs.items():
        lines += [
            f"    if not ({_expression(codec.good, f'f_{name}')}):",
            f"        raise Malformed('{cls.__name__}: {name} is not what it may be')",
        ]
    lines.append("    made = new(cls)")
    lines += [f"    set_{name}(made, {_expression(codec.read, f'f_{name}')})" for name, codec in codecs.items()]
    lines.append("    return made")
    return "\n".join(lines)


def _writer(cls: type[Any], number: int, codecs: dict[str, Codec]) -> str:
    lines = ["def run(message):"]
    for name, codec in codecs.items():
        lines += [
            f"    f_{name} = message.{name}",
            f"    if not ({_expression(codec.fits, f'f_{name}')}):",
            f"        raise ValueError('{cls.__name__}: {name} is outside its limits')",
        ]
    fields = [_expression(codec.write, f"f_{name}") for name, codec in codecs.items()]
    lines.append(f"    return [{', '.join([str(number), *fields])}]")
    return "\n".join(lines)


def _compile(cls: type[Any], source: str) -> Callable[[Any], Any]:
    """The function `run` of `source`. The source is made of our own class definitions only."""
    scope: dict[str, Any] = {**_NAMES, "cls": cls}
    for field in dataclasses.fields(cls):
        scope[f"set_{field.name}"] = cls.__dict__[field.name].__set__
    exec(compile(source, f"<layout of {cls.__name__}>", "exec"), scope)  # noqa: S102
    run: Callable[[Any], Any] = scope["run"]
    return run


_Value = TypeVar("_Value")
_Kind = TypeVar("_Kind")

MAX_ITEMS: Final = 64
"""Fields of a message and what stands in its lists, all together; no class has half as many."""

_unpack = partial(msgpack.unpackb, raw=False, max_array_len=32, max_map_len=0, max_ext_len=0, max_bin_len=65_535)
_pack = msgpack.Packer(use_bin_type=True).pack
_faults: Final = (*type_error, msgpack.exceptions.UnpackException)


class Family(Generic[_Value]):
    """Dataclasses that are told apart by the number at the head of their array."""

    def __init__(self, name: str, max_bytes: int) -> None:
        """`name`: what one of them is called in an error; `max_bytes`: longest encoding that is read."""
        self.name = name
        self.max_bytes = max_bytes
        self._by_class: dict[type[Any], Layout] = {}
        self._by_number: dict[int, Layout] = {}

    def member(self, number: int) -> Callable[[type[_Kind]], type[_Kind]]:
        """Class decorator: this class, with this number, belongs to the family."""

        def enter(cls: type[_Kind]) -> type[_Kind]:
            if number in self._by_number:
                raise TypeError(f"two of {self.name} have the number {number}")
            self._by_number[number] = self._by_class[cls] = Layout(number, cls)
            return cls

        return enter

    def kinds(self) -> dict[int, type[_Value]]:
        """All classes of the family by number."""
        return {number: layout.cls for number, layout in self._by_number.items()}

    def encode(self, value: _Value) -> bytes:
        """`value` as msgpack; ValueError if it is outside its limits or not of the family."""
        layout = self._by_class.get(type(value))
        if layout is None:
            raise ValueError(f"{type(value).__name__} is no {self.name}")
        packed: bytes = _pack(layout.write(value))
        return packed

    def decode(self, data: bytes) -> _Value:
        """The value in `data`. Malformed for anything that `encode` would not have written."""
        if len(data) > self.max_bytes:
            raise Malformed(f"{self.name}: {len(data)} bytes")
        count(data, MAX_ITEMS)
        try:
            values = _unpack(data)
            same = _pack(values) == data
        except _faults as fault:
            raise Malformed(f"{self.name}: {type(fault).__name__}") from None
        if not same or type(values) is not list or not values or type(values[0]) is not int:
            raise Malformed(f"{self.name}: not an array in the form that we write")
        layout = self._by_number.get(values[0])
        if layout is None:
            raise Malformed(f"{self.name}: none has the number {values[0]}")
        value: _Value = layout.read(values)
        return value
