"""A peer with a channel floods a hub with gossip: what the hub keeps does not grow, and others' payments go on."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import trio

from channeld.base.digests import Domain, Terms, announcement_digest, channel_id
from channeld.base.errors import Unreachable
from channeld.base.units import NATIVE, Digest, Seconds, Side, Timestamp
from channeld.cli.stage import ETHER, Actor, Stage
from channeld.core.channel import ZERO
from channeld.node import announcing
from channeld.peers.talk import fresh_key
from channeld.wire import messages as wire
from channeld.wire import pages
from routing.announcements import MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_ALIAS_BYTES
from routing.fees import Policy
from tests.e2e.liar import Liar, Talk, domain_of, meet, memory
from tests.e2e.people import DOLLAR, invoice, knows_way, line_of, nodes

DEPOSIT = 10**15
PAYMENTS = 12
ROUNDS = 25
MOST = 48 * 1_024 * 1_024
"""By how much the flood may make the hub grow: fifty megabytes are sent."""
LATE = Timestamp(2**32 - 1)


def _fake(domain: Domain) -> tuple[wire.ChannelAnnouncement, wire.ChannelUpdate]:
    """A channel of two nodes made up for it: every signature is good, only nobody has paid into it."""
    a, b, account_a, account_b = (fresh_key() for _ in range(4))
    terms = Terms(
        participant_a=account_a.address,
        participant_b=account_b.address,
        payout_a=account_a.address,
        payout_b=account_b.address,
        challenge_period=Seconds(600),
        salt_commitment=Digest(secrets.token_bytes(32)),
        close_bond=1,
        nonce=1,
    )
    id_ = channel_id(domain, NATIVE, terms.hash)
    digest = announcement_digest(domain, id_, a.public, b.public)
    said = wire.ChannelAnnouncement(
        chain_id=domain.chain_id,
        manager=domain.manager,
        token=NATIVE,
        terms=terms.abi(),
        node_a=a.public,
        node_b=b.public,
        node_signature_a=a.sign(digest),
        node_signature_b=b.sign(digest),
        participant_signature_a=account_a.sign(digest),
        participant_signature_b=account_b.sign(digest),
    )
    policy = Policy(fee_base=1, fee_ppm=1, expiry_delta=Seconds(60), max_lock=5, timestamp=LATE)  # type: ignore[arg-type]
    return said, announcing.update_of(id_, Side.A, policy, a)


def _garbage(domain: Domain) -> Iterator[list[wire.Message]]:
    """Fakes, policies from the end of time, nodes without a channel and as large as can be, pages nobody asked for."""
    for number in count():
        pairs = [_fake(domain) for _ in range(20)]
        node = announcing.node_of(LATE, ["x" * MAX_ADDRESS_BYTES] * MAX_ADDRESSES, "y" * MAX_ALIAS_BYTES, fresh_key())
        filled = pages.join([wire.encode(pairs[0][0])] * 90)
        page = wire.GossipPage(
            kind=pages.CHANNELS,
            since=Timestamp(number),
            after=b"",
            last=False,
            more=True,
            messages=filled,
        )
        yield [*(one for pair in pairs for one in pair), *[node] * 500, *[page] * 25]


async def _flood(town: Stage, liar: Liar, enough: trio.Event) -> None:
    """Whenever the hub hangs up, again; until there was enough of it."""
    channel, garbage = next(iter(liar.channels.values())), _garbage(domain_of(town))
    for said in (next(garbage) for _ in range(ROUNDS)):
        try:
            async with meet(town, liar.victim, liar.key) as talk:
                await liar.greet(talk, channel, (0, ZERO))
                await talk.say(*said)
                await _answer(talk, domain_of(town))
        except (Unreachable, trio.TooSlowError):
            await trio.sleep(0.05)
    enough.set()


async def _answer(talk: Talk, domain: Domain) -> None:
    """What the hub asks for gossip is answered with pages that never end."""
    number = count(1)
    with trio.move_on_after(1):
        while True:
            asked = await talk.hear(wire.GossipQuery)
            await talk.say(
                wire.GossipPage(
                    kind=asked.kind,
                    since=asked.since,
                    after=next(number).to_bytes(33, "big"),
                    last=True,
                    more=True,
                    messages=pages.join([wire.encode(_fake(domain)[0])]),
                )
            )


async def _pay(payer: Actor, payee: Actor) -> None:
    asked = await invoice(payee, DOLLAR)
    async with payer.client() as client:
        assert (await client.pay_invoice(invoice=asked["invoice"]))["state"] == "succeeded"


def _rows(town: Stage, actor: Actor) -> int:
    with closing(sqlite3.connect(town.root / actor.name / "node.sqlite3")) as home:
        return int(home.execute("SELECT count(*) FROM gossip").fetchone()[0])


async def test_payments_of_others_go_on_while_a_peer_floods_the_hub(town: Stage) -> None:
    payer, hub, payee = await nodes(town, "payer", "hub", "payee")
    await line_of(town, [payer, hub, payee], 500 * DOLLAR)
    await knows_way(payer, payee)
    liar = Liar(town=town, victim=hub)
    await town.fund(liar.account.address, wei=ETHER)
    async with meet(town, hub, liar.key) as talk:
        await liar.open(talk, DEPOSIT)
    async with hub.client() as client:
        before = (await client.get_info())["graph"]
    rows, size, enough = _rows(town, hub), memory(hub), trio.Event()
    assert (before["channels"], before["nodes"]) == (2, 3)
    paid = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_flood, town, liar, enough)
        while not enough.is_set() or paid < PAYMENTS:
            with trio.fail_after(20):
                await _pay(payer, payee)
            paid += 1
    async with hub.client() as client:
        with trio.fail_after(30):
            while (graph := (await client.get_info())["graph"])["syncing"]:
                await trio.sleep(0.1)
    assert (graph["channels"], graph["nodes"]) == (2, 3)
    assert _rows(town, hub) == rows
    assert memory(hub) - size < MOST
