"""SecretRegistry.register: the first time counts, and entries are skipped, never refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channeld.base.digests import registry_key
from channeld.base.keys import HALF_ORDER, ORDER, Key, keccak
from channeld.base.units import LockKey, LockKind, Side
from tests.contracts.world import Body, Reverted, World, key_in_registry, lock


def test_a_secret_is_kept_under_the_hash_that_locks_name(world: World) -> None:
    secret = keccak(b"a fresh secret")
    key = key_in_registry(secret)
    assert world.ask(world.registry, "registered_at", key) == 0
    receipt = world.reveal(secret)
    assert receipt.event("SecretRegistered") == {"key": key, "secret": secret}
    assert world.ask(world.registry, "registered_at", key) == receipt.timestamp


def test_the_first_time_counts(world: World) -> None:
    secret, other = keccak(b"early"), keccak(b"late")
    first = world.reveal(secret).timestamp
    world.travel(first + 100)
    receipt = world.reveal(secret, other, other)
    assert [event.fields["secret"] for event in receipt.events] == [other]
    assert world.ask(world.registry, "registered_at", key_in_registry(secret)) == first
    assert world.ask(world.registry, "registered_at", key_in_registry(other)) == receipt.timestamp


def test_none_and_128_at_once(world: World) -> None:
    assert world.reveal().events == ()
    secrets = [keccak(b"many %d" % number) for number in range(128)]
    assert len(world.reveal(*secrets).events) == 128


def point_key(scalar: int) -> bytes:
    """The registry's key of scalar·G, computed by libsecp256k1."""
    return registry_key(LockKind.POINT, bytes(12) + Key(scalar.to_bytes(32, "big")).address)


@pytest.mark.parametrize(
    "scalar", [1, 2, 3, HALF_ORDER, HALF_ORDER + 1, ORDER - 2, ORDER - 1, int.from_bytes(keccak(b"scalar"), "big")]
)
def test_a_scalar_is_kept_under_its_point(world: World, scalar: int) -> None:
    receipt = world.do(world.rich, world.registry, "register_points", [scalar])
    assert receipt.event("SecretRegistered") == {"key": point_key(scalar), "secret": scalar.to_bytes(32, "big")}
    assert world.ask(world.registry, "registered_at", point_key(scalar)) == receipt.timestamp
    again = world.do(world.rich, world.registry, "register_points", [scalar, scalar])
    assert again.events == ()
    assert world.ask(world.registry, "registered_at", point_key(scalar)) == receipt.timestamp


@pytest.mark.parametrize("scalar", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_what_is_no_scalar_takes_the_others_with_it(world: World, scalar: int) -> None:
    good = int.from_bytes(keccak(b"good %d" % scalar), "big") % ORDER
    with pytest.raises(Reverted, match="scalar"):
        world.do(world.rich, world.registry, "register_points", [good, scalar])
    assert world.ask(world.registry, "registered_at", point_key(good)) == 0


def test_the_kinds_never_meet(world: World) -> None:
    """The same 32 bytes as a preimage and as a scalar, and a point whose address is the value of a hash-lock."""
    secret = keccak(b"both kinds")
    world.reveal(secret)
    scalar = int.from_bytes(secret, "big")
    assert world.ask(world.registry, "registered_at", point_key(scalar)) == 0
    world.do(world.rich, world.registry, "register_points", [scalar])
    assert world.ask(world.registry, "registered_at", point_key(scalar)) == world.now
    value = bytes(12) + Key(secret).address
    assert world.ask(world.registry, "registered_at", registry_key(LockKind.HASH, value)) == 0


def test_a_point_lock_is_opened_by_its_scalar(world: World) -> None:
    channel, scalar = world.channel().funded(100, 10), int.from_bytes(keccak(b"adaptor"), "big")
    key = LockKey(bytes(12) + Key(scalar.to_bytes(32, "big")).address)
    one = replace(lock(1, Side.A, 7, world.now + 10**6), kind=LockKind.POINT, key=key)
    body = Body(locks=(one,))
    channel.close(Side.A, 1, body)
    channel.wait()
    channel.settle(body)
    before = channel.paid(Side.B)
    channel.resolve((one,), scalar.to_bytes(32, "big"))  # as a preimage it opens nothing
    assert channel.paid(Side.B) == before
    world.do(world.rich, world.registry, "register_points", [scalar])
    channel.resolve((one,))
    assert channel.paid(Side.B) == before + 7
