"""A forwarder between a payer and a payee: two live channels with the daemon's own actors, book and desk.

The forwarder is the acceptor of the first channel and the opener of the second. Payer and payee are pure machines
(`roles.Node`); what the forwarder says to them is recorded by a line, and delivered by `settle`. `journal` holds what
was saved and said, in the order in which it happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import trio
import trio.testing

from channeld.base.digests import Lock, channel_id
from channeld.base.errors import PeerFault
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Amount, ChannelId, LockId, LockKey, Preimage, Seconds, Side, Timestamp
from channeld.chain.chain import BlockRef, Head
from channeld.chain.networks import network
from channeld.core.channel import Channel
from channeld.core.effects import Returned
from channeld.core.events import Connected, Got, Offer, Propose, SeenDeposit
from channeld.core.messages import Message
from channeld.node.forwarding import Desk
from channeld.node.ledger import Attempt, Book
from channeld.node.loop import PATIENCE, Actor
from channeld.node.world import World
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch, wide
from channeld.wire import failure, onion, payload
from channeld.wire.failure import Failure, FailureCode
from channeld.wire.payload import FinalPayload, ForwardPayload
from routing.fees import Policy
from tests.roles import ACCEPTOR_KEY, DOMAIN, OPENER_KEY, START, STRANGER_KEY, Node, RecordingKey, channels, terms
from tests.roles import Pair as Both

PAYER_KEY, FORWARDER_KEY, PAYEE_KEY = OPENER_KEY, ACCEPTOR_KEY, STRANGER_KEY
NODE_KEY: Final = FORWARDER_KEY.derive("node")
PAYEE_NODE: Final = PAYEE_KEY.derive("node")
POLICY: Final = Policy(
    fee_base=Amount(2), fee_ppm=10_000, expiry_delta=Seconds(20), min_lock=Amount(10), max_lock=Amount(500)
)
MAX_EXPIRY: Final = 10_000
SECRET: Final = b"s" * 32
PREIMAGE: Final = Preimage(sha256(b"the payee's"))
KEY: Final = LockKey(sha256(PREIMAGE))
OUT_EXPIRY: Final = Timestamp(START + 1_000)
IN_EXPIRY: Final = Timestamp(OUT_EXPIRY + 20)


class Journal(SqliteStore):
    """A store that writes into a journal when a batch is on disk."""

    def __init__(self, path: Path | str, journal: list[str]) -> None:
        super().__init__(path)
        self._journal = journal

    async def commit(self, batch: Batch) -> None:
        await super().commit(batch)
        self._journal.append("saved")


@dataclass(eq=False, slots=True)
class Recorder:
    """A line to a peer that is not there."""

    journal: list[str]
    said: list[Message] = field(default_factory=list)
    faults: list[PeerFault] = field(default_factory=list)

    def say(self, channel: Channel, messages: list[Message]) -> None:
        self.journal += [f"said {type(message).__name__}" for message in messages]
        self.said += messages

    def complain(self, channel: Channel, fault: PeerFault) -> None:
        self.journal.append(f"complained {fault.answer.name}")
        self.faults.append(fault)


class Silent:
    """A payer that pays nothing."""

    def fulfilled(self, what: Attempt, preimage: Preimage, at: Timestamp) -> None: ...

    def returned(self, what: Attempt, reason: bytes) -> None: ...

    def forgotten(self, hash_: LockKey) -> None: ...


@dataclass(slots=True)
class Leg:
    """One channel: the forwarder's actor and the other side's machine."""

    actor: Actor
    line: Recorder
    peer: Node

    @property
    def id(self) -> ChannelId:
        return self.actor.channel.id

    def hear(self, *messages: Message) -> None:
        for message in messages:
            self.actor.post(Got(message=message, now=START), line=self.line)

    def deliver(self) -> bool:
        """What the forwarder said, and what the peer answers and proposes. Whether there was anything."""
        said, self.line.said = self.line.said, []
        answers = [answer for message in said for answer in self.peer.got(message).sends]
        answers += self.peer.do(Propose()).sends
        self.hear(*answers)
        return bool(said or answers)


@dataclass(slots=True)
class Hub:
    nursery: trio.Nursery
    store: Journal
    world: World
    book: Book
    desk: Desk
    journal: list[str]
    clock: list[int]
    into: Leg
    out: Leg

    @property
    def legs(self) -> tuple[Leg, Leg]:
        return self.into, self.out

    async def quiet(self) -> None:
        """Until every posted event is decided, saved and followed; also one that waits for others to be saved with."""
        for _ in range(4):
            await trio.testing.wait_all_tasks_blocked()
            while any(leg.actor._inbox for leg in self.legs):
                await trio.sleep(PATIENCE / 5)
                await trio.testing.wait_all_tasks_blocked()
            await self.store.commit(Batch())
        del self.journal[-4:]

    async def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        for _ in range(30):
            await self.quiet()
            into, out = self.into.deliver(), self.out.deliver()
            if not into and not out:
                return
        raise AssertionError("they never stop talking")

    def at(self, seconds: int) -> None:
        """The clock and the newest block are at that time."""
        self.clock[0] = seconds
        block = BlockRef(number=1, hash=bytes(32), timestamp=Timestamp(seconds))
        self.world.head = Head(latest=block, safe=block, finalized=block)

    async def invoice(self, amount: int | None = 100, *, secret: bytes = SECRET, expires: int = START + 900) -> None:
        """One of ours for `PREIMAGE`."""
        batch = Batch()
        batch.add(
            "INSERT INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, state) "
            "VALUES (?, 1, ?, ?, '', ?, ?, ?, ?, 'open')",
            *(KEY, PREIMAGE, secret, NATIVE, None if amount is None else wide(amount), START, expires),
        )
        await self.store.commit(batch)

    async def offered(self, packet: onion.Built, amount: int, expiry: int = IN_EXPIRY, key: LockKey = KEY) -> LockId:
        """The payer's lock, agreed by both; its number."""
        number = self.into.peer.channel.next_lock
        self.into.peer.do(
            Offer(tag=b"t", amount=Amount(amount), key=key, expiry=Timestamp(expiry), onion=packet.packet)
        )
        await self.settle()
        return number

    def answer(self, packet: onion.Built) -> FailureCode | None:
        """Why the payer got its lock back; None if it did not."""
        told = self.failure(packet)
        return None if told is None else told.code

    def failure(self, packet: onion.Built) -> Failure | None:
        reasons = [note.reason for note in self.into.peer.notes if isinstance(note, Returned)]
        if not reasons:
            return None
        _, message = onion.unwrap_error(packet.secrets, reasons[-1])
        return failure.decode(message)

    def waiting(self) -> list[Lock]:
        """Locks the payee has been offered and can take."""
        return [lock for (side, _), lock in self.out.peer.channel.current.body.locks.items() if side is Side.A]


def payload_on(next_channel: ChannelId, amount: int = 100, expiry: int = OUT_EXPIRY) -> bytes:
    return payload.encode(ForwardPayload(next_channel=next_channel, amount=Amount(amount), expiry=Timestamp(expiry)))


def payload_here(
    amount: int = 100, total: int = 100, expiry: int = IN_EXPIRY, secret: bytes = SECRET, preimage: bytes = b""
) -> bytes:
    told = FinalPayload(
        amount=Amount(amount),
        expiry=Timestamp(expiry),
        payment_secret=secret,
        total=Amount(total),
        preimage=preimage,
    )
    return payload.encode(told)


def packet_on(next_channel: ChannelId, amount: int = 100, expiry: int = OUT_EXPIRY, key: LockKey = KEY) -> onion.Built:
    """An onion over the forwarder to the payee."""
    last = payload_here(amount, amount, expiry)
    hops = [(NODE_KEY.public, payload_on(next_channel, amount, expiry)), (PAYEE_NODE.public, last)]
    return onion.build(hops, key, sha256(b"session"))


def packet_here(told: bytes, key: LockKey = KEY) -> onion.Built:
    """An onion that ends at the forwarder."""
    return onion.build([(NODE_KEY.public, told)], key, sha256(b"session"))


def pair_of(key_a: Key, key_b: Key, nonce: int, deposits: tuple[int, int]) -> Both:
    """An open channel of those two, idle and cut."""
    opener, acceptor = channels()
    agreed = replace(terms(nonce), participant_a=key_a.address, participant_b=key_b.address)
    name = channel_id(DOMAIN, NATIVE, agreed.hash)
    first = replace(opener, terms=agreed, id=name, peer=key_b.public)
    second = replace(acceptor, terms=agreed, id=name, peer=key_a.public)
    both = Both(Node(first, RecordingKey(key_a.secret)), Node(second, RecordingKey(key_b.secret)))
    both.connect()
    both.pump()
    for side in Side:
        both.do(side, SeenDeposit(deposit_a=Amount(deposits[0]), deposit_b=Amount(deposits[1])))
    both.pump()
    both.cut()
    return both


@contextmanager
def hub(
    nursery: trio.Nursery,
    path: Path | str = ":memory:",
    *,
    load: tuple[Node, Node] | None = None,
    keysend: bool = False,
    cost: int = 0,
) -> Iterator[Hub]:
    """`load`: payer and payee of an earlier hub on the same file; else both channels are new. `keysend`: whether
    payments without an invoice are taken; `cost`: of resolving a lock."""
    journal: list[str] = []
    clock = [int(START)]
    store = Journal(path, journal)
    world = World(network=network("dev"), clock=lambda: clock[0], max_head_age=Seconds(30), fault=None)
    book = Book(store, world, nursery)
    desk = Desk(
        book,
        store,
        world,
        NODE_KEY,
        policy=lambda _: POLICY,
        max_expiry=MAX_EXPIRY,
        costs=lambda _: Amount(cost),
        keysend=keysend,
    )
    book.arrivals, book.payer = desk, Silent()
    if load is None:
        first = pair_of(PAYER_KEY, FORWARDER_KEY, 1, (2_000, 1_000))
        second = pair_of(FORWARDER_KEY, PAYEE_KEY, 2, (1_000, 1_000))
        ours = first.acceptor.channel, second.opener.channel
        load = first.opener, second.acceptor
    else:
        saved = {channel.id: channel for channel in store.channels()}
        ours = saved[load[0].channel.id], saved[load[1].channel.id]
    legs = []
    for channel, peer in zip(ours, load, strict=True):
        actor = Actor(channel, FORWARDER_KEY, store, book, now=lambda: world.now)
        book.actors[channel.id] = actor
        legs.append(Leg(actor, Recorder(journal), peer))
    made = Hub(nursery, store, world, book, desk, journal, clock, legs[0], legs[1])
    made.at(START)
    try:
        yield made
    finally:
        store.close()


async def start(made: Hub) -> None:
    """Let both actors take turns, and connect the peers."""
    for leg in made.legs:
        await made.nursery.start(leg.actor.run)
        leg.actor.post(Connected(), line=leg.line)
        leg.hear(*leg.peer.do(Connected()).sends)
    await made.settle()
    made.journal.clear()
