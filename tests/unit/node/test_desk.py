"""What becomes of locks that come in: only what is enforceable, in the right coin, is passed on or counts as paid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from channeld.base.units import NATIVE, Amount, Side
from channeld.core.channel import Phase
from channeld.core.messages import FailLock, FulfilLock
from channeld.node.loop import Actor
from channeld.storage.sqlite import SqliteStore
from tests.roles import CLOSE, START, preimage
from tests.unit.node.parts import FIRST, channel_with_lock, final_packet, parts, renamed

FAR = START + 3_600


def answer(actor: Actor) -> str:
    """What we have decided to say about the peer's lock."""
    if any(isinstance(update, FailLock) for update in actor.channel.queue):
        return "failed"
    if actor.channel.claims or any(isinstance(update, FulfilLock) for update in actor.channel.queue):
        return "fulfilled"
    return "kept"


async def test_an_invoice_is_paid_in_its_own_token_only(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        hash_ = await node.invoice(1, 100, NATIVE)
        cheap = await node.add(renamed(channel_with_lock(1, 100), 7, token=b"\x66" * 20))
        lock = cheap.channel.current.body.locks[Side.A, FIRST]
        node.desk.arrived(cheap.channel, lock, final_packet(1, 100, 100, FAR))
        await node.quiet()
        assert (answer(cheap), node.state(hash_)) == ("failed", "open")

        good = await node.add(channel_with_lock(1, 100))
        node.desk.arrived(good.channel, lock, final_packet(1, 100, 100, FAR))
        await node.quiet()
        assert (answer(good), node.state(hash_)) == ("fulfilled", "paid")


@pytest.mark.parametrize("phase", [Phase.FROZEN, Phase.CLOSING, Phase.SETTLED, Phase.CLOSED])
async def test_a_lock_in_a_channel_that_has_stopped_pays_nothing(nursery: trio.Nursery, phase: Phase) -> None:
    """R21, R8: after a restart an undecided lock may lie in a channel that was closed meanwhile."""
    with parts(nursery) as node:
        hash_ = await node.invoice(1, 100, NATIVE)
        case = CLOSE if phase in (Phase.CLOSING, Phase.SETTLED) else None
        dead = await node.add(replace(channel_with_lock(1, 100), phase=phase, onchain=case))
        node.desk.arrived(dead.channel, dead.channel.current.body.locks[Side.A, FIRST], final_packet(1, 100, 100, FAR))
        await node.quiet()
        assert (answer(dead), node.state(hash_)) == ("kept", "open")


async def test_a_set_is_not_released_when_a_part_of_it_has_stopped(nursery: trio.Nursery) -> None:
    """R21: every part in a channel that is not frozen, at the moment of release."""
    with parts(nursery) as node:
        hash_ = await node.invoice(1, 100, NATIVE)
        one = await node.add(renamed(channel_with_lock(1, 60), 7))
        two = await node.add(renamed(channel_with_lock(1, 40), 8))
        node.desk.arrived(one.channel, one.channel.current.body.locks[Side.A, FIRST], final_packet(1, 60, 100, FAR))
        one.channel = replace(one.channel, phase=Phase.CLOSING, onchain=CLOSE)
        node.desk.arrived(two.channel, two.channel.current.body.locks[Side.A, FIRST], final_packet(1, 40, 100, FAR))
        await node.quiet()
        assert (answer(one), answer(two), node.state(hash_)) == ("kept", "failed", "open")


async def test_a_crash_between_two_parts_forgets_none(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Whichever part is saved first, the invoice is paid and the others are claimed after the restart."""
    path = tmp_path / "node.sqlite3"
    with parts(nursery, SqliteStore(path)) as node:
        hash_ = await node.invoice(1, 100, NATIVE)
        one = await node.add(renamed(channel_with_lock(1, 60), 7), running=False)  # its turn does not come any more
        two = await node.add(renamed(channel_with_lock(1, 40), 8))
        for actor, amount in ((one, 60), (two, 40)):
            lock = actor.channel.current.body.locks[Side.A, FIRST]
            node.desk.arrived(actor.channel, lock, final_packet(1, amount, 100, FAR))
        await node.quiet()
        assert answer(two) == "fulfilled"
    with parts(nursery, SqliteStore(path)) as again:
        assert again.state(hash_) == "paid"
        one = await again.add(one.channel)
        again.desk.recover()
        await again.quiet()
        assert one.channel.claims == {FIRST: preimage(1)}
        events = again.store.rows("SELECT data FROM events WHERE type = 'payment_received'")
        assert len(events) == 1
        assert str(Amount(100)) in events[0][0]
