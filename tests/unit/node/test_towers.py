"""The node's side of the watchtower, against real towers, a real chain and a real database."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from channeld.api.schema import NODE
from channeld.base.digests import Domain, channel_id
from channeld.base.errors import Refused
from channeld.base.keys import Key, keccak
from channeld.base.units import NATIVE, Amount, LockId, NodeId, Seconds, Side, Timestamp
from channeld.chain.devchain import DEV_CHAIN_ID, serve_devchain
from channeld.chain.rpc import Rpc
from channeld.core.channel import Channel, Phase
from channeld.core.events import Fulfil, SeenDeposit
from channeld.node import tower_link
from channeld.node.ledger import Book
from channeld.node.loop import Actor
from channeld.node.tower_link import Link
from channeld.node.towers import Towers
from channeld.node.world import World as Node
from channeld.peers.listen import listen
from channeld.peers.talk import PeerStream
from channeld.storage.sqlite import SqliteStore
from channeld.storage.store import Batch
from channeld.tower.run import TowerReady
from channeld.tower.store import Row
from channeld.wire import appointment
from channeld.wire.address import HostPort, NodeAddress
from channeld.wire.messages import AppointmentReceipt, PutAppointment, TowerInfo, TowerInfoRequest, encode
from tests.chain.nodes import Node as ChainNode
from tests.roles import (
    ACCEPTOR_KEY,
    OPENER_KEY,
    Pair,
    RecordingKey,
    channels,
    lock_key,
    offer,
    pay,
    preimage,
)
from tests.roles import Node as Player
from tests.tower.world import DEPOSIT, PERIOD, World, eventually, key_of


@pytest.fixture
async def world(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[World]:
    started = await nursery.start(serve_devchain)
    async with Rpc(started.url) as rpc:
        node = ChainNode(url=started.url, rpc=rpc, kind="devchain")
        where = await node.deploy()
        chain = node.chain(where)
        made = World(node=node, where=where, contracts=chain.contracts, chain=chain, home=tmp_path, nursery=nursery)
        await made.fund(OPENER_KEY)
        yield made


def players(domain: Domain, bond: int = 10**15) -> Pair:
    """An opener and an acceptor of a channel on this chain, open, with only the opener's deposit."""
    opener, acceptor = channels()
    terms = replace(opener.terms, challenge_period=PERIOD, close_bond=bond)
    name = channel_id(domain, NATIVE, terms.hash)
    first, second = (
        Player(replace(one, domain=domain, terms=terms, id=name), RecordingKey(key.secret))
        for one, key in ((opener, OPENER_KEY), (acceptor, ACCEPTOR_KEY))
    )
    both = Pair(first, second)
    both.connect()
    both.pump()
    for side in Side:
        both.do(side, SeenDeposit(deposit_a=DEPOSIT, deposit_b=Amount(0)))
    both.pump()
    return both


@dataclass(slots=True)
class Client:
    """One node's towers, with a channel that is played by hand."""

    towers: Towers
    book: Book
    store: SqliteStore
    view: Node
    both: Pair
    side: Side

    @property
    def channel(self) -> Channel:
        return self.both.node(self.side).channel

    def turn(self) -> None:
        """What the node does after each saved turn."""
        self.book.actors[self.channel.id].channel = self.channel
        self.towers.changed(self.channel)

    def move(self, what: Callable[[], object]) -> None:
        what()
        self.both.settle()
        self.turn()

    def receive(self, amount: int, number: int) -> None:
        self.move(lambda: self.both.do(self.side.other, pay(amount, number)))

    def give(self, amount: int, number: int) -> None:
        self.move(lambda: self.both.do(self.side, pay(amount, number)))

    async def covered(self) -> None:
        async def asked() -> bool:
            return self.towers.is_covered(self.channel.id)

        await eventually(asked)

    def link(self, node: NodeId) -> Link:
        return self.towers._towers[node].links[self.channel.id]

    def events(self) -> list[str]:
        return [type_ for (type_,) in self.store.rows("SELECT type FROM events ORDER BY n")]


@asynccontextmanager
async def client(
    world: World, both: Pair, side: Side, store: SqliteStore | None = None, **more: Any
) -> AsyncIterator[Client]:
    """The towers of one side's daemon; a crash is to leave this block."""
    store = store or SqliteStore(":memory:")
    key = both.node(side).key
    async with trio.open_nursery() as nursery:
        view = Node(world.config().network, clock=lambda: 0, max_head_age=Seconds(3_600))
        view.head = await world.chain.head()
        book = Book(store, view, nursery)
        channel = both.node(side).channel
        book.actors[channel.id] = Actor(channel, Key(key.secret), store, book, now=lambda: view.now)
        towers = Towers(
            book=book,
            store=store,
            world=view,
            domain=world.domain,
            account_key=Key(key.secret),
            randomness=secrets.token_bytes,
            nursery=nursery,
            **{"forget_within": 0.1, **more},
        )
        nursery.start_soon(book.actors[channel.id].run)
        towers.load()
        yield Client(towers, book, store, view, both, side)
        nursery.cancel_scope.cancel()


def uri(tower: TowerReady) -> str:
    return f"{tower.node_id.hex()}@127.0.0.1:{tower.listen.port}"


async def rows(tower: TowerReady) -> list[Row]:
    """All that a tower holds."""
    store = tower.service._store
    return [row for (auth,) in await store.do(lambda db: db.execute("SELECT auth FROM appointments").fetchall())
            if (row := await store.by_auth(NodeId(auth))) is not None]  # fmt: skip


async def test_a_stale_close_is_beaten_with_what_was_uploaded(world: World) -> None:
    both = players(world.domain)
    channel = both.opener.channel
    await world.send(OPENER_KEY, world.contracts.deposit(NATIVE, channel.terms.hash, Side.A, DEPOSIT))
    async with world.tower() as tower, client(world, both, Side.B) as payee:
        payee.receive(10, 1)
        stale = both.opener.channel
        assert payee.towers.status()["guarded"] == 0
        info = await payee.towers.add(uri(tower))
        assert info["reachable"] and info["node_id"] == "0x" + tower.node_id.hex()
        await payee.covered()
        payee.receive(90, 2)
        risk, since = payee.towers.at_risk(channel.id)
        assert (risk, since) == (90, payee.view.now)
        assert await payee.towers.covered(channel.id, payee.channel.current.version, 5)
        assert payee.towers.at_risk(channel.id) == (0, None)
        NODE.methods["tower_list"].result.write({"towers": payee.towers.list()})
        assert payee.towers.status() | {"towers": []} == {
            "role": "node",
            "towers": [],
            "channels": 1,
            "guarded": 1,
            "value_at_risk": "0",
            "at_risk_since": None,
        }
        close = world.contracts.close(
            NATIVE,
            channel.terms,
            version=stale.current.version,
            body_hash=stale.current.body_hash,
            signature=stale.current.signature_b,
            salt_other=stale.salt_theirs,
            salt_own_hash=keccak(stale.salt_ours),
        )
        await world.send(OPENER_KEY, close)

        async def answered() -> bool:
            word = await world.chain.channel(channel.id)
            return word.version == payee.channel.current.version and word.delegated

        await eventually(answered)
        await world.advance(PERIOD + 1)

        async def paid() -> bool:
            return bool((await tower.service.tower_status())["earned"] == str(channel.terms.close_bond))

        await eventually(paid)


async def test_a_pure_payer_uploads_once_and_stays_guarded(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower, client(world, both, Side.A) as payer:
        await payer.towers.add(uri(tower))
        for number in range(1, 6):
            payer.give(5, number)
            await payer.covered()
        (row,) = await rows(tower)
        assert row.seq == 1
        (info,) = payer.towers.list()
        assert (info["channels"], info["behind"], info["value_at_risk"]) == (1, 0, "0")
        # Whoever waits for the newest state gets it uploaded.
        assert await payer.towers.covered(payer.channel.id, payer.channel.current.version, 5)
        assert (await rows(tower))[0].seq == 2


async def test_with_nothing_at_stake_the_newest_state_is_brought_later(world: World, monkeypatch: Any) -> None:
    """Else a peer that loses by an older state could still have it stand while we sleep, and we could not open it."""
    both = players(world.domain)
    monkeypatch.setattr(tower_link, "IDLE", 0.1)
    async with world.tower() as tower, client(world, both, Side.A) as payer:
        await payer.towers.add(uri(tower))
        payer.give(5, 1)
        await payer.covered()
        payer.give(5, 2)
        await trio.sleep(0.5)
        assert (await rows(tower))[0].seq == 1
        begun = payer.view.now
        payer.view.clock = lambda: begun + tower_link.CATCH_UP

        async def newest() -> bool:
            held = payer.link(tower.node_id).state.held
            return held is not None and held.version == payer.channel.current.version

        await eventually(newest)
        assert (await rows(tower))[0].seq == 2


async def test_many_payments_share_uploads_and_the_newest_is_held(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower, client(world, both, Side.B) as payee:
        await payee.towers.add(uri(tower))
        for number in range(1, 101):
            payee.receive(1, number)
            if number % 10 == 0:
                await trio.lowlevel.checkpoint()
        assert await payee.towers.covered(payee.channel.id, payee.channel.current.version, 5)
        (row,) = await rows(tower)
        assert row.seq < 10
        evidence = appointment.open_blob(
            row.blob, salt=payee.channel.salt_ours, tower=tower.node_id, auth=row.auth, seq=row.seq
        )
        assert (evidence.version, evidence.body_hash) == (
            payee.channel.current.version,
            payee.channel.current.body_hash,
        )
        assert (evidence.payout, evidence.delay) == (key_of("tower").address, 0)


async def test_the_second_tower_has_another_key_and_waits_a_quarter_of_the_period(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as first, world.tower("other") as second, client(world, both, Side.B) as payee:
        payee.receive(10, 1)
        for tower in (first, second):
            await payee.towers.add(uri(tower))
        assert await payee.towers.covered(payee.channel.id, payee.channel.current.version, 5, receipts=2)
        (one,), (two,) = await rows(first), await rows(second)
        assert one.auth != two.auth and one.hint != two.hint
        evidence = appointment.open_blob(
            two.blob, salt=payee.channel.salt_ours, tower=second.node_id, auth=two.auth, seq=two.seq
        )
        assert evidence.delay == PERIOD // 4
        assert payee.towers.status(receipts=2)["guarded"] == 1
        assert payee.towers.status(receipts=3)["guarded"] == 0


async def test_a_tower_that_is_down_is_shouted_about_and_gets_all_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    both = players(world.domain)
    async with client(world, both, Side.B) as payee:
        async with world.tower() as tower:
            port = tower.listen.port
            await payee.towers.add(uri(tower))
            payee.receive(10, 1)
            await payee.covered()
        with caplog.at_level(logging.ERROR):
            payee.receive(20, 2)

            async def failed() -> bool:
                return "tower_failed" in payee.events()

            await eventually(failed)
        assert "UNPROTECTED since" in caplog.text
        (info,) = payee.towers.list()
        assert (info["reachable"], info["behind"], info["value_at_risk"]) == (False, 1, "20")
        assert info["at_risk_since"] == payee.view.now and info["error"]
        assert not payee.towers.is_covered(payee.channel.id)
        payee.receive(5, 3)
        assert payee.towers.at_risk(payee.channel.id)[0] == 25
        assert not await payee.towers.covered(payee.channel.id, payee.channel.current.version, 0.05)
        async with world.tower(listen=("127.0.0.1", port)) as tower:
            assert await payee.towers.covered(payee.channel.id, payee.channel.current.version, 15)
            (row,) = await rows(tower)
            assert row.seq == 3  # the one that was under way, with its own bytes, and then the newest
            assert payee.towers.list()[0]["error"] is None


async def test_after_a_crash_the_same_number_has_the_same_bytes(world: World, tmp_path: Path) -> None:
    both = players(world.domain)
    store = SqliteStore(tmp_path / "node.sqlite3")
    async with world.tower() as tower:
        port = tower.listen.port
        async with client(world, both, Side.B, store) as payee:
            await payee.towers.add(uri(tower))
            payee.receive(10, 1)
            await payee.covered()
    async with client(world, both, Side.B, store) as payee:  # the tower is down, and then we are
        payee.receive(20, 2)

        async def saved() -> bool:
            return bool(store.rows("SELECT 1 FROM receipts")) and payee.link(tower.node_id).failures > 0

        await eventually(saved)
        pending = payee.link(tower.node_id).state.pending
        assert pending is not None and pending.seq == 2
    async with world.tower(listen=("127.0.0.1", port)) as tower, client(world, both, Side.B, store) as payee:
        assert payee.link(tower.node_id).state.pending == pending
        await payee.covered()
        (row,) = await rows(tower)
        assert (row.seq, row.blob) == (2, pending.blob)
        (info,) = payee.towers.list()
        assert info["behind"] == 0
    store.close()


async def recovered(payee: Client) -> Channel:
    """The channel once its actor has put it into recovery."""
    actor = payee.book.actors[payee.channel.id]

    async def done() -> bool:
        return actor.channel.recovering

    await eventually(done)
    return actor.channel


async def test_a_database_that_has_forgotten_its_numbers_is_old(world: World) -> None:
    """The tower holds no newer state, but an upload that this database never made: what else has it forgotten?"""
    both = players(world.domain)
    async with world.tower() as tower:
        async with client(world, both, Side.B) as payee:
            await payee.towers.add(uri(tower))
            for number in range(1, 4):
                payee.receive(10, number)
                await payee.covered()
        async with client(world, both, Side.B) as payee:  # with an empty database
            await payee.towers.add(uri(tower))
            channel = await recovered(payee)
            assert (channel.phase, channel.current) == (Phase.FROZEN, payee.channel.current)
            assert payee.events() == ["tower_ahead", "channel_frozen"]
            (row,) = await rows(tower)
            assert row.seq == 3, "what it holds stays there"


async def test_a_newer_state_at_the_tower_is_adopted_and_never_overwritten(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower:
        async with client(world, both, Side.B) as payee:
            await payee.towers.add(uri(tower))
            payee.receive(10, 1)
            await payee.covered()
            old = payee.channel
            payee.receive(10, 2)
            await payee.covered()
            newest = payee.channel.current
            (before,) = await rows(tower)
        both.acceptor.channel = old
        async with client(world, both, Side.B) as payee:
            await payee.towers.add(uri(tower))
            channel = await recovered(payee)
            assert channel.current == newest
            ((data,),) = payee.store.rows("SELECT data FROM events WHERE type = 'tower_ahead'")
            assert json.loads(data)["version"] == newest.version
            assert json.loads(data)["newer"] is True
            assert await rows(tower) == [before]
            link = Link(
                payee.towers._towers[tower.node_id], channel, payee.towers._histories[channel.id], payee.towers._kit
            )
            link.stale = True  # not even to renew it
            assert not link.due(channel)


async def test_towers_are_asked_at_the_start_before_anything_is_signed(world: World, tmp_path: Path) -> None:
    """The copy was taken before the second upload, and nothing is due: only asking shows that it is old."""
    both = players(world.domain)
    store = SqliteStore(tmp_path / "node.sqlite3")
    async with world.tower() as tower:
        async with client(world, both, Side.B, store) as payee:
            await payee.towers.add(uri(tower))
            payee.receive(10, 1)
            await payee.covered()
            old = payee.channel
            (receipts,) = store.rows("SELECT saved FROM receipts")
            payee.receive(10, 2)
            await payee.covered()
            newest = payee.channel.current
        batch = Batch()
        batch.add("UPDATE receipts SET saved = ?", *receipts)
        await store.commit(batch)
        both.acceptor.channel = old
        async with client(world, both, Side.B, store) as payee:
            assert not payee.towers.asked.is_set()
            await payee.towers.asked.wait()
            channel = payee.book.actors[payee.channel.id].channel
            assert channel.recovering
            assert channel.current == newest
    store.close()


async def test_a_database_that_remembers_all_goes_on(world: World, tmp_path: Path) -> None:
    both = players(world.domain)
    store = SqliteStore(tmp_path / "node.sqlite3")
    async with world.tower() as tower:
        async with client(world, both, Side.B, store) as payee:
            await payee.towers.add(uri(tower))
            payee.receive(10, 1)
            await payee.covered()
        async with client(world, both, Side.B, store) as payee:
            await payee.towers.asked.wait()
            assert not payee.book.actors[payee.channel.id].channel.recovering
            payee.receive(10, 2)
            await payee.covered()
            assert payee.events() == []
    store.close()


async def test_a_claimed_preimage_is_entrusted_to_the_tower(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower, client(world, both, Side.B) as payee:
        await payee.towers.add(uri(tower))
        payee.move(lambda: both.do(Side.A, offer(50, 1)))
        await payee.covered()
        both.acceptor.do(Fulfil(lock_id=LockId(1), preimage=preimage(1), off_chain=False))
        payee.turn()
        assert payee.towers.at_risk(payee.channel.id)[0] == 50
        await payee.covered()
        (row,) = await rows(tower)
        evidence = appointment.open_blob(
            row.blob, salt=payee.channel.salt_ours, tower=tower.node_id, auth=row.auth, seq=row.seq
        )
        assert evidence.preimages == (preimage(1),)
        payee.view.registered[lock_key(1)] = Timestamp(1)


async def test_a_removed_tower_forgets_us_and_may_come_back(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower, client(world, both, Side.B) as payee:
        await payee.towers.add(uri(tower))
        payee.receive(10, 1)
        await payee.covered()
        await payee.towers.remove(tower.node_id)
        (row,) = await rows(tower)
        assert (row.seq, row.blob) == (2, b"")
        assert payee.towers.list() == [] and payee.store.rows("SELECT * FROM towers") == []
        assert payee.towers.status()["value_at_risk"] == "10"
        with pytest.raises(Refused, match="no tower of ours"):
            await payee.towers.remove(tower.node_id)
        await payee.towers.add(uri(tower))
        await payee.covered()
        assert (await rows(tower))[0].seq == 3


async def test_a_closed_channel_is_deleted_at_the_tower(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower, client(world, both, Side.B) as payee:
        await payee.towers.add(uri(tower))
        payee.receive(10, 1)
        await payee.covered()
        both.acceptor.channel = replace(payee.channel, phase=Phase.CLOSED)
        payee.turn()

        async def deleted() -> bool:
            return [row.blob for row in await rows(tower)] == [b""]

        await eventually(deleted)
        assert payee.towers.list()[0]["behind"] == 0


async def test_what_is_no_tower_of_this_chain_is_refused(world: World) -> None:
    both = players(world.domain)
    async with client(world, both, Side.B) as payee:
        nobody = f"{key_of('nobody').public.hex()}@127.0.0.1:1"
        with pytest.raises(Refused) as refusal:
            await payee.towers.add(nobody)
        assert refusal.value.code == "unreachable"
        assert payee.towers.list() == []
        async with world.tower() as tower:
            other = replace(world.domain, chain_id=1)
            payee.towers._domain = other
            with pytest.raises(Refused) as refusal:
                await payee.towers.add(uri(tower))
            assert refusal.value.code == "peer_refused"


async def test_a_tower_of_the_settings_is_looked_for_until_it_is_there(world: World) -> None:
    both = players(world.domain)
    async with world.tower() as tower:
        at = uri(tower)
        port = tower.listen.port
    async with client(world, both, Side.B) as payee:
        payee.towers.add_later(at)
        payee.receive(10, 1)

        async def missed() -> bool:
            return bool(payee.towers.list()[0]["error"])

        await eventually(missed)
        assert payee.towers.list()[0]["reachable"] is False
        async with world.tower(listen=("127.0.0.1", port)):
            await payee.covered()


LIES: dict[str, Callable[[AppointmentReceipt, Key], AppointmentReceipt]] = {
    "signature": lambda receipt, key: replace(receipt, signature=key.derive("x").sign(receipt.blob_hash)),
    "blob": lambda receipt, key: replace(receipt, blob_hash=receipt.hint),
    "number": lambda receipt, key: replace(receipt, seq=receipt.seq + 1),
    "lag": lambda receipt, key: replace(receipt, head_time=Timestamp(receipt.head_time - 121)),
    "future": lambda receipt, key: replace(receipt, head_time=Timestamp(receipt.head_time + 130)),
    "too long": lambda receipt, key: replace(receipt, valid_until=Timestamp(receipt.head_time + 30 * 86_400 + 1)),
    "over": lambda receipt, key: replace(receipt, valid_until=Timestamp(receipt.head_time - 1)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_receipt_that_promises_too_little_is_none(world: World, lie: str) -> None:
    both, key = players(world.domain), key_of("liar")

    async def serve(stream: PeerStream) -> None:
        while True:
            for message in await stream.receive():
                if isinstance(message, TowerInfoRequest):
                    answer: Any = TowerInfo(
                        payout=key.address,
                        chain_id=DEV_CHAIN_ID,
                        manager=world.where.manager,
                        min_period=Seconds(10),
                        max_validity=Seconds(30 * 86_400),
                    )
                else:
                    assert isinstance(message, PutAppointment)
                    answer = LIES[lie](await honest(message), key)
                    if lie != "signature":
                        digest = appointment.receipt_digest(
                            world.domain,
                            stream.remote,
                            answer.hint,
                            answer.seq,
                            answer.blob_hash,
                            answer.head_number,
                            answer.head_time,
                            answer.valid_until,
                        )
                        answer = replace(answer, signature=key.sign(digest))
                await stream.send([encode(answer)])

    async def honest(put: PutAppointment) -> AppointmentReceipt:
        head = (await world.chain.head()).latest
        return AppointmentReceipt(
            hint=put.hint,
            seq=put.seq,
            blob_hash=appointment.blob_hash(put.blob),
            head_number=head.number,
            head_time=head.timestamp,
            valid_until=Timestamp(head.timestamp + 86_400),
            signature=put.signature,
        )

    async with trio.open_nursery() as nursery, client(world, both, Side.B) as payee:
        at: HostPort = await nursery.start(partial(listen, HostPort(host="127.0.0.1", port=0), key, serve))
        await payee.towers.add(NodeAddress(node=key.public, at=at))
        payee.receive(10, 1)

        async def complained() -> bool:
            return payee.towers.list()[0]["error"] is not None

        await eventually(complained)
        assert not payee.towers.is_covered(payee.channel.id)
        assert payee.towers.at_risk(payee.channel.id)[0] == 10
        nursery.cancel_scope.cancel()
