"""Deployment on a bare EVM: the proxy is the well-known one, and addresses are the same on every chain.

How it goes over JSON-RPC is tested in `tests/chain/test_deploy.py`.
"""

from __future__ import annotations

from eth.vm.forks.prague import PragueVM

from channeld.base.units import Address, Seconds
from contracts import artifact, same_code
from contracts.deploy import (
    PROXY,
    PROXY_CODE,
    PROXY_GAS,
    PROXY_INIT,
    PROXY_PRICE,
    PROXY_SENDER,
    PROXY_TRANSACTION,
    addresses,
    created_at,
    manager_code,
    manager_immutables,
    proxied,
    registry_code,
)
from tests.contracts.evm import Evm
from tests.contracts.world import CHAIN_ID, MIN_PERIOD, START, World, key_of

OTHER_PERMIT2 = Address(b"\x22" * 20)


def test_the_proxys_transaction_is_what_the_constants_say() -> None:
    sent = PragueVM.get_transaction_builder().decode(PROXY_TRANSACTION)
    assert (bytes(sent.sender), sent.chain_id, sent.nonce, bytes(sent.to)) == (PROXY_SENDER, None, 0, b"")
    assert (sent.gas_price, sent.gas, sent.value, sent.data) == (PROXY_PRICE, PROXY_GAS, 0, PROXY_INIT)


def chain_with_proxy(chain_id: int) -> Evm:
    evm = Evm(timestamp=START, chain_id=chain_id)
    evm.give(PROXY_SENDER, 10**18)
    done = evm.send(PROXY_SENDER, None, PROXY_INIT, 0, PROXY_GAS)
    assert (done.good, done.created, evm.code(PROXY)) == (True, PROXY, PROXY_CODE)
    return evm


def test_one_address_on_every_chain_whoever_sends() -> None:
    manager, registry = addresses(MIN_PERIOD)
    for chain_id, sender in ((1, key_of("anyone").address), (CHAIN_ID, key_of("payer").address)):
        evm = chain_with_proxy(chain_id)
        evm.give(sender, 10**18)
        for code, address in ((registry_code(), registry), (manager_code(registry, MIN_PERIOD), manager)):
            done = evm.send(sender, PROXY, proxied(code), 0, 8_000_000)
            assert (done.good, done.output) == (True, address)
        assert same_code(artifact("SecretRegistry"), evm.code(registry))
        assert same_code(artifact("ChannelManager"), evm.code(manager))
        again = evm.send(sender, PROXY, proxied(registry_code()), 0, 8_000_000)
        assert not again.good


def test_whatever_tells_deployments_apart_is_in_the_address() -> None:
    registry = created_at(registry_code())
    codes = [
        manager_code(registry, MIN_PERIOD),
        manager_code(registry, Seconds(MIN_PERIOD + 1)),
        manager_code(registry, MIN_PERIOD, OTHER_PERMIT2),
        manager_code(OTHER_PERMIT2, MIN_PERIOD),
    ]
    assert len({created_at(code) for code in codes}) == 4


def test_immutables_in_the_code_are_what_the_views_say(world: World) -> None:
    code = manager_code(world.registry, Seconds(777), OTHER_PERMIT2)
    manager = world.deploy("ChannelManager", code)
    told = [world.ask(manager, name) for name in ("REGISTRY", "MIN_PERIOD", "PERMIT2")]
    assert told == [world.registry, 777, OTHER_PERMIT2] == list(manager_immutables(world.evm.code(manager)))
