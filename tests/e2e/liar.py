"""A peer with keys of its own and no manners: it speaks to a real node over TCP and says what a test wants.

`meet` shakes hands as any peer does; what is said after that is up to the test. `Liar.open` really opens a channel,
with a deposit on the chain, by messages made by hand; from then on the test can sign whatever it likes.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import trio

from channeld.base.digests import Domain, Terms, channel_id, salt_commitment
from channeld.base.errors import Unreachable
from channeld.base.keys import Key, keccak
from channeld.base.units import NATIVE, Address, Amount, ChannelId, Digest, PaymentId, Seconds, Side, Version
from channeld.chain.bindings import Contracts
from channeld.chain.networks import network
from channeld.cli.stage import Actor, Stage
from channeld.core.channel import ZERO, Body, Channel, next_version
from channeld.peers.dial import dial
from channeld.peers.talk import PeerStream, fresh_key
from channeld.wire import memo
from channeld.wire import messages as wire
from channeld.wire.address import node_address
from tests.e2e.cheating import send

MessageT = TypeVar("MessageT", bound=wire.Message)
PATIENCE: Final = 15.0


def domain_of(town: Stage) -> Domain:
    return Domain(chain_id=network("dev").chain_id, manager=Address(bytes.fromhex(town.manager[2:])))


class Talk:
    """One connection. `say` writes at once; `hear` takes the next message of a kind, past all others."""

    def __init__(self, stream: PeerStream) -> None:
        self.stream = stream
        self.heard: list[wire.Message] = []

    async def say(self, *messages: wire.Message) -> None:
        await self.raw(*(wire.encode(message) for message in messages))

    async def raw(self, *plain: bytes) -> None:
        """Encrypted as it should be, whatever is in it."""
        await self.stream.send(plain)

    async def hear(self, kind: type[MessageT], channel: ChannelId | None = None) -> MessageT:
        """Unreachable if the node hangs up first, TooSlowError if it never says it."""
        with trio.fail_after(PATIENCE):
            while True:
                for message in self.heard:
                    if isinstance(message, kind) and channel in (None, getattr(message, "channel_id", None)):
                        self.heard.remove(message)
                        return message
                self.heard += await self.stream.receive()

    async def answers(self) -> bool:
        """Whether the node has read all that was said and still talks with us; what else it said is kept."""
        pad = secrets.randbelow(65_536)
        try:
            await self.say(wire.Ping(pad=pad))
            while (await self.hear(wire.Pong)).pad != pad:
                pass
        except Unreachable:
            return False
        return True

    async def hung_up(self) -> bool:
        """Whether the node ends the connection by itself; what it says until then is kept."""
        try:
            with trio.fail_after(PATIENCE):
                while True:
                    self.heard += await self.stream.receive()
        except Unreachable:
            return True
        except trio.TooSlowError:
            return False


@asynccontextmanager
async def knock(actor: Actor, key: Key) -> AsyncIterator[Talk]:
    """Shake hands and say nothing more."""
    async with await dial(node_address(actor.uri), key) as stream:
        yield Talk(stream)


@asynccontextmanager
async def meet(town: Stage, actor: Actor, key: Key) -> AsyncIterator[Talk]:
    """A connection on which both have said Init."""
    domain = domain_of(town)
    async with knock(actor, key) as talk:
        await talk.say(wire.Init(chain_id=domain.chain_id, manager=domain.manager))
        await talk.hear(wire.Init)
        yield talk


@dataclass(eq=False, kw_only=True)
class Liar:
    """An opener of native-coin channels with `victim`. Its account pays for the deposits."""

    town: Stage
    victim: Actor
    account: Key = field(default_factory=fresh_key)
    key: Key = field(default_factory=fresh_key)
    channels: dict[ChannelId, Channel] = field(default_factory=dict)

    def open_channel(self, deposit: int, **changed: Any) -> wire.OpenChannel:
        profile = network("dev")
        asked = wire.OpenChannel(
            open_id=Digest(secrets.token_bytes(32)),
            token=NATIVE,
            participant=self.account.address,
            payout=self.account.address,
            challenge_period=Seconds(self.town.min_period + 2),
            close_bond=profile.close_bond,
            nonce=secrets.randbits(64),
            salt=secrets.token_bytes(32),
            deposit_opener=Amount(deposit),
            deposit_acceptor=Amount(0),
            max_locks=8,
            public=False,
        )
        return replace(asked, **changed)

    async def agree(self, talk: Talk, asked: wire.OpenChannel) -> tuple[Channel, bytes]:
        """The handshake of an opening up to ChannelAgreed; the channel as we know it, and its memo."""
        await talk.say(asked)
        said = await talk.hear(wire.AcceptChannel)
        terms = Terms(
            participant_a=asked.participant,
            participant_b=said.participant,
            payout_a=asked.payout,
            payout_b=said.payout,
            challenge_period=asked.challenge_period,
            salt_commitment=salt_commitment(keccak(asked.salt), keccak(said.salt)),
            close_bond=asked.close_bond,
            nonce=asked.nonce,
        )
        domain = domain_of(self.town)
        channel = Channel(
            id=channel_id(domain, asked.token, terms.hash),
            domain=domain,
            token=asked.token,
            terms=terms,
            we=Side.A,
            peer=talk.stream.remote,
            salt_ours=asked.salt,
            salt_theirs=said.salt,
            max_locks=said.max_locks,
        )
        sealed = memo.seal_salt(self.account.secret, asked.nonce, said.salt)
        await talk.say(wire.ChannelAgreed(channel_id=channel.id, sealed=sealed))
        if asked.close_bond % memo.GWEI:
            return channel, b""
        text = memo.build(terms=terms, salt_a=asked.salt, salt_b=said.salt, sealed_a=sealed, sealed_b=said.sealed)
        return channel, text

    async def open(self, talk: Talk, deposit: int) -> Channel:
        """A channel with our deposit in it, open on the victim's side."""
        channel, text = await self.agree(talk, self.open_channel(deposit))
        await self.greet(talk, channel)
        manager, registry = (Address(bytes.fromhex(name[2:])) for name in (self.town.manager, self.town.registry))
        contracts = Contracts(manager=manager, registry=registry)
        call = contracts.deposit(NATIVE, channel.terms.hash, Side.A, Amount(deposit), text)
        assert await send(self.town, call, self.account) == ""
        await talk.hear(wire.DepositSeen, channel.id)
        await talk.say(wire.DepositSeen(channel_id=channel.id, deposit_a=Amount(deposit), deposit_b=Amount(0)))
        await self.town.channel_state(self.victim, f"0x{channel.id.hex()}", "open")
        self.channels[channel.id] = channel
        return channel

    async def greet(self, talk: Talk, channel: Channel, state: tuple[int, Digest] = (0, ZERO)) -> wire.Reestablish:
        """Say Reestablish for (version, hash), and hear the victim's."""
        version = Version(state[0])
        await talk.say(wire.Reestablish(channel_id=channel.id, version=version, hash=state[1], base=version))
        return await talk.hear(wire.Reestablish, channel.id)

    def transfer(
        self, channel: Channel, amount: int, *, base: int = 0, before: int = 0, signer: Key | None = None
    ) -> tuple[wire.Transfer, wire.Commit]:
        """One transfer on state `base`, in which `before` had been paid; right in all but what a test changes."""
        version = next_version(Side.A, base)
        digest = channel.digest(version, Body(before + amount).hash(channel.blind(version)))
        return (
            wire.Transfer(
                channel_id=channel.id,
                version=version,
                payment_id=PaymentId(secrets.token_bytes(16)),
                amount=Amount(amount),
            ),
            wire.Commit(
                channel_id=channel.id,
                version=version,
                base=Version(base),
                count=1,
                signature=(signer or self.account).sign(digest),
            ),
        )


def memory(actor: Actor) -> int:
    """Most bytes of memory that the process has ever had at once."""
    with open(f"/proc/{actor.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1_024 for line in status if line.startswith("VmHWM:"))
