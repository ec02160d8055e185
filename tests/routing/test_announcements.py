"""What gossip is believed: each field is covered by its signature, news must be new, and nobody may flood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from channeld.base.digests import Domain, Terms, announcement_digest, channel_id
from channeld.base.errors import Answer, PeerFault
from channeld.base.keys import Key, sha256
from channeld.base.units import Address, Amount, Digest, NodeId, Seconds, Side, Timestamp
from routing.announcements import (
    MAX_FUTURE,
    Rate,
    Spam,
    node_digest,
    update_digest,
    verify_channel_announcement,
    verify_channel_update,
    verify_node_announcement,
)
from tests.routing.town import NOW, TOKEN, toll
from tests.routing.town import channel_id as some_channel

OPENER, ACCEPTOR, FORWARDER, CHEAT = (Key(sha256(role)) for role in (b"opener", b"acceptor", b"forwarder", b"cheat"))
DOMAIN = Domain(chain_id=31337, manager=Address(b"\x11" * 20))
TERMS = Terms(
    participant_a=OPENER.address,
    participant_b=ACCEPTOR.address,
    payout_a=OPENER.address,
    payout_b=ACCEPTOR.address,
    challenge_period=Seconds(3600),
    salt_commitment=Digest(bytes(32)),
    close_bond=5,
    nonce=1,
)
NODE_A, NODE_B = OPENER.derive("node"), ACCEPTOR.derive("node")


# -- channels --------------------------------------------------------------------------------------------------------


def announced() -> dict[str, Any]:
    digest = announcement_digest(DOMAIN, channel_id(DOMAIN, TOKEN, TERMS.hash), NODE_A.public, NODE_B.public)
    return {
        "domain": DOMAIN,
        "token": TOKEN,
        "terms": TERMS,
        "node_a": NODE_A.public,
        "node_b": NODE_B.public,
        "node_signature_a": NODE_A.sign(digest),
        "node_signature_b": NODE_B.sign(digest),
        "participant_signature_a": OPENER.sign(digest),
        "participant_signature_b": ACCEPTOR.sign(digest),
    }


def test_a_channel_signed_by_all_four_is_believed() -> None:
    assert verify_channel_announcement(**announced()) == channel_id(DOMAIN, TOKEN, TERMS.hash)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("domain", replace(DOMAIN, chain_id=1)),
        ("domain", replace(DOMAIN, manager=Address(b"\x12" * 20))),
        ("token", Address(bytes(20))),
        ("terms", replace(TERMS, nonce=2)),
        ("terms", replace(TERMS, participant_a=CHEAT.address)),
        ("node_a", CHEAT.public),
        ("node_b", CHEAT.public),
        ("node_b", NODE_A.public),
        ("node_signature_a", bytes(65)),
        ("node_signature_b", b""),
        ("participant_signature_a", bytes(65)),
        ("participant_signature_b", b"\xff" * 65),
    ],
)
def test_a_channel_with_one_field_changed_is_not(field: str, value: Any) -> None:
    with pytest.raises(PeerFault) as fault:
        verify_channel_announcement(**{**announced(), field: value})
    assert fault.value.answer is Answer.WARN


@pytest.mark.parametrize(
    "field", ["node_signature_a", "node_signature_b", "participant_signature_a", "participant_signature_b"]
)
def test_each_of_the_four_must_have_signed(field: str) -> None:
    digest = announcement_digest(DOMAIN, channel_id(DOMAIN, TOKEN, TERMS.hash), NODE_A.public, NODE_B.public)
    with pytest.raises(PeerFault):
        verify_channel_announcement(**{**announced(), field: CHEAT.sign(digest)})


# -- policies --------------------------------------------------------------------------------------------------------

POLICY = toll(7, 250, 600, min_lock=1, max_lock=10**6)


def updated(**changed: Any) -> dict[str, Any]:
    channel = some_channel(1)
    signature = FORWARDER.sign(update_digest(channel, Side.B, POLICY))
    fields = {"channel": channel, "side": Side.B, "node": FORWARDER.public, "policy": POLICY}
    return {**fields, "signature": signature, "now": NOW, **changed}


@pytest.mark.parametrize("known", [0, NOW - 1])
def test_a_signed_newer_policy_is_believed(known: Timestamp) -> None:
    verify_channel_update(**updated(known=known))


@pytest.mark.parametrize(
    "changed",
    [
        {"channel": some_channel(2)},
        {"side": Side.A},
        {"node": CHEAT.public},
        {"policy": replace(POLICY, fee_base=Amount(6))},
        {"policy": replace(POLICY, fee_ppm=251)},
        {"policy": replace(POLICY, expiry_delta=Seconds(601))},
        {"policy": replace(POLICY, min_lock=Amount(0))},
        {"policy": replace(POLICY, max_lock=Amount(10**6 + 1))},
        {"policy": replace(POLICY, disabled=True)},
        {"policy": replace(POLICY, timestamp=Timestamp(NOW + 1))},
    ],
)
def test_a_policy_with_one_field_changed_is_not(changed: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as fault:
        verify_channel_update(**updated(**changed))
    assert fault.value.answer is Answer.WARN


@pytest.mark.parametrize("changed", [{"known": NOW}, {"known": NOW + 5}, {"now": NOW - MAX_FUTURE - 1}])
def test_old_news_and_news_from_the_future_are_ignored(changed: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as fault:
        verify_channel_update(**updated(**changed))
    assert fault.value.answer is Answer.IGNORE
    verify_channel_update(**updated(now=NOW - MAX_FUTURE))


@pytest.mark.parametrize(
    "changed",
    [{"fee_ppm": 1_000_001}, {"fee_base": -1}, {"expiry_delta": 2**31}, {"min_lock": 2}, {"max_lock": 2**88}],
)
def test_a_policy_out_of_range_cannot_be_made(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        replace(POLICY, **{"max_lock": Amount(1), **changed})


# -- nodes -----------------------------------------------------------------------------------------------------------


def told(**changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "node": FORWARDER.public,
        "timestamp": NOW,
        "addresses": ("[::1]:9735", "hub.example:9735"),
        "alias": "Zählwerk",
        "features": 5,
    }
    return {**fields, "signature": FORWARDER.sign(node_digest(**fields)), "now": NOW, **changed}


def test_a_signed_node_is_believed() -> None:
    verify_node_announcement(**told())


@pytest.mark.parametrize(
    "changed",
    [
        {"node": CHEAT.public},
        {"node": NodeId(b"\x02")},
        {"timestamp": NOW - 1},
        {"addresses": ("hub.example:9735", "[::1]:9735")},
        {"addresses": ("[::1]:9735hub.example:9735",)},
        {"addresses": ()},
        {"addresses": ("a",) * 5},
        {"addresses": ("a" * 129,)},
        {"alias": "Zahlwerk"},
        {"alias": "ä" * 17},
        {"alias": "\ud800"},
        {"features": 4},
        {"features": 2**64},
        {"signature": bytes(65)},
    ],
)
def test_a_node_with_one_field_changed_is_not(changed: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as fault:
        verify_node_announcement(**told(**changed))
    assert fault.value.answer is Answer.WARN


@pytest.mark.parametrize("changed", [{"known": NOW}, {"now": NOW - MAX_FUTURE - 1}])
def test_old_or_future_nodes_are_ignored(changed: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as fault:
        verify_node_announcement(**told(**changed))
    assert fault.value.answer is Answer.IGNORE


# -- floods ----------------------------------------------------------------------------------------------------------


def count(spam: Spam, origin: str, now: int, tries: int) -> int:
    """How many of so many messages pass."""
    passed, answers = 0, set()
    for _ in range(tries):
        try:
            spam.judge(origin, now)
        except PeerFault as fault:
            answers.add(fault.answer)
        else:
            passed += 1
    assert answers <= {Answer.IGNORE}
    return passed


def test_an_origin_has_a_burst_and_then_a_rate_of_its_own() -> None:
    spam = Spam(Rate(burst=5, every=Seconds(10)))
    assert count(spam, "cheat", 1000, 50) == 5
    assert count(spam, "forwarder", 1000, 3) == 3
    assert count(spam, "cheat", 1009, 50) == 0
    assert count(spam, "cheat", 1030, 50) == 3
    assert count(spam, "cheat", 9999, 50) == 5


def test_origins_are_bounded_and_the_quiet_ones_go_first() -> None:
    spam = Spam(Rate(burst=1, every=Seconds(10)), max_origins=3)
    for name in ("a", "b", "c", "d"):
        spam.judge(name, 1000)
    assert len(spam) == 3
    assert count(spam, "d", 1000, 1) == 0
    assert count(spam, "a", 1000, 1) == 1
