"""The committed artifacts are what the pinned compiler makes of the sources, and know their own code again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import contracts
from channeld.base.keys import keccak
from channeld.base.units import Address
from contracts import artifact, same_code
from contracts.build import COMPILER, HERE, MOST, SOURCES, stale
from contracts.deploy import manager_code, manager_immutables
from tests.contracts.world import MIN_PERIOD, Reverted, World


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
    for period in (0, 30 * 86400 + 1):
        with pytest.raises(ValueError):
            manager_code(world.registry, period)  # type: ignore[arg-type]


def test_the_package_needs_no_compiler_to_be_imported() -> None:
    program = "import sys, contracts; contracts.artifact('ChannelManager'); sys.exit('vyper' in sys.modules)"
    root = Path(contracts.__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
