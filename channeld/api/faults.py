"""Every error a caller can meet, by its stable code.

A code never changes its meaning; its text and hint may. The number of a JSON-RPC error says which family a code
belongs to. A test holds that every code the program refuses by stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Number(IntEnum):
    """The `code` of a JSON-RPC error. Ours say which family the stable `data.code` belongs to."""

    PARSE = -32700
    REQUEST = -32600
    METHOD = -32601
    PARAMS = -32602
    INTERNAL = -32603
    REFUSED = -32000
    NOT_FOUND = -32001
    INSUFFICIENT = -32002
    PAYMENT_FAILED = -32003
    UNREACHABLE = -32004
    AUTH = -32005
    BUSY = -32006


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One error a caller can meet: its stable code, its family and what it means."""

    code: str
    number: Number
    meaning: str


def _faults() -> dict[str, Fault]:
    table = {
        Number.PARSE: {"parse_error": "the line is not JSON"},
        Number.REQUEST: {"invalid_request": "the line is JSON but no JSON-RPC 2.0 request"},
        Number.METHOD: {"unknown_method": "there is no such method; rpc.discover lists them"},
        Number.PARAMS: {
            "invalid_params": "a parameter is missing, unknown or out of its range",
            "usage": "an argument of the command cannot be used",
        },
        Number.INTERNAL: {"internal": "a fault of the daemon itself; its log says more"},
        Number.AUTH: {"auth": "not permitted", "wrong_passphrase": "the passphrase does not open the keystore"},
        Number.BUSY: {"busy": "too much at once; try again a little later"},
        Number.NOT_FOUND: {
            "unknown_channel": "no channel of ours has this id",
            "unknown_invoice": "no invoice of ours has this payment hash",
            "unknown_payment": "no payment of ours has this id",
            "unknown_peer": "not connected to this node and its address is not known",
            "unknown_token": "neither `native`, a symbol of the network's profile nor an address",
            "unknown_tower": "no tower of ours has this id",
        },
        Number.INSUFFICIENT: {
            "insufficient_balance": "more than can be sent in the channels now",
            "insufficient_funds": "more than the account holds on chain",
            "insufficient_gas": "the account could not pay for closing its channels as well",
        },
        Number.PAYMENT_FAILED: {
            "no_route": "no path to the payee can carry the amount within fee and time",
            "unknown_payee": "nobody has announced a way to the payee in this token",
            "fee_budget": "every path to the payee costs more in fees than the limit",
            "hop_short": "a hop on the way has too little on its side now; nothing was paid",
            "payee_offline": "the payee is not connected to the node before it; nothing was paid",
            "payment_failed": "the payment was tried and failed; nothing was paid",
            "payment_rejected": "the payee does not take it: unknown, paid, expired or canceled; nothing was paid",
            "payment_timeout": "the payment was given up at its time limit; nothing was paid",
        },
        Number.UNREACHABLE: {
            "unreachable": "a peer, tower or RPC endpoint did not answer",
            "peer_fault": "the peer broke the protocol",
            "stopping": "the daemon is shutting down",
        },
        Number.REFUSED: {
            "already_running": "another daemon serves this data directory or socket",
            "amount_required": "the invoice leaves the amount to the payer",
            "amount_too_large": "more than the setting or the channel allows at once",
            "amount_too_small": "less than the smallest amount allowed",
            "already_failed": "the lock has been given back",
            "already_initialised": "the data directory holds an account already",
            "already_offered": "the lock is signed; it ends by its outcome or its expiry",
            "amount_fixed": "the invoice names its amount",
            "bad_amount": "no amount that can be sent",
            "bad_circle": "a payment to oneself goes between two channels of one token",
            "bad_bond": "a close bond far from the usual one",
            "bad_config": "the configuration does not make sense",
            "bad_database": "the file is no database of this program, or of a newer version",
            "bad_genesis": "the file of accounts for a new chain does not make sense",
            "bad_intent": "a transaction that this account cannot send",
            "bad_keystore": "the keystore cannot be read",
            "bad_network": "the network's profile does not make sense",
            "bad_period": "a challenge period the network does not allow",
            "bad_terms": "terms that no channel can have",
            "bad_validity": "an offer to close together stands for an hour at most",
            "channel_broken": "the channel broke a law of its own and has stopped where it was saved",
            "channel_closing": "the channel takes nothing new",
            "channel_conflict": "two announcements name different nodes for one channel",
            "channel_frozen": "the channel signs no more states; it can only be closed",
            "channel_not_open": "the channel is opening, closing or closed",
            "command_failed": "a command that the demo runs failed",
            "copied_database": "the database was copied, moved or restored; say which before it is used",
            "demo_failed": "a line of the demo did not come true",
            "deploy_failed": "a contract was not deployed",
            "no_proxy": "the deployment proxy is not on this chain and cannot be put there",
            "deposit_failed": "the deposit was not made",
            "graph_full": "more channels are announced than this node keeps in mind",
            "hold_expired": "too little time is left to be sure of a held payment: it is given back",
            "idempotency_conflict": "the key was used with other parameters",
            "invoice_canceled": "the invoice was canceled, by us or because its time to be settled was over",
            "invoice_exists": "the payment hash is in use already, or its preimage is known",
            "invoice_expired": "the invoice's time is over",
            "invoice_malformed": "the text is no invoice, or it was tampered with",
            "invoice_not_held": "there is no payment of it yet that could be settled",
            "invoice_paid": "the invoice was paid already",
            "invoice_own": "the invoice is our own",
            "invoice_wrong_chain": "the invoice is for another chain or contract",
            "no_example": "an example that the demo runs is not installed",
            "nonce_used": "the channel's number is in use, another one is needed",
            "not_accepting": "the node opens channels only itself",
            "other_account": "the database belongs to another account, chain or contract",
            "other_chain": "none of the blocks known here is on the chain that the endpoint shows",
            "payee_own": "the payee is this node",
            "peer_refused": "the peer declined",
            "probing_off": "the node's settings allow no probes",
            "payment_unknown": "pending when the database was copied: only its payee knows the outcome",
            "port_in_use": "another program listens at the configured address",
            "preimage_known": "the lock can be taken, so it is not given back",
            "program_failed": "a program that the demo started failed",
            "refused": "what was asked for cannot be done now; nothing changed",
            "safe_mode": "the chain's head is too old or cannot be read: nothing new is begun",
            "start_failed": "a program that the demo started does not answer",
            "store_foreign": "the file is no tower's store of this version",
            "store_in_use": "another process uses the store",
            "too_late": "what the demo waits for did not come in time",
            "too_many_locks": "as many locks are pending as the channel may hold",
            "too_many_openings": "too many channels wait for their deposit",
            "unknown_contract": "the contract's code is not the one this program knows",
            "wrong_chain": "the RPC endpoint is another chain than the configured one",
            "wrong_preimage": "the secret does not open the lock",
        },
    }  # fmt: skip
    return {
        code: Fault(code=code, number=number, meaning=meaning)
        for number, codes in table.items()
        for code, meaning in codes.items()
    }


FAULTS: Final[Mapping[str, Fault]] = _faults()


def number_of(code: str) -> Number:
    """The family of an error code. Codes that `FAULTS` does not list go by their first word."""
    if code in FAULTS:
        return FAULTS[code].number
    first = code.partition("_")[0]
    return {"unknown": Number.NOT_FOUND, "insufficient": Number.INSUFFICIENT, "payment": Number.PAYMENT_FAILED}.get(
        first, Number.REFUSED
    )
