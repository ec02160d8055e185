"""Every decoder of bytes from outside or from the disk, and how a fuzzer gets past what hides its inside.

Where a signature, a tag or a checksum would stop every change at the door, a target of its own signs, seals or sums the
changed bytes anew, as a hostile payee, payer, client or tower could: `invoice signed`, `onion sealed`, `error sealed`,
`blob sealed`, `frame sealed`. `NOT_HERE` names decoders that are held to the law elsewhere, or that read nothing a
stranger or a disk can change.
"""

from __future__ import annotations

import hmac
import json
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from channeld.api.schema import NODE
from channeld.base import pack, shallow
from channeld.base.errors import Broken, Malformed, Refused
from channeld.base.keys import Key, keccak, sha256
from channeld.base.shape import count
from channeld.base.units import Side, Timestamp, Version
from channeld.chain.networks import network
from channeld.cli.settings import FILE, load_node
from channeld.core import saved
from channeld.core.channel import Body
from channeld.node import learning
from channeld.node.chainbook import load_intent, save_intent
from channeld.node.shown import read_cursor
from channeld.node.tower_saved import Held, LinkState, Pending, load_link
from channeld.node.translate import unpack_locks
from channeld.tower.intents import pack_intent, unpack_intent
from channeld.wire import address, appointment, bech32m, failure, invoice, memo, onion, pages, payload
from channeld.wire import messages as m
from channeld.wire.handshake import Initiator, Responder
from channeld.wire.transport import Transport
from routing.graph import Graph
from routing.liquidity import Liquidity
from tests.attacks import samples
from tests.attacks.judge import MESSAGE, Target
from tests.wire import test_appointment as ap
from tests.wire import test_memo as mm

HOP: Final = Key(sha256(b"the hop"))
EPHEMERAL: Final = Key(sha256(b"an ephemeral key"))
SESSION: Final = sha256(b"session")
SECRETS: Final = tuple(sha256(bytes([hop])) for hop in range(3))


def _text(decode: Callable[[str], Any], data: bytes) -> Any:
    return decode(data.decode("utf-8", "replace"))


# ---- the connection


def _act_two(data: bytes) -> Any:
    return Responder(HOP, EPHEMERAL).act_two(data)


@cache
def _dialled() -> tuple[bytes, bytes, bytes]:
    """A good handshake's three acts."""
    initiator, responder = Initiator(samples.PAYEE, EPHEMERAL, HOP.public), Responder(HOP, EPHEMERAL)
    one = initiator.act_one()
    two = responder.act_two(one)
    return one, two, initiator.act_three(two)[0]


def _act_three(data: bytes) -> Any:
    initiator = Initiator(samples.PAYEE, EPHEMERAL, HOP.public)
    initiator.act_one()
    return initiator.act_three(data)


def _finish(data: bytes) -> Any:
    responder = Responder(HOP, EPHEMERAL)
    responder.act_two(_dialled()[0])
    return responder.finish(data)


def _finish_sealed(data: bytes) -> Any:
    """Act three with any 33 bytes for the initiator's static key, under a tag that fits."""
    initiator, responder = Initiator(samples.PAYEE, EPHEMERAL, HOP.public), Responder(HOP, EPHEMERAL)
    two = responder.act_two(initiator.act_one())
    state = initiator._state
    theirs, tag = two[1:34], two[34:]
    state.mix_hash(theirs)
    state.mix_key(EPHEMERAL, theirs)
    state.open(tag)
    act = b"\0" + state.seal(data[:33].ljust(33, b"\0"), bytes(4) + (1).to_bytes(8, "little"))
    state.mix_key(samples.PAYEE, theirs)
    return responder.finish(act + state.seal(b""))


def _pair() -> tuple[Transport, Transport]:
    keys = {"chaining": b"c" * 32, "remote": HOP.public}
    ours = Transport(sending=b"a" * 32, receiving=b"b" * 32, **keys)  # type: ignore[arg-type]
    return ours, Transport(sending=b"b" * 32, receiving=b"a" * 32, **keys)  # type: ignore[arg-type]


def _frames(data: bytes) -> Any:
    return _pair()[1].receive(data)


def _frame_seeds() -> list[bytes]:
    ours, longer = _pair()[0], _pair()[0]
    return [ours.encrypt(b"hello"), b"".join(longer.encrypt(bytes(n)) for n in (0, 1, 900))]


def _frames_sealed(data: bytes) -> Any:
    """Headers of any length under a tag that fits, then the rest of the data as the message."""
    aead = ChaCha20Poly1305(b"a" * 32)
    sealed = aead.encrypt(bytes(12), data[:2].ljust(2, b"\0"), None)
    body = aead.encrypt(bytes(4) + (1).to_bytes(8, "little"), data[2:], None)
    return _pair()[1].receive(sealed + body)


def _pages(cls: type[m.Message]) -> list[bytes]:
    random = Random(4)
    return [pages.join(m.encode(samples.message(cls, random)) for _ in range(count)) for count in (1, 5)]


# ---- payments


def _invoice_seeds() -> list[bytes]:
    return [text.encode() for text in samples.invoices()]


def _invoice_signed(data: bytes) -> Any:
    head = invoice.prefix(samples.DOMAIN.chain_id)
    try:
        text = bech32m.encode(head, data + samples.PAYEE.sign(invoice._digest(head, data)))
    except ValueError:
        raise Malformed("too long for a text") from None
    return invoice.decode(text)


def _records() -> list[bytes]:
    return [bech32m.decode(text)[1][:-65] for text in samples.invoices()]


def _payloads() -> list[bytes]:
    random = Random(2)
    made = []
    for kind in payload.PAYLOADS.kinds().values():
        made.append(payload.encode(samples.message(kind, random)))  # type: ignore[arg-type]
    return made


def _packets() -> list[bytes]:
    two = [(HOP.public, _payloads()[0]), (samples.PAYEE.public, _payloads()[1])]
    return [onion.build(hops, samples.HASH, SESSION).packet for hops in (two, two[1:], [two[0]])]


def _onion_sealed(data: bytes) -> Any:
    """A packet whose decrypted routing is `data`, however it frames its payload."""
    first, (secret,) = onion._secrets([HOP.public], SESSION)
    routing = onion._xor(onion._key(b"rho", secret), data[: onion.ROUTING_BYTES].ljust(onion.ROUTING_BYTES, b"\0"))
    tag = hmac.digest(onion._key(b"mu", secret), routing + samples.HASH, "sha256")
    peeled = onion.peel(onion.VERSION + first + routing + tag, HOP, samples.HASH)
    return payload.decode(peeled.payload)


def _routings() -> list[bytes]:
    return [onion._frame(told) + bytes(32) for told in _payloads()]


def _error_sealed(data: bytes) -> Any:
    """An error onion of the second hop with `data` for its inside."""
    error = onion.wrap_error(SECRETS[1], hmac.digest(onion._key(b"um", SECRETS[1]), data, "sha256") + data)
    _, message = onion.unwrap_error(SECRETS, onion.wrap_error(SECRETS[0], error))
    return failure.decode(message)


def _failures() -> list[bytes]:
    code = failure.FailureCode
    made = (failure.Failure(code=code.FEE_INSUFFICIENT, data=b"x" * 200), failure.Failure(code=code.UNKNOWN_PAYMENT))
    return [failure.encode(one) for one in made]


def _errors() -> list[bytes]:
    return [len(told).to_bytes(2, "big") + told + b"\0\x10" + bytes(16) for told in _failures()]


# ---- towers, memos, the disk


def _blob_sealed(data: bytes) -> Any:
    """A blob that its client sealed round any evidence."""
    plain = data[: appointment._SEALED].ljust(appointment._SEALED, b"\0")
    key = appointment._key(ap.SALT, ap.T, ap.TOWER.public, ap.AUTH.public, 7)
    sealed = ap.T + appointment._xor(key, plain)
    blob = sealed + appointment._tag(key, sealed) + bytes(appointment._BACKUP)
    return appointment.open_blob(blob, salt=ap.SALT, tower=ap.TOWER.public, auth=ap.AUTH.public, seq=7)


def _backup_sealed(data: bytes) -> Any:
    hint = appointment.hint_of(ap.SALT, ap.TOWER.public)
    kept = data[: appointment._BACKUP - 16].ljust(appointment._BACKUP - 16, b"\0")
    cipher = appointment._backup_cipher(ap.OWN, ap.T)
    hidden = cipher.encrypt(bytes(12), kept, appointment._backup_label(hint, 7))
    blob = ap.T + bytes(m.BLOB_BYTES - 32 - len(hidden)) + hidden
    return appointment.open_backup(blob, hint=hint, seq=7, backup_key=ap.OWN)


def _backup(data: bytes) -> Any:
    hint = appointment.hint_of(ap.SALT, ap.TOWER.public)
    return appointment.open_backup(data, hint=hint, seq=7, backup_key=ap.OWN)


def _memo_sealed(data: bytes) -> Any:
    """A memo whose sealed salts are good and whose nonce and shared part are anything."""
    seed, nonce = sha256(b"seed"), int.from_bytes(data[:8], "big")
    ours, theirs = keccak(b"ours"), keccak(b"theirs")
    text = nonce.to_bytes(8, "big") + memo.seal_salt(seed, nonce, theirs) + bytes(48) + data[8:96].ljust(88, b"\0")
    terms = memo._terms(text, nonce, ours, theirs)
    return memo.open_memo(text, terms_hash=terms.hash, seed=seed, own_salt=lambda _: ours)


def _memo(data: bytes) -> Any:
    seed = mm.SEEDS[Side.A]
    return memo.open_memo(data, terms_hash=mm.TERMS.hash, seed=seed, own_salt=partial(mm.salt_of, seed))


def _memos() -> list[bytes]:
    sealed = {"sealed_a": mm.SEALED[Side.A], "sealed_b": mm.SEALED[Side.B]}
    return [memo.build(terms=mm.TERMS, salt_a=mm.SALT_A, salt_b=mm.SALT_B, **sealed)]


def _links() -> list[bytes]:
    random = Random(3)
    receipt = samples.message(m.AppointmentReceipt, random)
    assert isinstance(receipt, m.AppointmentReceipt)
    keys = frozenset((samples.HASH,))
    held = Held(version=Version(3), entrusted=keys, receipt=receipt)
    pending = Pending(seq=9, version=Version(4), entrusted=keys, blob=ap.sealed())
    link = LinkState(seq=9, pending=pending, held=held, revealed=True)
    link.sending(Version(4), Body(-5, {}))
    return [LinkState().save(), link.save()]


# ---- what people and wallets hand in


def _request(data: bytes) -> Any:
    """A request of the API as far as its parameters."""
    asked = shallow.loads(data)
    if not isinstance(asked, dict):
        raise Malformed("no request")
    method = NODE.methods.get(str(asked.get("method")))
    if method is None:
        raise Malformed("no method")
    return method.read(asked.get("params", {}))


def _requests() -> list[bytes]:
    said: list[tuple[str, Any]] = [
        ("get_info", {}),
        ("make_invoice", {"token": "ETH", "amount": "1000", "description": "tea", "expiry": 600}),
        ("pay_invoice", {"invoice": samples.invoices()[0], "max_fee": "5", "timeout": 30}),
        ("send_transfers", {"channel_id": "0x" + "07" * 32, "transfers": [{"amount": "5"}] * 3, "wait": True}),
        ("open_channel", {"peer": "02" * 33, "token": "ETH", "amount": "7", "public": False}),
        ("list_payments", [10, None]),
        ("events", {"since": 1, "limit": 10, "wait": False}),
    ]
    return [json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": told}).encode() for name, told in said]


def _learned(data: bytes) -> Any:
    """What another payer has learned, as far as memory; or how far a reader has come."""
    said = shallow.loads(data)
    if isinstance(said, str):
        return learning.page(Liquidity(), said, 10)
    told = NODE.methods["import_liquidity"].read(said)
    now = Timestamp(1_700_000_000)
    return learning.take(Liquidity(), Graph(), told["channels"], now, only_say=told["check"])


def _learnings() -> list[bytes]:
    one = {"channel_id": "0x" + "07" * 32, "capacity": "9", "least": "1", "most": "5", "at": 1_700_000_000}
    some: list[Any] = [{"version": 1, "channels": [one] * 3}, {"channels": [], "check": True}, "07" * 32]
    return [json.dumps(said).encode() for said in some]


def _profile(data: bytes) -> Any:
    """`[chain]` of a settings file, over the profile of the development chain."""
    try:
        over = tomllib.loads(data.decode("utf-8", "replace"))
    except tomllib.TOMLDecodeError as fault:
        raise Refused("bad_network", str(fault)) from None
    return network("dev", over)


def _profiles() -> list[bytes]:
    text = Path(__file__).parents[2].joinpath("channeld/chain/networks.toml").read_text(encoding="utf-8")
    parts = [part.partition("\n")[2] for part in text.split("\n[")[1:4]]
    return [part.encode() for part in parts]


@cache
def _home() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="channeld-fuzz-")


def _settings(data: bytes) -> Any:
    home = Path(_home().name)
    (home / FILE).write_bytes(data)
    return load_node({"data_dir": home}, {})


def _files() -> list[bytes]:
    manager = 'manager = "0x' + "07" * 20 + '"\nregistry = "0x' + "08" * 20 + '"\n'
    return [
        b'network = "dev"\nalias = "hub"\n[chain]\nrpc = ["http://127.0.0.1:8545"]\n' + manager.encode(),
        b'[peers]\nlisten = "127.0.0.1:0"\nannounce = ["[::1]:9735"]\n[chain]\nrpc = "http://a"\n' + manager.encode(),
        b'[policy]\nfee_ppm = 5\n[policy.DemoUSD]\nmin_lock = 3\n[api]\nsocket = "s"\n[log]\nlevel = "debug"\n'
        b'[chain]\nrpc = "http://a"\n' + manager.encode(),
    ]


TARGETS: Final = tuple(
    Target(**said)  # type: ignore[arg-type]
    for said in (
        *(
            {
                "name": f"page of {cls.__name__}",
                "decode": partial(pages.split, kind),
                "seeds": partial(_pages, cls),
                "covers": ("wire.pages.split",),
            }
            for kind, cls in pages.KINDS.items()
        ),
        {
            "name": "act one",
            "memory": MESSAGE,
            "decode": _act_two,
            "seeds": lambda: [_dialled()[0]],
            "covers": ("wire.handshake.Responder.act_two",),
        },
        {
            "name": "act two",
            "decode": _act_three,
            "seeds": lambda: [_dialled()[1]],
            "covers": ("wire.handshake.Initiator.act_three",),
        },
        {
            "name": "act three",
            "decode": _finish,
            "seeds": lambda: [_dialled()[2]],
            "covers": ("wire.handshake.Responder.finish",),
        },
        {
            "name": "act three sealed",
            "decode": _finish_sealed,
            "seeds": lambda: [samples.PAYEE.public],
            "covers": (),
        },
        {
            "name": "frame",
            "memory": MESSAGE,
            "decode": _frames,
            "seeds": _frame_seeds,
            "covers": ("wire.transport.Transport.receive",),
        },
        {
            "name": "frame sealed",
            "memory": MESSAGE,
            "decode": _frames_sealed,
            "seeds": lambda: [b"\0\5hello", b"\xff\xff"],
        },
        {
            "name": "message",
            "memory": MESSAGE,
            "decode": m.decode,
            "seeds": samples.messages,
            "tree": True,
            "covers": ("wire.messages.decode", "wire.fields.Family.decode"),
        },
        {
            "name": "lock list",
            "memory": MESSAGE,
            "decode": unpack_locks,
            "seeds": lambda: [samples.lock(Random(n)) * n for n in (1, 2, 40)],
            "covers": ("node.translate.unpack_locks",),
        },
        {
            "name": "onion",
            "memory": MESSAGE,
            "decode": lambda data: onion.peel(data, HOP, samples.HASH),
            "seeds": _packets,
            "covers": ("wire.onion.peel",),
        },
        {"name": "onion sealed", "memory": MESSAGE, "decode": _onion_sealed, "seeds": _routings},
        {
            "name": "payload",
            "memory": MESSAGE,
            "decode": payload.decode,
            "seeds": _payloads,
            "tree": True,
            "covers": ("wire.payload.decode",),
        },
        {
            "name": "error onion",
            "decode": lambda data: onion.unwrap_error(SECRETS, data),
            "seeds": lambda: [onion.create_error(SECRETS[0], told) for told in _errors()],
            "covers": ("wire.onion.unwrap_error",),
        },
        {"name": "error sealed", "decode": _error_sealed, "seeds": _errors},
        {
            "name": "failure",
            "memory": MESSAGE,
            "decode": failure.decode,
            "seeds": _failures,
            "tree": True,
            "covers": ("wire.failure.decode",),
        },
        {
            "name": "invoice",
            "decode": partial(_text, invoice.decode),
            "seeds": _invoice_seeds,
            "covers": ("wire.invoice.decode", "wire.bech32m.decode", "wire.bech32m.split"),
        },
        {"name": "invoice signed", "memory": MESSAGE, "decode": _invoice_signed, "seeds": _records, "tree": True},
        {
            "name": "address",
            "decode": partial(_text, address.node_address),
            "seeds": lambda: [f"{HOP.public.hex()}@{at}".encode() for at in ("a.example:1", "[::1]:9735")],
            "covers": ("wire.address.node_address", "wire.address.host_port"),
        },
        {
            "name": "cursor",
            "decode": partial(_text, partial(read_cursor, count=4)),
            "seeds": lambda: [b"12.1700000000.3.281474976710656"],
            "covers": ("node.shown.read_cursor",),
        },
        {
            "name": "blob",
            "decode": lambda data: appointment.open_blob(data, salt=ap.SALT, **ap.WHO),
            "seeds": lambda: [ap.sealed(), ap.sealed(ap.BARE)],
            "covers": ("wire.appointment.open_blob",),
        },
        {
            "name": "blob sealed",
            "decode": _blob_sealed,
            "seeds": lambda: [appointment._pack_evidence(one) for one in (ap.FULL, ap.BARE)],
        },
        {
            "name": "backup",
            "decode": _backup,
            "seeds": lambda: [ap.sealed()],
            "covers": ("wire.appointment.open_backup",),
        },
        {"name": "backup sealed", "decode": _backup_sealed, "seeds": lambda: [b"\1" + bytes(5) + b"\x80" * 98]},
        {
            "name": "memo",
            "decode": _memo,
            "seeds": _memos,
            "covers": ("wire.memo.open_memo", "wire.memo.open_salt"),
        },
        {"name": "memo sealed", "decode": _memo_sealed, "seeds": lambda: [bytes(96), b"\xff" * 96]},
        {
            "name": "msgpack",
            "memory": MESSAGE,
            "decode": pack.unpack,
            "seeds": lambda: samples.messages()[:9] + samples.saved_channels()[:2],
            "tree": True,
            "covers": ("base.pack.unpack",),
        },
        {
            "name": "shape",
            "decode": lambda data: count(data, pack.MAX_TOTAL),
            "seeds": samples.messages,
            "tree": True,
            "memory": MESSAGE,
            "covers": ("base.shape.count",),
        },
        {
            "name": "amount",
            "decode": pack.bytes_amount,
            "seeds": lambda: [bytes(11)],
            "covers": ("base.pack.bytes_amount",),
        },
        {
            "name": "saved channel",
            "decode": saved.load,
            "seeds": samples.saved_channels,
            "refuses": (Malformed, Broken),
            "tree": True,
            "covers": ("core.saved.load",),
        },
        {
            "name": "saved intent",
            "decode": load_intent,
            "seeds": lambda: [save_intent(one) for one in samples.intents()],
            "tree": True,
            "covers": ("node.chainbook.load_intent",),
        },
        {
            "name": "tower's intent",
            "decode": unpack_intent,
            "seeds": lambda: [pack_intent(one) for one in samples.intents()],
            "refuses": (Broken,),
            "tree": True,
        },
        {
            "name": "saved link",
            "decode": load_link,
            "seeds": _links,
            "tree": True,
            "covers": ("node.tower_saved.load_link",),
        },
        {
            "name": "request",
            "decode": _request,
            "seeds": _requests,
            "refuses": (Malformed, ValueError),
            "covers": ("api.schema.Method.read",),
        },
        {
            "name": "liquidity of another payer",
            "decode": _learned,
            "seeds": _learnings,
            "refuses": (Malformed, ValueError),
            "covers": ("node.learning.page", "node.learning.take"),
        },
        {
            "name": "network profile",
            "decode": _profile,
            "seeds": _profiles,
            "refuses": (Refused,),
            "slow": True,
            "calls": 60_000,
        },
        {
            "name": "settings file",
            "decode": _settings,
            "seeds": _files,
            "refuses": (Refused,),
            "slow": True,
            "calls": 60_000,
        },
    )
)

NOT_HERE: Final = {
    "api.kinds": "the kinds of one field; `request` goes through all of them",
    "chain.many.read": "our own RPC's answer, of one length; tests/chain/test_bindings.py",
    "chain.bindings.Contracts.fact": "logs of our own RPC; tests/chain/test_bindings.py",
    "node.invoices.Invoices.make": "arguments that `request` has read; tests/unit/node/test_service.py",
    "node.tower_ask.read_copy": "made of open_backup and open_blob, which have targets; tests/unit/node/test_towers.py",
    "node.towers.Towers.load": "rows of the towers' table, read inside a running node",
    "storage.sqlite.SqliteStore.channels": "what `load` says, in other words; tests/promises/test_damage.py",
    "wire.handshake.Initiator.act_one": "reads an id of our own settings; tests/wire/test_handshake.py",
}
"""Decoders without a target, and why."""
