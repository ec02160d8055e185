"""ERC-7730 descriptors: how a wallet shows what a user of channels signs, in words instead of words of 32 bytes.

`python -m tests.contracts.make_erc7730` writes `contracts/erc7730/*.json`, version 2 of the format. What is shown, with
its label and form, stands in the tables below; every other member is listed as never shown, so that each message and
each call is described whole. The manager's addresses are those that `channeld deploy` gives it with the least period of
each shipped network. `test_erc7730.py` holds the files against type strings and ABI.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from eth_utils.address import to_checksum_address

from channeld.base import digests
from channeld.base.units import Address
from channeld.chain.networks import Network, names, network
from contracts import artifact
from contracts.deploy import PERMIT2, addresses
from tests.contracts.make_vectors import PERMIT_TYPE, RECEIVE_TYPE

FOLDER: Final = Path(__file__).parents[2] / "contracts" / "erc7730"
SCHEMA: Final = "https://eips.ethereum.org/assets/eip-7730/erc7730-v2.schema.json"
ZERO: Final = "0x" + "00" * 20
ALL: Final = hex(digests.ALL)
SIDES: Final = {"0": "A", "1": "B"}

# path -> (label, format, parameters); what is not named is never shown
Shown = Mapping[str, tuple[str, str, Mapping[str, Any]]]
DATE: Final = {"encoding": "timestamp"}
MONEY: Final = {"tokenPath": "token", "nativeCurrencyAddress": ZERO}
OUT: Final = {**MONEY, "threshold": ALL, "message": "everything"}
SIDE: Final = {"$ref": "$.metadata.enums.side"}
CHANNEL: Final[tuple[str, str, Mapping[str, Any]]] = ("Channel", "raw", {})
VERSION: Final[tuple[str, str, Mapping[str, Any]]] = ("Version", "raw", {})
UNTIL: Final = ("Valid until", "date", DATE)
PAYOUTS: Final[Shown] = {
    "terms.payout_a": ("Pays A at", "addressName", {}),
    "terms.payout_b": ("Pays B at", "addressName", {}),
}

MESSAGES: Final[Mapping[str, tuple[str, Shown]]] = {
    digests.STATE_TYPE: (
        "Sign a channel's new balance",
        {"channelId": CHANNEL, "version": VERSION, "bodyHash": ("Balance (hash)", "raw", {})},
    ),
    digests.COOPERATE_TYPE: (
        "Take money out of a channel",
        {
            "channelId": CHANNEL,
            "version": VERSION,
            "net": ("A gives B (base units)", "raw", {}),
            "outA": ("Pay to A (base units)", "raw", {}),
            "outB": ("Pay to B (base units)", "raw", {}),
            "validUntil": UNTIL,
        },
    ),
    digests.CLOSE_TYPE: (
        "Let anyone close a channel",
        {"channelId": CHANNEL, "version": VERSION, "bodyHash": ("Balance (hash)", "raw", {}), "validUntil": UNTIL},
    ),
    digests.DELEGATION_TYPE: (
        "Give a watchtower the bond",
        {
            "channelId": CHANNEL,
            "version": VERSION,
            "payout": ("Bond goes to", "addressName", {}),
            "delay": ("Not before", "duration", {}),
        },
    ),
    digests.RECEIPT_TYPE: (
        "Confirm received transfers",
        {"channelId": CHANNEL, "version": VERSION, "transfers": ("Transfers (hash)", "raw", {})},
    ),
    digests.ANNOUNCEMENT_TYPE: (
        "Make a channel public",
        {"channelId": CHANNEL, "nodes": ("Nodes (hash)", "raw", {})},
    ),
}
AUTHORIZATION: Final[Mapping[str, tuple[str, Shown]]] = {
    RECEIVE_TYPE: (
        "Pay by signature",
        {
            "from": ("From", "addressName", {}),
            "to": ("Receiver that collects", "addressName", {}),
            "value": ("Amount", "tokenAmount", {"tokenPath": "@.to"}),
            "validAfter": ("Valid after", "date", DATE),
            "validBefore": ("Valid before", "date", DATE),
            "nonce": ("Bound to (nonce)", "raw", {}),
        },
    )
}
PERMIT: Final[Mapping[str, tuple[str, Shown]]] = {
    PERMIT_TYPE: (
        "Deposit into a channel",
        {
            "permitted.amount": ("Amount", "tokenAmount", {"tokenPath": "permitted.token"}),
            "spender": ("Taken by", "addressName", {"types": ["contract"]}),
            "witness.channelId": CHANNEL,
            "witness.side": ("For side", "enum", SIDE),
            "deadline": UNTIL,
        },
    )
}

_DEPOSIT: Final[Shown] = {
    "amount": ("Amount", "tokenAmount", MONEY),
    "side": ("For side", "enum", SIDE),
    "terms_hash": ("Channel terms (hash)", "raw", {}),
}
_CHALLENGE: Final = (("payout", "Bond goes to", "addressName"), ("version", "Version", "raw"))

# By name: overloads say the same.
CALLS: Final[Mapping[str, tuple[str, Shown]]] = {
    "deposit": ("Deposit into a channel", _DEPOSIT),
    "deposit_many": (
        "Deposit into channels",
        {
            "deposits.[].amount": ("Amount", "tokenAmount", MONEY),
            "deposits.[].side": ("For side", "enum", SIDE),
            "deposits.[].terms_hash": ("Channel terms (hash)", "raw", {}),
        },
    ),
    "deposit_with_authorization": (
        "Deposit an owner's money",
        {**_DEPOSIT, "owner": ("Owner", "addressName", {}), "valid_before": ("Valid before", "date", DATE)},
    ),
    "deposit_with_permit2": (
        "Deposit an owner's money",
        {**_DEPOSIT, "owner": ("Owner", "addressName", {}), "deadline": UNTIL},
    ),
    "cooperate": (
        "Take money out of a channel",
        {
            "token": ("Token", "tokenTicker", {}),
            "net": ("A gives B (base units)", "raw", {}),
            "out_a": ("Pay to A", "tokenAmount", OUT),
            "out_b": ("Pay to B", "tokenAmount", OUT),
            **PAYOUTS,
            "valid_until": UNTIL,
        },
    ),
    "close": (
        "Close a channel alone",
        {
            "token": ("Token", "tokenTicker", {}),
            "version": VERSION,
            "terms.close_bond": ("Bond", "amount", {}),
            "terms.challenge_period": ("Time to challenge", "duration", {}),
            **PAYOUTS,
        },
    ),
    "challenge": (
        "Challenge a close",
        {f"given.{name}": (label, form, {}) for name, label, form in _CHALLENGE},
    ),
    "challenge_many": (
        "Challenge many closes",
        {f"given.[].{name}": (label, form, {}) for name, label, form in _CHALLENGE},
    ),
    "finalize": (
        "Fix a close's outcome",
        {"terms.close_bond": ("Bond", "amount", {}), "bond_to": ("Bond goes to, if beaten", "addressName", {})},
    ),
    "settle": (
        "Pay out a closed channel",
        {"token": ("Token", "tokenTicker", {}), "body.net": ("A gives B (base units)", "raw", {}), **PAYOUTS},
    ),
    "resolve_locks": (
        "Pay out a channel's locks",
        {
            "token": ("Token", "tokenTicker", {}),
            "opening.body.net": ("A gives B (base units)", "raw", {}),
            "opening.bond_to": ("Bond goes to, if beaten", "addressName", {}),
            **PAYOUTS,
            "secrets.[]": ("Secret made public", "raw", {}),
        },
    ),
    "withdraw": (
        "Collect what is owed",
        {
            "token": ("Token", "tokenTicker", {}),
            "owner": ("Owner", "addressName", {}),
            "to": ("Send to", "addressName", {}),
        },
    ),
    "register": ("Make secrets public", {"secrets.[]": ("Secret", "raw", {})}),
    "register_points": ("Make secrets public", {"scalars.[]": ("Secret", "raw", {})}),
}


def networks() -> list[Network]:
    """The shipped ones on which money is worth something or might be: all but the development chain."""
    return [network(name) for name in names() if name != "dev"]


def deployment(chain: Network, address: Address) -> dict[str, Any]:
    return {"chainId": chain.chain_id, "address": to_checksum_address(address)}


def message_leaves(kind: str) -> list[str]:
    """Paths of the members of a type string, nested ones by their own."""
    structs = dict(re.findall(r"(\w+)\(([^)]*)\)", kind))

    def walk(name: str, head: str) -> Iterator[str]:
        for member in structs[name].split(","):
            inner, label = member.split(" ")
            if inner in structs:
                yield from walk(inner, f"{head}{label}.")
            else:
                yield head + label

    return list(walk(kind.partition("(")[0], ""))


def call_leaves(inputs: list[dict[str, Any]], head: str = "") -> list[str]:
    """Paths of a function's parameters as the ABI has them; `[]` stands for all elements of a list."""
    found: list[str] = []
    for one in inputs:
        base, _, listed = one["type"].partition("[")
        path = f"{head}{one['name']}" + (".[]" if listed else "")
        found += call_leaves(one["components"], f"{path}.") if base == "tuple" else [path]
    return found


def signature(entry: Mapping[str, Any]) -> str:
    """A function with its parameters' names, as descriptors name it."""

    def told(inputs: list[dict[str, Any]]) -> str:
        return ", ".join(f"{kind(one)} {one['name']}" for one in inputs)

    def kind(one: dict[str, Any]) -> str:
        head, dims = one["type"].partition("[")[0], one["type"][len(one["type"].partition("[")[0]) :]
        return f"({told(one['components'])}){dims}" if head == "tuple" else f"{head}{dims}"

    return f"{entry['name']}({told(entry['inputs'])})"


def described(intent: str, leaves: list[str], shown: Shown) -> dict[str, Any]:
    """The format of one message or call; ValueError if something is to be shown that is not there."""
    lost = set(shown) - set(leaves)
    if lost:
        raise ValueError(f"{intent}: no {', '.join(sorted(lost))}")
    fields: list[dict[str, Any]] = []
    for path, (label, form, params) in shown.items():
        more = {"params": dict(params)} if params else {}
        fields.append({"path": path, "label": label, "format": form, **more, "visible": "always"})
    for path in leaves:
        if path not in shown:
            fields.append({"path": path, "label": path, "format": "raw", "visible": "never"})
    return {"intent": intent, "fields": fields}


def _shown(entry: dict[str, Any]) -> Shown:
    """What of a call is shown: what an overload leaves out is not."""
    given = [one["name"] for one in entry["inputs"]]
    shown = CALLS[entry["name"]][1].items()
    return {path: told for path, told in shown if "opening" in given or not path.startswith("opening.")}


def _file(context: dict[str, Any], formats: dict[str, Any], contract: str) -> dict[str, Any]:
    metadata = {"owner": "channeld", "contractName": contract, "enums": {"side": SIDES}}
    return {"$schema": SCHEMA, "context": context, "metadata": metadata, "display": {"formats": formats}}


def _messages(kinds: Mapping[str, tuple[str, Shown]]) -> dict[str, Any]:
    return {kind: described(intent, message_leaves(kind), shown) for kind, (intent, shown) in kinds.items()}


def _calls(contract: str) -> dict[str, Any]:
    return {
        signature(entry): described(CALLS[entry["name"]][0], call_leaves(entry["inputs"]), _shown(entry))
        for entry in artifact(contract).abi
        if entry["type"] == "function" and entry["stateMutability"] in ("payable", "nonpayable")
    }


def descriptors() -> dict[str, dict[str, Any]]:
    """Every file by its name."""
    managers = [deployment(one, addresses(one.min_challenge_period)[0]) for one in networks()]
    registries = [deployment(one, addresses(one.min_challenge_period)[1]) for one in networks()]
    tokens = [deployment(one, token.address) for one in networks() for token in one.tokens]
    permits = [deployment(one, PERMIT2) for one in networks()]
    domain = {"name": digests.DOMAIN_NAME, "version": digests.DOMAIN_VERSION}
    return {
        "eip712-channel.json": _file(
            {"$id": "channeld channel", "eip712": {"domain": domain, "deployments": managers}},
            _messages(MESSAGES),
            "ChannelManager",
        ),
        "eip712-authorization.json": _file(
            {"$id": "channeld deposit by EIP-3009", "eip712": {"deployments": tokens}},
            _messages(AUTHORIZATION),
            "Token with EIP-3009",
        ),
        "eip712-permit2.json": _file(
            {
                "$id": "channeld deposit by Permit2",
                "eip712": {"domain": {"name": "Permit2"}, "deployments": permits},
            },
            _messages(PERMIT),
            "Permit2",
        ),
        "calldata-ChannelManager.json": _file(
            {"$id": "channeld ChannelManager", "contract": {"deployments": managers}},
            _calls("ChannelManager"),
            "ChannelManager",
        ),
        "calldata-SecretRegistry.json": _file(
            {"$id": "channeld SecretRegistry", "contract": {"deployments": registries}},
            _calls("SecretRegistry"),
            "SecretRegistry",
        ),
    }


def text(descriptor: Mapping[str, Any]) -> str:
    return json.dumps(descriptor, indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("usage: python -m tests.contracts.make_erc7730")
    FOLDER.mkdir(exist_ok=True)
    for name, descriptor in descriptors().items():
        (FOLDER / name).write_text(text(descriptor), encoding="utf-8")
