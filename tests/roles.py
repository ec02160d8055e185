"""Who plays in the tests: an opener and an acceptor of one channel, and the wire between them.

A `Node` is a channel with its key as the daemon would hold it: each step is saved before what it sends goes out, a
crash goes back to the saved bytes, and every signature that was ever made is kept for the laws that speak of them.
A `Wire` has one queue for each way; what is on it when it is cut is lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from channeld.base.digests import Domain, Lock, Terms, channel_id, receipt_digest, salt_commitment, transfers_hash
from channeld.base.errors import PeerFault
from channeld.base.keys import Key, keccak, recover, sha256
from channeld.base.units import (
    NATIVE,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockId,
    LockKey,
    PaymentId,
    Preimage,
    Seconds,
    Side,
    Timestamp,
    Version,
)
from channeld.core.channel import ZERO, Body, Channel, OnChain, Session
from channeld.core.effects import Note, Step
from channeld.core.events import (
    Connected,
    Disconnected,
    Event,
    Got,
    Offer,
    Pay,
    Propose,
    SeenDeposit,
)
from channeld.core.machine import step
from channeld.core.messages import Ack, AddLock, FailLock, FulfilLock, Message, Transfer, Update
from channeld.core.saved import load, save

OPENER_KEY: Final = Key(sha256(b"the opener"))
ACCEPTOR_KEY: Final = Key(sha256(b"the acceptor"))
STRANGER_KEY: Final = Key(sha256(b"a stranger"))
DOMAIN: Final = Domain(chain_id=31337, manager=Address(b"\7" * 20))
BOND: Final = 10
PERIOD: Final = Seconds(600)
SALT_A, SALT_B = b"\x0a" * 32, b"\x0b" * 32
START: Final = Timestamp(1_000_000)
ONION: Final = b"onion"
CLOSE: Final = OnChain(closer=Side.A, version=Version(0), body_hash=ZERO, deadline=Timestamp(START + 600))
"""A close without a state, as the chain shows it."""


def terms(nonce: int = 1) -> Terms:
    return Terms(
        participant_a=OPENER_KEY.address,
        participant_b=ACCEPTOR_KEY.address,
        payout_a=OPENER_KEY.address,
        payout_b=ACCEPTOR_KEY.address,
        challenge_period=PERIOD,
        salt_commitment=salt_commitment(keccak(SALT_A), keccak(SALT_B)),
        close_bond=BOND,
        nonce=nonce,
    )


def channels(*, max_locks: int = 8) -> tuple[Channel, Channel]:
    """The same fresh channel as its opener and as its acceptor hold it, waiting for a deposit."""
    agreed = terms()
    id_: ChannelId = channel_id(DOMAIN, NATIVE, agreed.hash)
    opener = Channel(
        id=id_,
        domain=DOMAIN,
        token=NATIVE,
        terms=agreed,
        we=Side.A,
        peer=ACCEPTOR_KEY.public,
        salt_ours=SALT_A,
        salt_theirs=SALT_B,
        max_locks=max_locks,
    )
    acceptor = replace(opener, we=Side.B, peer=OPENER_KEY.public, salt_ours=SALT_B, salt_theirs=SALT_A)
    return opener, acceptor


class RecordingKey(Key):
    """A key that remembers what it was used for."""

    __slots__ = ("signed",)

    def __init__(self, secret: bytes) -> None:
        super().__init__(secret)
        self.signed: list[Digest] = []

    def sign(self, digest: Digest):
        self.signed.append(digest)
        return super().sign(digest)


def saved_part(channel: Channel) -> Channel:
    """What of a channel outlives a crash."""
    return replace(channel, session=Session.CUT, ask=None, waiting=None)


@dataclass(slots=True)
class Node:
    """One side's daemon, as far as one channel goes."""

    channel: Channel
    key: RecordingKey
    now: Timestamp = START
    disk: bytes = b""
    notes: list[Note] = field(default_factory=list)
    versions: list[tuple[int, Digest]] = field(default_factory=list)
    """Every version we signed, in the order of signing, with what was signed."""
    bodies: dict[int, Body] = field(default_factory=dict)
    """What those versions say; a cooperate has no entry."""
    signatures: dict[int, bytes] = field(default_factory=dict)
    receipts: int = 0

    def __post_init__(self) -> None:
        self.disk = save(self.channel)

    @property
    def side(self) -> Side:
        return self.channel.we

    def do(self, event: Event) -> Step:
        """One step: decided, checked, saved."""
        self.key.signed.clear()
        done = step(self.channel, event, self.key)
        self._record(done)
        self.channel = done.channel
        self.disk = save(done.channel)
        self.notes += done.notes
        return done

    def got(self, message: Message) -> Step:
        return self.do(Got(message=message, now=self.now))

    def crash(self) -> None:
        """Die, and come back with what was saved."""
        self.channel = load(self.disk)

    def _record(self, done: Step) -> None:
        """Name each digest the step signed; an unknown one is a receipt, and goes with an ack."""
        channel = done.channel
        known: dict[Digest, tuple[int, Body | None]] = {}
        for state in (channel.current, channel.outstanding):
            if state is not None:
                known[channel.digest(state.version, state.body_hash)] = (state.version, state.body)
        if channel.coop is not None:
            known[channel.coop.digest] = (channel.coop.version, None)
        receipts = sum(1 for message in done.sends if isinstance(message, Ack) and message.receipt)
        for digest in self.key.signed:
            if digest not in known:
                receipts -= 1
                self.receipts += 1
                continue
            version, body = known[digest]
            self.versions.append((version, digest))
            if body is not None:
                self.bodies[version] = body
                self.signatures[version] = Key.sign(self.key, digest)
        if receipts < 0:
            raise AssertionError("something was signed that is neither a state, a cooperate nor a receipt")


@dataclass(slots=True)
class Pair:
    """An opener, an acceptor, and the wire between them."""

    opener: Node
    acceptor: Node
    wires: dict[Side, deque[Message]] = field(default_factory=lambda: {Side.A: deque(), Side.B: deque()})
    """Messages on their way *to* a side, oldest first."""
    up: bool = False

    def node(self, side: Side) -> Node:
        return self.opener if side is Side.A else self.acceptor

    def peer(self, side: Side) -> Node:
        return self.node(side.other)

    def do(self, side: Side, event: Event) -> Step:
        """Let a side decide, and put what it says on the wire, if that stands."""
        done = self.node(side).do(event)
        if self.up:
            self.wires[side.other].extend(done.sends)
        return done

    def connect(self) -> None:
        self.up = True
        for side in Side:
            self.do(side, Connected())

    def cut(self) -> None:
        """What is under way is lost."""
        self.up = False
        for side in Side:
            self.wires[side].clear()
            self.node(side).do(Disconnected())

    def deliver(self, side: Side) -> Step | None:
        """Hand `side` the oldest message on its wire."""
        if not self.wires[side]:
            return None
        try:
            return self.do(side, Got(message=self.wires[side].popleft(), now=self.node(side).now))
        except PeerFault as fault:
            raise AssertionError(f"one honest node accuses the other: {fault.answer} {fault}") from fault

    def pump(self, *, most: int = 10_000) -> None:
        """Deliver until the wire is silent."""
        for _ in range(most):
            if not any(self.wires.values()):
                return
            for side in Side:
                self.deliver(side)
        raise AssertionError("they never stop talking")

    def settle(self) -> None:
        """Propose and deliver until nothing is left to say."""
        for _ in range(100):
            for side in Side:
                self.do(side, Propose())
            if not any(self.wires.values()):
                return
            self.pump()
        raise AssertionError("they never agree")


def pair(*, max_locks: int = 8) -> Pair:
    """An opener and an acceptor that have not spoken yet."""
    opener, acceptor = channels(max_locks=max_locks)
    return Pair(
        Node(opener, RecordingKey(OPENER_KEY.secret)),
        Node(acceptor, RecordingKey(ACCEPTOR_KEY.secret)),
    )


def open_pair(deposit_a: int = 1_000, deposit_b: int = 500, *, max_locks: int = 8) -> Pair:
    """A connected pair whose channel is open, with nothing on the wire."""
    both = pair(max_locks=max_locks)
    both.connect()
    both.pump()
    for side in Side:
        both.do(side, SeenDeposit(deposit_a=Amount(deposit_a), deposit_b=Amount(deposit_b)))
    both.pump()
    return both


def name(number: int) -> PaymentId:
    """The payment id with that number."""
    return PaymentId(number.to_bytes(16, "big"))


def pay(amount: int, number: int = 1) -> Pay:
    return Pay(transfers=((name(number), Amount(amount)),))


def preimage(number: int) -> Preimage:
    return Preimage(sha256(b"preimage" + number.to_bytes(4, "big")))


def lock_key(number: int) -> LockKey:
    return LockKey(sha256(preimage(number)))


def offer(amount: int, number: int = 1, *, expiry: int = START + 3_600) -> Offer:
    """Offers a lock whose secret is `preimage(number)`."""
    return Offer(
        tag=number.to_bytes(4, "big"),
        amount=Amount(amount),
        key=lock_key(number),
        expiry=Timestamp(expiry),
        onion=ONION,
    )


def lock(sender: Side, id_: int, amount: int, number: int = 1, *, expiry: int = START + 3_600) -> Lock:
    return Lock(
        id=LockId(id_),
        sender=sender,
        amount=Amount(amount),
        key=lock_key(number),
        expiry=Timestamp(expiry),
    )


def receipt_is_good(channel: Channel, version: int, transfers: list[Transfer], receipt: bytes) -> bool:
    """Whether `receipt` is the peer's, over those transfers of `version`."""
    listed = transfers_hash([(one.payment_id, one.amount) for one in transfers])
    return recover(receipt_digest(channel.domain, channel.id, Version(version), listed), receipt) == channel.peer_key


def careless(body: Body, proposer: Side, updates: tuple[Update, ...]) -> Body:
    """What `updates` make of `body` if nobody asks whether they may: a liar signs that."""
    net, locks = body.net, dict(body.locks)
    sign = 1 if proposer is Side.A else -1
    for update in updates:
        match update:
            case Transfer():
                net += sign * update.amount
            case AddLock():
                locks[update.lock.sender, update.lock.id] = update.lock
            case FulfilLock() | FailLock():
                gone = locks.pop((proposer.other, update.lock_id), None) or locks.pop((proposer, update.lock_id), None)
                if gone is not None and isinstance(update, FulfilLock):
                    net -= sign * gone.amount
    return Body(net, locks)
