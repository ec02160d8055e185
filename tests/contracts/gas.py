"""What each call costs, in the same conditions for each: read by the tests and by the bench.

Steady state, as a busy manager meets it: counters and the manager's token balance are non-zero, the allowance is
infinite; the participants are paid at their own addresses, which exist and hold the token, and side A sends what a
participant sends. Amounts have no zero bytes. `python -m
tests.contracts.gas` prints the figures.
"""

from __future__ import annotations

from typing import Final

from channeld.base.units import NATIVE, Address, Side
from tests.contracts.world import Body, Channel, Receipt, World, key_of, lock, secret_of

AMOUNT: Final = 1_234_567_890_123_456_789
NET: Final = 345_678_901_234_567_891
BOND: Final = 1_234_567_890_123_457
LOCK_AMOUNT: Final = 12_345_678_901


def measure(world: World) -> dict[str, int]:
    """Gas used per operation in a fresh world, all of its transactions together, by the names of the bench."""
    found: dict[str, int] = {}
    for name, token in (("eth", NATIVE), ("erc20", world.token)):
        _ready(world, token)
        channel = _channel(world, token)
        found[f"gas_open_{name}"] = channel.deposit(Side.A, AMOUNT).gas
        found[f"gas_topup_{name}"] = channel.deposit(Side.A, AMOUNT).gas
        channel.deposit(Side.B, AMOUNT)
        found[f"gas_cooperative_close_{name}"] = _cooperative(channel).gas
        found[f"gas_unilateral_close_{name}"] = sum(receipt.gas for receipt in _unilateral(_open(world, token)))
    found["gas_challenge"] = _challenged(_open(world, NATIVE)).gas
    found["gas_lock_registered"] = _per_lock(world, new=False)
    found["gas_lock_new_secret"] = _per_lock(world, new=True)
    return found


def _channel(world: World, token: Address) -> Channel:
    own = {"payout_a": key_of("payer").address, "payout_b": key_of("payee").address}
    return world.channel(token, close_bond=BOND, nonce=0x1234567890ABCDE + world.count, **own)


def _open(world: World, token: Address) -> Channel:
    return _channel(world, token).funded(AMOUNT, AMOUNT)


def _ready(world: World, token: Address) -> None:
    """Counters above zero, money in the manager."""
    channel = _open(world, token)
    channel.close(Side.A)


def _cooperative(channel: Channel) -> Receipt:
    """Sent by the opener, with the other's signature."""
    until = channel.world.now + 3600
    return channel.cooperate(7, NET, valid_until=until, sender=channel.keys[0].address)


def _unilateral(channel: Channel) -> list[Receipt]:
    body = Body(net=NET, blind=secret_of(0))
    closed = channel.close(Side.A, 12_345, body)
    channel.wait()
    return [closed, channel.settle(body, sender=channel.keys[0].address)]


def _challenged(channel: Channel) -> Receipt:
    channel.close(Side.A, 12_345, Body(blind=secret_of(0)))
    channel.wait(-100)
    return channel.tower_challenge(Side.B, 12_347, Body(net=NET, blind=secret_of(1)), delay=1800)


def _per_lock(world: World, *, new: bool) -> int:
    """Of 16 locks in one call against one lock, per further lock; each on a settled channel of its own."""
    few, many = (_resolved(world, count, new=new) for count in (1, 16))
    return (many - few) // 15


def _resolved(world: World, count: int, *, new: bool) -> int:
    channel = _open(world, NATIVE)
    names = [world.count * 1000 + number for number in range(count)]
    expiry = world.now + 86_400
    locks = tuple(lock(name, Side.A, LOCK_AMOUNT, expiry) for name in names)
    body = Body(net=NET, locks=locks, blind=secret_of(0))
    channel.close(Side.A, 12_345, body)
    channel.wait()
    channel.settle(body)
    secrets = [secret_of(name) for name in names]
    if new:
        return channel.resolve(locks, *secrets).gas
    world.reveal(*secrets)
    return channel.resolve(locks).gas


if __name__ == "__main__":
    for name, gas in measure(World()).items():
        print(f"{name:28} {gas:>9,}")
