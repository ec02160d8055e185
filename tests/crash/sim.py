"""Whole daemons in one process under simulated time: the harness ("sim") of the crash enumerator and of the cluster.

A `Sim` holds a model chain, a wire in memory and any number of nodes. Each node is `channeld.node.run.run` itself, on
its own SQLite file, with the real handshake, transport, sender and guard; only what `run` is given is ours: the clock
(trio's `MockClock`, which jumps to the next deadline when nobody has anything to do), chance (seeded), the key, the
database's class, the connections and the chain's endpoint. These five are also the seams at which a node can be
watched and made to die: every save, sign, send and submit goes through `Life.at(point, "before"|"after")`.

How to use it::

    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        await payer.ask("connect_peer", uri=payee.uri)
        opened = await payer.open(payee, 1_000)
        asked = await payee.ask("make_invoice", token="DemoUSD", amount=7, description="", expiry=600,
                                idempotency_key=None)
        ...
    simulate(program, folder, seed=1)

`node.ask` calls a method of the node's `Service` as a client would: if the node dies meanwhile it is asked again once
the node is back. `node.crash()` kills a node where it stands: its tasks are cancelled, and nothing it still tries to
save, sign, send or submit while it unwinds gets out. It is started again from its database after `sim.down_for`
seconds, unless `node.restart` is off. `sim.judge` sees each message before it is encrypted, and may delay it or cut the
line; `sim.cut`, `sim.apart` and `sim.chain.reorganise` do the rest. The same seed gives the same run.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from channeld.base.digests import Domain
from channeld.base.errors import Refused, Unreachable
from channeld.base.keys import Key, keccak, sha256
from channeld.base.units import Address, ChannelId, Digest, NodeId, Signature
from channeld.chain.bindings import Contracts
from channeld.chain.chain import Call
from channeld.chain.intents import Intent
from channeld.chain.networks import network
from channeld.chain.reads import RpcChain
from channeld.node.config import Config
from channeld.node.loop import Actor
from channeld.node.run import Outside, run
from channeld.node.service import Service
from channeld.peers.dial import dial
from channeld.peers.listen import Caps, listen
from channeld.peers.talk import PeerStream
from channeld.storage.place import Origin
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from channeld.wire import messages as wire
from channeld.wire.address import HostPort, NodeAddress
from tests.crash.chain import ModelChain, ModelRpc

T = TypeVar("T")
START: Final = 1_800_000_000
"""Seconds since 1970 when a simulation begins."""
MANAGER: Final = Address(keccak(b"manager")[:20])
REGISTRY: Final = Address(keccak(b"registry")[:20])
TOKEN: Final = Address(keccak(b"token")[:20])
DOMAIN: Final = Domain(chain_id=31337, manager=MANAGER)
ETHER: Final = 10**18
TOKENS: Final = 1_000_000
"""What a node has of DemoUSD at first."""
FIRST_PORT: Final = 9_000
LONGEST: Final = 7_200.0
"""Simulated seconds after which a program counts as hanging."""
OVERRIDES: Final[dict[str, Any]] = {
    "manager": "0x" + MANAGER.hex(),
    "registry": "0x" + REGISTRY.hex(),
    "poll": 1.0,
    "delta_inclusion": 10,
    "forward_delta": 30,
    "final_delta": 60,
    "tokens": {"DemoUSD": {"address": "0x" + TOKEN.hex(), "decimals": 0}},
}
"""The chain's profile: that of the development chain, with room for blocks every two seconds."""


def named_token() -> str:
    """DemoUSD as the model names it."""
    return "0x" + TOKEN.hex()


class Died(BaseException):
    """The node is dead: raised into whatever of it still runs. No error of the daemon's, so nothing handles it."""


class Unlawful(AssertionError):
    """A law is broken."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A place at which a node may die: its name, and whether what it names has happened."""

    node: str
    name: str
    nth: int
    when: str

    def __str__(self) -> str:
        return f"{self.node}: {self.when} {self.name} #{self.nth}"


@cache
def contracts() -> Contracts:
    return Contracts(manager=MANAGER, registry=REGISTRY)


class Life:
    """One run of a node's process, from start to death."""

    def __init__(self, node: Node, number: int) -> None:
        self.node, self.sim, self.number = node, node.sim, number
        self.dead = False
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.up = trio.Event()
        self.service: Service | None = None
        self.streams: list[trio.StapledStream[Any, Any]] = []
        self.rpc = ModelRpc(self.sim.chain, self.at)
        self.rpc.down = node.chain_down

    def started(self, value: Service | None = None) -> None:
        """As trio's task status has it."""
        self.service = value
        self.up.set()

    def at(self, point: str, when: str) -> None:
        """The node is at this point; it may be its last."""
        if self.dead:
            raise Died
        if self.sim.arrive(self.node.name, point, when):
            self.die()
            raise Died

    def die(self) -> None:
        """Nothing polite: all that it still has under way is cut off."""
        self.dead = True
        for stream in self.streams:
            _close(stream)
        self.scope.cancel()


def _close(stream: trio.StapledStream[Any, Any]) -> None:
    stream.send_stream.close()
    stream.receive_stream.close()


# -- the seams ---------------------------------------------------------------------------------------------------


class WatchedKey(Key):
    """The account's key: each signature is a point, and it is remembered of which digest it is."""

    __slots__ = ("_life",)

    def __init__(self, secret: bytes, life: Life) -> None:
        super().__init__(secret)
        self._life = life

    def sign(self, digest: Digest) -> Signature:
        self._life.at("sign", "before")
        signature = super().sign(digest)
        self._life.sim.signatures[signature] = (self.address, digest)
        self._life.at("sign", "after")
        return signature


_TABLE: Final = re.compile(r"(?:INTO|UPDATE|DELETE FROM) (\w+)")


def save_name(batch: Batch) -> str:
    """The tables that a batch writes."""
    return "save " + "+".join(sorted({name for sql, _ in batch.writes for name in _TABLE.findall(sql)[:1]}))


class WatchedStore(SqliteStore):
    """The store, one batch at a time, so that a run can be repeated; each is a point."""

    def __init__(self, path: Path, origin: Origin, life: Life) -> None:
        super().__init__(path, origin=origin)
        self._life, self._turn = life, trio.Lock()

    async def commit(self, batch: Batch) -> None:
        name = save_name(batch)
        with trio.CancelScope(shield=True):
            async with self._turn:
                self._life.at(name, "before")
                await super().commit(batch)
                self._life.at(name, "after")

    def put_note(self, name: str, value: bytes) -> None:
        self._life.at("save notes", "before")
        super().put_note(name, value)
        self._life.at("save notes", "after")


class WatchedPeer(PeerStream):
    """A connection whose messages are seen one by one, before they are encrypted; each is a point."""

    def __init__(self, inner: PeerStream, life: Life) -> None:
        self._inner, self._life, self.origin = inner, life, inner.origin

    @property
    def remote(self) -> Any:
        return self._inner.remote

    async def send(self, messages: Sequence[bytes]) -> None:
        for data in messages:
            message = wire.decode(data)
            name = f"send {type(message).__name__}"
            self._life.at(name, "before")
            wait = self._life.sim.judge(self._life.node.name, self._life.sim.name_of(self.remote), message)
            if wait is None:
                await self.aclose()
                raise Unreachable("the line was cut")
            if wait:
                await trio.sleep(wait)
            self._life.sim.said(self._life.node, message)
            for told in self._life.sim.twist(self._life.node, message):
                await self._inner.send([data if told is message else wire.encode(told)])
            self._life.at(name, "after")

    async def receive(self) -> list[wire.Message]:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Door(trio.abc.Listener[trio.StapledStream[Any, Any]]):
    """A listener in memory."""

    def __init__(self, sim: Sim, at: HostPort) -> None:
        self.sim, self.at = sim, at
        self.sending, self._coming = trio.open_memory_channel[trio.StapledStream[Any, Any]](inf)

    async def accept(self) -> trio.StapledStream[Any, Any]:
        return await self._coming.receive()

    async def aclose(self) -> None:
        self.sim.doors.pop(self.at.port, None)
        self._coming.close()
        await trio.lowlevel.checkpoint()


class MemoryNet:
    """`peers.net.Net` for one life of one node: the real handshake over streams in memory."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def dial(self, address: NodeAddress, static: Key) -> PeerStream:
        return WatchedPeer(await dial(address, static, connect=self._open), self._life)

    async def _open(self, at: HostPort) -> trio.StapledStream[Any, Any]:
        await trio.lowlevel.checkpoint()
        sim, us = self._life.sim, self._life.node
        door = sim.doors.get(at.port)
        them = next((node for node in sim.nodes.values() if node.port == at.port), None)
        if door is None or them is None or self._life.dead or frozenset((us.name, them.name)) in sim.apart:
            raise OSError("nobody is there")
        ours, theirs = memory_stream_pair()
        if them.life is not None:
            them.life.streams.append(theirs)
        self._life.streams.append(ours)
        sim.links.append((frozenset((us.name, them.name)), ours, theirs))
        door.sending.send_nowait(theirs)
        return ours

    async def listen(
        self,
        at: HostPort,
        static: Key,
        talk: Callable[[PeerStream], Awaitable[None]],
        *,
        caps: Caps,
        known: Callable[[NodeId], bool],
        task_status: trio.TaskStatus[HostPort] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async def watched(peer: PeerStream) -> None:
            await talk(WatchedPeer(peer, self._life))

        await listen(at, static, watched, caps=caps, known=known, bind=self._bind, task_status=task_status)

    async def _bind(self, at: HostPort) -> tuple[HostPort, list[_Door]]:
        await trio.lowlevel.checkpoint()
        door = self._life.sim.doors[at.port] = _Door(self._life.sim, at)
        return at, [door]


# -- a node ------------------------------------------------------------------------------------------------------


class Node:
    """A daemon that comes back whenever it dies. `settings` go into its `Config`."""

    def __init__(self, sim: Sim, name: str, actor: type[Actor], settings: dict[str, Any]) -> None:
        self.sim, self.name, self.actor, self.settings = sim, name, actor, settings
        self.secret = sha256(b"account of " + name.encode())
        self.key = Key(self.secret)
        self.node_id = self.key.derive("node").public
        self.port = FIRST_PORT + len(sim.nodes)
        self.folder = sim.folder / name
        self.restart = True
        """Whether it is started again after a death."""
        self.chain_down = False
        self.life: Life | None = None
        self.lives = 0
        self.wanted = trio.Event()

    @property
    def uri(self) -> str:
        return f"{self.node_id.hex()}@127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "node.sqlite3"

    @property
    def service(self) -> Service:
        """Of the life that is up; for looking, `ask` is for asking."""
        if self.life is None or self.life.service is None:
            raise Unlawful(f"{self.name} is not up")
        return self.life.service

    def config(self) -> Config:
        return Config(
            data_dir=self.folder,
            network=network("dev", OVERRIDES),
            socket=self.folder / "socket",
            rpc=("http://model",),
            listen=("127.0.0.1", self.port),
            **self.settings,
        )

    async def keep(self) -> None:
        """Live, die, live again."""
        while True:
            await self.wanted.wait()
            self.lives += 1
            life = self.life = Life(self, self.lives)
            try:
                await self._live(life)
            finally:
                life.dead = True
                life.over.set()
                self.life = None
            if not self.restart:
                self.wanted = trio.Event()
            await trio.sleep(self.sim.down_for)

    async def _live(self, life: Life) -> None:
        chance = random.Random(f"{self.sim.seed} {self.name} {life.number}")

        async def chain(config: Config, stack: AsyncExitStack) -> RpcChain:
            found = RpcChain(life.rpc, contracts(), chain_id=config.network.chain_id, finality=config.network.finality)
            await found.check()
            return found

        outside = Outside(
            net=MemoryNet(life),
            store=lambda path, origin: WatchedStore(path, origin, life),
            chain=chain,
            actor=self.actor,
        )
        with life.scope:
            try:
                await run(
                    self.config(),
                    WatchedKey(self.secret, life),
                    clock=self.sim.time,
                    randomness=chance.randbytes,
                    outside=outside,
                    task_status=life,
                )
            except BaseException as fault:
                if not life.dead or not only_deaths(fault):
                    raise

    def crash(self) -> None:
        """Die here and now."""
        if self.life is not None:
            self.life.die()

    def start(self) -> None:
        """Live (again)."""
        self.wanted.set()

    async def ready(self) -> Service:
        """Once it is up: its service."""
        while True:
            while self.life is None:
                await trio.sleep(0.05)
            life = self.life
            async with trio.open_nursery() as nursery:
                for event in (life.up, life.over):
                    nursery.start_soon(_then, event, nursery.cancel_scope)
            if life.service is not None and not life.dead:
                return life.service

    async def ask(self, method: str, **arguments: Any) -> Any:
        """What a client is answered; asked again, with the same words, when the node died over it."""
        return await self.within(lambda service: getattr(service, method)(**arguments))

    async def within(self, work: Callable[[Service], Awaitable[T]]) -> T:
        """What `work` returns, begun anew in the node's next life when the node dies over it."""
        while True:
            service = await self.ready()
            life = self.life
            if life is None:
                continue
            found: list[T] = []
            faults: list[Refused] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_then, life.over, nursery.cancel_scope)
                try:
                    found.append(await work(service))
                except Died:
                    pass
                except Refused as fault:
                    faults.append(fault)
                nursery.cancel_scope.cancel()
            if faults:
                raise faults[0]
            if found:
                return found[0]

    # -- what programs do again and again

    async def open(self, peer: Node, amount: int, *, peer_amount: int = 0, public: bool = True) -> ChannelId:
        """A channel to `peer`, open on both sides: asked for again when a death over the handshake left one side
        without it."""
        for turn in range(5):
            told = await self._opened(peer, amount, peer_amount, public, turn)
            id_ = ChannelId(bytes.fromhex(told["channel_id"][2:]))
            with trio.move_on_after(60):
                for node in (self, peer):
                    await node.until(lambda node=node, id_=id_: node.knows(id_, "open"))  # type: ignore[misc]
                return id_
        raise Unlawful(f"{self.name} and {peer.name} cannot open a channel")

    def knows(self, id_: ChannelId, state: str) -> bool:
        """Whether it has that channel, in that state."""
        return id_ in self.service.book.actors and self.channel(id_)["state"] == state

    async def _opened(self, peer: Node, amount: int, peer_amount: int, public: bool, turn: int) -> dict[str, Any]:
        while True:
            try:
                return dict(
                    await self.ask(
                        "open_channel",
                        peer=peer.uri,
                        token="DemoUSD",
                        amount=amount,
                        peer_amount=peer_amount,
                        challenge_period=None,
                        public=public,
                        idempotency_key=f"open {peer.name} {amount} {turn}",
                    )
                )
            except Refused as fault:  # the peer died over it: nothing has begun
                if fault.code not in ("peer_refused", "unreachable", "unknown_peer"):
                    raise
            await trio.sleep(1)

    def channel(self, id_: ChannelId) -> dict[str, Any]:
        return dict(self.service._channel(self.service._actor(id_)))

    async def until(self, good: Callable[[], bool], most: float = 600.0) -> None:
        """Wait until `good` holds of a node that is up; Unlawful if it never does."""
        with trio.move_on_after(most):
            while True:
                await self.ready()
                if good():
                    return
                await trio.sleep(0.25)
        raise Unlawful(f"{self.name}: {good.__qualname__} never held")

    async def invoice(
        self,
        amount: int,
        name: str = "",
        *,
        expiry: int = 600,
        payment_hash: bytes | None = None,
        hold_time: int | None = None,
    ) -> dict[str, Any]:
        return dict(
            await self.ask(
                "make_invoice",
                token="DemoUSD",
                amount=amount,
                description=name,
                expiry=expiry,
                payment_hash=payment_hash,
                hold_time=hold_time,
                idempotency_key=f"invoice {name}" if name else None,
            )
        )

    async def pay(self, invoice: str, timeout: int = 120) -> str:
        """The payment's outcome: succeeded, or the code of why not."""
        try:
            told = await self.ask(
                "pay_invoice", invoice=invoice, amount=None, max_fee=None, timeout=timeout, idempotency_key=None
            )
        except Refused as fault:
            return "succeeded" if fault.code == "invoice_paid" else fault.code
        return str(told["state"])

    async def submit(self, key: str, call: Call) -> bool:
        """A transaction of the account's owner through the node's sender; whether it did what it should."""

        async def work(service: Service) -> bool:
            await service.guard.sender.submit(Intent.of(self.key.address, key, call))
            return (await service.guard.sender.wait(key)).succeeded

        return await self.within(work)

    async def transfer(self, channel: ChannelId, amounts: Sequence[int], name: str) -> str:
        """Direct transfers in one call; their state when the node answers."""
        asked = [
            {"id": sha256(f"{name} {place}".encode())[:16], "amount": amount} for place, amount in enumerate(amounts)
        ]
        told = await self.ask("send_transfers", channel_id=channel, transfers=asked, wait=False)
        return str(told["state"])


async def _then(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def only_deaths(fault: BaseException) -> bool:
    """Whether nothing but a death, and the cancelling it brought, ended a node."""
    if isinstance(fault, BaseExceptionGroup):
        return all(only_deaths(one) for one in fault.exceptions)
    return isinstance(fault, Died | trio.Cancelled)


# -- all of it ---------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Sim:
    """One simulated world. `doomed`: the point at which a node dies; `again`: how many points that node passes after it
    has come back until it dies a second time, on its way through the recovery."""

    folder: Path
    seed: int
    clock: MockClock
    nursery: trio.Nursery
    doomed: Point | None = None
    again: int | None = None
    down_for: float = 1.0
    """Seconds between a death and the next start."""
    nodes: dict[str, Node] = field(default_factory=dict)
    doors: dict[int, _Door] = field(default_factory=dict)
    links: list[tuple[frozenset[str], Any, Any]] = field(default_factory=list)
    apart: set[frozenset[str]] = field(default_factory=set)
    """Pairs of names that cannot reach each other."""
    points: list[Point] = field(default_factory=list)
    """All that were passed, in order, before and after."""
    watching: bool = True
    """Whether points are counted (a scenario's preparation is not)."""
    deaths: int = 0
    signatures: dict[bytes, tuple[Address, Digest]] = field(default_factory=dict)
    """Of each signature by an account's key: whose it is, and of what."""
    spoken: list[tuple[str, wire.Message]] = field(default_factory=list)
    """Every message that left a node, in order."""
    taken: dict[str, int] = field(default_factory=dict)
    """Wei that a node was left without, by decree."""
    kind: type[ModelChain] = ModelChain
    """What the chain is made of: the contracts' model alone, or beside their bytecode (`bytecode.TwinChain`)."""

    def __post_init__(self) -> None:
        self.chain = self.kind(clock=self.time, domain=DOMAIN, registry=REGISTRY, token=TOKEN)
        self.judge: Callable[[str, str, wire.Message], float | None] = lambda sender, to, message: 0.0
        """(sender, receiver, message) -> seconds of delay, or None: the line is cut instead."""
        self.passed: Callable[[Point], None] = lambda point: None
        """Told of each point that is counted, as it is passed."""
        self.twist: Callable[[Node, wire.Message], Sequence[wire.Message]] = lambda node, message: (message,)
        """(sender, message) -> what goes over the wire in its place: a liar's way to lie."""
        self.listener: Callable[[Node, wire.Message], None] = lambda node, message: None
        """Told of each message when it leaves."""
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def time(self) -> float:
        """Seconds since 1970."""
        return START + self.clock.current_time()

    async def node(
        self, name: str, *, actor: type[Actor] = Actor, tokens: int = TOKENS, start: bool = True, **settings: Any
    ) -> Node:
        """A node of that name with money, up unless `start` is off."""
        made = self.nodes[name] = Node(self, name, actor, settings)
        made.folder.mkdir(parents=True, exist_ok=True)
        self.chain.fund(made.key.address, coin=100 * ETHER, token=tokens)
        self.nursery.start_soon(made.keep)
        if start:
            made.start()
            await made.ready()
        return made

    def name_of(self, node_id: bytes) -> str:
        return next((node.name for node in self.nodes.values() if node.node_id == node_id), "a stranger")

    def cut(self, one: str, other: str) -> None:
        """End every connection between two nodes; what is under way is lost for who has not read it."""
        pair = frozenset((one, other))
        for names, ours, theirs in self.links:
            if names == pair:
                _close(ours)
                _close(theirs)
        self.links = [link for link in self.links if link[0] != pair]

    def arrive(self, node: str, name: str, when: str) -> bool:
        """Count a point; whether it is the doomed one."""
        if not self.watching:
            return False
        self._counts[node, name, when] += 1
        point = Point(node, name, self._counts[node, name, when], when)
        self.points.append(point)
        self.passed(point)
        if point == self.doomed or self._again(node):
            self.deaths += 1
            return True
        return False

    def _again(self, node: str) -> bool:
        """Whether the node that has died is to die a second time here."""
        if self.deaths != 1 or self.again is None or self.doomed is None or node != self.doomed.node:
            return False
        self.again -= 1
        return self.again == 0

    def said(self, node: Node, message: wire.Message) -> None:
        self.spoken.append((node.name, message))
        self.listener(node, message)


def simulate(
    program: Callable[[Sim], Awaitable[T]],
    folder: Path,
    *,
    seed: int = 0,
    doomed: Point | None = None,
    again: int | None = None,
    chain: type[ModelChain] = ModelChain,
) -> T:
    """Run a program in a world of its own, in simulated time. Whatever it raises is raised bare where it can be."""
    contracts()
    repeatable(seed)
    clock = MockClock(autojump_threshold=0.0)
    results: list[T] = []

    async def main() -> None:
        with trio.fail_after(LONGEST):
            async with trio.open_nursery() as nursery:
                sim = Sim(folder, seed, clock, nursery, doomed, again, kind=chain)
                nursery.start_soon(sim.chain.run)
                results.append(await program(sim))
                for node in sim.nodes.values():
                    node.restart = False
                nursery.cancel_scope.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", _at_once)
        trio.run(main, clock=clock)
    return results[0]


async def _at_once(work: Callable[..., T], *arguments: Any, **_: Any) -> T:
    """In place of a thread, whose end comes when the machine likes, and whose work takes no simulated time."""
    await trio.lowlevel.checkpoint()
    return work(*arguments)


def repeatable(seed: int) -> None:
    """Have trio take its chance (the order of tasks that are ready together) from `seed`, as Hypothesis does it."""
    from trio._core import _run

    module: Any = _run
    module._ALLOW_DETERMINISTIC_SCHEDULING = True
    module._r.seed(seed)
    count, numbers = itertools.count(), WeakKeyDictionary[Any, int]()

    def number(thing: Any) -> int:
        if thing not in numbers:
            numbers[thing] = next(count)
        return numbers[thing]

    module.id = number  # deadlines of one moment are told apart by it, and addresses are another process's matter
