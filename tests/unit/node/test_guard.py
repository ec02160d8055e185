"""Which locks a settled contract still lists after somebody resolved some: the node must name them to the byte."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from channeld.base.digests import Lock
from channeld.base.units import Amount, Digest, Side, Timestamp
from channeld.chain.chain import BlockRef, SeenLocks
from channeld.core.channel import Body, Channel, LockName, OnChain, Phase
from channeld.node.guard import UNKNOWN, left_after
from channeld.node.shown import detail
from tests.contracts.model import rest_hash
from tests.roles import START, channels, lock, lock_key

LOCKS = (
    lock(Side.A, 1, 10, 1, expiry=START + 100),
    lock(Side.A, 2, 10, 2, expiry=START + 200),
    lock(Side.B, 1, 10, 3, expiry=START + 300),
    lock(Side.B, 2, 10, 4, expiry=START + 300),
)


def settled() -> Channel:
    body = Body(0, MappingProxyType({(one.sender, one.id): one for one in LOCKS}))
    case = OnChain(
        closer=Side.A,
        version=channels()[0].current.version,
        body_hash=Digest(b"\1" * 32),
        deadline=START,
        settled=True,
        left=tuple(sorted(body.locks)),
        body=body,
    )
    return replace(channels()[0], phase=Phase.SETTLED, onchain=case)


def resolved(at: int, left: tuple[Lock, ...], log_index: int = 5) -> SeenLocks:
    """`resolve_locks` in block 9, after which `left` are listed."""
    return SeenLocks(
        block=BlockRef(number=9, hash=bytes(32), timestamp=Timestamp(at)),
        tx_hash=bytes(32),
        log_index=log_index,
        channel_id=channels()[0].id,
        paid_a=Amount(0),
        paid_b=Amount(0),
        locked_ab=Amount(0),
        locked_ba=Amount(0),
        locks_hash=Digest(rest_hash(left) if left else bytes(32)),
    )


def names(locks: tuple[Lock, ...]) -> tuple[LockName, ...]:
    return tuple((one.sender, one.id) for one in locks)


def test_what_is_neither_expired_nor_registered_is_left() -> None:
    fact = resolved(START + 150, (LOCKS[1], LOCKS[3]))
    assert left_after(settled(), fact, {lock_key(3): Timestamp(START + 50)}, {}) == names((LOCKS[1], LOCKS[3]))


def test_a_secret_registered_after_the_call_leaves_its_lock_listed() -> None:
    fact = resolved(START + 150, LOCKS[1:])
    assert left_after(settled(), fact, {lock_key(3): Timestamp(START + 170)}, {}) == names(LOCKS[1:])


@pytest.mark.parametrize(("log_index", "left"), [(4, (LOCKS[1], LOCKS[3])), (6, LOCKS[1:])])
def test_in_one_block_the_order_of_the_logs_decides(log_index: int, left: tuple[Lock, ...]) -> None:
    fact = resolved(START + 150, left)
    registered = {lock_key(3): Timestamp(START + 150)}
    assert left_after(settled(), fact, registered, {lock_key(3): (9, log_index)}) == names(left)


def test_calls_told_again_after_a_restart_come_to_the_same_end() -> None:
    """The first call is told again when the second has been followed up already."""
    channel = settled()
    first, second = resolved(START + 150, LOCKS[1:]), resolved(START + 250, LOCKS[2:])
    left: tuple[LockName, ...] | None = names(LOCKS)
    for fact in (first, second, first, second):
        left = left_after(channel, fact, {}, {})
        assert channel.onchain is not None
        assert left is not None
        channel = replace(channel, onchain=replace(channel.onchain, left=left))
    assert left == names(LOCKS[2:])


def test_a_list_that_we_cannot_name_is_not_taken_for_an_empty_one() -> None:
    fact = resolved(START + 500, LOCKS[:1])
    assert left_after(settled(), fact, {}, {}) == names(LOCKS)
    assert left_after(settled(), resolved(START + 500, ()), {}, {}) == ()


def test_of_a_state_that_we_cannot_open_only_an_empty_list_is_known() -> None:
    channel = settled()
    assert channel.onchain is not None
    unknown = replace(channel, onchain=replace(channel.onchain, body_hash=UNKNOWN, body=None, left=()))
    assert left_after(unknown, resolved(START + 500, LOCKS[:1]), {}, {}) is None
    assert left_after(unknown, resolved(START + 500, ()), {}, {}) == ()
    assert "whose locks we do not know" in detail(unknown)
    assert "whose locks we do not know" not in detail(channel)
