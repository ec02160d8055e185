"""A node of ours with a hub and others behind it, as gossip would tell of them; and what hops say of a lock of ours."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Final

from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Amount, ChannelId, NodeId, Seconds, Side
from channeld.node.attempts import locks_of
from channeld.node.ledger import Attempt
from channeld.node.loop import Actor
from channeld.wire import failure, onion
from channeld.wire.failure import Failure, FailureCode
from routing.fees import Policy
from routing.graph import Channel
from tests.roles import START, open_pair
from tests.unit.node.parts import Parts, renamed

HUB, FARTHER, PAYEE = (Key(sha256(name)) for name in (b"the hub", b"the one behind it", b"the payee"))
TOLL: Final = Policy(fee_base=Amount(3), fee_ppm=0, expiry_delta=Seconds(10), timestamp=START)
FIRST, SECOND, THIRD = (ChannelId(bytes([number]) * 32) for number in (7, 17, 27))
"""Ours with the hub, the hub's with the next, and that one's with the payee where the hub's does not lead there."""


async def street(node: Parts, *between: Key, policy: Policy = TOLL, ours: int = 1) -> Actor:
    """Channels of ours with the hub, in each of which we have 500 (the first is told), and public channels of 1,000
    from there to the payee."""
    first, *_ = [
        await node.add(replace(renamed(open_pair().acceptor.channel, 7 + number), peer=HUB.public))
        for number in range(ours)
    ]
    stops = [HUB, *between, PAYEE]
    for number, (source, target) in enumerate(pairwise(stops)):
        lay(node, (SECOND, THIRD)[number], source, target, policy)
    return first


def lay(node: Parts, id_: ChannelId, source: Key, target: Key, policy: Policy = TOLL, capacity: int = 1_000) -> None:
    """A public channel, and what its source asks for."""
    graph = node.payments._graph
    graph.add(
        Channel(
            channel_id=id_,
            node_a=NodeId(source.public),
            node_b=NodeId(target.public),
            token=NATIVE,
            capacity=Amount(capacity),
            seen=START,
        )
    )
    graph.set_policy(id_, Side.A, policy)


def attempts(node: Parts) -> list[Attempt]:
    """Those that are offered, oldest first."""
    rows = node.store.rows("SELECT channel, lock FROM attempts WHERE state = 'offered' ORDER BY rowid")
    found = [node.book.attempt(row) for row in rows]
    return [one for one in found if one is not None]


def answer(attempt: Attempt, at: int, code: FailureCode) -> bytes:
    """What the payer gets when hop `at` gives the lock back; the first is 0."""
    secrets, _ = locks_of(attempt)
    reason = onion.create_error(secrets[at], failure.encode(Failure(code=code)))
    for secret in reversed(secrets[:at]):
        reason = onion.wrap_error(secret, reason)
    return reason
