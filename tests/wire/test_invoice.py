# mypy: disable-error-code="arg-type"
"""Invoices: text that comes back as it was, and refuses every change; bech32m by the vectors of BIP-350."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from channeld.base.digests import Domain
from channeld.base.errors import Malformed
from channeld.base.keys import Key
from channeld.wire import bech32m
from channeld.wire import invoice as iv

VECTORS: Any = json.loads((Path(__file__).parent / "vectors" / "bip350.json").read_text())
PAYEE = Key(b"\x07" * 32)
OTHER = Key(b"\x08" * 32)
PLAIN = iv.Invoice(
    domain=Domain(chain_id=31337, manager=b"\x01" * 20),
    token=bytes(20),
    amount=1_000,
    payment_hash=b"\x02" * 32,
    payment_secret=b"\x03" * 32,
    created=1_700_000_000,
    description="tea",
    payee=PAYEE.public,
    min_final_delta=60,
)
HOP = iv.HintHop(node=OTHER.public, channel=b"\x09" * 32, fee_base=2**88 - 1, fee_ppm=2**32 - 1, expiry_delta=600)
TEXT = iv.encode(PLAIN, PAYEE)


@pytest.mark.parametrize("text", VECTORS["valid"])
def test_valid_bech32m(text):
    prefix, values = bech32m.split(text, limit=90)
    assert text.lower().startswith(prefix + "1")
    assert len(values) == len(text) - len(prefix) - 7


@pytest.mark.parametrize(("text", "why"), VECTORS["invalid"])
def test_invalid_bech32m(text, why):
    with pytest.raises(Malformed):
        bech32m.split(text, limit=90)


@settings(max_examples=100)
@given(st.binary(max_size=200), st.sampled_from(["a", "chddev", "x1y"]))
def test_bytes_come_back_from_text(data, prefix):
    text = bech32m.encode(prefix, data)
    assert bech32m.decode(text) == (prefix, data)
    assert bech32m.decode(text.upper()) == (prefix, data)


@settings(max_examples=150)
@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_wrong_character_is_found(data, draw):
    text = bech32m.encode("chd", data)
    at = draw.draw(st.integers(4, len(text) - 1))
    other = draw.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(lambda sign: sign != text[at]))
    with pytest.raises(Malformed):
        bech32m.decode(text[:at] + other + text[at + 1 :])


def test_bits_left_over_are_refused():
    def with_values(values: bytes) -> str:
        check = bech32m._polymod(bech32m._expand("chd") + values + bytes(6)) ^ bech32m._CONSTANT
        tail = bytes(check >> 5 * (5 - place) & 31 for place in range(6))
        return "chd1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[value] for value in values + tail)

    assert bech32m.decode(with_values(bytes([0, 4]))) == ("chd", b"\x01")
    for values in ([0, 5], [0, 4, 0], [0], [0, 0, 0], [0] * 6):
        with pytest.raises(Malformed):
            bech32m.decode(with_values(bytes(values)))


@pytest.mark.parametrize("prefix", ["", "A", "a b", "é", "a" * 84])
def test_what_is_no_prefix_is_not_written(prefix):
    with pytest.raises(ValueError, match="prefix"):
        bech32m.encode(prefix, b"")


def test_length_is_bounded_both_ways():
    with pytest.raises(ValueError, match="too many"):
        bech32m.encode("chd", bytes(2600))
    with pytest.raises(Malformed):
        bech32m.decode("q" * 4097)


@pytest.mark.parametrize(
    "invoice",
    [
        PLAIN,
        dataclasses.replace(PLAIN, amount=None),
        dataclasses.replace(PLAIN, amount=2**88 - 1, description="", description_hash=b"\x05" * 32),
        dataclasses.replace(PLAIN, hints=(((HOP,) * 4),) * 4, description="ü" * 320, features=2**64 - 1),
        dataclasses.replace(PLAIN, domain=Domain(chain_id=2**64 - 1, manager=bytes(20))),
        dataclasses.replace(PLAIN, created=0, expiry=2**32 - 1),
    ],
)
def test_an_invoice_comes_back(invoice):
    text = iv.encode(invoice, PAYEE)
    assert len(text) <= bech32m.MAX_TEXT
    assert iv.decode(text) == invoice
    assert iv.decode(text.upper()) == invoice
    with pytest.raises(Malformed):
        iv.decode(text[:-1] + text[-1].upper() if text[-1].isalpha() else text[:1].upper() + text[1:])


def test_the_prefix_says_which_chain():
    assert TEXT.startswith("chddev1")
    assert iv.encode(dataclasses.replace(PLAIN, domain=Domain(chain_id=1, manager=bytes(20))), PAYEE)[:7] == "chdeth1"
    assert iv.encode(dataclasses.replace(PLAIN, domain=Domain(chain_id=5, manager=bytes(20))), PAYEE)[:7] == "chdnet1"


def test_expiry_counts_from_creation():
    assert PLAIN.expires_at == 1_700_003_600
    assert not PLAIN.is_expired(1_700_003_600)
    assert PLAIN.is_expired(1_700_003_601)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 0},
        {"amount": 2**88},
        {"expiry": 0},
        {"expiry": 2**32 - 1},
        {"description": "x" * 641},
        {"description": "both", "description_hash": bytes(32)},
        {"description_hash": bytes(31), "description": ""},
        {"payment_secret": bytes(31)},
        {"hints": ((HOP,) * 5,)},
        {"hints": ((HOP,),) * 5},
        {"hints": ((),)},
        {"hints": ((dataclasses.replace(HOP, fee_base=2**88),),)},
        {"hints": ((dataclasses.replace(HOP, fee_ppm=-1),),)},
        {"hints": ((dataclasses.replace(HOP, node=bytes(32)),),)},
        {"payee": OTHER.public},
    ],
)
def test_an_invoice_beyond_its_limits_is_not_written(change):
    with pytest.raises(ValueError):
        iv.encode(dataclasses.replace(PLAIN, **change), PAYEE)


def resealed(change: Any, head: str | None = None) -> str:
    """The text with its bytes changed and the checksum made right again."""
    prefix, data = bech32m.decode(TEXT)
    return bech32m.encode(head or prefix, change(data))


@settings(max_examples=200)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_invoice_with_a_good_checksum_is_refused(at, by):
    def change(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ by]) + data[place + 1 :]

    with pytest.raises(Malformed):
        iv.decode(resealed(change))


@settings(max_examples=200)
@given(st.binary(max_size=400), st.sampled_from(["chddev", "chd", "other"]))
@example(b"", "chddev")
@example(bytes(65), "chddev")
@example(bytes(64), "chddev")
def test_any_bytes_in_the_text_are_an_invoice_or_malformed(data, head):
    with pytest.raises(Malformed):
        iv.decode(bech32m.encode(head, data))


@settings(max_examples=300)
@given(st.text(max_size=100) | st.text("chdev1qpzry9x8gf2tvdw0s3jn54khce6mua7l", max_size=100))
@example("")
@example("1")
@example("chddev1")
@example("ſ1qqqqqq")
@example("K1qqqqqqq")
def test_any_text_is_an_invoice_or_malformed(text):
    with pytest.raises(Malformed):
        iv.decode(text)


def test_a_foreign_prefix_is_refused():
    for head in ("chdeth", "chdnet", "lnbc", "chd"):
        with pytest.raises(Malformed):
            iv.decode(resealed(lambda data: data, head))


def test_somebody_elses_signature_is_refused():
    def change(data: bytes) -> bytes:
        record = data[:-65]
        return record + OTHER.sign(iv._digest("chddev", record))

    with pytest.raises(Malformed):
        iv.decode(resealed(change))


def signed(change: dict[str, Any], head: str = "chddev") -> str:
    """An invoice that a payee with other software signed: a field of the record is what it may not be."""
    _, data = bech32m.decode(TEXT)
    record = iv._RECORDS.encode(dataclasses.replace(iv._RECORDS.decode(data[:-65]), **change))
    return bech32m.encode(head, record + PAYEE.sign(iv._digest(head, record)))


def test_what_a_payee_signed_is_still_held_to_the_limits():
    assert iv.decode(signed({})) == PLAIN
    for change in (
        {"amount": bytes(11)},
        {"created": 2**32 - 1, "expiry": 1},
        {"description_hash": bytes(32)},
        {"chain_id": 1},
    ):
        with pytest.raises(Malformed):
            iv.decode(signed(change))
    with pytest.raises(Malformed):
        iv.decode(signed({}, "chdeth"))
