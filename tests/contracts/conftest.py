"""Fixtures for the contracts: one chain for the whole run, a fresh channel for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from channeld.base.units import NATIVE, Address
from tests.contracts.evm import Evm
from tests.contracts.world import Channel, World


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def _rested(world: World) -> Iterator[None]:
    """Keep the chain quick, whatever the test has done to it."""
    yield
    world.evm.rest()


@pytest.fixture
def revm() -> type[Evm]:
    """The quick EVM; it is published for some Pythons only."""
    pytest.importorskip("pyrevm", reason="pyrevm is not published for this Python")
    from tests.contracts.revm import Revm

    return Revm


@pytest.fixture(params=["py-evm", "revm"])
def evm(request: pytest.FixtureRequest) -> type[Evm]:
    """Each EVM we have."""
    return Evm if request.param == "py-evm" else request.getfixturevalue("revm")


@pytest.fixture(params=["coin", "token"])
def money(request: pytest.FixtureRequest, world: World) -> Address:
    """The native coin, then an ERC-20."""
    return NATIVE if request.param == "coin" else world.token


@pytest.fixture
def channel(world: World) -> Channel:
    """A funded channel in native coin: 10 ether from A, 4 from B."""
    return world.channel().funded()


@pytest.fixture
def either(world: World, money: Address) -> Channel:
    """A funded channel, once in coin and once in a token."""
    return world.channel(money).funded()
