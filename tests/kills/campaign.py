"""`kill -9` of real daemons under load, again and again, and an audit to the last unit.

    python -m tests.kills.campaign SEED KILLS      prints what was counted, as JSON

Four nodes in a line on a development chain, all processes of their own; clients (`load`) pay, transfer, open and close
while nodes die: at any moment, right at a save (the journal has just grown), two at once, again while they start, or
for long. Each database is looked at while its node is down (`audit.Signed`). At the end everything gets its outcome,
every channel is closed, and the books are compared with each other, with what clients were told, and with the chain.
When a process dies is not repeatable; which node, how, and what is asked of whom comes from the seed.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import trio

import channeld
from channeld.base.errors import Refused
from channeld.base.units import NATIVE, Address
from channeld.chain.bindings import Contracts
from channeld.chain.networks import network
from channeld.chain.reads import RpcChain
from channeld.chain.rpc import Rpc
from channeld.cli.stage import ETHER, Actor, Stage, stage
from tests.kills.audit import Signed, Wrong, books
from tests.kills.load import DEPOSIT, Load, Told, ask, close_all

NAMES: Final = ("payer", "hub", "bridge", "payee")
TOKENS: Final = 1_000_000_000
PATIENCE: Final = 180.0
"""Seconds in which everything has to get its outcome, and then again to be closed."""
SETTINGS: Final = {"forward_delta": "60", "final_delta": "120", "max_head_age": "120"}
"""A lock outlives any death here, so that no channel has a reason to be closed for one."""
TROUBLE: Final = re.compile(r"BROKEN|Traceback|bad_database|restored|state_differs|base_differs")
"""What no log may say, however often its node has died."""


async def run(seed: str, kills: int) -> Counter[str]:
    """Wrong: a law is broken. The counts say what was done."""
    chance, signed = random.Random(f"{seed} kills"), Signed()
    async with stage() as town:
        town.settings = dict(SETTINGS)
        await town.chain(block_time=0.5)
        await town.deploy()
        actors = await town.nodes(*NAMES, tokens=TOKENS)
        load = Load(actors, [], seed)
        for left, right in pairwise(actors):
            opened = await town.open(left, right, 2 * DEPOSIT)
            load.told.openings[left.name, f"first {left.name}"] = opened
            sent = await ask(left, "send_transfers", channel_id=opened, transfers=[{"amount": DEPOSIT}], wait=True)
            if sent["state"] != "succeeded":
                raise Wrong(f"the first transfer is {sent['state']}")
            load.channels = [*load.channels, opened]
        counts = Counter[str]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            while counts["kills"] < kills:
                await trio.sleep(chance.choice((0.0, 0.02, 0.3)))
                await _kill(town, actors, signed, chance, counts)
            load.over = True
            await _outcomes(load.told, nursery)
        await _settle(town, actors, load, signed, counts)
        return counts + load.told.counts


async def _outcomes(told: Told, nursery: trio.Nursery) -> None:
    """Whoever waits for an answer has to get one."""
    with trio.move_on_after(PATIENCE):
        while nursery.child_tasks:
            await trio.sleep(0.1)
        return
    nursery.cancel_scope.cancel()
    raise Wrong(f"clients wait for answers that never come: {len(told.payments)} payments were answered")


# -- deaths


async def _kill(
    town: Stage, actors: Sequence[Actor], signed: Signed, chance: random.Random, counts: Counter[str]
) -> None:
    """One or two deaths, of one of five kinds, until everybody is up again."""
    kind = chance.choices(("any moment", "at a save", "two at once", "while starting", "for long"), (4, 6, 2, 3, 1))[0]
    victims = chance.sample(list(actors), 2 if kind == "two at once" else 1)
    if kind == "at a save":
        await _save_of(town.root / victims[0].name)
        await trio.sleep(chance.choice((0.0, 0.0005, 0.002, 0.01)))
    for victim in victims:
        if victim.process is not None:
            victim.process.kill()
    for victim in victims:
        await victim.kill()
        signed.look(town.root / victim.name)
    counts["kills"] += len(victims)
    counts[kind] += len(victims)
    if kind == "for long":
        await trio.sleep(6)
    if kind == "while starting" and await _died_starting(victims[0], chance.uniform(0.2, 3.0)):
        signed.look(town.root / victims[0].name)
        counts["kills"] += 1
        counts["while starting"] += 1
    async with trio.open_nursery() as nursery:
        for victim in victims:
            nursery.start_soon(_start, victim)


async def _start(victim: Actor) -> None:
    if victim.alive:
        return
    try:
        await victim.start()
    except Refused as fault:
        raise Wrong(f"{victim.name} does not start again: {fault}") from fault


async def _died_starting(victim: Actor, after: float) -> bool:
    """Start it and kill it on its way up; False if it was up before."""
    async with trio.open_nursery() as nursery:
        done = trio.Event()

        async def start() -> None:
            try:
                await victim.start()
            except Refused:  # it was killed before it was ready
                pass
            done.set()

        nursery.start_soon(start)
        with trio.move_on_after(after):
            await done.wait()
        up = done.is_set()
        if not up:
            await victim.kill()
    return not up


async def _save_of(home: Path, most: float = 1.0) -> None:
    """Return the moment the node's journal is written; or after a while, if it saves nothing."""
    path = home / "node.sqlite3-wal"
    before = path.stat().st_mtime_ns if path.exists() else 0
    with trio.move_on_after(most):
        while not path.exists() or path.stat().st_mtime_ns == before:
            await trio.lowlevel.checkpoint()


# -- the end


async def _settle(town: Stage, actors: Sequence[Actor], load: Load, signed: Signed, counts: Counter[str]) -> None:
    """Everything to its end, and the audit."""
    for opened in load.channels:
        await _open_still(actors, opened)
    await _within("nothing comes to rest", _rest, actors)
    for opened in load.channels:
        one, other = await _open_still(actors, opened)
        names, mirrored = ("ours", "theirs", "version"), ("theirs", "ours", "version")
        if [one[name] for name in names] != [other[name] for name in mirrored]:
            raise Wrong(f"the two sides of {opened[:10]} differ: {one} {other}")
    await _within("channels do not close", _close_everything, actors, town, load.told)
    for actor in actors:
        await actor.kill()
        signed.look(town.root / actor.name)
        if found := TROUBLE.search(actor.log.read_text(encoding="utf-8", errors="replace")):
            raise Wrong(f"the log of {actor.name} says {found[0]}: {actor.tail()}")
    signed.settled()
    won = books({actor.name: town.root / actor.name for actor in actors}, load.told)
    await _money(town, actors, won)
    counts["signatures compared"] = signed.seen


async def _within(what: str, work: Callable[..., Awaitable[None]], actors: Sequence[Actor], *words: object) -> None:
    """Wrong: the work is not done in time; it says what became of each channel."""
    with trio.move_on_after(PATIENCE):
        await work(actors, *words)
        return
    left = []
    for actor in actors:
        every = (await ask(actor, "list_channels"))["channels"]
        left += [(actor.name, one["channel_id"][:10], one["state"], one["detail"], one["connected"]) for one in every]
    raise Wrong(f"{what}: {left}")


async def _rest(actors: Sequence[Actor]) -> None:
    """No lock, no pending payment, and every line of an open channel stands."""
    for actor in actors:
        while True:
            shown = [one for one in (await ask(actor, "list_channels"))["channels"] if one["state"] == "open"]
            asked = (await ask(actor, "list_payments", limit=1_000))["payments"]
            idle = all(one["connected"] and not one["locks"] for one in shown)
            if idle and not any(one["state"] == "pending" for one in asked):
                break
            await trio.sleep(0.1)


async def _close_everything(actors: Sequence[Actor], town: Stage, told: Told) -> None:
    """Until the contract holds nothing: a deposit may still be on its way into a channel that looks empty."""
    manager, _, token = _addresses(town)
    async with Rpc(town.url) as rpc:
        chain = _chain(town, rpc)
        while True:
            await close_all(actors, told)
            if not await chain.balance(manager, token):
                return
            await trio.sleep(0.5)


def _addresses(town: Stage) -> tuple[Address, Address, Address]:
    """Manager, registry and token."""
    manager, registry, token = (Address(bytes.fromhex(text[2:])) for text in (town.manager, town.registry, town.token))
    return manager, registry, token


def _chain(town: Stage, rpc: Rpc) -> RpcChain:
    manager, registry, _ = _addresses(town)
    profile = network("dev")
    contracts = Contracts(manager=manager, registry=registry)
    return RpcChain(rpc, contracts, chain_id=profile.chain_id, finality=profile.finality)


async def _open_still(actors: Sequence[Actor], opened: str) -> list[dict[str, Any]]:
    """Both sides of a channel that nobody asked to close. Wrong: it is not open."""
    sides = []
    for actor in actors:
        every = (await ask(actor, "list_channels"))["channels"]
        sides += [one for one in every if one["channel_id"] == opened]
    if any(one["state"] != "open" or one["frozen"] for one in sides):
        raise Wrong(f"{opened[:10]} was closed without cause: {[(one['state'], one['detail']) for one in sides]}")
    return sides


async def _money(town: Stage, actors: Sequence[Actor], won: dict[str, int]) -> None:
    """Tokens to the unit for each node; coins to the wei for all together, gas counted. Wrong if any are missing."""
    manager, _, token = _addresses(town)
    async with Rpc(town.url) as rpc:
        chain = _chain(town, rpc)
        for actor in actors:
            has = await chain.balance(actor.address, token) + await chain.owed(token, actor.address)
            if has != TOKENS + won[actor.name]:
                raise Wrong(f"{actor.name} has {has - TOKENS:+d}, its books say {won[actor.name]:+d}")
        if kept := await chain.balance(manager, token):
            raise Wrong(f"the contract keeps {kept} of the token")
        coins = sum([await chain.balance(one.address) + await chain.owed(NATIVE, one.address) for one in actors])
        coins += await _gas(rpc, {f"0x{actor.address.hex()}" for actor in actors})
        coins += await chain.balance(manager)
    if coins != len(actors) * 10 * ETHER:
        raise Wrong(f"{coins - len(actors) * 10 * ETHER:+d} wei of coin and bonds")


async def _gas(rpc: Rpc, senders: set[str]) -> int:
    """Wei that these accounts have paid for gas."""
    newest = int(await rpc.call("eth_blockNumber"), 16)
    blocks = await rpc.batch([("eth_getBlockReceipts", [hex(number)]) for number in range(newest + 1)])
    receipts = [one for block in blocks for one in block if one["from"].lower() in senders]
    return sum(int(one["gasUsed"], 16) * int(one["effectiveGasPrice"], 16) for one in receipts)


def main(seed: str, kills: str) -> int:
    """0 with the counts, 1 with what is wrong."""
    print(json.dumps({"code": str(Path(channeld.__file__).parent)}), flush=True)
    wrong: list[str] = []
    try:
        print(json.dumps(trio.run(run, seed, int(kills))))
    except* Wrong as found:
        wrong = [str(one) for one in _leaves(found)]
        print(json.dumps({"wrong": wrong}))
    return 1 if wrong else 0


def _leaves(fault: BaseException) -> list[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        return [leaf for one in fault.exceptions for leaf in _leaves(one)]
    return [fault]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
