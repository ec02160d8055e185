"""A living liar: an honest daemon whose words are changed on their way to the wire, by the seed.

Its own store and channels stay whole, so it goes on for as long as its peers listen. It says wrong signatures, bases,
versions, amounts and preimages, another content of a version that it has signed already (signed as well as the first),
messages from long ago; it claims states and cooperates that are not; and while `mute` is set it answers no proposal,
though it keeps the signatures that it got. Whatever follows, its peers may lose nothing; that they close is just.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from channeld.base.errors import ChanneldError
from channeld.base.keys import Key
from channeld.base.units import Amount, Digest, LockId, PaymentId, Preimage, Signature, Timestamp, Version
from channeld.core import messages as core
from channeld.core.updating import apply
from channeld.node.translate import to_wire
from channeld.wire import messages as wire
from tests.crash.sim import Node

SELDOM: Final = 0.15
"""How often a message that could be a lie is one."""


class Liar:
    """What `Sim.twist` asks about each message of `node`. `met` counts the lies by kind."""

    def __init__(self, node: Node, chance: Random, met: Counter[str]) -> None:
        self.node, self.chance, self.met = node, chance, met
        self.lies = False
        self.mute = False
        self.said: list[wire.Message] = []

    def twist(self, sender: Node, message: wire.Message) -> Sequence[wire.Message]:
        if sender is not self.node:
            return (message,)
        if self.mute and isinstance(message, wire.CommitAck):
            self.met["acknowledgements kept back"] += 1
            return ()
        if not self.lies or self.chance.random() >= SELDOM:
            self._keep(message)
            return (message,)
        self._keep(message)
        told = self._lie(message)
        if told != (message,):
            self.met["lies"] += 1
            self.met[f"lied in {type(message).__name__}"] += 1
        return told

    def _keep(self, message: wire.Message) -> None:
        if hasattr(message, "channel_id"):
            self.said.append(message)

    def _wrong(self, signature: Signature) -> Signature:
        place = self.chance.randrange(64)
        return Signature(signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :])

    def _lie(self, message: wire.Message) -> tuple[wire.Message, ...]:
        draw: Callable[[Sequence[str]], str] = self.chance.choice
        match message:
            case wire.Commit():
                return self._commit(message, draw(("signature", "base", "version", "twice", "twice", "again", "old")))
            case wire.CommitAck():
                kinds = {
                    "signature": (replace(message, signature=self._wrong(message.signature)),),
                    "no receipt": (replace(message, receipt=b""),),
                    "version": (replace(message, version=Version(message.version + 2)),),
                    "again": (message, message),
                    "never": (),
                }
                return kinds[draw(sorted(kinds))]
            case wire.Reestablish():
                return (self._reestablish(message, draw(("ahead", "behind", "hash", "base", "cooperate"))),)
            case wire.AddLock():
                return (replace(message, amount=Amount(message.amount + 1)),)
            case wire.FulfilLock():
                return (replace(message, preimage=Preimage(bytes(32))),)
            case wire.FailLock():
                return (replace(message, lock_id=LockId(message.lock_id + 1)),)
            case wire.Transfer():
                return (replace(message, amount=Amount(message.amount + 1)),)
            case wire.DepositSeen():
                more = self.chance.randint(-300, 3_000)
                return (replace(message, deposit_a=Amount(max(0, message.deposit_a + more))),)
            case wire.CoopSign():
                return (replace(message, signature=self._wrong(message.signature)),)
            case wire.CoopPropose():
                offers = {
                    "net": (replace(message, net=message.net + self.chance.choice((-50, 50))),),
                    "for ever": (replace(message, valid_until=Timestamp(message.valid_until + 10**6)),),
                    "version": (replace(message, coop_version=Version(message.coop_version + 1)),),
                }
                return offers[draw(sorted(offers))]
            case _:
                return (message,)

    def _commit(self, message: wire.Commit, kind: str) -> tuple[wire.Message, ...]:
        match kind:
            case "signature":
                return (replace(message, signature=self._wrong(message.signature)),)
            case "base":
                return (replace(message, base=Version(message.base + 2)),)
            case "version":
                return (replace(message, version=Version(message.version + 2)),)
            case "twice":
                return (message, *self._other_content(message))
            case "again":
                return (message, replace(message, count=0))
            case _:
                return (self.chance.choice(self.said), message)

    def _other_content(self, message: wire.Commit) -> tuple[wire.Message, ...]:
        """The same version with another content, as well signed as the first."""
        service = self.node.service
        channel = service.book.actors[message.channel_id].channel
        update = core.Transfer(PaymentId(self.chance.randbytes(16)), Amount(1))
        try:
            body = apply(channel, channel.we, (update,))
        except ChanneldError:
            return (message,)
        digest = channel.digest(message.version, body.hash(channel.blind(message.version)))
        commit = core.Commit(
            version=message.version,
            base=message.base,
            updates=(update,),
            signature=Key(self.node.secret).sign(digest),
        )
        return tuple(to_wire(channel.id, commit, channel.we))

    def _reestablish(self, message: wire.Reestablish, kind: str) -> wire.Reestablish:
        match kind:
            case "ahead":
                return replace(message, version=Version(message.version + 2), base=Version(message.base + 2))
            case "behind":
                back = max(0, message.version - self.chance.randint(1, 4))
                return replace(message, version=Version(back), base=Version(back))
            case "hash":
                return replace(message, hash=Digest(self.chance.randbytes(32)))
            case "base":
                return replace(message, base=Version(message.base + self.chance.randint(1, 3)))
            case _:
                return replace(
                    message,
                    coop_version=Version(message.base + self.chance.randint(0, 3)),
                    coop_digest=Digest(self.chance.randbytes(32)),
                    coop_valid_until=Timestamp(int(self.node.sim.time()) + self.chance.randint(-10, 4_000)),
                )
