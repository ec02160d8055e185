"""The shapes that answers of the sockets are made of, and the kinds of their fields; `schema` says which call gives
which.

A record is written once here and from it follow the check of what a service answers, the client's `TypedDict` and the
documentation. Amounts, bytes and times are written as `schema` says.
"""

from __future__ import annotations

from typing import Any, Final

from channeld.api.kinds import Anything, Choice, Field, Flag, Hex, Kind, Many, Maybe, Record, Text, Units, Whole
from channeld.base.units import MAX_AMOUNT


def one(name: str, kind: Kind, help: str = "") -> Field:
    return Field(name=name, kind=kind, help=help)


def opt(name: str, kind: Kind, help: str = "") -> Field:
    """A parameter that may be left out."""
    return Field(name=name, kind=Maybe(of=kind), help=help, default=None)


def default(name: str, kind: Kind, default: Any, help: str = "") -> Field:
    return Field(name=name, kind=kind, help=help, default=default)


def record(name: str, *fields: Field, help: str = "") -> Record:
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
KEY: Final = opt("idempotency_key", Text(most=64), "said again with the same key, a call returns its first answer")
CURSOR: Final = opt("cursor", Text(most=64), "`next` of the answer before")
LIMIT: Final = default("limit", Whole(least=1, most=1_000), 100, "how many, newest first")
NEXT: Final = one("next", Maybe(of=Text(most=64)), "cursor of the next page, null at the end")
MAX_HOLD: Final = 7 * 86_400
"""Seconds. A lock may hang for 14 days in all, and takes more slots of every hop the longer it may."""
SIGNED_AMOUNT: Final = Text(most=40, pattern=r"0|-?[1-9][0-9]*")

CHANNEL_STATES: Final = ("opening", "open", "closing", "closed", "failed")
"""`closing` from the first close or cooperate until the money is out; `failed`: never opened."""
PAYMENT_STATES: Final = ("pending", "succeeded", "failed", "unknown")
"""`unknown`: pending when the database was copied, and decided before the copy came back. Only the payee can tell."""
INVOICE_STATES: Final = ("open", "held", "accepted", "paid", "expired", "canceled")
"""`held`: paid, and waits for `settle_invoice` or `cancel_invoice` (others say accepted). `accepted`: paid and the
money ours, but too few towers guard it yet for it to count as received."""

BLOCK: Final = record("BlockInfo", one("number", Whole()), one("timestamp", TIME), one("hash", HASH))
HEAD: Final = record(
    "HeadInfo",
    one("latest", BLOCK),
    one("safe", BLOCK),
    one("finalized", BLOCK),
    one("age", Whole(), "seconds since the newest block, by this machine's clock"),
)
TOKEN_INFO: Final = record("TokenInfo", one("symbol", Text()), one("token", ADDRESS), one("decimals", Whole(most=77)))

GRAPH: Final = record(
    "GraphInfo",
    one("channels", Whole(), "public ones that gossip has shown and the chain confirms"),
    one("nodes", Whole(), "that have such a channel"),
    one("syncing", Flag(), "whether a peer is being asked for more, or channels are being looked up"),
)
INFO: Final = record(
    "Info",
    one("role", Choice(words=("node", "tower"))),
    one("version", Text()),
    one("node_id", NODE_ID),
    one("alias", Text(least=0)),
    one("address", ADDRESS, "the account that pays for gas, and the participant in our channels"),
    one("network", Text()),
    one("chain_id", Whole()),
    one("manager", ADDRESS),
    one("registry", ADDRESS),
    one("listen", Text(), "host:port where peers really reach this process"),
    one("uris", Many(of=Text()), "node-id@host:port, for `connect` and `tower add`"),
    one("socket", Text(most=4_096)),
    one("head", HEAD),
    one("safe_mode", Maybe(of=Text()), "why nothing new is begun, or null"),
    default("gas_short", Maybe(of=Text()), None, "why the account could not enforce a further lock, or null"),
    one("tokens", Many(of=TOKEN_INFO)),
    default("peers", Whole(), 0, "connected now"),
    default("channels", Anything(), {}, "number of channels in each state"),
    default("graph", Maybe(of=GRAPH), None, "the known network; null for a tower, which needs none"),
)

BALANCE: Final = record(
    "Balance",
    one("token", ADDRESS),
    one("symbol", Text()),
    one("decimals", Whole(most=77)),
    one("wallet", Units(), "on chain, in the daemon's account"),
    one("spendable", Units(), "ours in open channels"),
    one("pending", Units(), "ours in locks and in channels that open or close"),
    one("receivable", Units(), "what open channels could still receive"),
    one("owed", Units(), "credited by the contract after a failed payout"),
)
PEER_INFO: Final = record(
    "PeerInfo",
    one("node_id", NODE_ID),
    one("address", Text(least=0), "host:port, if known"),
    one("connected", Flag()),
    one("inbound", Flag()),
    default("alias", Text(least=0), ""),
    default("channels", Whole(), 0),
)
CHANNEL: Final = record(
    "Channel",
    one("channel_id", HASH),
    one("peer", NODE_ID),
    one("state", Choice(words=CHANNEL_STATES)),
    one("detail", Text(least=0), "the phase in the daemon's own words"),
    one("token", ADDRESS),
    one("symbol", Text()),
    one("side", Choice(words=("a", "b")), "ours; a opened the channel"),
    one("ours", Units(), "balance, without what is locked"),
    one("theirs", Units()),
    one("locked_ours", Units(), "in locks that we offered"),
    one("locked_theirs", Units()),
    one("deposit_ours", Units()),
    one("deposit_theirs", Units()),
    one("net", SIGNED_AMOUNT, "what we received less what we sent"),
    one("locks", Whole()),
    one("version", Whole(), "of the newest state both signed"),
    one("challenge_period", SECONDS),
    one("close_bond", Units(most=2**128 - 1)),
    one("public", Flag()),
    one("connected", Flag()),
    default("frozen", Flag(), False),
    default("deadline", Maybe(of=TIME), None, "end of the challenge period, while closing alone"),
    default("opened_at", Maybe(of=TIME), None),
    default("open_tx", Maybe(of=HASH), None),
    default("close_tx", Maybe(of=HASH), None),
    default("paid_ours", Maybe(of=Units()), None, "paid out to us on chain, once closed"),
    default("paid_theirs", Maybe(of=Units()), None),
)
INVOICE_INFO: Final = record(
    "Invoice",
    one("invoice", Text(least=0, most=4_096), "empty for a keysend"),
    one("payment_hash", HASH),
    one("payee", NODE_ID),
    one("token", ADDRESS),
    one("symbol", Text()),
    one("amount", Maybe(of=Units()), "null leaves it to the payer"),
    one("description", Text(least=0, most=640)),
    one("created_at", TIME),
    one("expires_at", TIME),
    one("state", Choice(words=INVOICE_STATES)),
    default("received", Maybe(of=Units()), None),
    default("paid_at", Maybe(of=TIME), None),
    default("preimage", Maybe(of=HASH), None, "once paid; only of our own invoices"),
    default("hold_time", SECONDS, 0, "seconds for which a payment can be held; 0: it never is. Of our own invoices"),
    default("settle_by", Maybe(of=TIME), None, "while held: the last moment to settle it; then it is given back"),
    default("keysend", Flag(), False, "a payment that came without an invoice"),
)
PAYMENT_INFO: Final = record(
    "Payment",
    one("id", PAYMENT, "32 bytes, the payment hash; or 16 bytes, the id of a direct transfer"),
    one("kind", Choice(words=("invoice", "keysend", "transfer", "rebalance"))),
    one("direction", Choice(words=("out", "in", "self"))),
    one("state", Choice(words=PAYMENT_STATES)),
    one("token", ADDRESS),
    one("symbol", Text()),
    one("amount", Units(), "what the payee gets"),
    one("fee", Units(), "what the hops between take on top; 0 on the way in"),
    one("peer", Maybe(of=NODE_ID), "the payee if we pay, ourselves for a rebalance; the neighbour if we are paid"),
    one("created_at", TIME),
    default("settled_at", Maybe(of=TIME), None),
    default("preimage", Maybe(of=HASH), None),
    default("hops", Whole(), 0),
    default("description", Text(least=0, most=640), ""),
    default("channel_id", Maybe(of=HASH), None, "for a direct transfer"),
    default("from_channel", Maybe(of=HASH), None, "for a rebalance: the channel it leaves by"),
    default("to_channel", Maybe(of=HASH), None, "and the one it comes home by"),
    default("error", Maybe(of=Text(most=64)), None, "code of the failure"),
    default("error_text", Maybe(of=Text(most=512)), None, "what failed, and at which hop"),
)
HOP: Final = record(
    "Hop",
    one("channel_id", HASH),
    one("node_id", NODE_ID, "whom this hop pays"),
    one("amount", Units(), "of its lock"),
    one("fee", Units(), "what the node that offers it keeps; 0 for us"),
)
PART: Final = record(
    "Part",
    one("amount", Units(), "what the payee gets of it"),
    one("fee", Units()),
    one("lock_seconds", Whole(), "how long our lock may stand"),
    one("hops", Many(of=HOP)),
)
PLAN: Final = record(
    "Plan",
    one("amount", Units(), "what the payee gets"),
    one("fee", Units(), "of all parts"),
    one("chance_ppm", Whole(most=1_000_000), "how likely all parts arrive at once, as far as was learned; millionths"),
    one("parts", Many(of=PART), "sent at the same time, all or nothing"),
)
LEARNED: Final = record(
    "Learned",
    one("channel_id", HASH),
    one("capacity", Units(most=2 * MAX_AMOUNT), "of both sides together, when it was learned"),
    one("least", Units(most=2 * MAX_AMOUNT), "side a had at least this"),
    one("most", Units(most=2 * MAX_AMOUNT), "and at most this"),
    one("at", TIME, "when it was learned; it fades"),
)
LEARNED_VERSION: Final = default("version", Whole(least=1, most=1), 1, "of the form of `channels`")
PROBE: Final = record(
    "Probe",
    one("state", Choice(words=("arrived", "failed", "pending")), "pending: the lock has not come back yet"),
    one("plan", PLAN, "the way it took, and how likely it was thought before"),
    one("failed_channel", Maybe(of=HASH), "the one of the way that did not carry it"),
    default("error", Maybe(of=Text(most=64)), None, "code of the failure"),
    default("error_text", Maybe(of=Text(most=512)), None, "what failed, and which node says so"),
)
TOWER_INFO: Final = record(
    "OurTower",
    one("node_id", NODE_ID),
    one("address", Text()),
    one("reachable", Flag()),
    one("channels", Whole(), "channels with a valid receipt of the newest state"),
    one("behind", Whole(), "channels of which the tower lacks the newest state"),
    one("value_at_risk", Units(), "what a theft could cost us while the tower is behind"),
    default("at_risk_since", Maybe(of=TIME), None),
    default("last_receipt_at", Maybe(of=TIME), None),
    default("error", Maybe(of=Text(most=512)), None),
)
EVENT: Final = record(
    "Event",
    one("cursor", Whole(), "strictly increasing; hand it to `since` to go on after it"),
    one("type", Text(), "such as channel_open, payment_received, close_seen"),
    one("at", TIME),
    one("data", Anything()),
)

DIRECT: Final = record(
    "DirectTransfer",
    one("amount", Units(least=1)),
    opt("id", Hex(lengths=(16,)), "the payment's id; chosen by the daemon if left out"),
)
