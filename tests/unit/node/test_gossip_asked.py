"""Asking a peer for its gossip: it comes as fast as it is judged, an honest one loses nothing, a liar gains nothing.

The peer that is asked is played by a `Teller`, which answers by hand; what is kept is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import trio

from channeld.base.keys import Key, sha256
from channeld.base.units import Amount, ChannelId, Seconds, Side, Signature, Timestamp
from channeld.chain.chain import BlockRef, Head
from channeld.node import asking, gossip, lookups
from channeld.node.believed import Source
from channeld.node.judging import Claim
from channeld.peers.listen import listen
from channeld.peers.talk import PeerStream
from channeld.wire import messages as wire
from channeld.wire import pages
from channeld.wire.address import HostPort, NodeAddress
from routing.announcements import MAX_FUTURE, Rate, Spam
from routing.graph import MAX_AGE
from tests.unit.node.gossips import (
    CHEAT,
    DEPOSIT,
    DOMAIN,
    LOOPBACK,
    NOW,
    Cheat,
    Node,
    announcement,
    channel_between,
    opened,
    started,
    until,
    update,
)

OTHER = Key(sha256(b"somebody else"))
Answer = Callable[[wire.GossipQuery], Sequence[wire.Message]]


def page(
    kind: int, *messages: wire.Message, at: int = NOW, after: bytes = b"\xff", last: bool = True, more: bool = False
) -> wire.GossipPage:
    return wire.GossipPage(
        kind=kind,
        since=Timestamp(at),
        after=after,
        last=last,
        more=more,
        messages=pages.join(wire.encode(message) for message in messages),
    )


def nothing(query: wire.GossipQuery) -> Sequence[wire.Message]:
    return [wire.GossipPage(kind=query.kind, since=query.since, after=query.after, last=True, more=False, messages=b"")]


class Teller:
    """A peer that is dialled, and answers as a test wants it to: with `tells` by kind, once, if that says nothing."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer: Answer = answer or self._tells
        self.tells: dict[int, Sequence[wire.Message]] = {}
        self.queries: list[wire.GossipQuery] = []
        self.heard: list[wire.Message] = []
        self.stream: PeerStream | None = None
        self.at: HostPort = LOOPBACK
        self.key = CHEAT
        self.cut = 0

    async def start(self, nursery: trio.Nursery) -> None:
        self.at = await nursery.start(partial(listen, LOOPBACK, self.key, self._talk))

    async def be_asked_by(self, node: Node) -> None:
        await node.lines.connect(NodeAddress(node=self.key.public, at=self.at))

    async def _talk(self, stream: PeerStream) -> None:
        self.stream = stream
        await self.say(wire.Init(chain_id=DOMAIN.chain_id, manager=DOMAIN.manager))
        try:
            while True:
                for message in await stream.receive():
                    self.heard.append(message)
                    if isinstance(message, wire.GossipQuery):
                        self.queries.append(message)
                        await self.say(*self.answer(message))
        finally:
            self.cut += 1

    async def say(self, *messages: wire.Message) -> None:
        assert self.stream is not None
        await self.stream.send([wire.encode(message) for message in messages])

    def count(self, kind: type[wire.Message]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)

    def _tells(self, query: wire.GossipQuery) -> Sequence[wire.Message]:
        told = self.tells.get(query.kind, ())
        return [page(query.kind, *told)] if told and (query.since, query.after) < (NOW, b"\xff") else nothing(query)


class Town:
    """An opener and an acceptor with channels, a hub that shall hear of them, and who tells it."""

    def __init__(self, opener: Node, acceptor: Node, hub: Node, teller: Teller) -> None:
        self.opener, self.acceptor, self.hub, self.teller = opener, acceptor, hub, teller
        self.ids: list[ChannelId] = []

    def channels(self, number: int, *, first: int = 1) -> list[wire.ChannelAnnouncement]:
        ids = [channel_between(self.opener, self.acceptor, nonce=nonce) for nonce in range(first, first + number)]
        self.ids += ids
        return [announcement(self.opener, self.acceptor, id_) for id_ in ids]

    def policies(self, at: int = NOW) -> list[wire.ChannelUpdate]:
        return [
            update(node, id_, side, at)
            for id_ in self.ids
            for node, side in ((self.opener, Side.A), (self.acceptor, Side.B))
        ]

    @property
    def all_known(self) -> bool:
        return all(self.hub.knows(id_) for id_ in self.ids)

    async def quiet(self) -> None:
        """Until the hub has asked and judged and looked up all there is."""
        await until(lambda: self.teller.queries and not self.hub.gossip.extent()["syncing"])


@pytest.fixture
async def town(nursery: trio.Nursery) -> Town:
    opener, acceptor, hub = await started(nursery, "opener", "acceptor", "hub")
    made = Town(opener, acceptor, hub, Teller())
    await made.teller.start(nursery)
    return made


# -- the honest


async def test_channels_then_policies_then_nodes_are_asked_for_and_looked_up_together(town: Town) -> None:
    town.teller.tells = {pages.CHANNELS: town.channels(50), pages.POLICIES: town.policies()}
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    assert town.all_known
    assert [query.kind for query in town.teller.queries] == list(pages.KINDS)
    assert sorted(town.hub.chain.asked) == sorted(town.ids)
    assert town.hub.chain.requests == 1
    assert town.hub.gossip.extent() == {"channels": 50, "nodes": 2, "syncing": False}
    assert not town.teller.count(wire.Warning)


async def test_what_two_peers_tell_at_the_same_time_is_judged_and_looked_up_once(
    town: Town, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified, judge = list[wire.ChannelAnnouncement](), town.hub.gossip._judging._channel

    def counted(message: wire.ChannelAnnouncement) -> Claim | None:
        if (claim := judge(message)) is not None:
            verified.append(message)
        return claim

    monkeypatch.setattr(town.hub.gossip._judging, "_channel", counted)
    town.teller.tells = {pages.CHANNELS: town.channels(30), pages.POLICIES: town.policies()}
    other = Node("other", town.hub.chain, nursery)
    await other.start()
    await town.teller.be_asked_by(other)
    await until(lambda: all(other.knows(id_) for id_ in town.ids))
    await other.gossip.known.settled()
    town.hub.chain.asked.clear()
    async with trio.open_nursery() as both:
        both.start_soon(town.hub.connect, other)
        both.start_soon(town.teller.be_asked_by, town.hub)
    await until(lambda: town.all_known)
    await town.quiet()
    assert sorted(town.hub.chain.asked) == sorted(town.ids)
    assert len(verified) == len(town.ids)


async def test_no_more_is_asked_for_while_much_waits_for_the_chain(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our RPC is down: two answers are all that a peer can make us keep, and nothing of it is lost."""
    monkeypatch.setattr(lookups, "WINDOW", 3)
    said = iter(town.channels(40))
    numbers = count(1)

    def four_at_a_time(query: wire.GossipQuery) -> Sequence[wire.Message]:
        if query.kind != pages.CHANNELS:
            return nothing(query)
        told = [message for _, message in zip(range(4), said, strict=False)]
        return [page(query.kind, *told, after=bytes([next(numbers)]), more=True)] if told else nothing(query)

    town.teller.answer = four_at_a_time
    town.hub.chain.down = True
    await town.teller.be_asked_by(town.hub)
    await until(lambda: len(town.teller.queries) == 2)
    await trio.sleep(0.2)
    assert (len(town.teller.queries), len(town.hub.gossip.lookups)) == (2, 4)
    assert town.hub.gossip.extent()["syncing"]
    town.hub.chain.down = False
    await town.quiet()
    assert len(town.hub.graph) == 40


async def test_a_peer_that_does_not_answer_holds_up_no_other(
    town: Town, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.teller.answer = lambda _: []
    await town.teller.be_asked_by(town.hub)
    await until(lambda: town.teller.queries)
    await town.opener.connect(town.acceptor)
    id_ = channel_between(town.opener, town.acceptor)
    opened(id_, town.opener, town.acceptor)
    await until(lambda: town.acceptor.knows(id_))
    await town.hub.connect(town.acceptor)
    await until(lambda: town.hub.knows(id_))
    assert town.hub.gossip.asking.busy
    await town.teller.say(wire.Ping())  # and its line is read meanwhile
    await until(lambda: town.teller.count(wire.Pong))


async def test_with_all_places_taken_by_peers_that_do_not_answer_others_wait_for_their_turn(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWERED_IN", 0.3)
    monkeypatch.setattr(town.hub.gossip.asking, "_turns", trio.Semaphore(1))
    town.teller.answer = lambda _: []
    await town.teller.be_asked_by(town.hub)
    await until(lambda: town.teller.queries)
    await town.opener.connect(town.acceptor)
    id_ = channel_between(town.opener, town.acceptor)
    opened(id_, town.opener, town.acceptor)
    await town.hub.connect(town.acceptor)
    await until(lambda: town.hub.knows(id_) and not town.hub.gossip.asking.busy)
    assert not town.teller.cut  # it is only not asked any more


async def test_a_line_that_was_cut_is_gone_on_with_where_it_was(town: Town, nursery: trio.Nursery) -> None:
    first, second = town.channels(3), town.channels(3, first=9)

    def cut_after_one(query: wire.GossipQuery) -> Sequence[wire.Message]:
        if query.after == b"":
            return [page(query.kind, *first, after=b"\1", more=True)]
        return []

    town.teller.answer = cut_after_one
    await town.teller.be_asked_by(town.hub)
    await until(lambda: len(town.teller.queries) == 2 and len(town.hub.graph) == 3)
    town.teller.queries.clear()
    town.teller.answer = lambda query: [page(query.kind, *second)] if query.kind == pages.CHANNELS else nothing(query)
    assert town.teller.stream is not None
    await town.teller.stream.aclose()
    await until(lambda: len(town.hub.graph) == 6)
    assert (town.teller.queries[0].since, town.teller.queries[0].after) == (NOW, b"\1")


async def test_how_far_a_peer_has_told_outlives_the_process(town: Town, nursery: trio.Nursery) -> None:
    town.teller.tells = {pages.CHANNELS: town.channels(3), pages.POLICIES: town.policies()}
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    await until(lambda: town.hub.gossip.known.read_marks())
    await town.hub.gossip.known.settled()
    for passed, since in ((0, NOW - asking.OVERLAP), (MAX_AGE // 2 + 9, 0)):
        again = Node("hub", town.hub.chain, nursery, town.hub.store)
        again.time = NOW + passed
        await again.start()
        town.teller.queries.clear()
        await town.teller.be_asked_by(again)
        await until(lambda: town.teller.queries)
        assert (town.teller.queries[0].since, town.teller.queries[0].after) == (since, b"")
        (line,) = again.lines
        line.cut()
        again.lines._dialling[CHEAT.public].cancel()
        await until(lambda line=line: line.ended.is_set())  # type: ignore[misc]


async def test_each_hour_peers_are_asked_for_what_they_could_not_tell(town: Town) -> None:
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    town.teller.tells = {pages.CHANNELS: town.channels(2)}
    await town.hub.gossip.tend()
    await until(lambda: len(town.hub.graph) == 2)


async def test_a_peer_without_news_is_not_asked_for_all_again(town: Town) -> None:
    """It may not have learned of a channel for weeks: what counts is when we have heard it."""
    town.teller.tells = {pages.CHANNELS: town.channels(1)}
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    for passed in (-10, 10):
        town.hub.time = NOW + asking.LONG_AGO + passed
        town.teller.queries.clear()
        await town.hub.gossip.tend()
        await town.quiet()
        assert (town.teller.queries[0].kind, town.teller.queries[0].since) == (pages.CHANNELS, NOW - asking.OVERLAP)


async def test_of_a_long_telling_others_hear_the_beginning(
    town: Town, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PASSED_ON", 3)
    neighbour = await Cheat.at(town.hub, nursery)
    await until(lambda: town.hub.lines.of(CHEAT.public) is not None)
    other = Teller()
    other.key = OTHER
    await other.start(nursery)
    other.tells = {pages.CHANNELS: town.channels(8)}
    await other.be_asked_by(town.hub)
    await until(lambda: len(town.hub.graph) == 8)
    await neighbour.say(wire.Ping())
    await until(lambda: neighbour.count(wire.Pong))
    assert neighbour.count(wire.ChannelAnnouncement) == 3
    assert len(await neighbour.ask(pages.CHANNELS)) == 8


# -- what the chain says meanwhile


async def test_while_our_chain_is_old_nobody_is_believed_and_nobody_blamed(town: Town) -> None:
    told = town.channels(2)
    words, town.hub.chain.words = town.hub.chain.words, {}
    block = BlockRef(number=1, hash=bytes(32), timestamp=Timestamp(NOW - 1_000))
    town.hub.world.head, town.hub.world.fault = Head(latest=block, safe=block, finalized=block), None
    town.teller.tells = {pages.CHANNELS: told}
    await town.teller.be_asked_by(town.hub)
    await until(lambda: len(town.hub.gossip.lookups) == 2)
    await trio.sleep(0.3)
    assert not town.hub.chain.asked
    town.hub.chain.words = words
    block = replace(block, timestamp=Timestamp(NOW))
    town.hub.world.head = Head(latest=block, safe=block, finalized=block)
    await until(lambda: len(town.hub.graph) == 2)
    assert not town.teller.count(wire.Warning)


async def test_a_slow_node_is_asked_for_less_at_a_time(town: Town) -> None:
    """What watches the chain asks the same node."""
    pending, sizes = town.hub.gossip.lookups, []
    for seconds in (0.01, 0.01, 0.01, 0.3, 0.6, 0.6, 0.6):
        pending._fit(seconds)
        sizes.append(pending._size)
    assert sizes == [200, 400, 500, 500, 250, 125, 100]
    pending._size = 20
    town.teller.tells = {pages.CHANNELS: town.channels(60)}
    await town.teller.be_asked_by(town.hub)
    await until(lambda: len(town.hub.graph) == 60)
    assert town.hub.chain.requests == 2  # of 20, and as that was quick of 40


async def test_what_is_seen_of_a_channel_that_waits_counts(town: Town) -> None:
    told = town.channels(2)
    town.hub.chain.down = True
    town.teller.tells = {pages.CHANNELS: told}
    await town.teller.be_asked_by(town.hub)
    await until(lambda: len(town.hub.gossip.lookups) == 2)
    closed, grown = town.ids
    town.hub.gossip.seen_gone(closed)
    town.hub.gossip.seen_deposits(grown, Amount(DEPOSIT + 7))
    town.hub.chain.down = False
    await until(lambda: grown in town.hub.graph)
    known = town.hub.graph.channel(grown)
    assert known is not None and known.capacity == DEPOSIT + 7
    assert closed not in town.hub.graph and not len(town.hub.gossip.lookups)


async def test_a_channel_that_has_closed_is_not_learned_again_from_who_does_not_know(town: Town) -> None:
    told = town.channels(1)
    town.teller.tells = {pages.CHANNELS: told, pages.POLICIES: town.policies()}
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    assert town.all_known
    town.hub.gossip.seen_gone(town.ids[0])
    asked = len(town.hub.chain.asked)
    town.hub.gossip.asking._marks.clear()
    await town.hub.gossip.tend()
    await town.quiet()
    assert not len(town.hub.graph) and len(town.hub.chain.asked) == asked


# -- liars


async def test_channels_that_are_not_on_chain_cost_their_teller_the_line(town: Town) -> None:
    """With four good signatures each; they are looked up, never believed, and forgotten."""
    told = town.channels(gossip.FAULT_RATE.burst + 10)
    town.hub.chain.words.clear()
    town.teller.tells = {pages.CHANNELS: told}
    await town.teller.be_asked_by(town.hub)
    await until(lambda: town.teller.cut)
    await until(lambda: not len(town.hub.gossip.lookups))
    assert not len(town.hub.graph)
    assert town.hub.chain.requests <= lookups.LOOKS * 2
    assert len(town.hub.gossip.lookups._refused) == len(told)


async def test_news_that_came_while_a_signature_was_looked_at_are_not_undone(town: Town) -> None:
    town.teller.tells = {pages.CHANNELS: town.channels(1)}
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    source, judge = Source(), town.hub.gossip._judging
    older, newer = (judge.examine(source, town.policies(at)[0]) for at in (NOW, NOW + 1))
    assert older is not None and newer is not None
    older.verify()
    newer.take(source)
    older.take(source)
    await town.hub.gossip.known.settled()
    ((kept,),) = town.hub.store.rows("SELECT bytes FROM gossip WHERE kind = 50")
    assert wire.decode(kept) == town.policies(NOW + 1)[0]


@pytest.mark.parametrize("number", [3, gossip.FEW + 20], ids=["on the spot", "in a thread"])
async def test_a_false_signature_in_a_page_costs_its_own_message_alone(town: Town, number: int) -> None:
    told, policies = town.channels(number), town.policies()
    false, flipped = told[1], bytearray(told[1].participant_signature_b)
    flipped[5] ^= 1
    told[1] = replace(false, participant_signature_b=Signature(bytes(flipped)))
    policies[0] = replace(policies[0], fee_ppm=policies[0].fee_ppm + 1)
    town.teller.tells = {pages.CHANNELS: told, pages.POLICIES: policies}
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    assert len(town.hub.graph) == number - 1 and town.ids[1] not in town.hub.graph
    assert town.hub.graph.policy(town.ids[0], Side.A) is None
    assert town.hub.knows(town.ids[2]) and town.hub.graph.policy(town.ids[0], Side.B) is not None
    assert town.teller.count(wire.Warning) == 2 and not town.teller.cut


async def test_policies_from_the_future_and_of_unknown_channels_are_passed_over(town: Town) -> None:
    told = town.channels(2)
    strange = town.policies(NOW)[2:]
    town.ids = town.ids[:1]
    town.teller.tells = {
        pages.CHANNELS: told[:1],
        pages.POLICIES: [*town.policies(NOW + MAX_FUTURE + 1), *strange],
    }
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    assert len(town.hub.graph) == 1
    assert [town.hub.graph.policy(town.ids[0], side) for side in Side] == [None, None]
    assert not town.hub.gossip.known.private and not town.teller.count(wire.Warning) and not town.teller.cut


def _endless(told: Sequence[wire.Message]) -> Answer:
    """Always the same, under marks that rise."""
    numbers = count(1)

    def answer(query: wire.GossipQuery) -> Sequence[wire.Message]:
        return [page(query.kind, *told, after=next(numbers).to_bytes(4, "big"), more=True)]

    return answer


def _standing(told: Sequence[wire.Message]) -> Answer:
    return lambda query: [page(query.kind, *told, after=b"\1", more=True)]


def _falling(told: Sequence[wire.Message]) -> Answer:
    return lambda query: [page(query.kind, *told, at=NOW - len(query.after), after=query.after + b"\1", more=True)]


def _empty(_: Sequence[wire.Message]) -> Answer:
    return lambda query: [page(query.kind, after=query.after + b"\1", more=True)]


def _unlast(told: Sequence[wire.Message]) -> Answer:
    numbers = range(pages.MOST + 1)
    return lambda query: [page(query.kind, *told, after=bytes([n]), last=False, more=True) for n in numbers]


def _another_class(told: Sequence[wire.Message]) -> Answer:
    return lambda query: [page(query.kind, *told, wire.Ping())]


def _cut_short(told: Sequence[wire.Message]) -> Answer:
    return lambda query: [replace(page(query.kind, *told), messages=page(query.kind, *told).messages[:-1])]


def _longer(told: Sequence[wire.Message]) -> Answer:
    """The last message is said to be longer than it is."""
    data = wire.encode(told[0])
    wrong = (len(data) + 1).to_bytes(2, "big") + data
    return lambda query: [replace(page(query.kind), messages=wrong)] if query.kind == pages.CHANNELS else nothing(query)


def _half_a_length(told: Sequence[wire.Message]) -> Answer:
    return lambda query: [replace(page(query.kind, *told), messages=b"\0")]


@pytest.mark.parametrize(
    "lie", [_endless, _standing, _falling, _empty, _unlast, _another_class, _cut_short, _longer, _half_a_length]
)
async def test_pages_that_lead_nowhere_end_the_line(
    town: Town, monkeypatch: pytest.MonkeyPatch, lie: Callable[[Sequence[wire.Message]], Answer]
) -> None:
    monkeypatch.setattr(asking, "MOST_TOLD", dict.fromkeys(pages.KINDS, 60))
    town.teller.answer = lie(town.channels(2))
    await town.teller.be_asked_by(town.hub)
    await until(lambda: town.teller.cut)
    assert len(town.hub.graph) <= 2
    assert len(town.teller.queries) <= (33 if lie is _endless else 3)


async def test_a_page_that_nobody_asked_for_is_not_kept(town: Town, nursery: trio.Nursery) -> None:
    told = town.channels(2)
    cheat = await Cheat.at(town.hub, nursery)
    await cheat.say(page(pages.CHANNELS, *told))
    await until(lambda: cheat.count(wire.Warning) == 1)
    for _ in range(gossip.FAULT_RATE.burst):
        await cheat.say(page(pages.CHANNELS, *told))
    await until(lambda: cheat.cut)
    assert not len(town.hub.graph) and not len(town.hub.gossip.lookups) and not town.hub.gossip.asking.busy


async def test_a_flood_of_news_is_bounded_and_what_was_lost_is_asked_for(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than may come unasked: it is passed over, whatever it is, and found when we ask the next time."""
    monkeypatch.setattr(town.hub.gossip, "_rate", Spam(Rate(burst=5, every=Seconds(60))))
    await town.teller.be_asked_by(town.hub)
    await town.quiet()
    told = town.channels(12)
    await town.teller.say(*told, *told, *told)
    await until(lambda: len(town.hub.graph) == 5)
    await trio.sleep(0.1)
    assert len(town.hub.graph) == 5 and not town.teller.cut
    town.teller.tells = {pages.CHANNELS: told}
    await town.hub.gossip.tend()
    await until(lambda: len(town.hub.graph) == 12)


async def test_strangers_together_bring_no_more_than_one(
    town: Town, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(town.hub.gossip, "_strangers", Spam(Rate(burst=5, every=Seconds(60))))
    told = town.channels(12)
    for number in range(4):
        stranger = await Cheat.at(town.hub, nursery, Key(sha256(bytes([number]))))
        await stranger.say(*told[3 * number : 3 * number + 3], wire.Ping())
        await until(lambda stranger=stranger: stranger.count(wire.Pong))  # type: ignore[misc]
    await until(lambda: len(town.hub.graph) == 5)
    town.teller.tells = {pages.CHANNELS: told}
    await town.teller.be_asked_by(town.hub)  # whom we dial is none
    await until(lambda: len(town.hub.graph) == 12)


async def test_news_of_channels_wait_for_the_chain_only_as_many_as_there_is_room_for(
    town: Town, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_PENDING", 7)
    town.hub.chain.down = True
    cheat = await Cheat.at(town.hub, nursery, OTHER)
    told = town.channels(20)
    await cheat.say(*told, *town.policies(), *town.policies(NOW + 1), wire.Ping())
    await until(lambda: cheat.count(wire.Pong))
    pending = town.hub.gossip.lookups
    assert len(pending) == 7
    assert all(len(one.updates) == 2 for one in pending._pending.values())
    town.teller.tells = {pages.CHANNELS: town.channels(5, first=50)}  # what we ask for finds room
    await town.teller.be_asked_by(town.hub)
    await until(lambda: len(pending) == 12)
    town.hub.chain.down = False
    await until(lambda: len(town.hub.graph) == 12)
