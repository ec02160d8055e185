"""Our watchtowers: which they are, what they hold, and how much a theft could cost us while they lag behind.

A tower gets one link per channel (`tower_link`), each with a key and a connection of its own, so that the tower cannot
tell that two channels are ours. Towers are told of a state at once when there is something to lose (`exposure`), else
within ten minutes: a node that only pays uploads seldom. The first tower may answer a close at once, each further one a
quarter of the challenge period later, so that they do not pay for the same challenge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import Malformed, PeerFault, Refused, Unreachable
from channeld.base.keys import Key
from channeld.base.pack import pack, unpack
from channeld.base.units import Address, ChannelId, NodeId, Seconds, Timestamp, Version, short
from channeld.core.channel import Channel, Phase
from channeld.node.exposure import History
from channeld.node.ledger import Book
from channeld.node.tower_call import TowerCall
from channeld.node.tower_link import FIRST_DELAY, LONGEST_DELAY, Kit, Link, guards, something_to_lose
from channeld.node.tower_recall import ASK_WITHIN, Recall
from channeld.node.world import World
from channeld.peers.net import Net, Tcp
from channeld.storage.store import Batch, Store
from channeld.wire.address import HostPort, NodeAddress, node_address
from channeld.wire.messages import TowerError, TowerInfo, TowerInfoRequest

log = logging.getLogger(__name__)
Times = list[Timestamp]
FORM: Final = 1
SWEEP: Final = 5.0
"""Seconds between looks at what no turn tells: receipts that run out, preimages that came in quietly."""
INFO_EVERY: Final = 6 * 3_600.0
FORGET_WITHIN: Final = 600.0
GOODBYE: Final = 10.0
"""Seconds for which `remove` waits for a tower to forget us; after that it goes on in the background."""


@dataclass(eq=False, slots=True, kw_only=True)
class Tower:
    """A tower of ours. `payout`: where its reward goes, None until it has told us."""

    address: NodeAddress
    turn: int
    """Its place in the order of answering, from 0."""
    payout: Address | None = None
    max_validity: Seconds = Seconds(0)
    min_period: Seconds = Seconds(0)
    removed: bool = False
    """It is only asked to forget us."""
    reachable: bool = False
    error: str | None = None
    last_receipt_at: Timestamp | None = None
    links: dict[ChannelId, Link] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of the task that keeps its terms up to date."""

    @property
    def node(self) -> NodeId:
        return self.address.node


class Towers:
    """See the file's head. `forget_within`: seconds after its end in which a channel is deleted at the towers."""

    def __init__(
        self,
        *,
        book: Book,
        store: Store,
        world: World,
        domain: Domain,
        account_key: Key,
        randomness: Callable[[int], bytes],
        nursery: trio.Nursery,
        net: Net | None = None,
        forget_within: float = FORGET_WITHIN,
        ask_within: float = ASK_WITHIN,
    ) -> None:
        self._book, self._store, self._world, self._domain = book, store, world, domain
        self._key, self._nursery = account_key, nursery
        self._towers: dict[NodeId, Tower] = {}
        self._histories: dict[ChannelId, History] = {}
        self._seen: dict[ChannelId, Channel] = {}
        self._news = trio.Event()
        self._kit = Kit(
            book=book,
            store=store,
            world=world,
            domain=domain,
            account_key=account_key,
            net=net or Tcp(),
            randomness=randomness,
            forget_within=forget_within,
            news=self._ring,
            backup_key=account_key.derive_bytes("tower/backup"),
        )
        self._recall = Recall(self._kit, self._towers, nursery, ask_within)
        self.asked = self._kit.asked
        """Set when every tower has said what it holds of our channels, or has had `ask_within` seconds to."""

    # -- which

    def load(self) -> None:
        """The towers we know, and a task for each; then the channels as they are."""
        for node, host, port, saved in self._store.rows("SELECT node, host, port, saved FROM towers ORDER BY rowid"):
            form, payout, min_period, max_validity, removed = unpack(saved)
            if form != FORM:
                raise Malformed(f"a tower saved in form {form}, this program reads {FORM}")
            tower = Tower(
                address=NodeAddress(node=node, at=HostPort(host=host, port=port)),
                turn=len(self._towers),
                payout=payout,
                min_period=min_period,
                max_validity=max_validity,
                removed=removed,
            )
            self._towers[node] = tower
            self._start(tower)
        self._nursery.start_soon(self._sweep)
        self._nursery.start_soon(self._recall.ask_all)

    def add_later(self, address: NodeAddress | str) -> None:
        """Use a tower from the settings, as soon as it can be reached; one that is known is only looked for there."""
        address = node_address(address) if isinstance(address, str) else address
        known = self._towers.get(address.node)
        if known is None:
            self._towers[address.node] = tower = Tower(address=address, turn=len(self._towers))
            self._start(tower)
        else:
            known.address = address
            self._take_back(known)
            self._again(known)

    async def add(self, address: NodeAddress | str) -> dict[str, Any]:
        """Let a tower guard our channels from now on; its `TOWER_INFO`.

        Raises:
            Refused: `unreachable`; `peer_refused` if it watches another chain or contract, or is no tower.
        """
        address = node_address(address) if isinstance(address, str) else address
        info = await self._ask_info(address)
        tower = self._towers.get(address.node)
        if tower is None:
            tower = self._towers[address.node] = Tower(address=address, turn=len(self._towers))
            await self._accept(tower, info)
            self._start(tower, asked=True)
        else:
            tower.address = address
            await self._accept(tower, info)
            self._again(tower, asked=True)
        return self._info(tower)

    async def remove(self, node: NodeId) -> None:
        """Upload nothing more to a tower and ask it to forget us. Refused: `unknown_tower`."""
        tower = self._towers.get(node)
        if tower is None or tower.removed:
            raise Refused("unknown_tower", f"no tower of ours is {node.hex()}", "channeld tower list")
        tower.removed = True
        await self._save(tower)
        for link in tower.links.values():
            link.state.forget = True
            link.hurry()
        with trio.move_on_after(GOODBYE):
            for link in list(tower.links.values()):
                await link.ended.wait()
        await self._let_go(tower)
        self._ring()

    # -- what happens

    def changed(self, channel: Channel) -> None:
        """A turn of this channel was saved. Costs next to nothing when nothing follows."""
        if not self._towers:
            return
        before = self._seen.get(channel.id)
        if (
            before is not None
            and before.current is channel.current
            and before.outstanding is channel.outstanding
            and before.claims is channel.claims
            and before.phase is channel.phase
            and before.reserved == channel.reserved
        ):
            return
        self._seen[channel.id] = channel
        self._look(channel)

    def forgotten(self, channel: ChannelId) -> None:
        """It had no state to guard, and is no more."""
        self._seen.pop(channel, None)
        self._histories.pop(channel, None)

    def _look(self, channel: Channel) -> None:
        history = self._histories.get(channel.id)
        if history is None:
            history = self._histories[channel.id] = History(channel)
        else:
            history.note(channel)
        for tower in self._towers.values():
            link = tower.links.get(channel.id) or self._link(tower, channel, history)
            if link is None:
                continue
            link.watch()
            if link.state.pending is None and (channel.phase is Phase.CLOSED or link.due(channel)):
                link.ring()
        if channel.phase is Phase.CLOSED:
            del self._histories[channel.id]

    def _link(self, tower: Tower, channel: Channel, history: History) -> Link | None:
        """The link a channel needs with a tower: to guard it, or to have the tower forget it."""
        over = tower.removed or channel.phase is Phase.CLOSED
        if not over and not (guards(channel) and tower.payout is not None):
            return None
        link = Link(tower, channel, history, self._kit)
        link.state.forget = tower.removed or (link.state.forget and channel.phase is Phase.CLOSED)
        if over and not (link.state.held or link.state.pending or link.state.revealed):
            return None
        tower.links[channel.id] = link
        self._nursery.start_soon(self._run, tower, link)
        self._ring()
        return link

    async def _run(self, tower: Tower, link: Link) -> None:
        await link.run()
        if tower.links.get(link.id) is link:
            del tower.links[link.id]
        await self._let_go(tower)

    async def _sweep(self) -> None:
        while True:
            self._look_at_all()
            await trio.sleep(SWEEP)

    def _look_at_all(self) -> None:
        if not self._towers:
            return
        for actor in list(self._book.actors.values()):
            self.changed(actor.channel)
        for tower in self._towers.values():
            for link in tower.links.values():
                channel = link.channel
                if channel is not None and link.state.pending is None and not link.state.forget and link.due(channel):
                    link.ring()

    def _ring(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # -- how well

    def is_covered(self, channel_id: ChannelId) -> bool:
        """Whether some tower's valid receipt leaves nothing of this channel at stake."""
        return self.guards(channel_id) > 0

    def guards(self, channel_id: ChannelId) -> int:
        """How many towers hold a valid receipt that leaves nothing of this channel at stake."""
        channel = self._channel(channel_id)
        return 0 if channel is None else sum(link.covers(channel) for link in self._links(channel_id))

    async def covered(self, channel_id: ChannelId, version: Version, timeout: float, *, receipts: int = 1) -> bool:
        """Wait until so many towers hold `version` of the channel, or a newer one, by valid receipts.

        False after `timeout` seconds. Has it uploaded even if nothing is at stake.
        """
        with trio.move_on_after(timeout):
            while True:
                news, count = self._news, 0
                for link in self._links(channel_id):
                    if (
                        link.state.held is not None
                        and link.state.held.version >= version
                        and link.valid()
                        and not link.state.revealed
                    ):
                        count += 1
                    elif link.wanted < version:
                        link.wanted = version
                        link.ring()
                if count >= receipts:
                    return True
                await news.wait()
        return False

    def list(self) -> Sequence[dict[str, Any]]:
        """A `TOWER_INFO` for each tower."""
        return [self._info(tower) for tower in self._towers.values() if not tower.removed]

    def status(self, receipts: int = 1) -> dict[str, Any]:
        """A `TowerCover`. `receipts`: valid ones that a guarded channel has."""
        channels = guarded = risk = 0
        since: Times = []
        for actor in self._book.actors.values():
            channel = actor.channel
            if not something_to_lose(channel):
                continue
            channels += 1
            links = list(self._links(channel.id))
            if sum(link.covers(channel) for link in links) >= max(1, receipts):
                guarded += 1
                continue
            risks = [link.risk(channel) for link in links] or [int(channel.balance)]
            risk += min(risks)
            if min(risks):
                since += [link.state.since for link in links if link.state.since is not None]
        return {
            "role": "node",
            "towers": self.list(),
            "channels": channels,
            "guarded": guarded,
            "value_at_risk": str(risk),
            "at_risk_since": min(since, default=None),
        }

    def at_risk(self, channel_id: ChannelId) -> tuple[int, Timestamp | None]:
        """What a theft could cost us in this channel now, with the best of our towers, and since when (if any)."""
        channel = self._channel(channel_id)
        if channel is None or not something_to_lose(channel):
            return 0, None
        links = list(self._links(channel_id))
        if not links:
            return int(channel.balance), None
        best = min(links, key=lambda link: link.risk(channel))
        risk = best.risk(channel)
        return risk, best.state.since if risk else None

    def _info(self, tower: Tower) -> dict[str, Any]:
        channels = behind = risk = 0
        since: Times = []
        error = tower.error
        for actor in self._book.actors.values():
            channel = actor.channel
            if not guards(channel):
                continue
            link = tower.links.get(channel.id)
            if link is not None and link.covers(channel):
                channels += 1
                continue
            behind += 1
            risk += int(channel.balance) if link is None else link.risk(channel)
            if link is not None:
                error = error or link.error
                since += [] if link.state.since is None else [link.state.since]
        return {
            "node_id": f"0x{tower.node.hex()}",
            "address": str(tower.address.at),
            "reachable": tower.reachable,
            "channels": channels,
            "behind": behind,
            "value_at_risk": str(risk),
            "at_risk_since": min(since, default=None),
            "last_receipt_at": tower.last_receipt_at,
            "error": None if error is None else error[:512],
        }

    def _channel(self, channel_id: ChannelId) -> Channel | None:
        actor = self._book.actors.get(channel_id)
        return None if actor is None else actor.channel

    def _links(self, channel_id: ChannelId) -> Iterator[Link]:
        for tower in self._towers.values():
            link = tower.links.get(channel_id)
            if link is not None and not tower.removed:
                yield link

    # -- its terms

    def _start(self, tower: Tower, *, asked: bool = False) -> None:
        self._nursery.start_soon(self._keep, tower, asked)
        self._look_at_channels()
        if tower.removed:
            self._nursery.start_soon(self._let_go, tower)

    def _look_at_channels(self) -> None:
        """Give every channel the links it needs."""
        for actor in list(self._book.actors.values()):
            self._seen[actor.channel.id] = actor.channel
            self._look(actor.channel)

    def _again(self, tower: Tower, *, asked: bool = False) -> None:
        tower.scope.cancel()
        self._start(tower, asked=asked)
        for link in tower.links.values():
            link.hurry()

    @staticmethod
    def _take_back(tower: Tower) -> None:
        """It was to forget us; now it is to guard us again."""
        if tower.removed:
            tower.removed = False
            for link in tower.links.values():
                link.state.forget = False

    async def _keep(self, tower: Tower, asked: bool) -> None:
        """Ask for the tower's terms until it answers, and now and then again; at once unless it was just `asked`."""
        with trio.CancelScope() as tower.scope:
            delay = FIRST_DELAY
            if asked:
                await trio.sleep(INFO_EVERY)
            while not tower.removed:
                try:
                    info = await self._ask_info(tower.address)
                    await self._accept(tower, info)
                    self._look_at_channels()
                    delay = INFO_EVERY
                except Refused as fault:
                    if tower.error != fault.text:
                        log.warning("tower=%s %s", short(tower.node[1:]), fault.text)
                    tower.error, tower.reachable = fault.text, False
                    delay = FIRST_DELAY if delay == INFO_EVERY else min(delay * 2, LONGEST_DELAY)
                await trio.sleep(delay * (0.75 + self._kit.chance() / 2))

    async def _ask_info(self, address: NodeAddress) -> TowerInfo:
        key = self._key.derive(f"tower/{address.node.hex()}/info")
        hint = "is the address right and the tower running?"
        call = TowerCall(lambda: address, key, self._kit.net)
        try:
            answer = await call.ask(TowerInfoRequest())
        except (Unreachable, PeerFault) as fault:
            raise Refused("unreachable", f"tower {address.at}: {fault}", hint) from fault
        finally:
            await call.hang_up()
        if isinstance(answer, TowerError):
            raise Refused("peer_refused", f"the tower refuses: {answer.code}: {answer.text}")
        if not isinstance(answer, TowerInfo):
            raise Refused("peer_refused", f"{address.at} does not talk like a tower", "is it the port of a node?")
        if (answer.chain_id, answer.manager) != (self._domain.chain_id, self._domain.manager):
            text = f"the tower watches chain {answer.chain_id}, contract 0x{answer.manager.hex()}"
            raise Refused("peer_refused", text, "it must watch the chain and the contract we use")
        return answer

    async def _accept(self, tower: Tower, info: TowerInfo) -> None:
        for link in tower.links.values():
            link.stale = link.stale or tower.payout != info.payout
        tower.payout, tower.min_period, tower.max_validity = info.payout, info.min_period, info.max_validity
        tower.reachable, tower.error = True, None
        self._take_back(tower)
        await self._save(tower)

    async def _save(self, tower: Tower) -> None:
        saved = pack([FORM, tower.payout, tower.min_period, tower.max_validity, tower.removed])
        batch = Batch()
        batch.add(
            "INSERT INTO towers VALUES (?, ?, ?, ?) ON CONFLICT (node) DO UPDATE "
            "SET host = excluded.host, port = excluded.port, saved = excluded.saved",
            *(tower.node, tower.address.at.host, tower.address.at.port, saved),
        )
        await self._store.commit(batch)

    async def _let_go(self, tower: Tower) -> None:
        """A removed tower without links is no tower of ours."""
        if not tower.removed or tower.links or self._towers.get(tower.node) is not tower:
            return
        del self._towers[tower.node]
        tower.scope.cancel()
        for turn, left in enumerate(self._towers.values()):
            left.turn = turn
        batch = Batch()
        batch.add("DELETE FROM towers WHERE node = ?", tower.node)
        await self._store.commit(batch)
