"""Why a payment does not go, by the codes that callers know, and what to do about each.

The router's reasons and what hops say come together here: a code for each, and a hint that stands beside its text
wherever the code is told, whether a payment failed long ago or a way was only asked for.
"""

from __future__ import annotations

from typing import Final

from channeld.base.errors import Refused

NO_WAY: Final = {
    "own_channels_short": "insufficient_balance",
    "too_long": "no_route",
}
"""What callers are told of `routing.search.NoRoute`'s reasons that are no codes themselves; the text says more."""

HINTS: Final = {
    "insufficient_balance": "channeld channels shows what each channel can send",
    "no_route": "a smaller amount may pass; channeld channels shows whether ours are connected",
    "unknown_payee": "is the node id right? gossip may not have told of it yet, and a private node needs an invoice",
    "fee_budget": "allow more: --max-fee",
    "hop_short": "others' balances change: later, or a smaller amount",
    "payee_offline": "it must be connected to be paid",
    "payment_rejected": "ask the payee for a new invoice",
    "payment_timeout": "allow more time: --timeout",
    "safe_mode": "a node on the way does not see the chain; try again a little later",
    "unreachable": "channeld peers shows who is connected",
}


def told(fault: Refused) -> Refused:
    """A refusal of the router's, or one of ours, as callers know it."""
    code = NO_WAY.get(fault.code, fault.code)
    return Refused(code, fault.text, HINTS.get(code, fault.hint))


def failed(code: str, text: str) -> Refused:
    """Of a payment that has failed. Nothing was paid."""
    return Refused(code or "payment_failed", text, f"nothing was paid; {HINTS.get(code, 'it may be tried again')}")
