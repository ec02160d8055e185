"""Text from outside made harmless: what reaches a log or a terminal is one line, visible, and bounded.

A peer's error text, a node's alias, an invoice's description, an RPC's message may hold anything: colours and cursor
moves (ESC, or CSI as the single character U+009B), line breaks that forge a log entry (also U+2028, U+0085), signs
that turn the reading direction (U+202E), or sixty thousand characters. `plain` is the one place that deals with them;
the log's formatter and the commands' output call it for every value, so that no caller can forget to.
"""

from __future__ import annotations

from typing import Final

LONGEST: Final = 1_000
"""Characters of one value in a log line or on a terminal."""


def plain(text: str, most: int = LONGEST) -> str:
    """`text` with everything that is not printable written as an escape, and cut after `most` characters."""
    return escaped(cut(text, most))


def cut(text: str, most: int = LONGEST) -> str:
    """The first `most` characters of `text`; a cut is shown, with how much was left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more)"


def escaped(text: str) -> str:
    """`text` as one visible line: what is not printable becomes an escape of two to ten characters."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _ESCAPES.get(sign) or ascii(sign)[1:-1] for sign in text)


_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
