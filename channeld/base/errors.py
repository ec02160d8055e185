"""Faults that say what follows. Every error the daemon raises on purpose is one of these.

`Refused`: we asked for what cannot be; nothing changed. `PeerFault`: the peer broke the rules; `answer` says
what to do about it. `Unreachable`: the world did not answer; whoever called tries again. `Malformed`: bytes
from outside are not what they claim to be. `Broken`: a law of our own fails; stop at the last saved state.
`StoreFailed`: nothing can be remembered any more, so nothing may be signed: the process ends.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class ChanneldError(Exception):
    """The root of every error raised on purpose."""


class Refused(ChanneldError):
    """Our own side asked for what cannot be done now. Nothing has changed.

    `code` is stable, lower_snake_case, and goes out through the API; text and hint may be reworded.
    """

    def __init__(self, code: str, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint


class Answer(Enum):
    """What the session does about a peer's fault, mildest first."""

    IGNORE = "ignore"
    WARN = "warn"
    DISCONNECT = "disconnect"
    FREEZE = "freeze"


class PeerFault(ChanneldError):
    """The peer broke the protocol. Nothing has changed yet; `answer` says what follows."""

    def __init__(self, answer: Answer, text: str) -> None:
        super().__init__(text)
        self.answer = answer
        self.text = text


class Malformed(ChanneldError):
    """Bytes or text from outside that are not a value of the expected form."""


class Unreachable(ChanneldError):
    """The world did not answer (a socket, an RPC endpoint, a tower); trying again may help."""


class Broken(ChanneldError):
    """A law of our own does not hold. Whoever sees this keeps the last saved state and stops."""


BUGS: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a mistake of ours raises. It stops what it was made in, not the node (I40)."""


class NotSaved(Broken):
    """What a batch rests on was not saved, so it was not either. No law of its own is broken: it may come again."""


class StoreFailed(ChanneldError):
    """The store remembers nothing more, for as long as this process lives: whoever sees this signs and sends nothing.

    `code`: `disk_failed`, or `fenced` when another process has taken the database over.
    """

    def __init__(self, code: str, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint
