"""What is signed and hashed, against eth_account's EIP-712 and eth_abi: two others that pack the same things."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode as abi
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.digests import (
    ALL,
    ANNOUNCEMENT_TYPE,
    COOPERATE_TYPE,
    DELEGATION_TYPE,
    LOCK_BYTES,
    NO_LOCKS,
    RECEIPT_TYPE,
    STATE_TYPE,
    Domain,
    Lock,
    Terms,
    announcement_digest,
    body_hash,
    channel_id,
    cooperate_digest,
    delegation_digest,
    locks_hash,
    pack_locks,
    receipt_digest,
    registry_key,
    salt_commitment,
    state_digest,
    transfers_hash,
)
from channeld.base.keys import keccak
from channeld.base.units import (
    MAX_AMOUNT,
    MAX_TIMESTAMP,
    MAX_VERSION,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockId,
    LockKey,
    LockKind,
    Seconds,
    Side,
    Timestamp,
    Version,
)
from channeld.node.translate import unpack_locks

WORD = st.binary(min_size=32, max_size=32)
ADDRESS = st.binary(min_size=20, max_size=20).map(Address)
SOMEBODY = ADDRESS.filter(any)
DOMAIN = st.builds(Domain, chain_id=st.integers(1, 2**63), manager=ADDRESS)
VERSION = st.integers(0, MAX_VERSION).map(Version)
NET = st.integers(-(2**127), 2**127 - 1)
OUT = st.integers(0, 2**128 - 1)


@st.composite
def terms_strategy(draw: st.DrawFn) -> Terms:
    a = draw(SOMEBODY)
    return Terms(
        participant_a=a,
        participant_b=draw(SOMEBODY.filter(lambda b: b != a)),
        payout_a=draw(SOMEBODY),
        payout_b=draw(SOMEBODY),
        challenge_period=Seconds(draw(st.integers(0, 2**32 - 1))),
        salt_commitment=Digest(draw(WORD)),
        close_bond=draw(OUT),
        nonce=draw(st.integers(0, 2**64 - 1)),
    )


LOCK = st.builds(
    Lock,
    id=st.integers(1, 2**64 - 1).map(LockId),
    sender=st.sampled_from(Side),
    kind=st.sampled_from(LockKind),
    amount=st.integers(1, MAX_AMOUNT).map(Amount),
    key=WORD.map(LockKey),
    expiry=st.integers(1, MAX_TIMESTAMP).map(Timestamp),
)
LOCKS = st.lists(LOCK, max_size=6, unique_by=lambda lock: (lock.sender, lock.id))


def typed(domain: Domain, type_: str, **values: Any) -> bytes:
    """The digest by eth_account, from the type's own text."""
    name, _, rest = type_.partition("(")
    members = [part.split(" ") for part in rest.rstrip(")").split(",")]
    message = encode_typed_data(
        domain_data={
            "name": "channeld",
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": "0x" + domain.manager.hex(),
        },
        message_types={name: [{"name": member, "type": kind} for kind, member in members]},
        message_data=values,
    )
    return keccak(b"\x19" + message.version + message.header + message.body)


@given(DOMAIN, WORD, VERSION, WORD)
def test_a_state(domain: Domain, channel: bytes, version: Version, body: bytes):
    expected = typed(domain, STATE_TYPE, channelId=channel, version=version, bodyHash=body)
    assert state_digest(domain, ChannelId(channel), version, Digest(body)) == expected


@given(DOMAIN, WORD, VERSION, NET, OUT, OUT, st.integers(0, 2**64 - 1))
def test_a_cooperate(domain: Domain, channel: bytes, version: Version, net: int, a: int, b: int, until: int):
    values = {"channelId": channel, "version": version, "net": net, "outA": a, "outB": b, "validUntil": until}
    digest = cooperate_digest(domain, ChannelId(channel), version, net, a, b, Timestamp(until))
    assert digest == typed(domain, COOPERATE_TYPE, **values)


@given(DOMAIN, WORD, VERSION, ADDRESS, st.integers(0, 2**32 - 1))
def test_a_delegation(domain: Domain, channel: bytes, version: Version, payout: Address, delay: int):
    values = {"channelId": channel, "version": version, "payout": "0x" + payout.hex(), "delay": delay}
    digest = delegation_digest(domain, ChannelId(channel), version, payout, Seconds(delay))
    assert digest == typed(domain, DELEGATION_TYPE, **values)


@given(DOMAIN, WORD, VERSION, st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, MAX_AMOUNT))))
def test_a_receipt(domain: Domain, channel: bytes, version: Version, transfers: list[tuple[bytes, int]]):
    listed = transfers_hash(transfers)
    assert listed == keccak(b"".join(name + amount.to_bytes(11, "big") for name, amount in transfers))
    expected = typed(domain, RECEIPT_TYPE, channelId=channel, version=version, transfers=listed)
    assert receipt_digest(domain, ChannelId(channel), version, listed) == expected


@given(DOMAIN, WORD, st.binary(min_size=33, max_size=33), st.binary(min_size=33, max_size=33))
def test_an_announcement(domain: Domain, channel: bytes, node_a: bytes, node_b: bytes):
    expected = typed(domain, ANNOUNCEMENT_TYPE, channelId=channel, nodes=keccak(node_a + node_b))
    assert announcement_digest(domain, ChannelId(channel), node_a, node_b) == expected


@given(terms_strategy(), DOMAIN, ADDRESS)
def test_terms_and_channel_ids(terms: Terms, domain: Domain, token: Address):
    kind = "(address,address,address,address,uint256,bytes32,uint256,uint256)"
    names = [terms.participant_a, terms.participant_b, terms.payout_a, terms.payout_b]
    numbers = (terms.challenge_period, terms.salt_commitment, terms.close_bond, terms.nonce)
    values = (*("0x" + name.hex() for name in names), *numbers)
    assert terms.abi() == abi([kind], [values])
    assert terms.hash == keccak(terms.abi())
    words = [domain.chain_id, "0x" + domain.manager.hex(), "0x" + token.hex(), terms.hash]
    assert channel_id(domain, token, terms.hash) == keccak(abi(["uint256", "address", "address", "bytes32"], words))


@given(NET, OUT, OUT, WORD, WORD)
def test_a_body(net: int, ab: int, ba: int, locks: bytes, blind: bytes):
    expected = keccak(abi(["int256", "uint256", "uint256", "bytes32", "bytes32"], [net, ab, ba, locks, blind]))
    assert body_hash(net, ab, ba, Digest(locks), blind) == expected


@given(WORD, WORD)
def test_salts_and_registry_keys(a: bytes, b: bytes):
    assert salt_commitment(a, b) == keccak(a + b)
    assert registry_key(LockKind.HASH, a) == keccak(abi(["uint256", "bytes32"], [1, a]))


@given(LOCKS, st.randoms())
def test_a_list_of_locks_has_one_order(locks: list[Lock], chance: Any):
    packed = pack_locks(locks)
    assert len(packed) == LOCK_BYTES * len(locks)
    shuffled = list(locks)
    chance.shuffle(shuffled)
    assert pack_locks(shuffled) == packed
    assert locks_hash(shuffled) == keccak(packed)
    assert unpack_locks(packed) == sorted(locks, key=lambda lock: (lock.sender, lock.id))


def test_no_locks_have_their_hash():
    assert locks_hash([]) == NO_LOCKS
    assert ALL == MAX_AMOUNT  # no side ever has more


@given(DOMAIN, DOMAIN, WORD, VERSION, WORD)
def test_a_signature_counts_on_one_chain_and_contract(
    one: Domain, other: Domain, channel: bytes, version: Version, body: bytes
):
    first, second = (state_digest(domain, ChannelId(channel), version, Digest(body)) for domain in (one, other))
    assert (first == second) is (one == other)


GOOD: dict[str, Any] = {
    "participant_a": b"\1" * 20,
    "participant_b": b"\2" * 20,
    "payout_a": b"\3" * 20,
    "payout_b": b"\3" * 20,
    "challenge_period": 60,
    "salt_commitment": bytes(32),
    "close_bond": 1,
    "nonce": 1,
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("participant_a", bytes(20)),
        ("participant_b", bytes(20)),
        ("payout_a", bytes(20)),
        ("payout_b", bytes(20)),
        ("participant_b", b"\1" * 20),
        ("participant_a", b"\1" * 19),
        ("salt_commitment", bytes(31)),
        ("challenge_period", -1),
        ("challenge_period", 2**32),
        ("close_bond", -1),
        ("close_bond", 2**128),
        ("nonce", -1),
        ("nonce", 2**64),
    ],
)
def test_terms_that_cannot_be_are_refused(field: str, value: object):
    Terms(**GOOD)
    with pytest.raises(ValueError):
        Terms(**{**GOOD, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 0),
        ("id", 2**64),
        ("amount", 0),
        ("amount", MAX_AMOUNT + 1),
        ("expiry", 0),
        ("expiry", MAX_TIMESTAMP + 1),
        ("key", bytes(31)),
    ],
)
def test_locks_that_cannot_be_are_refused(field: str, value: object):
    good: dict[str, Any] = {"id": 1, "sender": Side.A, "amount": 1, "key": bytes(32), "expiry": 1}
    Lock(**good)
    with pytest.raises(ValueError):
        Lock(**{**good, field: value})
