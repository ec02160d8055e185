"""Logs on stderr, one line each: `time=… level=info at=node.guard msg="…" fault=…`, or the same as JSON.

A fault's traceback stands in the same line, escaped, so that a line is always a whole entry. Whatever a message quotes
from outside goes through `base.plain` here: it can break no line and move no cursor. And no place in the program writes
more than a burst of lines and then one each second (`Steady`), so that whoever makes us write fills no disk either.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

from channeld.base.plain import cut, escaped

MESSAGE: Final = 2_000
TRACE: Final = 20_000
"""Characters of a message and of a traceback that are logged; the rest is counted."""
QUIET: Final = ("httpx", "httpcore", "web3", "urllib3", "eth", "asyncio")
"""Libraries that speak of every request; they are heard from `warning` on."""


BURST: Final = 100
"""Lines that one place in the program may write at once; after them one each second."""


class Steady(logging.Filter):
    """Lets each place in the program write at a bounded rate; the next line that passes says how many were left out.

    Errors always pass: none is made by a peer alone. Time is that of the records.
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], tuple[float, float, int]] = {}
        """By file and line: lines left, when that was, and how many were left out since."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        place = record.pathname, record.lineno
        left, since, missed = self._places.get(place, (float(BURST), record.created, 0))
        left = min(float(BURST), left + max(0.0, record.created - since))
        if left < 1:
            self._places[place] = left, record.created, missed + 1
            return False
        self._places[place] = left - 1, record.created, 0
        if missed:
            record.msg, record.args = f"{cut(record.getMessage(), MESSAGE)} ({missed} like it left out)", ()
        return True


class OneLine(logging.Formatter):
    """Formats a record as one line, as key=value or as JSON."""

    def __init__(self, *, as_json: bool = False) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "at": record.name.removeprefix("channeld."),
            "msg": cut(record.getMessage(), MESSAGE),
        }
        if record.exc_info:
            fault = record.exc_info[1]
            said["fault"] = cut(f"{type(fault).__name__}: {fault}", MESSAGE)
            said["trace"] = cut(self.formatException(record.exc_info), TRACE)
        if self._as_json:
            return json.dumps(said)
        return " ".join(f"{name}={_quoted(value)}" for name, value in said.items())


def _quoted(text: str) -> str:
    """`text` on one line as it stands after `name=`, quoted where it has signs that mean something there."""
    if text and text.isprintable() and not any(mark in text for mark in ' "=\\'):
        return text
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def begin(level: str, form: str) -> None:
    """Send every log of this process to stderr; `level` and `form` as in `[log]`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(as_json=form == "json"))
    if level != "debug":
        handler.addFilter(Steady())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
