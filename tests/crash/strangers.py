"""A peer that is nothing but a line: what a stranger says to `Openings`, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Amount, ChannelId, Seconds
from channeld.wire import messages as wire
from tests.crash.sim import Node


class Stranger:
    """`number` names it; it comes from `origin`. Stands for a `Line` where only these are asked for."""

    inbound, known, unsent = True, False, 0

    def __init__(self, number: int, origin: str) -> None:
        self.key = Key(sha256(f"stranger {number}".encode()))
        self.peer, self.origin = self.key.public, origin
        self.heard: list[wire.Message] = []
        self._count = 0

    def send(self, messages: Sequence[wire.Message]) -> None:
        self.heard += messages

    def say(self, *_: Any) -> None:
        """What the channel says to it goes nowhere."""

    complain = say

    def asks(self, acceptor: Node) -> wire.OpenChannel:
        """A proposal that fits."""
        self._count += 1
        proposal = acceptor.service.openings._proposal(
            NATIVE, Amount(10**15), Amount(0), Seconds(acceptor.service.config.period), False
        )
        salt = sha256(self.key.secret + bytes([self._count]))
        return replace(proposal, participant=self.key.address, payout=self.key.address, salt=salt)

    async def begin(self, acceptor: Node) -> None:
        await acceptor.service.openings.heard(self, self.asks(acceptor))  # type: ignore[arg-type]

    async def agree(self, acceptor: Node, channel: ChannelId) -> None:
        said = wire.ChannelAgreed(channel_id=channel, sealed=bytes(48))
        await acceptor.service.openings.heard(self, said)  # type: ignore[arg-type]

    def begun(self, acceptor: Node) -> list[ChannelId]:
        return [channel for peer, channel in acceptor.service.openings._theirs if peer == self.peer]

    def codes(self, kind: type[wire.OpenRefused | wire.Error]) -> list[str]:
        return [message.code for message in self.heard if isinstance(message, kind)]
