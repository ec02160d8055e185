"""Probes: locks that nobody can take, sent to learn how far they get.

A probe looks like a payment to every hop, but its payment hash is drawn at random instead of a preimage: nobody knows
one, we least of all. So it always comes back: from the payee, who knows no such payment, if every hop had the amount;
else from the hop that was short. Either teaches like a payment. It moves no money, is no payment in any list, and tells
no event. While it stands it binds the amount and one slot of each channel on its way, for the lock time of a payment
at most; so it is sent only where the owner has allowed it, one part at a time, seldom, and never over a channel of ours
half of whose slots are taken. A payee can let it hang or lie about it, as it can with a payment; it gains nothing.

A crash forgets that a lock was a probe. The lock is an attempt of no payment then: it comes back, and nobody minds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import PeerFault, Refused
from channeld.base.units import ChannelId, LockKey, Seconds
from channeld.node import reasons
from channeld.node.attempts import Lesson, Lessons, attempt_of, build, offer_of
from channeld.node.finding import Finder, slots
from channeld.node.ledger import Attempt, Book
from channeld.node.world import World
from channeld.wire.invoice import Invoice
from routing.announcements import Rate, Spam
from routing.search import Route
from routing.splitting import Ask
from routing.ways import OwnChannel

log = logging.getLogger(__name__)
UNDER_WAY: Final = 4
"""Probes that may stand at the same time. One that hangs keeps its place until its lock is back."""
RATE: Final = Rate(burst=10, every=Seconds(30))
PATIENCE: Final = 60.0
"""Seconds for which a caller waits; what comes later still teaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The way a probe took, how likely it was thought to arrive before, and what came back; None: nothing yet."""

    route: Route
    chance: float
    lesson: Lesson | None

    @property
    def failed(self) -> ChannelId | None:
        """The channel of its way that did not carry it; None if it arrived or still stands."""
        avoid = None if self.lesson is None else self.lesson.avoid
        return None if avoid is None else avoid[0]


@dataclass(eq=False, slots=True)
class _Standing:
    attempt: Attempt
    lesson: Lesson | None = None
    refusal: Refused | None = None
    done: trio.Event = field(default_factory=trio.Event)


class Probing:
    """See the file's head. `randomness(n)` gives n fresh random bytes."""

    def __init__(
        self,
        book: Book,
        world: World,
        ways: Finder,
        lessons: Lessons,
        *,
        domain: Domain,
        randomness: Callable[[int], bytes],
    ) -> None:
        self._book, self._world, self._ways, self._lessons = book, world, ways, lessons
        self._domain, self._randomness = domain, randomness
        self._standing: dict[LockKey, _Standing] = {}
        self._rate = Spam(RATE)

    async def probe(self, ask: Ask) -> Probed:
        """Send a lock the way a payment of one part would go now, and wait a while for it to come back.

        Refused: no way, by the codes that callers know; `busy`; `safe_mode`; what a channel of ours says to a lock.
        """
        self._world.must_be_safe()
        if len(self._standing) >= UNDER_WAY:
            raise Refused(
                "busy", f"{UNDER_WAY} probes are under way", "one that hangs ends with its lock at the latest"
            )
        mine = [one for one in ask.own_channels if one.token == ask.token]
        spare = tuple(one for one in mine if self._spares(one))
        if mine and not spare:
            raise Refused("busy", "half of each channel's slots are for payments, no more are free", "try again later")
        (route,), likely = self._ways.plan(replace(ask, own_channels=spare), whole=True)
        try:
            self._rate.judge("probes", self._world.now)
        except PeerFault:
            text = f"{RATE.burst} probes at once and one each {RATE.every} s are enough"
            raise Refused("busy", text, "try again a little later") from None
        standing = self._send(ask, route)
        with trio.move_on_after(PATIENCE):
            await standing.done.wait()
        if standing.refusal is not None:
            raise reasons.told(standing.refusal)
        return Probed(route=route, chance=likely, lesson=standing.lesson)

    def _spares(self, own: OwnChannel) -> bool:
        """Whether half of the channel's slots stay free for payments."""
        channel = self._book.actors[own.channel_id].channel
        return 2 * (slots(channel) - 1) >= channel.max_locks

    def _send(self, ask: Ask, route: Route) -> _Standing:
        now = self._world.now
        unknown = Invoice(
            domain=self._domain,
            token=ask.token,
            amount=ask.amount,
            payment_hash=LockKey(self._randomness(32)),
            payment_secret=self._randomness(32),
            created=now,
            payee=ask.target,
            min_final_delta=ask.final_expiry_delta,
        )
        built = build(unknown, ask.amount, route, now, self._randomness)
        attempt = attempt_of(unknown, route, built.secrets)
        standing = self._standing[unknown.payment_hash] = _Standing(attempt)
        tag = self._book.tag(attempt)

        def refused(fault: Refused) -> None:
            self._book.untag(tag)
            standing.refusal = fault
            self._over(attempt)

        offer = offer_of(tag, unknown, route, built.packet, now)
        self._book.actors[route.hops[0].channel_id].post(offer, on_refusal=refused)
        return standing

    # -- heard from the book, of attempts that are no payment's

    def returned(self, what: Attempt, reason: bytes) -> None:
        standing = self._standing.get(what.hash)
        if standing is not None and standing.attempt is what:
            standing.lesson = self._lessons.returned(what, reason, self._world.now)
            log.info("probe=%s came back: %s", what.hash.hex(), standing.lesson.text)
            self._over(what)

    def forgotten(self, hash_: LockKey) -> None:
        """In recovery: what becomes of the lock teaches nothing any more."""
        standing = self._standing.get(hash_)
        if standing is not None:
            self._over(standing.attempt)

    def _over(self, what: Attempt) -> None:
        standing = self._standing.pop(what.hash, None)
        if standing is not None:
            standing.done.set()
