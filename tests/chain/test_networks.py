"""Network profiles: what ships adds up, and a user's mistake is named before it can cost anything."""

from __future__ import annotations

import pytest

from channeld.base.errors import Refused
from channeld.base.units import NATIVE
from channeld.chain.networks import by_chain_id, names, network


@pytest.mark.parametrize("name", names())
def test_a_shipped_profile_is_sound(name: str) -> None:
    made = network(name)
    assert made.delta_inclusion + made.clock_skew < made.final_delta
    assert by_chain_id(made.chain_id) == made
    assert made.token("native") == NATIVE


@pytest.mark.rule("R18")
@pytest.mark.parametrize("name", names())
def test_r18_forwarders_keep_time_between_locks(name: str) -> None:
    assert network(name).forward_delta > network(name).clock_skew


def test_the_development_chain_is_quick() -> None:
    dev = network("dev")
    assert (dev.chain_id, dev.challenge_period, dev.min_challenge_period, dev.delta_inclusion) == (31337, 60, 10, 4)
    assert (dev.forward_delta, dev.confirmations, dev.max_head_age, dev.poll) == (10, 1, 30, 0.25)


def test_a_users_values_go_over_the_shipped_ones() -> None:
    made = network(
        "dev",
        {
            "challenge_period": 20,
            "fees": {"max_fee": 10**10},
            "manager": "0x" + "11" * 20,
            "registry": "0x" + "22" * 20,
        },
    )
    assert made.challenge_period == 20
    assert (made.fees.max_fee, made.fees.min_tip) == (10**10, 10**9)
    assert made.manager == b"\x11" * 20


def test_a_network_of_ones_own() -> None:
    dev = {key: getattr(network("dev"), key) for key in ("challenge_period", "delta_inclusion", "forward_delta")}
    rest = {"final_delta": 20, "clock_skew": 2, "confirmations": 1, "max_head_age": 30, "close_bond": 1, "poll": 1}
    made = network("mine", {"chain_id": 7, "min_challenge_period": 10, **dev, **rest})
    assert (made.id, made.name, made.chain_id) == ("mine", "mine", 7)


def test_tokens_by_symbol_and_address() -> None:
    base = network("base")
    assert base.token("usdc").hex() == "833589fcd6edb6e08f4c7c32d4f71b54bda02913"
    assert base.token("0x" + "ab" * 20) == b"\xab" * 20
    with pytest.raises(Refused) as refused:
        base.token("dogecoin")
    assert refused.value.code == "unknown_token"


@pytest.mark.parametrize(
    ("overrides", "about"),
    [
        ({"challenge_period": "60"}, "challenge_period"),
        ({"challenge_period": 5}, "min_challenge_period"),
        ({"challenge_period": 10**9}, "30 days"),
        ({"challenge_period": 11, "delta_inclusion": 4}, "three times"),
        ({"challenge_periods": 60}, "challenge_periods"),
        ({"confirmations": True}, "confirmations"),
        ({"confirmations": 0}, "confirmations"),
        ({"confirmations": -1}, "confirmations"),
        ({"poll": "fast"}, "poll"),
        ({"poll": 0}, "poll"),
        ({"manager": "0x12", "registry": "0x" + "22" * 20}, "manager"),
        ({"manager": "0x" + "zz" * 20, "registry": "0x" + "22" * 20}, "manager"),
        ({"manager": "0x" + "11" * 20}, "go together"),
        ({"finality": {"tags": 1}}, "tags"),
        ({"finality": {"depth": 1}}, "depth"),
        ({"finality": 3}, "finality"),
        ({"fees": {"min_tip": 10**12, "max_fee": 1}}, "min_tip"),
        ({"tokens": {"X": {"address": "0x" + "11" * 20}}}, "decimals"),
        ({"tokens": {"X": 7}}, "token X"),
        ({"rpc": "ftp://x"}, "rpc"),
        ({"forward_delta": 1}, "forward_delta"),
        ({"final_delta": 5}, "final_delta"),
    ],
)
def test_a_mistake_is_named(overrides: dict[str, object], about: str) -> None:
    with pytest.raises(Refused) as refused:
        network("dev", overrides)
    assert refused.value.code == "bad_network"
    assert about in refused.value.text
    assert refused.value.hint


def test_unknown_and_incomplete_networks() -> None:
    with pytest.raises(Refused, match="atlantis") as refused:
        network("atlantis")
    assert "base" in refused.value.hint
    with pytest.raises(Refused, match="is missing"):
        network("atlantis", {"chain_id": 5, "poll": 1})
