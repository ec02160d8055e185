"""Clients at the door: receipts, what is refused, and what the store gives away."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import trio

from channeld.api.schema import TOWER as TOWER_API
from channeld.base.digests import Domain
from channeld.base.errors import Unreachable
from channeld.base.keys import Key, keccak
from channeld.base.units import Address, Seconds, Side, Signature
from channeld.tower.gate import SLOW_DOWN
from channeld.tower.run import TowerReady
from channeld.wire import appointment
from channeld.wire.messages import (
    Appointment,
    AppointmentReceipt,
    CoopNo,
    DeleteAppointment,
    GetAppointment,
    Message,
    Ping,
    Pong,
    TowerInfo,
    TowerInfoRequest,
    encode,
)
from tests.tower.world import PERIOD, Channel, Client, State, World, key_of

TOWER = key_of("tower").address
AUTH = key_of("client")


@pytest.fixture
async def channel(world: World) -> Channel:
    return await world.open()


def blob_of(client: Client, channel: Channel, state: State, seq: int) -> bytes:
    return client.sealed(channel.evidence(state, Side.B, TOWER), state.body, seq)


async def test_an_upload_gets_a_receipt_for_what_is_then_held(world: World, channel: Channel) -> None:
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        info = await client.ask(TowerInfoRequest())
        assert info == TowerInfo(
            payout=TOWER,
            chain_id=31337,
            manager=world.where.manager,
            min_period=Seconds(10),
            max_validity=Seconds(30 * 86_400),
        )
        assert (await client.refused(GetAppointment())).code == "unknown"
        blob = blob_of(client, channel, channel.state(1, 5), 1)
        receipt = await client.put(blob, 1)
        head = (await world.chain.head()).latest
        assert (receipt.head_number, receipt.head_time) == (head.number, head.timestamp)
        assert receipt.valid_until == head.timestamp + 30 * 86_400
        assert receipt.blob_hash == appointment.blob_hash(blob)
        held = await client.ask(GetAppointment())
        assert isinstance(held, Appointment)
        assert (held.blob, held.seq, held.hint, held.receipt) == (blob, 1, client.hint, receipt.signature)
        assert appointment.open_backup(blob, hint=client.hint, seq=1, backup_key=bytes(range(32)))[0] == 1


async def test_a_newer_upload_replaces_the_older_and_outlives_the_process(world: World, channel: Channel) -> None:
    async with world.tower() as tower:
        async with world.client(tower, channel.salts[1], AUTH) as client:
            for seq in (1, 2):
                await client.put(blob_of(client, channel, channel.state(seq, 5), seq), seq)
            blob = blob_of(client, channel, channel.state(7, 5), 7)
            receipt = await client.put(blob, 7)
        assert (await tower.service.tower_status())["appointments"] == 1
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        held = await client.ask(GetAppointment())
        assert isinstance(held, Appointment)
        assert (held.blob, held.seq, held.receipt) == (blob, 7, receipt.signature)
        await world.node.mine()
        await world.seen_head(tower)
        again = await client.put(blob, 7)  # said again, also after a restart: the first receipt
        assert again == receipt


async def test_what_would_weaken_an_appointment_is_refused(world: World, channel: Channel) -> None:
    """Replay, rollback, other bytes under the same number, another's signature, another tower's, another chain's."""
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        first, second = (blob_of(client, channel, channel.state(seq, 5), seq) for seq in (3, 4))
        replayed = client.upload(first, 3)
        await client.put(first, 3)
        await client.put(second, 4)
        held = appointment.blob_hash(second)
        behind = await client.refused(replayed)
        assert (behind.code, behind.seq, behind.blob_hash) == ("behind", 4, held)
        other = await client.refused(client.upload(blob_of(client, channel, channel.state(9, 5), 4), 4))
        assert (other.code, other.seq, other.blob_hash) == ("other_bytes", 4, held)
        assert (await client.refused(client.upload(first, 5, signer=key_of("cheat")))).code == "bad_signature"
        assert (await client.refused(replace(client.upload(first, 5), seq=6))).code == "bad_signature"
        assert (await client.refused(replace(client.upload(first, 5), blob=second))).code == "bad_signature"
        foreign = Domain(chain_id=1, manager=world.where.manager)
        assert (await client.refused(client.upload(first, 5, domain=foreign))).code == "foreign_domain"
        elsewhere = Domain(chain_id=31337, manager=Address(bytes(20)))
        assert (await client.refused(client.upload(first, 5, domain=elsewhere))).code == "foreign_domain"
        assert (await client.refused(client.upload(first, 2**64 - 1))).code == "bad_seq"
        client.salt = bytes(32)
        assert (await client.refused(client.upload(first, 5))).code == "other_hint"
        client.salt = channel.salts[1]
        client.tower = key_of("another tower").public
        assert (await client.refused(client.upload(first, 5))).code in ("bad_signature", "other_hint")
        client.tower = tower.node_id
        kept = await client.ask(GetAppointment())
        assert isinstance(kept, Appointment)
        assert (kept.blob, kept.seq) == (second, 4)


async def test_one_client_says_nothing_about_and_cannot_touch_another_s(world: World, channel: Channel) -> None:
    async with world.tower() as tower:
        async with world.client(tower, channel.salts[1], AUTH) as client:
            blob = blob_of(client, channel, channel.state(1, 5), 1)
            update = client.upload(blob, 1)
            await client.put(blob, 1)
        async with world.client(tower, channel.salts[1], key_of("cheat")) as stranger:
            assert (await stranger.refused(update)).code == "bad_signature"  # AUTH's own words, from another key
            assert (await stranger.refused(GetAppointment())).code == "unknown"
            delete = DeleteAppointment(seq=2, signature=Signature(bytes(65)))
            assert (await stranger.refused(delete)).code == "unknown"
            await stranger.put(blob, 10**6)  # the same hint is free to take, in a row of its own
        async with world.client(tower, channel.salts[1], AUTH) as client:
            held = await client.ask(GetAppointment())
            assert isinstance(held, Appointment)
            assert held.seq == 1


async def test_a_deleted_appointment_is_forgotten_but_not_its_number(world: World, channel: Channel) -> None:
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        blob = blob_of(client, channel, channel.state(1, 5), 1)
        await client.put(blob, 1)

        def delete(seq: int, key: Key) -> DeleteAppointment:
            digest = appointment.update_digest(world.domain, client.tower, client.hint, seq, appointment.NO_BLOB)
            return DeleteAppointment(seq=seq, signature=key.sign(digest))

        assert (await client.refused(delete(2, key_of("cheat")))).code == "bad_signature"
        assert (await client.refused(delete(1, AUTH))).code == "other_bytes"
        receipt = await client.ask(delete(2, AUTH))
        assert isinstance(receipt, AppointmentReceipt)
        assert receipt.blob_hash == appointment.NO_BLOB
        assert appointment.is_receipt_signed(world.domain, client.tower, AUTH.public, receipt)
        assert (await client.refused(GetAppointment())).code == "deleted"
        assert (await client.refused(client.upload(blob, 1))).code == "behind"
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, None))
        await world.seen_head(tower)
        assert (await tower.service.tower_status())["challenges_sent"] == 0


async def test_after_the_salt_is_out_an_upload_is_used_but_not_promised(world: World, channel: Channel) -> None:
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        await world.send(key_of("cheat"), channel.close(world.contracts, Side.A, channel.state(1, 0)))
        await world.seen_head(tower)
        blob = blob_of(client, channel, channel.state(2, 5), 1)
        answer = await client.refused(client.upload(blob, 1))
        assert (answer.code, answer.seq, answer.blob_hash) == ("revealed", 1, appointment.blob_hash(blob))
        await world.node.mine()
        assert (await world.until(channel, lambda word: word.version == 2)).delegated


async def test_before_a_reveal_the_store_shows_nothing_of_the_channel(world: World, channel: Channel) -> None:
    """Both ends use the same tower; its files share no bytes with the channel, and nothing links the ends."""
    state = channel.state(2, 0x1122334455667788)
    async with world.tower() as tower:
        for victim in Side:
            await world.guard(tower, channel, state, victim=victim, settles=True)
        files = [path for path in (world.home / "tower").iterdir() if path.is_file()]
        stored = b"".join([await trio.Path(path).read_bytes() for path in files])
    terms, body = channel.terms, state.body
    secret: list[bytes] = [
        channel.id, *channel.salts, *(keccak(salt) for salt in channel.salts), terms.hash, terms.salt_commitment,
        terms.participant_a, terms.participant_b, terms.payout_a, terms.payout_b,
        state.hash, state.signature_a, state.signature_b, body.blind, body.net.to_bytes(8, "big"),
    ]  # fmt: skip
    assert len(files) >= 1
    assert len(stored) > 2 * 1_024
    for one in secret:
        for start in range(0, len(one) - 7, 4):
            assert stored.find(one[start : start + 8]) < 0
    hints = [appointment.hint_of(salt, tower.node_id) for salt in channel.salts]
    assert all(stored.find(hint) >= 0 for hint in hints)


async def test_garbage_ends_its_connection_and_nothing_else(world: World, channel: Channel) -> None:
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        for noise in (b"", b"\x00" * 50, b"\xff" * 500, bytes(range(256)) * 40):
            stream = await trio.open_tcp_stream("127.0.0.1", tower.listen.port)
            async with stream:
                await stream.send_all(noise or b"\x01")
        for message in (b"", b"\xc1", b"\x91\x42", encode(Ping())[:-1], b"\x93\x01\x02\x03"):
            async with world.client(tower, channel.salts[1], key_of("noise")) as talker:
                await talker.peer.send([message])
                with pytest.raises(Unreachable):
                    await talker.peer.receive()
        assert await client.ask(Ping(pad=7)) == Pong(pad=7)
        odd = await client.refused(CoopNo(channel_id=channel.id, coop_version=channel.state(1, 0).version))
        assert odd.code == "unexpected"
        await client.put(blob_of(client, channel, channel.state(1, 5), 1), 1)


async def test_haste_is_slowed_down_and_then_shown_the_door(world: World, channel: Channel) -> None:
    async with world.tower() as tower, world.client(tower, channel.salts[1], AUTH) as client:
        await client.peer.send([encode(Ping()) for _ in range(1_500)])
        answers: list[Message] = []
        with contextlib.suppress(Unreachable):  # in the end the tower hangs up
            while True:
                answers += await client.peer.receive()
        assert 1_000 <= len(answers) < 1_500
        refused = [answer for answer in answers if not isinstance(answer, Pong)]
        assert 1_000 <= len(answers) - len(refused) < 1_200
        assert set(refused) == {SLOW_DOWN}


async def test_a_full_tower_takes_no_new_channel_but_serves_the_old(world: World, channel: Channel) -> None:
    async with world.tower(room=1) as tower:
        async with world.client(tower, channel.salts[1], AUTH) as client:
            await client.put(blob_of(client, channel, channel.state(1, 5), 1), 1)
            await client.put(blob_of(client, channel, channel.state(2, 5), 2), 2)
        async with world.client(tower, channel.salts[0], key_of("late")) as late:
            blob = blob_of(late, channel, channel.state(1, 5), 1)
            assert (await late.refused(late.upload(blob, 1))).code == "full"


async def test_uploads_that_wait_together_are_synced_together(world: World, channel: Channel) -> None:
    """Forty clients at once: each has its receipt, and its row."""
    async with world.tower() as tower:

        async def upload(number: int, tower: TowerReady = tower) -> None:
            salt = keccak(b"salt %d" % number)
            async with world.client(tower, salt, key_of(f"client {number}")) as client:
                for seq in (1, 2, 3):
                    await client.put(blob_of(client, channel, channel.state(seq, 5), seq), seq)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(upload, number)
        assert (await tower.service.tower_status())["appointments"] == 40


async def test_an_appointment_is_forgotten_after_its_time_and_grace(world: World, channel: Channel) -> None:
    async with world.tower(validity=3_600, grace=100) as tower, world.client(tower, channel.salts[1], AUTH) as client:
        await client.put(blob_of(client, channel, channel.state(1, 5), 1), 1)
        await world.advance(3_600 + PERIOD)
    async with world.tower(validity=3_600, grace=100) as tower:  # looks at once, then every hour
        await world.until_status(tower, appointments=1)
    await world.advance(100)
    async with world.tower(validity=3_600, grace=100) as tower:
        await world.until_status(tower, appointments=0)


async def test_the_operator_sees_where_it_stands(world: World) -> None:
    async with world.tower(alias="lighthouse", payout=key_of("purse").address) as tower:
        info = await tower.service.get_info()
        assert (info["role"], info["alias"], info["safe_mode"]) == ("tower", "lighthouse", None)
        assert info["uris"] == [f"{tower.node_id.hex()}@127.0.0.1:{tower.listen.port}"]
        assert info["manager"] == "0x" + world.where.manager.hex()
        assert tower.node_id == key_of("tower").derive("node").public
        for name in ("get_info", "tower_status"):  # what the socket promises
            TOWER_API.methods[name].result.read(await getattr(tower.service, name)(), name)
        async with world.client(tower, bytes(32), AUTH) as client:
            told = await client.ask(TowerInfoRequest())
            assert isinstance(told, TowerInfo)
            assert told.payout == key_of("purse").address
