"""Thousands of open channels between two nodes, without asking for each of them at a socket; and locks in them.

What a channel is made of is made here as the nodes themselves make it: terms and memo as in `node.opening`, deposits in
the contract by `deposit_many`, and the channel by `core.machine.step` on both sides (connected, deposits told, one
transfer signed and acknowledged), saved by the store with the rows that the node's book writes. The nodes are down
meanwhile. When they are started again they read the deposits from the chain and find nothing that is not so.

A lock stays pending while the payment it belongs to is not whole: each pays the first half of an invoice of its own,
and a payee waits a minute for the other half.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import trio
from eth_account import Account

from channeld.base.digests import Domain, Terms, channel_id, salt_commitment
from channeld.base.errors import Unreachable
from channeld.base.keys import Key, keccak, sha256
from channeld.base.pack import pack
from channeld.base.units import Address, Amount, ChannelId, LockKey, PaymentId, Seconds, Side, Timestamp
from channeld.chain.networks import Network, network
from channeld.chain.rpc import Rpc
from channeld.cli.secrets import key_of
from channeld.cli.stage import Actor, Stage
from channeld.core.channel import MAX_LOCKS, Channel
from channeld.core.events import Connected, Event, Got, Offer, Pay, Propose, SeenDeposit
from channeld.core.machine import step
from channeld.core.messages import Message
from channeld.node.ledger import Attempt, Book
from channeld.node.run import STORE
from channeld.node.world import World
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch, wide
from channeld.wire import invoice, memo, onion, payload
from channeld.wire.invoice import Invoice
from channeld.wire.payload import FinalPayload
from contracts import artifact

DEPOSIT: Final = Amount(10**9)
GIVEN: Final = Amount(10**8)
"""What the opener has transferred to the acceptor in the state that both have signed."""
AT_ONCE: Final = 64
"""Deposits in one transaction, as many as the contract takes."""
GAS: Final = 12_000_000
"""Limit of such a transaction; it uses about a quarter."""
SAVED_AT_ONCE: Final = 250
FIRST: Final = 1_000_000
"""Nonce of the first channel."""
HALF: Final = Amount(5_000)
EXPIRY: Final = 3_600
"""Seconds for which a lock may stay."""


@dataclass(eq=False, slots=True)
class Home:
    """One node's key and, while it is down, its database."""

    key: Key
    store: SqliteStore
    book: Book
    batch: Batch = field(default_factory=Batch)

    def salt(self, nonce: int) -> bytes:
        return self.key.derive_bytes(f"salt/{nonce}")

    def decide(self, channel: Channel, event: Event) -> tuple[Channel, tuple[Message, ...]]:
        """One step, with what the book writes of it."""
        done = step(channel, event, self.key)
        self.book.record(done.channel, done.notes, self.batch)
        return done.channel, done.sends

    async def save(self) -> None:
        batch, self.batch = self.batch, Batch()
        await self.store.commit(batch)


@dataclass(frozen=True, slots=True)
class Agreed:
    """A channel before anything is in it, as both sides have agreed on it."""

    opener: Channel
    acceptor: Channel
    memo: bytes

    @property
    def id(self) -> ChannelId:
        return self.opener.id


def home_of(actor: Actor) -> Path:
    return Path(actor.command[actor.command.index("--data-dir") + 1])


async def fill(town: Stage, opener: Actor, acceptor: Actor, count: int) -> list[ChannelId]:
    """So many channels in `DemoUSD`, all opened by `opener`; both nodes are down. Their ids, in order of their rows."""
    net, made = _network(town), list[Agreed]()
    async with _homes(town, net, opener, acceptor) as homes:
        for first in range(0, count, SAVED_AT_ONCE):
            some = [_agree(homes, town, net, FIRST + n) for n in range(first, min(first + SAVED_AT_ONCE, count))]
            for one in some:
                _open(homes, one)
            for home in homes:
                await home.save()
            made += some
    await _deposit(town, net, made)
    return [one.id for one in made]


async def hold(town: Stage, opener: Actor, acceptor: Actor, channels: Collection[ChannelId], each: int) -> None:
    """So many locks of the opener's in each of those channels, signed by both; both nodes are down."""
    net = _network(town)
    async with _homes(town, net, opener, acceptor) as homes:
        sides = [{one.id: one for one in home.store.channels() if one.id in channels} for home in homes]
        for id_ in channels:
            pair = [side[id_] for side in sides]
            _play(homes, pair, (Connected(),), (Connected(),))
            _play(homes, pair, (*(_offer(homes, pair[0], net) for _ in range(each)), Propose()), ())
            for home, channel in zip(homes, pair, strict=True):
                if len(channel.current.body.locks) != each:
                    raise AssertionError("not every lock was agreed on")
                home.batch.channel(channel)
                await home.save()


def _network(town: Stage) -> Network:
    return replace(network("dev"), manager=_address(town.manager), registry=_address(town.registry))


@asynccontextmanager
async def _homes(town: Stage, net: Network, *actors: Actor) -> AsyncIterator[list[Home]]:
    keys = [key_of(home_of(actor), str(town.root / "passphrase")) for actor in actors]
    async with trio.open_nursery() as nursery:
        homes = [_home(actor, key, net, nursery) for actor, key in zip(actors, keys, strict=True)]
        try:
            yield homes
        finally:
            for home in homes:
                home.store.close()


def _home(actor: Actor, key: Key, net: Network, nursery: trio.Nursery) -> Home:
    store = SqliteStore(home_of(actor) / STORE)
    world = World(network=net, clock=time.time, max_head_age=net.max_head_age)
    return Home(key, store, Book(store, world, nursery))


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text.removeprefix("0x")))


def _agree(homes: Sequence[Home], town: Stage, net: Network, nonce: int) -> Agreed:
    """What the three messages of an opening come to."""
    a, b = homes
    salt_a, salt_b = a.salt(nonce), b.salt(nonce)
    terms = Terms(
        participant_a=a.key.address,
        participant_b=b.key.address,
        payout_a=a.key.address,
        payout_b=b.key.address,
        challenge_period=Seconds(town.min_period),
        salt_commitment=salt_commitment(keccak(salt_a), keccak(salt_b)),
        close_bond=net.close_bond,
        nonce=nonce,
    )
    domain, token = Domain(chain_id=net.chain_id, manager=_address(town.manager)), _address(town.token)
    opener = Channel(
        id=channel_id(domain, token, terms.hash),
        domain=domain,
        token=token,
        terms=terms,
        we=Side.A,
        peer=b.key.derive("node").public,
        salt_ours=salt_a,
        salt_theirs=salt_b,
        max_locks=MAX_LOCKS,
    )
    acceptor = replace(opener, we=Side.B, peer=a.key.derive("node").public, salt_ours=salt_b, salt_theirs=salt_a)
    sealed_a = memo.seal_salt(a.key.secret, nonce, salt_b)
    sealed_b = memo.seal_salt(b.key.secret, nonce, salt_a)
    text = memo.build(terms=terms, salt_a=salt_a, salt_b=salt_b, sealed_a=sealed_a, sealed_b=sealed_b)
    return Agreed(opener, acceptor, text)


def _open(homes: Sequence[Home], agreed: Agreed) -> None:
    """Play the channel up to its first state, and put both sides' rows into their batches."""
    pair, now = [agreed.opener, agreed.acceptor], int(time.time())
    for home, amount in zip(homes, (DEPOSIT, Amount(0)), strict=True):
        home.batch.add("INSERT INTO openings VALUES (?, ?, ?, ?)", agreed.id, agreed.memo, wide(amount), now)
    payment = PaymentId(agreed.id[:16])
    homes[0].batch.add(
        "INSERT INTO transfers (channel, id, outgoing, amount, state, at) VALUES (?, ?, 1, ?, 'pending', ?)",
        *(agreed.id, payment, wide(GIVEN), now),
    )
    seen = SeenDeposit(deposit_a=DEPOSIT, deposit_b=Amount(0))
    _play(homes, pair, (Connected(),), (Connected(),))
    _play(homes, pair, (seen,), (seen,))
    _play(homes, pair, (Pay(transfers=((payment, GIVEN),)), Propose()), ())
    for home, channel in zip(homes, pair, strict=True):
        home.batch.channel(channel)


def _play(homes: Sequence[Home], pair: list[Channel], *events: Sequence[Event]) -> None:
    """Let each side of `pair` decide its events, and deliver what they say until they are silent."""
    wires: list[deque[Message]] = [deque(), deque()]
    for side in Side:
        for event in events[side]:
            pair[side], said = homes[side].decide(pair[side], event)
            wires[side.other].extend(said)
    while any(wires):
        for side in Side:
            if wires[side]:
                heard = Got(message=wires[side].popleft(), now=Timestamp(int(time.time())))
                pair[side], said = homes[side].decide(pair[side], heard)
                wires[side.other].extend(said)


def _offer(homes: Sequence[Home], channel: Channel, net: Network) -> Offer:
    """Half of a payment: the acceptor's invoice, the opener's payment and attempt, and the lock."""
    payer, payee = homes
    node, now = payee.key.derive("node"), int(time.time())
    preimage, secret, expiry = os.urandom(32), os.urandom(32), Timestamp(now + EXPIRY)
    hash_ = LockKey(sha256(preimage))
    asked = Invoice(
        domain=channel.domain,
        token=channel.token,
        amount=Amount(2 * HALF),
        payment_hash=hash_,
        payment_secret=secret,
        created=Timestamp(now),
        expiry=Seconds(3_600),
        description="",
        payee=node.public,
        min_final_delta=net.final_delta,
    )
    text = invoice.encode(asked, node)
    payee.batch.add(
        "INSERT INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, state) "
        "VALUES (?, (SELECT coalesce(max(n), 0) + 1 FROM invoices), ?, ?, ?, ?, ?, ?, ?, 'open')",
        *(hash_, preimage, secret, text, channel.token, wide(asked.amount or 0), now, asked.expires_at),
    )
    payer.batch.add(
        "INSERT INTO payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, hops, state, at) "
        "VALUES (?, (SELECT coalesce(max(n), 0) + 1 FROM payments), ?, ?, ?, ?, ?, ?, ?, 1, 'pending', ?)",
        *(hash_, text, channel.token, node.public, wide(2 * HALF), wide(0), wide(1_000), now + 600, now),
    )
    told = FinalPayload(amount=HALF, expiry=expiry, payment_secret=secret, total=Amount(2 * HALF))
    built = onion.build([(node.public, payload.encode(told))], hash_, os.urandom(32))
    hops = [[channel.id, int(Side.A), payer.key.derive("node").public, node.public, str(HALF)]]
    tag = payer.book.tag(Attempt(hash=hash_, route=pack([list(built.secrets), hops])))
    return Offer(tag=tag, amount=HALF, key=hash_, expiry=expiry, onion=built.packet)


async def _deposit(town: Stage, net: Network, channels: Sequence[Agreed]) -> None:
    """Into the contract, by a development account that nobody else uses. Automined: a block each."""
    key, manager, token = town.dev_key(9), _address(town.manager), _address(town.token)
    async with Rpc(town.url) as rpc:
        nonce = int(await rpc.call("eth_getTransactionCount", f"0x{key.address.hex()}", "latest"), 16)
        total = DEPOSIT * len(channels)
        await _send(rpc, net, key, nonce, token, _call("TestToken", "mint", key.address, total))
        await _send(rpc, net, key, nonce + 1, token, _call("TestToken", "approve", manager, total))
        for number, data in enumerate(_deposits(token, channels), nonce + 2):
            await _send(rpc, net, key, number, manager, data)


def _deposits(token: Address, channels: Sequence[Agreed]) -> Iterator[bytes]:
    for at in range(0, len(channels), AT_ONCE):
        some = [
            (one.opener.terms.hash, 0, DEPOSIT, [one.memo[word : word + 32] for word in range(0, 192, 32)])
            for one in channels[at : at + AT_ONCE]
        ]
        yield _call("ChannelManager", "deposit_many", token, some)


def _call(contract: str, name: str, *arguments: object) -> bytes:
    from web3 import Web3

    made = Web3().eth.contract(abi=artifact(contract).abi)
    return bytes.fromhex(made.encode_abi(name, list(arguments))[2:])


async def _send(rpc: Rpc, net: Network, key: Key, nonce: int, to: Address, data: bytes) -> None:
    fields = {
        "type": 2,
        "chainId": net.chain_id,
        "nonce": nonce,
        "gas": GAS,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "value": 0,
        "data": data,
        "to": bytes(to),
    }
    raw = bytes(Account.sign_transaction(fields, key.secret).raw_transaction)
    sent = await rpc.call("eth_sendRawTransaction", f"0x{raw.hex()}")
    receipt = await rpc.call("eth_getTransactionReceipt", sent)
    if receipt is None or int(receipt["status"], 16) != 1:
        raise Unreachable(f"transaction {nonce} of the development account was not made")
