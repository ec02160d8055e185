"""Whether a payment costs more after a million others: processor time and bytes per payment, late by early.

Transfers are all made: the hundred thousand after the first ten thousand against the last hundred thousand of a
million, by two pairs of nodes that take turns. Hash-locked payments go over a hub, so that there are a payer, a
forwarder and a payee. To make a million of them takes hours, so the databases are filled while the nodes are
stopped: with copies of rows that the nodes have written, each with a random key and a number of its own, in the
order of chance that real ones come in. Measured are payments on top of 60,000 and of 950,000 rows, the middles of
those spans, each time by nodes freshly started and warm.

Bytes are what the process has given the kernel to write to disk, pages of the journal and of the database alike
(`write_bytes` of /proc). The figure of a row is the worst of the processes' ratios, of time or of bytes.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import trio

from channeld.cli.stage import Actor, stage
from tests.bench.machine import cpu_seconds
from tests.bench.payments import AT_ONCE, BATCH, BLOCK_TIME, CALLS, DEPOSIT, Effort, Found, Line, at_once
from tests.e2e.people import knows_way, nodes

TRANSFERS: Final = "history_transfers_ratio"
PAYMENTS: Final = "history_payments_ratio"
ROWS: Final = (TRANSFERS, PAYMENTS)
NAMES: Final = ("payer", "hub", "payee")
EARLY, LATE, SPAN, LEAST = 10_000, 900_000, 100_000, 20
WINDOWS: Final = 10
MIDDLES: Final = 60_000, 950_000
MEASURED: Final = 4_000
"""Payments in each of the two samples."""
KEYS: Final = {
    "payments": {"hash": "hash(x)", "n": "-x"},
    "attempts": {"lock": "-x", "hash": "hash(x)"},
    "preimages": {"key": "hash(x)"},
    "invoices": {"hash": "hash(x)", "n": "-x"},
    "parts": {"lock": "-x", "hash": "hash(x)"},
    "forwards": {"in_lock": "-x", "out_lock": "-x", "key": "hash(x)"},
    "events": {"n": "-x"},
}
"""What a copied row has of its own: numbers below all real ones. Of events as many are kept as a node keeps."""
KEPT_EVENTS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What one process has used so far: seconds of a processor, bytes written."""

    cpu: float
    written: int


def spent(actors: Sequence[Actor]) -> dict[str, Spent]:
    return {actor.name: Spent(cpu_seconds(actor.pid), _written(actor.pid)) for actor in actors}


def _written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def part_of(effort: Effort) -> float:
    """Less of everything for a short look; the whole million from the usual effort on."""
    return min(1.0, effort.seconds / Effort().seconds)


async def measure(names: Sequence[str], effort: Effort) -> dict[str, Found]:
    """The rows of this module that are named; one sample each, whatever the effort: it takes minutes."""
    found: dict[str, Found] = {}
    for name, people, how in ((TRANSFERS, NAMES[::2], _transfers), (PAYMENTS, NAMES, _payments)):
        if name not in names:
            continue
        async with _people(people) as (actors, channels):
            found[name] = await how(actors, channels, part_of(effort))
    return found


@asynccontextmanager
async def _people(names: Sequence[str]) -> AsyncIterator[tuple[Sequence[Actor], Sequence[str]]]:
    """Nodes on a chain of their own, and the channels between neighbours."""
    async with stage() as town:
        await town.chain(block_time=BLOCK_TIME)
        await town.deploy()
        actors = await nodes(town, *names, tokens=2 * DEPOSIT)
        channels = [await town.open(left, right, DEPOSIT) for left, right in pairwise(actors)]
        await knows_way(actors[0], actors[-1])
        yield actors, channels


def _found(early: Mapping[str, Spent], late: Mapping[str, Spent], said: str) -> Found:
    """What was spent on one payment before and after."""
    ratios, notes = [], []
    for name, first in early.items():
        last = late[name]
        ratios += [last.cpu / max(first.cpu, 1e-9), last.written / max(first.written, 1)]
        notes.append(
            f"{name} {first.cpu * 1e6:,.0f} then {last.cpu * 1e6:,.0f} µs (x {ratios[-2]:.2f}), "
            f"{first.written:,} then {last.written:,} B (x {ratios[-1]:.2f})"
        )
    return Found(samples=[max(ratios)], said=f"{said}; each: {'; '.join(notes)}")


async def _each(actors: Sequence[Actor], count: int, make: Callable[[], Awaitable[None]]) -> dict[str, Spent]:
    """What `make`, which makes `count` payments, takes of every process for one."""
    before = spent(actors)
    await make()
    after = spent(actors)
    return {
        name: Spent((one.cpu - before[name].cpu) / count, (one.written - before[name].written) // count)
        for name, one in after.items()
    }


# -- transfers


async def _transfers(actors: Sequence[Actor], channels: Sequence[str], part: float) -> Found:
    """The old pair has made its many; then a young one and it take turns, so that both meet the same machine."""
    early, late, window = (BATCH * max(LEAST, round(part * some / BATCH)) for some in (EARLY, LATE, SPAN // WINDOWS))
    await _transferred(actors, channels[0], late)
    async with _people(NAMES[::2]) as (young, other):
        await _transferred(young, other[0], early)
        first: list[dict[str, Spent]] = []
        last: list[dict[str, Spent]] = []
        for _ in range(WINDOWS):
            first.append(await _each(young, window, partial(_transferred, young, other[0], window)))
            last.append(await _each(actors, window, partial(_transferred, actors, channels[0], window)))
    said = f"{WINDOWS} times {window:,} transfers after {early:,} and, taking turns, after {late:,}, all made"
    return _found(_middle(first), _middle(last), said)


def _middle(windows: Sequence[Mapping[str, Spent]]) -> dict[str, Spent]:
    """Of each process the median time and the mean of the bytes: the journal goes to its place in leaps."""
    return {
        name: Spent(median(one[name].cpu for one in windows), sum(one[name].written for one in windows) // len(windows))
        for name in windows[0]
    }


async def _transferred(actors: Sequence[Actor], channel: str, count: int) -> None:
    """Make so many transfers, a multiple of `BATCH`; all are on both disks when it returns."""
    async with actors[0].client() as payer, actors[-1].client() as payee:
        line = Line(actors=actors, channels=[channel], payer=payer, payee=payee)
        before = line.transfers_on_disk()

        async def call() -> None:
            said = await payer.send_transfers(channel_id=channel, transfers=[{"amount": 1}] * BATCH)
            if said["state"] != "succeeded":
                raise AssertionError(f"transfers {said['state']}")

        await at_once((call for _ in range(count // BATCH)), CALLS)
        if line.transfers_on_disk() != (before[0] + count, before[1] + count):
            raise AssertionError(f"not {count} transfers more on both disks: {line.transfers_on_disk()}")


# -- hash-locked payments


async def _payments(actors: Sequence[Actor], channels: Sequence[str], part: float) -> Found:
    count = max(2 * AT_ONCE, round(part * MEASURED))
    sizes = [max(10 * AT_ONCE, round(part * size)) for size in MIDDLES]
    told = []
    await _paid(actors, channels, count)  # the rows to be copied
    have = 0
    for size in sizes:
        await _all(actors, "stop")
        for actor in actors:
            await trio.to_thread.run_sync(fill, _database(actor), have, size - have)
        have = size
        await _all(actors, "start")
        await knows_way(actors[0], actors[-1])
        await _paid(actors, channels, count // 2)  # warm
        told.append(await _paid(actors, channels, count))
    first, last = told
    said = f"{count:,} payments over a hub on top of {sizes[0]:,} and of {sizes[1]:,} rows, most of them copied"
    return _found(first, last, said)


async def _all(actors: Sequence[Actor], what: str) -> None:
    async with trio.open_nursery() as nursery:
        for actor in actors:
            nursery.start_soon(getattr(actor, what))


async def _paid(actors: Sequence[Actor], channels: Sequence[str], count: int) -> dict[str, Spent]:
    """Pay so many invoices, made before; what one took of each process."""
    async with actors[0].client() as payer, actors[-1].client() as payee:
        line = Line(actors=actors, channels=channels, payer=payer, payee=payee)
        texts, before = await line.invoices(count), line.on_disk()
        used = await _each(
            actors,
            count,
            lambda: at_once((lambda text=text: line.pay(text)) for text in texts),  # type: ignore[misc]
        )
        if [one - two for one, two in zip(line.on_disk(), before, strict=True)] != [count, count]:
            raise AssertionError("a payment is not on both disks")
    return used


def _database(actor: Actor) -> Path:
    return Path(actor.command[actor.command.index("--data-dir") + 1]) / "node.sqlite3"


def fill(path: Path, have: int, count: int) -> None:
    """So many rows more in each table of a stopped node that payments have written to."""
    with closing(sqlite3.connect(path, isolation_level=None)) as disk:
        for pragma in ("journal_mode = DELETE", "journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
            disk.execute(f"PRAGMA {pragma}").fetchall()
        salt = os.urandom(8)
        disk.create_function("hash", 1, lambda x: hashlib.sha256(salt + int(x).to_bytes(8, "big")).digest())
        disk.execute("BEGIN")
        for table, keys in KEYS.items():
            model = _model(disk, table)
            if model is not None:
                more = max(0, min(count, KEPT_EVENTS - have)) if table == "events" else count
                _copy(disk, table, model, keys, have, more)
        disk.execute("COMMIT")
        disk.execute("PRAGMA journal_mode = WAL").fetchall()


def _model(disk: sqlite3.Connection, table: str) -> dict[str, object] | None:
    """The newest row that a payment which succeeded has left there; None if this node writes none."""
    columns = [str(row[1]) for row in disk.execute(f"PRAGMA table_info({table})")]
    over = "WHERE state IN ('succeeded', 'fulfilled', 'paid')" if "state" in columns else ""
    (rows,) = disk.execute(f"SELECT count(*) FROM {table} {over}").fetchone()
    if rows < AT_ONCE:  # a first try of another part of the node
        return None
    row = disk.execute(f"SELECT * FROM {table} {over} ORDER BY rowid DESC LIMIT 1").fetchone()
    return dict(zip(columns, row, strict=True))


def _copy(
    disk: sqlite3.Connection, table: str, model: dict[str, object], keys: Mapping[str, str], have: int, count: int
) -> None:
    values = ", ".join(keys.get(column, "?") for column in model)
    disk.execute(
        "WITH RECURSIVE g(x) AS (SELECT ? UNION ALL SELECT x - 1 FROM g WHERE x > ?) "
        f"INSERT INTO {table} SELECT {values} FROM g WHERE x > ?",
        (have + count, have + 1, *(value for column, value in model.items() if column not in keys), have),
    )
