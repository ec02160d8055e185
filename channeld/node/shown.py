"""How the node's things look from outside: plain dicts of the shapes that the socket's schema names.

Amounts are decimal strings of base units, bytes are hex with 0x, times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from channeld.base.errors import Malformed
from channeld.base.units import NATIVE, Address, Side
from channeld.chain.chain import BlockRef, Head
from channeld.chain.networks import Network
from channeld.core.channel import Channel, Phase, Session
from channeld.core.closing import final_body
from channeld.node.payment_row import Circle, Payment
from channeld.node.probing import Probed
from channeld.storage.store import narrow
from channeld.wire.invoice import Invoice
from routing.search import Route

Json = dict[str, Any]
NATIVE_DECIMALS: Final = 18
NEWEST: Final = 2**48
"""More than any row is numbered, and than the seconds there will be."""
_STATES: Final = {
    Phase.OPENING: "opening",
    Phase.OPEN: "open",
    Phase.FROZEN: "open",
    Phase.CLOSING: "closing",
    Phase.SETTLED: "closing",
    Phase.CLOSED: "closed",
}


def hexed(value: bytes) -> str:
    return f"0x{value.hex()}"


def symbol(network: Network, token: Address) -> str:
    if token == NATIVE:
        return "native"
    return next((known.symbol for known in network.tokens if known.address == token), hexed(token))


def decimals(network: Network, token: Address) -> int:
    if token == NATIVE:
        return NATIVE_DECIMALS
    return next((known.decimals for known in network.tokens if known.address == token), 0)


def block(ref: BlockRef) -> Json:
    return {"number": ref.number, "timestamp": ref.timestamp, "hash": hexed(ref.hash)}


def head(seen: Head, now: int) -> Json:
    return {
        "latest": block(seen.latest),
        "safe": block(seen.safe),
        "finalized": block(seen.finalized),
        "age": seen.age(now),
    }


def state(channel: Channel) -> str:
    """One of the schema's channel states."""
    if channel.coop is not None and channel.phase in (Phase.OPEN, Phase.FROZEN):
        return "closing"
    return _STATES[channel.phase]


def detail(channel: Channel) -> str:
    """The phase and why, and what people should know of a state that we cannot open."""
    said = channel.phase.name.lower() + (f": {channel.reason}" if channel.reason else "")
    case, outline = channel.onchain, channel.outline
    if channel.phase is Phase.SETTLED and case is not None and final_body(channel) is None:
        said += f"; settled by version {case.version}, whose locks we do not know: who knows them can resolve them"
    elif outline is not None and channel.phase in (Phase.FROZEN, Phase.CLOSING):
        said += f"; a tower holds version {outline.version}, which counts, and not the balances shown"
    return said


def channel_of(channel: Channel, network: Network, facts: Mapping[str, bytes]) -> Json:
    we, body = channel.we, channel.current.body
    ours, theirs = max(0, channel.balance), max(0, channel.peer_balance)
    case = channel.onchain

    def number(name: str) -> str | None:
        return str(narrow(facts[name])) if name in facts else None

    return {
        "channel_id": hexed(channel.id),
        "peer": hexed(channel.peer),
        "state": state(channel),
        "detail": detail(channel),
        "token": hexed(channel.token),
        "symbol": symbol(network, channel.token),
        "side": we.name.lower(),
        "ours": str(ours),
        "theirs": str(theirs),
        "locked_ours": str(body.locked(we)),
        "locked_theirs": str(body.locked(we.other)),
        "deposit_ours": str(max(channel.told[we], channel.heard[we])),
        "deposit_theirs": str(max(channel.told[we.other], channel.heard[we.other])),
        "net": str(-body.net if we is Side.A else body.net),
        "locks": len(body.locks),
        "version": channel.current.version,
        "challenge_period": channel.terms.challenge_period,
        "close_bond": str(channel.terms.close_bond),
        "public": channel.public,
        "connected": channel.session is Session.LIVE,
        "frozen": channel.phase is Phase.FROZEN,
        "deadline": case.deadline if case is not None else None,
        "opened_at": narrow(facts["opened_at"]) if "opened_at" in facts else None,
        "open_tx": hexed(facts["open_tx"]) if "open_tx" in facts else None,
        "close_tx": hexed(facts["close_tx"]) if "close_tx" in facts else None,
        "paid_ours": number("paid_ours"),
        "paid_theirs": number("paid_theirs"),
    }


def payment_of(payment: Payment, network: Network, description: str, circle: Circle | None = None) -> Json:
    """`circle`, for a payment to ourselves: from which channel to which."""
    return {
        "id": hexed(payment.hash),
        "kind": "rebalance" if circle else "keysend" if payment.drawn else "invoice",
        "direction": "self" if circle else "out",
        "state": payment.state,
        "token": hexed(payment.token),
        "symbol": symbol(network, payment.token),
        "amount": str(payment.amount),
        "fee": str(payment.fee),
        "peer": hexed(payment.payee),
        "created_at": payment.at,
        "settled_at": payment.settled_at or None,
        "preimage": hexed(payment.preimage) if payment.preimage else None,
        "hops": payment.hops,
        "from_channel": hexed(circle.out) if circle else None,
        "to_channel": hexed(circle.into) if circle else None,
        "description": description,
        "error": payment.code or None,
        "error_text": payment.text or None,
    }


def transfer_of(row: Sequence[Any], channel: Channel | None, network: Network) -> Json:
    """`row`: channel, id, outgoing, amount, state, at, settled_at."""
    id_, name, outgoing, amount, state_, at, settled = row
    token = channel.token if channel is not None else NATIVE
    return {
        "id": hexed(name),
        "kind": "transfer",
        "direction": "out" if outgoing else "in",
        "state": state_,
        "token": hexed(token),
        "symbol": symbol(network, token),
        "amount": str(narrow(amount)),
        "fee": "0",
        "peer": hexed(channel.peer) if channel is not None else None,
        "created_at": at,
        "settled_at": settled or None,
        "hops": 1,
        "channel_id": hexed(id_),
    }


def invoice_of(asked: Invoice, text: str, network: Network, *, now: int, row: Sequence[Any] | None = None) -> Json:
    """`row`, for an invoice of our own: state, received, paid_at, preimage, hold. A keysend has no `text`."""
    kept, received, paid_at, preimage, hold = row if row is not None else ("open", None, 0, b"", 0)
    paid = kept == "paid"
    return {
        "invoice": text,
        "payment_hash": hexed(asked.payment_hash),
        "payee": hexed(asked.payee),
        "token": hexed(asked.token),
        "symbol": symbol(network, asked.token),
        "amount": None if asked.amount is None else str(asked.amount),
        "description": asked.description,
        "created_at": asked.created,
        "expires_at": asked.expires_at,
        "state": "expired" if kept == "open" and asked.is_expired(now) else kept,  # type: ignore[arg-type]
        "received": str(narrow(received)) if received is not None else None,
        "paid_at": paid_at or None,
        "preimage": hexed(preimage) if paid and preimage else None,
        "hold_time": hold,
        "settle_by": None,
        "keysend": not text,
    }


def plan_of(routes: Sequence[Route], chance: float) -> Json:
    return {
        "amount": str(sum(route.amount for route in routes)),
        "fee": str(sum(route.fee for route in routes)),
        "chance_ppm": round(chance * 1_000_000),
        "parts": [_part(route) for route in routes],
    }


def probe_of(probed: Probed) -> Json:
    lesson = probed.lesson
    state_ = "pending" if lesson is None else "arrived" if lesson.final else "failed"
    return {
        "state": state_,
        "plan": plan_of((probed.route,), probed.chance),
        "failed_channel": None if probed.failed is None else hexed(probed.failed),
        "error": (lesson.code or "payment_failed") if lesson is not None and state_ == "failed" else None,
        "error_text": lesson.text if lesson is not None and state_ == "failed" else None,
    }


def _part(route: Route) -> Json:
    return {
        "amount": str(route.amount),
        "fee": str(route.fee),
        "lock_seconds": route.expiry_delta,
        "hops": [
            {
                "channel_id": hexed(hop.channel_id),
                "node_id": hexed(hop.target),
                "amount": str(hop.amount),
                "fee": str(hop.fee),
            }
            for hop in route.hops
        ],
    }


def read_cursor(cursor: str | None, count: int) -> list[int]:
    """What a cursor says; without one, more than there is. Malformed: it is none of ours."""
    if cursor is None:
        return [NEWEST] * count
    parts = cursor.split(".")
    if len(parts) != count or not all(part.isascii() and part.isdecimal() and len(part) < 16 for part in parts):
        raise Malformed(f"no cursor: {cursor[:20]!r}")
    return [min(int(part), NEWEST) for part in parts]
