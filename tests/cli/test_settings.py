"""Flags over environment over file over default; a mistake says file, line, setting and what would be right."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest

from channeld.base.errors import Refused
from channeld.base.settings import endpoint, endpoint_text, settings_of
from channeld.base.units import NATIVE, Amount
from channeld.cli.settings import FILE, check_environment, file_text, load_node, load_tower, place
from channeld.node.config import Config, TokenPolicy
from channeld.tower.config import TowerConfig

MANAGER, REGISTRY, TOKEN = "0x" + "11" * 20, "0x" + "22" * 20, "0x" + "33" * 20
CHAIN = f"""
[chain]
rpc = ["http://127.0.0.1:8545"]
manager = "{MANAGER}"
registry = "{REGISTRY}"
tokens = {{ USDC = {{ address = "{TOKEN}", decimals = 6 }} }}
"""


def load(tmp_path, text="", flags=None, environ=None):
    (tmp_path / FILE).write_text(text + CHAIN)
    return load_node({"data_dir": str(tmp_path)} | (flags or {}), environ or {})


def source(loaded, key):
    return next((one.value, one.source) for one in loaded.used if one.key == key)


def test_defaults(tmp_path):
    loaded = load(tmp_path)
    assert loaded.config.listen == ("127.0.0.1", 9735)
    assert loaded.config.manager == bytes.fromhex(MANAGER[2:])
    assert loaded.config.period == loaded.config.network.challenge_period
    assert loaded.config.socket == tmp_path / "rpc.sock"
    assert source(loaded, "peers.listen") == ("127.0.0.1:9735", "default")
    assert source(loaded, "chain.manager") == (MANAGER, "file")


def test_who_wins(tmp_path):
    text, environ = 'alias = "file"\n', {"CHANNELD_ALIAS": "env"}
    for flags, env, wins in (({"alias": "flag"}, environ, "flag"), ({}, environ, "env"), ({}, {}, "file")):
        loaded = load(tmp_path, text, flags, env)
        assert loaded.config.alias == wins
        assert source(loaded, "alias") == (wins, wins)


def test_the_environment_reaches_every_kind_of_setting(tmp_path):
    environ = {
        "CHANNELD_CHAIN_RPC": "http://a:1, http://b:2",
        "CHANNELD_CHAIN_MANAGER": "0x" + "44" * 20,
        "CHANNELD_PEERS_LISTEN": "[::1]:0",
        "CHANNELD_PEERS_ACCEPT_CHANNELS": "false",
        "CHANNELD_CHANNELS_MAX_LOCKS": "12",
        "CHANNELD_POLICY_FEE_PPM": "7",
    }
    config = load(tmp_path, environ=environ).config
    assert config.rpc == ("http://a:1", "http://b:2")
    assert config.manager == b"\x44" * 20
    assert (config.listen, config.accept_channels, config.max_locks) == (("::1", 0), False, 12)
    assert config.policy.fee_ppm == 7
    check_environment(environ)
    with pytest.raises(Refused, match="CHANNELD_ALAIS") as refused:
        check_environment({"CHANNELD_ALAIS": "x"})
    assert "CHANNELD_ALIAS" in refused.value.hint


def test_terms_of_one_token(tmp_path):
    config = load(
        tmp_path, "[policy]\nfee_base = 5\n[policy.usdc]\nfee_ppm = 9\n[policy.native]\nmin_lock = 3\n"
    ).config
    assert config.policy_for(bytes.fromhex(TOKEN[2:])) == TokenPolicy(fee_base=Amount(5), fee_ppm=9)
    assert config.policy_for(NATIVE) == TokenPolicy(fee_base=Amount(5), min_lock=Amount(3))
    assert config.policy_for(b"\x55" * 20) == TokenPolicy(fee_base=Amount(5))


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("alais = 'x'\n", 1, "unknown setting alais", "alias"),
        ("\n[peers]\nlisen = 'x:1'\n", 3, "unknown setting peers.lisen", "peers.listen"),
        ("[peers]\nfee_ppm = 1\n", 2, "unknown setting peers.fee_ppm", "policy.fee_ppm"),
        ("[policy]\n[policy.usdc]\nfee_pmm = 1\n", 3, "unknown setting policy.usdc.fee_pmm", "policy.fee_ppm"),
        ("[policy.doge]\nfee_ppm = 1\n", 1, "no token 'doge'", "USDC"),
        ("[peers]\nlisten = 'nowhere'\n", 2, "must be host:port", "where peers connect"),
        ("[peers]\nlisten = 'a:99999'\n", 2, "must be host:port", "where peers connect"),
        ("[channels]\nmax_locks = 0\n", 2, "whole number from 1", "per direction"),
        ("[channels]\nmax_locks = true\n", 2, "whole number from 1", "per direction"),
        ("[policy]\nfee_ppm = 1.5\n", 2, "whole number", "millionths"),
        ("[policy]\nmin_lock = 10\nmax_lock = 5\n", 2, "above max_lock", "swap"),
        ("[channels]\nchallenge_period = 10\n", 0, "", ""),
        ("alias = 5\n", 1, "printable text", "name for people"),
        ("peers = 5\n", 1, "must be a table", "[peers]"),
        ("network = 'atlantis'\n", 1, "atlantis", "known"),
    ],
)
def test_a_mistake_is_located(tmp_path, text, line, says, hint):
    if not says:  # the smallest that is allowed
        assert load(tmp_path, text).config.period == 10
        return
    with pytest.raises(Refused) as refused:
        load(tmp_path, text)
    assert refused.value.code in ("bad_config", "bad_network")
    assert refused.value.text.startswith(f"{tmp_path / FILE}, line {line}: ")
    assert says in refused.value.text
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [("alias = \n", "line 1"), ("\xff", "UTF-8"), ("a = 1\na = 2\n", "overwrite")],
)
def test_a_file_that_is_no_toml(tmp_path, text, says):
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(Refused, match=says):
        load_node({"data_dir": str(tmp_path)}, {})


def test_what_cannot_be_left_out(tmp_path):
    with pytest.raises(Refused, match="no JSON-RPC endpoint"):
        load_node({"data_dir": str(tmp_path)}, {})
    with pytest.raises(Refused, match="no contract") as refused:
        load_node({"data_dir": str(tmp_path), "rpc": ("http://x",)}, {})
    assert "deploy" in refused.value.hint


@pytest.mark.parametrize(("kind", "load_it"), [(Config, load_node), (TowerConfig, load_tower)])
def test_the_file_that_init_writes_holds_every_default(tmp_path, kind, load_it):
    text = file_text(kind, {"alias": 'it\'s "mine"'})
    every = "\n".join(line.removeprefix("# ") if " = " in line else line for line in text.splitlines())
    lines = [line for line in every.splitlines() if not line.startswith(("manager", "registry"))]
    (tmp_path / FILE).write_text("\n".join(lines))
    tomllib.loads((tmp_path / FILE).read_text())
    flags = {"data_dir": str(tmp_path), "rpc": ("http://x",), "manager": MANAGER, "registry": REGISTRY}
    config = load_it(flags, {}).config
    for name, one in settings_of(kind).items():
        if name not in ("rpc", "alias"):
            assert getattr(config, name) == one.default, name
    assert config.alias == 'it\'s "mine"'


def test_where_the_daemon_is(tmp_path):
    environ = {"HOME": "/srv/me", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert place({}, environ).socket.as_posix() == "/run/user/7/channeld/dev/rpc.sock"
    assert place({"network": "base"}, environ).data_dir.as_posix() == "/srv/me/.local/share/channeld/base"
    assert place({"data_dir": "/d"}, environ).socket.as_posix() == "/d/rpc.sock"
    assert place({}, {"CHANNELD_DATA_DIR": "/d", "CHANNELD_API_SOCKET": "s"}).socket.as_posix() == "/d/s"
    (tmp_path / FILE).write_text("network = 'base'\n[api]\nsocket = 'here'\n")
    found = place({"data_dir": str(tmp_path)}, {})
    assert (found.network, found.socket) == ("base", tmp_path / "here")


def test_settings_are_explained():
    for kind in (Config, TowerConfig, TokenPolicy):
        for one in settings_of(kind).values():
            assert one.why
            assert one.env.startswith("CHANNELD_")
    assert {one.name for one in dataclasses.fields(TokenPolicy)} == settings_of(TokenPolicy).keys()


@pytest.mark.parametrize("text", ["a.example:1", "[::1]:65535", "1.2.3.4:0"])
def test_endpoints_read_what_they_write(text):
    assert endpoint_text(endpoint(text)) == text
