"""What clients do to daemons that are being killed: pay, transfer, ask for channels, close them; and ask again.

Every call is made as a careful client makes it: under a key or id of its own, and again with the same words for as long
as nobody answers. So each thing is asked for once, however often it is said, and what the daemon has answered is kept
(`Told`) for the audit to compare with its books.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from channeld.base.keys import sha256
from channeld.cli.stage import Actor
from channeld.client import ApiError, Unreachable

AGAIN: Final = 0.05
"""Seconds until a daemon that does not answer is asked again."""
DEPOSIT: Final = 10_000_000


@dataclass(slots=True)
class Told:
    """What was asked for and what the daemons said."""

    payments: dict[bytes, str] = field(default_factory=dict)
    """By payment hash: "succeeded", or the code of why not."""
    transfers: dict[bytes, str] = field(default_factory=dict)
    """By id: what was answered; "pending" is allowed to become anything."""
    openings: dict[tuple[str, str], str] = field(default_factory=dict)
    """(node, key) -> the channel that was answered, empty if none was."""
    closed: dict[str, str] = field(default_factory=dict)
    """Channels that somebody asked to close, and how."""
    counts: Counter[str] = field(default_factory=Counter)


async def ask(actor: Actor, method: str, **words: Any) -> Any:
    """The daemon's answer, whichever of its lives gives it. ApiError: it says no."""
    while True:
        if actor.ready:
            try:
                async with actor.client() as client:
                    return await getattr(client, method)(**words)
            except Unreachable:
                pass
        await trio.sleep(AGAIN)


class Load:
    """Clients of a line of nodes. `channels[n]` joins nodes n and n + 1. Stops beginning new things once `over` is set,
    and ends when all that was begun has its answer."""

    def __init__(self, actors: Sequence[Actor], channels: Sequence[str], seed: str) -> None:
        self.actors, self.channels, self.seed = actors, channels, seed
        self.told = Told()
        self.over = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(self._pays, f"pays {number}")
            for number in range(2):
                nursery.start_soon(self._transfers, f"transfers {number}")
            nursery.start_soon(self._opens, "opens")

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    async def _pays(self, name: str) -> None:
        """Invoices of one node, paid by another, in both directions; two at once."""
        chance, number = self._chance(name), 0
        while not self.over:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    payer, payee = chance.sample(self.actors, 2)
                    number += 1
                    nursery.start_soon(self._pay, payer, payee, chance.randint(1, 5_000), f"{name} {number}")
            await trio.sleep(chance.uniform(0, 0.1))

    async def _pay(self, payer: Actor, payee: Actor, amount: int, key: str) -> None:
        asked = await ask(payee, "make_invoice", token="DemoUSD", amount=amount, idempotency_key=key)
        name = bytes.fromhex(asked["payment_hash"][2:])
        words = {"invoice": asked["invoice"], "timeout": 20, "max_fee": 1_000, "idempotency_key": key}
        while True:
            try:
                said = str((await ask(payer, "pay_invoice", **words))["state"])
            except ApiError as fault:
                said = fault.code
                if said == "safe_mode" and "begun" in fault.message:  # nothing was done: a start is not over yet
                    await trio.sleep(AGAIN)
                    continue
            break
        self.told.payments[name] = said
        self.told.counts[f"payments {'succeeded' if said == 'succeeded' else 'not'}"] += 1

    async def _transfers(self, name: str) -> None:
        chance, number = self._chance(name), 0
        while not self.over:
            number += 1
            place = chance.randrange(len(self.channels))
            sender = self.actors[place + chance.randrange(2)]
            batch: list[dict[str, Any]] = [
                {"id": "0x" + sha256(f"{self.seed} {name} {number} {n}".encode())[:16].hex(), "amount": n + 1}
                for n in range(chance.choice((1, 3, 20)))
            ]
            wait = chance.random() < 0.5
            try:
                said = await ask(sender, "send_transfers", channel_id=self.channels[place], transfers=batch, wait=wait)
                state = str(said["state"])
            except ApiError as fault:
                state = fault.code
            self.told.transfers |= {bytes.fromhex(one["id"][2:]): state for one in batch}
            self.told.counts["transfers"] += len(batch)
            await trio.sleep(chance.uniform(0, 0.1))

    async def _opens(self, name: str) -> None:
        """A channel more, one at a time, used and closed again: together or alone."""
        chance, number = self._chance(name), 0
        while not self.over:
            number += 1
            place = chance.randrange(len(self.actors) - 1)
            opener, acceptor = chance.sample(self.actors[place : place + 2], 2)
            opened = await self._open(opener, acceptor, f"{name} {number}")
            if opened:
                await trio.sleep(chance.uniform(0, 3))
                await self._close(chance.choice((opener, acceptor)), opened, force=chance.random() < 0.4)
            await trio.sleep(chance.uniform(0, 1))

    async def _open(self, opener: Actor, acceptor: Actor, key: str) -> str:
        """The new channel's id; empty if it was refused."""
        self.told.openings[opener.name, key] = ""
        try:
            said = await ask(
                opener,
                "open_channel",
                peer=acceptor.uri,
                token="DemoUSD",
                amount=1_000,
                public=False,
                idempotency_key=key,
            )
        except ApiError as fault:
            self.told.counts[f"openings refused: {fault.code}"] += 1
            return ""
        self.told.openings[opener.name, key] = opened = str(said["channel_id"])
        self.told.counts["openings"] += 1
        return opened

    async def _close(self, actor: Actor, opened: str, *, force: bool) -> None:
        self.told.closed[opened] = "alone" if force else "together"
        try:
            await ask(actor, "close_channel", channel_id=opened, force=force, timeout=3)
            self.told.counts["closes"] += 1
        except ApiError as fault:  # not known there, or over already
            self.told.counts[f"closes refused: {fault.code}"] += 1


async def close_all(actors: Sequence[Actor], told: Told) -> None:
    """Close whatever is left, together where the peer is there; returns when no channel with money in it is left."""
    async with trio.open_nursery() as nursery:
        for actor in actors:
            nursery.start_soon(partial(_close_of, actor, told))


async def _close_of(actor: Actor, told: Told) -> None:
    while True:
        shown = (await ask(actor, "list_channels"))["channels"]
        left = [one for one in shown if one["state"] != "closed" and not _empty(one)]
        if not left:
            return
        for one in left:
            if one["state"] in ("open", "opening") and (one["side"] == "a" or one["frozen"]):
                told.closed.setdefault(one["channel_id"], "at the end")
                try:
                    await ask(actor, "close_channel", channel_id=one["channel_id"], force=False, timeout=20)
                except ApiError as fault:
                    if fault.code not in ("channel_not_open", "channel_closing"):  # it has gone on meanwhile
                        raise
        await trio.sleep(0.2)


def _empty(shown: dict[str, Any]) -> bool:
    """Agreed once, and nothing was ever paid in: there is nothing to close."""
    return bool(shown["state"] == "opening" and not int(shown["deposit_ours"]) and not int(shown["deposit_theirs"]))
