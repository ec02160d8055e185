"""What is counted over all channels is looked at again only in those that took a turn, and is never older than they."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import trio

from channeld.base.digests import channel_id
from channeld.base.errors import Refused
from channeld.base.units import NATIVE, Amount, ChannelId, NodeId, Side
from channeld.core.channel import Channel, Phase
from channeld.core.events import SeenHead
from channeld.node.actors import Actors
from channeld.node.reserve import GAS_OF_CHANNEL, GAS_OF_LOCK
from channeld.node.unpaid import OF_PEER, Unpaid
from tests.roles import ACCEPTOR_KEY, DOMAIN, OPENER_KEY, START, channels, offer, open_pair, terms
from tests.unit.node.parts import parts
from tests.unit.node.test_reserve import Figures, reserve

MANY = 300


class One:
    """An actor, as far as anybody counts."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel


def named(channel: Channel, number: int) -> Channel:
    """The same channel under other terms, and so under another name."""
    agreed = terms(number)
    return replace(channel, terms=agreed, id=channel_id(DOMAIN, NATIVE, agreed.hash))


def some(count: int) -> tuple[Actors, list[Any]]:
    actors, made = Actors(), [cast(Any, One(named(channels()[0], number + 1))) for number in range(count)]
    for one in made:
        actors[one.channel.id] = one
    return actors, made


def test_a_tally_looks_again_at_those_that_took_a_turn_only():
    actors, made = some(MANY)
    looked: list[ChannelId] = []

    def phase(channel: Channel) -> Phase | None:
        looked.append(channel.id)
        return None if channel.phase is Phase.OPENING else channel.phase

    told: list[tuple[ChannelId, Phase | None, Phase | None]] = []
    tally = actors.tally(phase, lambda *change: told.append(change))
    assert not tally.look() and len(looked) == MANY
    looked.clear()
    assert not tally.look() and not looked
    second = made[1].channel.id
    actors.begin(made[1].channel)
    made[1].channel = replace(made[1].channel, phase=Phase.FROZEN)
    assert tally.look() == {second: Phase.FROZEN} and looked == [second]
    made[1].channel = replace(made[1].channel, phase=Phase.CLOSED)
    assert tally.look() == {second: Phase.CLOSED}, "a turn that is not over is looked at each time"
    actors.end(second)
    looked.clear()
    tally.look(), tally.look()
    assert looked == [second]
    del actors[second]
    assert not tally.look()
    assert told == [
        (second, None, Phase.FROZEN), (second, Phase.FROZEN, Phase.CLOSED), (second, Phase.CLOSED, None)
    ]  # fmt: skip


def test_actors_are_found_by_peer_and_their_nonces_known():
    actors, made = some(3)
    other = NodeId(ACCEPTOR_KEY.derive("else").public)
    stranger = cast(Any, One(replace(named(channels()[0], 9), peer=other)))
    actors[stranger.channel.id] = stranger
    assert list(actors.of(made[0].channel.peer)) == made and list(actors.of(other)) == [stranger]
    assert actors.uses(9) and not actors.uses(10)
    actors[stranger.channel.id] = stranger
    assert list(actors.of(other)) == [stranger]
    del actors[stranger.channel.id]
    assert not actors.of(other) and not actors.uses(9) and list(actors.values()) == made


async def test_a_turn_begins_before_it_is_saved_and_ends_when_all_is_told(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        seen: list[tuple[str, bool]] = []
        both = open_pair()
        actor = await node.add(both.acceptor.channel)
        turning, id_ = node.book.actors.turning, actor.channel.id
        commit = node.store.commit

        async def saved(batch: Any) -> None:
            seen.append(("saved", id_ in turning))
            await commit(batch)

        node.store.commit = saved  # type: ignore[method-assign]
        node.book.changed = lambda _: seen.append(("told", id_ in turning))
        await actor.ask(SeenHead(now=START, final=START))
        await node.quiet()
        assert ("told", True) in seen and id_ not in turning


async def test_a_lock_that_arrives_costs_no_walk_over_all_channels(nursery: trio.Nursery) -> None:
    """Whether the account could still end every channel is asked for each."""
    with parts(nursery) as node:
        looked: list[object] = []

        def cost(token: object) -> int:
            looked.append(token)
            return 1

        made = reserve(node, Figures(10**12), costs=cost)
        both = open_pair()
        both.do(Side.A, offer(100))
        both.settle()
        for number in range(MANY):
            await node.add(named(both.acceptor.channel, number + 1), running=False)
        await made.look()
        looked.clear()
        first = next(iter(node.book.actors))
        for _ in range(10):
            node.book.actors.begin(node.book.actors[first].channel)
            assert made.short is None
            node.book.actors.end(first)
        assert len(looked) <= 20
        gas = MANY * (GAS_OF_CHANNEL + 2 * GAS_OF_LOCK)
        assert made.needed(1) == gas * 10 + MANY * both.acceptor.channel.terms.close_bond


async def test_what_is_only_words_is_counted_without_a_walk(nursery: trio.Nursery) -> None:
    with parts(nursery) as node:
        line = cast(Any, One(channels()[1]))
        line.peer, line.origin = OPENER_KEY.public, ""
        gate = Unpaid(book=node.book, store=node.store, world=node.world, chain=cast(Any, None), lines=cast(Any, None))
        for number in range(OF_PEER):
            gate.must_take(line)
            await node.add(named(channels()[1], number + 1), running=False)
        with pytest.raises(Refused, match="wait for your deposit already"):
            gate.must_take(line)
        paid = node.book.actors[next(iter(node.book.actors))]
        node.book.actors.begin(paid.channel)
        paid.channel = replace(paid.channel, told=(Amount(1), Amount(0)))
        gate.must_take(line)
