"""One channel shows that the database is old: the others follow, in this life or at the next start."""

from __future__ import annotations

import trio

from channeld.base.units import Side
from channeld.core.channel import Channel, Phase
from channeld.core.events import Propose, Recover
from channeld.node.old import NOTE, REASON
from channeld.node.restoring import is_known_old, recover_all
from channeld.storage.store import Batch, wide
from tests.roles import ACCEPTOR_KEY, START, open_pair, pay
from tests.unit.node.parts import parts, renamed


def channel() -> Channel:
    both = open_pair()
    both.do(Side.A, pay(100))
    both.settle()
    return both.acceptor.channel


async def test_the_others_go_into_recovery_and_one_made_later_does_not(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        first, second, third = [await node.add(renamed(channel(), number)) for number in (7, 8, 9)]
        batch = Batch()
        batch.add(
            "INSERT INTO payments (hash, n, invoice, token, payee, amount, fee, max_fee, give_up, state, at) "
            "VALUES (x'07', 1, '', x'', x'', ?, ?, ?, ?, 'pending', ?)",
            *(wide(5), wide(0), wide(0), START, START),
        )
        await node.store.commit(batch)
        await first.ask(Recover(reason="a tower"))
        await node.quiet()
        assert [one.channel.recovering for one in (first, second, third)] == [True] * 3
        assert second.channel.reason == f"in recovery: {REASON}"
        assert not is_known_old(node.store)
        assert node.store.rows("SELECT state FROM payments") == [("unknown",)]
        later = await node.add(renamed(channel(), 10))
        await first.ask(Recover(reason="a tower, again"))
        await node.quiet()
        assert later.channel.phase is Phase.OPEN


async def test_a_turn_that_comes_first_recovers_before_it_signs(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        first = await node.add(renamed(channel(), 7))
        second = await node.add(renamed(channel(), 8), running=False)
        second.post(pay(5, 9))
        second.post(Propose())
        await first.ask(Recover(reason="a tower"))
        top = second.channel.top
        nursery.start_soon(second.run)
        await node.quiet()
        assert (second.channel.recovering, second.channel.top, second.channel.queue) == (True, top, ())


async def test_after_a_death_in_between_the_start_does_it(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        first = await node.add(renamed(channel(), 7))
        second = await node.add(renamed(channel(), 8), running=False)
        batch = Batch()
        batch.channel(second.channel)
        await node.store.commit(batch)
        await first.ask(Recover(reason="a tower"))
        assert is_known_old(node.store)
        assert await recover_all(node.store, ACCEPTOR_KEY, lambda: START, REASON) == 1
        assert all(one.recovering for one in node.store.channels())
        assert not node.store.rows("SELECT 1 FROM notes WHERE name = ?", NOTE)
