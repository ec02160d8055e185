"""Addresses people type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.wire.address import host_port, node_address

ID = "02" + "ab" * 32


@pytest.mark.parametrize("text", ["127.0.0.1:9735", "localhost:1", "a.example:65535", "[::1]:80", "[fe80::1]:9735"])
def test_addresses_come_back(text):
    assert str(host_port(text)) == text
    assert str(node_address(f"{ID}@{text}")) == f"{ID}@{text}"


@pytest.mark.parametrize(
    "text",
    [
        *["", ":", "host", "host:", ":80", "host:0", "host:65536", "host:+1", "host:٣", "ho st:1", "a@host:1"],
        *["::1:80", "[]:1", "[x]:1", "-host:1", "host-:1", "host:1\n", "h" * 130 + ":1"],
    ],
)
def test_what_is_no_address_is_malformed(text):
    with pytest.raises(Malformed):
        host_port(text)
    with pytest.raises(Malformed):
        node_address(f"{ID}@{text}")


@pytest.mark.parametrize("digits", ["", "02", "04" + "ab" * 32, "02" + "zz" * 32, "0x" + ID])
def test_what_is_no_node_id_is_malformed(digits):
    with pytest.raises(Malformed):
        node_address(f"{digits}@host:1")


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_malformed(text):
    for read in (host_port, node_address):
        try:
            address = read(text)
        except Malformed:
            continue
        assert read(str(address)) == address
