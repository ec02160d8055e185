"""What a theft could cost us in one channel while a tower holds only an older state.

The other side may close with any state we ever signed; a tower beats those below the version it holds. So at stake is
what we have now less the least we had in any state from that version on. A pure payer has nothing at stake, and its
tower may have a newer state later (`tower_link.CATCH_UP`). Our own unsigned and unanswered payments count as given
already: losing them to the peer is what we wanted.

`History` is told of each saved turn. A turn may sign a state that is gone again at its end (a proposal that lost a
crossing, R1); what such a state could have said at worst is taken for what it said.
"""

from __future__ import annotations

from typing import Final

from channeld.base.digests import Lock
from channeld.base.units import LockKey, Side, Version
from channeld.core.channel import Body, Channel, Phase
from channeld.core.paying import takes

_LONGEST: Final = 64
"""Minima that are kept apart; older ones are joined, which can only raise what counts as at stake."""


class History:
    """The least we had from any version on; balances are held without our deposit, which may grow."""

    def __init__(self, channel: Channel) -> None:
        current = channel.current
        self.since = current.version
        """From this version on nothing is unknown."""
        self._minima: list[tuple[int, int]] = [(current.version, _bare(channel, current.body))]
        self._last = (int(current.version), _bare(channel, current.body))
        self._live: tuple[int, int] | None = None
        self._note_live(channel)

    def note(self, channel: Channel) -> None:
        """A turn of the channel was saved."""
        out, current = channel.outstanding, channel.current
        gone, before = self._live, self._last
        if gone is not None and (out is None or out.version != gone[0]):
            self._live = None
            if gone[0] < current.version:
                self._push(gone)
                before = gone
        if current.version > self._last[0]:
            self._bridge(channel, before)
            self._last = (int(current.version), _bare(channel, current.body))
            self._push(self._last)
        self._note_live(channel)

    def worst(self, channel: Channel, version: Version) -> int:
        """The least we had to spend in any state from `version` on that we signed, our live proposal left out."""
        deposit = channel.heard[channel.we]
        if version < self.since:
            return 0
        found = next((bare for at, bare in self._minima if at >= version), self._last[1])
        return max(0, deposit + found)

    def _note_live(self, channel: Channel) -> None:
        out = channel.outstanding
        if out is not None and (self._live is None or self._live[0] != out.version):
            self._live = (int(out.version), _bare(channel, out.body))

    def _bridge(self, channel: Channel, before: tuple[int, int]) -> None:
        """Between what was seen and what is seen now we may have signed a state that nobody showed us."""
        version = int(channel.current.version)
        step = version - before[0]
        theirs = (Side.A if version % 2 else Side.B) is not channel.we
        if step > 3:
            self._push((version - 1, -int(channel.heard[channel.we])))
        elif step == 3 and theirs:  # ours may have lost the crossing; its updates are proposed or queued again
            again = channel.outstanding.updates if channel.outstanding is not None else ()
            self._push((version - 1, before[1] - sum(takes(update) for update in again) - channel.reserved))

    def _push(self, one: tuple[int, int]) -> None:
        minima = self._minima
        while minima and minima[-1][1] >= one[1]:
            minima.pop()
        minima.append(one)
        if len(minima) > _LONGEST:
            minima[:2] = [(minima[1][0], minima[0][1])]


def claimed(channel: Channel, body: Body) -> list[Lock]:
    """Locks of the peer's in `body` whose preimage we know."""
    locks = body.locks
    return [locks[name] for id_ in channel.claims if (name := (channel.we.other, id_)) in locks]


def value(channel: Channel) -> int:
    """What is ours: what we have and have not decided to pay, and the locks we can open."""
    body = channel.newest_body
    spare = body.balance(channel.we, channel.heard[channel.we]) - channel.reserved
    return max(0, spare + sum(lock.amount for lock in claimed(channel, body)))


def at_stake(channel: Channel, history: History, version: Version, entrusted: frozenset[LockKey]) -> int:
    """What a theft could cost us while a tower holds `version` and the preimages of the locks `entrusted`."""
    kept = sum(lock.amount for lock in claimed(channel, channel.current.body) if lock.key in entrusted)
    return max(0, value(channel) - history.worst(channel, version) - kept)


def only_words(channel: Channel) -> bool:
    """Agreed with a peer that has put nothing into it yet, so that nothing can be lost in it."""
    early = channel.phase in (Phase.OPENING, Phase.FROZEN) and channel.onchain is None
    signed = channel.current.version or channel.top[0]
    return early and channel.we is Side.B and not signed and not any(channel.told)


def _bare(channel: Channel, body: Body) -> int:
    return body.balance(channel.we, 0)
