"""Every method of the sockets, said once: parameters, results and errors.

Checks of requests (`Method.read`), `rpc.discover` (`discover`), the help of the command line and the typed client
(`channeld.client.calls`, written by `python -m channeld.client.generate`) all follow from `NODE` and `TOWER`.

Conventions: amounts are decimal strings of the token's base units; bytes are lower-case hex with 0x; times are
seconds, moments are seconds since 1970 by the chain's clock; a token is `native`, a symbol of the network's profile
or a 0x address. A call that moves money takes an `idempotency_key`: said again with the same key and the same
parameters it returns the first answer, with others it is refused as `idempotency_conflict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from channeld.api.faults import FAULTS, Fault, Number, number_of
from channeld.api.kinds import Anything, Choice, Field, Flag, Hex, Json, Kind, Many, Maybe, Record, Text, Units, Whole
from channeld.base.errors import Malformed

__all__ = [
    "FAULTS",
    "NODE",
    "TOWER",
    "Fault",
    "Field",
    "Kind",
    "Many",
    "Maybe",
    "Method",
    "Number",
    "Record",
    "Schema",
    "number_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One call: `help` is a sentence for people; `errors` lists codes beyond those any call can meet."""

    name: str
    help: str
    result: Record
    params: tuple[Field, ...] = ()
    errors: tuple[str, ...] = ()

    def read(self, params: Any) -> Json:
        """Keyword arguments for the service, defaults filled in; Malformed if `params` do not fit."""
        if isinstance(params, list):
            if len(params) > len(self.params):
                raise Malformed(f"{len(params)} parameters, {self.name} takes {len(self.params)}")
            params = dict(zip((field.name for field in self.params), params, strict=False))
        return Record(name=self.name, fields=self.params).read(params, "")

    def write(self, **given: Any) -> Json:
        """JSON parameters from Python values; those left None are left out."""
        kinds = {field.name: field.kind for field in self.params}
        return {name: kinds[name].write(value) for name, value in given.items() if value is not None}

    def openrpc(self) -> Json:
        """This method as OpenRPC has it."""
        return {
            "name": self.name,
            "summary": self.help,
            "paramStructure": "by-name",
            "params": [
                {
                    "name": field.name,
                    "required": field.required,
                    "schema": field.schema(),
                    "description": field.help,
                }
                for field in self.params
            ],
            "result": {"name": self.result.name, "schema": self.result.schema(), "description": self.result.help},
            "errors": [
                {"code": int(number_of(code)), "message": FAULTS[code].meaning, "data": {"code": code}}
                for code in self.errors
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """All methods of one kind of socket."""

    title: str
    methods: Mapping[str, Method]

    def discover(self, version: str) -> Json:
        """The OpenRPC 1.3.2 document that `rpc.discover` answers."""
        return {
            "openrpc": "1.3.2",
            "info": {"title": self.title, "version": version, "description": __doc__},
            "methods": [method.openrpc() for method in self.methods.values()],
        }


def _one(name: str, kind: Kind, help: str = "") -> Field:
    return Field(name=name, kind=kind, help=help)


def _opt(name: str, kind: Kind, help: str = "") -> Field:
    """A parameter that may be left out."""
    return Field(name=name, kind=Maybe(of=kind), help=help, default=None)


def _default(name: str, kind: Kind, default: Any, help: str = "") -> Field:
    return Field(name=name, kind=kind, help=help, default=default)


def _record(name: str, *fields: Field, help: str = "") -> Record:
    return Record(name=name, fields=fields, help=help)


HASH: Final = Hex(lengths=(32,))
NODE_ID: Final = Hex(lengths=(33,))
ADDRESS: Final = Hex(lengths=(20,))
PAYMENT: Final = Hex(lengths=(16, 32))
TOKEN: Final = Text(most=42, pattern=r"0x[0-9a-fA-F]{40}|[A-Za-z][A-Za-z0-9.]{0,15}", says="a symbol or a 0x address")
TIME: Final = Whole(most=2**32 - 1)
SECONDS: Final = Whole(most=30 * 86_400)
URI: Final = Text(most=200, pattern=r"(0x)?[0-9a-fA-F]{66}@.{1,128}:[0-9]{1,5}", says="node-id@host:port")
PEER: Final = Text(
    most=200, pattern=r"(0x)?[0-9a-fA-F]{66}(@.{1,128}:[0-9]{1,5})?", says="a node id, or node-id@host:port"
)
INVOICE: Final = Text(most=4_096, pattern=r"[A-Za-z0-9]+", says="an invoice")
DESCRIPTION: Final = Text(least=0, most=640)
KEY: Final = _opt("idempotency_key", Text(most=64), "said again with the same key, a call returns its first answer")
CURSOR: Final = _opt("cursor", Text(most=64), "`next` of the answer before")
LIMIT: Final = _default("limit", Whole(least=1, most=1_000), 100, "how many, newest first")
NEXT: Final = _one("next", Maybe(of=Text(most=64)), "cursor of the next page, null at the end")
SIGNED_AMOUNT: Final = Text(most=40, pattern=r"0|-?[1-9][0-9]*")

CHANNEL_STATES: Final = ("opening", "open", "closing", "closed", "failed")
"""`closing` from the first close or cooperate until the money is out; `failed`: never opened."""
PAYMENT_STATES: Final = ("pending", "succeeded", "failed", "unknown")
"""`unknown`: pending when the database was copied, and decided before the copy came back. Only the payee can tell."""
INVOICE_STATES: Final = ("open", "accepted", "paid", "expired")

BLOCK: Final = _record("BlockInfo", _one("number", Whole()), _one("timestamp", TIME), _one("hash", HASH))
HEAD: Final = _record(
    "HeadInfo",
    _one("latest", BLOCK),
    _one("safe", BLOCK),
    _one("finalized", BLOCK),
    _one("age", Whole(), "seconds since the newest block, by this machine's clock"),
)
TOKEN_INFO: Final = _record(
    "TokenInfo", _one("symbol", Text()), _one("token", ADDRESS), _one("decimals", Whole(most=77))
)

GRAPH: Final = _record(
    "GraphInfo",
    _one("channels", Whole(), "public ones that gossip has shown and the chain confirms"),
    _one("nodes", Whole(), "that have such a channel"),
    _one("syncing", Flag(), "whether a peer is being asked for more, or channels are being looked up"),
)
INFO: Final = _record(
    "Info",
    _one("role", Choice(words=("node", "tower"))),
    _one("version", Text()),
    _one("node_id", NODE_ID),
    _one("alias", Text(least=0)),
    _one("address", ADDRESS, "the account that pays for gas, and the participant in our channels"),
    _one("network", Text()),
    _one("chain_id", Whole()),
    _one("manager", ADDRESS),
    _one("registry", ADDRESS),
    _one("listen", Text(), "host:port where peers really reach this process"),
    _one("uris", Many(of=Text()), "node-id@host:port, for `connect` and `tower add`"),
    _one("socket", Text(most=4_096)),
    _one("head", HEAD),
    _one("safe_mode", Maybe(of=Text()), "why nothing new is begun, or null"),
    _default("gas_short", Maybe(of=Text()), None, "why the account could not enforce a further lock, or null"),
    _one("tokens", Many(of=TOKEN_INFO)),
    _default("peers", Whole(), 0, "connected now"),
    _default("channels", Anything(), {}, "number of channels in each state"),
    _default("graph", Maybe(of=GRAPH), None, "the known network; null for a tower, which needs none"),
)

BALANCE: Final = _record(
    "Balance",
    _one("token", ADDRESS),
    _one("symbol", Text()),
    _one("decimals", Whole(most=77)),
    _one("wallet", Units(), "on chain, in the daemon's account"),
    _one("spendable", Units(), "ours in open channels"),
    _one("pending", Units(), "ours in locks and in channels that open or close"),
    _one("receivable", Units(), "what open channels could still receive"),
    _one("owed", Units(), "credited by the contract after a failed payout"),
)
PEER_INFO: Final = _record(
    "PeerInfo",
    _one("node_id", NODE_ID),
    _one("address", Text(least=0), "host:port, if known"),
    _one("connected", Flag()),
    _one("inbound", Flag()),
    _default("alias", Text(least=0), ""),
    _default("channels", Whole(), 0),
)
CHANNEL: Final = _record(
    "Channel",
    _one("channel_id", HASH),
    _one("peer", NODE_ID),
    _one("state", Choice(words=CHANNEL_STATES)),
    _one("detail", Text(least=0), "the phase in the daemon's own words"),
    _one("token", ADDRESS),
    _one("symbol", Text()),
    _one("side", Choice(words=("a", "b")), "ours; a opened the channel"),
    _one("ours", Units(), "balance, without what is locked"),
    _one("theirs", Units()),
    _one("locked_ours", Units(), "in locks that we offered"),
    _one("locked_theirs", Units()),
    _one("deposit_ours", Units()),
    _one("deposit_theirs", Units()),
    _one("net", SIGNED_AMOUNT, "what we received less what we sent"),
    _one("locks", Whole()),
    _one("version", Whole(), "of the newest state both signed"),
    _one("challenge_period", SECONDS),
    _one("close_bond", Units(most=2**128 - 1)),
    _one("public", Flag()),
    _one("connected", Flag()),
    _default("frozen", Flag(), False),
    _default("deadline", Maybe(of=TIME), None, "end of the challenge period, while closing alone"),
    _default("opened_at", Maybe(of=TIME), None),
    _default("open_tx", Maybe(of=HASH), None),
    _default("close_tx", Maybe(of=HASH), None),
    _default("paid_ours", Maybe(of=Units()), None, "paid out to us on chain, once closed"),
    _default("paid_theirs", Maybe(of=Units()), None),
)
INVOICE_INFO: Final = _record(
    "Invoice",
    _one("invoice", Text(most=4_096)),
    _one("payment_hash", HASH),
    _one("payee", NODE_ID),
    _one("token", ADDRESS),
    _one("symbol", Text()),
    _one("amount", Maybe(of=Units()), "null leaves it to the payer"),
    _one("description", Text(least=0, most=640)),
    _one("created_at", TIME),
    _one("expires_at", TIME),
    _one("state", Choice(words=INVOICE_STATES)),
    _default("received", Maybe(of=Units()), None),
    _default("paid_at", Maybe(of=TIME), None),
    _default("preimage", Maybe(of=HASH), None, "once paid; only of our own invoices"),
)
PAYMENT_INFO: Final = _record(
    "Payment",
    _one("id", PAYMENT, "32 bytes, the payment hash; or 16 bytes, the id of a direct transfer"),
    _one("kind", Choice(words=("invoice", "transfer"))),
    _one("direction", Choice(words=("out", "in"))),
    _one("state", Choice(words=PAYMENT_STATES)),
    _one("token", ADDRESS),
    _one("symbol", Text()),
    _one("amount", Units(), "what the payee gets"),
    _one("fee", Units(), "what the hops between take on top; 0 on the way in"),
    _one("peer", Maybe(of=NODE_ID), "the payee if we pay; the neighbour if we are paid"),
    _one("created_at", TIME),
    _default("settled_at", Maybe(of=TIME), None),
    _default("preimage", Maybe(of=HASH), None),
    _default("hops", Whole(), 0),
    _default("description", Text(least=0, most=640), ""),
    _default("channel_id", Maybe(of=HASH), None, "for a direct transfer"),
    _default("error", Maybe(of=Text(most=64)), None, "code of the failure"),
    _default("error_text", Maybe(of=Text(most=512)), None, "what failed, and at which hop"),
)
HOP: Final = _record(
    "Hop",
    _one("channel_id", HASH),
    _one("node_id", NODE_ID, "whom this hop pays"),
    _one("amount", Units(), "of its lock"),
    _one("fee", Units(), "what the node that offers it keeps; 0 for us"),
)
PART: Final = _record(
    "Part",
    _one("amount", Units(), "what the payee gets of it"),
    _one("fee", Units()),
    _one("lock_seconds", Whole(), "how long our lock may stand"),
    _one("hops", Many(of=HOP)),
)
PLAN: Final = _record(
    "Plan",
    _one("amount", Units(), "what the payee gets"),
    _one("fee", Units(), "of all parts"),
    _one("chance_ppm", Whole(most=1_000_000), "how likely all parts arrive at once, as far as was learned; millionths"),
    _one("parts", Many(of=PART), "sent at the same time, all or nothing"),
)
TOWER_INFO: Final = _record(
    "OurTower",
    _one("node_id", NODE_ID),
    _one("address", Text()),
    _one("reachable", Flag()),
    _one("channels", Whole(), "channels with a valid receipt of the newest state"),
    _one("behind", Whole(), "channels of which the tower lacks the newest state"),
    _one("value_at_risk", Units(), "what a theft could cost us while the tower is behind"),
    _default("at_risk_since", Maybe(of=TIME), None),
    _default("last_receipt_at", Maybe(of=TIME), None),
    _default("error", Maybe(of=Text(most=512)), None),
)
EVENT: Final = _record(
    "Event",
    _one("cursor", Whole(), "strictly increasing; hand it to `since` to go on after it"),
    _one("type", Text(), "such as channel_open, payment_received, close_seen"),
    _one("at", TIME),
    _one("data", Anything()),
)

DIRECT: Final = _record(
    "DirectTransfer",
    _one("amount", Units(least=1)),
    _opt("id", Hex(lengths=(16,)), "the payment's id; chosen by the daemon if left out"),
)


def _methods(*methods: Method) -> dict[str, Method]:
    return {method.name: method for method in methods}


_OPENING: Final = (
    "unknown_peer",
    "unknown_token",
    "insufficient_funds",
    "insufficient_gas",
    "peer_refused",
    "safe_mode",
)
_PAYING: Final = (
    "invoice_malformed", "invoice_expired", "invoice_paid", "invoice_own", "invoice_wrong_chain", "amount_required",
    "insufficient_balance", "no_route", "fee_budget", "hop_short", "payee_offline", "payment_failed", "payment_timeout",
    "payment_unknown", "idempotency_conflict", "safe_mode",
)  # fmt: skip

STOP: Final = Method(
    name="stop",
    help="Shut the daemon down: nothing is lost, channels stay open.",
    result=_record("Stopping", _default("stopping", Flag(), True)),
)
GET_INFO: Final = Method(
    name="get_info", help="Who this process is, where it listens and how the chain looks.", result=INFO
)
EVENTS: Final = Method(
    name="events",
    help="What happened after a cursor; with `wait`, answers as soon as something did.",
    params=(
        _default("since", Whole(), 0, "cursor of the last event known"),
        _default("limit", Whole(least=1, most=1_000), 100, "how many, oldest first"),
        _default("wait", Flag(), False, "wait up to 30 s if there is none yet"),
    ),
    result=_record("Events", _one("events", Many(of=EVENT)), _one("cursor", Whole(), "the last one looked at")),
)
SUBSCRIBE: Final = Method(
    name="subscribe",
    help="Events as they happen, each a notification `event` with `subscription` and `event`.",
    params=(_opt("since", Whole(), "cursor to go on after; left out: only what comes from now on"),),
    result=_record("Subscription", _one("subscription", Whole()), _one("cursor", Whole(), "where it starts")),
)
UNSUBSCRIBE: Final = Method(
    name="unsubscribe",
    help="End a subscription of this connection.",
    params=(_one("subscription", Whole()),),
    result=_record("Unsubscribed", _one("ended", Flag())),
)

NODE: Final = Schema(
    title="channeld node",
    methods=_methods(
        GET_INFO,
        Method(
            name="get_balance",
            help="What we have in each token: on chain, in channels, pending.",
            result=_record("Balances", _one("balances", Many(of=BALANCE))),
        ),
        Method(
            name="connect_peer",
            help="Connect to a node and keep connected while there are channels with it.",
            params=(_one("uri", URI, "node-id@host:port"),),
            result=_record("Connected", _one("node_id", NODE_ID), _one("address", Text()), _one("connected", Flag())),
            errors=("unreachable", "peer_fault"),
        ),
        Method(
            name="list_peers",
            help="Nodes we are connected to or have channels with.",
            result=_record("Peers", _one("peers", Many(of=PEER_INFO, most=1_000_000))),
        ),
        Method(
            name="open_channel",
            help="Open a channel: agree with the peer, then send the first deposit. Watch list_channels for the rest.",
            params=(
                _one("peer", PEER, "node id, or node-id@host:port"),
                _one("token", TOKEN, "`native`, a symbol of the network's profile or a 0x address"),
                _one("amount", Units(), "our deposit, base units"),
                _default("peer_amount", Units(), 0, "what the peer is asked to deposit, base units"),
                _opt("challenge_period", SECONDS, "seconds; left out: the setting"),
                _default("public", Flag(), True, "announce the channel so that others route over it"),
                KEY,
            ),
            result=_record(
                "Opening",
                _one("channel_id", HASH),
                _one("peer", NODE_ID),
                _one("state", Choice(words=CHANNEL_STATES)),
                _default("open_tx", Maybe(of=HASH), None, "our deposit, once sent"),
            ),
            errors=_OPENING,
        ),
        Method(
            name="list_channels",
            help="Our channels, or one of them.",
            params=(
                _opt("channel_id", HASH, "only this one"),
                _default("closed", Flag(), True, "those that are over, too"),
            ),
            result=_record("Channels", _one("channels", Many(of=CHANNEL, most=1_000_000))),
            errors=("unknown_channel",),
        ),
        Method(
            name="close_channel",
            help="Close a channel: together with the peer, or alone with `force` or when the time is up.",
            params=(
                _one("channel_id", HASH),
                _default("force", Flag(), False, "close alone at once; the money comes after the challenge period"),
                _default("timeout", SECONDS, 30, "seconds to try it together before closing alone"),
            ),
            result=_record(
                "Closing",
                _one("channel_id", HASH),
                _one("state", Choice(words=CHANNEL_STATES)),
                _one("how", Choice(words=("cooperative", "unilateral"))),
                _default("close_tx", Maybe(of=HASH), None, "once sent"),
                _default("deadline", Maybe(of=TIME), None, "end of the challenge period, if known yet"),
            ),
            errors=("unknown_channel", "channel_not_open", "insufficient_gas"),
        ),
        Method(
            name="make_invoice",
            help="Ask for a payment: text that any node of the network can pay.",
            params=(
                _one("token", TOKEN),
                _opt("amount", Units(least=1), "base units; left out: the payer chooses"),
                _default("description", DESCRIPTION, "", "shown to the payer"),
                _default("expiry", Whole(least=1, most=365 * 86_400), 3_600, "seconds until it is void"),
                KEY,
            ),
            result=INVOICE_INFO,
            errors=("unknown_token", "amount_too_large", "idempotency_conflict"),
        ),
        Method(
            name="decode_invoice",
            help="What an invoice says; checks its form and signature, pays nothing.",
            params=(_one("invoice", INVOICE),),
            result=INVOICE_INFO,
            errors=("invoice_malformed", "invoice_wrong_chain"),
        ),
        Method(
            name="lookup_invoice",
            help="One of our invoices and whether it was paid.",
            params=(_one("payment_hash", HASH),),
            result=INVOICE_INFO,
            errors=("unknown_invoice",),
        ),
        Method(
            name="list_invoices",
            help="Our invoices, newest first.",
            params=(LIMIT, CURSOR),
            result=_record("Invoices", _one("invoices", Many(of=INVOICE_INFO)), NEXT),
        ),
        Method(
            name="pay_invoice",
            help="Pay an invoice. The answer comes with the outcome; asked again, the first outcome is told again.",
            params=(
                _one("invoice", INVOICE),
                _opt("amount", Units(least=1), "base units; only if the invoice leaves it open"),
                _opt("max_fee", Units(), "base units; left out: the setting"),
                _default("timeout", Whole(least=1, most=86_400), 60, "seconds to find a path that works"),
                KEY,
            ),
            result=PAYMENT_INFO,
            errors=_PAYING,
        ),
        Method(
            name="find_route",
            help="How a payment would go now: parts, hops, fees and how likely it arrives. Nothing is paid or asked.",
            params=(
                _one("invoice", INVOICE),
                _opt("amount", Units(least=1), "base units; only if the invoice leaves it open"),
                _opt("max_fee", Units(), "base units; left out: the setting"),
            ),
            result=PLAN,
            errors=(
                *("invoice_malformed", "invoice_own", "invoice_wrong_chain", "amount_required", "amount_fixed"),
                *("insufficient_balance", "no_route", "fee_budget"),
            ),
        ),
        Method(
            name="send_transfers",
            help="Pay the peer of a channel directly: a list of transfers, signed as one batch.",
            params=(
                _one("channel_id", HASH),
                _one("transfers", Many(of=DIRECT, least=1, most=4_096)),
                _default("wait", Flag(), True, "answer when the peer has acknowledged, else when they are saved"),
            ),
            result=_record(
                "Transferred",
                _one("ids", Many(of=Hex(lengths=(16,)), most=4_096), "in the order of the transfers"),
                _one("state", Choice(words=PAYMENT_STATES), "succeeded: acknowledged by the peer"),
                _default("version", Maybe(of=Whole()), None, "of the state that holds the last of them"),
            ),
            errors=("unknown_channel", "channel_not_open", "channel_frozen", "insufficient_balance", "unreachable"),
        ),
        Method(
            name="lookup_payment",
            help="One payment and its outcome.",
            params=(_one("id", PAYMENT, "payment hash, or id of a direct transfer"),),
            result=PAYMENT_INFO,
            errors=("unknown_payment",),
        ),
        Method(
            name="list_payments",
            help="Payments made and received, newest first.",
            params=(LIMIT, CURSOR),
            result=_record("Payments", _one("payments", Many(of=PAYMENT_INFO)), NEXT),
        ),
        Method(
            name="tower_add",
            help="Let a watchtower guard our channels, from now on.",
            params=(_one("uri", URI, "node-id@host:port of the tower"),),
            result=TOWER_INFO,
            errors=("unreachable", "peer_refused"),
        ),
        Method(
            name="tower_remove",
            help="Upload nothing more to a tower and ask it to forget us.",
            params=(_one("node_id", NODE_ID),),
            result=_record("TowerRemoved", _one("node_id", NODE_ID)),
            errors=("unknown_tower",),
        ),
        Method(
            name="tower_list",
            help="Our towers.",
            result=_record("Towers", _one("towers", Many(of=TOWER_INFO))),
        ),
        Method(
            name="tower_status",
            help="How well our channels are guarded: receipts held, value at risk and since when.",
            result=_record(
                "TowerCover",
                _one("role", Choice(words=("node",))),
                _one("towers", Many(of=TOWER_INFO)),
                _one("channels", Whole(), "channels that have something to lose"),
                _one("guarded", Whole(), "of these, with enough valid receipts"),
                _one("value_at_risk", Units()),
                _default("at_risk_since", Maybe(of=TIME), None),
            ),
        ),
        EVENTS,
        SUBSCRIBE,
        UNSUBSCRIBE,
        STOP,
    ),
)
"""What `channeld run` serves."""

TOWER: Final = Schema(
    title="channeld tower",
    methods=_methods(
        GET_INFO,
        Method(
            name="tower_status",
            help="What the tower guards, what it has done and what it earned.",
            result=_record(
                "TowerStatus",
                _one("role", Choice(words=("tower",))),
                _one("appointments", Whole(), "kept now"),
                _one("watched", Whole(), "closes seen whose deadline is not over"),
                _one("challenges_sent", Whole()),
                _one("challenges_mined", Whole()),
                _one("finalized", Whole()),
                _one("earned", Units(most=2**128 - 1), "bonds paid to us, wei"),
                _one("spent", Units(most=2**128 - 1), "gas paid, wei"),
                _one("balance", Units(most=2**128 - 1), "the tower's account, wei"),
                _one("head", HEAD),
                _default("next_deadline", Maybe(of=TIME), None),
            ),
        ),
        STOP,
    ),
)
"""What `channeld tower run` serves."""
