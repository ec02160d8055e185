"""Receivers that misbehave when coin comes: a few bytes of EVM code each, planted at an address.

A payout in coin gets 50,000 gas and the stipend of 2,300. `takes` says whether a receiver takes the coin under that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One way to receive. `takes`: whether a payout goes through; `later`: whether withdraw does, which caps no gas."""

    name: str
    code: str
    takes: bool = False
    later: bool = False


RECEIVERS: Final = (
    Receiver(name="reverts", code="5f5ffd"),
    Receiver(name="reverts with 64 KiB", code="620100005ffd"),
    Receiver(name="returns 16 MiB", code="62ffffff5ff3"),  # out of gas for the memory
    Receiver(name="takes and returns 64 KiB", code="620100005ff3", takes=True, later=True),
    Receiver(name="eats all gas", code="5b5f56"),  # jumps to itself for ever
    Receiver(name="invalid", code="fe"),
    Receiver(name="writes ten slots", code="".join(f"60{n + 1:02x}60{n:02x}55" for n in range(10)), later=True),
    Receiver(name="wants 52,200 gas", code="61cbe85a10600957005b5f5ffd", takes=True, later=True),
    Receiver(name="wants 60,000 gas", code="61ea605a10600957005b5f5ffd", later=True),
    Receiver(name="takes", code="00", takes=True, later=True),
)
"""Those that want gas: PUSH2 least, GAS, LT, jump to a revert if so; else STOP."""
PICKIEST: Final = bytes.fromhex("61cbe85a10600957005b5f5ffd")
"""Reverts if it has no more than 52,200 of the 52,300 gas that a payout in coin is to have."""
