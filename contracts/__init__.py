"""The contracts as the daemon needs them: ABI, code to deploy, and the code a deployment must have.

The sources are Vyper; `contracts/artifacts/*.json` is what the pinned compiler makes of them (`python -m
contracts.build`), committed, and compared with a fresh build by a test. Importing this package needs no compiler.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from channeld.base.keys import keccak
from channeld.base.units import Digest

NAMES: Final = ("ChannelManager", "SecretRegistry", "TestToken")
"""What is deployed: two contracts, and the money of the dev chain. The mocks of the tests have artifacts too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One compiled contract."""

    name: str
    abi: list[dict[str, Any]]
    """The Solidity ABI as parsed JSON; web3 takes it as it is."""
    bytecode: bytes
    """Init code; constructor arguments, ABI-encoded, are appended to deploy it (see `contracts.deploy`)."""
    runtime: bytes
    """Code on chain, without the immutables that follow it there."""
    immutables: tuple[int, int]
    """(offset, length) of the immutables in the deployed code, bytes; the length may be 0."""
    code_hash: Digest
    """keccak of `runtime`: names the version of the code whatever its immutables are."""


@cache
def artifact(name: str) -> Artifact:
    """The artifact called `name`, e.g. "ChannelManager"; KeyError if there is none."""
    try:
        text = files("contracts").joinpath("artifacts", f"{name}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KeyError(name) from None
    stored = json.loads(text)
    runtime = bytes.fromhex(stored["runtime"].removeprefix("0x"))
    found = Artifact(
        name=stored["name"],
        abi=stored["abi"],
        bytecode=bytes.fromhex(stored["bytecode"].removeprefix("0x")),
        runtime=runtime,
        immutables=(stored["immutables"]["offset"], stored["immutables"]["length"]),
        code_hash=Digest(bytes.fromhex(stored["code_hash"].removeprefix("0x"))),
    )
    if found.code_hash != keccak(runtime):
        raise ValueError(f"artifact {name} is damaged: its code hash does not fit its code")
    return found


def same_code(known: Artifact, deployed: bytes) -> bool:
    """Whether `deployed`, code read from a chain, is `known` with whatever immutables it was given.

    What the immutables are is for the caller to ask the contract (`REGISTRY()`, `MIN_PERIOD()`).
    """
    offset, length = known.immutables
    if len(deployed) != len(known.runtime) + length:
        return False
    return deployed[:offset] + deployed[offset + length :] == known.runtime
