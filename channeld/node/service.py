"""What the node does for whoever speaks to its socket. Answers have the shapes of the socket's schema.

Every call that moves money is safe to repeat: a payment is one per payment hash, a direct transfer one per id, and
under an idempotency key a call is done once and answered the same each time after.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import Any, Final

import trio

from channeld import __version__
from channeld.base.digests import Domain
from channeld.base.errors import Malformed, Refused
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Address, Amount, ChannelId, LockKey, NodeId, PaymentId, Preimage, Seconds
from channeld.core.channel import Phase
from channeld.core.events import CloseAlone, Leave, Pay
from channeld.node import shown
from channeld.node.config import Config
from channeld.node.forwarding import Desk
from channeld.node.gossip import Gossip
from channeld.node.guard import Guard
from channeld.node.ledger import Book
from channeld.node.lines import Lines
from channeld.node.loop import Actor, Reply
from channeld.node.opening import Openings
from channeld.node.payments import Payments
from channeld.node.reserve import Reserve
from channeld.node.shown import Json, hexed
from channeld.node.towers import Towers
from channeld.node.world import World
from channeld.storage.store import Batch, Store, wide
from channeld.wire import invoice
from channeld.wire.address import HostPort, node_address
from channeld.wire.invoice import Invoice

COOP_VALID: Final = 600
"""Seconds of chain time for which an offer to close together stands."""
NEWEST: Final = 2**48
"""More than any row is numbered, and than the seconds there will be."""
EVENT_WAIT: Final = 30.0
TURN: Final = 5.0
"""Seconds for which even a caller that has gone is waited for, until its transfers are saved."""


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
    _asking: dict[str, trio.Lock] = field(default_factory=dict)
    """Held while a call under an idempotency key is made, so that a second one waits for its answer."""
    _sending: dict[tuple[bytes, bytes], Reply] = field(default_factory=dict)
    """Channel and id of transfers that are queued and perhaps not saved yet, whoever still waits for that."""

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
        async with self._once(idempotency_key):
            request = ["open", peer, token, str(amount), str(peer_amount), challenge_period, public]
            if (answer := self._answered(idempotency_key, request)) is not None:
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
                claim=lambda channel: self._claim(idempotency_key, request, answer_of(channel), lasts=True),
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
        self, *, token: str, amount: int | None, description: str, expiry: int, idempotency_key: str | None
    ) -> Json:
        async with self._once(idempotency_key):
            request = ["invoice", token, None if amount is None else str(amount), description, expiry]
            if (answer := self._answered(idempotency_key, request)) is not None:
                return answer
            network, now = self.config.network, self.world.now
            preimage, secret = Preimage(self.randomness(32)), self.randomness(32)
            coin = network.token(token)
            asked = Invoice(
                domain=self.domain,
                token=coin,
                amount=None if amount is None else Amount(amount),
                payment_hash=LockKey(sha256(preimage)),
                payment_secret=secret,
                created=now,
                expiry=Seconds(expiry),
                description=description,
                payee=self.node_key.public,
                min_final_delta=network.final_delta,
                hints=tuple(self.gossip.hints(coin)),
            )
            text = invoice.encode(asked, self.node_key)
            batch = Batch()
            batch.add(
                "INSERT INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, state) "
                "VALUES (?, (SELECT coalesce(max(n), 0) + 1 FROM invoices), ?, ?, ?, ?, ?, ?, ?, 'open')",
                *(asked.payment_hash, preimage, secret, text, coin),
                *(None if amount is None else wide(amount), now, asked.expires_at),
            )
            answer = shown.invoice_of(asked, text, network, now=now)
            await self._remember(idempotency_key, request, answer, batch)
            return answer

    async def decode_invoice(self, *, invoice: str) -> Json:
        asked = self.payments.read(invoice)
        return shown.invoice_of(asked, invoice, self.config.network, now=self.world.now)

    async def lookup_invoice(self, *, payment_hash: bytes) -> Json:
        rows = self.store.rows(f"{_INVOICE} WHERE hash = ?", payment_hash)
        if not rows:
            text = f"no invoice of ours has the payment hash {hexed(payment_hash)}"
            raise Refused("unknown_invoice", text, "channeld invoice list")
        return self._invoice(rows[0])

    def _invoice(self, row: Sequence[Any]) -> Json:
        asked = invoice.decode(row[1])
        told = shown.invoice_of(asked, row[1], self.config.network, now=self.world.now, row=row[2:])
        if told["state"] == "paid" and not self._counts(asked.payment_hash, int(told["received"])):
            told["state"] = "accepted"
        return told

    def _counts(self, hash_: LockKey, received: int) -> bool:
        """Whether enough towers guard the channels it came by; the money is ours in any case (towers.receipts)."""
        wanted = self.config.tower_receipts
        if not wanted or received <= self.config.tower_receipts_above:
            return True
        rows = self.store.rows("SELECT DISTINCT channel FROM parts WHERE hash = ?", hash_)
        actors = [self.book.actors[channel] for (channel,) in rows if channel in self.book.actors]
        return all(a.channel.phase is not Phase.OPEN or self.towers.guards(a.channel.id) >= wanted for a in actors)

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

    async def list_invoices(self, *, limit: int, cursor: str | None) -> Json:
        (before,) = _numbers(cursor, 1)
        rows = self.store.rows(f"{_INVOICE} WHERE n < ? ORDER BY n DESC LIMIT ?", before, limit)
        following = str(rows[-1][0]) if len(rows) == limit else None
        return {"invoices": [self._invoice(row) for row in rows], "next": following}

    # -- payments

    async def pay_invoice(
        self, *, invoice: str, amount: int | None, max_fee: int | None, timeout: int, idempotency_key: str | None
    ) -> Json:
        asked = self.payments.read(invoice)
        request = ["pay", invoice, None if amount is None else str(amount)]
        budget = self._budget(asked.amount if asked.amount is not None else amount, max_fee)
        async with self._once(idempotency_key):
            told = self._answered(idempotency_key, request)
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
                claim=self._claim(idempotency_key, request, {}) if told is None else None,
            )
        return shown.payment_of(done, self.config.network, asked.description)

    async def send_transfers(self, *, channel_id: bytes, transfers: Sequence[Mapping[str, Any]], wait: bool) -> Json:
        actor, now = self._actor(channel_id), self.world.now
        self.world.must_be_safe()
        ids = [PaymentId(one["id"] or self._new_id()) for one in transfers]
        while (sending := self._being_sent(channel_id, ids)) is not None:
            await sending.done.wait()
        asked = [id_ for id_, one in zip(ids, transfers, strict=True) if one["id"]]
        known = self._transfers(channel_id, asked) if asked else {}
        fresh = {id_: one["amount"] for id_, one in zip(ids, transfers, strict=True) if id_ not in known}
        if sum(fresh.values()) > actor.channel.spendable:
            raise Refused(
                "insufficient_balance",
                f"the channel can send {actor.channel.spendable}, not {sum(fresh.values())}",
                "nothing was sent",
            )
        if fresh:
            over = self.book.watch_transfers(actor.channel.id, fresh)
            try:
                await self._send(actor, fresh, now)
                if wait:
                    await over.wait()
            finally:
                self.book.unwatch_transfers(actor.channel.id, fresh)
        states = self._transfers(channel_id, ids)
        found = {state for state, _ in states.values()}
        return {
            "ids": [hexed(id_) for id_ in ids],
            "state": next((state for state in ("failed", "unknown", "pending") if state in found), "succeeded"),
            "version": max(version for _, version in states.values()) or None,
        }

    async def _send(self, actor: Actor, fresh: Mapping[PaymentId, int], now: int) -> None:
        """Queue transfers, all or none; on disk when this returns."""
        channel_id, rows = actor.channel.id, Batch()
        for id_, amount in fresh.items():
            rows.add(
                "INSERT INTO transfers (channel, id, outgoing, amount, state, at) VALUES (?, ?, 1, ?, 'pending', ?)",
                *(channel_id, id_, wide(amount), now),
            )
        reply = Reply()
        self._sending = {name: one for name, one in self._sending.items() if not one.done.is_set()}
        self._sending |= dict.fromkeys(((channel_id, id_) for id_ in fresh), reply)
        actor.post(
            Pay(transfers=tuple((id_, Amount(amount)) for id_, amount in fresh.items())), writes=rows, reply=reply
        )
        with trio.move_on_after(TURN, shield=True):
            await reply.done.wait()
        await reply.wait()

    def _being_sent(self, channel_id: bytes, ids: Sequence[bytes]) -> Reply | None:
        """What tells when one of these transfers, asked for before, is saved; None if all that were asked for are."""
        replies = (self._sending.get((channel_id, id_)) for id_ in ids)
        return next((one for one in replies if one is not None and not one.done.is_set()), None)

    def _new_id(self) -> PaymentId:
        """Milliseconds and chance. In the order of time it costs both books one page of their index for many, where one
        by chance alone costs a page each; its only reader is the peer, who sees when it comes."""
        return PaymentId(int(self.world.clock() * 1_000).to_bytes(6, "big") + self.randomness(10))

    def _transfers(self, channel_id: bytes, ids: Sequence[bytes]) -> dict[bytes, tuple[str, int]]:
        """State and version of those of the outgoing transfers that exist."""
        found: dict[bytes, tuple[str, int]] = {}
        for at in range(0, len(ids), 500):
            some = ids[at : at + 500]
            marks = ", ".join("?" * len(some))
            rows = self.store.rows(
                f"SELECT id, state, version FROM transfers WHERE channel = ? AND outgoing = 1 AND id IN ({marks})",
                *(channel_id, *some),
            )
            found |= {id_: (state, version) for id_, state, version in rows}
        return found

    async def lookup_payment(self, *, id: bytes) -> Json:
        if len(id) == 32:
            found = self.payments.find(LockKey(id))
            if found is not None:
                return self._payment(found.hash)
        else:
            rows = self.store.rows(f"{_TRANSFER} WHERE id = ?", id)
            if rows:
                return self._transfer(rows[0])
        raise Refused("unknown_payment", f"no payment of ours is {hexed(id)}", "channeld payments")

    def _payment(self, hash_: bytes) -> Json:
        found = self.payments.find(LockKey(hash_))
        if found is None:
            raise Refused("unknown_payment", f"no payment of ours is {hexed(hash_)}")
        return shown.payment_of(found, self.config.network, invoice.decode(found.invoice).description)

    def _transfer(self, row: Sequence[Any]) -> Json:
        actor = self.book.actors.get(row[0])
        return shown.transfer_of(row[:7], actor.channel if actor else None, self.config.network)

    def _received(self, hash_: bytes) -> Json:
        told = self._invoice(self.store.rows(f"{_INVOICE} WHERE hash = ?", hash_)[0])
        return {
            "id": told["payment_hash"],
            "kind": "invoice",
            "direction": "in",
            "state": "succeeded",
            "token": told["token"],
            "symbol": told["symbol"],
            "amount": told["received"],
            "fee": "0",
            "peer": None,
            "created_at": told["created_at"],
            "settled_at": told["paid_at"],
            "preimage": told["preimage"],
            "description": told["description"],
        }

    async def list_payments(self, *, limit: int, cursor: str | None) -> Json:
        """Newest first over payments, received invoices and transfers; the cursor says how far each of them was shown.

        Each has an index in its own order, so a page costs the same however long the history is, and what comes in
        meanwhile moves nothing.
        """
        paid, received, received_n, sent = _numbers(cursor, 4)
        out = self.store.rows(
            "SELECT at, 'out', n, hash FROM payments WHERE n < ? ORDER BY n DESC LIMIT ?", paid, limit
        )
        in_ = self.store.rows(
            "SELECT paid_at, 'in', n, hash FROM invoices WHERE state = 'paid' AND (paid_at, n) < (?, ?) "
            "ORDER BY paid_at DESC, n DESC LIMIT ?",
            *(received, received_n, limit),
        )
        direct = self.store.rows(f"{_TRANSFER} WHERE n < ? ORDER BY n DESC LIMIT ?", sent, limit)
        of_transfers = [(row[5], "direct", row[7], row) for row in direct]
        told = []
        for at, kind, n, what in islice(merge(out, in_, of_transfers, key=lambda row: (-row[0], row[1])), limit):
            if kind == "out":
                paid = n
                told.append(self._payment(what))
            elif kind == "in":
                received, received_n = at, n
                told.append(self._received(what))
            else:
                sent = n
                told.append(self._transfer(what))
        following = f"{paid}.{received}.{received_n}.{sent}" if len(told) == limit else None
        return {"payments": told, "next": following}

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

    # -- asked once, answered the same each time

    @asynccontextmanager
    async def _once(self, key: str | None) -> AsyncIterator[None]:
        """One call at a time under that key."""
        if key is None:
            yield
            return
        lock = self._asking.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._asking.pop(key, None)

    def _answered(self, key: str | None, request: Sequence[object]) -> Json | None:
        """The first answer under that key; Refused (idempotency_conflict) if something else was asked then."""
        if key is None:
            return None
        rows = self.store.rows("SELECT request, answer FROM asked WHERE key = ?", key)
        if not rows:
            return None
        if rows[0][0] != _print(request):
            raise Refused("idempotency_conflict", f"the key {key!r} was used for something else", "use a new key")
        answer: Json = json.loads(rows[0][1])
        return answer

    @staticmethod
    def _claim(key: str | None, request: Sequence[object], answer: Json, *, lasts: bool = False) -> Batch:
        """The row that keeps an answer under its key. It belongs into the transaction of what was asked for.

        `_once` sees to it that there is no other under that key; a second would be passed over, not stop a channel."""
        batch = Batch()
        if key is not None:
            batch.add(
                "INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?)", key, _print(request), json.dumps(answer), int(lasts)
            )
        return batch

    async def _remember(
        self, key: str | None, request: Sequence[object], answer: Json, writes: Batch | None = None
    ) -> None:
        batch = writes or Batch()
        batch.extend(self._claim(key, request, answer))
        if batch:
            await self.store.commit(batch)


_INVOICE: Final = "SELECT n, text, state, received, paid_at, preimage FROM invoices"
_TRANSFER: Final = "SELECT channel, id, outgoing, amount, state, at, settled_at, n FROM transfers"


def _print(request: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()


def _numbers(cursor: str | None, count: int) -> list[int]:
    """What a cursor says; without one, more than there is. Malformed: it is none of ours."""
    if cursor is None:
        return [NEWEST] * count
    parts = cursor.split(".")
    if len(parts) != count or not all(part.isascii() and part.isdecimal() and len(part) < 16 for part in parts):
        raise Malformed(f"no cursor: {cursor[:20]!r}")
    return [min(int(part), NEWEST) for part in parts]
