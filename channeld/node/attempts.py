"""One lock of a payment of ours: built from a route, saved with what an answer must be read with, read when it comes
back.

What is saved of an attempt are the secrets that its hops share with us and, of each hop, the direction, its nodes and
the amount of its lock. So a failure can be read after a restart, and both outcomes teach: a lock that was taken moved
money at every hop, one that came back says which hop had too little, and that those before it had enough."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from channeld.base.errors import Broken, Malformed
from channeld.base.pack import pack, unpack
from channeld.base.units import Amount, ChannelId, NodeId, Side, Timestamp
from channeld.core.events import Offer
from channeld.node.lately import Lately
from channeld.node.ledger import Attempt
from channeld.wire import failure, onion, payload
from channeld.wire.failure import FailureCode
from channeld.wire.invoice import Invoice
from channeld.wire.payload import FinalPayload, ForwardPayload
from routing.edges import Direction, Edge, hint_edges
from routing.fees import Policy
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import Route

log = logging.getLogger(__name__)
DRAWS: Final = 8
"""Session keys that are tried for one onion."""
_SHORT: Final = frozenset({FailureCode.TEMPORARY_CHANNEL_FAILURE})
"""What a hop says that has too little on that side, or too many locks of one neighbour: one code for both, so that
nobody reads a balance from it."""
_AWAY: Final = frozenset(
    {
        FailureCode.UNKNOWN_NEXT_PEER,
        FailureCode.TEMPORARY_NODE_FAILURE,
        FailureCode.CHANNEL_CLOSING,
        FailureCode.CHANNEL_DISABLED,
        FailureCode.SAFE_MODE,
    }
)
"""What a hop says that takes nothing just now, whatever the amount."""
_TERMS: Final = frozenset(
    {
        FailureCode.AMOUNT_BELOW_MINIMUM,
        FailureCode.FEE_INSUFFICIENT,
        FailureCode.INCORRECT_EXPIRY,
        FailureCode.CHANNEL_DISABLED,
    }
)
"""What a hop says whose policy forbids the lock; its newest one comes with it."""


@dataclass(frozen=True, slots=True)
class Lock:
    """One saved hop: who offers `amount` to whom."""

    direction: Direction
    source: NodeId
    target: NodeId
    amount: Amount


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a lock that came back says: error code and text for the caller, and the direction not to be used again for
    this payment, or not for `short` or more. `final`: the payee itself said it, trying again is vain. `told`: the hop
    asks other terms than we knew, and has said which; the code is empty then, as what comes after says more."""

    code: str
    text: str
    avoid: Direction | None
    short: Amount | None = None
    final: bool = False
    told: bool = False


def attempt_of(asked: Invoice, route: Route, secrets: Sequence[bytes]) -> Attempt:
    hops = [[hop.channel_id, int(hop.side), hop.source, hop.target, str(hop.amount)] for hop in route.hops]
    return Attempt(hash=asked.payment_hash, route=pack([list(secrets), hops]))


def locks_of(attempt: Attempt) -> tuple[list[bytes], list[Lock]]:
    """The secrets shared with its hops, and the locks, our own first; nothing of one that was taken before a
    restart."""
    if not attempt.route:
        return [], []
    secrets, hops = unpack(attempt.route)
    return secrets, [
        Lock((ChannelId(one[0]), Side(one[1])), NodeId(one[2]), NodeId(one[3]), Amount(int(one[4]))) for one in hops
    ]


def build(
    asked: Invoice,
    total: Amount,
    route: Route,
    now: Timestamp,
    randomness: Callable[[int], bytes],
    *,
    drawn: bytes = b"",
) -> onion.Built:
    """The onion for one part of `total`. Broken: none can be built, as the route is longer than any may be.

    drawn: the preimage, which the payee of a keysend is told."""
    payloads: list[tuple[NodeId, bytes]] = []
    for hop, onward in zip(route.hops, route.hops[1:], strict=False):
        told = ForwardPayload(
            next_channel=onward.channel_id,
            amount=onward.amount,
            expiry=Timestamp(now + onward.expiry_delta),
        )
        payloads.append((hop.target, payload.encode(told)))
    last = route.hops[-1]
    final = FinalPayload(
        amount=last.amount,
        expiry=Timestamp(now + last.expiry_delta),
        payment_secret=asked.payment_secret,
        total=total,
        preimage=drawn,
    )
    payloads.append((last.target, payload.encode(final)))
    for _ in range(DRAWS):
        try:
            return onion.build(payloads, asked.payment_hash, randomness(32))
        except ValueError as fault:  # 32 bytes that are no private key: chance 2**-127
            log.warning("no onion: %s", fault)
    raise Broken(f"no onion can be built for {len(payloads)} hops")


def offer_of(tag: bytes, asked: Invoice, route: Route, packet: bytes, now: Timestamp) -> Offer:
    first = route.hops[0]
    expiry = Timestamp(now + first.expiry_delta)
    return Offer(tag=tag, amount=first.amount, key=asked.payment_hash, expiry=expiry, onion=packet)


class Lessons:
    """Reads what became of attempts, and teaches `liquidity`. Our own hop is not learned of: we know what we have."""

    def __init__(self, graph: Graph, liquidity: Liquidity) -> None:
        self._graph, self._liquidity = graph, liquidity
        self.lately = Lately(graph)

    def taken(self, carried: Iterable[tuple[Direction, Amount]], now: Timestamp) -> None:
        """The payee took it: at every hop of others the money has moved."""
        for direction, amount in carried:
            self._liquidity.settled(direction, amount, self._capacity(direction), now)
            self.lately.there(direction)

    def returned(self, attempt: Attempt, reason: bytes, now: Timestamp) -> Lesson:
        secrets, locks = locks_of(attempt)
        if not locks:
            return Lesson("payment_failed", "a lock came back of which nothing is known any more", None)
        if not reason:
            return Lesson("payment_failed", "the first channel gave the lock back unexplained", locks[0].direction)
        try:
            at, message = onion.unwrap_error(secrets, reason)
            told = failure.decode(message)
        except Malformed:
            return Lesson("payment_failed", "a hop answered with an error nobody can read", locks[0].direction)
        self._carried(locks[1 : at + 1], now)
        text = f"{told.code.name.lower()} at hop {at + 1} of {len(locks)} (0x{locks[at].target.hex()[:16]}…)"
        last = at == len(locks) - 1
        if told.code.at_payee and last:
            return Lesson(_payee_code(told.code), text, None, final=True)
        blamed = locks[at] if last else locks[at + 1]
        if told.code in _TERMS and not last and self.lately.told(blamed.direction, blamed.source, told.data, now):
            return Lesson("", text, blamed.direction, told=True)
        if told.code in _AWAY:
            self.lately.gone(blamed.direction, now)
        short = None
        if told.code in _SHORT and not last:
            short = blamed.amount
            self._liquidity.failed(blamed.direction, short, self._capacity(blamed.direction), now)
        return Lesson(_hop_code(told.code, at, len(locks)), text, blamed.direction, short)

    def _carried(self, locks: Iterable[Lock], now: Timestamp) -> None:
        for lock in locks:
            self._liquidity.carried(lock.direction, lock.amount, self._capacity(lock.direction), now)
            self.lately.there(lock.direction)

    def _capacity(self, direction: Direction) -> Amount | None:
        channel = self._graph.channel(direction[0])
        return None if channel is None else channel.capacity


def hints_of(asked: Invoice) -> list[Edge]:
    """The invoice's hints as edges."""
    ways = (
        [
            (
                hop.node,
                hop.channel,
                Policy(fee_base=hop.fee_base, fee_ppm=hop.fee_ppm, expiry_delta=hop.expiry_delta),
            )
            for hop in way
        ]
        for way in asked.hints
    )
    return [edge for way in ways for edge in hint_edges(way, asked.payee)]


def _payee_code(code: FailureCode) -> str:
    told = {
        FailureCode.UNKNOWN_PAYMENT: "payment_rejected",
        FailureCode.REJECTED_BY_PAYEE: "payment_rejected",
        FailureCode.PAYMENT_TIMEOUT: "payment_timeout",
    }
    return told.get(code, "payment_failed")


def _hop_code(code: FailureCode, at: int, hops: int) -> str:
    if code is FailureCode.SAFE_MODE:
        return "safe_mode"
    if code is FailureCode.UNKNOWN_NEXT_PEER and at == hops - 2:
        return "payee_offline"
    return "hop_short" if code in _SHORT else "payment_failed"
