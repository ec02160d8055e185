"""What the node does for whoever speaks to its socket. Answers have the shapes of the socket's schema.

Every call that moves money is safe to repeat: a payment is one per payment hash, a direct transfer one per id, and
under an idempotency key a call is done once and answered the same each time after.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from channeld import __version__
from channeld.base.digests import Domain
from channeld.base.errors import Refused
from channeld.base.keys import Key
from channeld.base.units import NATIVE, Address, Amount, ChannelId, LockKey, NodeId, Preimage, Seconds
from channeld.core.channel import Phase
from channeld.core.events import CloseAlone, Leave
from channeld.node import learning, shown
from channeld.node.asked import Asked
from channeld.node.config import Config
from channeld.node.forwarding import Desk
from channeld.node.gossip import Gossip
from channeld.node.guard import Guard
from channeld.node.invoices import Invoices
from channeld.node.journal import Journal
from channeld.node.keysend import Keysends
from channeld.node.ledger import Book
from channeld.node.lines import Lines
from channeld.node.loop import Actor
from channeld.node.opening import Openings
from channeld.node.payment_row import Circle
from channeld.node.payments import Payments
from channeld.node.rebalancing import Rebalancing
from channeld.node.reserve import Reserve
from channeld.node.shown import Json, hexed
from channeld.node.towers import Towers
from channeld.node.transfers import Transfers
from channeld.node.world import World
from channeld.storage.store import Batch, Store
from channeld.wire.address import HostPort, node_address
from routing.splitting import Ask

COOP_VALID: Final = 600
"""Seconds of chain time for which an offer to close together stands."""
EVENT_WAIT: Final = 30.0


@dataclass(kw_only=True)
class Service:
    """The node behind its socket."""

    config: Config
    book: Book
    store: Store
    world: World
    lines: Lines
    openings: Openings
    payments: Payments
    desk: Desk
    guard: Guard
    reserve: Reserve
    gossip: Gossip
    towers: Towers
    account_key: Key
    node_key: Key
    domain: Domain
    randomness: Callable[[int], bytes]
    listen: HostPort
    stop_: trio.Event
    asked: Asked = field(init=False)
    invoices: Invoices = field(init=False)
    transfers: Transfers = field(init=False)
    keysends: Keysends = field(init=False)
    rebalancing: Rebalancing = field(init=False)
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.asked = Asked(self.store)
        self.transfers = Transfers(self.store, self.world, self.book, self.randomness)
        self.keysends = Keysends(self.payments, self.world, self.asked, domain=self.domain, randomness=self.randomness)
        self.rebalancing = Rebalancing(
            self.payments,
            self.book,
            self.world,
            self.asked,
            node_key=self.node_key,
            domain=self.domain,
            randomness=self.randomness,
        )
        self.invoices = Invoices(
            self.store,
            self.world,
            self.book,
            self.asked,
            config=self.config,
            gossip=self.gossip,
            towers=self.towers,
            settle_by=lambda hash_: self.desk.holding.settle_by(hash_),
            node_key=self.node_key,
            domain=self.domain,
            randomness=self.randomness,
        )
        self.journal = Journal(
            self.store, self.book, self.payments, self.invoices, config=self.config, node_key=self.node_key
        )

    # -- who we are

    async def get_info(self) -> Json:
        network, world = self.config.network, self.world
        states: dict[str, int] = {}
        for actor in self.book.actors.values():
            name = shown.state(actor.channel)
            states[name] = states.get(name, 0) + 1
        at = [HostPort(host=host, port=port) for host, port in self.config.announce] or [self.listen]
        chain_head = world.head
        if chain_head is None:
            raise Refused("safe_mode", "the chain has not been read yet")
        return {
            "role": "node",
            "version": __version__,
            "node_id": hexed(self.node_key.public),
            "alias": self.config.alias,
            "address": hexed(self.account_key.address),
            "network": network.id,
            "chain_id": network.chain_id,
            "manager": hexed(self.config.manager),
            "registry": hexed(self.config.registry),
            "listen": str(self.listen),
            "uris": [f"{self.node_key.public.hex()}@{place}" for place in at],
            "socket": str(self.config.socket),
            "head": shown.head(chain_head, int(world.clock())),
            "safe_mode": world.safe_mode,
            "gas_short": self.reserve.short,
            "tokens": [
                {"symbol": token.symbol, "token": hexed(token.address), "decimals": token.decimals}
                for token in network.tokens
            ],
            "peers": sum(1 for _ in self.lines),
            "channels": states,
            "graph": self.gossip.extent(),
        }

    async def get_balance(self) -> Json:
        tokens = [NATIVE, *(token.address for token in self.config.network.tokens)]
        for actor in self.book.actors.values():
            if actor.channel.token not in tokens:
                tokens.append(actor.channel.token)
        return {"balances": [await self._balance(token) for token in tokens]}

    async def _balance(self, token: Address) -> Json:
        chain, us = self.guard.chain, self.account_key.address
        spendable = pending = receivable = 0
        for actor in self.book.actors.values():
            channel = actor.channel
            if channel.token != token or channel.phase is Phase.CLOSED:
                continue
            pending += channel.current.body.locked(channel.we)
            if channel.phase is Phase.OPEN and channel.coop is None:
                spendable += channel.balance
                receivable += channel.peer_balance
            else:
                pending += max(channel.balance, 0)
        return {
            "token": hexed(token),
            "symbol": shown.symbol(self.config.network, token),
            "decimals": shown.decimals(self.config.network, token),
            "wallet": str(await chain.balance(us, token)),
            "spendable": str(spendable),
            "pending": str(pending),
            "receivable": str(receivable),
            "owed": str(await chain.owed(token, us)),
        }

    async def stop(self) -> Json:
        self.stop_.set()
        return {"stopping": True}

    # -- peers

    async def connect_peer(self, *, uri: str) -> Json:
        address = node_address(uri.removeprefix("0x"))
        line = await self.lines.connect(address)
        batch = Batch()
        batch.add(
            "INSERT INTO peers VALUES (?, ?, ?) ON CONFLICT (node) DO UPDATE SET host = excluded.host, "
            "port = excluded.port",
            *(address.node, address.at.host, address.at.port),
        )
        await self.store.commit(batch)
        return {"node_id": hexed(line.peer), "address": str(address.at), "connected": True}

    async def list_peers(self) -> Json:
        channels: dict[NodeId, int] = {}
        for actor in self.book.actors.values():
            if actor.channel.phase is not Phase.CLOSED:
                channels[actor.channel.peer] = channels.get(actor.channel.peer, 0) + 1
        nodes = {line.peer for line in self.lines} | set(channels)
        peers = []
        for node in sorted(nodes):
            line, at = self.lines.of(node), self.lines.addresses.get(node)
            peers.append(
                {
                    "node_id": hexed(node),
                    "address": str(at) if at else "",
                    "connected": line is not None,
                    "inbound": line is not None and line.inbound,
                    "alias": "",
                    "channels": channels.get(node, 0),
                },
            )
        return {"peers": peers}

    # -- channels

    async def open_channel(
        self,
        *,
        peer: str,
        token: str,
        amount: int,
        peer_amount: int,
        challenge_period: int | None,
        public: bool,
        idempotency_key: str | None,
    ) -> Json:
        async with self.asked.once(idempotency_key):
            request = ["open", peer, token, str(amount), str(peer_amount), challenge_period, public]
            if (answer := self.asked.answered(idempotency_key, request)) is not None:
                return answer
            text = peer.removeprefix("0x")
            if "@" in text:
                await self.connect_peer(uri=text)
            node = NodeId(bytes.fromhex(text[:66]))
            coin = self.config.network.token(token)
            await self._must_afford(coin, amount)

            def answer_of(channel: ChannelId) -> Json:
                return {"channel_id": hexed(channel), "peer": hexed(node), "state": "opening", "open_tx": None}

            channel = await self.openings.open(
                node,
                token=coin,
                amount=Amount(amount),
                peer_amount=Amount(peer_amount),
                challenge_period=None if challenge_period is None else Seconds(challenge_period),
                public=public,
                claim=lambda channel: self.asked.claim(idempotency_key, request, answer_of(channel), lasts=True),
            )
            return answer_of(channel)

    async def _must_afford(self, token: Address, amount: int) -> None:
        """The deposit, and gas and bonds to end this channel and all others."""
        chain, us = self.guard.chain, self.account_key.address
        native = await chain.balance(us)
        if token != NATIVE and await chain.balance(us, token) < amount:
            text = f"the account {hexed(us)} holds less than {amount} of the token"
            raise Refused("insufficient_funds", text, "send it some, or deposit less; channeld balance")
        if native < (amount if token == NATIVE else 0):
            text = f"the account {hexed(us)} holds {native} wei, less than {amount}"
            raise Refused("insufficient_funds", text, "send it some, or deposit less; channeld balance")
        await self.reserve.look()
        self.reserve.must_hold(self.openings.promised + (amount if token == NATIVE else 0), strangers=False)

    async def list_channels(self, *, channel_id: bytes | None, closed: bool) -> Json:
        if channel_id is not None:
            return {"channels": [self._channel(self._actor(channel_id))]}
        actors = [a for a in self.book.actors.values() if closed or a.channel.phase is not Phase.CLOSED]
        return {"channels": [self._channel(actor) for actor in actors]}

    def _channel(self, actor: Actor) -> Json:
        rows = self.store.rows("SELECT name, value FROM facts WHERE channel = ?", actor.channel.id)
        return shown.channel_of(actor.channel, self.config.network, dict(rows))

    def _actor(self, channel_id: bytes) -> Actor:
        actor = self.book.actors.get(ChannelId(channel_id))
        if actor is None:
            raise Refused("unknown_channel", f"no channel of ours is {hexed(channel_id)}", "channeld channels")
        return actor

    async def close_channel(self, *, channel_id: bytes, force: bool, timeout: int) -> Json:
        actor = self._actor(channel_id)
        if actor.channel.phase is Phase.CLOSED:
            raise Refused("channel_not_open", "the channel is closed already")
        if not force and actor.channel.phase in (Phase.OPENING, Phase.OPEN, Phase.FROZEN):
            with trio.move_on_after(timeout):
                while not self._together(actor):
                    draw = int.from_bytes(self.randomness(8), "big")
                    await actor.ask(Leave(now=self.world.chain_time, valid_for=COOP_VALID, draw=draw))
                    await trio.sleep(0.2)
        if not self._together(actor) or (force and actor.channel.coop is not None):
            await actor.ask(CloseAlone())  # a live cooperate may never be executed: the wish outlives it
        told = self._channel(actor)
        return {
            "channel_id": hexed(channel_id),
            "state": told["state"] if told["state"] in ("closing", "closed") else "closing",
            "how": "cooperative" if self._together(actor) else "unilateral",
            "close_tx": told["close_tx"],
            "deadline": told["deadline"],
        }

    @staticmethod
    def _together(actor: Actor) -> bool:
        channel = actor.channel
        return channel.onchain is None and (channel.coop is not None or channel.phase is Phase.CLOSED)

    # -- invoices

    async def make_invoice(
        self,
        *,
        token: str,
        amount: int | None,
        description: str,
        expiry: int,
        idempotency_key: str | None,
        payment_hash: bytes | None = None,
        hold_time: int | None = None,
    ) -> Json:
        return await self.invoices.make(
            token=token,
            amount=amount,
            description=description,
            expiry=expiry,
            payment_hash=None if payment_hash is None else LockKey(payment_hash),
            hold_time=hold_time,
            idempotency_key=idempotency_key,
        )

    async def settle_invoice(self, *, preimage: bytes) -> Json:
        return self.invoices.lookup(await self.desk.holding.settle(Preimage(preimage)))

    async def cancel_invoice(self, *, payment_hash: bytes) -> Json:
        await self.desk.cancel(LockKey(payment_hash))
        return self.invoices.lookup(payment_hash)

    async def lookup_invoice(self, *, payment_hash: bytes) -> Json:
        return self.invoices.lookup(payment_hash)

    async def list_invoices(self, *, limit: int, cursor: str | None) -> Json:
        return self.invoices.list(limit=limit, cursor=cursor)

    async def decode_invoice(self, *, invoice: str) -> Json:
        asked = self.payments.read(invoice)
        return shown.invoice_of(asked, invoice, self.config.network, now=self.world.now)

    def _budget(self, pays: int | None, max_fee: int | None) -> int | None:
        """What the hops may take, if anything can be said of it."""
        if max_fee is not None or pays is None:
            return max_fee
        return pays * self.config.max_fee_ppm // 1_000_000 + self.config.max_fee_base

    async def find_route(self, *, invoice: str, amount: int | None, max_fee: int | None) -> Json:
        asked = self.payments.read(invoice)
        budget = self._budget(asked.amount if asked.amount is not None else amount, max_fee)
        routes, chance = self.payments.plan(
            invoice,
            None if amount is None else Amount(amount),
            None if budget is None else Amount(budget),
        )
        return shown.plan_of(routes, chance)

    async def estimate(self, *, node_id: bytes, token: str, amount: int, max_fee: int | None) -> Json:
        return shown.plan_of(*self.payments.ways.plan(self._to_node(node_id, token, amount, max_fee)))

    async def probe(self, *, node_id: bytes, token: str, amount: int, max_fee: int | None) -> Json:
        if not self.config.probing:
            raise Refused("probing_off", "this node sends no probes", "payments.probing = true allows them")
        return shown.probe_of(await self.payments.probing.probe(self._to_node(node_id, token, amount, max_fee)))

    def _to_node(self, node_id: bytes, token: str, amount: int, max_fee: int | None) -> Ask:
        """A question about a payment to a node that has made no invoice."""
        if node_id == self.node_key.public:
            raise Refused(
                "payee_own", "the payee is this node itself", "channeld rebalance pays from channel to channel"
            )
        network, budget = self.config.network, self._budget(amount, max_fee)
        return self.payments.ways.ask(
            NodeId(node_id),
            network.token(token),
            Amount(amount),
            Amount(budget or 0),
            final_delta=network.final_delta,
        )

    # -- payments

    async def pay_invoice(
        self, *, invoice: str, amount: int | None, max_fee: int | None, timeout: int, idempotency_key: str | None
    ) -> Json:
        asked = self.payments.read(invoice)
        request = ["pay", invoice, None if amount is None else str(amount)]
        budget = self._budget(asked.amount if asked.amount is not None else amount, max_fee)
        async with self.asked.once(idempotency_key):
            told = self.asked.answered(idempotency_key, request)
            if told is not None:
                found = self.payments.find(asked.payment_hash)
                if found is not None and found.state == "failed":
                    raise Refused(found.code or "payment_failed", found.text, "a new key tries again; nothing was paid")
            done = await self.payments.pay(
                invoice,
                None if amount is None else Amount(amount),
                None if budget is None else Amount(budget),
                timeout,
                again=told is not None,
                claim=self.asked.claim(idempotency_key, request, {}) if told is None else None,
            )
        return shown.payment_of(done, self.config.network, asked.description)

    async def pay_keysend(
        self,
        *,
        node_id: bytes,
        token: str,
        amount: int,
        max_fee: int | None,
        timeout: int,
        idempotency_key: str | None,
    ) -> Json:
        coin, budget = self.config.network.token(token), Amount(self._budget(amount, max_fee) or 0)
        done = await self.keysends.pay(NodeId(node_id), coin, Amount(amount), budget, timeout, idempotency_key)
        return shown.payment_of(done, self.config.network, "")

    async def rebalance(
        self,
        *,
        from_channel: bytes,
        to_channel: bytes,
        amount: int,
        max_fee: int | None,
        timeout: int,
        idempotency_key: str | None,
    ) -> Json:
        out, into = ChannelId(from_channel), ChannelId(to_channel)
        budget = Amount(self._budget(amount, max_fee) or 0)
        done = await self.rebalancing.move(out, into, Amount(amount), budget, timeout, idempotency_key)
        return shown.payment_of(done, self.config.network, "", Circle(out, into))

    async def send_transfers(self, *, channel_id: bytes, transfers: Sequence[Mapping[str, Any]], wait: bool) -> Json:
        return await self.transfers.send(self._actor(channel_id), transfers, wait=wait)

    async def export_liquidity(self, *, cursor: str | None, limit: int) -> Json:
        return learning.page(self.payments.liquidity, cursor, limit)

    async def import_liquidity(self, *, version: int, channels: Sequence[Mapping[str, Any]], check: bool) -> Json:
        del version  # there is one
        graph = self.gossip.known.graph
        return learning.take(self.payments.liquidity, graph, channels, self.world.now, only_say=check)

    async def lookup_payment(self, *, id: bytes) -> Json:
        return self.journal.lookup(id)

    async def list_payments(self, *, limit: int, cursor: str | None) -> Json:
        return self.journal.list(limit=limit, cursor=cursor)

    # -- towers

    async def tower_add(self, *, uri: str) -> Json:
        return await self.towers.add(node_address(uri.removeprefix("0x")))

    async def tower_remove(self, *, node_id: bytes) -> Json:
        await self.towers.remove(NodeId(node_id))
        return {"node_id": hexed(node_id)}

    async def tower_list(self) -> Json:
        return {"towers": self.towers.list()}

    async def tower_status(self) -> Json:
        return self.towers.status(self.config.tower_receipts or 1)

    # -- events

    async def events(self, *, since: int | None, limit: int, wait: bool) -> Json:
        if since is None:
            return {"events": [], "cursor": self.book.events.last}
        with trio.move_on_after(EVENT_WAIT if wait else 0):
            while True:
                bell = self.book.events.bell
                if self._events(since, 1):
                    break
                await bell.wait()
        rows = self._events(since, limit)
        told = [{"cursor": n, "type": type_, "at": at, "data": json.loads(data)} for n, type_, at, data in rows]
        return {"events": told, "cursor": rows[-1][0] if rows else since}

    def _events(self, since: int, limit: int) -> Sequence[Sequence[Any]]:
        return self.store.rows("SELECT n, type, at, data FROM events WHERE n > ? ORDER BY n LIMIT ?", since, limit)
