"""What the demo prints: one line per act, each an assertion; and the picture of the channels.

On a terminal a line first says what is going on and is then replaced by how it ended. With JSON every line is one
object: `at` (seconds since the start), `line`, `ok`, `text`, and the facts behind the text. A line that does not hold
ends the demo as `Failed`, which names it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import Any, Final

import httpx
import trio

from channeld.base.errors import ChanneldError, Refused
from channeld.base.plain import plain
from channeld.cli.amounts import decimal
from channeld.cli.exits import ending
from channeld.cli.output import Output
from channeld.client import ApiError, Unreachable

DECIMALS: Final = 6
"""Of DemoUSD."""
BAR: Final = 20
"""Characters of a channel in the picture."""
FAULTS: Final = (ChanneldError, ApiError, Unreachable, trio.TooSlowError, OSError, httpx.HTTPError, ExceptionGroup)
"""What an act can meet that makes its line fail; anything else is a fault of the demo itself."""


class Failed(Refused):
    """A line of the demo does not hold: exit code 8."""

    def __init__(self, line: str, why: str) -> None:
        super().__init__("demo_failed", f"line `{line}` does not hold: {why}", "the processes' logs say more")
        self.line, self.why = line, why


@dataclass(frozen=True, slots=True, kw_only=True)
class Tube:
    """One channel in the picture: who stands at its ends and what is theirs, in base units."""

    left: str
    right: str
    left_has: int
    right_has: int


@dataclass(slots=True, kw_only=True)
class Line:
    """An act under way. `text` and `facts` are printed if it holds."""

    name: str
    show: Show
    text: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def must(self, holds: bool, why: str) -> None:
        """The assertion."""
        if not holds:
            raise Failed(self.name, why)

    def equal(self, what: str, found: object, wanted: object) -> None:
        """The assertion, for two things that must be the same."""
        self.must(found == wanted, f"{what} is {found}, not {wanted}")

    def say(self, text: str, **facts: Any) -> None:
        """What to print if it holds."""
        self.text, self.facts = text, facts

    def doing(self, what: str) -> None:
        """How far it is, for whoever watches."""
        self.show.progress(self.name, what)


class Show:
    """Where lines go. `clock` gives seconds; the first reading is 0."""

    def __init__(self, out: Output, clock: Any = trio.current_time) -> None:
        self._out, self._clock, self._began = out, clock, clock()
        self.live = not out.as_json and sys.stdout.isatty()
        self._colour = self.live and not os.environ.get("NO_COLOR")
        self._width = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return float(self._clock() - self._began)

    @contextmanager
    def line(self, name: str, doing: str = "") -> Iterator[Line]:
        """An act: what it said is printed at its end; whatever goes wrong in it is `Failed` under its name."""
        made = Line(name=name, show=self)
        self.progress(name, doing)
        try:
            yield made
        except Failed as fault:
            self._end(name, False, fault.why, {})
            raise
        except FAULTS as fault:
            why = _why(fault)
            self._end(name, False, why, {})
            raise Failed(name, why) from fault
        self._end(name, True, made.text, made.facts)

    def progress(self, name: str, doing: str) -> None:
        """The line under way, where it will be overwritten."""
        if self.live:
            text = self._stamped("·", name, doing)[: get_terminal_size().columns - 1]
            sys.stdout.write("\r" + text.ljust(self._width))
            sys.stdout.flush()
            self._width = len(text)

    def picture(self, tubes: Sequence[Tube]) -> None:
        """The channels as bars: what is left's and what is right's."""
        if self._out.as_json:
            shown = [{name: getattr(tube, name) for name in tube.__dataclass_fields__} for tube in tubes]
            self._out.value({"at": round(self.seconds, 2), "picture": shown})
            return
        parts = [_tube(tube) for tube in tubes]
        names, bars = tubes[0].left, ""
        for tube, bar in zip(tubes, parts, strict=True):
            names = names.ljust(len(bars)) if bars else names
            start = max(len(names), len(bars)) + 1
            bars = bars.ljust(start) + bar
            names += " " + "─" * max(1, len(bars) - len(names) - 1) + " " + tube.right
        indent = " " * 12
        self._out.text("", indent + names, indent + bars, "")

    def note(self, *lines: str) -> None:
        """Words for people; JSON has none of them."""
        if not self._out.as_json:
            self._out.text(*(one for line in lines for one in line.split("\n")))

    def _end(self, name: str, ok: bool, text: str, facts: dict[str, Any]) -> None:
        if self._out.as_json:
            self._out.value({"at": round(self.seconds, 2), "line": name, "ok": ok, "text": text} | facts)
            return
        if self.live:
            sys.stdout.write("\r" + " " * self._width + "\r")
            self._width = 0
        mark = "✓" if ok else "✗"
        if self._colour:
            mark = f"\x1b[{32 if ok else 31}m{mark}\x1b[0m"
        first, *more = text.split("\n")
        said = self._stamped(mark, plain(name), plain(first))
        sys.stdout.write("".join(f"{line}\n" for line in (said, *(" " * 26 + plain(line) for line in more))))
        sys.stdout.flush()

    def _stamped(self, mark: str, name: str, text: str) -> str:
        return f"[{self.seconds:5.1f}s] {mark} {name:<14} {text}"


def _tube(tube: Tube) -> str:
    whole = tube.left_has + tube.right_has
    filled = round(BAR * tube.left_has / whole) if whole else 0
    return f"{usd(tube.left_has)} {'█' * filled}{'░' * (BAR - filled)} {usd(tube.right_has)}"


def _why(fault: BaseException) -> str:
    """One line of what went wrong."""
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    if isinstance(fault, Failed):
        return fault.why
    if isinstance(fault, trio.TooSlowError):
        return "it took too long"
    told = ending(fault)
    return f"{told.message} ({told.code})" if told else f"{type(fault).__name__}: {fault}"


def usd(units: int) -> str:
    """Base units of DemoUSD for people: at least two decimals, never rounded."""
    whole, _, part = decimal(units, DECIMALS).partition(".")
    return f"{whole}.{part.ljust(2, '0')}"


def coin(wei: int) -> str:
    """Wei for people."""
    return f"{decimal(wei, 18)} ETH"


def signed(value: int) -> str:
    """A difference, with its sign and its digits grouped."""
    return ("− " if value < 0 else "+ ") + f"{abs(value):_}"
