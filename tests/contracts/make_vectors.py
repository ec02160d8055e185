"""Test vectors of the contracts' ids, hashes, digests and signatures, from fixed keys, as one JSON file.

`python -m tests.contracts.make_vectors` writes `contracts/vectors/vectors.json`. Integers are decimal strings, bytes
0x-hex. Addresses are those of the world of these tests; whoever runs the vectors against contracts of its own puts
their code at the addresses given. What is computed here is computed by `channeld.base`; `test_vectors.py` holds the
file against the contracts themselves and against another implementation of EIP-712.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from channeld.base import digests
from channeld.base.digests import Domain, Lock, Terms
from channeld.base.keys import Key, compact, keccak, sha256
from channeld.base.units import (
    NATIVE,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockId,
    LockKey,
    LockKind,
    Seconds,
    Side,
    Timestamp,
    Version,
)
from contracts.deploy import PERMIT2, PROXY, SALT, created_at

FILE: Final = Path(__file__).parents[2] / "contracts" / "vectors" / "vectors.json"
MANAGER: Final = Address(bytes.fromhex("66f21d52ca2ce765ad2426a24b34c0c326464e6b"))
REGISTRY: Final = Address(bytes.fromhex("0ce59b58215f7ccd87c680673f873c717cb05387"))
TOKEN: Final = Address(bytes.fromhex("8ea686dae86962d79ca11bd142ff78d0bf46595c"))
"""An ERC-20 with EIP-3009; the domain of its signatures is ("Nasty", "1")."""
CHAINS: Final = (31337, 1)
UNTIL: Final = Timestamp(2_000_000_000)
KEYS: Final = {
    role: Key(keccak(b"vector " + role.encode())) for role in ("payer", "payee", "owner", "node_a", "node_b")
}
TOWER: Final = Address(b"\x70" * 20)
SALTS: Final = (keccak(b"vector salt a"), keccak(b"vector salt b"))
SECRETS: Final = (keccak(b"vector secret 1"), keccak(b"vector secret 2"))
SCALARS: Final = (1, int.from_bytes(keccak(b"vector scalar")))
NODES: Final = (bytes(KEYS["node_a"].public), bytes(KEYS["node_b"].public))

PERMIT_TYPE: Final = (
    "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
    "ChannelDeposit witness)ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)"
    "TokenPermissions(address token,uint256 amount)"
)
RECEIVE_TYPE: Final = (
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    "bytes32 nonce)"
)


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def shown(value: Any) -> Any:
    """A value as JSON: bytes as hex, integers as decimal strings, the rest as it is."""
    if isinstance(value, bytes):
        return hexed(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, dict):
        return {name: shown(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    return value


def signature(key: Key, digest: Digest) -> dict[str, bytes]:
    whole = key.sign(digest)
    r, vs = compact(whole)
    return {"signer": key.address, "signature": whole, "r": r, "vs": vs}


def word(a: int, b: int, version: int, deadline: int, flags: int) -> dict[str, int | bytes]:
    packed = a << 168 | b << 80 | version << 40 | deadline << 8 | flags
    return {
        "deposit_a": a,
        "deposit_b": b,
        "version": version,
        "deadline": deadline,
        "flags": flags,
        "word": packed.to_bytes(32, "big"),
    }


def _locks() -> list[Lock]:
    point = Key(SCALARS[1].to_bytes(32, "big")).address
    keys = (sha256(SECRETS[0]), bytes(12) + point, sha256(SECRETS[1]))
    kinds = (LockKind.HASH, LockKind.POINT, LockKind.HASH)
    expiries = (1_950_000_000, 1_950_000_000, 2_100_000_000)
    return [
        Lock(
            id=LockId(2**40 + number),
            sender=side,
            kind=kinds[number],
            amount=Amount(10**9 + number),
            key=LockKey(keys[number]),
            expiry=Timestamp(expiries[number]),
        )
        for number, side in enumerate((Side.A, Side.B, Side.A))
    ]


def _registry() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for secret in SECRETS:
        value = sha256(secret)
        found.append({"kind": 1, "secret": secret, "value": value, "key": digests.registry_key(LockKind.HASH, value)})
    for scalar in SCALARS:
        secret = scalar.to_bytes(32, "big")
        value = bytes(12) + Key(secret).address
        found.append({"kind": 2, "secret": secret, "value": value, "key": digests.registry_key(LockKind.POINT, value)})
    return found


def _memos() -> list[bytes]:
    return [bytes(192), bytes(range(1, 193))]


def _channel(number: int, chain: int, token: Address) -> dict[str, Any]:
    """A channel with everything that is signed about it."""
    domain = Domain(chain_id=CHAINS[chain], manager=MANAGER)
    terms = Terms(
        participant_a=KEYS["payer"].address,
        participant_b=KEYS["payee"].address,
        payout_a=Address(b"\xa1" * 20),
        payout_b=Address(b"\xb2" * 20),
        challenge_period=Seconds(3600),
        salt_commitment=digests.salt_commitment(keccak(SALTS[0]), keccak(SALTS[1])),
        close_bond=10**15,
        nonce=number,
    )
    channel = digests.channel_id(domain, token, terms.hash)
    made: dict[str, Any] = {
        "chain_id": domain.chain_id,
        "manager": MANAGER,
        "token": token,
        "terms": {one.name: getattr(terms, one.name) for one in fields(terms)},
        "terms_abi": terms.abi(),
        "terms_hash": terms.hash,
        "channel_id": channel,
        "open_word": word(7 * 10**18, 3 * 10**18, 0, 0, 0),
    }
    return made | _signed(domain, channel) | _deposits(domain, channel, token)


def _signed(domain: Domain, channel: ChannelId) -> dict[str, Any]:
    payer, payee = KEYS["payer"], KEYS["payee"]
    cooperate = {"version": 5, "net": -(10**18), "out_a": 10**17, "out_b": 2 * 10**17, "valid_until": UNTIL}
    agreed = digests.cooperate_digest(
        domain, channel, Version(5), cooperate["net"], cooperate["out_a"], cooperate["out_b"], UNTIL
    )
    bodies = [_body(10**17, ()), _body(-(10**16), tuple(_locks()))]
    states = []
    for version, body in zip((8, 2**40 - 1), bodies, strict=True):
        digest = digests.state_digest(domain, channel, Version(version), body["hash"])
        record = keccak(body["hash"] + bytes(32))
        signed = [signature(key, digest) for key in (payer, payee)]
        states.append({"version": version, "body": body, "digest": digest, "signatures": signed, "record": record})
    close = digests.close_digest(domain, channel, Version(8), bodies[0]["hash"], UNTIL)
    delegation = digests.delegation_digest(domain, channel, Version(2**40 - 1), TOWER, Seconds(0))
    transfers = digests.transfers_hash([(b"\x01" * 16, 5), (b"\x02" * 16, 2**88 - 1)])
    receipt = digests.receipt_digest(domain, channel, Version(8), transfers)
    announcement = digests.announcement_digest(domain, channel, *NODES)
    return {
        "cooperate": {
            **cooperate,
            "digest": agreed,
            "signatures": [signature(key, agreed) for key in (payer, payee)],
            "word": word(79 * 10**17, 18 * 10**17, 5, 0, 0),
        },
        "states": states,
        "close": {"version": 8, "valid_until": UNTIL, "digest": close, "signatures": [signature(payer, close)]},
        "delegation": {
            "version": 2**40 - 1,
            "payout": TOWER,
            "delay": 0,
            "digest": delegation,
            "signatures": [signature(payee, delegation)],
            "record": keccak(bodies[1]["hash"] + bytes(12) + TOWER),
        },
        "receipt": {
            "version": 8,
            "transfers": [{"id": b"\x01" * 16, "amount": 5}, {"id": b"\x02" * 16, "amount": 2**88 - 1}],
            "transfers_hash": transfers,
            "digest": receipt,
            "signatures": [signature(payee, receipt)],
        },
        "announcement": {
            "nodes": list(NODES),
            "nodes_hash": keccak(NODES[0] + NODES[1]),
            "digest": announcement,
            "signatures": [signature(KEYS[one], announcement) for one in ("node_a", "node_b", "payer", "payee")],
        },
    }


def _body(net: int, locks: tuple[Lock, ...]) -> dict[str, Any]:
    held = [sum(lock.amount for lock in locks if lock.sender is side) for side in Side]
    blind = keccak(b"vector blind")
    hashed = digests.locks_hash(locks)
    return {
        "net": net,
        "locked_ab": held[0],
        "locked_ba": held[1],
        "locks": [hexed(lock.packed()) for lock in sorted(locks, key=lambda one: (one.sender, one.id))],
        "locks_hash": hashed,
        "blind": blind,
        "hash": digests.body_hash(net, held[0], held[1], hashed, blind),
        "rest_hash": digests.rest_hash([lock for lock in locks if lock.id == LockId(2**40 + 2)]),
    }


def _deposits(domain: Domain, channel: ChannelId, token: Address) -> dict[str, Any]:
    """The authorised ones; they are for a token, on the first chain."""
    if token == NATIVE:
        return {}
    owner = KEYS["owner"]
    memo = _memos()[1]
    hashed = digests.memo_hash(memo)
    owner_nonce = keccak(b"vector nonce")
    nonce = digests.authorization_nonce(channel, Side.B, hashed, owner_nonce)
    witness = digests.permit_witness(channel, Side.A, hashed)
    amount, after = 10**17, 1_000_000_000
    receive = _number(_address(owner.address), _address(MANAGER), amount, after, UNTIL, nonce)
    received = _typed(_separator("Nasty", "1", domain.chain_id, token), RECEIVE_TYPE, receive)
    permitted = keccak(keccak(b"TokenPermissions(address token,uint256 amount)") + _number(_address(token), amount))
    permit = _number(permitted, _address(MANAGER), 77, UNTIL, witness)
    allowed = _typed(_separator("Permit2", None, domain.chain_id, PERMIT2), PERMIT_TYPE, permit)
    return {
        "authorization": {
            "side": 1,
            "amount": amount,
            "memo": memo,
            "owner": owner.address,
            "owner_nonce": owner_nonce,
            "valid_after": after,
            "valid_before": UNTIL,
            "nonce": nonce,
            "digest": received,
            "signatures": [signature(owner, received)],
        },
        "permit": {
            "side": 0,
            "amount": amount,
            "memo": memo,
            "owner": owner.address,
            "permit2": PERMIT2,
            "nonce": 77,
            "deadline": UNTIL,
            "witness": witness,
            "digest": allowed,
            "signatures": [signature(owner, allowed)],
        },
    }


def _number(*values: int | bytes) -> bytes:
    return b"".join(one if isinstance(one, bytes) else one.to_bytes(32, "big") for one in values)


def _address(address: Address) -> bytes:
    return bytes(12) + address


def _separator(name: str, version: str | None, chain_id: int, contract: Address) -> bytes:
    """The hash of another contract's EIP-712 domain, with or without a version."""
    versioned = "" if version is None else "string version,"
    kind = f"EIP712Domain(string name,{versioned}uint256 chainId,address verifyingContract)"
    parts = [keccak(text.encode()) for text in (kind, name, version) if text is not None]
    return keccak(_number(*parts, chain_id, _address(contract)))


def _typed(separator: bytes, kind: str, struct: bytes) -> Digest:
    return Digest(keccak(b"\x19\x01" + separator + keccak(keccak(kind.encode()) + struct)))


def vectors() -> dict[str, Any]:
    """The whole file."""
    types = (
        *(digests.DOMAIN_TYPE, digests.STATE_TYPE, digests.COOPERATE_TYPE, digests.CLOSE_TYPE),
        *(digests.DELEGATION_TYPE, digests.RECEIPT_TYPE, digests.ANNOUNCEMENT_TYPE, digests.WITNESS_TYPE),
        *(RECEIVE_TYPE, PERMIT_TYPE),
    )
    locks = _locks()
    initial = bytes.fromhex("600160005260206000f3")
    made = {
        "about": "Vectors of contracts/README.md; written by python -m tests.contracts.make_vectors",
        "keys": {role: {"secret": key.secret, "address": key.address} for role, key in KEYS.items()},
        "node_ids": {role: KEYS[role].public for role in ("node_a", "node_b")},
        "types": {kind: keccak(kind.encode()) for kind in types},
        "domains": [
            {
                "chain_id": chain,
                "manager": MANAGER,
                "registry": REGISTRY,
                "separator": digests.domain_separator(Domain(chain_id=chain, manager=MANAGER)),
            }
            for chain in CHAINS
        ],
        "salts": {"a": SALTS[0], "b": SALTS[1], "a_hash": keccak(SALTS[0]), "b_hash": keccak(SALTS[1])},
        "registry": _registry(),
        "locks": [
            {
                "id": one.id,
                "direction": one.sender,
                "kind": one.kind,
                "amount": one.amount,
                "key": one.key,
                "expiry": one.expiry,
                "packed": one.packed(),
            }
            for one in locks
        ],
        "no_locks": digests.NO_LOCKS,
        "memos": [{"memo": memo, "hash": digests.memo_hash(memo)} for memo in _memos()],
        "words": [word(2**88 - 1, 0, 2**40 - 1, 2**32 - 1, 63), word(1, 2**87, 3, 4, 5)],
        "create2": {"proxy": PROXY, "salt": SALT, "init_code": initial, "address": created_at(initial)},
        "channels": [_channel(1, 0, NATIVE), _channel(2, 0, TOKEN), _channel(3, 1, NATIVE)],
    }
    return dict(shown(made))


def text() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("usage: python -m tests.contracts.make_vectors")
    FILE.write_text(text(), encoding="utf-8")
