"""What the tower must not forget: replacement, sequences, batches, and a disk that says no."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from channeld.base.digests import Domain
from channeld.base.errors import Broken
from channeld.base.keys import keccak
from channeld.base.units import Address, BlockNumber, ChannelId, Digest, NodeId, Signature, Timestamp
from channeld.chain.chain import BlockRef, Call
from channeld.chain.intents import Attempt, Intent, Receipt, Status
from channeld.tower.intents import Tally, TowerIntents
from channeld.tower.store import Behind, Full, Kept, Reading, Row, open_store
from tests.tower.world import key_of

DOMAIN = Domain(chain_id=31337, manager=Address(b"m" * 20))
TOWER = key_of("tower").public
SENDER = Address(b"s" * 20)


def row_of(number: int, *, seq: int = 1, hint: bytes = b"h" * 32, blob: bytes = b"b", head: int = 5) -> Row:
    return Row(
        auth=NodeId(b"\x02" + number.to_bytes(32, "big")),
        hint=Digest(hint),
        seq=seq,
        blob=blob,
        blob_hash=Digest(keccak(blob)),
        signature=Signature(bytes(65)),
        head_number=BlockNumber(head),
        head_time=Timestamp(1_000),
        valid_until=Timestamp(2_000),
        receipt=Signature(bytes([seq % 256]) * 65),
    )


async def test_sequences_go_up_and_the_same_bytes_get_the_first_receipt(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        first = row_of(1, seq=5)
        assert await store.put(first, room=9) == Kept(row=first)
        again = replace(first, receipt=Signature(b"x" * 65), head_number=BlockNumber(9))
        assert await store.put(again, room=9) == Kept(row=first)
        for older in (row_of(1, seq=4), row_of(1, seq=5, blob=b"other"), row_of(1, seq=6, hint=b"i" * 32)):
            assert await store.put(older, room=9) == Behind(row=first)
        newer = row_of(1, seq=6, blob=b"c")
        assert await store.put(newer, room=1) == Kept(row=newer)
        assert await store.put(row_of(2), room=1) == Full()
        assert await store.by_auth(first.auth) == newer
        assert await store.count() == 1


async def test_all_rows_of_a_hint_are_found_and_new_ones_by_their_head(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        rows = {row_of(number, head=number) for number in range(1, 6)}
        for row in [*rows, row_of(9, hint=b"i" * 32)]:
            await store.put(row, room=99)
        assert set(await store.by_hint(Digest(b"h" * 32))) == rows
        assert {row.head_number for row in await store.by_hint(Digest(b"h" * 32), BlockNumber(4))} == {4, 5}
        hints = {Digest(b"h" * 32): ChannelId(b"c" * 32)}
        await store.reveal(hints)
        late = row_of(7, seq=1)
        assert await store.put(late, room=99) == Kept(row=late, revealed=True)


async def test_what_is_kept_outlives_the_process_and_reading_never_goes_back(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        await store.put(row_of(1), room=9)
        assert await store.reading() is None
        await store.read_up_to(Reading(block=BlockNumber(7), closings=3))
        await store.read_up_to(Reading(block=BlockNumber(6), closings=2))
        await store.earn(ChannelId(b"c" * 32), 10**20)
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        assert await store.reading() == Reading(block=BlockNumber(7), closings=3)
        assert await store.by_auth(row_of(1).auth) == row_of(1)
        assert await store.earned() == 10**20
        assert await store.forget_before(Timestamp(2_000)) == 0
        assert await store.forget_before(Timestamp(2_001)) == 1
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


async def test_work_that_waits_together_is_synced_together(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        said: list[str] = []
        await store.do(lambda connection: connection.set_trace_callback(said.append))
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(partial(store.put, row_of(number), room=99))
        await store.do(lambda connection: connection.set_trace_callback(None))
        assert sum(line.startswith("INSERT INTO appointments") for line in said) == 50
        assert said.count("COMMIT") <= 4
        assert await store.count() == 50


async def test_work_that_breaks_a_rule_of_the_database_fails_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        failed: list[int] = []

        async def ask(number: int) -> None:
            values = (b"%d" % (number % 49), b"")
            try:
                await store.do(lambda connection: connection.execute("INSERT INTO revealed VALUES (?, ?)", values))
            except Broken:
                failed.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)
        assert len(failed) == 1
        (count,) = await store.do(lambda connection: connection.execute("SELECT count(*) FROM revealed").fetchone())
        assert count == 49


async def test_a_store_that_has_stopped_leaves_nobody_waiting(tmp_path: Path) -> None:
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        pass
    with trio.fail_after(2), pytest.raises(Broken):
        await store.count()


async def test_an_intent_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    intent = Intent.of(SENDER, "challenge:ab:1:0", Call(to=None, data=b"\x01" * 900, value=2**100))
    block = BlockRef(number=7, hash=b"h" * 32, timestamp=Timestamp(9))
    attempt = Attempt(raw=b"r" * 1_000, hash=b"t" * 32, max_fee=2**70, tip=3, at=Timestamp(8))
    receipt = Receipt(tx_hash=b"t" * 32, block=block, ok=True, gas_used=60_000, price=10**9)
    mined = replace(intent, nonce=4, gas=9, attempts=(attempt, attempt), status=Status.MINED, receipt=receipt)
    async with open_store(tmp_path / "s", domain=DOMAIN, tower=TOWER) as store:
        intents = TowerIntents(store)
        assert await intents.intent(SENDER, intent.key) is None
        await intents.save_intent(intent)
        await intents.save_intent(replace(intent, key="finalize:ab:0"))
        assert list(await intents.open_intents(SENDER)) == [intent, replace(intent, key="finalize:ab:0")]
        await intents.save_intent(mined)
        assert await intents.intent(SENDER, intent.key) == mined
        assert [one.key for one in await intents.open_intents(SENDER)] == [intent.key, "finalize:ab:0"]
        await intents.save_intent(replace(mined, status=Status.BURIED))
        assert [one.key for one in await intents.open_intents(SENDER)] == ["finalize:ab:0"]
        assert await intents.open_intents(Address(b"o" * 20)) == []
        assert await intents.tallies() == {
            "challenge": Tally(sent=1, worked=1, fee=60_000 * 10**9),
            "finalize": Tally(sent=0, worked=0, fee=0),
        }
