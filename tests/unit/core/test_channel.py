"""The laws of a channel: a value that breaks one cannot be made, so it is never saved, signed or sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Broken
from channeld.base.units import MAX_VERSION, Amount, Digest, Side, Timestamp, Version
from channeld.core.channel import Body, Channel, Coop, OnChain, Phase, next_version
from channeld.core.events import CloseAlone, Leave, Propose
from tests.roles import START, lock, open_pair, pay
from tests.unit.core.test_closing import close_of, with_locks

HASH = Digest(b"?" * 32)


def proposing(side: Side) -> Channel:
    """Locks agreed both ways and a proposal of `side`'s outstanding."""
    both = with_locks()
    both.do(side, pay(5))
    both.do(side, Propose())
    return both.node(side).channel


def cooperating(side: Side) -> Channel:
    """A live cooperate that `side` has signed."""
    both = open_pair()
    both.do(side.other, Leave(now=START, valid_for=60))
    both.pump()
    return both.node(side).channel


def coop(version: int, *, signed: bool) -> Coop:
    return Coop(
        version=Version(version),
        net=0,
        valid_until=START,
        digest=HASH,
        asked=False,
        signature_ours=bytes(65) if signed else b"",
        signature_theirs=b"",
    )


def onchain() -> OnChain:
    return OnChain(closer=Side.A, version=Version(0), body_hash=HASH, deadline=Timestamp(1))


def with_body(channel: Channel, body: Body, *, outstanding: bool) -> Channel:
    if outstanding:
        assert channel.outstanding is not None
        return replace(channel, outstanding=replace(channel.outstanding, body=body))
    return replace(channel, current=replace(channel.current, body=body))


def overdrawn(channel: Channel, side: Side, by: int) -> Body:
    """`side` has given `by` more than it has."""
    deposit = channel.heard[side] if side is channel.we else channel.told[side]
    body = channel.current.body
    gone = body.balance(side, deposit) + by
    return Body(body.net + (gone if side is Side.A else -gone), body.locks)


def overlocked(channel: Channel, side: Side, by: int) -> Body:
    """`side` has locked `by` more than it has."""
    deposit = channel.heard[side] if side is channel.we else channel.told[side]
    body = channel.current.body
    more = lock(side, 9, body.balance(side, deposit) + by)
    return Body(body.net, MappingProxyType({**body.locks, (side, more.id): more}))


Break = Callable[[Channel, int], Channel]
"""A channel of a kind and a number from 1 to 1,000 -> what no law allows."""


def out_of(channel: Channel, version: int, base: int) -> Channel:
    assert channel.outstanding is not None
    made = replace(channel.outstanding, version=Version(version), base=Version(base))
    return replace(channel, outstanding=made, top=(Version(MAX_VERSION), HASH))


LAWS: dict[str, tuple[Callable[[Side], Channel], Break]] = {
    "we spend more than we have": (proposing, lambda c, n: with_body(c, overdrawn(c, c.we, n), outstanding=False)),
    "they spend more than they have": (
        proposing,
        lambda c, n: with_body(c, overdrawn(c, c.we.other, n), outstanding=False),
    ),
    "we lock more than we have": (proposing, lambda c, n: with_body(c, overlocked(c, c.we, n), outstanding=False)),
    "they lock more than they have": (
        proposing,
        lambda c, n: with_body(c, overlocked(c, c.we.other, n), outstanding=False),
    ),
    "we propose more than we have": (proposing, lambda c, n: with_body(c, overdrawn(c, c.we, n), outstanding=True)),
    "we propose more than they have": (
        proposing,
        lambda c, n: with_body(c, overdrawn(c, c.we.other, n), outstanding=True),
    ),
    "we propose too many locks": (proposing, lambda c, n: with_body(c, overlocked(c, c.we, n), outstanding=True)),
    "a deposit shrinks below what was spent": (proposing, lambda c, n: replace(c, told=(Amount(0), Amount(0)))),
    "a deposit below zero, told": (proposing, lambda c, n: replace(c, told=(Amount(-n), c.told[1]))),
    "a deposit below zero, heard": (proposing, lambda c, n: replace(c, heard=(c.heard[0], Amount(-n)))),
    "a proposal that is not newer": (proposing, lambda c, n: out_of(c, max(0, c.current.version - n + 1), 0)),
    "a version that is the peer's": (
        proposing,
        lambda c, n: out_of(c, next_version(c.we.other, c.base) + 2 * n, c.base),
    ),
    "a version that is not the next": (proposing, lambda c, n: out_of(c, next_version(c.we, c.base) + n, c.base)),
    "top below what we proposed": (proposing, lambda c, n: replace(c, top=(Version(max(0, c.top[0] - n)), HASH))),
    "top below what was agreed": (
        proposing,
        lambda c, n: replace(c, outstanding=None, top=(Version(max(0, c.current.version - n)), HASH)),
    ),
    "base below what was agreed": (
        proposing,
        lambda c, n: replace(c, outstanding=None, base=Version(c.current.version - n)),
    ),
    "base beyond the last version": (proposing, lambda c, n: replace(c, base=Version(MAX_VERSION + n))),
    "a proposal beside a cooperate": (proposing, lambda c, n: replace(c, coop=coop(c.base, signed=False))),
    "a cooperate above base": (cooperating, lambda c, n: replace(c, coop=coop(c.base + n, signed=False))),
    "a cooperate we signed above top": (cooperating, lambda c, n: replace(c, top=(Version(max(0, c.base - n)), HASH))),
    "a state that only one has signed": (
        proposing,
        lambda c, n: replace(
            c,
            current=replace(c.current, **{("signature_a", "signature_b")[n % 2]: b""}),  # type: ignore[arg-type]
        ),
    ),
    "open, and closed on chain": (proposing, lambda c, n: replace(c, onchain=onchain())),
    "frozen, and closed on chain": (
        proposing,
        lambda c, n: replace(c, phase=Phase.FROZEN, onchain=onchain()),
    ),
    "closing, but not on chain": (proposing, lambda c, n: replace(c, phase=Phase.CLOSING)),
    "settled, but not on chain": (proposing, lambda c, n: replace(c, phase=Phase.SETTLED)),
}


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("law", LAWS)
def test_what_breaks_a_law_cannot_be_made(law: str, side: Side):
    kind, broken = LAWS[law]
    good = kind(side)
    chance = Random(law)
    for number in (1, 2, 1_000, *(chance.randint(1, 1_000) for _ in range(20))):
        with pytest.raises(Broken):
            broken(good, number)


@given(
    deposits=st.tuples(st.integers(0, 2**88 - 1), st.integers(0, 2**88 - 1)),
    locked=st.tuples(st.integers(0, 2**87), st.integers(0, 2**87)),
    left=st.integers(-2, 2),
    edge=st.sampled_from(Side),
    side=st.sampled_from(Side),
)
def test_a_channel_can_be_made_iff_it_adds_up(
    deposits: tuple[int, int], locked: tuple[int, int], left: int, edge: Side, side: Side
):
    """`edge` has `left` to spend: the boundary from both sides."""
    spent = deposits[edge] - locked[edge] - left
    net = spent if edge is Side.A else -spent
    good = open_pair().node(side).channel
    a, b = (Amount(one) for one in deposits)
    locks = [lock(who, 1, locked[who]) for who in Side if locked[who]]
    body = Body(net, MappingProxyType({(one.sender, one.id): one for one in locks}))
    adds_up = a - net - locked[0] >= 0 and b + net - locked[1] >= 0
    try:
        made = replace(good, told=(a, b), heard=(a, b), current=replace(good.current, body=body))
    except Broken:
        assert not adds_up
        return
    assert adds_up
    both = made.current.body.balance(Side.A, a) + made.current.body.balance(Side.B, b)
    assert both + sum(locked) == a + b


@pytest.mark.parametrize("side", list(Side))
def test_what_keeps_the_laws_can_be_made(side: Side):
    for good in (proposing(side), cooperating(side)):
        assert replace(good) == good
    both = with_locks()
    both.do(side, CloseAlone())
    frozen = both.node(side).channel
    assert frozen.phase is Phase.FROZEN
    closing = both.node(side).do(close_of(frozen)).channel
    assert closing.onchain is not None
