"""Daemons as processes: they say when they are ready, hold their folder, and end with 0 when told to."""

from __future__ import annotations

import json
import signal
import socket
import stat
from pathlib import Path

import pytest

from channeld.api.schema import NODE, TOWER
from tests.cli.running import channeld, daemon

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A dev chain with the contracts on it, and a folder with a passphrase in it."""
    here = tmp_path_factory.mktemp("chain")
    (here / "passphrase").write_text("correct horse\n")
    with daemon("devchain", "--port", "0", "--block-time", "0.5", cwd=here) as running:
        done = channeld("deploy", "--rpc", running.ready["url"], "--dev-key", "9", "--token", cwd=here)
        assert done.code == 0, done.err
        yield here, running, done.value
        ended = running.end()
        assert (ended.code, ended.err) == (0, "")


def made(chain, name: str, *more: str) -> Path:
    here, running, deployed = chain
    done = channeld(
        "init", "--data-dir", name, "--passphrase-file", "passphrase", "--rpc", running.ready["url"],
        "--manager", deployed["manager"], "--registry", deployed["registry"], "--listen", "127.0.0.1:0", *more,
        cwd=here,
    )  # fmt: skip
    assert done.code == 0, done.err
    return Path(here, name)


def test_the_dev_chain_shows_its_keys_as_such(chain):
    _, running, _ = chain
    assert running.ready["chain_id"] == 31337
    assert len(running.ready["development_keys"]) == 10


def test_deploy_prints_the_entry_for_the_settings(chain, tmp_path):
    here, running, deployed = chain
    (tmp_path / "config.toml").write_text(deployed["config"])
    done = channeld("config", "check", "--data-dir", tmp_path, cwd=here)
    assert done.code == 0, done.err
    found = {one["key"]: one["value"] for one in done.value["settings"]}
    assert found["chain.manager"] == deployed["manager"]
    assert found["chain.rpc"] == running.ready["url"]


def test_deploy_again_finds_what_is_there(chain):
    here, running, deployed = chain
    done = channeld("deploy", "--rpc", running.ready["url"], "--dev-key", "5", "--token", cwd=here)
    same = ("manager", "registry", "permit2", "tokens", "config")
    assert (done.code, done.value["gas_used"], done.value["fee"]) == (0, 0, "0"), done.err
    assert [done.value[name] for name in same] == [deployed[name] for name in same]
    assert deployed["gas_used"] > 0
    there = channeld("deploy", "--rpc", running.ready["url"], "--dev-key", "5", "--text", cwd=here)
    assert "nothing was sent" in there.out


def test_deploy_where_nobody_has_put_the_proxy(tmp_path):
    (tmp_path / "genesis.json").write_text(json.dumps({"0x4e59b44847b379578588920ca78fbf26c0b4956c": {}}))
    bare = ("devchain", "--port", "0", "--genesis", "genesis.json")
    with daemon(*bare, cwd=tmp_path) as running:
        done = channeld("deploy", "--rpc", running.ready["url"], "--dev-key", "0", cwd=tmp_path)
        assert (done.code, done.error["code"]) == (8, "no_proxy")
        assert "--plain" in done.error["hint"]
        running.end()
    with daemon(*bare, "--unprotected", cwd=tmp_path) as running:
        done = channeld("deploy", "--rpc", running.ready["url"], "--dev-key", "0", cwd=tmp_path)
        assert done.code == 0, done.err
        running.end()


def test_deploy_plain_and_over_another_permit2(chain):
    here, running, deployed = chain
    rpc = ("deploy", "--rpc", running.ready["url"], "--dev-key", "5")
    plain = channeld(*rpc, "--plain", "--registry", deployed["registry"], cwd=here).value
    assert plain["registry"] == deployed["registry"]
    assert plain["manager"] != deployed["manager"]
    other = channeld(*rpc, "--permit2", "0x" + "22" * 20, cwd=here).value
    assert (other["permit2"], other["permit2_there"]) == ("0x" + "22" * 20, False)
    assert other["manager"] not in (plain["manager"], deployed["manager"])


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (["--rpc", "URL", "--dev-key", "0", "--permit2", "0x22"], 2, "usage"),
        (["--rpc", "http://127.0.0.1:1", "--dev-key", "0"], 3, "unreachable"),
        (["--rpc", "URL"], 2, "usage"),
        (["--rpc", "URL", "--dev-key", "0", "--network", "base"], 8, "wrong_chain"),
        (["--rpc", "URL", "--dev-key", "0", "--network", "base", "--token"], 2, "usage"),
        (["--rpc", "URL", "--key-file", "none"], 2, "bad_keystore"),
    ],
)
def test_deploy_refuses_what_makes_no_sense(chain, arguments, code, name):
    here, running, _ = chain
    given = [running.ready["url"] if one == "URL" else one for one in arguments]
    done = channeld("deploy", *given, cwd=here)
    assert (done.code, done.error["code"]) == (code, name)


def test_a_port_in_use(chain):
    here, running, _ = chain
    done = channeld("devchain", "--port", str(running.ready["port"]), cwd=here)
    assert (done.code, done.error["code"]) == (8, "port_in_use")


ROLES = {"node": (["run"], [], NODE), "tower": (["tower", "run"], ["--tower"], TOWER)}
LOOKS = {
    "info": "get_info",
    "balance": "get_balance",
    "peers": "list_peers",
    "channels": "list_channels",
    "payments": "list_payments",
    "tower list": "tower_list",
    "tower status": "tower_status",
}


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_from_ready_to_its_end(chain, role):
    here, _, _ = chain
    command, more, schema = ROLES[role]
    home = made(chain, role, *more)
    with daemon(*command, "--data-dir", home, "--passphrase-file", "passphrase", cwd=here) as running:
        assert running.ready["role"] == role
        path = Path(running.ready["socket"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        host, _, port = running.ready["listen"].rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        for look, method in LOOKS.items():
            if method in schema.methods:
                done = channeld(*look.split(), "--data-dir", home, cwd=here)
                assert done.code == 0, done.err
                schema.methods[method].result.read(done.value, method)
        second = channeld(*command, "--data-dir", home, "--passphrase-file", "passphrase", cwd=here)
        assert (second.code, second.error["code"]) == (8, "already_running")
        assert str(running.process.pid) in second.error["message"]
        garbage = socket.socket(socket.AF_UNIX)
        garbage.connect(str(path))
        garbage.sendall(b"\x00garbage\n")
        assert b"parse_error" in garbage.recv(4096)
        garbage.close()
        ended = running.end(signal.SIGINT)
        assert ended.code == 0, ended.err
        assert not path.exists()


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_whose_port_is_taken(chain, role):
    here, chained, _ = chain
    command, more, _ = ROLES[role]
    home = made(chain, f"taken_{role}", *more)
    taken = f"127.0.0.1:{chained.ready['port']}"
    done = channeld(*command, "--data-dir", home, "--passphrase-file", "passphrase", "--listen", taken, cwd=here)
    assert (done.code, done.error["code"]) == (8, "port_in_use")


def test_a_tower_that_is_told_to_stop(chain):
    here, _, _ = chain
    home = made(chain, "stopped", "--tower")
    with daemon("tower", "run", "--data-dir", home, "--passphrase-file", "passphrase", cwd=here) as tower:
        assert channeld("stop", "--data-dir", home, cwd=here).code == 0
        assert tower.ended().code == 0


def test_a_tower_with_a_wrong_passphrase(chain):
    here, _, _ = chain
    home = made(chain, "locked", "--tower")
    (here / "wrong").write_text("battery staple\n")
    done = channeld("tower", "run", "--data-dir", home, "--passphrase-file", "wrong", cwd=here)
    assert (done.code, done.error["code"]) == (4, "wrong_passphrase")
