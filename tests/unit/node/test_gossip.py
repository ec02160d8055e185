"""Nodes that gossip over real connections: what is told, what is believed, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Address, Amount, ChannelId, Seconds, Side, Signature, Timestamp
from channeld.chain.chain import ChannelWord
from channeld.core.channel import Phase
from channeld.node import announcing, gossip, own_word
from channeld.wire import messages as wire
from channeld.wire import pages
from routing.announcements import Rate, Spam
from routing.graph import MAX_AGE
from tests.roles import CLOSE
from tests.unit.node.gossips import (
    CHEAT,
    DEPOSIT,
    EMPTY,
    NOW,
    OPEN_WORD,
    ChainTable,
    Cheat,
    Node,
    announcement,
    channel_between,
    opened,
    started,
    until,
    update,
)

# -- public channels


async def test_a_public_channel_is_announced_by_both_and_relayed(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    await merchant.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener)
    await trio.sleep(0.1)
    assert id_ not in opener.graph  # one half does not announce
    opened(id_, hub)
    await until(lambda: all(node.knows(id_) for node in (opener, hub, merchant)))
    await until(lambda: all(len(node.gossip.known.nodes) == 2 for node in (opener, hub, merchant)))
    known = merchant.graph.channel(id_)
    assert known is not None and known.capacity == DEPOSIT
    assert (known.node_a, known.node_b) == (opener.key.public, hub.key.public)
    assert merchant.graph.policy(id_, Side.A) == replace(opener.policy, timestamp=NOW)
    assert merchant.chain.asked == [id_]  # by the merchant alone: the two know their own channel
    assert merchant.gossip.known.nodes[hub.key.public].alias == "hub"


async def test_halves_that_were_lost_are_said_again_on_the_next_line(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    assert id_ not in hub.graph
    await opener.connect(hub)
    await until(lambda: opener.knows(id_) and hub.knows(id_))


async def test_a_node_that_comes_later_asks_and_is_told_everything(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channeld.wire.pages.MAX_PAGE", 1_500)
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    ids = [channel_between(opener, hub, nonce=nonce) for nonce in range(1, 8)]
    for id_ in ids:
        opened(id_, opener, hub)
    await until(lambda: all(hub.knows(id_) for id_ in ids))
    await merchant.connect(hub)
    await until(lambda: all(merchant.knows(id_) for id_ in ids) and len(merchant.gossip.known.nodes) == 2)


async def test_a_query_is_answered_with_what_was_learned_since(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    await opener.connect(hub)
    first = channel_between(opener, hub, nonce=1)
    opened(first, opener, hub)
    await until(lambda: hub.knows(first))
    opener.time = hub.time = NOW + 100
    second = channel_between(opener, hub, nonce=2)
    opened(second, opener, hub)
    await until(lambda: hub.knows(second))
    asker = await Cheat.at(hub, nursery)
    assert len(await asker.ask(pages.CHANNELS, NOW + 50)) == 1
    assert len(await asker.ask(pages.POLICIES, NOW + 50)) == 2
    kinds = [type(one) for kind in pages.KINDS for one in await asker.ask(kind)]
    assert kinds == [wire.ChannelAnnouncement] * 2 + [wire.ChannelUpdate] * 4 + [wire.NodeAnnouncement] * 2


async def test_what_was_learned_outlives_the_process(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    await merchant.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: merchant.knows(id_) and len(merchant.gossip.known.nodes) == 2)
    await merchant.gossip.known.settled()
    again = Node("merchant", ChainTable(), nursery, merchant.store)
    await again.start()
    assert again.graph.channel(id_) == merchant.graph.channel(id_)
    assert [again.graph.policy(id_, side) for side in Side] == [merchant.graph.policy(id_, side) for side in Side]
    assert again.gossip.known.nodes == merchant.gossip.known.nodes
    assert not again.chain.asked


async def test_a_policy_that_changed_while_we_were_off_is_told_at_the_start(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    await opener.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: opener.knows(id_) and hub.knows(id_))
    await hub.gossip.known.settled()
    again = Node("hub", hub.chain, nursery, hub.store)
    again.policy = replace(hub.policy, fee_ppm=7)
    again.hold(hub.book.actors[id_].channel)
    await again.start()
    await again.connect(opener)
    await until(lambda: (policy := opener.graph.policy(id_, Side.B)) is not None and policy.fee_ppm == 7)
    policy = opener.graph.policy(id_, Side.B)
    assert policy is not None and policy.timestamp == NOW + 1  # newer, although the clock has not moved


async def test_a_channel_that_freezes_is_disabled_and_one_that_closes_is_forgotten(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    await merchant.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: merchant.knows(id_))
    hub.turn(id_, phase=Phase.FROZEN)
    await until(lambda: (policy := merchant.graph.policy(id_, Side.B)) is not None and policy.disabled)
    policy = merchant.graph.policy(id_, Side.A)
    assert policy is not None and not policy.disabled
    hub.turn(id_, phase=Phase.CLOSING, onchain=CLOSE)
    assert id_ not in hub.graph
    merchant.gossip.seen_gone(id_)
    assert id_ not in merchant.graph and not merchant.gossip.known.nodes
    await merchant.gossip.known.settled()
    assert merchant.store.rows("SELECT * FROM gossip") == []


async def test_a_close_that_a_reorg_takes_back_is_announced_again(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    await opener.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: opener.knows(id_) and hub.knows(id_))
    for node in (opener, hub):
        node.turn(id_, phase=Phase.CLOSING, onchain=CLOSE)
    await trio.sleep(0.1)
    assert id_ not in opener.graph and id_ not in hub.graph
    opened(id_, opener)
    await trio.sleep(0.1)
    opened(id_, hub)
    await until(lambda: opener.knows(id_) and hub.knows(id_))


async def test_capacity_follows_the_deposits(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    await opener.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: hub.knows(id_))
    hub.gossip.seen_deposits(id_, Amount(5_000))
    await hub.gossip.known.settled()
    again = Node("hub", hub.chain, nursery, hub.store)
    again.gossip.known.load()
    known = again.graph.channel(id_)
    assert known is not None and known.capacity == 5_000
    hub.gossip.seen_deposits(id_, Amount(0))
    assert id_ not in hub.graph


async def test_our_own_word_is_renewed_and_what_is_old_is_forgotten(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    await merchant.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: merchant.knows(id_) and len(merchant.gossip.known.nodes) == 2)
    for node in (opener, hub, merchant):
        node.time += own_word.REFRESH + 1
    await hub.gossip.tend()
    await until(lambda: merchant.gossip.known.nodes[hub.key.public].timestamp == hub.time)
    assert hub.graph.policy(id_, Side.B) == replace(hub.policy, timestamp=Timestamp(hub.time))
    merchant.time += 15 * 86_400
    await merchant.gossip.tend()
    await merchant.gossip.known.settled()
    assert not len(merchant.graph) and not merchant.store.rows("SELECT * FROM gossip")


async def test_who_has_forgotten_a_channel_hears_of_it_again(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    await merchant.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: merchant.knows(id_))
    await hub.gossip.known.settled()
    merchant.gossip.known.remove(id_)
    hub.time = merchant.time = NOW + own_word.REFRESH + 1
    hub.gossip.own.tend()
    await until(lambda: id_ in merchant.graph and merchant.graph.policy(id_, Side.B) is not None)


async def test_what_was_forgotten_while_we_were_off_is_not_there_at_the_start(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    await opener.connect(hub)
    await merchant.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: merchant.knows(id_) and len(merchant.gossip.known.nodes) == 2)
    await merchant.gossip.known.settled()
    again = Node("merchant", merchant.chain, nursery, merchant.store)
    again.time = NOW + MAX_AGE + 1
    await again.start()
    await until(lambda: not len(again.graph))
    assert not again.gossip.known.nodes


async def test_an_update_of_an_older_self_is_corrected(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    await opener.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: hub.knows(id_))
    cheat = await Cheat.at(hub, nursery)
    await cheat.say(update(hub, id_, Side.B, NOW + 50, fee_ppm=999))
    await until(lambda: (policy := opener.graph.policy(id_, Side.B)) is not None and policy.timestamp == NOW + 51)
    policy = opener.graph.policy(id_, Side.B)
    assert policy is not None and policy.fee_ppm == hub.policy.fee_ppm


async def test_a_half_is_answered_with_ours_once_on_a_line(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    await opener.connect(hub)
    id_ = channel_between(opener, hub)
    opened(id_, opener, hub)
    await until(lambda: opener.knows(id_))
    forgetful = await Cheat.at(opener, nursery, hub.key)  # its database is gone, but for the channel
    half = announcing.half(hub.book.actors[id_].channel, hub.key, hub.account)
    await forgetful.say(half, half, half, wire.Ping())
    await until(lambda: forgetful.count(wire.Pong))
    assert forgetful.count(wire.AnnouncementSignatures) == 1


# -- private channels


async def test_a_private_channel_is_told_to_nobody_but_gives_the_payee_a_hint(nursery: trio.Nursery) -> None:
    opener, hub, merchant = await started(nursery, "opener", "hub", "merchant")
    id_ = channel_between(hub, merchant, public=False)
    await merchant.connect(hub)
    opened(id_, hub, merchant)
    await until(lambda: merchant.gossip.hints(NATIVE))
    ((hop,),) = merchant.gossip.hints(NATIVE)
    assert (hop.node, hop.channel, hop.fee_base, hop.fee_ppm) == (hub.key.public, id_, 3, 100)
    assert merchant.gossip.hints(Address(b"\1" * 20)) == []
    await opener.connect(hub)
    await trio.sleep(0.2)
    assert not len(opener.graph) and not len(hub.graph) and not opener.gossip.known.private
    asker = await Cheat.at(hub, nursery)
    assert [one for kind in pages.KINDS for one in await asker.ask(kind)] == []
    assert asker.count(wire.ChannelUpdate) == 0
    merchant.turn(id_, leaving=True)
    assert merchant.gossip.hints(NATIVE) == []


@pytest.mark.parametrize("public", [True, False])
async def test_our_word_on_a_channel_is_what_we_said_last(nursery: trio.Nursery, public: bool) -> None:
    """Byte by byte what the peer was told, so that a failure says no more than gossip does."""
    hub, merchant = await started(nursery, "hub", "merchant")
    asker = await Cheat.at(merchant, nursery)
    id_ = channel_between(hub, merchant, public=public)
    assert hub.gossip.own.word(hub.book.actors[id_].channel) == b""
    await merchant.connect(hub)
    opened(id_, hub, merchant)
    await until(lambda: merchant.gossip.known.policy((id_, Side.A)))
    await merchant.gossip.known.settled()
    said = kept_update(merchant, id_)
    assert hub.gossip.own.word(hub.book.actors[id_].channel) == said
    told = [wire.encode(one) for one in await asker.ask(pages.POLICIES)]
    assert (said in told) == public


def kept_update(node: Node, id_: ChannelId) -> bytes:
    """The update of side A of a channel, as a node keeps it."""
    ((data,),) = node.store.rows("SELECT bytes FROM gossip WHERE kind = 50 AND key = ?", id_ + bytes([Side.A]))
    return bytes(data)


async def test_a_hint_outlives_the_process_and_a_lost_update_is_said_again(nursery: trio.Nursery) -> None:
    hub, merchant = await started(nursery, "hub", "merchant")
    id_ = channel_between(hub, merchant, public=False)
    opened(id_, hub, merchant)
    assert merchant.gossip.hints(NATIVE) == []
    await merchant.connect(hub)
    await until(lambda: merchant.gossip.hints(NATIVE))
    await merchant.gossip.known.settled()
    again = Node("merchant", merchant.chain, nursery, merchant.store)
    again.hold(merchant.book.actors[id_].channel)
    await again.start()
    assert again.gossip.hints(NATIVE) == merchant.gossip.hints(NATIVE)


# -- what is refused


async def settled_pair(nursery: trio.Nursery) -> tuple[Node, Node, Node, ChannelId, wire.ChannelAnnouncement]:
    """An opener and an acceptor who are elsewhere, and a hub that hears of their channel from a cheat."""
    opener, acceptor, hub = await started(nursery, "opener", "acceptor", "hub")
    id_ = channel_between(opener, acceptor)
    return opener, acceptor, hub, id_, announcement(opener, acceptor, id_)


async def test_what_waits_for_the_chain_keeps_its_policies_and_nodes(nursery: trio.Nursery) -> None:
    opener, acceptor, hub, id_, told = await settled_pair(nursery)
    hub.chain.down = True
    cheat = await Cheat.at(hub, nursery)
    node = announcing.node_of(Timestamp(NOW), ("127.0.0.1:1",), "acceptor", acceptor.key)
    await cheat.say(told, update(opener, id_, Side.A), update(acceptor, id_, Side.B), node)
    await until(lambda: hub.chain.asked)
    assert id_ not in hub.graph
    hub.chain.down = False
    await until(lambda: hub.knows(id_) and acceptor.key.public in hub.gossip.known.nodes)
    assert cheat.count(wire.ChannelAnnouncement) == 0  # never back to whoever told it
    assert cheat.count(wire.Warning) == 0


@pytest.mark.parametrize(
    "name",
    ["node_signature_a", "node_signature_b", "participant_signature_a", "participant_signature_b"],
)
async def test_a_channel_with_a_tampered_signature_is_refused(nursery: trio.Nursery, name: str) -> None:
    _, _, hub, id_, told = await settled_pair(nursery)
    cheat = await Cheat.at(hub, nursery)
    signature = bytearray(getattr(told, name))
    signature[5] ^= 1
    tampered: dict[str, Any] = {name: bytes(signature)}
    await cheat.say(replace(told, **tampered))
    await until(lambda: cheat.count(wire.Warning))
    assert id_ not in hub.graph and not hub.chain.asked
    await cheat.say(told)  # the true one is not blocked by the false one
    await until(lambda: id_ in hub.graph)


async def test_a_policy_that_its_node_did_not_sign_or_that_is_old_is_refused(nursery: trio.Nursery) -> None:
    opener, acceptor, hub, id_, told = await settled_pair(nursery)
    cheat = await Cheat.at(hub, nursery)
    await cheat.say(told, update(opener, id_, Side.A, NOW))
    await until(lambda: hub.graph.policy(id_, Side.A))
    await cheat.say(update(acceptor, id_, Side.A, NOW + 1))
    await until(lambda: cheat.count(wire.Warning) == 1)
    await cheat.say(replace(update(opener, id_, Side.A, NOW + 1), fee_ppm=1))
    await until(lambda: cheat.count(wire.Warning) == 2)
    await cheat.say(update(opener, id_, Side.A, NOW, fee_ppm=5), update(opener, id_, Side.A, NOW - 1, fee_ppm=5))
    await cheat.say(update(acceptor, id_, Side.B, NOW))
    await until(lambda: hub.graph.policy(id_, Side.B))
    assert hub.graph.policy(id_, Side.A) == replace(opener.policy, timestamp=NOW)
    assert cheat.count(wire.Warning) == 2  # old news is no crime


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(EMPTY, id="nobody paid in"),
        pytest.param(replace(OPEN_WORD, deadline=Timestamp(5)), id="closing"),
        pytest.param(replace(OPEN_WORD, flags=32), id="dead"),
    ],
)
async def test_a_channel_that_the_chain_does_not_show_open_is_refused(nursery: trio.Nursery, word: ChannelWord) -> None:
    opener, _, hub, id_, told = await settled_pair(nursery)
    hub.chain.words[id_] = word
    cheat = await Cheat.at(hub, nursery)
    await cheat.say(told, update(opener, id_, Side.A))
    await until(lambda: hub.chain.asked and not len(hub.gossip.lookups))
    assert id_ not in hub.graph
    asked = len(hub.chain.asked)
    await cheat.say(told, told)
    await trio.sleep(0.1)
    assert len(hub.chain.asked) == asked  # not looked up again soon
    assert cheat.count(wire.Warning) == (word is EMPTY)


async def test_a_deposit_that_our_rpc_shows_a_little_later_counts(nursery: trio.Nursery) -> None:
    _, _, hub, id_, told = await settled_pair(nursery)
    hub.chain.words.clear()
    cheat = await Cheat.at(hub, nursery)
    await cheat.say(told)
    await until(lambda: hub.chain.asked)
    hub.chain.words[id_] = OPEN_WORD
    await until(lambda: id_ in hub.graph)


async def test_gossip_of_another_contract_or_of_strangers_is_refused(nursery: trio.Nursery) -> None:
    opener, _, hub, id_, told = await settled_pair(nursery)
    cheat = await Cheat.at(hub, nursery)
    await cheat.say(replace(told, manager=Address(b"\1" * 20)))
    await until(lambda: cheat.count(wire.Warning) == 1)
    stranger = Key(sha256(b"stranger"))
    await cheat.say(announcing.node_of(Timestamp(NOW), (), "stranger", stranger))
    half = announcing.half(opener.book.actors[id_].channel, opener.key, opener.account)
    await cheat.say(half)
    await until(lambda: cheat.count(wire.Warning) == 2)
    assert not hub.gossip.known.nodes and not hub.chain.asked


@pytest.mark.parametrize("what", ["terms", "policy", "many"])
async def test_a_peer_that_talks_garbage_is_cut_off(nursery: trio.Nursery, what: str) -> None:
    opener, _, hub, id_, told = await settled_pair(nursery)
    cheat = await Cheat.at(hub, nursery)
    if what == "terms":
        await cheat.say(replace(told, terms=b"\xff" * 256))
    elif what == "policy":
        await cheat.say(replace(update(opener, id_, Side.A), fee_ppm=2_000_000))
    else:
        await cheat.say(
            *[replace(told, node_signature_a=Signature(bytes(65))) for _ in range(gossip.FAULT_RATE.burst + 1)]
        )
    await until(lambda: cheat.cut)
    await until(lambda: hub.lines.of(CHEAT.public) is None)


async def test_a_false_half_announces_nothing(nursery: trio.Nursery) -> None:
    opener, hub = await started(nursery, "opener", "hub")
    id_ = channel_between(opener, hub)
    opened(id_, hub)
    opener.account = CHEAT
    cheated = announcing.half(opener.book.actors[id_].channel, opener.key, opener.account)
    await opener.connect(hub)
    line = opener.lines.of(hub.key.public)
    assert line is not None
    line.send([cheated])
    await trio.sleep(0.2)
    assert id_ not in hub.graph


async def test_a_flood_of_queries_is_not_answered(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    opener, acceptor, hub, id_, told = await settled_pair(nursery)
    teller = await Cheat.at(hub, nursery)
    await teller.say(told, update(opener, id_, Side.A), update(acceptor, id_, Side.B))
    await until(lambda: hub.knows(id_))
    async with hub.gossip._answering._turn:
        await teller.say(*[wire.GossipQuery(kind=pages.CHANNELS) for _ in range(50)], wire.Ping())
        await until(lambda: teller.count(wire.Pong))
    await until(lambda: teller.got)
    await trio.sleep(0.1)
    assert len(teller.got) == 1  # the others came before that was answered
    monkeypatch.setattr(hub.gossip._answering, "_asked", Spam(Rate(burst=3, every=Seconds(60))))
    for _ in range(3):
        await teller.ask(pages.CHANNELS)
    teller.heard.clear()
    await teller.say(wire.GossipQuery(kind=pages.CHANNELS), wire.Ping())
    await until(lambda: teller.count(wire.Pong))
    await trio.sleep(0.1)
    assert not teller.got


async def test_who_has_a_place_at_the_door_whatever_strangers_do(nursery):
    """Money in a channel, or a channel that we began; not one that a stranger has only spoken of."""
    hub, opener = (Node(role, ChainTable(), nursery) for role in ("hub", "opener"))
    peer = opener.key.public
    assert not hub.lines.has_channel(peer)
    id_ = channel_between(opener, hub)
    hub.book.actors[id_].channel = replace(
        hub.book.actors[id_].channel, phase=Phase.OPENING, told=(Amount(0), Amount(0))
    )
    assert not hub.lines.has_channel(peer)
    assert opener.lines.has_channel(hub.key.public)
    for changes, has in (
        ({"told": (DEPOSIT, Amount(0))}, True),
        ({"phase": Phase.OPEN}, True),
        ({"phase": Phase.CLOSED}, False),
    ):
        hub.book.actors[id_].channel = replace(hub.book.actors[id_].channel, **changes)
        assert hub.lines.has_channel(peer) is has
    assert not hub.lines.has_channel(CHEAT.public)
