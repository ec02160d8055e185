"""Chain facts folded into cases, and told again along another branch: pure."""

from __future__ import annotations

from channeld.base.units import Address, Amount, ChannelId, Digest, Side, Timestamp, Version
from channeld.chain.chain import BlockRef, SeenChallenge, SeenClose, SeenCooperate, SeenFinal
from channeld.core.watching import Case
from channeld.tower.closings import NOBODY, Closings, Gap

CHANNEL = ChannelId(b"c" * 32)
TOWER = Address(b"t" * 20)


def block(number: int) -> BlockRef:
    return BlockRef(number=number, hash=number.to_bytes(32, "big"), timestamp=Timestamp(1_000 + 10 * number))


def close(number: int, index: int, *, channel: ChannelId = CHANNEL, version: int = 1) -> SeenClose:
    return SeenClose(
        block=block(number),
        tx_hash=b"",
        log_index=0,
        channel_id=channel,
        closer=Side.A,
        version=Version(version),
        body_hash=Digest(b"a" * 32),
        deadline=Timestamp(block(number).timestamp + 60),
        salt=b"s" * 32,
        index=index,
    )


def challenge(number: int, version: int, bond_to: Address = NOBODY) -> SeenChallenge:
    return SeenChallenge(
        block=block(number),
        tx_hash=b"",
        log_index=0,
        channel_id=CHANNEL,
        version=Version(version),
        body_hash=Digest(bytes([version]) * 32),
        bond_to=bond_to,
    )


def final(number: int) -> SeenFinal:
    return SeenFinal(
        block=block(number), tx_hash=b"", log_index=0, channel_id=CHANNEL, version=Version(2), bond_to=TOWER, bond=7
    )


def cooperate(number: int, version: int) -> SeenCooperate:
    nothing = Amount(0)
    return SeenCooperate(
        block=block(number), tx_hash=b"", log_index=0, channel_id=CHANNEL, version=Version(version),
        paid_a=nothing, paid_b=nothing, deposit_a=nothing, deposit_b=nothing,
    )  # fmt: skip


def case(closings: Closings) -> Case:
    return closings.open[CHANNEL].case


def test_a_case_follows_its_challenges_and_a_reorg_takes_them_back() -> None:
    closings = Closings(closings=0)
    assert closings.see_close(close(10, 1)) is None
    closing = closings.open[CHANNEL]
    assert (closing.period, closing.bond_to, closing.body_hash) == (60, NOBODY, b"a" * 32)
    assert case(closings) == Case(version=Version(1), deadline=Timestamp(1_160), delegated=True, final=False)
    closings.see(challenge(11, 2))
    assert (case(closings).version, case(closings).delegated) == (2, False)  # a delegation can be attached
    closings.see(challenge(12, 2, TOWER))
    closings.see(challenge(12, 2, TOWER))
    assert (case(closings).delegated, closings.open[CHANNEL].bond_to) == (True, TOWER)
    closings.see(final(13))
    assert case(closings).final
    assert closings.rewind(11) == ()
    assert (case(closings).version, case(closings).delegated, case(closings).final) == (2, False, False)
    assert closings.rewind(9) == (CHANNEL,)
    assert closings.open == {}
    assert closings.see_close(close(10, 1, version=3)) is None


def test_a_cooperate_in_between_raises_the_version_and_leaves_the_record() -> None:
    closings = Closings(closings=0)
    closings.see_close(close(10, 1))
    closings.see(challenge(11, 2))
    closings.see(cooperate(12, 9))
    closing = closings.open[CHANNEL]
    assert (case(closings).version, case(closings).delegated) == (9, True)
    assert (closing.body_hash, closing.bond_to) == (b"\x02" * 32, NOBODY)
    closings.see(challenge(13, 10))
    assert (case(closings).version, case(closings).delegated) == (10, False)


def test_a_missing_close_shows_in_the_index() -> None:
    closings = Closings(closings=4)
    assert closings.see_close(close(10, 5)) is None
    assert closings.see_close(close(10, 5)) is None
    assert closings.see_close(close(11, 7, channel=ChannelId(b"d" * 32))) == Gap(5, 7)
    fresh = Closings(closings=None)
    assert fresh.see_close(close(10, 99)) is None
    assert fresh.count == 99


def test_reading_starts_again_before_the_oldest_case_that_is_not_buried() -> None:
    other = ChannelId(b"d" * 32)
    closings = Closings(closings=0)
    closings.see_close(close(10, 1))
    closings.see_close(close(12, 2, channel=other))
    closings.see(final(14))
    assert closings.bury(13) == (9, 0)
    assert closings.bury(14) == (11, 1)
    assert set(closings.open) == {other}
    assert closings.bury(20, frozenset({other})) == (20, 2)
    assert closings.count == 2
