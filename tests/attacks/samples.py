"""Valid inputs of every decoder, made by the encoders themselves from fixed keys and a seeded `Random`."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any, get_type_hints

from channeld.base.digests import Domain
from channeld.base.keys import Key, sha256
from channeld.base.units import NATIVE, Address, Amount, ChannelId, LockKey, LockKind, Seconds, Side, Timestamp
from channeld.chain.chain import BlockRef
from channeld.chain.intents import Attempt, Intent, Receipt, Status
from channeld.core.saved import save
from channeld.wire import fields as f
from channeld.wire import invoice
from channeld.wire import messages as m
from tests.roles import channels
from tests.unit.core.test_saved import busy, closing, failing, leaving

DOMAIN = Domain(chain_id=31337, manager=Address(b"\7" * 20))
PAYEE = Key(sha256(b"the payee of the samples"))
HASH = LockKey(sha256(b"a hash"))


def field(codec: f.Codec, random: Random) -> Any:
    """A value within the codec's limits."""
    edge = random.random()
    for bits in (8, 16, 32, 40, 64):
        for least in (0, 1):
            if codec == f.uint(bits, least):
                return least if edge < 0.2 else (1 << bits) - 1 if edge < 0.4 else random.randrange(least, 1 << bits)
    for length in (11, 16):
        for least in (0, 1):
            if codec == f.wide(length, least):
                return random.choice((least, (1 << 8 * length) - 1, random.randrange(1, 1 << 60)))
    for length in (16, 20, 32, 33, 48, 65, 256, m.ONION_BYTES, m.BLOB_BYTES):
        if codec == f.fixed(length):
            return random.randbytes(length)
    match codec:
        case f.BOOL:
            return edge < 0.5
        case f.SIDE:
            return random.choice(tuple(Side))
        case f.LOCK_KIND:
            return random.choice(tuple(LockKind))
        case f.MAYBE_SIGNATURE:
            return b"" if edge < 0.5 else random.randbytes(65)
        case _:
            pass
    if codec == f.nothing_or(32):
        return b"" if edge < 0.5 else random.randbytes(32)
    if codec == f.signed(12):
        return random.choice((0, -(2**95), 2**95 - 1, -5))
    if codec == f.upto(33):
        return random.randbytes(random.choice((0, 32, 33)))
    if codec == f.upto(m.MAX_PAGE):
        return random.randbytes(random.choice((0, 2, 700)))
    if codec == f.upto(m.MAX_REASON):
        return random.randbytes(random.choice((0, 292, m.MAX_REASON)))
    if codec == f.upto(57 * m.MAX_LOCKS, multiple=57):
        return b"".join(lock(random) for _ in range(random.choice((0, 1, 3))))
    if codec == f.texts(4, 128):
        return ("host.example:9735", "[::1]:1")[: random.randrange(3)]
    for length in (32, 256):
        if codec == f.text(length):
            return random.choice(("", "bad_thing", "é" * (length // 2)))
    raise AssertionError(f"a codec without samples: {codec}")


def lock(random: Random) -> bytes:
    """57 bytes of the contract's flat list."""
    where = bytes([random.choice(tuple(Side)), random.choice(tuple(LockKind))])
    amount = bytes(3) + random.randbytes(8)
    return random.randrange(1, 2**63).to_bytes(8, "big") + where + amount + random.randbytes(32) + b"\x70\0\0\0"


def message(kind: type[m.Message], random: Random) -> m.Message:
    """A message of that class."""
    hints = get_type_hints(kind, include_extras=True)
    values = {}
    for one in dataclasses.fields(kind):  # type: ignore[arg-type]
        (codec,) = (note for note in hints[one.name].__metadata__ if isinstance(note, f.Codec))
        values[one.name] = field(codec, random)
    return kind(**values)


def messages() -> list[bytes]:
    """Three of each class."""
    random = Random(1)
    return [m.encode(message(kind, random)) for kind in m.kinds().values() for _ in range(3)]


def invoices() -> list[str]:
    hop = invoice.HintHop(
        node=PAYEE.public,
        channel=ChannelId(b"\3" * 32),
        fee_base=Amount(1),
        fee_ppm=100,
        expiry_delta=Seconds(600),
    )
    made = invoice.Invoice(
        domain=DOMAIN,
        token=NATIVE,
        amount=Amount(1_000),
        payment_hash=HASH,
        payment_secret=b"s" * 32,
        created=Timestamp(1_700_000_000),
        description="a cup of tea, € 3",
        payee=PAYEE.public,
        min_final_delta=Seconds(900),
        hints=((hop,), (hop, hop)),
    )
    bare = dataclasses.replace(made, amount=None, description="", description_hash=m.NO_DIGEST, hints=())
    return [invoice.encode(one, PAYEE) for one in (made, bare)]


def saved_channels() -> list[bytes]:
    made = (channels()[0], busy(), failing(), leaving(Side.A), closing(False), closing(True))
    return [save(one) for one in made]


def intents() -> list[Intent]:
    attempt = Attempt(raw=b"\2" * 120, hash=b"\4" * 32, max_fee=2**70, tip=5, at=Timestamp(1_000))
    block = BlockRef(number=9, hash=b"\5" * 32, timestamp=Timestamp(1_001))
    receipt = Receipt(tx_hash=b"\4" * 32, block=block, ok=True, gas_used=60_000, price=2**40)
    new = Intent(sender=Address(b"\6" * 20), key="challenge:00:7", to=Address(b"\7" * 20), data=b"\x12" * 68, value=1)
    done = dataclasses.replace(new, nonce=4, attempts=(attempt,) * 2, status=Status.BURIED, receipt=receipt)
    return [new, done]
