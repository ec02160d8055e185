"""JSON from strangers: refused before parsing if it is nested deeper than JSON-RPC ever is.

The standard parser recurses in C and relies on the interpreter's recursion limit, which py-evm raises so far that
fifty thousand brackets end the process instead of the parse.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_DEPTH: Final = 64
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))


def loads(data: bytes | bytearray) -> Any:
    """The value in `data`; ValueError if it is no JSON or nested too deep (brackets within strings count too)."""
    check(data)
    return json.loads(data)


def check(data: bytes | bytearray) -> None:
    """ValueError if `data` is nested too deep to be parsed."""
    depth = 0
    for bracket in data.translate(None, _OTHERS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")
