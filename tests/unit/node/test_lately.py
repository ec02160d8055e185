"""What failures teach for minutes: who was away, and what hops ask that gossip has not brought yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from channeld.base.keys import Key, sha256
from channeld.base.pack import pack
from channeld.base.units import NATIVE, Amount, ChannelId, LockKey, Seconds, Side, Timestamp
from channeld.node import announcing
from channeld.node.attempts import Lesson, Lessons
from channeld.node.lately import AWAY, MOST, TOLD, Lately
from channeld.node.ledger import Attempt
from channeld.wire import failure, messages, onion
from channeld.wire.failure import Failure, FailureCode
from routing.announcements import MAX_FUTURE
from routing.fees import Policy
from routing.graph import Channel, Graph
from routing.liquidity import Liquidity
from tests.roles import START

PAYER, HUB, PAYEE = (Key(sha256(role)) for role in (b"payer", b"hub", b"payee"))
OURS, STREET, HINTED = (ChannelId(bytes([number]) * 32) for number in (1, 2, 3))
HERE: Final = STREET, Side.B
KNOWN: Final = Policy(fee_base=Amount(1), fee_ppm=100, expiry_delta=Seconds(20), timestamp=Timestamp(START - 100))
NEWER: Final = replace(KNOWN, fee_ppm=5_000, timestamp=Timestamp(START - 50))
SECRETS: Final = (b"\x01" * 32, b"\x02" * 32)


@pytest.fixture
def graph() -> Graph:
    """The hub's channel with the payee, opened by the payee: the hub is on side B."""
    made = Graph()
    made.add(
        Channel(
            channel_id=STREET, node_a=PAYEE.public, node_b=HUB.public, token=NATIVE, capacity=Amount(1_000), seen=START
        )
    )
    made.set_policy(*HERE, KNOWN)
    return made


def word(policy: Policy = NEWER, *, channel: ChannelId = STREET, side: Side = Side.B, key: Key = HUB) -> bytes:
    return messages.encode(announcing.update_of(channel, side, policy, key))


# -- terms


def test_what_a_hop_asks_now_is_remembered_for_a_while_and_no_gossip(graph: Graph) -> None:
    lately = Lately(graph)
    assert lately.told(HERE, HUB.public, word(), START)
    assert lately.terms(START) == {HERE: NEWER}
    assert lately.terms(Timestamp(START + TOLD - 1)) == {HERE: NEWER}
    assert graph.policy(*HERE) == KNOWN
    assert lately.terms(Timestamp(START + TOLD)) == {}


def test_gossip_that_catches_up_takes_its_place(graph: Graph) -> None:
    lately = Lately(graph)
    lately.told(HERE, HUB.public, word(), START)
    graph.set_policy(*HERE, NEWER)
    assert lately.terms(START) == {}


BAD = {
    "no message": b"\x93\x01\x02",
    "nothing": b"",
    "another message": messages.encode(announcing.node_of(START, [], "", HUB)),
    "of another channel": word(channel=HINTED),
    "of the other side": word(side=Side.A),
    "signed by another": word(key=PAYEE),
    "older than gossip": word(replace(NEWER, timestamp=Timestamp(KNOWN.timestamp - 1))),
    "of the day after tomorrow": word(replace(NEWER, timestamp=Timestamp(START + MAX_FUTURE + 1))),
    "with a byte changed": word()[:40] + bytes([word()[40] ^ 1]) + word()[41:],
    "with a byte more": word() + b"\x00",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_word_of_that_hop_teaches_nothing(graph: Graph, name: str) -> None:
    lately = Lately(graph)
    assert not lately.told(HERE, HUB.public, BAD[name], START)
    assert lately.terms(START) == {}


def test_an_update_with_a_fee_beyond_all_bounds_teaches_nothing(graph: Graph) -> None:
    update = replace(announcing.update_of(*HERE, NEWER, HUB), fee_ppm=2**32 - 1)
    assert not Lately(graph).told(HERE, HUB.public, messages.encode(update), START)


def test_the_newest_word_of_a_hop_counts_and_the_same_one_counts_again(graph: Graph) -> None:
    """Two payments may have been under way when it came."""
    lately, newest = Lately(graph), replace(NEWER, fee_ppm=9, timestamp=Timestamp(START - 10))
    assert lately.told(HERE, HUB.public, word(newest), START)
    assert not lately.told(HERE, HUB.public, word(), START)
    assert lately.told(HERE, HUB.public, word(newest), START)
    assert lately.terms(START) == {HERE: newest}


def test_a_hint_does_not_say_which_side_it_is_of(graph: Graph) -> None:
    lately, hinted = Lately(graph), (HINTED, Side.A)
    assert lately.told(hinted, HUB.public, word(channel=HINTED, side=Side.B), START)
    assert lately.terms(START) == {hinted: NEWER}


def test_memory_is_bounded(graph: Graph) -> None:
    lately = Lately(graph)
    for number in range(MOST + 5):
        lately.gone((ChannelId(number.to_bytes(32, "big")), Side.A), START)
    kept = lately.away(START)
    assert len(kept) == MOST and (ChannelId(bytes(32)), Side.A) not in kept


# -- away


def test_a_node_that_was_away_is_forgiven_in_minutes_or_when_it_takes_a_lock(graph: Graph) -> None:
    lately, other = Lately(graph), (HINTED, Side.A)
    lately.gone(HERE, START)
    lately.gone(other, Timestamp(START + 10))
    assert lately.away(Timestamp(START + AWAY - 1)) == {HERE, other}
    assert lately.away(Timestamp(START + AWAY)) == {other}
    lately.there(other)
    assert lately.away(START) == frozenset()


# -- what each failure teaches


def attempt() -> Attempt:
    """Payer, hub, payee."""
    hops = [[OURS, 0, PAYER.public, HUB.public, "101"], [STREET, 1, HUB.public, PAYEE.public, "100"]]
    return Attempt(hash=LockKey(bytes(32)), route=pack([list(SECRETS), hops]))


def by_hub(code: FailureCode, data: bytes = b"") -> bytes:
    return onion.create_error(SECRETS[0], failure.encode(Failure(code=code, data=data)))


def by_payee(code: FailureCode, data: bytes = b"") -> bytes:
    said = onion.create_error(SECRETS[1], failure.encode(Failure(code=code, data=data)))
    return onion.wrap_error(SECRETS[0], said)


def taught(graph: Graph, reasons: Sequence[bytes]) -> tuple[Lessons, Liquidity, Lesson]:
    liquidity = Liquidity()
    lessons = Lessons(graph, liquidity)
    lesson = [lessons.returned(attempt(), reason, START) for reason in reasons][-1]
    return lessons, liquidity, lesson


@pytest.mark.parametrize("code", [code for code in FailureCode if not code.at_payee])
def test_only_what_may_be_about_the_amount_lowers_what_a_hop_is_thought_to_have(
    graph: Graph, code: FailureCode
) -> None:
    lessons, liquidity, lesson = taught(graph, [by_hub(code)])
    short = code is FailureCode.TEMPORARY_CHANNEL_FAILURE
    assert (liquidity.belief(STREET) is not None) == short
    assert lesson.avoid == HERE and lesson.short == (100 if short else None)
    away = {"UNKNOWN_NEXT_PEER", "TEMPORARY_NODE_FAILURE", "CHANNEL_CLOSING", "CHANNEL_DISABLED", "SAFE_MODE"}
    assert lessons.lately.away(START) == ({HERE} if code.name in away else set())


@pytest.mark.parametrize(
    "code", [FailureCode.FEE_INSUFFICIENT, FailureCode.INCORRECT_EXPIRY, FailureCode.AMOUNT_BELOW_MINIMUM]
)
def test_a_hop_that_says_what_it_asks_may_be_tried_again(graph: Graph, code: FailureCode) -> None:
    lessons, _, lesson = taught(graph, [by_hub(code, word())])
    assert lesson.told and lesson.code == "" and lesson.avoid == HERE
    assert lessons.lately.terms(START) == {HERE: NEWER}


def test_the_payee_and_temporary_failures_teach_no_terms(graph: Graph) -> None:
    for reason in (
        by_payee(FailureCode.FEE_INSUFFICIENT, word()),
        by_hub(FailureCode.TEMPORARY_CHANNEL_FAILURE, word()),
    ):
        lessons, _, lesson = taught(graph, [reason])
        assert not lesson.told and lessons.lately.terms(START) == {}


def test_a_lock_that_went_through_takes_an_absence_back(graph: Graph) -> None:
    lessons, _, _ = taught(graph, [by_hub(FailureCode.UNKNOWN_NEXT_PEER), by_payee(FailureCode.UNKNOWN_PAYMENT)])
    assert lessons.lately.away(START) == frozenset()
    lessons.lately.gone(HERE, START)
    lessons.taken([(HERE, Amount(100))], START)
    assert lessons.lately.away(START) == frozenset()
