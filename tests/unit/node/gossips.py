"""What tests of gossip stand on: nodes as far as they gossip, over real connections, and peers that say what they like.

The chain is a table of channels; everything else is the daemon's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import trio

from channeld.base.digests import Domain, Terms, channel_id, salt_commitment
from channeld.base.errors import Unreachable
from channeld.base.keys import Key, keccak, sha256
from channeld.base.units import NATIVE, Address, Amount, ChannelId, Digest, Seconds, Side, Timestamp, Version
from channeld.chain.chain import ChannelWord
from channeld.chain.networks import network
from channeld.core.channel import Channel, Phase
from channeld.node import announcing
from channeld.node.gossip import Gossip
from channeld.node.ledger import Book
from channeld.node.lines import Lines
from channeld.node.loop import Actor
from channeld.node.world import World
from channeld.peers.dial import dial
from channeld.peers.listen import listen
from channeld.peers.talk import PeerStream
from channeld.storage.sqlite import SqliteStore
from channeld.wire import messages as wire
from channeld.wire import pages
from channeld.wire.address import HostPort, NodeAddress
from routing.fees import Policy
from routing.graph import Graph

NOW = Timestamp(1_000_000)
DOMAIN = Domain(chain_id=31337, manager=Address(b"\7" * 20))
LOOPBACK = HostPort(host="127.0.0.1", port=0)
DEPOSIT = Amount(1_000)
CHEAT = Key(sha256(b"cheat"))
EMPTY = ChannelWord(
    deposit_a=Amount(0),
    deposit_b=Amount(0),
    version=Version(0),
    deadline=Timestamp(0),
    flags=0,
    record=Digest(bytes(32)),
)
OPEN_WORD = replace(EMPTY, deposit_a=DEPOSIT)


@dataclass
class ChainTable:
    """What the contract keeps, and how often it was asked."""

    words: dict[ChannelId, ChannelWord] = field(default_factory=dict)
    asked: list[ChannelId] = field(default_factory=list)
    requests: int = 0
    down: bool = False

    async def channels(self, ids: Sequence[ChannelId]) -> list[ChannelWord]:
        await trio.lowlevel.checkpoint()
        self.asked += ids
        self.requests += 1
        if self.down:
            raise Unreachable("no answer")
        return [self.words.get(id_, EMPTY) for id_ in ids]


class Node:
    """A node as far as it gossips."""

    def __init__(self, role: str, chain: ChainTable, nursery: trio.Nursery, store: SqliteStore | None = None) -> None:
        self.account = Key(sha256(role.encode()))
        self.key = self.account.derive("node")
        self.role, self.chain, self.nursery = role, chain, nursery
        self.store = store or SqliteStore(":memory:")
        self.time: int = NOW
        self.policy = Policy(fee_base=Amount(3), fee_ppm=100, expiry_delta=Seconds(10), max_lock=Amount(900))
        self.world = World(network=network("dev"), clock=lambda: self.time, max_head_age=Seconds(30))
        self.book = Book(self.store, self.world, nursery)
        self.lines = Lines(self.book, self.world, self.key, DOMAIN, nursery)
        self.lines.open.set()
        self.graph = Graph()
        self.gossip = Gossip(
            book=self.book,
            store=self.store,
            world=self.world,
            lines=self.lines,
            graph=self.graph,
            chain=chain,
            domain=DOMAIN,
            node_key=self.key,
            account_key=self.account,
            policy=lambda _: self.policy,
            alias=role,
            addresses=("127.0.0.1:9735",),
            nursery=nursery,
        )
        self.lines.gossip, self.lines.live = self.gossip, self.gossip.live
        self.at = LOOPBACK

    async def start(self) -> None:
        self.gossip.load()
        self.at = await self.nursery.start(partial(listen, LOOPBACK, self.key, self.lines.welcome))

    async def connect(self, other: Node) -> None:
        await self.lines.connect(NodeAddress(node=other.key.public, at=other.at))
        await until(lambda: other.lines.of(self.key.public) is not None)

    def hold(self, channel: Channel) -> None:
        actor = Actor(channel, self.account, self.store, self.book, now=lambda: self.time)
        self.book.actors[channel.id] = actor

    def turn(self, channel_id: ChannelId, **changes: Any) -> None:
        """The channel's machine has come to a new state."""
        actor = self.book.actors[channel_id]
        actor.channel = replace(actor.channel, **changes)
        self.book.actors.end(channel_id)
        self.gossip.changed(actor.channel)

    def knows(self, channel_id: ChannelId) -> bool:
        """The channel with both policies."""
        return all(self.graph.policy(channel_id, side) is not None for side in Side)


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await trio.sleep(0.01)
    pytest.fail("it never came to that")


def channel_between(opener: Node, acceptor: Node, *, nonce: int = 1, public: bool = True) -> ChannelId:
    """A channel with a deposit on chain, which both still hold as opening."""
    salts = (b"\x0a" * 32, b"\x0b" * 32)
    terms = Terms(
        participant_a=opener.account.address,
        participant_b=acceptor.account.address,
        payout_a=opener.account.address,
        payout_b=acceptor.account.address,
        challenge_period=Seconds(600),
        salt_commitment=salt_commitment(keccak(salts[0]), keccak(salts[1])),
        close_bond=10,
        nonce=nonce,
    )
    id_ = channel_id(DOMAIN, NATIVE, terms.hash)
    held = Channel(
        id=id_,
        domain=DOMAIN,
        token=NATIVE,
        terms=terms,
        we=Side.A,
        peer=acceptor.key.public,
        salt_ours=salts[0],
        salt_theirs=salts[1],
        max_locks=8,
        public=public,
        told=(DEPOSIT, Amount(0)),
        heard=(DEPOSIT, Amount(0)),
    )
    opener.hold(held)
    acceptor.hold(replace(held, we=Side.B, peer=opener.key.public, salt_ours=salts[1], salt_theirs=salts[0]))
    opener.chain.words[id_] = OPEN_WORD
    return id_


def opened(id_: ChannelId, *nodes: Node) -> None:
    for node in nodes:
        node.turn(id_, phase=Phase.OPEN, onchain=None)


async def started(nursery: trio.Nursery, *roles: str) -> list[Node]:
    chain = ChainTable()
    nodes = [Node(role, chain, nursery) for role in roles]
    for node in nodes:
        await node.start()
    return nodes


class Cheat:
    """A peer that says what it likes."""

    def __init__(self, stream: PeerStream) -> None:
        self.stream = stream
        self.heard: list[wire.Message] = []
        self.cut = False

    @classmethod
    async def at(cls, victim: Node, nursery: trio.Nursery, key: Key = CHEAT) -> Cheat:
        cheat = cls(await dial(NodeAddress(node=victim.key.public, at=victim.at), key))
        nursery.start_soon(cheat.listen)
        await cheat.say(wire.Init(chain_id=DOMAIN.chain_id, manager=DOMAIN.manager))
        return cheat

    async def listen(self) -> None:
        async with self.stream:
            try:
                while True:
                    self.heard += await self.stream.receive()
            except Unreachable:
                self.cut = True

    async def say(self, *messages: wire.Message) -> None:
        await self.stream.send([wire.encode(message) for message in messages])

    def count(self, kind: type[wire.Message]) -> int:
        return sum(isinstance(message, kind) for message in self.heard)

    @property
    def got(self) -> list[wire.GossipPage]:
        return [message for message in self.heard if isinstance(message, wire.GossipPage)]

    @property
    def told(self) -> list[pages.Gossip]:
        """What stood in pages."""
        return [one for page in self.got for one in pages.split(page.kind, page.messages)]

    async def ask(self, kind: int, since: int = 0, after: bytes = b"") -> list[pages.Gossip]:
        """The whole answer to one question."""
        self.heard.clear()
        await self.say(wire.GossipQuery(kind=kind, since=Timestamp(since), after=after))
        await until(lambda: self.got and self.got[-1].last)
        return self.told


def announcement(opener: Node, acceptor: Node, id_: ChannelId) -> wire.ChannelAnnouncement:
    """What the two would announce."""
    channel = opener.book.actors[id_].channel
    theirs = announcing.half(acceptor.book.actors[id_].channel, acceptor.key, acceptor.account)
    return announcing.whole(channel, opener.key.public, announcing.half(channel, opener.key, opener.account), theirs)


def update(node: Node, id_: ChannelId, side: Side, at: int = NOW, **changes: Any) -> wire.ChannelUpdate:
    return announcing.update_of(id_, side, replace(node.policy, timestamp=Timestamp(at), **changes), node.key)
