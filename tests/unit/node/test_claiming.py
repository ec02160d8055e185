"""What was shown once is taken: by a channel in recovery, and when an older state stands on chain."""

from __future__ import annotations

import pytest
import trio

from channeld.base.units import LockId, Preimage, Seconds, Side, Timestamp
from channeld.core.channel import Channel, Signed
from channeld.core.closing import Margins, RegisterAct, due
from channeld.core.events import CloseAlone, Fulfil, Recover, SeenClose
from channeld.storage.store import Batch
from tests.roles import PERIOD, START, lock_key, offer, open_pair, preimage
from tests.unit.node.parts import channel_with_lock, parts

MARGINS = Margins(inclusion=Seconds(60), skew=Seconds(10), period=PERIOD)
FIRST = LockId(1)


def registered(channel: Channel) -> list[tuple[Preimage, ...]]:
    acts = due(channel, now=Timestamp(START), registered={}, margins=MARGINS)
    return [act.secrets for act in acts if isinstance(act, RegisterAct)]


def taken() -> tuple[Channel, Signed]:
    """The payee's channel after it took a lock, and the state before, in which the lock still stands."""
    both = open_pair()
    both.do(Side.A, offer(50, 1))
    both.settle()
    older = both.acceptor.channel.current
    both.do(Side.B, Fulfil(lock_id=FIRST, preimage=preimage(1)))
    both.settle()
    assert not both.acceptor.channel.claims
    return both.acceptor.channel, older


@pytest.mark.parametrize("shown", [True, False])
async def test_an_older_state_on_chain_has_the_lock_that_was_taken_since(nursery: trio.Nursery, shown: bool) -> None:
    channel, older = taken()
    with parts(nursery) as node:
        if shown:
            batch = Batch()
            batch.add("INSERT INTO preimages VALUES (?, ?)", lock_key(1), preimage(1))
            await node.store.commit(batch)
        else:
            await node.invoice(1, 50, channel.token)  # not released: a lock that was given back is not taken
        actor = await node.add(channel)
        closed = SeenClose(
            closer=Side.A,
            version=older.version,
            body_hash=older.body_hash,
            deadline=Timestamp(START + 600),
            body=older.body,
        )
        await actor.ask(closed)
        await node.quiet()
        assert registered(actor.channel) == ([(preimage(1),)] if shown else [])


@pytest.mark.parametrize("recovering", [True, False])
async def test_in_recovery_the_preimage_of_an_invoice_counts_as_shown(nursery: trio.Nursery, recovering: bool) -> None:
    with parts(nursery) as node:
        channel = channel_with_lock(1, 50)
        await node.invoice(1, 50, channel.token)
        actor = await node.add(channel)
        await actor.ask(Recover(reason="a tower") if recovering else CloseAlone())
        await node.quiet()
        assert registered(actor.channel) == ([(preimage(1),)] if recovering else [])
        assert node.state(lock_key(1)) == "open", "what it was paid, nobody can say"
