"""Amounts as people write them: exact both ways, and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Refused
from channeld.base.units import MAX_AMOUNT
from channeld.cli.amounts import Money, decimal, parse, shown

NATIVE = "0x" + "0" * 40
USDC = "0x" + "ab" * 20
TOKENS = [
    {"symbol": "ETH", "token": NATIVE, "decimals": 18},
    {"symbol": "USDC", "token": USDC, "decimals": 6},
    {"symbol": "DAI2.0", "token": "0x" + "cd" * 20, "decimals": 18},
]


@pytest.mark.parametrize(
    ("text", "units", "token"),
    [
        ("1.5usdc", 1_500_000, "USDC"),
        ("1.5 USDC", 1_500_000, "USDC"),
        ("0.000001usdc", 1, "USDC"),
        ("1.50000000000usdc", 1_500_000, "USDC"),
        ("1_000usdc", 1_000_000_000, "USDC"),
        ("0.1eth", 10**17, "native"),
        ("3native", 3 * 10**18, "native"),
        ("20gwei", 20 * 10**9, "native"),
        ("0.5gwei", 5 * 10**8, "native"),
        ("7wei", 7, "native"),
        ("2DAI2.0", 2 * 10**18, "DAI2.0"),
        ("0.123456789012345678eth", 123456789012345678, "native"),
        ("0" * 200 + "5wei", 5, "native"),
    ],
)
def test_what_people_write(text, units, token):
    assert parse(text, TOKENS) == Money(units=units, token=token)


@pytest.mark.parametrize(
    "text",
    ["5", "usdc", "1,5usdc", "-1usdc", "1e3usdc", ".5usdc", "1.usdc", "0.0000001usdc", "1.5wei", "", "0x10wei", "٣wei",
     "9" * 40 + "eth", "9" * 5_000 + "wei", str(MAX_AMOUNT + 1) + "wei"],
)  # fmt: skip
def test_what_is_no_amount(text):
    with pytest.raises(Refused) as refused:
        parse(text, TOKENS)
    assert refused.value.code in ("usage", "unknown_token")
    assert refused.value.hint


def test_an_unknown_unit_names_the_known_ones():
    with pytest.raises(Refused) as refused:
        parse("1doge", TOKENS)
    assert refused.value.code == "unknown_token"
    assert "USDC" in refused.value.hint


def test_raw_is_base_units():
    assert parse("1500000", TOKENS, raw=True, token="usdc") == Money(units=1_500_000, token="usdc")
    assert parse("12", TOKENS, raw=True) == Money(units=12, token="native")
    for text in ("1.5", "5usdc"):
        with pytest.raises(Refused):
            parse(text, TOKENS, raw=True)


def test_one_command_deals_in_one_token():
    assert parse("0", TOKENS, token="USDC") == Money(units=0, token="USDC")
    assert parse("1eth", TOKENS, token="native").token == "native"
    with pytest.raises(Refused):
        parse("1usdc", TOKENS, token="native")


@given(units=st.integers(0, MAX_AMOUNT), decimals=st.integers(0, 30))
def test_shown_and_parsed_is_the_same(units, decimals):
    token = [{"symbol": "T", "token": USDC, "decimals": decimals}]
    assert parse(shown(units, USDC, token), token).units == units


def test_shown_in_full():
    assert decimal(1_500_000, 6) == "1.5"
    assert decimal(-1, 18) == "-0.000000000000000001"
    assert decimal(5, 0) == "5"
    assert shown("1", NATIVE, TOKENS) == "0.000000000000000001 eth"
    assert shown("7", "0x" + "ee" * 20, TOKENS) == "7 of 0x" + "ee" * 20
