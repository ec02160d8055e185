"""How many strangers are let in: values only, which settings read without the network's library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HANDSHAKE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many connections at once, each 1 or more: of peers that are not `known`, and of those before their handshake
    is done; in all, and from one address (`places.origin_of`). `turns`: handshakes in a second that are begun with
    addresses from which no known peer has come, and four times as many at once."""

    connections: int = 256
    from_one: int = 32
    strangers: int = 128
    strangers_from_one: int = 16
    turns: int = 50
    handshake_seconds: float = HANDSHAKE_SECONDS


USUAL: Final = Caps()
