"""What the node owes the chain outlives it: intents come back as they were saved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.base.units import Address, ChannelId, Timestamp
from channeld.chain.chain import BlockRef
from channeld.chain.intents import Attempt, Intent, Receipt, Status
from channeld.node.chainbook import Intents, load_intent, note_fact, save_intent
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch, narrow

SENDER, OTHER = Address(b"\1" * 20), Address(b"\2" * 20)
ADDRESS = st.binary(min_size=20, max_size=20).map(Address)
WORD = st.binary(min_size=32, max_size=32)
WEI = st.integers(0, 2**128 - 1)
SMALL = st.integers(0, 2**63)
TIME = st.integers(0, 2**32 - 1).map(Timestamp)
ATTEMPT = st.builds(Attempt, raw=st.binary(max_size=300), hash=WORD, max_fee=WEI, tip=WEI, at=TIME)
RECEIPT = st.builds(
    Receipt,
    tx_hash=WORD,
    block=st.builds(BlockRef, number=SMALL, hash=WORD, timestamp=TIME),
    ok=st.booleans(),
    gas_used=SMALL,
    price=WEI,
    created=st.none() | ADDRESS,
)
INTENT = st.builds(
    Intent,
    sender=ADDRESS,
    key=st.text(max_size=80),
    to=st.none() | ADDRESS,
    data=st.binary(max_size=600),
    value=WEI,
    deadline=st.none() | TIME,
    not_before=TIME,
    gas=st.none() | SMALL,
    nonce=st.none() | SMALL,
    attempts=st.lists(ATTEMPT, max_size=3).map(tuple),
    status=st.sampled_from(Status),
    reason=st.text(max_size=80),
    receipt=st.none() | RECEIPT,
)


def intent(key: str, **changes: object) -> Intent:
    made = Intent(sender=SENDER, key=key, to=OTHER, data=b"call", value=1)
    return replace(made, **changes)  # type: ignore[arg-type]


@given(INTENT)
def test_an_intent_comes_back_as_it_was_saved(saved: Intent):
    assert load_intent(save_intent(saved)) == saved


@given(st.binary(max_size=80))
def test_any_bytes_are_an_intent_or_malformed(data: bytes):
    try:
        load_intent(data)
    except Malformed:
        pass


@pytest.fixture
def store() -> SqliteStore:
    return SqliteStore(":memory:")


async def test_open_intents_come_in_the_order_they_were_made(store: SqliteStore):
    intents = Intents(store)
    for key in ("deposit:1", "close:1", "settle:1"):
        await intents.save_intent(intent(key))
    await intents.save_intent(intent("close:1", status=Status.BURIED))
    await intents.save_intent(intent("deposit:1", nonce=7))
    assert [one.key for one in await intents.open_intents(SENDER)] == ["deposit:1", "settle:1"]
    assert (await intents.open_intents(SENDER))[0].nonce == 7


async def test_an_intent_is_found_by_its_name_even_when_it_is_over(store: SqliteStore):
    intents = Intents(store)
    over = intent("close:1", status=Status.FAILED, reason="not open")
    await intents.save_intent(over)
    assert await intents.intent(SENDER, "close:1") == over
    assert await intents.intent(SENDER, "close:2") is None


async def test_another_accounts_intents_are_not_ours(store: SqliteStore):
    intents = Intents(store)
    await intents.save_intent(intent("close:1"))
    assert await intents.intent(OTHER, "close:1") is None
    assert await intents.open_intents(OTHER) == []


async def test_a_fact_is_told_once_per_name_the_newest(store: SqliteStore):
    for value in (5, 2**100):
        batch = Batch()
        note_fact(batch, ChannelId(b"c" * 32), "paid_ours", value)
        note_fact(batch, ChannelId(b"c" * 32), "close_tx", b"t" * 32)
        await store.commit(batch)
    rows: dict[str, bytes] = dict(store.rows("SELECT name, value FROM facts"))
    assert narrow(rows["paid_ours"]) == 2**100
    assert rows["close_tx"] == b"t" * 32
