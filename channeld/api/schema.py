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
from channeld.api.kinds import Choice, Field, Flag, Hex, Json, Kind, Many, Maybe, Record, Text, Units, Whole
from channeld.api.records import (
    BALANCE,
    CHANNEL,
    CHANNEL_STATES,
    CURSOR,
    DESCRIPTION,
    DIRECT,
    EVENT,
    HASH,
    HEAD,
    INFO,
    INVOICE,
    INVOICE_INFO,
    KEY,
    LEARNED,
    LEARNED_VERSION,
    LIMIT,
    MAX_HOLD,
    NEXT,
    NODE_ID,
    PAYMENT,
    PAYMENT_INFO,
    PAYMENT_STATES,
    PEER,
    PEER_INFO,
    PLAN,
    PROBE,
    SECONDS,
    TIME,
    TOKEN,
    TOWER_INFO,
    URI,
    default,
    one,
    opt,
    record,
)
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
    "insufficient_balance", "no_route", "unknown_payee", "fee_budget", "hop_short", "payee_offline", "payment_failed",
    "payment_rejected", "payment_timeout", "payment_unknown", "idempotency_conflict", "safe_mode",
)  # fmt: skip
_TO_NODE: Final = (
    one("node_id", NODE_ID, "the payee"),
    one("token", TOKEN),
    one("amount", Units(least=1), "what the payee is to get, base units"),
    opt("max_fee", Units(), "base units; left out: the setting"),
)
_NO_WAY: Final = ("insufficient_balance", "no_route", "unknown_payee", "fee_budget")

_SENDING: Final = tuple(code for code in _PAYING if not code.startswith(("invoice_", "amount_")))

STOP: Final = Method(
    name="stop",
    help="Shut the daemon down: nothing is lost, channels stay open.",
    result=record("Stopping", default("stopping", Flag(), True)),
)
GET_INFO: Final = Method(
    name="get_info", help="Who this process is, where it listens and how the chain looks.", result=INFO
)
EVENTS: Final = Method(
    name="events",
    help="What happened after a cursor; with `wait`, answers as soon as something did.",
    params=(
        default("since", Whole(), 0, "cursor of the last event known"),
        default("limit", Whole(least=1, most=1_000), 100, "how many, oldest first"),
        default("wait", Flag(), False, "wait up to 30 s if there is none yet"),
    ),
    result=record("Events", one("events", Many(of=EVENT)), one("cursor", Whole(), "the last one looked at")),
)
SUBSCRIBE: Final = Method(
    name="subscribe",
    help="Events as they happen, each a notification `event` with `subscription` and `event`.",
    params=(opt("since", Whole(), "cursor to go on after; left out: only what comes from now on"),),
    result=record("Subscription", one("subscription", Whole()), one("cursor", Whole(), "where it starts")),
)
UNSUBSCRIBE: Final = Method(
    name="unsubscribe",
    help="End a subscription of this connection.",
    params=(one("subscription", Whole()),),
    result=record("Unsubscribed", one("ended", Flag())),
)

NODE: Final = Schema(
    title="channeld node",
    methods=_methods(
        GET_INFO,
        Method(
            name="get_balance",
            help="What we have in each token: on chain, in channels, pending.",
            result=record("Balances", one("balances", Many(of=BALANCE))),
        ),
        Method(
            name="connect_peer",
            help="Connect to a node and keep connected while there are channels with it.",
            params=(one("uri", URI, "node-id@host:port"),),
            result=record("Connected", one("node_id", NODE_ID), one("address", Text()), one("connected", Flag())),
            errors=("unreachable", "peer_fault"),
        ),
        Method(
            name="list_peers",
            help="Nodes we are connected to or have channels with.",
            result=record("Peers", one("peers", Many(of=PEER_INFO, most=1_000_000))),
        ),
        Method(
            name="open_channel",
            help="Open a channel: agree with the peer, then send the first deposit. Watch list_channels for the rest.",
            params=(
                one("peer", PEER, "node id, or node-id@host:port"),
                one("token", TOKEN, "`native`, a symbol of the network's profile or a 0x address"),
                one("amount", Units(), "our deposit, base units"),
                default("peer_amount", Units(), 0, "what the peer is asked to deposit, base units"),
                opt("challenge_period", SECONDS, "seconds; left out: the setting"),
                default("public", Flag(), True, "announce the channel so that others route over it"),
                KEY,
            ),
            result=record(
                "Opening",
                one("channel_id", HASH),
                one("peer", NODE_ID),
                one("state", Choice(words=CHANNEL_STATES)),
                default("open_tx", Maybe(of=HASH), None, "our deposit, once sent"),
            ),
            errors=_OPENING,
        ),
        Method(
            name="list_channels",
            help="Our channels, or one of them.",
            params=(
                opt("channel_id", HASH, "only this one"),
                default("closed", Flag(), True, "those that are over, too"),
            ),
            result=record("Channels", one("channels", Many(of=CHANNEL, most=1_000_000))),
            errors=("unknown_channel",),
        ),
        Method(
            name="close_channel",
            help="Close a channel: together with the peer, or alone with `force` or when the time is up.",
            params=(
                one("channel_id", HASH),
                default("force", Flag(), False, "close alone at once; the money comes after the challenge period"),
                default("timeout", SECONDS, 30, "seconds to try it together before closing alone"),
            ),
            result=record(
                "Closing",
                one("channel_id", HASH),
                one("state", Choice(words=CHANNEL_STATES)),
                one("how", Choice(words=("cooperative", "unilateral"))),
                default("close_tx", Maybe(of=HASH), None, "once sent"),
                default("deadline", Maybe(of=TIME), None, "end of the challenge period, if known yet"),
            ),
            errors=("unknown_channel", "channel_not_open", "insufficient_gas"),
        ),
        Method(
            name="make_invoice",
            help="Ask for a payment: text that any node of the network can pay.",
            params=(
                one("token", TOKEN),
                opt("amount", Units(least=1), "base units; left out: the payer chooses"),
                default("description", DESCRIPTION, "", "shown to the payer"),
                default("expiry", Whole(least=1, most=365 * 86_400), 3_600, "seconds until it is void"),
                KEY,
                opt("payment_hash", HASH, "sha256 of a preimage that the daemon is not told: the payment will be held"),
                opt("hold_time", Whole(least=1, most=MAX_HOLD), "seconds for which it can be held; left out: an hour"),
            ),
            result=INVOICE_INFO,
            errors=("unknown_token", "amount_too_large", "invoice_exists", "idempotency_conflict"),
        ),
        Method(
            name="settle_invoice",
            help="Take a held payment, with the preimage of its invoice. Said again, it is answered the same.",
            params=(one("preimage", HASH, "its sha256 is the invoice's payment hash"),),
            result=INVOICE_INFO,
            errors=("unknown_invoice", "invoice_not_held", "invoice_canceled", "hold_expired"),
        ),
        Method(
            name="cancel_invoice",
            help="Give a held payment back, or make an open invoice void. Said again, it is answered the same.",
            params=(one("payment_hash", HASH),),
            result=INVOICE_INFO,
            errors=("unknown_invoice", "invoice_paid", "preimage_known"),
        ),
        Method(
            name="decode_invoice",
            help="What an invoice says; checks its form and signature, pays nothing.",
            params=(one("invoice", INVOICE),),
            result=INVOICE_INFO,
            errors=("invoice_malformed", "invoice_wrong_chain"),
        ),
        Method(
            name="lookup_invoice",
            help="One of our invoices and whether it was paid.",
            params=(one("payment_hash", HASH),),
            result=INVOICE_INFO,
            errors=("unknown_invoice",),
        ),
        Method(
            name="list_invoices",
            help="Our invoices, newest first.",
            params=(LIMIT, CURSOR),
            result=record("Invoices", one("invoices", Many(of=INVOICE_INFO)), NEXT),
        ),
        Method(
            name="pay_invoice",
            help="Pay an invoice. The answer comes with the outcome; asked again, the first outcome is told again.",
            params=(
                one("invoice", INVOICE),
                opt("amount", Units(least=1), "base units; only if the invoice leaves it open"),
                opt("max_fee", Units(), "base units; left out: the setting"),
                default("timeout", Whole(least=1, most=86_400), 60, "seconds to find a path that works"),
                KEY,
            ),
            result=PAYMENT_INFO,
            errors=_PAYING,
        ),
        Method(
            name="pay_keysend",
            help="Pay a node that has asked for nothing, if it takes such payments. Without a key each call pays.",
            params=(
                one("node_id", NODE_ID, "who is paid"),
                one("token", TOKEN),
                one("amount", Units(least=1), "base units"),
                opt("max_fee", Units(), "base units; left out: the setting"),
                default("timeout", Whole(least=1, most=86_400), 60, "seconds to find a path that works"),
                KEY,
            ),
            result=PAYMENT_INFO,
            errors=("unknown_token", "payee_own", *_SENDING),
        ),
        Method(
            name="find_route",
            help="How a payment would go now: parts, hops, fees and how likely it arrives. Nothing is paid or asked.",
            params=(
                one("invoice", INVOICE),
                opt("amount", Units(least=1), "base units; only if the invoice leaves it open"),
                opt("max_fee", Units(), "base units; left out: the setting"),
            ),
            result=PLAN,
            errors=(
                *("invoice_malformed", "invoice_own", "invoice_wrong_chain", "amount_required", "amount_fixed"),
                *_NO_WAY,
            ),
        ),
        Method(
            name="estimate",
            help="How a payment to a node would go now, without an invoice. Nothing is paid or asked.",
            params=_TO_NODE,
            result=PLAN,
            errors=("unknown_token", "payee_own", *_NO_WAY),
        ),
        Method(
            name="probe",
            help="Send a lock that nobody can take to a node and back, in one part: how far it gets is learned.",
            params=_TO_NODE,
            result=PROBE,
            errors=("probing_off", "busy", "safe_mode", "too_many_locks", "unknown_token", "payee_own", *_NO_WAY),
        ),
        Method(
            name="rebalance",
            help="Pay ourselves, out over one channel and home over another. Asked again, the first outcome is told.",
            params=(
                one("from_channel", HASH, "which can send less afterwards, by amount and fee"),
                one("to_channel", HASH, "which can send more, by the amount"),
                one("amount", Units(least=1), "base units"),
                opt("max_fee", Units(), "base units, for the whole way; left out: the setting"),
                default("timeout", Whole(least=1, most=86_400), 60, "seconds to find a way that works"),
                KEY,
            ),
            result=PAYMENT_INFO,
            errors=(
                *("unknown_channel", "bad_circle", "channel_not_open", "unreachable", "hop_short", *_NO_WAY),
                *("payee_offline", "payment_failed", "payment_rejected", "payment_timeout", "payment_unknown"),
                *("idempotency_conflict", "safe_mode"),
            ),
        ),
        Method(
            name="export_liquidity",
            help="What payments have taught of others' balances, in the order of channel ids; of public channels only.",
            params=(CURSOR, default("limit", Whole(least=1, most=2_000), 1_000, "how many channels")),
            result=record("Liquidity", LEARNED_VERSION, one("channels", Many(of=LEARNED, most=2_000)), NEXT),
        ),
        Method(
            name="import_liquidity",
            help="Take over what another payer has learned, where it says more by now than what is known; all or none.",
            params=(
                LEARNED_VERSION,
                one("channels", Many(of=LEARNED, most=2_000)),
                default("check", Flag(), False, "only say what would be taken over"),
            ),
            result=record(
                "LiquidityTaken",
                one("taken", Whole(), "channels of which it said more"),
                one("kept", Whole(), "channels of which we knew as much"),
                one("unknown", Whole(), "passed over: no public channel we know"),
            ),
        ),
        Method(
            name="send_transfers",
            help="Pay the peer of a channel directly: a list of transfers, signed as one batch.",
            params=(
                one("channel_id", HASH),
                one("transfers", Many(of=DIRECT, least=1, most=4_096)),
                default("wait", Flag(), True, "answer when the peer has acknowledged, else when they are saved"),
            ),
            result=record(
                "Transferred",
                one("ids", Many(of=Hex(lengths=(16,)), most=4_096), "in the order of the transfers"),
                one("state", Choice(words=PAYMENT_STATES), "succeeded: acknowledged by the peer"),
                default("version", Maybe(of=Whole()), None, "of the state that holds the last of them"),
            ),
            errors=("unknown_channel", "channel_not_open", "channel_frozen", "insufficient_balance", "unreachable"),
        ),
        Method(
            name="lookup_payment",
            help="One payment and its outcome.",
            params=(one("id", PAYMENT, "payment hash, or id of a direct transfer"),),
            result=PAYMENT_INFO,
            errors=("unknown_payment",),
        ),
        Method(
            name="list_payments",
            help="Payments made and received, newest first.",
            params=(LIMIT, CURSOR),
            result=record("Payments", one("payments", Many(of=PAYMENT_INFO)), NEXT),
        ),
        Method(
            name="tower_add",
            help="Let a watchtower guard our channels, from now on.",
            params=(one("uri", URI, "node-id@host:port of the tower"),),
            result=TOWER_INFO,
            errors=("unreachable", "peer_refused"),
        ),
        Method(
            name="tower_remove",
            help="Upload nothing more to a tower and ask it to forget us.",
            params=(one("node_id", NODE_ID),),
            result=record("TowerRemoved", one("node_id", NODE_ID)),
            errors=("unknown_tower",),
        ),
        Method(
            name="tower_list",
            help="Our towers.",
            result=record("Towers", one("towers", Many(of=TOWER_INFO))),
        ),
        Method(
            name="tower_status",
            help="How well our channels are guarded: receipts held, value at risk and since when.",
            result=record(
                "TowerCover",
                one("role", Choice(words=("node",))),
                one("towers", Many(of=TOWER_INFO)),
                one("channels", Whole(), "channels that have something to lose"),
                one("guarded", Whole(), "of these, with enough valid receipts"),
                one("value_at_risk", Units()),
                default("at_risk_since", Maybe(of=TIME), None),
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
            result=record(
                "TowerStatus",
                one("role", Choice(words=("tower",))),
                one("appointments", Whole(), "kept now"),
                one("watched", Whole(), "closes seen whose deadline is not over"),
                one("challenges_sent", Whole()),
                one("challenges_mined", Whole()),
                one("finalized", Whole()),
                one("earned", Units(most=2**128 - 1), "bonds paid to us, wei"),
                one("spent", Units(most=2**128 - 1), "gas paid, wei"),
                one("balance", Units(most=2**128 - 1), "the tower's account, wei"),
                one("head", HEAD),
                default("next_deadline", Maybe(of=TIME), None),
            ),
        ),
        STOP,
    ),
)
"""What `channeld tower run` serves."""
