"""What commands print: tables on a terminal, JSON in a pipe; errors, progress and logs on stderr.

Values that people read go through `base.plain`: a peer's text can neither move the cursor nor forge a line. JSON
escapes by itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from channeld.base.plain import plain
from channeld.cli.exits import Ending

VALUE: Final = 8_192
"""Characters of one value shown: an invoice is as long as half of it."""
LINE: Final = 12 * VALUE
"""Characters of one line: a value whose every sign is an escape, and its name."""


class Output:
    """`as_json`: None asks whether stdout is a terminal."""

    def __init__(self, as_json: bool | None = None) -> None:
        self.as_json = not sys.stdout.isatty() if as_json is None else as_json

    def value(self, value: Any) -> None:
        """One JSON document on one line."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    def text(self, *lines: str) -> None:
        """Lines for people. Each stays one line, whatever stands in it."""
        sys.stdout.write("".join(f"{plain(line, LINE)}\n" for line in lines))
        sys.stdout.flush()

    def show(self, value: Any, lines: Iterable[tuple[str, Any]]) -> None:
        """`value` as JSON, or `lines` of name and value for people."""
        if self.as_json:
            self.value(value)
            return
        shown = [(name, plain(str(said), VALUE)) for name, said in lines if said not in (None, "")]
        width = max((len(name) for name, _ in shown), default=0)
        self.text(*(f"{name:<{width}}  {said}" for name, said in shown))

    def table(self, value: Any, heads: Sequence[str], rows: Sequence[Sequence[Any]], empty: str) -> None:
        """`value` as JSON, or a table; `empty` where there are no rows. Heads that begin with > are numbers."""
        if self.as_json:
            self.value(value)
            return
        if not rows:
            self.text(empty)
            return
        from rich.console import Console, JustifyMethod
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in heads:
            right = head.startswith(">")
            justify: JustifyMethod = "right" if right else "left"
            table.add_column(head.removeprefix(">"), justify=justify, no_wrap=right, overflow="fold")
        for row in rows:
            table.add_row(*("" if cell is None else plain(str(cell), VALUE) for cell in row))
        # Where there is no terminal nothing is folded: whoever reads a file wants whole ids.
        width = None if sys.stdout.isatty() else 1_000
        Console(highlight=False, markup=False, width=width).print(table)

    def progress(self, text: str) -> None:
        """What a slow command is doing, for whoever watches."""
        if sys.stderr.isatty():
            sys.stderr.write(f"… {plain(text)}\n")
            sys.stderr.flush()

    def error(self, told: Ending) -> None:
        """One line on stderr, and the hint after it."""
        if self.as_json:
            said = {"code": told.code, "message": told.message} | ({"hint": told.hint} if told.hint else {})
            sys.stderr.write(json.dumps(said) + "\n")
        else:
            hint = f"hint: {plain(told.hint)}\n" if told.hint else ""
            sys.stderr.write(f"error: {plain(told.message)} ({plain(told.code)})\n{hint}")
        sys.stderr.flush()


def brief(text: str | None, head: int = 10, tail: int = 4) -> str:
    """A long id as people compare it: its ends."""
    if not text or len(text) <= head + tail + 1:
        return text or ""
    return f"{text[:head]}…{text[-tail:]}"
