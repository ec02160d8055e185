"""The committed artifacts are what the pinned compiler makes of the sources, and know their own code again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

import contracts
from channeld.base.keys import keccak
from channeld.base.units import Address, Side
from contracts import artifact, same_code
from contracts.build import COMPILER, HERE, INTERFACE, MOST, SOURCES, compiled, stale
from contracts.deploy import manager_code, manager_immutables
from tests.contracts.world import BOND, MIN_PERIOD, Reverted, World


def test_the_artifacts_are_fresh() -> None:
    assert stale() == []


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    for name in (Path(source).stem for source in SOURCES):
        text = (HERE / "artifacts" / f"{name}.json").read_text(encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(text.replace("0x5f35", "0x5f36") if name == "Reentrant" else text)
    (tmp_path / "TestToken.json").unlink()
    assert stale(tmp_path) == ["TestToken", "Reentrant"]


def test_the_manager_is_small_enough() -> None:
    known = artifact("ChannelManager")
    assert len(known.runtime) + known.immutables[1] <= MOST


def test_every_external_function_says_what_it_does() -> None:
    for source in ("ChannelManager.vy", "SecretRegistry.vy"):
        text = (HERE / source).read_text(encoding="utf-8")
        assert f"# pragma version {COMPILER}" in text
        assert "# pragma nonreentrancy on" in text
        assert "# pragma evm-version cancun" in text
        for piece in text.split("\n@external\n")[1:]:
            body = piece.split("\n@internal")[0]
            assert '"""\n    @notice' in body, f"{source}: {body[:80]}"


def test_the_deployed_code_is_known_whatever_its_immutables_are(world: World) -> None:
    deployed = world.evm.code(world.manager)
    assert same_code(artifact("ChannelManager"), deployed)
    assert manager_immutables(deployed)[:2] == (world.registry, MIN_PERIOD)
    assert not same_code(artifact("SecretRegistry"), deployed)
    assert not same_code(artifact("ChannelManager"), deployed + b"\0")
    assert not same_code(artifact("ChannelManager"), b"")
    for place in (0, 1000, len(artifact("ChannelManager").runtime) - 1):
        forged = deployed[:place] + bytes([deployed[place] ^ 1]) + deployed[place + 1 :]
        assert not same_code(artifact("ChannelManager"), forged)
    registry = world.evm.code(world.registry)
    assert same_code(artifact("SecretRegistry"), registry)
    assert artifact("SecretRegistry").code_hash == keccak(registry)


def test_a_name_without_an_artifact_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        artifact("Unknown")


def test_the_constructor_refuses_what_cannot_work(world: World) -> None:
    with pytest.raises(Reverted, match="registry"):
        world.deploy("ChannelManager", manager_code(Address(b"\x01" * 20), MIN_PERIOD))
    code = artifact("ChannelManager").bytecode + bytes(12) + world.registry + bytes(32)
    for period in (0, 30 * 86400 + 1):
        with pytest.raises(Reverted, match="period"):
            world.deploy("ChannelManager", code + period.to_bytes(32, "big"))
    for period in (1, 30 * 86400):
        world.deploy("ChannelManager", code + period.to_bytes(32, "big"))
    for period in (0, 30 * 86400 + 1):
        with pytest.raises(ValueError):
            manager_code(world.registry, period)  # type: ignore[arg-type]


def test_the_package_needs_no_compiler_to_be_imported() -> None:
    program = "import sys, contracts; contracts.artifact('ChannelManager'); sys.exit('vyper' in sys.modules)"
    root = Path(contracts.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


CALLER = """# pragma version 0.4.3
import IChannelManager

manager: IChannelManager


@deploy
def __init__(manager: address):
    self.manager = IChannelManager(manager)


@external
@payable
def deposit(terms_hash: bytes32):
    extcall self.manager.deposit(empty(address), terms_hash, 0, msg.value, value=msg.value)


@external
@payable
def close(terms: IChannelManager.Terms, salt_other: bytes32, salt_own_hash: bytes32):
    nothing: IChannelManager.Signature = empty(IChannelManager.Signature)
    extcall self.manager.close(
        empty(address), terms, 0, empty(bytes32), nothing, salt_other, salt_own_hash, value=msg.value
    )


@external
def settle(terms: IChannelManager.Terms):
    extcall self.manager.settle(empty(address), terms, empty(IChannelManager.Body), empty(address))
"""


def test_a_contract_can_be_a_party_by_the_interface(world: World, tmp_path: Path) -> None:
    """It compiles against the interface alone, and what it calls are the manager's functions."""
    (tmp_path / "Caller.vy").write_text(CALLER, encoding="utf-8")
    (tmp_path / INTERFACE.name).write_text(INTERFACE.read_text(encoding="utf-8"), encoding="utf-8")
    made = json.loads(compiled(tmp_path / "Caller.vy"))
    created = world.send(world.rich, None, bytes.fromhex(made["bytecode"][2:]) + bytes(12) + world.manager).created
    channel = world.channel(participant_a=created)
    terms, salts = channel.head[1], (channel.salts[1], keccak(channel.salts[0]))
    types = ["(address,address,address,address,uint256,bytes32,uint256,uint256)", "bytes32", "bytes32"]

    def call(name: str, inputs: list[str], arguments: list[Any], value: int = 0) -> None:
        selector = keccak(f"{name}({','.join(inputs)})".encode())[:4]
        world.send(world.rich, created, selector + encode(inputs, arguments), value)

    call("deposit", types[1:2], [channel.terms.hash], 700)
    assert channel.stored()[:2] == (700, 0)
    call("close", types, [terms, *salts], BOND)
    channel.wait()
    call("settle", types[:1], [terms])
    assert channel.paid(Side.A) == 700 + BOND
