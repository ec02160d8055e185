"""The typed calls of the sockets. Written by `python -m channeld.client.generate`; do not edit.

Amounts may be handed in as ints and bytes as bytes; answers hold them as they travel: decimal strings and 0x hex.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

from channeld.api.schema import NODE, TOWER, Schema


class BlockInfo(TypedDict):
    number: int
    timestamp: int
    hash: str


class HeadInfo(TypedDict):
    latest: BlockInfo
    safe: BlockInfo
    finalized: BlockInfo
    age: int
    """Seconds since the newest block, by this machine's clock."""


class TokenInfo(TypedDict):
    symbol: str
    token: str
    decimals: int


class GraphInfo(TypedDict):
    channels: int
    """Public ones that gossip has shown and the chain confirms."""
    nodes: int
    """That have such a channel."""
    syncing: bool
    """Whether a peer is being asked for more, or channels are being looked up."""


class Info(TypedDict):
    role: Literal["node", "tower"]
    version: str
    node_id: str
    alias: str
    address: str
    """The account that pays for gas, and the participant in our channels."""
    network: str
    chain_id: int
    manager: str
    registry: str
    listen: str
    """Host:port where peers really reach this process."""
    uris: list[str]
    """Node-id@host:port, for `connect` and `tower add`."""
    socket: str
    head: HeadInfo
    safe_mode: str | None
    """Why nothing new is begun, or null."""
    gas_short: NotRequired[str | None]
    """Why the account could not enforce a further lock, or null."""
    tokens: list[TokenInfo]
    peers: NotRequired[int]
    """Connected now."""
    channels: NotRequired[dict[str, Any]]
    """Number of channels in each state."""
    graph: NotRequired[GraphInfo | None]
    """The known network; null for a tower, which needs none."""


class Balance(TypedDict):
    token: str
    symbol: str
    decimals: int
    wallet: str
    """On chain, in the daemon's account."""
    spendable: str
    """Ours in open channels."""
    pending: str
    """Ours in locks and in channels that open or close."""
    receivable: str
    """What open channels could still receive."""
    owed: str
    """Credited by the contract after a failed payout."""


class Balances(TypedDict):
    balances: list[Balance]


class Connected(TypedDict):
    node_id: str
    address: str
    connected: bool


class PeerInfo(TypedDict):
    node_id: str
    address: str
    """Host:port, if known."""
    connected: bool
    inbound: bool
    alias: NotRequired[str]
    channels: NotRequired[int]


class Peers(TypedDict):
    peers: list[PeerInfo]


class Opening(TypedDict):
    channel_id: str
    peer: str
    state: Literal["opening", "open", "closing", "closed", "failed"]
    open_tx: NotRequired[str | None]
    """Our deposit, once sent."""


class Channel(TypedDict):
    channel_id: str
    peer: str
    state: Literal["opening", "open", "closing", "closed", "failed"]
    detail: str
    """The phase in the daemon's own words."""
    token: str
    symbol: str
    side: Literal["a", "b"]
    """Ours; a opened the channel."""
    ours: str
    """Balance, without what is locked."""
    theirs: str
    locked_ours: str
    """In locks that we offered."""
    locked_theirs: str
    deposit_ours: str
    deposit_theirs: str
    net: str
    """What we received less what we sent."""
    locks: int
    version: int
    """Of the newest state both signed."""
    challenge_period: int
    close_bond: str
    public: bool
    connected: bool
    frozen: NotRequired[bool]
    deadline: NotRequired[int | None]
    """End of the challenge period, while closing alone."""
    opened_at: NotRequired[int | None]
    open_tx: NotRequired[str | None]
    close_tx: NotRequired[str | None]
    paid_ours: NotRequired[str | None]
    """Paid out to us on chain, once closed."""
    paid_theirs: NotRequired[str | None]


class Channels(TypedDict):
    channels: list[Channel]


class Closing(TypedDict):
    channel_id: str
    state: Literal["opening", "open", "closing", "closed", "failed"]
    how: Literal["cooperative", "unilateral"]
    close_tx: NotRequired[str | None]
    """Once sent."""
    deadline: NotRequired[int | None]
    """End of the challenge period, if known yet."""


class Invoice(TypedDict):
    invoice: str
    """Empty for a keysend."""
    payment_hash: str
    payee: str
    token: str
    symbol: str
    amount: str | None
    """Null leaves it to the payer."""
    description: str
    created_at: int
    expires_at: int
    state: Literal["open", "held", "accepted", "paid", "expired", "canceled"]
    received: NotRequired[str | None]
    paid_at: NotRequired[int | None]
    preimage: NotRequired[str | None]
    """Once paid; only of our own invoices."""
    hold_time: NotRequired[int]
    """Seconds for which a payment can be held; 0: it never is. Of our own invoices."""
    settle_by: NotRequired[int | None]
    """While held: the last moment to settle it; then it is given back."""
    keysend: NotRequired[bool]
    """A payment that came without an invoice."""


class Invoices(TypedDict):
    invoices: list[Invoice]
    next: str | None
    """Cursor of the next page, null at the end."""


class Payment(TypedDict):
    id: str
    """32 bytes, the payment hash; or 16 bytes, the id of a direct transfer."""
    kind: Literal["invoice", "keysend", "transfer", "rebalance"]
    direction: Literal["out", "in", "self"]
    state: Literal["pending", "succeeded", "failed", "unknown"]
    token: str
    symbol: str
    amount: str
    """What the payee gets."""
    fee: str
    """What the hops between take on top; 0 on the way in."""
    peer: str | None
    """The payee if we pay, ourselves for a rebalance; the neighbour if we are paid."""
    created_at: int
    settled_at: NotRequired[int | None]
    preimage: NotRequired[str | None]
    hops: NotRequired[int]
    description: NotRequired[str]
    channel_id: NotRequired[str | None]
    """For a direct transfer."""
    from_channel: NotRequired[str | None]
    """For a rebalance: the channel it leaves by."""
    to_channel: NotRequired[str | None]
    """And the one it comes home by."""
    error: NotRequired[str | None]
    """Code of the failure."""
    error_text: NotRequired[str | None]
    """What failed, and at which hop."""


class Hop(TypedDict):
    channel_id: str
    node_id: str
    """Whom this hop pays."""
    amount: str
    """Of its lock."""
    fee: str
    """What the node that offers it keeps; 0 for us."""


class Part(TypedDict):
    amount: str
    """What the payee gets of it."""
    fee: str
    lock_seconds: int
    """How long our lock may stand."""
    hops: list[Hop]


class Plan(TypedDict):
    amount: str
    """What the payee gets."""
    fee: str
    """Of all parts."""
    chance_ppm: int
    """How likely all parts arrive at once, as far as was learned; millionths."""
    parts: list[Part]
    """Sent at the same time, all or nothing."""


class Probe(TypedDict):
    state: Literal["arrived", "failed", "pending"]
    """Pending: the lock has not come back yet."""
    plan: Plan
    """The way it took, and how likely it was thought before."""
    failed_channel: str | None
    """The one of the way that did not carry it."""
    error: NotRequired[str | None]
    """Code of the failure."""
    error_text: NotRequired[str | None]
    """What failed, and which node says so."""


class Learned(TypedDict):
    channel_id: str
    capacity: str
    """Of both sides together, when it was learned."""
    least: str
    """Side a had at least this."""
    most: str
    """And at most this."""
    at: int
    """When it was learned; it fades."""


class Liquidity(TypedDict):
    version: NotRequired[int]
    """Of the form of `channels`."""
    channels: list[Learned]
    next: str | None
    """Cursor of the next page, null at the end."""


class LiquidityTaken(TypedDict):
    taken: int
    """Channels of which it said more."""
    kept: int
    """Channels of which we knew as much."""
    unknown: int
    """Passed over: no public channel we know."""


class Transferred(TypedDict):
    ids: list[str]
    """In the order of the transfers."""
    state: Literal["pending", "succeeded", "failed", "unknown"]
    """Succeeded: acknowledged by the peer."""
    version: NotRequired[int | None]
    """Of the state that holds the last of them."""


class Payments(TypedDict):
    payments: list[Payment]
    next: str | None
    """Cursor of the next page, null at the end."""


class OurTower(TypedDict):
    node_id: str
    address: str
    reachable: bool
    channels: int
    """Channels with a valid receipt of the newest state."""
    behind: int
    """Channels of which the tower lacks the newest state."""
    value_at_risk: str
    """What a theft could cost us while the tower is behind."""
    at_risk_since: NotRequired[int | None]
    last_receipt_at: NotRequired[int | None]
    error: NotRequired[str | None]


class TowerRemoved(TypedDict):
    node_id: str


class Towers(TypedDict):
    towers: list[OurTower]


class TowerCover(TypedDict):
    role: Literal["node"]
    towers: list[OurTower]
    channels: int
    """Channels that have something to lose."""
    guarded: int
    """Of these, with enough valid receipts."""
    value_at_risk: str
    at_risk_since: NotRequired[int | None]


class Event(TypedDict):
    cursor: int
    """Strictly increasing; hand it to `since` to go on after it."""
    type: str
    """Such as channel_open, payment_received, close_seen."""
    at: int
    data: dict[str, Any]


class Events(TypedDict):
    events: list[Event]
    cursor: int
    """The last one looked at."""


class Subscription(TypedDict):
    subscription: int
    cursor: int
    """Where it starts."""


class Unsubscribed(TypedDict):
    ended: bool


class Stopping(TypedDict):
    stopping: NotRequired[bool]


class TowerStatus(TypedDict):
    role: Literal["tower"]
    appointments: int
    """Kept now."""
    watched: int
    """Closes seen whose deadline is not over."""
    challenges_sent: int
    challenges_mined: int
    finalized: int
    earned: str
    """Bonds paid to us, wei."""
    spent: str
    """Gas paid, wei."""
    balance: str
    """The tower's account, wei."""
    head: HeadInfo
    next_deadline: NotRequired[int | None]


class AsyncNodeCalls(ABC):
    """Every call of `NODE`."""

    schema: Schema = NODE

    @abstractmethod
    async def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and give its result."""

    async def get_info(self) -> Info:
        """Who this process is, where it listens and how the chain looks."""
        return cast("Info", await self.call("get_info"))

    async def get_balance(self) -> Balances:
        """What we have in each token: on chain, in channels, pending."""
        return cast("Balances", await self.call("get_balance"))

    async def connect_peer(self, *, uri: str) -> Connected:
        """Connect to a node and keep connected while there are channels with it.

        Args:
            uri: node-id@host:port
        """
        return cast("Connected", await self.call("connect_peer", uri=uri))

    async def list_peers(self) -> Peers:
        """Nodes we are connected to or have channels with."""
        return cast("Peers", await self.call("list_peers"))

    async def open_channel(
        self,
        *,
        peer: str,
        token: str,
        amount: int | str,
        peer_amount: int | str | None = None,
        challenge_period: int | None = None,
        public: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Opening:
        """Open a channel: agree with the peer, then send the first deposit. Watch list_channels for the rest.

        Args:
            peer: node id, or node-id@host:port
            token: `native`, a symbol of the network's profile or a 0x address
            amount: our deposit, base units
            peer_amount: what the peer is asked to deposit, base units (default 0)
            challenge_period: seconds; left out: the setting
            public: announce the channel so that others route over it (default True)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Opening",
            await self.call(
                "open_channel",
                peer=peer,
                token=token,
                amount=amount,
                peer_amount=peer_amount,
                challenge_period=challenge_period,
                public=public,
                idempotency_key=idempotency_key,
            ),
        )

    async def list_channels(self, *, channel_id: bytes | str | None = None, closed: bool | None = None) -> Channels:
        """Our channels, or one of them.

        Args:
            channel_id: only this one
            closed: those that are over, too (default True)
        """
        return cast("Channels", await self.call("list_channels", channel_id=channel_id, closed=closed))

    async def close_channel(
        self, *, channel_id: bytes | str, force: bool | None = None, timeout: int | None = None
    ) -> Closing:
        """Close a channel: together with the peer, or alone with `force` or when the time is up.

        Args:
            channel_id: as the name says
            force: close alone at once; the money comes after the challenge period (default False)
            timeout: seconds to try it together before closing alone (default 30)
        """
        return cast("Closing", await self.call("close_channel", channel_id=channel_id, force=force, timeout=timeout))

    async def make_invoice(
        self,
        *,
        token: str,
        amount: int | str | None = None,
        description: str | None = None,
        expiry: int | None = None,
        idempotency_key: str | None = None,
        payment_hash: bytes | str | None = None,
        hold_time: int | None = None,
    ) -> Invoice:
        """Ask for a payment: text that any node of the network can pay.

        Args:
            token: as the name says
            amount: base units; left out: the payer chooses
            description: shown to the payer (default '')
            expiry: seconds until it is void (default 3600)
            idempotency_key: said again with the same key, a call returns its first answer
            payment_hash: sha256 of a preimage that the daemon is not told: the payment will be held
            hold_time: seconds for which it can be held; left out: an hour
        """
        return cast(
            "Invoice",
            await self.call(
                "make_invoice",
                token=token,
                amount=amount,
                description=description,
                expiry=expiry,
                idempotency_key=idempotency_key,
                payment_hash=payment_hash,
                hold_time=hold_time,
            ),
        )

    async def settle_invoice(self, *, preimage: bytes | str) -> Invoice:
        """Take a held payment, with the preimage of its invoice. Said again, it is answered the same.

        Args:
            preimage: its sha256 is the invoice's payment hash
        """
        return cast("Invoice", await self.call("settle_invoice", preimage=preimage))

    async def cancel_invoice(self, *, payment_hash: bytes | str) -> Invoice:
        """Give a held payment back, or make an open invoice void. Said again, it is answered the same.

        Args:
            payment_hash: as the name says
        """
        return cast("Invoice", await self.call("cancel_invoice", payment_hash=payment_hash))

    async def decode_invoice(self, *, invoice: str) -> Invoice:
        """What an invoice says; checks its form and signature, pays nothing.

        Args:
            invoice: as the name says
        """
        return cast("Invoice", await self.call("decode_invoice", invoice=invoice))

    async def lookup_invoice(self, *, payment_hash: bytes | str) -> Invoice:
        """One of our invoices and whether it was paid.

        Args:
            payment_hash: as the name says
        """
        return cast("Invoice", await self.call("lookup_invoice", payment_hash=payment_hash))

    async def list_invoices(self, *, limit: int | None = None, cursor: str | None = None) -> Invoices:
        """Our invoices, newest first.

        Args:
            limit: how many, newest first (default 100)
            cursor: `next` of the answer before
        """
        return cast("Invoices", await self.call("list_invoices", limit=limit, cursor=cursor))

    async def pay_invoice(
        self,
        *,
        invoice: str,
        amount: int | str | None = None,
        max_fee: int | str | None = None,
        timeout: int | None = None,
        idempotency_key: str | None = None,
    ) -> Payment:
        """Pay an invoice. The answer comes with the outcome; asked again, the first outcome is told again.

        Args:
            invoice: as the name says
            amount: base units; only if the invoice leaves it open
            max_fee: base units; left out: the setting
            timeout: seconds to find a path that works (default 60)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Payment",
            await self.call(
                "pay_invoice",
                invoice=invoice,
                amount=amount,
                max_fee=max_fee,
                timeout=timeout,
                idempotency_key=idempotency_key,
            ),
        )

    async def pay_keysend(
        self,
        *,
        node_id: bytes | str,
        token: str,
        amount: int | str,
        max_fee: int | str | None = None,
        timeout: int | None = None,
        idempotency_key: str | None = None,
    ) -> Payment:
        """Pay a node that has asked for nothing, if it takes such payments. Without a key each call pays.

        Args:
            node_id: who is paid
            token: as the name says
            amount: base units
            max_fee: base units; left out: the setting
            timeout: seconds to find a path that works (default 60)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Payment",
            await self.call(
                "pay_keysend",
                node_id=node_id,
                token=token,
                amount=amount,
                max_fee=max_fee,
                timeout=timeout,
                idempotency_key=idempotency_key,
            ),
        )

    async def find_route(
        self, *, invoice: str, amount: int | str | None = None, max_fee: int | str | None = None
    ) -> Plan:
        """How a payment would go now: parts, hops, fees and how likely it arrives. Nothing is paid or asked.

        Args:
            invoice: as the name says
            amount: base units; only if the invoice leaves it open
            max_fee: base units; left out: the setting
        """
        return cast("Plan", await self.call("find_route", invoice=invoice, amount=amount, max_fee=max_fee))

    async def estimate(
        self, *, node_id: bytes | str, token: str, amount: int | str, max_fee: int | str | None = None
    ) -> Plan:
        """How a payment to a node would go now, without an invoice. Nothing is paid or asked.

        Args:
            node_id: the payee
            token: as the name says
            amount: what the payee is to get, base units
            max_fee: base units; left out: the setting
        """
        return cast("Plan", await self.call("estimate", node_id=node_id, token=token, amount=amount, max_fee=max_fee))

    async def probe(
        self, *, node_id: bytes | str, token: str, amount: int | str, max_fee: int | str | None = None
    ) -> Probe:
        """Send a lock that nobody can take to a node and back, in one part: how far it gets is learned.

        Args:
            node_id: the payee
            token: as the name says
            amount: what the payee is to get, base units
            max_fee: base units; left out: the setting
        """
        return cast("Probe", await self.call("probe", node_id=node_id, token=token, amount=amount, max_fee=max_fee))

    async def rebalance(
        self,
        *,
        from_channel: bytes | str,
        to_channel: bytes | str,
        amount: int | str,
        max_fee: int | str | None = None,
        timeout: int | None = None,
        idempotency_key: str | None = None,
    ) -> Payment:
        """Pay ourselves, out over one channel and home over another. Asked again, the first outcome is told.

        Args:
            from_channel: which can send less afterwards, by amount and fee
            to_channel: which can send more, by the amount
            amount: base units
            max_fee: base units, for the whole way; left out: the setting
            timeout: seconds to find a way that works (default 60)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Payment",
            await self.call(
                "rebalance",
                from_channel=from_channel,
                to_channel=to_channel,
                amount=amount,
                max_fee=max_fee,
                timeout=timeout,
                idempotency_key=idempotency_key,
            ),
        )

    async def export_liquidity(self, *, cursor: str | None = None, limit: int | None = None) -> Liquidity:
        """What payments have taught of others' balances, in the order of channel ids; of public channels only.

        Args:
            cursor: `next` of the answer before
            limit: how many channels (default 1000)
        """
        return cast("Liquidity", await self.call("export_liquidity", cursor=cursor, limit=limit))

    async def import_liquidity(
        self, *, version: int | None = None, channels: Sequence[Mapping[str, Any]], check: bool | None = None
    ) -> LiquidityTaken:
        """Take over what another payer has learned, where it says more by now than what is known; all or none.

        Args:
            version: of the form of `channels` (default 1)
            channels: as the name says
            check: only say what would be taken over (default False)
        """
        return cast(
            "LiquidityTaken", await self.call("import_liquidity", version=version, channels=channels, check=check)
        )

    async def send_transfers(
        self, *, channel_id: bytes | str, transfers: Sequence[Mapping[str, Any]], wait: bool | None = None
    ) -> Transferred:
        """Pay the peer of a channel directly: a list of transfers, signed as one batch.

        Args:
            channel_id: as the name says
            transfers: as the name says
            wait: answer when the peer has acknowledged, else when they are saved (default True)
        """
        return cast(
            "Transferred", await self.call("send_transfers", channel_id=channel_id, transfers=transfers, wait=wait)
        )

    async def lookup_payment(self, *, id: bytes | str) -> Payment:
        """One payment and its outcome.

        Args:
            id: payment hash, or id of a direct transfer
        """
        return cast("Payment", await self.call("lookup_payment", id=id))

    async def list_payments(self, *, limit: int | None = None, cursor: str | None = None) -> Payments:
        """Payments made and received, newest first.

        Args:
            limit: how many, newest first (default 100)
            cursor: `next` of the answer before
        """
        return cast("Payments", await self.call("list_payments", limit=limit, cursor=cursor))

    async def tower_add(self, *, uri: str) -> OurTower:
        """Let a watchtower guard our channels, from now on.

        Args:
            uri: node-id@host:port of the tower
        """
        return cast("OurTower", await self.call("tower_add", uri=uri))

    async def tower_remove(self, *, node_id: bytes | str) -> TowerRemoved:
        """Upload nothing more to a tower and ask it to forget us.

        Args:
            node_id: as the name says
        """
        return cast("TowerRemoved", await self.call("tower_remove", node_id=node_id))

    async def tower_list(self) -> Towers:
        """Our towers."""
        return cast("Towers", await self.call("tower_list"))

    async def tower_status(self) -> TowerCover:
        """How well our channels are guarded: receipts held, value at risk and since when."""
        return cast("TowerCover", await self.call("tower_status"))

    async def events(self, *, since: int | None = None, limit: int | None = None, wait: bool | None = None) -> Events:
        """What happened after a cursor; with `wait`, answers as soon as something did.

        Args:
            since: cursor of the last event known (default 0)
            limit: how many, oldest first (default 100)
            wait: wait up to 30 s if there is none yet (default False)
        """
        return cast("Events", await self.call("events", since=since, limit=limit, wait=wait))

    async def subscribe(self, *, since: int | None = None) -> Subscription:
        """Events as they happen, each a notification `event` with `subscription` and `event`.

        Args:
            since: cursor to go on after; left out: only what comes from now on
        """
        return cast("Subscription", await self.call("subscribe", since=since))

    async def unsubscribe(self, *, subscription: int) -> Unsubscribed:
        """End a subscription of this connection.

        Args:
            subscription: as the name says
        """
        return cast("Unsubscribed", await self.call("unsubscribe", subscription=subscription))

    async def stop(self) -> Stopping:
        """Shut the daemon down: nothing is lost, channels stay open."""
        return cast("Stopping", await self.call("stop"))


class BlockingNodeCalls(ABC):
    """Every call of `NODE`."""

    schema: Schema = NODE

    @abstractmethod
    def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and give its result."""

    def get_info(self) -> Info:
        """Who this process is, where it listens and how the chain looks."""
        return cast("Info", self.call("get_info"))

    def get_balance(self) -> Balances:
        """What we have in each token: on chain, in channels, pending."""
        return cast("Balances", self.call("get_balance"))

    def connect_peer(self, *, uri: str) -> Connected:
        """Connect to a node and keep connected while there are channels with it.

        Args:
            uri: node-id@host:port
        """
        return cast("Connected", self.call("connect_peer", uri=uri))

    def list_peers(self) -> Peers:
        """Nodes we are connected to or have channels with."""
        return cast("Peers", self.call("list_peers"))

    def open_channel(
        self,
        *,
        peer: str,
        token: str,
        amount: int | str,
        peer_amount: int | str | None = None,
        challenge_period: int | None = None,
        public: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Opening:
        """Open a channel: agree with the peer, then send the first deposit. Watch list_channels for the rest.

        Args:
            peer: node id, or node-id@host:port
            token: `native`, a symbol of the network's profile or a 0x address
            amount: our deposit, base units
            peer_amount: what the peer is asked to deposit, base units (default 0)
            challenge_period: seconds; left out: the setting
            public: announce the channel so that others route over it (default True)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Opening",
            self.call(
                "open_channel",
                peer=peer,
                token=token,
                amount=amount,
                peer_amount=peer_amount,
                challenge_period=challenge_period,
                public=public,
                idempotency_key=idempotency_key,
            ),
        )

    def list_channels(self, *, channel_id: bytes | str | None = None, closed: bool | None = None) -> Channels:
        """Our channels, or one of them.

        Args:
            channel_id: only this one
            closed: those that are over, too (default True)
        """
        return cast("Channels", self.call("list_channels", channel_id=channel_id, closed=closed))

    def close_channel(
        self, *, channel_id: bytes | str, force: bool | None = None, timeout: int | None = None
    ) -> Closing:
        """Close a channel: together with the peer, or alone with `force` or when the time is up.

        Args:
            channel_id: as the name says
            force: close alone at once; the money comes after the challenge period (default False)
            timeout: seconds to try it together before closing alone (default 30)
        """
        return cast("Closing", self.call("close_channel", channel_id=channel_id, force=force, timeout=timeout))

    def make_invoice(
        self,
        *,
        token: str,
        amount: int | str | None = None,
        description: str | None = None,
        expiry: int | None = None,
        idempotency_key: str | None = None,
        payment_hash: bytes | str | None = None,
        hold_time: int | None = None,
    ) -> Invoice:
        """Ask for a payment: text that any node of the network can pay.

        Args:
            token: as the name says
            amount: base units; left out: the payer chooses
            description: shown to the payer (default '')
            expiry: seconds until it is void (default 3600)
            idempotency_key: said again with the same key, a call returns its first answer
            payment_hash: sha256 of a preimage that the daemon is not told: the payment will be held
            hold_time: seconds for which it can be held; left out: an hour
        """
        return cast(
            "Invoice",
            self.call(
                "make_invoice",
                token=token,
                amount=amount,
                description=description,
                expiry=expiry,
                idempotency_key=idempotency_key,
                payment_hash=payment_hash,
                hold_time=hold_time,
            ),
        )

    def settle_invoice(self, *, preimage: bytes | str) -> Invoice:
        """Take a held payment, with the preimage of its invoice. Said again, it is answered the same.

        Args:
            preimage: its sha256 is the invoice's payment hash
        """
        return cast("Invoice", self.call("settle_invoice", preimage=preimage))

    def cancel_invoice(self, *, payment_hash: bytes | str) -> Invoice:
        """Give a held payment back, or make an open invoice void. Said again, it is answered the same.

        Args:
            payment_hash: as the name says
        """
        return cast("Invoice", self.call("cancel_invoice", payment_hash=payment_hash))

    def decode_invoice(self, *, invoice: str) -> Invoice:
        """What an invoice says; checks its form and signature, pays nothing.

        Args:
            invoice: as the name says
        """
        return cast("Invoice", self.call("decode_invoice", invoice=invoice))

    def lookup_invoice(self, *, payment_hash: bytes | str) -> Invoice:
        """One of our invoices and whether it was paid.

        Args:
            payment_hash: as the name says
        """
        return cast("Invoice", self.call("lookup_invoice", payment_hash=payment_hash))

    def list_invoices(self, *, limit: int | None = None, cursor: str | None = None) -> Invoices:
        """Our invoices, newest first.

        Args:
            limit: how many, newest first (default 100)
            cursor: `next` of the answer before
        """
        return cast("Invoices", self.call("list_invoices", limit=limit, cursor=cursor))

    def pay_invoice(
        self,
        *,
        invoice: str,
        amount: int | str | None = None,
        max_fee: int | str | None = None,
        timeout: int | None = None,
        idempotency_key: str | None = None,
    ) -> Payment:
        """Pay an invoice. The answer comes with the outcome; asked again, the first outcome is told again.

        Args:
            invoice: as the name says
            amount: base units; only if the invoice leaves it open
            max_fee: base units; left out: the setting
            timeout: seconds to find a path that works (default 60)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Payment",
            self.call(
                "pay_invoice",
                invoice=invoice,
                amount=amount,
                max_fee=max_fee,
                timeout=timeout,
                idempotency_key=idempotency_key,
            ),
        )

    def pay_keysend(
        self,
        *,
        node_id: bytes | str,
        token: str,
        amount: int | str,
        max_fee: int | str | None = None,
        timeout: int | None = None,
        idempotency_key: str | None = None,
    ) -> Payment:
        """Pay a node that has asked for nothing, if it takes such payments. Without a key each call pays.

        Args:
            node_id: who is paid
            token: as the name says
            amount: base units
            max_fee: base units; left out: the setting
            timeout: seconds to find a path that works (default 60)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Payment",
            self.call(
                "pay_keysend",
                node_id=node_id,
                token=token,
                amount=amount,
                max_fee=max_fee,
                timeout=timeout,
                idempotency_key=idempotency_key,
            ),
        )

    def find_route(self, *, invoice: str, amount: int | str | None = None, max_fee: int | str | None = None) -> Plan:
        """How a payment would go now: parts, hops, fees and how likely it arrives. Nothing is paid or asked.

        Args:
            invoice: as the name says
            amount: base units; only if the invoice leaves it open
            max_fee: base units; left out: the setting
        """
        return cast("Plan", self.call("find_route", invoice=invoice, amount=amount, max_fee=max_fee))

    def estimate(
        self, *, node_id: bytes | str, token: str, amount: int | str, max_fee: int | str | None = None
    ) -> Plan:
        """How a payment to a node would go now, without an invoice. Nothing is paid or asked.

        Args:
            node_id: the payee
            token: as the name says
            amount: what the payee is to get, base units
            max_fee: base units; left out: the setting
        """
        return cast("Plan", self.call("estimate", node_id=node_id, token=token, amount=amount, max_fee=max_fee))

    def probe(self, *, node_id: bytes | str, token: str, amount: int | str, max_fee: int | str | None = None) -> Probe:
        """Send a lock that nobody can take to a node and back, in one part: how far it gets is learned.

        Args:
            node_id: the payee
            token: as the name says
            amount: what the payee is to get, base units
            max_fee: base units; left out: the setting
        """
        return cast("Probe", self.call("probe", node_id=node_id, token=token, amount=amount, max_fee=max_fee))

    def rebalance(
        self,
        *,
        from_channel: bytes | str,
        to_channel: bytes | str,
        amount: int | str,
        max_fee: int | str | None = None,
        timeout: int | None = None,
        idempotency_key: str | None = None,
    ) -> Payment:
        """Pay ourselves, out over one channel and home over another. Asked again, the first outcome is told.

        Args:
            from_channel: which can send less afterwards, by amount and fee
            to_channel: which can send more, by the amount
            amount: base units
            max_fee: base units, for the whole way; left out: the setting
            timeout: seconds to find a way that works (default 60)
            idempotency_key: said again with the same key, a call returns its first answer
        """
        return cast(
            "Payment",
            self.call(
                "rebalance",
                from_channel=from_channel,
                to_channel=to_channel,
                amount=amount,
                max_fee=max_fee,
                timeout=timeout,
                idempotency_key=idempotency_key,
            ),
        )

    def export_liquidity(self, *, cursor: str | None = None, limit: int | None = None) -> Liquidity:
        """What payments have taught of others' balances, in the order of channel ids; of public channels only.

        Args:
            cursor: `next` of the answer before
            limit: how many channels (default 1000)
        """
        return cast("Liquidity", self.call("export_liquidity", cursor=cursor, limit=limit))

    def import_liquidity(
        self, *, version: int | None = None, channels: Sequence[Mapping[str, Any]], check: bool | None = None
    ) -> LiquidityTaken:
        """Take over what another payer has learned, where it says more by now than what is known; all or none.

        Args:
            version: of the form of `channels` (default 1)
            channels: as the name says
            check: only say what would be taken over (default False)
        """
        return cast("LiquidityTaken", self.call("import_liquidity", version=version, channels=channels, check=check))

    def send_transfers(
        self, *, channel_id: bytes | str, transfers: Sequence[Mapping[str, Any]], wait: bool | None = None
    ) -> Transferred:
        """Pay the peer of a channel directly: a list of transfers, signed as one batch.

        Args:
            channel_id: as the name says
            transfers: as the name says
            wait: answer when the peer has acknowledged, else when they are saved (default True)
        """
        return cast("Transferred", self.call("send_transfers", channel_id=channel_id, transfers=transfers, wait=wait))

    def lookup_payment(self, *, id: bytes | str) -> Payment:
        """One payment and its outcome.

        Args:
            id: payment hash, or id of a direct transfer
        """
        return cast("Payment", self.call("lookup_payment", id=id))

    def list_payments(self, *, limit: int | None = None, cursor: str | None = None) -> Payments:
        """Payments made and received, newest first.

        Args:
            limit: how many, newest first (default 100)
            cursor: `next` of the answer before
        """
        return cast("Payments", self.call("list_payments", limit=limit, cursor=cursor))

    def tower_add(self, *, uri: str) -> OurTower:
        """Let a watchtower guard our channels, from now on.

        Args:
            uri: node-id@host:port of the tower
        """
        return cast("OurTower", self.call("tower_add", uri=uri))

    def tower_remove(self, *, node_id: bytes | str) -> TowerRemoved:
        """Upload nothing more to a tower and ask it to forget us.

        Args:
            node_id: as the name says
        """
        return cast("TowerRemoved", self.call("tower_remove", node_id=node_id))

    def tower_list(self) -> Towers:
        """Our towers."""
        return cast("Towers", self.call("tower_list"))

    def tower_status(self) -> TowerCover:
        """How well our channels are guarded: receipts held, value at risk and since when."""
        return cast("TowerCover", self.call("tower_status"))

    def events(self, *, since: int | None = None, limit: int | None = None, wait: bool | None = None) -> Events:
        """What happened after a cursor; with `wait`, answers as soon as something did.

        Args:
            since: cursor of the last event known (default 0)
            limit: how many, oldest first (default 100)
            wait: wait up to 30 s if there is none yet (default False)
        """
        return cast("Events", self.call("events", since=since, limit=limit, wait=wait))

    def subscribe(self, *, since: int | None = None) -> Subscription:
        """Events as they happen, each a notification `event` with `subscription` and `event`.

        Args:
            since: cursor to go on after; left out: only what comes from now on
        """
        return cast("Subscription", self.call("subscribe", since=since))

    def unsubscribe(self, *, subscription: int) -> Unsubscribed:
        """End a subscription of this connection.

        Args:
            subscription: as the name says
        """
        return cast("Unsubscribed", self.call("unsubscribe", subscription=subscription))

    def stop(self) -> Stopping:
        """Shut the daemon down: nothing is lost, channels stay open."""
        return cast("Stopping", self.call("stop"))


class AsyncTowerCalls(ABC):
    """Every call of `TOWER`."""

    schema: Schema = TOWER

    @abstractmethod
    async def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and give its result."""

    async def get_info(self) -> Info:
        """Who this process is, where it listens and how the chain looks."""
        return cast("Info", await self.call("get_info"))

    async def tower_status(self) -> TowerStatus:
        """What the tower guards, what it has done and what it earned."""
        return cast("TowerStatus", await self.call("tower_status"))

    async def stop(self) -> Stopping:
        """Shut the daemon down: nothing is lost, channels stay open."""
        return cast("Stopping", await self.call("stop"))


class BlockingTowerCalls(ABC):
    """Every call of `TOWER`."""

    schema: Schema = TOWER

    @abstractmethod
    def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and give its result."""

    def get_info(self) -> Info:
        """Who this process is, where it listens and how the chain looks."""
        return cast("Info", self.call("get_info"))

    def tower_status(self) -> TowerStatus:
        """What the tower guards, what it has done and what it earned."""
        return cast("TowerStatus", self.call("tower_status"))

    def stop(self) -> Stopping:
        """Shut the daemon down: nothing is lost, channels stay open."""
        return cast("Stopping", self.call("stop"))
