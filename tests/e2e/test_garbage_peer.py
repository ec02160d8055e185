"""Strangers that talk garbage at every stage of a connection: the daemon lives, stays small, and serves the others."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from hypothesis import given, settings

from channeld.base.errors import Unreachable
from channeld.base.keys import Key
from channeld.base.units import Address, Amount, ChannelId, Seconds, Version
from channeld.cli.stage import ETHER, Actor, Stage
from channeld.node.lines import STRANGERS_BURST, STRANGERS_RATE
from channeld.node.unpaid import OF_ORIGIN
from channeld.peers.dial import dial
from channeld.peers.talk import fresh_key
from channeld.wire import messages as wire
from channeld.wire.address import NodeAddress, node_address
from channeld.wire.handshake import ACT_ONE_BYTES, ACT_THREE_BYTES, ACT_TWO_BYTES, Initiator
from tests.e2e.liar import PATIENCE, Liar, Talk, domain_of, knock, meet, memory
from tests.e2e.people import DOLLAR, channel, invoice, line_of, nodes
from tests.wire.strategies import messages

Attack = Callable[[Stage, Actor], Awaitable[None]]
MEGABYTE = 1_024 * 1_024
MOST = 64 * MEGABYTE
"""By how much any attack may make a daemon grow."""
UNKNOWN = ChannelId(b"\x07" * 32)


@asynccontextmanager
async def _tcp(actor: Actor) -> AsyncIterator[trio.SocketStream]:
    at = node_address(actor.uri).at
    async with await trio.open_tcp_stream(at.host, at.port) as stream:
        yield stream


async def _ended(stream: trio.SocketStream) -> bool:
    """Whether the other side closes, whatever it says before."""
    try:
        with trio.fail_after(PATIENCE):
            while await stream.receive_some(65_536):
                pass
    except trio.BrokenResourceError:
        pass
    except trio.TooSlowError:
        return False
    return True


async def _write(stream: trio.SocketStream, data: bytes) -> None:
    """What the daemon does not want to read any more is our loss."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


# -- before the handshake is done


async def before_the_handshake(_: Stage, actor: Actor) -> None:
    for garbage in (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 4,
        secrets.token_bytes(5_000),
        bytes(MEGABYTE),
        b"\xff" * 50,
    ):
        async with _tcp(actor) as stream:
            await _write(stream, garbage)
            assert await _ended(stream)


async def a_wrong_act(_: Stage, actor: Actor) -> None:
    node = node_address(actor.uri).node
    good = Initiator(fresh_key(), fresh_key(), node).act_one()
    no_point = good[:1] + b"\x02" + b"\xff" * 32 + good[34:]
    for act in (b"\x01" + good[1:], good[:-1] + bytes([good[-1] ^ 1]), no_point, good[:1] + secrets.token_bytes(49)):
        assert len(act) == ACT_ONE_BYTES
        async with _tcp(actor) as stream:
            await _write(stream, act)
            assert await _ended(stream)
    for spoil in (lambda act: b"\x01" + act[1:], lambda act: act[:-1] + bytes([act[-1] ^ 1]), lambda _: bytes(66)):
        async with _tcp(actor) as stream:
            initiator = Initiator(fresh_key(), fresh_key(), node)
            await stream.send_all(initiator.act_one())
            said = b""
            while len(said) < ACT_TWO_BYTES:
                said += await stream.receive_some(ACT_TWO_BYTES - len(said))
            act, _transport = initiator.act_three(said)
            await _write(stream, spoil(act))
            assert len(act) == ACT_THREE_BYTES
            assert await _ended(stream)


async def a_wrong_static_key(_: Stage, actor: Actor) -> None:
    """Looking for somebody else at its door."""
    elsewhere = NodeAddress(node=fresh_key().public, at=node_address(actor.uri).at)
    with pytest.raises(Unreachable):
        await dial(elsewhere, fresh_key())


# -- after the handshake


async def a_garbage_frame(_: Stage, actor: Actor) -> None:
    for garbage in (secrets.token_bytes(18), bytes(MEGABYTE)):
        async with knock(actor, fresh_key()) as talk:
            with_it = talk.stream._stream
            assert isinstance(with_it, trio.SocketStream)
            await _write(with_it, garbage)
            assert await talk.hung_up()


UNDECODABLE = [
    b"",
    b"\x00",
    b"\xc1",
    b"\xc0" * 60_000,
    b"\x90",
    b"\x91\xcd\x03\xe7",  # [999]
    b"\x92\x04\xff",  # a ping of minus one
    b"\x92\x04\xcd\x00\x01",  # a ping, in a longer form than ours
    b"\x93\x04\x00\x00",
    b"\x91" * 60_000,  # lists in lists
    b"\xdd\xff\xff\xff\xff",  # a list of four thousand million
    b"\xc6\xff\xff\xff\xff" + bytes(1_000),
    b"\xdf\xff\xff\xff\xff",
    wire.encode(wire.Ping())[:-1],
    wire.encode(wire.Ping()) + b"\x00",
    bytes(65_535),
]


async def what_is_no_message(town: Stage, actor: Actor) -> None:
    key = fresh_key()
    for plain in [*UNDECODABLE, *(secrets.token_bytes(count) for count in (1, 100, 65_535))]:
        async with meet(town, actor, key) as talk:
            await talk.raw(plain)
            assert await talk.hung_up(), plain[:20]


async def anything_before_init(town: Stage, actor: Actor) -> None:
    asked = Liar(town=town, victim=actor).open_channel(10**15)
    for message in (wire.Ping(), asked, wire.Error(code="x"), wire.GossipQuery(kind=49), wire.TowerInfoRequest()):
        async with knock(actor, fresh_key()) as talk:
            await talk.say(message)
            assert await talk.hung_up(), message


async def a_wrong_init(town: Stage, actor: Actor) -> None:
    domain = domain_of(town)
    for init in (
        wire.Init(chain_id=1, manager=domain.manager),
        wire.Init(chain_id=domain.chain_id, manager=fresh_key().address),
    ):
        async with knock(actor, fresh_key()) as talk:
            await talk.say(init)
            assert await talk.hung_up(), init
    async with meet(town, actor, fresh_key()) as talk:
        await talk.say(wire.Init(chain_id=domain.chain_id, manager=domain.manager))
        assert await talk.hung_up(), "twice"


async def a_message_for_a_tower(town: Stage, actor: Actor) -> None:
    for message in (wire.TowerInfoRequest(), wire.GetAppointment()):
        async with meet(town, actor, fresh_key()) as talk:
            await talk.say(message)
            assert await talk.hung_up(), message


async def an_unknown_channel(town: Stage, actor: Actor) -> None:
    """And a known one that is not ours: nobody freezes the channel of two others."""
    async with meet(town, actor, fresh_key()) as talk:
        for name in [UNKNOWN, *await _channels(actor)]:
            await talk.say(
                wire.Reestablish(channel_id=name, version=Version(1), hash=wire.NO_DIGEST, base=Version(1)),
                wire.Error(channel_id=name, code="protocol_error", text="it is broken\nlevel=critical"),
                wire.DepositSeen(channel_id=name, deposit_a=Amount(1), deposit_b=Amount(1)),
            )
            assert (await talk.hear(wire.Error, name)).code == "unknown_channel"
        assert await talk.answers()


async def many_openings(town: Stage, actor: Actor) -> None:
    """Openings that are never finished, that make no sense, and whose bond fits no memo."""
    liar = Liar(town=town, victim=actor)
    async with meet(town, actor, liar.key) as talk:
        asked = liar.open_channel(10**15)
        bad = [
            replace(asked, participant=Address(bytes(20))),
            replace(asked, participant=actor.address),
            replace(asked, challenge_period=Seconds(0)),
            replace(asked, challenge_period=Seconds(2**32 - 1)),
            replace(asked, close_bond=2**128 - 1),
            replace(asked, close_bond=0),
            replace(asked, max_locks=0),
        ]
        for one in bad:
            await talk.say(one)
            assert (await talk.hear(wire.OpenRefused)).open_id == one.open_id, one
        for _ in range(300):
            await talk.say(liar.open_channel(10**15))
            await talk.hear(wire.AcceptChannel)
        odd = liar.open_channel(10**15, close_bond=asked.close_bond + 1)
        await talk.say(odd)
        refused = await talk.hear(wire.OpenRefused)
        assert (refused.open_id, refused.code) == (odd.open_id, "bad_bond")
        await talk.say(wire.ChannelAgreed(channel_id=UNKNOWN, sealed=bytes(48)))
        assert await talk.answers()


async def channels_without_a_deposit(town: Stage, actor: Actor) -> None:
    """Agreed costs the stranger nothing, so it may not go on for ever."""
    liar = Liar(town=town, victim=actor)
    async with meet(town, actor, liar.key) as talk:
        for _ in range(16):
            await liar.agree(talk, liar.open_channel(10**15))
        await talk.say(liar.open_channel(10**15))
        assert (await talk.hear(wire.OpenRefused)).code == "too_many_openings"


async def channels_of_one_address(town: Stage, actor: Actor) -> None:
    """Names cost nothing: many peers of one address have no more places than a few. Frozen ones count as well."""
    agreed, refused = 0, ""
    while not refused:
        liar = Liar(town=town, victim=actor)
        async with meet(town, actor, liar.key) as talk:
            for _ in range(15):
                await talk.say(liar.open_channel(10**15))
                assert await talk.answers()
                if said := [message for message in talk.heard if isinstance(message, wire.OpenRefused)]:
                    refused = f"{said[0].code}: {said[0].text}"
                    break
                talk.heard.clear()
                channel, _ = await liar.agree(talk, liar.open_channel(10**15))
                await talk.say(wire.Error(channel_id=channel.id, code="protocol_error", text="and frozen"))
                agreed += 1
            assert await talk.answers()
        assert agreed <= OF_ORIGIN
    assert "of your address" in refused
    assert agreed >= 40  # some come from those before us


async def any_message_at_all(town: Stage, actor: Actor) -> None:
    """Whatever the protocol has words for, in no order, some of it about channels of others."""
    key, said = fresh_key(), _bag(150)
    names = await _channels(actor)
    luck = random.Random(7)
    while said:
        async with meet(town, actor, key) as talk:
            while said:
                message = said.pop()
                if hasattr(message, "channel_id") and luck.random() < 0.5:
                    message = replace(message, channel_id=luck.choice(names))  # type: ignore[type-var]
                await talk.say(message)
                if not await talk.answers():
                    break


def _bag(count: int) -> list[wire.Message]:
    """Messages within their limits and otherwise anything."""
    bag: list[wire.Message] = []

    @settings(max_examples=count, derandomize=True, database=None)
    @given(messages())
    def fill(message: wire.Message) -> None:
        bag.append(message)

    fill()
    return bag


async def a_flood_of_pings(town: Stage, actor: Actor) -> None:
    """Answered as long as somebody listens, a stranger at a stranger's pace; a peer that does not listen is not read
    from either, or cut."""
    flood = [wire.encode(wire.Ping(pad=7))] * 1_000
    async with meet(town, actor, fresh_key()) as talk:
        await talk.raw(*flood[: STRANGERS_BURST + 4 * int(STRANGERS_RATE)])
        await trio.sleep(0.5)  # they are read
        with trio.move_on_after(0.5) as soon:
            await talk.answers()
        assert soon.cancelled_caught
        assert await talk.answers()
    async with meet(town, actor, fresh_key()) as talk:
        try:
            with trio.move_on_after(5):
                while True:
                    await talk.raw(*flood)
        except Unreachable:
            pass


# -- connections that cost room


@asynccontextmanager
async def _crowd(town: Stage, actor: Actor) -> AsyncIterator[None]:
    """Strangers who never say a word, who stop in the middle of one, and peers who hold their tongue."""
    async with AsyncExitStack() as stack:
        for _ in range(60):
            await stack.enter_async_context(meet(town, actor, fresh_key()))
        for _ in range(60):
            talk = await stack.enter_async_context(knock(actor, fresh_key()))
            await talk.stream._stream.send_all(talk.stream._transport.encrypt(bytes(60_000))[:50_000])
        for _ in range(300):
            stream = await stack.enter_async_context(_tcp(actor))
            await _write(stream, b"\x00\x02")
        yield


NODE_ATTACKS: list[Attack] = [
    before_the_handshake,
    a_wrong_act,
    a_wrong_static_key,
    a_garbage_frame,
    what_is_no_message,
    anything_before_init,
    a_wrong_init,
    a_message_for_a_tower,
    an_unknown_channel,
    many_openings,
    channels_without_a_deposit,
    channels_of_one_address,
    any_message_at_all,
    a_flood_of_pings,
]


@pytest.mark.timeout(240)
async def test_garbage_at_every_stage_changes_nothing_for_the_honest(town: Stage) -> None:
    payer, victim = await nodes(town, "payer", "victim")
    (opened,) = await line_of(town, (payer, victim), 500 * DOLLAR)
    await _pay(payer, victim)
    before, pid = memory(victim), victim.pid

    for attack in NODE_ATTACKS:
        with trio.fail_after(60):
            async with _paying(payer, victim) as outcomes:
                await attack(town, victim)
        assert outcomes and set(outcomes) == {"succeeded"}, (attack.__name__, outcomes)
        assert victim.alive, (attack.__name__, victim.tail())
        assert memory(victim) - before < MOST, attack.__name__
        shown = await channel(victim, opened)
        assert (shown["state"], shown["frozen"], shown["connected"]) == ("open", False, True), attack.__name__
    async with _crowd(town, victim):
        await _pay(payer, victim)
    await _pay(payer, victim)
    async with meet(town, victim, fresh_key()) as talk:  # and who comes after the crowd gets in
        assert await talk.answers()

    assert memory(victim) - before < MOST
    assert victim.pid == pid and not _criticals(victim)
    async with victim.client() as client:
        states = [(one["state"], one["frozen"]) for one in (await client.list_channels())["channels"]]
    assert states.count(("open", False)) == 1 and len(states) <= 1 + OF_ORIGIN, states


def _criticals(actor: Actor) -> list[str]:
    return [line for line in actor.log.read_text(encoding="utf-8").splitlines() if " level=critical " in f" {line} "]


@asynccontextmanager
async def _paying(payer: Actor, payee: Actor) -> AsyncIterator[list[str]]:
    """Invoices are made and paid all the while, and at least one after; how each ended."""
    outcomes: list[str] = []
    over = trio.Event()

    async def pay() -> None:
        while not over.is_set():
            outcomes.append(await _pay(payer, payee))
        outcomes.append(await _pay(payer, payee))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)
        yield outcomes
        over.set()


async def _pay(payer: Actor, payee: Actor) -> str:
    with trio.fail_after(PATIENCE):
        asked = await invoice(payee, DOLLAR // 100)
        async with payer.client() as client:
            return str((await client.pay_invoice(invoice=asked["invoice"]))["state"])


async def _channels(actor: Actor) -> list[ChannelId]:
    async with actor.client() as client:
        shown = (await client.list_channels())["channels"]
    return [ChannelId(bytes.fromhex(one["channel_id"][2:])) for one in shown]


# -- the tower's port


@asynccontextmanager
async def _client(tower: Actor, key: Key | None = None) -> AsyncIterator[Talk]:
    async with knock(tower, key or fresh_key()) as talk:
        yield talk


async def no_message_for_the_tower(_: Stage, tower: Actor) -> None:
    for plain in UNDECODABLE:
        async with _client(tower) as talk:
            await talk.raw(plain)
            assert await talk.hung_up(), plain[:20]


async def any_message_for_the_tower(_: Stage, tower: Actor) -> None:
    key, said = fresh_key(), _bag(200)
    while said:
        async with _client(tower, key) as talk:
            while said:
                await talk.say(said.pop())
                if not await talk.answers():
                    break


async def requests_without_end(_: Stage, tower: Actor) -> None:
    """More requests than a client may make: told to slow down, then shown the door."""
    async with _client(tower) as talk:
        try:
            for _round in range(50):
                await talk.raw(*[wire.encode(wire.GetAppointment())] * 1_000)
        except Unreachable:
            pass
        assert await talk.hung_up()


TOWER_ATTACKS: list[Attack] = [
    before_the_handshake,
    a_wrong_act,
    a_wrong_static_key,
    a_garbage_frame,
    no_message_for_the_tower,
    any_message_for_the_tower,
    requests_without_end,
]


@pytest.mark.timeout(240)
async def test_garbage_at_the_towers_port_leaves_its_clients_guarded(town: Stage) -> None:
    payer, client = await nodes(town, "payer", "client")
    tower = await town.tower("tower")
    await town.fund(tower.address, wei=ETHER)
    (opened,) = await line_of(town, (payer, client), 100 * DOLLAR)
    async with client.client() as calls:
        await calls.tower_add(uri=tower.uri)
    before = memory(tower)

    for attack in TOWER_ATTACKS:
        with trio.fail_after(60):
            await attack(town, tower)
        assert tower.alive, (attack.__name__, tower.tail())
        assert memory(tower) - before < MOST, attack.__name__
        with trio.fail_after(PATIENCE):
            async with payer.client() as calls:
                said = await calls.send_transfers(channel_id=opened, transfers=[{"amount": DOLLAR}])
        assert said["state"] == "succeeded"
        await _guarded(client)
    assert not _criticals(tower)


async def _guarded(client: Actor) -> None:
    """The tower's receipt is for the newest state."""
    told: dict[str, Any] = {}
    with trio.move_on_after(PATIENCE):
        async with client.client() as calls:
            while True:
                told = dict(await calls.tower_status())
                if told["channels"] and told["guarded"] == told["channels"]:
                    return
                await trio.sleep(0.1)
    raise AssertionError(f"not guarded: {told}")
