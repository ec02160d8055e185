"""What the node believes of time and chain, and when it begins nothing new (I30)."""

from __future__ import annotations

import pytest

from channeld.base.errors import Refused
from channeld.base.units import Seconds, Timestamp
from channeld.chain.chain import BlockRef, Head
from channeld.chain.networks import network
from channeld.node.world import World

DEV = network("dev")
NOW = 1_000_000


def head(timestamp: int) -> Head:
    block = BlockRef(number=1, hash=bytes(32), timestamp=Timestamp(timestamp))
    return Head(latest=block, safe=block, finalized=block)


def world(*, clock: float = NOW, block: int | None = NOW, fault: str | None = None) -> World:
    made = World(network=DEV, clock=lambda: clock, max_head_age=Seconds(30))
    made.head = None if block is None else head(block)
    made.fault = fault
    return made


@pytest.mark.parametrize(
    ("clock", "block", "now"), [(NOW, NOW - 5, NOW), (NOW, NOW + 5, NOW + 5), (NOW + 0.9, NOW, NOW)]
)
def test_now_is_the_later_of_clock_and_chain(clock: float, block: int, now: int):
    assert world(clock=clock, block=block).now == now
    assert world(clock=clock, block=block).chain_time == block


def test_before_the_first_block_the_clock_alone_counts():
    blind = world(block=None)
    assert (blind.now, blind.chain_time) == (NOW, 0)


def test_a_new_world_is_in_safe_mode():
    with pytest.raises(Refused, match="has not been read yet") as told:
        World(network=DEV, clock=lambda: NOW, max_head_age=Seconds(30)).must_be_safe()
    assert told.value.code == "safe_mode"


@pytest.mark.parametrize(("age", "safe"), [(0, True), (30, True), (31, False), (10_000, False), (-10, True)])
def test_i30_an_old_head_means_safe_mode(age: int, safe: bool):
    seen = world(block=NOW - age)
    assert (seen.safe_mode is None) is safe
    if safe:
        seen.must_be_safe()
    else:
        with pytest.raises(Refused, match="older than 30 s"):
            seen.must_be_safe()


def test_i30_a_fault_means_safe_mode_whatever_the_head():
    assert world(fault="the endpoints disagree").safe_mode == "the endpoints disagree"
    assert world(block=None).safe_mode is not None


@pytest.mark.parametrize("early", [0, 1])
def test_r17_the_cut_off_is_inclusion_and_skew_before_the_expiry(early: int):
    expiry = Timestamp(NOW + DEV.delta_inclusion + DEV.clock_skew + early)
    assert world().may_fulfil(expiry) is bool(early)


def test_r17_the_cut_off_counts_the_chain_if_it_is_ahead_of_the_clock():
    expiry = Timestamp(NOW + DEV.delta_inclusion + DEV.clock_skew + 5)
    assert world().may_fulfil(expiry)
    assert not world(block=NOW + 5).may_fulfil(expiry)
