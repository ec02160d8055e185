"""A dev chain with the contracts, channels signed by hand, a real tower, and clients that talk to it over Noise.

Roles: `cheat` closes with an old state, `sleeper` is its victim and offline, `runner` copies what it sees in the
pool. Payout addresses are fresh accounts, so that what they hold is exactly what the contract paid them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import trio

from channeld.base.digests import (
    NO_LOCKS,
    Domain,
    Terms,
    body_hash,
    channel_id,
    delegation_digest,
    salt_commitment,
    state_digest,
)
from channeld.base.keys import Key, keccak
from channeld.base.units import (
    NATIVE,
    Address,
    Amount,
    ChannelId,
    Digest,
    NodeId,
    Preimage,
    Seconds,
    Side,
    Signature,
    Version,
)
from channeld.chain.bindings import Contracts
from channeld.chain.chain import Call, ChannelWord, SeenChallenge
from channeld.chain.deploy import Deployment
from channeld.chain.devchain import DEV_CHAIN_ID
from channeld.chain.networks import network
from channeld.chain.reads import RpcChain, hexed
from channeld.peers.dial import dial
from channeld.peers.talk import PeerStream
from channeld.tower.config import TowerConfig
from channeld.tower.run import TowerReady, run
from channeld.wire import appointment
from channeld.wire.address import HostPort, NodeAddress
from channeld.wire.messages import (
    AppointmentReceipt,
    Message,
    PutAppointment,
    TowerError,
    encode,
)
from tests.chain.nodes import Node, signed

BOND = 10**15
DEPOSIT = Amount(10**18)
PERIOD = Seconds(60)
PATIENCE = 20.0
PROFILE = {"poll": 0.05, "max_head_age": 3_600, "fees": {"replace_after": 2}}
"""What differs from the shipped development network."""
Found = TypeVar("Found")


def key_of(role: str) -> Key:
    """The key of a role; the same in every run."""
    return Key(keccak(b"tower tests " + role.encode()))


async def eventually(what: Callable[[], Awaitable[Found]], seconds: float = PATIENCE) -> Found:
    """Ask until the answer is true, and return it."""
    with trio.fail_after(seconds):
        while True:
            found = await what()
            if found:
                return found
            await trio.sleep(0.03)


class Reachable(Protocol):
    """A tower as its clients know it, in this process or another."""

    @property
    def listen(self) -> HostPort: ...

    @property
    def node_id(self) -> NodeId: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A state both participants have signed, opened."""

    version: Version
    body: appointment.Body
    hash: Digest
    signature_a: Signature
    signature_b: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel with its keys and salts, as only its two sides together know it."""

    domain: Domain
    keys: tuple[Key, Key]
    salts: tuple[bytes, bytes]
    terms: Terms
    id: ChannelId

    def state(self, version: int, net: int) -> State:
        """`net`: what A has given B."""
        blind = keccak(b"blind" + self.id + bytes([version]))
        body = appointment.Body(net=net, locked_ab=Amount(0), locked_ba=Amount(0), locks_hash=NO_LOCKS, blind=blind)
        hashed = body_hash(net, 0, 0, NO_LOCKS, blind)
        digest = state_digest(self.domain, self.id, Version(version), hashed)
        return State(
            version=Version(version),
            body=body,
            hash=hashed,
            signature_a=self.keys[0].sign(digest),
            signature_b=self.keys[1].sign(digest),
        )

    def close(self, contracts: Contracts, side: Side, state: State | None) -> Call:
        signature = b""
        if state is not None:
            signature = state.signature_b if side is Side.A else state.signature_a
        return contracts.close(
            NATIVE,
            self.terms,
            version=state.version if state else Version(0),
            body_hash=state.hash if state else Digest(bytes(32)),
            signature=signature,
            salt_other=self.salts[side.other],
            salt_own_hash=keccak(self.salts[side]),
        )

    def challenge(self, contracts: Contracts, state: State) -> Call:
        """Without a delegation: what a runner makes of a tower's challenge."""
        return contracts.challenge(
            NATIVE,
            self.terms,
            version=state.version,
            body_hash=state.hash,
            signature_a=state.signature_a,
            signature_b=state.signature_b,
        )

    def evidence(
        self,
        state: State,
        victim: Side,
        payout: Address | None,
        *,
        delay: int = 0,
        preimages: tuple[Preimage, ...] = (),
        settles: bool = False,
        signer: Key | None = None,
    ) -> appointment.Evidence:
        """What `victim` seals for a tower whose payout is given; None for no delegation."""
        delegation = b""
        if payout is not None:
            digest = delegation_digest(self.domain, self.id, state.version, payout, Seconds(delay))
            delegation = (signer or self.keys[victim]).sign(digest)
        return appointment.Evidence(
            version=state.version,
            body_hash=state.hash,
            signature_a=state.signature_a,
            signature_b=state.signature_b,
            payout=payout or Address(bytes(20)),
            delay=Seconds(delay),
            delegation=delegation,
            token=NATIVE,
            terms=self.terms,
            body=state.body if settles else None,
            preimages=preimages,
        )


@dataclass(slots=True, kw_only=True)
class Client:
    """One client key's connection to the tower, and what it uploads."""

    peer: PeerStream
    auth: Key
    tower: NodeId
    domain: Domain
    salt: bytes
    waiting: list[Message] = field(default_factory=list)

    @property
    def hint(self) -> Digest:
        return appointment.hint_of(self.salt, self.tower)

    async def ask(self, message: Message) -> Message:
        await self.peer.send([encode(message)])
        while not self.waiting:
            self.waiting = await self.peer.receive()
        return self.waiting.pop(0)

    def sealed(self, evidence: appointment.Evidence, backup: appointment.Body, seq: int) -> bytes:
        return appointment.seal(
            evidence,
            backup,
            salt=self.salt,
            tower=self.tower,
            auth=self.auth.public,
            seq=seq,
            t=secrets.token_bytes(32),
            backup_key=bytes(range(32)),
        )

    def upload(
        self, blob: bytes, seq: int, *, signer: Key | None = None, domain: Domain | None = None
    ) -> PutAppointment:
        domain = domain or self.domain
        digest = appointment.update_digest(domain, self.tower, self.hint, seq, appointment.blob_hash(blob))
        return PutAppointment(
            chain_id=domain.chain_id,
            manager=domain.manager,
            hint=self.hint,
            seq=seq,
            blob=blob,
            signature=(signer or self.auth).sign(digest),
        )

    async def put(self, blob: bytes, seq: int) -> AppointmentReceipt:
        answer = await self.ask(self.upload(blob, seq))
        assert isinstance(answer, AppointmentReceipt), answer
        assert appointment.is_receipt_signed(self.domain, self.tower, self.auth.public, answer)
        return answer

    async def refused(self, message: Message) -> TowerError:
        answer = await self.ask(message)
        assert isinstance(answer, TowerError), answer
        return answer


@dataclass(slots=True, kw_only=True)
class World:
    """The chain, and what roles do on it. Transactions are mined as they come unless mining is stopped."""

    node: Node
    where: Deployment
    contracts: Contracts
    chain: RpcChain
    home: Path
    nursery: trio.Nursery
    opened: int = 0

    @property
    def domain(self) -> Domain:
        return Domain(chain_id=DEV_CHAIN_ID, manager=self.where.manager)

    # -- the chain

    async def fund(self, key: Key, wei: int = 10**20) -> None:
        await self.node.rpc.call("anvil_setBalance", hexed(key.address), hex(wei))

    async def send(self, key: Key, call: Call, *, tip: int = 10**9, wait: bool = True) -> dict[str, Any]:
        """A transaction of `key`'s; with `wait`, in a block and successful."""
        nonce = int(await self.node.rpc.call("eth_getTransactionCount", hexed(key.address), "pending"), 16)
        raw = signed(key, nonce, to=call.to, value=call.value, data=call.data, gas=400_000, fee=50 * 10**9, tip=tip)
        tx_hash = await self.node.rpc.call("eth_sendRawTransaction", hexed(raw))
        if not wait:
            return {"transactionHash": tx_hash}
        receipt: dict[str, Any] = await self.node.rpc.call("eth_getTransactionReceipt", tx_hash)
        assert receipt["status"] == "0x1", "reverted"
        return receipt

    async def advance(self, seconds: int) -> None:
        """Let chain time pass, with a block at its end."""
        await self.node.rpc.call("evm_increaseTime", seconds)
        await self.node.mine()

    async def mining(self, on: bool) -> None:
        await self.node.rpc.call("evm_setAutomine", on)

    async def pool(self) -> int:
        """Transactions that wait."""
        return int((await self.node.rpc.call("txpool_status"))["pending"], 16)

    async def wei(self, owner: Address) -> int:
        return await self.chain.balance(owner)

    async def word(self, channel: Channel) -> ChannelWord:
        return await self.chain.channel(channel.id)

    async def until(self, channel: Channel, what: Callable[[ChannelWord], bool]) -> ChannelWord:
        """Wait until the contract's word for the channel is as wanted."""

        async def look() -> ChannelWord | None:
            word = await self.word(channel)
            return word if what(word) else None

        return cast("ChannelWord", await eventually(look))

    async def until_status(self, tower: TowerReady, **wanted: object) -> dict[str, Any]:
        """Wait until the tower says so of itself."""

        async def look() -> dict[str, Any] | None:
            status = await tower.service.tower_status()
            return status if all(status[name] == one for name, one in wanted.items()) else None

        return cast("dict[str, Any]", await eventually(look))

    async def seen_head(self, tower: TowerReady) -> None:
        """Wait until the tower has judged everything up to the newest block."""
        newest = (await self.chain.head()).latest.number

        async def look() -> bool:
            watch = tower.service.watch
            return watch is not None and watch.number >= newest

        await eventually(look)

    async def blinded(self, tower: TowerReady) -> str:
        """Wait until the tower says that it cannot see the chain; why."""

        async def look() -> str | None:
            return cast("str | None", (await tower.service.get_info())["safe_mode"])

        return cast("str", await eventually(look))

    async def challenges(self, channel: Channel) -> list[int]:
        """Versions that were put against the close, in order."""
        head = await self.chain.head()
        found: list[int] = []
        for number in range(head.latest.number + 1):
            block = await self.chain.block(number)
            logs = await self.node.rpc.call("eth_getLogs", {"blockHash": hexed(block.hash)})
            facts = [self.contracts.fact(log, block) for log in logs]
            found += [one.version for one in facts if isinstance(one, SeenChallenge) and one.channel_id == channel.id]
        return found

    async def open(self, *, bond: int = BOND, a: str = "cheat", b: str = "sleeper") -> Channel:
        """A channel with a deposit of side A's on chain."""
        self.opened += 1
        keys = (key_of(a), key_of(b))
        salts = (keccak(b"salt a %d" % self.opened), keccak(b"salt b %d" % self.opened))
        terms = Terms(
            participant_a=keys[0].address,
            participant_b=keys[1].address,
            payout_a=key_of(f"{a} payout {self.opened}").address,
            payout_b=key_of(f"{b} payout {self.opened}").address,
            challenge_period=PERIOD,
            salt_commitment=salt_commitment(keccak(salts[0]), keccak(salts[1])),
            close_bond=bond,
            nonce=self.opened,
        )
        made = Channel(
            domain=self.domain, keys=keys, salts=salts, terms=terms, id=channel_id(self.domain, NATIVE, terms.hash)
        )
        await self.send(keys[0], self.contracts.deposit(NATIVE, terms.hash, Side.A, DEPOSIT))
        return made

    # -- towers and their clients

    def config(self, name: str = "tower", **settings: Any) -> TowerConfig:
        profile = network(
            "dev",
            {
                **PROFILE,
                "manager": hexed(self.where.manager),
                "registry": hexed(self.where.registry),
            },
        )
        home = self.home / name
        values = {"listen": ("127.0.0.1", 0), "rpc": (self.node.url,), **settings}
        return TowerConfig(data_dir=home, network=profile, socket=home / "rpc.sock", **values)

    @asynccontextmanager
    async def tower(self, name: str = "tower", **settings: Any) -> AsyncIterator[TowerReady]:
        """A tower in this process, with real sockets and files; stopped at the end of the block."""
        key = key_of(name)
        if not await self.wei(key.address):
            await self.fund(key)
        async with trio.open_nursery() as nursery:
            ready: TowerReady = await nursery.start(partial(run, self.config(name, **settings), key))
            yield ready
            await ready.service.stop()

    @asynccontextmanager
    async def client(self, tower: Reachable, salt: bytes, auth: Key) -> AsyncIterator[Client]:
        at = HostPort(host="127.0.0.1", port=tower.listen.port)
        async with await dial(NodeAddress(node=tower.node_id, at=at), auth) as peer:
            yield Client(peer=peer, auth=auth, tower=tower.node_id, domain=self.domain, salt=salt)

    async def guard(
        self,
        tower: Reachable,
        channel: Channel,
        state: State,
        *,
        victim: Side = Side.B,
        seq: int = 1,
        auth: Key | None = None,
        payout: Address | None = None,
        delegated: bool = True,
        **more: Any,
    ) -> AppointmentReceipt:
        """The victim uploads `state` to the tower and goes offline."""
        payout = payout or key_of("tower").address
        evidence = channel.evidence(state, victim, payout if delegated else None, **more)
        auth = auth or channel.keys[victim].derive(f"tower/{channel.id.hex()}")
        async with self.client(tower, channel.salts[victim], auth) as client:
            return await client.put(client.sealed(evidence, state.body, seq), seq)
