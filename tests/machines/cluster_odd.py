"""The odd node of a cluster: the cheat that closes with whatever suits it, and the one that comes back from a copy.

A cheat keeps every state that its channels were ever in, and its peers' own unanswered proposals besides. When it goes
away it closes each of its channels with one of them. With a victim asleep it closes with what is worst for the victim
and ends the challenge as soon as it can; nobody but the watchtower is there to answer.

A daemon pays an invoice with one lock. `pay_half` has it pay one half and say that the whole is on its way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import trio

from channeld.base.keys import keccak
from channeld.base.units import Amount, ChannelId
from channeld.chain.chain import Call
from channeld.core.channel import Channel, Phase
from channeld.node.service import Service
from channeld.wire import invoice
from tests.crash.copies import down, keep, set_back, up
from tests.crash.scenarios import close_call, send_raw
from tests.crash.sim import Node, Sim, Unlawful, contracts


class Odd:
    """`peers`: who is at the other end of each of its channels. `met` counts what it did."""

    def __init__(self, sim: Sim, node: Node, peers: dict[ChannelId, Node], chance: Random, met: Counter[str]) -> None:
        self.sim, self.node, self.peers, self.chance, self.met = sim, node, peers, chance, met
        self.old: dict[ChannelId, list[Channel]] = {}
        self.copy: Path | None = None

    # -- from a copy

    async def take_copy(self) -> None:
        self.copy = await keep(self.node)

    async def come_back(self) -> None:
        """From the old copy, which takes with it whatever stood beside the database."""
        assert self.copy is not None
        await set_back(self.node, self.copy)
        self.met["restored"] += 1
        await up(self.node)
        await trio.sleep(5)

    # -- cheating

    def remember(self) -> None:
        """Its channels as they are now."""
        if self.node.life is not None and self.node.life.service:
            for id_, actor in self.node.service.book.actors.items():
                self.old.setdefault(id_, []).append(actor.channel)

    async def cheat(self, victim: Node | None = None) -> None:
        """Away, and then a state that is not the newest on chain, of each of its channels. `victim` is asleep."""
        unanswered = {id_: call for id_ in self.peers if (call := self._unanswered(id_)) is not None}
        await down(self.node)
        for id_, channels in sorted(self.old.items()):
            if id_ not in self.peers or not await self._sent():
                continue
            asleep = self.peers[id_] is victim
            old = self._worst(channels) if asleep else self.chance.choice(channels[: max(1, len(channels) // 2)])
            word = self.sim.chain.model.channels.get(id_.hex())
            if channels[-1].phase is not Phase.OPEN or word is None or word.deadline or word.dead:
                continue
            if id_ in unanswered and not asleep and self.chance.random() < 0.5:
                send_raw(self.sim, self.node.key, unanswered[id_])
                self.met["unanswered proposals closed"] += 1
            else:
                send_raw(self.sim, self.node.key, close_call(old))
                self.met["old states closed"] += 1
                if asleep:
                    await self._rob(old, channels[-1])
            await trio.sleep(4)

    async def _sent(self) -> bool:
        """What its daemon had sent goes first."""
        for _ in range(30):
            if all(tx.sender != self.node.key.address for tx in self.sim.chain.pool):
                return True
            await trio.sleep(1)
        return False

    @staticmethod
    def _worst(channels: list[Channel]) -> Channel:
        """The state that gives the cheat most."""
        return max(
            (one for one in channels if one.phase is Phase.OPEN), key=lambda one: one.balance, default=channels[0]
        )

    def _unanswered(self, id_: ChannelId) -> Call | None:
        """A close with the peer's own proposal, which the cheat has heard and never acknowledged."""
        peer = self.peers[id_]
        if peer.life is None or peer.life.service is None or id_ not in peer.service.book.actors:
            return None
        theirs = peer.service.book.actors[id_].channel
        if theirs.outstanding is None or theirs.phase is not Phase.OPEN:
            return None
        return contracts().close(
            theirs.token,
            theirs.terms,
            version=theirs.outstanding.version,
            body_hash=theirs.outstanding.body_hash,
            signature=theirs.outstanding.signature,
            salt_other=theirs.salt_ours,
            salt_own_hash=keccak(theirs.salt_theirs),
        )

    async def _rob(self, old: Channel, newest: Channel) -> None:
        """The victim sleeps until the cheat could have had its way, if the tower were not."""
        name = old.id.hex()
        for _ in range(60):
            if self.sim.chain.model.channels[name].deadline:
                break
            await trio.sleep(1)
        while self.sim.time() <= self.sim.chain.model.channels[name].deadline + 2:
            await trio.sleep(2)
        send_raw(
            self.sim,
            self.node.key,
            contracts().finalize(old.token, old.terms, body_hash=old.current.body_hash),
        )
        await trio.sleep(6)
        word = self.sim.chain.model.channels[name]
        self.met["victims asleep"] += 1
        if old.current.version < newest.current.version:
            if word.version == old.current.version:
                raise Unlawful(f"I26: an old state, v{word.version}, stands although a tower guards")
            self.met["saved by the tower"] += 1


# -- halves


def half(payee: Node, text: str) -> str:
    """An invoice over half of what the payee asks in `text`, of the same hash and secret."""
    asked = invoice.decode(text)
    assert asked.amount is not None
    return invoice.encode(replace(asked, amount=Amount(asked.amount // 2)), payee.key.derive("node"))


async def pay_half(payer: Node, text: str, timeout: int) -> str:
    """Pay what `half` made; its lock says that it is one half of the whole. The outcome, as of `Node.pay`."""
    mine = invoice.decode(text)
    assert mine.amount is not None
    whole = Amount(2 * mine.amount)

    async def work(service: Service) -> str:
        payments: Any = service.payments
        build = payments._onion

        def onion(asked: Any, payment: Any, route: Any) -> Any:
            halved = payment.hash == mine.payment_hash
            return build(asked, replace(payment, amount=whole) if halved else payment, route)

        payments._onion = onion
        told = await service.pay_invoice(invoice=text, amount=None, max_fee=None, timeout=timeout, idempotency_key=None)
        return str(told["state"])

    return await payer.within(work)
