"""Writes `calls.py`, the typed methods of the client, from the schema: `python -m channeld.client.generate`.

A test compares the file with what this would write, so it cannot fall behind.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from channeld.api.schema import NODE, TOWER, Field, Kind, Many, Maybe, Method, Record

TARGET: Final = Path(__file__).with_name("calls.py")

_HEAD: Final = '''"""The typed calls of the sockets. Written by `python -m channeld.client.generate`; do not edit.

Amounts may be handed in as ints and bytes as bytes; answers hold them as they travel: decimal strings and 0x hex.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

from channeld.api.schema import NODE, TOWER, Schema
'''


def written() -> str:
    """The source of `calls.py`, formatted."""
    lines = [_HEAD]
    methods = {"Node": NODE.methods, "Tower": TOWER.methods}
    seen: dict[str, Record] = {}
    for group in methods.values():
        for method in group.values():
            for record in _records(method.result):
                if seen.setdefault(record.name, record) != record:
                    raise ValueError(f"two records are called {record.name}")
    lines += [_typed_dict(record) for record in seen.values()]
    for name, group in methods.items():
        for style in ("async ", ""):
            title = f"{'Async' if style else 'Blocking'}{name}Calls"
            awaits = "await " if style else ""
            lines.append(
                f'class {title}(ABC):\n    """Every call of `{name.upper()}`."""\n\n'
                f"    schema: Schema = {name.upper()}\n\n"
                f"    @abstractmethod\n    {style}def call(self, method: str, /, **params: Any) -> Any:\n"
                f'        """Send one request and give its result."""\n'
            )
            lines += [_call(method, style, awaits) for method in group.values()]
    return _formatted("\n".join(lines))


def _records(kind: Kind) -> Iterator[Record]:
    """Every record in `kind`, those that others need first."""
    if isinstance(kind, Record):
        for field in kind.fields:
            yield from _records(field.kind)
        yield kind
    elif isinstance(kind, Many | Maybe):
        yield from _records(kind.of)


def _typed_dict(record: Record) -> str:
    lines = [f"class {record.name}(TypedDict):"]
    for field in record.fields:
        kind = field.kind.annotation if field.required else f"NotRequired[{field.kind.annotation}]"
        lines.append(f"    {field.name}: {kind}")
        if field.help:
            lines.append(f'    """{field.help[0].upper()}{field.help[1:]}."""')
    return "\n".join(lines) + "\n"


def _argument(field: Field) -> str:
    if field.required:
        return f"{field.name}: {field.kind.accepts}"
    kind = field.kind.accepts
    return f"{field.name}: {kind if kind.endswith('None') else kind + ' | None'} = None"


def _call(method: Method, style: str, awaits: str) -> str:
    arguments = ", ".join(map(_argument, method.params))
    given = "".join(f", {field.name}={field.name}" for field in method.params)
    told = "".join(
        f"\n            {field.name}: {field.help or 'as the name says'}"
        + (f" (default {field.default!r})" if not field.required and field.default is not None else "")
        for field in method.params
    )
    text = method.help + (f"\n\n        Args:{told}\n        " if told else "")
    result = method.result.annotation
    return (
        f"    {style}def {method.name}(self{', *, ' + arguments if arguments else ''}) -> {result}:\n"
        f'        """{text}"""\n'
        f'        return cast("{result}", {awaits}self.call("{method.name}"{given}))\n'
    )


def _formatted(source: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    TARGET.write_text(written())
