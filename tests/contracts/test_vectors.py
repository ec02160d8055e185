"""The committed vectors are what the daemon computes, what the contracts compute, and what EIP-712 says.

The contracts are asked by calls that succeed, or say what the file says, only if they compute the same: signatures
stand for digests, event topics for ids, words and records for storage.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account.messages import encode_typed_data

from channeld.base.keys import Key, compact, keccak, recover, sha256
from channeld.base.units import NATIVE, Address, Digest
from tests.contracts.evm import Evm
from tests.contracts.make_vectors import FILE, PERMIT_TYPE, RECEIVE_TYPE, text
from tests.contracts.world import ETHER, START, Receipt, World, key_of, unpacked
from tests.contracts.zoo import Zoo

WORDS = "(address,address,address,address,uint256,bytes32,uint256,uint256)"
CHANNELS = ("coin", "token", "coin elsewhere")


@cache
def vectors() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def raw(value: Any) -> Any:
    """A value of the file as Python has it."""
    if isinstance(value, str):
        return bytes.fromhex(value[2:]) if value.startswith("0x") else int(value)
    if isinstance(value, dict):
        return {name: raw(one) for name, one in value.items() if name != "about"}
    return [raw(one) for one in value]


def test_the_file_is_what_the_daemon_computes() -> None:
    assert FILE.read_text(encoding="utf-8") == text()


# -- EIP-712 by another implementation


def typed(kind: str, domain: dict[str, Any], message: dict[str, Any]) -> Digest:
    """The digest by eth-account, from a type string."""
    structs = {
        name: [dict(zip(("type", "name"), one.split(" "), strict=True)) for one in members.split(",")]
        for name, members in re.findall(r"(\w+)\(([^)]*)\)", kind)
    }
    fields = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
    structs["EIP712Domain"] = [{"name": name, "type": fields[name]} for name in fields if name in domain]
    whole = {"types": structs, "primaryType": kind.partition("(")[0], "domain": domain, "message": message}
    signable = encode_typed_data(full_message=whole)
    return Digest(keccak(b"\x19" + signable.version + signable.header + signable.body))


def ours(channel: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "channeld",
        "version": "1",
        "chainId": channel["chain_id"],
        "verifyingContract": channel["manager"],
    }


def messages(channel: dict[str, Any]) -> list[tuple[dict[str, Any], str, dict[str, Any], dict[str, Any]]]:
    """(entry of the file, name of its type, domain, message) of everything signed about a channel."""
    head = {"channelId": channel["channel_id"]}
    agreed, close, tower = channel["cooperate"], channel["close"], channel["delegation"]
    receipt, public, body = channel["receipt"], channel["announcement"], channel["states"][0]["body"]["hash"]
    outs = {"net": agreed["net"], "outA": agreed["out_a"], "outB": agreed["out_b"]}
    found = [
        *(
            (one, "State", head | {"version": one["version"], "bodyHash": one["body"]["hash"]})
            for one in channel["states"]
        ),
        (agreed, "Cooperate", head | outs | {"version": agreed["version"], "validUntil": agreed["valid_until"]}),
        (close, "Close", head | {"version": 8, "bodyHash": body, "validUntil": close["valid_until"]}),
        (tower, "Delegation", head | {name: tower[name] for name in ("version", "payout", "delay")}),
        (receipt, "TransferReceipt", head | {"version": 8, "transfers": receipt["transfers_hash"]}),
        (public, "Announcement", head | {"nodes": public["nodes_hash"]}),
    ]
    return [(entry, kind, ours(channel), message) for entry, kind, message in found] + _deposits(channel)


def _deposits(channel: dict[str, Any]) -> list[tuple[dict[str, Any], str, dict[str, Any], dict[str, Any]]]:
    if "permit" not in channel:
        return []
    given, permit = channel["authorization"], channel["permit"]
    receive = {
        "from": given["owner"],
        "to": channel["manager"],
        "value": given["amount"],
        "nonce": given["nonce"],
        "validAfter": given["valid_after"],
        "validBefore": given["valid_before"],
    }
    allow = {
        "permitted": {"token": channel["token"], "amount": permit["amount"]},
        "spender": channel["manager"],
        "nonce": permit["nonce"],
        "deadline": permit["deadline"],
        "witness": {"channelId": channel["channel_id"], "side": permit["side"], "memoHash": keccak(permit["memo"])},
    }
    token = {"name": "Nasty", "version": "1", "chainId": channel["chain_id"], "verifyingContract": channel["token"]}
    permit2 = {"name": "Permit2", "chainId": channel["chain_id"], "verifyingContract": permit["permit2"]}
    return [(given, "ReceiveWithAuthorization", token, receive), (permit, "PermitWitnessTransferFrom", permit2, allow)]


@pytest.mark.parametrize("number", range(3), ids=CHANNELS)
def test_the_digests_are_eip_712s(number: int) -> None:
    types = {kind.partition("(")[0]: kind for kind in vectors()["types"]}
    assert (types["ReceiveWithAuthorization"], types["PermitWitnessTransferFrom"]) == (RECEIVE_TYPE, PERMIT_TYPE)
    seen = set()
    for entry, kind, domain, message in messages(raw(vectors()["channels"][number])):
        seen.add(kind)
        assert entry["digest"] == typed(types[kind], domain, message), kind
        for one in entry["signatures"]:
            assert recover(Digest(entry["digest"]), one["signature"]) == one["signer"]
            assert (one["r"], one["vs"]) == compact(one["signature"])
    left = set(types) - seen - {"EIP712Domain", "ChannelDeposit"}
    assert left == ({"ReceiveWithAuthorization", "PermitWitnessTransferFrom"} if number != 1 else set())


def test_types_and_small_hashes() -> None:
    found = raw(vectors())
    assert {kind: keccak(kind.encode()) for kind in found["types"]} == found["types"]
    assert found["no_locks"] == keccak(b"")
    for one in found["memos"]:
        assert one["hash"] == keccak(one["memo"])
    for one in found["words"]:
        assert unpacked(int.from_bytes(one["word"])) == tuple(list(one.values())[:-1])
    made = found["create2"]
    assert made["address"] == keccak(b"\xff" + made["proxy"] + made["salt"] + keccak(made["init_code"]))[12:]
    for one in found["keys"].values():
        assert Key(one["secret"]).address == one["address"]
    for name in ("a", "b"):
        assert found["salts"][f"{name}_hash"] == keccak(found["salts"][name])
    for name, node in found["node_ids"].items():
        assert Key(found["keys"][name]["secret"]).public == node
    sizes = {"id": 8, "direction": 1, "kind": 1, "amount": 11, "key": 32, "expiry": 4}
    for one in found["locks"]:
        whole = [one[name] if name == "key" else one[name].to_bytes(size) for name, size in sizes.items()]
        assert b"".join(whole) == one["packed"]
    for one in found["channels"]:
        assert keccak(one["terms_abi"]) == one["terms_hash"]
        assert encode([WORDS], [tuple(one["terms"].values())]) == one["terms_abi"]
        ids = encode(
            ["uint256", "address", "address", "bytes32"],
            [*map(one.get, ("chain_id", "manager", "token", "terms_hash"))],
        )
        assert keccak(ids) == one["channel_id"]
    for one in found["domains"]:
        signable = encode_typed_data(ours(one), {"Empty": []}, {})
        assert signable.header == one["separator"]
    permit, channel = found["channels"][1]["permit"], found["channels"][1]["channel_id"]
    kind = next(kind for kind in vectors()["types"] if kind.startswith("ChannelDeposit"))
    members = {"channelId": channel, "side": permit["side"], "memoHash": keccak(permit["memo"])}
    structs = {
        "ChannelDeposit": [dict(zip(("type", "name"), one.split(), strict=True)) for one in kind[15:-1].split(",")]
    }
    assert encode_typed_data({}, structs, members).body == permit["witness"]


# -- the contracts


class Play:
    """A channel of the file on a chain, led by what the file says and by nothing else."""

    def __init__(self, number: int) -> None:
        self.file = raw(vectors())
        self.channel: dict[str, Any] = self.file["channels"][number]
        chain_id = self.channel["chain_id"]
        self.world = Zoo() if chain_id == 31337 else World(Evm(START, chain_id))
        self.token = Address(self.channel["token"])
        self.head = (self.token, tuple(self.channel["terms"].values()))
        self.domain = next(one for one in self.file["domains"] if one["chain_id"] == chain_id)
        self.payer, self.payee, self.owner = (
            Key(self.file["keys"][role]["secret"]) for role in ("payer", "payee", "owner")
        )
        for key in (self.payer, self.payee, self.owner, key_of("anyone")):
            self.world.fund(key)

    def do(self, name: str, *arguments: Any, sender: Address | None = None, value: int = 0) -> Receipt:
        anyone = key_of("anyone").address if sender is None else sender
        return self.world.do(anyone, self.world.manager, name, *arguments, value=value)

    def signed(self, entry: dict[str, Any], place: int) -> tuple[bytes, bytes]:
        one = entry["signatures"][place]
        return one["r"], one["vs"]

    def stored(self) -> tuple[Any, ...]:
        return tuple(self.world.ask(self.world.manager, "channel", self.channel["channel_id"]))

    def record(self) -> bytes:
        return bytes(self.stored()[5])

    def word(self) -> tuple[Any, ...]:
        return self.stored()[:5]

    def fund(self) -> None:
        """By the plain calls, or where the file has them by both signed ones."""
        left = {0: self.channel["open_word"]["deposit_a"], 1: self.channel["open_word"]["deposit_b"]}
        if self.token != NATIVE:
            left = self._authorised(left)
        for side, amount in left.items():
            coin = amount if self.token == NATIVE else 0
            done = self.do("deposit", self.token, self.channel["terms_hash"], side, amount, value=coin)
            assert done.event("Deposited")["channel_id"] == self.channel["channel_id"]
        assert self.word() == unpacked(int.from_bytes(self.channel["open_word"]["word"]))

    def _authorised(self, left: dict[int, int]) -> dict[int, int]:
        anyone = key_of("anyone").address
        self.world.do(self.world.rich, self.token, "mint", anyone, 100 * ETHER)
        for name in ("authorization", "permit"):
            one = self.channel[name]
            head = self.token, self.channel["terms_hash"], one["side"], one["amount"]
            memo = [one["memo"][at : at + 32] for at in range(0, 192, 32)]
            if name == "permit":
                rest: tuple[Any, ...] = (one["nonce"], one["deadline"])
            else:
                rest = (one["valid_after"], one["valid_before"], one["owner_nonce"])
            call = "deposit_with_permit2" if name == "permit" else "deposit_with_authorization"
            done = self.do(call, *head, memo, one["owner"], *rest, self.signed(one, 0))
            assert done.event("Memo")["memo"] == one["memo"]
            assert self.world.ask(
                self.token, "authorizationState", one["owner"], self.channel["authorization"]["nonce"]
            )
            left[one["side"]] -= one["amount"]
        return left


@pytest.mark.parametrize("number", range(3), ids=CHANNELS)
def test_the_contracts_compute_the_same(number: int) -> None:
    play = Play(number)
    file, channel, world = play.file, play.channel, play.world
    assert (world.manager, world.registry) == (play.domain["manager"], play.domain["registry"])
    play.fund()

    agreed = channel["cooperate"]
    values = [agreed[name] for name in ("version", "net", "out_a", "out_b", "valid_until")]
    play.do("cooperate", *play.head, *values, play.signed(agreed, 0), play.signed(agreed, 1))
    assert play.word() == unpacked(int.from_bytes(agreed["word"]["word"]))

    state, newest = channel["states"]
    order = (channel["close"]["valid_until"], play.signed(channel["close"], 0))
    salts = file["salts"]
    closing = (state["version"], state["body"]["hash"], play.signed(state, 1), salts["b"], salts["a_hash"])
    play.do("close", *play.head, *closing, order, value=channel["terms"]["close_bond"])
    assert (play.record(), play.word()[2]) == (state["record"], 8)

    tower = channel["delegation"]
    states = play.signed(newest, 0), play.signed(newest, 1)
    claim = (tower["payout"], tower["delay"], play.signed(tower, 0))
    play.do("challenge", (*play.head, newest["version"], newest["body"]["hash"], *states, *claim))
    assert (play.record(), play.word()[2]) == (tower["record"], 2**40 - 1)

    body = newest["body"]
    world.travel(play.word()[3] + 1)
    opened = [body[name] for name in ("net", "locked_ab", "locked_ba", "locks_hash", "blind")]
    play.do("settle", *play.head, opened, tower["payout"])
    assert play.record() == body["locks_hash"]

    hashed, point = file["registry"][0], file["registry"][3]
    world.do(world.rich, world.registry, "register_points", [int.from_bytes(point["secret"])])
    before = [world.balance(play.token, Address(channel["terms"][name])) for name in ("payout_a", "payout_b")]
    play.do("resolve_locks", *play.head, b"".join(body["locks"]), [hashed["secret"]])
    after = [world.balance(play.token, Address(channel["terms"][name])) for name in ("payout_a", "payout_b")]
    assert [one - two for one, two in zip(after, before, strict=True)] == [
        file["locks"][1]["amount"],
        file["locks"][0]["amount"],
    ]
    assert play.record() == body["rest_hash"]


def test_the_registry_computes_the_same_keys() -> None:
    world = World()  # one in which nothing is registered yet
    found = raw(vectors())["registry"]
    for one in found:
        secret = int.from_bytes(one["secret"])
        call = ("register", [one["secret"]]) if one["kind"] == 1 else ("register_points", [secret])
        (event,) = world.do(world.rich, world.registry, *call).events
        assert (event.fields["key"], event.fields["secret"]) == (one["key"], one["secret"])
        assert world.ask(world.registry, "registered_at", one["key"]) == world.now
        expected = sha256(one["secret"]) if one["kind"] == 1 else bytes(12) + Key(one["secret"]).address
        assert one["value"] == expected
