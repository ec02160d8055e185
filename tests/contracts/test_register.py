"""SecretRegistry.register: the first time counts, and entries are skipped, never refused."""

from __future__ import annotations

from channeld.base.keys import keccak
from tests.contracts.world import World, key_in_registry


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
