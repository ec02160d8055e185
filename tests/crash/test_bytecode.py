"""The simulated chain's model against the contracts' bytecode, call by call, in whole scenarios with deaths in them.

All scenarios that go on chain, with far more deaths, are Part "crashes-evm" of `make verify`. That a difference would
be seen is shown by bytecode that was deployed with another challenge period, by accounts that lose a wei by themselves,
and by a token that is willing where the model's is not.
"""

from __future__ import annotations

import random

import pytest
import trio

from channeld.base.units import Address, Seconds
from contracts.deploy import manager_code
from tests.contracts.model import COIN
from tests.crash import scenarios
from tests.crash.bytecode import TwinCall, TwinChain
from tests.crash.chain import Block, ModelChain
from tests.crash.contract import Call, State
from tests.crash.enumerator import Tally, die_at, fresh_folder, points, said, spread


def outcome(name: str, chain: type[ModelChain]) -> str:
    """What becomes of a scenario: empty if it ends lawfully."""
    try:
        with fresh_folder() as folder:
            scenarios.run(name, folder, chain=chain)
    except (BaseExceptionGroup, trio.TooSlowError) as fault:
        return said(fault)
    return ""


@pytest.mark.parametrize("name", ["together", "dispute", "secret", "reorg close"])
def test_a_node_cannot_tell_the_model_from_the_bytecode(name: str):
    met: list[TwinChain] = []

    class Kept(TwinChain):
        def __post_init__(self) -> None:
            super().__post_init__()
            met.append(self)

    assert points(name, chain=Kept) == points(name)
    (chain,) = met
    assert chain.agreed >= 20
    assert not chain.refused


def test_nobody_loses_on_the_bytecode_when_a_node_dies():
    tally = Tally()
    for point in spread(points("dispute", chain=TwinChain), 3, random.Random(4)):
        die_at("dispute", point, tally, chain=TwinChain)
    assert not tally.found, "\n".join(tally.found)
    assert tally.deaths == 3


class OtherPeriod(TwinChain):
    """Broken: the bytecode gives more time than the model."""

    def deployed(self) -> list[tuple[Address, bytes]]:
        registry, (manager, _), token = super().deployed()
        return [registry, (manager, manager_code(self.registry, Seconds(7_200))), token]


class Leaks(TwinChain):
    """Broken: each account has a wei less than it was given, block after block."""

    def mine(self) -> Block:
        block = super().mine()
        state = self._twin(block.state)
        self.machine.go(state.root, block.timestamp)
        for kind, who in state.model.balances:
            if kind == COIN and who != "manager":
                self.machine.give(Address(bytes.fromhex(who[2:])), -1)
        state.root = self.machine.root()
        return block


class Willing(TwinChain):
    """Broken: the bytecode's token gives to those whom the model's refuses."""

    def _call(self, state: State) -> Call:
        return WillingCall(self, self._twin(state))


class WillingCall(TwinCall):
    @property
    def refusing(self) -> set[tuple[str, str]]:
        return set()


@pytest.mark.parametrize(
    ("name", "chain", "where"),
    [
        ("alone", OtherPeriod, "the model says"),
        ("together", Leaks, "in the model"),
        ("withdraw", Willing, "the model says"),
    ],
)
def test_a_difference_is_found(name: str, chain: type[TwinChain], where: str):
    found = outcome(name, chain)
    assert "Differs" in found
    assert where in found
