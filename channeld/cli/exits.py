"""How a command ends: the exit codes, and which error has which.

| code | meaning |
|---|---|
| 0 | done |
| 1 | a fault of the program itself; its log says more |
| 2 | usage: an argument, a setting or a file that cannot be used |
| 3 | connection: daemon, peer, tower or RPC endpoint does not answer |
| 4 | passphrase or permission |
| 5 | not found: channel, payment, invoice, peer, token, tower |
| 6 | insufficient: balance, funds or gas |
| 7 | payment failed; nothing was paid |
| 8 | refused: cannot be done now; nothing changed |
| 9 | the store failed: full or broken disk, or another process took the database over; nothing more was signed |
| 130 | stopped by Ctrl-C |
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from channeld.api.schema import Number, number_of
from channeld.base.errors import ChanneldError, Malformed, PeerFault, Refused, StoreFailed, Unreachable
from channeld.client.errors import ApiError
from channeld.client.errors import Unreachable as NoDaemon


class Exit(IntEnum):
    """The codes of the table above."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CONNECTION = 3
    AUTH = 4
    NOT_FOUND = 5
    INSUFFICIENT = 6
    PAYMENT_FAILED = 7
    REFUSED = 8
    STORE = 9
    INTERRUPTED = 130


_FAMILIES: Final = {
    Number.PARSE: Exit.USAGE,
    Number.REQUEST: Exit.USAGE,
    Number.METHOD: Exit.USAGE,
    Number.PARAMS: Exit.USAGE,
    Number.INTERNAL: Exit.INTERNAL,
    Number.REFUSED: Exit.REFUSED,
    Number.NOT_FOUND: Exit.NOT_FOUND,
    Number.INSUFFICIENT: Exit.INSUFFICIENT,
    Number.PAYMENT_FAILED: Exit.PAYMENT_FAILED,
    Number.UNREACHABLE: Exit.CONNECTION,
    Number.AUTH: Exit.AUTH,
    Number.BUSY: Exit.CONNECTION,
}
_FILES: Final = ("bad_config", "bad_network", "bad_keystore", "bad_genesis", "usage")
"""Codes about what the user handed in, whoever found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An error as it is told: exit code, stable code, one line and a hint."""

    exit: Exit
    code: str
    message: str
    hint: str = ""


def ending(fault: BaseException) -> Ending | None:
    """How a command ends that met `fault`; None for what was not raised on purpose."""
    leaf = _leaf(fault)
    match leaf:
        case ApiError():
            families = {int(number): number for number in Number}
            number = families.get(leaf.number) or number_of(leaf.code)
            found = Exit.USAGE if leaf.code in _FILES else _FAMILIES[number]
            return Ending(exit=found, code=leaf.code, message=leaf.message, hint=leaf.hint)
        case NoDaemon():
            hint = "is it running? start it with channeld run; another one: --data-dir or --socket"
            return Ending(exit=Exit.CONNECTION, code="no_daemon", message=str(leaf), hint=hint)
        case Refused():
            found = Exit.USAGE if leaf.code in _FILES else _FAMILIES[number_of(leaf.code)]
            return Ending(exit=found, code=leaf.code, message=leaf.text, hint=leaf.hint)
        case StoreFailed():
            return Ending(exit=Exit.STORE, code=leaf.code, message=leaf.text, hint=leaf.hint)
        case Malformed():
            return Ending(exit=Exit.USAGE, code="malformed", message=str(leaf))
        case Unreachable():
            hint = "is the address right and the other side up?"
            return Ending(exit=Exit.CONNECTION, code="unreachable", message=str(leaf), hint=hint)
        case PeerFault():
            return Ending(exit=Exit.CONNECTION, code="peer_fault", message=leaf.text)
        case ChanneldError():
            return Ending(exit=Exit.INTERNAL, code="internal", message=str(leaf), hint="please report this")
        case KeyboardInterrupt():
            return Ending(exit=Exit.INTERRUPTED, code="interrupted", message="interrupted")
        case OSError(errno=errno.EADDRINUSE):
            hint = "stop it, or listen elsewhere: --listen"
            return Ending(exit=Exit.REFUSED, code="port_in_use", message="another program listens there", hint=hint)
        case OSError():
            where = f"{leaf.filename}: " if leaf.filename else ""
            return Ending(exit=Exit.USAGE, code="file", message=f"{where}{leaf.strerror or leaf}")
        case _:
            return None


def _leaf(fault: BaseException) -> BaseException:
    """The one error in a nursery's group; of several the first that was raised on purpose."""
    if not isinstance(fault, BaseExceptionGroup):
        return fault
    leaves = [_leaf(one) for one in fault.exceptions]
    return next((one for one in leaves if isinstance(one, ChanneldError)), leaves[0])
