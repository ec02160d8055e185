"""A node's process: the one tree of nurseries, what lives under what, and who goes last.

The store outlives everything, since all others save there. Over it the channels' actors; over them the sender and the
guard, which must have read the chain up to its head once; then the peers; at last whoever calls the socket. Shutdown
is that order backwards, and a crash at any moment is only a shutdown without the politeness: what is saved is found
again, and owed acts are done first.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import ChanneldError, Refused, Unreachable
from channeld.base.keys import Key
from channeld.base.units import ChannelId, Seconds
from channeld.chain.connect import first_usable
from channeld.chain.reads import RpcChain
from channeld.chain.sender import Sender
from channeld.core.channel import Channel
from channeld.node import learning, old
from channeld.node.chainbook import Intents
from channeld.node.config import Config
from channeld.node.forwarding import Desk
from channeld.node.gossip import Gossip
from channeld.node.guard import Guard
from channeld.node.ledger import Book
from channeld.node.lines import Lines
from channeld.node.loop import Actor
from channeld.node.opening import Openings
from channeld.node.payments import Payments
from channeld.node.pruning import Pruning
from channeld.node.reserve import Reserve
from channeld.node.restoring import is_known_old, recover_all
from channeld.node.service import Service
from channeld.node.towers import Towers
from channeld.node.unpaid import Unpaid
from channeld.node.world import World
from channeld.peers.net import Net, Tcp
from channeld.storage.place import Origin
from channeld.storage.sqlite import SqliteStore
from channeld.wire.address import HostPort, NodeAddress, node_address
from routing.fees import Policy
from routing.graph import Graph

log = logging.getLogger(__name__)
STORE: Final = "node.sqlite3"
MAX_EXPIRY: Final = 14 * 86_400
"""Seconds for which a lock may at most be pending with us."""


async def connect(config: Config, stack: AsyncExitStack) -> RpcChain:
    """The first endpoint that answers and has our contracts; closed with `stack`."""
    chain, _ = await first_usable(
        config.rpc,
        config.network,
        manager=config.manager,
        registry=config.registry,
        look=RpcChain.check,
        stack=stack,
    )
    return chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a node stands on besides time, chance and its key: TCP, a file, and HTTP, unless others are passed."""

    net: Net = Tcp()
    store: Callable[[Path, Origin], SqliteStore] = lambda path, origin: SqliteStore(path, origin=origin)
    """Opens the database in a file of the data directory."""
    chain: Callable[[Config, AsyncExitStack], Awaitable[RpcChain]] = connect
    """Connects to a chain that has our contracts; what it opens is closed with the stack."""
    actor: type[Actor] = Actor
    """Takes the turns of each channel."""


async def run(
    config: Config,
    key: Key,
    *,
    clock: Callable[[], float] = time.time,
    randomness: Callable[[int], bytes] = secrets.token_bytes,
    origin: Origin = Origin.SAME,
    outside: Outside = Outside(),
    task_status: trio.TaskStatus[Service] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until cancelled or told to stop; `started` once it takes connections.

    Args:
        key: the account: participant in every channel, payer of gas, root of all other keys.
        clock: seconds since 1970.
        origin: what its owner says of the database file.
        outside: network, disk and chain.

    Raises:
        Refused: `wrong_chain`, `unknown_contract`, `bad_database`, `copied_database`, `port_in_use`, `other_account`.
        StoreFailed: the disk failed, or another process took the database over; nothing was signed after that.
        Unreachable: the RPC endpoint does not answer.
    """
    try:
        async with AsyncExitStack() as stack:
            await _run(config, key, clock, randomness, origin, outside, stack, task_status)
    except ExceptionGroup as group:
        fault = _first(group)
        if fault is None:
            raise
        raise fault from None


def _first(group: BaseExceptionGroup[BaseException]) -> ChanneldError | None:
    """The first error raised on purpose in a group that holds nothing else."""
    found: ChanneldError | None = None
    for fault in group.exceptions:
        inner = _first(fault) if isinstance(fault, BaseExceptionGroup) else fault
        if not isinstance(inner, ChanneldError):
            return None
        found = found or inner
    return found


@dataclass(slots=True)
class _House:
    """What the parts share while they are put together."""

    config: Config
    key: Key
    node_key: Key
    domain: Domain
    store: SqliteStore
    world: World
    chain: RpcChain
    sender: Sender
    book: Book
    randomness: Callable[[int], bytes]
    outside: Outside
    actors: trio.Nursery
    tasks: trio.Nursery

    def policy(self, channel: Channel) -> Policy:
        """What we ask for forwarding out of a channel."""
        mine = self.config.policy_for(channel.token)
        return Policy(
            fee_base=mine.fee_base,
            fee_ppm=mine.fee_ppm,
            expiry_delta=Seconds(self.config.network.forward_delta),
            min_lock=mine.min_lock,
            max_lock=mine.max_lock,
        )

    async def start(self, channel: Channel) -> None:
        """Give a saved channel its actor."""
        await self.actors.start(self.actor(channel).run)

    def actor(self, channel: Channel) -> Actor:
        """The actor of a saved channel, in the book; somebody has to run it."""
        actor = self.outside.actor(channel, self.key, self.store, self.book, now=lambda: self.world.now)
        self.book.actors[channel.id] = actor
        return actor


async def _run(
    config: Config,
    key: Key,
    clock: Callable[[], float],
    randomness: Callable[[int], bytes],
    origin: Origin,
    outside: Outside,
    stack: AsyncExitStack,
    task_status: trio.TaskStatus[Service],
) -> None:
    network, node_key = config.network, key.derive("node")
    domain = Domain(chain_id=network.chain_id, manager=config.manager)
    chain = await outside.chain(config, stack)
    store = outside.store(config.data_dir / STORE, origin)
    stack.callback(store.close)
    _same_account(store, key, domain)
    if origin is Origin.COPY:
        await recover_all(store, key, lambda: int(clock()))
        store.stand_here()
    elif is_known_old(store):
        await recover_all(store, key, lambda: int(clock()), old.REASON)
    sender = Sender(
        chain.rpc,
        key,
        Intents(store),
        chain_id=network.chain_id,
        fees=network.fees,
        finality=network.finality,
        poll=network.poll,
    )
    stopping = trio.Event()
    async with trio.open_nursery() as actors, trio.open_nursery() as tasks:
        world = World(network=network, clock=clock, max_head_age=network.max_head_age)
        house = _House(
            config=config,
            key=key,
            node_key=node_key,
            domain=domain,
            store=store,
            world=world,
            chain=chain,
            sender=sender,
            book=Book(store, world, tasks),
            randomness=randomness,
            outside=outside,
            actors=actors,
            tasks=tasks,
        )
        tasks.start_soon(store.watch)
        for channel in store.channels():
            actors.start_soon(house.actor(channel).run)
        service = await _furnish(house, stopping)
        task_status.started(service)
        await stopping.wait()
        tasks.cancel_scope.cancel()
        actors.cancel_scope.cancel()


def _same_account(store: SqliteStore, key: Key, domain: Domain) -> None:
    """A database belongs to one account, chain and contract; mixing them would sign with the wrong key."""
    ours = key.address + domain.manager + domain.chain_id.to_bytes(8, "big")
    rows = store.rows("SELECT value FROM notes WHERE name = 'owner'")
    if rows and rows[0][0] != ours:
        text = "the database belongs to another account, chain or contract"
        raise Refused("other_account", text, "check the data directory and the network")
    if not rows:
        store.put_note("owner", ours)


async def _furnish(house: _House, stopping: trio.Event) -> Service:
    """Build the parts in the order in which they need each other, and start them."""
    config, book, store, world, tasks = house.config, house.book, house.store, house.world, house.tasks
    graph = Graph()
    lines = Lines(book, world, house.node_key, house.domain, tasks, house.outside.net)
    reserve = Reserve(
        us=house.key.address,
        chain=house.chain,
        book=book,
        store=store,
        fees=config.network.fees,
        bond=config.network.close_bond,
        costs=config.resolving,
        times=config.gas_times,
    )
    unpaid = Unpaid(book=book, store=store, world=world, chain=house.chain, lines=lines)
    openings = Openings(
        config=config,
        book=book,
        store=store,
        world=world,
        lines=lines,
        chain=house.chain,
        sender=house.sender,
        domain=house.domain,
        account_key=house.key,
        randomness=house.randomness,
        start=house.start,
        nursery=tasks,
        reserve=reserve,
        unpaid=unpaid,
    )
    payments = Payments(
        book,
        store,
        world,
        graph,
        domain=house.domain,
        us=house.node_key.public,
        randomness=house.randomness,
        nursery=tasks,
        least_part=config.resolving,
        liquidity=learning.load(store),
    )
    desk = Desk(
        book,
        store,
        world,
        house.node_key,
        policy=house.policy,
        max_expiry=MAX_EXPIRY,
        limits=config.limits,
        costs=config.resolving,
        short=reserve.why_short,
        keysend=config.accept_keysend,
    )
    at = await _listen(house, lines)
    gossip = Gossip(
        book=book,
        store=store,
        world=world,
        lines=lines,
        graph=graph,
        chain=house.chain,
        domain=house.domain,
        node_key=house.node_key,
        account_key=house.key,
        policy=house.policy,
        alias=config.alias,
        addresses=_announced(config, at),
        nursery=tasks,
    )
    towers = Towers(
        book=book,
        store=store,
        world=world,
        domain=house.domain,
        account_key=house.key,
        randomness=house.randomness,
        nursery=tasks,
        ask_within=config.tower_wait,
        net=house.outside.net,
    )

    async def looked_after() -> None:
        await reserve.new_head()
        await unpaid.new_head()

    guard = Guard(
        book=book,
        store=store,
        world=world,
        chain=house.chain,
        sender=house.sender,
        account_key=house.key,
        memo_of=openings.memo_of,
        gone=gossip.seen_gone,
        resized=gossip.seen_deposits,
        ticked=desk.sweep,
        asked=towers.asked.is_set,
        poll=config.network.poll,
        looked_after=looked_after,
    )
    book.arrivals, book.payer = desk, payments
    desk.word = gossip.own.word
    payments.ways.policy = gossip.known.policy
    lines.openings, lines.gossip, lines.live = openings, gossip, gossip.live

    def changed(channel: Channel) -> None:
        towers.changed(channel)
        gossip.changed(channel)
        openings.changed(channel)

    def forgotten(channel: ChannelId) -> None:
        towers.forgotten(channel)
        gossip.forgotten(channel)
        openings.forgotten(channel)

    unpaid.awaits, unpaid.forgotten = guard.awaits, forgotten
    book.changed = changed
    book.load()
    gossip.load()
    await tasks.start(house.sender.run)
    await tasks.start(guard.run)
    desk.recover()
    payments.resume()
    openings.resume()
    towers.load()
    for uri in config.towers:
        towers.add_later(node_address(uri))
    tasks.start_soon(_let_in, towers, lines, store)
    tasks.start_soon(Pruning(store, world, book.actors).run)
    tasks.start_soon(learning.Learning(store, payments.liquidity).run)
    return Service(
        config=config,
        book=book,
        store=store,
        world=world,
        lines=lines,
        openings=openings,
        payments=payments,
        desk=desk,
        guard=guard,
        reserve=reserve,
        gossip=gossip,
        towers=towers,
        account_key=house.key,
        node_key=house.node_key,
        domain=house.domain,
        randomness=house.randomness,
        listen=at,
        stop_=stopping,
    )


async def _listen(house: _House, lines: Lines) -> HostPort:
    """Take connections; their messages wait until the node is furnished, since nobody reads them before."""
    host, port = house.config.listen
    serve = partial(
        house.outside.net.listen,
        HostPort(host=host, port=port),
        house.node_key,
        lines.welcome,
        caps=house.config.caps,
        known=lines.has_channel,
    )
    try:
        at: HostPort = await house.tasks.start(serve)
    except Unreachable as fault:
        raise Refused("port_in_use", str(fault), "choose another with peers.listen, port 0 for any") from None
    return at


def _announced(config: Config, at: HostPort) -> tuple[str, ...]:
    if config.announce:
        return tuple(str(HostPort(host=host, port=port)) for host, port in config.announce)
    return () if at.host in ("0.0.0.0", "::") else (str(at),)


async def _let_in(towers: Towers, lines: Lines, store: SqliteStore) -> None:
    """Without a peer no state is signed; so peers come last, when our towers have said what they know of us."""
    await towers.asked.wait()
    lines.open.set()
    _dial_known(store, lines)


def _dial_known(store: SqliteStore, lines: Lines) -> None:
    """Peers we have dialled before are dialled again."""
    for node, host, port in store.rows("SELECT node, host, port FROM peers"):
        lines.keep(NodeAddress(node=node, at=HostPort(host=host, port=port)))
