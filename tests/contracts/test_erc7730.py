"""The ERC-7730 descriptors fit what is signed and called, name all of it, and hide nothing that moves money."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from channeld.base import digests
from channeld.base.keys import keccak
from channeld.chain.networks import names, network
from contracts import artifact
from contracts.deploy import PERMIT2, addresses
from tests.contracts.make_erc7730 import FOLDER, descriptors, text
from tests.contracts.test_vectors import vectors

FORMATS = {
    "raw": set(),
    "addressName": {"types", "sources"},
    "amount": set(),
    "tokenAmount": {"tokenPath", "nativeCurrencyAddress", "threshold", "message"},
    "tokenTicker": set(),
    "date": {"encoding"},
    "duration": set(),
    "enum": {"$ref"},
}
"""The forms of version 2 of the ERC that are used here, and the parameters each may have."""
CONTRACTS = {"calldata-ChannelManager.json": "ChannelManager", "calldata-SecretRegistry.json": "SecretRegistry"}
FOREIGN = ("ReceiveWithAuthorization", "PermitWitnessTransferFrom")
"""Messages of other contracts' domains."""

# Where money goes and how much, and for how long a signature counts: shown, whatever the message.
TELLING = {
    *("amount", "net", "outA", "outB", "out_a", "out_b", "value", "payout", "payout_a", "payout_b", "to", "spender"),
    *("validUntil", "validBefore", "valid_until", "deadline", "owner", "from", "close_bond", "side", "version"),
}
BESIDE = {
    *("given.terms.payout_a", "given.terms.payout_b", "given.terms.close_bond"),  # a challenge pays to `payout` only
    *("given.[].terms.payout_a", "given.[].terms.payout_b", "given.[].terms.close_bond"),
    *("order.valid_until", "terms.close_bond", "terms.payout_a", "terms.payout_b", "version"),
}


@cache
def stored(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / name).read_text(encoding="utf-8")))


def formats() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in descriptors():
        for key, one in stored(name)["display"]["formats"].items():
            yield name, key, one


def split(inside: str) -> list[str]:
    """What stands between the commas of a parameter list, brackets kept whole."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(inside):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append(inside[start:at].strip())
            start = at + 1
    return [*found, inside[start:].strip()] if inside else []


def bare(parameter: str) -> str:
    """The type of a named parameter, without any names."""
    kind, _, _ = parameter.rpartition(" ")
    if not kind.startswith("("):
        return kind
    inner, _, dims = kind[1:].rpartition(")")
    return f"({','.join(map(bare, split(inner)))}){dims}"


def leaves(parameters: list[str], head: str = "") -> Iterator[str]:
    for one in parameters:
        kind, _, name = one.rpartition(" ")
        path = head + name + (".[]" if kind.endswith("]") else "")
        if kind.startswith("("):
            yield from leaves(split(kind[1:].rpartition(")")[0]), f"{path}.")
        else:
            yield path


def members(key: str) -> list[str]:
    """The leaves of what a format's key names: a typed message or a function."""
    structs = dict(re.findall(r"(\w+)\(([^()]*)\)", key))
    if " " in key and ", " not in key and len(structs) > 1:
        nested = {name: f"({inside})" for name, inside in structs.items()}
        whole = structs[key.partition("(")[0]]
        for name, inside in nested.items():
            whole = re.sub(rf"\b{name} ", f"{inside} ", whole)
        return list(leaves(split(whole)))
    return list(leaves(split(key.partition("(")[2].removesuffix(")"))))


def test_the_files_are_fresh() -> None:
    """Else: python -m tests.contracts.make_erc7730."""
    assert {path.name for path in FOLDER.iterdir()} == set(descriptors())
    for name, descriptor in descriptors().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text(descriptor), name


def test_every_message_has_a_format() -> None:
    described = {key for name, key, _ in formats() if name not in CONTRACTS}
    known = {value for name, value in vars(digests).items() if name.endswith("_TYPE") and not name.startswith("_")}
    signed = known - {digests.DOMAIN_TYPE, digests.WITNESS_TYPE}
    foreign = {kind for kind in vectors()["types"] if kind.startswith(FOREIGN)}
    assert described == signed | foreign
    assert len(foreign) == 2
    assert any(digests.WITNESS_TYPE in kind for kind in foreign)


@pytest.mark.parametrize("file", CONTRACTS)
def test_every_call_has_a_format(file: str) -> None:
    def kind(one: dict[str, Any]) -> str:
        inner = ",".join(map(kind, one.get("components", [])))
        return str(one["type"]).replace("tuple", f"({inner})")

    calls = {
        keccak(f"{one['name']}({','.join(map(kind, one['inputs']))})".encode())[:4]
        for one in artifact(CONTRACTS[file]).abi
        if one["type"] == "function" and one["stateMutability"] not in ("view", "pure")
    }
    described = [key for name, key, _ in formats() if name == file]
    selectors = {
        keccak(f"{key.partition('(')[0]}({','.join(map(bare, split(key.partition('(')[2][:-1])))})".encode())[:4]
        for key in described
    }
    assert selectors == calls
    assert len(described) == len(calls)


def test_every_member_is_named_once_and_told_in_a_known_way() -> None:
    for name, key, one in formats():
        paths = [field["path"] for field in one["fields"]]
        assert sorted(paths) == sorted(members(key)), key
        assert 0 < len(one["intent"]) <= 30, key
        for field in one["fields"]:
            params = field.get("params", {})
            assert set(params) <= FORMATS[field["format"]], (key, field)
            assert field["visible"] in ("always", "never")
            assert field["visible"] == "never" or 0 < len(field["label"]) <= 24, (key, field)
            if "tokenPath" in params:
                assert params["tokenPath"] in {*paths, "@.to"}
            if field["format"] == "enum":
                assert params["$ref"] == "$.metadata.enums.side" and "side" in stored(name)["metadata"]["enums"]


def test_nothing_that_moves_money_is_hidden() -> None:
    for _, key, one in formats():
        assert any(field["visible"] == "always" for field in one["fields"]), key
        for field in one["fields"]:
            if field["path"].split(".")[-1] in TELLING and field["path"] not in BESIDE:
                assert field["visible"] == "always", (key, field["path"])


def test_they_are_bound_to_where_the_contracts_are() -> None:
    real = [network(name) for name in names() if name != "dev"]

    def bound(name: str) -> list[tuple[int, str]]:
        context = stored(name)["context"]
        return [
            (one["chainId"], one["address"]) for one in (context.get("contract") or context["eip712"])["deployments"]
        ]

    both = [(one.chain_id, addresses(one.min_challenge_period)) for one in real]
    managers = [(chain, to_checksum_address(pair[0])) for chain, pair in both]
    assert bound("eip712-channel.json") == bound("calldata-ChannelManager.json") == managers
    assert bound("calldata-SecretRegistry.json") == [(chain, to_checksum_address(pair[1])) for chain, pair in both]
    assert bound("eip712-permit2.json") == [(one.chain_id, to_checksum_address(PERMIT2)) for one in real]
    tokens = [(one.chain_id, to_checksum_address(token.address)) for one in real for token in one.tokens]
    assert bound("eip712-authorization.json") == tokens
    domain = stored("eip712-channel.json")["context"]["eip712"]["domain"]
    assert domain == {"name": digests.DOMAIN_NAME, "version": digests.DOMAIN_VERSION}
