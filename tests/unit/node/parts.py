"""A node's inner parts without sockets and chain: store, world, book, desk, and a peer's lock in a channel of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import trio
import trio.testing

from channeld.base.digests import Domain
from channeld.base.keys import Key, sha256
from channeld.base.units import Address, Amount, ChannelId, LockId, LockKey, NodeId, Seconds, Side, Timestamp
from channeld.chain.chain import BlockRef, Head
from channeld.chain.networks import network
from channeld.core.channel import Channel, Session
from channeld.core.events import Offer
from channeld.node.forwarding import Desk
from channeld.node.ledger import Book
from channeld.node.loop import Actor
from channeld.node.payments import Payments
from channeld.node.world import World
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch, wide
from channeld.wire import onion, payload
from routing.fees import Policy
from routing.graph import Graph
from tests.roles import ACCEPTOR_KEY, DOMAIN, START, lock_key, open_pair, preimage

NODE_KEY: Final = Key(sha256(b"the node"))
SECRET: Final = b"\x05" * 32
FIRST: Final = LockId(1)
POLICY: Final = Policy(fee_base=Amount(0), fee_ppm=0, expiry_delta=Seconds(10))


@dataclass(slots=True)
class Parts:
    """What of a node a test needs; `clock[0]` is the time."""

    store: SqliteStore
    world: World
    book: Book
    desk: Desk
    payments: Payments
    clock: list[int]
    nursery: trio.Nursery

    async def add(self, channel: Channel, *, running: bool = True) -> Actor:
        actor = Actor(channel, ACCEPTOR_KEY, self.store, self.book, now=lambda: self.world.now)
        self.book.actors[channel.id] = actor
        if running:
            await self.nursery.start(actor.run)
        return actor

    async def invoice(self, number: int, amount: int, token: Address) -> LockKey:
        """An open invoice of ours whose preimage is `preimage(number)`."""
        batch = Batch()
        batch.add(
            "INSERT INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, state) "
            "VALUES (?, ?, ?, ?, 'lnxx', ?, ?, ?, ?, 'open')",
            *(lock_key(number), number, preimage(number), SECRET, token, wide(amount), START, START + 9_999),
        )
        await self.store.commit(batch)
        return lock_key(number)

    async def quiet(self) -> None:
        """Until every turn is taken and saved; a commit waits for the ones before it, in whichever thread."""
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            await self.store.commit(Batch())

    def state(self, hash_: LockKey) -> str:
        ((state,),) = self.store.rows("SELECT state FROM invoices WHERE hash = ?", hash_)
        return str(state)


@contextmanager
def parts(nursery: trio.Nursery, store: SqliteStore | None = None) -> Iterator[Parts]:
    clock = [int(START)]
    store = store or SqliteStore(":memory:")
    world = World(network=network("dev"), clock=lambda: clock[0], max_head_age=Seconds(10_000), fault=None)
    block = BlockRef(number=1, hash=bytes(32), timestamp=START)
    world.head = Head(latest=block, safe=block, finalized=block)
    book = Book(store, world, nursery)
    desk = Desk(book, store, world, NODE_KEY, policy=lambda _: POLICY, max_expiry=100_000)
    payments = Payments(
        book,
        store,
        world,
        Graph(),
        domain=Domain(chain_id=DOMAIN.chain_id, manager=DOMAIN.manager),
        us=NodeId(NODE_KEY.public),
        randomness=lambda n: b"\x09" * n,
        nursery=nursery,
    )
    book.arrivals, book.payer = desk, payments
    try:
        yield Parts(store, world, book, desk, payments, clock, nursery)
    finally:
        store.close()


def final_packet(number: int, amount: int, total: int, expiry: int) -> bytes:
    """An onion that tells us that a part of a payment is ours."""
    told = payload.FinalPayload(
        amount=Amount(amount), expiry=Timestamp(expiry), payment_secret=SECRET, total=Amount(total)
    )
    return onion.build([(NodeId(NODE_KEY.public), payload.encode(told))], lock_key(number), b"\x07" * 32).packet


def channel_with_lock(number: int, amount: int, expiry: int = START + 3_600, *, ours: bool = False) -> Channel:
    """An open channel as the acceptor holds it, with one lock in `current`: the opener's, or ours."""
    both = open_pair()
    offerer = Side.B if ours else Side.A
    offered = Offer(
        tag=b"tag", amount=Amount(amount), key=lock_key(number), expiry=Timestamp(expiry), onion=bytes(1_366)
    )
    both.do(offerer, offered)
    both.settle()
    return replace(both.acceptor.channel, session=Session.CUT)


def renamed(channel: Channel, byte: int, token: bytes | None = None) -> Channel:
    """The same channel under another id; nothing of it can be signed or proven, it only stands there."""
    return replace(channel, id=ChannelId(bytes([byte]) * 32), token=Address(token or channel.token))
