"""An actor whose channel breaks a law stops signing, gives back what it was asked, and still defends the channel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from channeld.base.errors import Refused
from channeld.base.units import Amount, Digest, Seconds, Side, Timestamp, Version
from channeld.core.channel import Channel, Phase
from channeld.core.closing import ChallengeAct, Margins, due
from channeld.core.events import CloseAlone, Connected, Offer, Pay, SeenClose
from channeld.node.ledger import Attempt
from channeld.node.loop import Actor
from channeld.storage.store import Batch
from tests.roles import START, lock_key, name, open_pair, pay
from tests.unit.node.parts import Parts, parts

MARGINS = Margins(inclusion=Seconds(4), skew=Seconds(2), period=Seconds(600))


def paid_channel() -> Channel:
    """The acceptor's, at version 1."""
    both = open_pair()
    both.do(Side.A, pay(100))
    both.settle()
    return both.acceptor.channel


async def break_it(node: Parts, actor: Actor) -> None:
    """The database refuses a turn."""
    bad = Batch()
    bad.add("INSERT INTO notes VALUES ('same', x'')")
    bad.add("INSERT INTO notes VALUES ('same', x'')")
    with pytest.raises(Refused, match="stopped"):
        await actor.ask(Pay(transfers=((name(9), Amount(1)),)), writes=bad)


async def test_a_broken_channel_still_sees_the_chain_and_challenges(nursery: trio.Nursery) -> None:
    """R16: else a peer that breaks our channel could close with an old state."""
    with parts(nursery) as node:
        actor = await node.add(paid_channel())
        await break_it(node, actor)
        old = SeenClose(closer=Side.A, version=Version(0), body_hash=Digest(bytes(32)), deadline=Timestamp(START + 600))
        await actor.ask(old)
        assert actor.channel.phase is Phase.CLOSING
        (act,) = due(actor.channel, now=START, registered={}, margins=MARGINS)
        assert isinstance(act, ChallengeAct)


async def test_a_broken_channel_can_be_closed_by_its_owner_and_signs_nothing(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        actor = await node.add(paid_channel())
        await break_it(node, actor)
        top = actor.channel.top
        with pytest.raises(Refused, match="stopped"):
            await actor.ask(Pay(transfers=((name(3), Amount(1)),)))
        with pytest.raises(Refused, match="stopped"):
            await actor.ask(Connected())
        await actor.ask(CloseAlone())
        assert (actor.channel.phase, actor.channel.top) == (Phase.FROZEN, top)


async def test_what_a_broken_turn_was_asked_is_refused(nursery: trio.Nursery) -> None:
    """A forward whose outgoing turn was not saved goes back upstream."""
    with parts(nursery) as node:
        actor = await node.add(paid_channel())
        refused: list[Refused] = []
        tag = node.book.tag(Attempt(hash=lock_key(1), route=b""))
        offer = Offer(tag=tag, amount=Amount(1), key=lock_key(1), expiry=Timestamp(START + 99), onion=bytes(1_366))
        node.book.untag(tag)  # so that writing it down fails as a bug of ours would
        actor.post(offer, on_refusal=refused.append)
        await node.quiet()
        assert [fault.code for fault in refused] == ["channel_broken"]


async def test_a_bug_in_one_channel_leaves_the_others_alone(nursery: trio.Nursery) -> None:
    """I40: an exception nobody expects stops one channel, not the node."""
    with parts(nursery) as node:
        actor = await node.add(paid_channel())
        other = await node.add(replace(paid_channel(), id=Digest(b"\x09" * 32)))  # type: ignore[arg-type]
        unpackable: Any = "no number"
        with pytest.raises(Refused, match="stopped"):
            await actor.ask(Pay(transfers=((name(4), unpackable),)))
        await other.ask(Pay(transfers=((name(4), Amount(1)),)))
        assert actor.broken
        assert not other.broken
