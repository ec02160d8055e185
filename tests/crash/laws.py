"""What must hold after any death: the end of a simulated world, and its audit against the contracts' model.

`finish` brings a world to its end: everybody is started again, every payment gets its outcome, every channel is closed.
`judge` then asks the four laws. *Money*: each honest node holds what it had, plus what its own books say it received,
less what they say it paid; and the contract holds nothing. *Signatures*: of the states and cooperates that a node let
out, no version of a channel has two digests, and no new one is below an older. *Outcomes*: a payment has succeeded at
exactly one payer iff its invoice is paid, a transfer has succeeded at its sender iff the receiver has it, and nothing
is pending. *Databases*: each opens, and SQLite finds nothing wrong with it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from typing import Any, Final

import trio

from channeld.base.errors import Refused
from channeld.base.units import ChannelId
from channeld.core.channel import Phase
from channeld.storage.store import narrow
from channeld.wire import messages as wire
from tests.crash.sim import ETHER, TOKENS, Node, Sim, Unlawful, named_token

PATIENCE: Final = 1_500.0
"""Simulated seconds in which a world must come to its end."""


async def finish(sim: Sim, honest: Iterable[Node]) -> None:
    """Settle everything. Unlawful if it does not settle."""
    sim.watching = False
    nodes = list(honest)
    for node in nodes:
        node.restart = True
        node.start()
    with trio.move_on_after(PATIENCE):
        for node in nodes:
            await node.ready()
        for node in nodes:
            await node.until(lambda node=node: not _pending(node), PATIENCE)  # type: ignore[misc]
        await _lines(nodes)
        for node in nodes:
            for id_ in list(node.service.book.actors):
                await _close(sim, node, id_)
        for node in nodes:
            await node.until(lambda node=node: _over(sim, node), PATIENCE)  # type: ignore[misc]
        for node in nodes:
            node.restart = False
            life = node.life
            node.crash()
            if life is not None:
                await life.over.wait()
        return
    raise Unlawful(f"the world does not settle: {[_left(sim, node) for node in nodes]}")


async def _lines(nodes: list[Node]) -> None:
    """Wait a while until the lines between those that live stand again."""
    with trio.move_on_after(20):
        for node in nodes:
            while not all(
                node.channel(id_)["connected"]
                for id_, actor in node.service.book.actors.items()
                if actor.channel.phase is Phase.OPEN
            ):
                await trio.sleep(0.25)


def _pending(node: Node) -> list[Any]:
    """Payments and transfers without an outcome."""
    store = node.service.store
    return [
        *store.rows("SELECT hash FROM payments WHERE state = 'pending'"),
        *(
            row
            for row in store.rows("SELECT id, channel FROM transfers WHERE state = 'pending'")
            if node.service.book.actors[row[1]].channel.phase is Phase.OPEN
        ),
    ]


def _left(sim: Sim, node: Node) -> str:
    """For the message of a world that does not settle."""
    if node.life is None or node.life.service is None:
        return f"{node.name} is down"
    channels = [
        f"{a.channel.name} {a.channel.phase.name} {a.channel.session.name} locks={len(a.channel.newest_body.locks)} "
        f"coop={a.channel.coop is not None} broken={a.broken} {a.channel.reason}"
        for a in node.service.book.actors.values()
    ]
    return f"{node.name}: {channels}, pending {len(_pending(node))}, trouble {node.service.guard.sender.trouble!r}"


def _funded(sim: Sim, id_: ChannelId) -> bool:
    """Whether anything was ever paid into it."""
    channel = sim.chain.model.channels.get(id_.hex())
    return channel is not None and (channel.holds > 0 or channel.version > 0 or channel.deadline > 0)


def _over(sim: Sim, node: Node) -> bool:
    actors = node.service.book.actors.items()
    return all(actor.channel.phase is Phase.CLOSED or not _funded(sim, id_) for id_, actor in actors)


async def _close(sim: Sim, node: Node, id_: ChannelId) -> None:
    """Close a channel with money in it, together where the peer is there."""
    if not _funded(sim, id_):
        return
    with trio.move_on_after(60):  # after a death in the handshake the peer may not know it: then it is closed alone
        await node.until(lambda: node.service.book.actors[id_].channel.phase is not Phase.OPENING)
    if node.channel(id_)["state"] not in ("open", "opening"):
        return
    try:
        await node.ask("close_channel", channel_id=id_, force=False, timeout=30)
    except Refused as fault:
        if fault.code != "channel_not_open":
            raise


# -- the laws ----------------------------------------------------------------------------------------------------


def judge(sim: Sim, honest: Iterable[Node], expected: dict[str, int] | None = None) -> None:
    """Unlawful if one is broken. `expected`: what each node must have won (its books are not asked), by name."""
    nodes = list(honest)
    if sim.chain.model.balance(named_token(), "manager") != 0 and not expected:
        raise Unlawful(f"the contract keeps {sim.chain.model.balance(named_token(), 'manager')}")
    for node in nodes:
        won = expected[node.name] if expected is not None else _won(node)
        money(sim, node, won)
        _database(node)
    signatures(sim)
    if expected is None:
        outcomes(nodes)


def money(sim: Sim, node: Node, won: int) -> None:
    name = "0x" + node.key.address.hex()
    has = sim.chain.model.balance(named_token(), name) + sim.chain.model.owed.get((named_token(), name), 0)
    if has != TOKENS + won:
        raise Unlawful(f"{node.name} has {has - TOKENS:+d}, its books say {won:+d}")
    coins = sim.chain.model.balance("coin", name) + sim.chain.gas_of(node.key.address) + sim.taken.get(node.name, 0)
    if coins < 100 * ETHER:
        raise Unlawful(f"{node.name} has lost {100 * ETHER - coins} wei of bond")


def rows(node: Node, sql: str) -> list[tuple[Any, ...]]:
    """From the database of a node that is down."""
    with closing(sqlite3.connect(node.database)) as database:
        return database.execute(sql).fetchall()


def _won(node: Node) -> int:
    """By its own books: received less paid."""
    paid = sum(
        narrow(amount) + narrow(fee)
        for amount, fee in rows(node, "SELECT amount, fee FROM payments WHERE state = 'succeeded'")
    )
    got = sum(narrow(received) for (received,) in rows(node, "SELECT received FROM invoices WHERE state = 'paid'"))
    kept = sum(
        narrow(one) - narrow(other)
        for one, other in rows(node, "SELECT amount_in, amount_out FROM forwards WHERE state = 'fulfilled'")
    )
    direct = sum(
        -narrow(amount) if outgoing else narrow(amount)
        for amount, outgoing in rows(node, "SELECT amount, outgoing FROM transfers WHERE state = 'succeeded'")
    )
    return got + kept + direct - paid


def signatures(sim: Sim) -> None:
    """R3, R12, I10: of what nodes let out."""
    known: dict[tuple[bytes, bytes, int], bytes] = {}
    highest: dict[tuple[bytes, bytes], int] = {}
    for name, message in sim.spoken:
        match message:
            case wire.Commit() | wire.CommitAck():
                version = int(message.version)
            case wire.CoopSign():
                version = int(message.coop_version)
            case _:
                continue
        who, digest = sim.signatures[message.signature]
        if who != sim.nodes[name].key.address:
            raise Unlawful(f"{name} signs as somebody else")
        place = (bytes(who), bytes(message.channel_id), version)
        new = place not in known
        if known.setdefault(place, digest) != digest:
            raise Unlawful(f"{name} has signed version {version} twice, with two contents")
        top = highest.get(place[:2], -1)
        if new and version <= top:
            raise Unlawful(f"{name} has signed version {version} after {top}")
        highest[place[:2]] = max(top, version)


def outcomes(nodes: list[Node]) -> None:
    """One final outcome of each payment, equal on both sides."""
    succeeded: Counter[bytes] = Counter()
    paid: set[bytes] = set()
    sent: set[tuple[bytes, bytes]] = set()
    got: set[tuple[bytes, bytes]] = set()
    for node in nodes:
        for hash_, state in rows(node, "SELECT hash, state FROM payments"):
            if state == "pending":
                raise Unlawful(f"{node.name}: a payment has no outcome")
            succeeded[hash_] += state == "succeeded"
        paid |= {hash_ for (hash_,) in rows(node, "SELECT hash FROM invoices WHERE state = 'paid'")}
        for channel, id_, outgoing, state in rows(node, "SELECT channel, id, outgoing, state FROM transfers"):
            if state == "pending":
                raise Unlawful(f"{node.name}: a transfer has no outcome")
            if state == "succeeded":
                (sent if outgoing else got).add((channel, id_))
    once = {hash_ for hash_, count in succeeded.items() if count}
    if once != paid or max(succeeded.values(), default=0) > 1:
        raise Unlawful(f"payers say {len(once)} payments were made, payees {len(paid)}")
    if sent != got:
        raise Unlawful(f"{len(sent - got)} transfers were sent and not received, {len(got - sent)} the other way")


def _database(node: Node) -> None:
    ((said,),) = rows(node, "PRAGMA integrity_check")
    if said != "ok":
        raise Unlawful(f"{node.name}: its database is damaged: {said}")
