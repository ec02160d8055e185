"""Ways for what we send: over our channels as they are now, and on by what gossip tells and payments have taught.

Payments, estimates and probes ask here, so each of them sees the same network. A way round, from one channel of ours to
another, is found here too: only we know what the channels at both of its ends hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from channeld.base.errors import Refused
from channeld.base.quick import replace
from channeld.base.units import Address, Amount, ChannelId, NodeId, Seconds
from channeld.core.channel import Channel, Session
from channeld.node import reasons
from channeld.node.lately import Lately
from channeld.node.ledger import Book
from channeld.node.loop import Actor
from channeld.node.payment_row import Circle
from channeld.node.world import World
from routing.circles import find_circle
from routing.edges import Direction, Edge
from routing.fees import Policy, stricter
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import NoRoute, Route
from routing.splitting import MAX_PARTS, Ask, alone, chance, find_parts
from routing.ways import OwnChannel

_Found = TypeVar("_Found", Route, tuple[Route, ...])


class Finder:
    """See the file's head. `least_part`: in a token, below which no part is made."""

    def __init__(
        self,
        book: Book,
        world: World,
        graph: Graph,
        *,
        us: NodeId,
        liquidity: Liquidity,
        lately: Lately,
        least_part: Callable[[Address], Amount],
    ) -> None:
        self._book, self._world, self._graph = book, world, graph
        self._us, self._liquidity, self._lately, self._least_part = us, liquidity, lately, least_part
        self.policy: Callable[[Direction], Policy | None] = lambda direction: graph.policy(*direction)
        """What a node asks for sending out over a channel, also over one of ours that is not announced."""

    def ask(
        self,
        target: NodeId,
        token: Address,
        amount: Amount,
        max_fee: Amount,
        *,
        final_delta: Seconds,
        hints: Sequence[Edge] = (),
    ) -> Ask:
        """A question about now. `final_delta`: seconds the payee wants its lock to have; a margin is added."""
        return Ask(
            source=self._us,
            target=target,
            token=token,
            amount=amount,
            final_expiry_delta=Seconds(final_delta + 3 * self._world.network.clock_skew),
            own_channels=tuple(self._own_channels()),
            max_fee=max_fee,
            now=self._world.now,
            hints=hints,
            terms=self._lately.terms(self._world.now),
            liquidity=self._liquidity,
        )

    def parts(self, ask: Ask, carried: Iterable[tuple[Direction, Amount]] = ()) -> tuple[Route, ...]:
        """Routes for all of it, beside what is `carried` already. NoRoute: as `splitting.find_parts`."""
        least, standing = max(Amount(1), self._least_part(ask.token)), list(carried)
        most = max(1, min(MAX_PARTS, ask.amount // least))

        def find(some: Ask) -> tuple[Route, ...]:
            return find_parts(self._graph, some, max_parts=most, least=least, standing=standing)

        return self._round_the_away(ask, find)

    def plan(self, ask: Ask, *, whole: bool = False) -> tuple[tuple[Route, ...], float]:
        """How a payment would go now, and how likely all of it arrives. `whole`: in one part.

        Refused: by the codes that callers know.
        """
        try:
            routes = (alone(self._graph, ask),) if whole else self.parts(ask)
        except Refused as no_way:
            raise reasons.told(no_way) from None
        return routes, chance(routes, ask)

    def round(self, ask: Ask, circle: Circle) -> Route:
        """The way round for a payment to ourselves. Refused: what is in its way, naming the channel."""
        out, into = self._ready(circle.out), self._ready(circle.into)
        first = next(one for one in ask.own_channels if one.channel_id == out.id)
        if first.spendable < ask.amount:
            text = f"channel 0x{out.id.hex()} can send {first.spendable}, not {ask.amount} and fees"
            raise Refused("insufficient_balance", text)
        if into.peer_balance < ask.amount:
            text = f"the last hop, channel 0x{into.id.hex()}: its peer has {into.peer_balance} there, not {ask.amount}"
            raise Refused("hop_short", text)
        direction = into.id, into.we.other
        policy, told = self.policy(direction), ask.terms.get(direction)
        if policy is None:
            text = f"the peer of channel 0x{into.id.hex()} has not told yet what it takes for passing payments on there"
            raise Refused("no_route", text)
        last = Edge(
            channel_id=into.id,
            side=into.we.other,
            source=into.peer,
            target=self._us,
            policy=policy if told is None else stricter(policy, told),
            capacity=Amount(into.told[into.we.other] + into.heard[into.we]),
        )
        return self._round_the_away(ask, lambda some: find_circle(self._graph, some, first, last))

    def _round_the_away(self, ask: Ask, find: Callable[[Ask], _Found]) -> _Found:
        """Round nodes that were away lately; where there is no other way, over them, as nodes come back."""
        away = self._lately.away(ask.now) - ask.exclude
        if away:
            with suppress(NoRoute):
                return find(replace(ask, exclude=ask.exclude | away))
        return find(ask)

    def _ready(self, channel: ChannelId) -> Channel:
        """A channel of ours over which locks can go now."""
        actor = self._book.actors.get(channel)
        if actor is None or not _takes(actor):
            raise Refused("channel_not_open", f"channel 0x{channel.hex()} takes no payments now")
        if actor.channel.session is not Session.LIVE:
            raise Refused("unreachable", f"the peer of channel 0x{channel.hex()} is not connected")
        return actor.channel

    def _own_channels(self) -> Iterable[OwnChannel]:
        for actor in self._book.actors.values():
            channel = actor.channel
            if channel.session is Session.LIVE and _takes(actor):
                yield OwnChannel(
                    channel_id=channel.id,
                    side=channel.we,
                    peer=channel.peer,
                    token=channel.token,
                    spendable=channel.spendable if slots(channel) > 0 else Amount(0),
                )


def slots(channel: Channel) -> int:
    """How many locks of ours it has room for, those that wait in the queue counted."""
    return channel.max_locks - channel.newest_body.count(channel.we) - channel.reserved_locks


def _takes(actor: Actor) -> bool:
    return actor.channel.signs and not actor.channel.leaving and not actor.broken
