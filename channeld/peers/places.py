"""Who has a place at the door when there are more guests than places: nobody with a channel loses one, a crowd does.

A `Hall` has so many places in all and so many for one origin, which is an IPv4 address or an IPv6 /64 (the least that
one customer of a provider has to itself). A newcomer always gets in. If that is one too many of its origin, the oldest
of that origin goes; if it is one too many in all, the oldest of the origin that has the most goes, and among origins
that have as many the oldest of all. So an address can hold no more than its own places, a hundred of them displace each
other before they displace a lone guest, and who comes from elsewhere is never shut out. What remains: somebody with
more addresses than the hall has places can turn over all of its places as fast as it can connect.

Guests that `stays` names take no place and are never sent away.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from channeld.base.units import NodeId

V6_SITE: Final = 64
"""Bits of an IPv6 address that tell one customer from another."""


@dataclass(eq=False, slots=True, kw_only=True)
class Guest:
    """One connection. `scope` is cancelled when it has to go; `node` is None before its handshake."""

    origin: str
    scope: trio.CancelScope
    node: NodeId | None = None


def _nobody(_: Guest) -> bool:
    return False


class Hall:
    """Places in all (`most`) and for one origin (`from_one`), each 1 or more."""

    def __init__(self, most: int, from_one: int, stays: Callable[[Guest], bool] = _nobody) -> None:
        if most < 1 or from_one < 1:
            raise ValueError("a hall has places")
        self._most, self._from_one, self._stays = most, from_one, stays
        self._guests: dict[str, dict[Guest, int]] = {}
        """By origin, oldest first, with the number of its arrival."""
        self._count = 0
        self._arrivals = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, guest: Guest) -> Guest | None:
        """Let `guest` in; who has to go for it, if anybody. The loser has left the hall already."""
        if self._stays(guest):
            return None
        self._guests.setdefault(guest.origin, {})[guest] = self._arrivals
        self._arrivals += 1
        self._count += 1
        while (loser := self._one_too_many(guest.origin)) is not None:
            self.leave(loser)
            if not self._stays(loser):  # else it has a channel by now, and takes no place any more
                return loser
        return None

    def leave(self, guest: Guest) -> None:
        """Its place is free again; nothing for one that has none."""
        there = self._guests.get(guest.origin, {})
        if there.pop(guest, None) is not None:
            self._count -= 1
        if not there:
            self._guests.pop(guest.origin, None)

    def _one_too_many(self, origin: str) -> Guest | None:
        there = self._guests.get(origin, {})
        if len(there) > self._from_one:
            return next(iter(there))
        if self._count > self._most:
            largest: dict[Guest, int] = max(self._guests.values(), key=_crowd)
            return next(iter(largest))
        return None


def _crowd(guests: dict[Guest, int]) -> tuple[int, int]:
    """How many they are; among as many, whose oldest came first counts more."""
    return len(guests), -next(iter(guests.values()))


def origin_of(host: str) -> str:
    """The origin of a numeric address: itself, or the /64 of an IPv6 one; an IPv4 one mapped into IPv6 is that one.

    What is no address is its own origin.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 128 - V6_SITE << 128 - V6_SITE, V6_SITE)))
