"""resolve_locks: a lock pays its receiver iff the secret was registered by the expiry, else its sender, after it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.digests import Lock, pack_locks
from channeld.base.keys import compact, keccak
from channeld.base.units import NATIVE, Amount, LockId, LockKind, Side, Timestamp
from tests.contracts.model import rest_hash
from tests.contracts.world import BOND, ETHER, Body, Channel, Receipt, Reverted, World, key_in_registry, lock, secret_of

LATER = 1_000_000


def settled(channel: Channel, *locks: Lock, locked: tuple[int, int] | None = None) -> Channel:
    """Closed by A with a state of these locks, and settled; payouts so far stand in `paid`."""
    body = Body(locks=locks, locked=locked)
    channel.close(Side.A, 3, body)
    channel.wait()
    told = channel.settle(body).event("Settled")
    assert told["locks_hash"] == body.locks_hash == channel.stored()[5]
    assert (told["deposit_a"], told["deposit_b"]) == channel.stored()[:2]
    return channel


def gains(channel: Channel, *locks: Lock, secrets: tuple[bytes, ...] = ()) -> tuple[int, int]:
    """What a resolve pays A and B, by balance."""
    before = channel.paid(Side.A), channel.paid(Side.B)
    told = channel.resolve(locks, *secrets).event("LocksResolved")
    found = channel.paid(Side.A) - before[0], channel.paid(Side.B) - before[1]
    assert found == (told["paid_a"], told["paid_b"])
    return found


def fresh(world: World) -> int:
    """A number whose secret nobody has registered."""
    world.count += 1
    return world.count * 100


@pytest.mark.parametrize("sender", list(Side))
def test_registered_in_time_pays_the_receiver_even_long_after(either: Channel, sender: Side) -> None:
    number = fresh(either.world)
    one = lock(number, sender, ETHER, either.world.now + LATER)
    settled(either, one)
    either.world.reveal(secret_of(number))
    either.world.travel(one.expiry + 5000)
    assert gains(either, one) == ((0, ETHER) if sender is Side.A else (ETHER, 0))
    assert either.stored()[:2] == (0, 0) and either.stored()[5] == bytes(32)
    assert either.paid(Side.A) + either.paid(Side.B) >= 14 * ETHER


@pytest.mark.parametrize("sender", list(Side))
def test_expired_returns_to_the_sender(either: Channel, sender: Side) -> None:
    one = lock(fresh(either.world), sender, ETHER, either.world.now + LATER)
    settled(either, one)
    either.world.travel(one.expiry)
    assert gains(either, one) == ((ETHER, 0) if sender is Side.A else (0, ETHER))


def test_the_moment_of_expiry_belongs_to_the_receiver(world: World) -> None:
    for late in (0, 1):
        number = fresh(world)
        channel = world.channel().funded()
        one = lock(number, Side.A, ETHER, world.now + LATER)
        settled(channel, one)
        world.travel(one.expiry - 1 + late)
        expected = (0, ETHER) if late == 0 else (ETHER, 0)
        assert gains(channel, one, secrets=(secret_of(number),)) == expected
        assert world.ask(world.registry, "registered_at", key_in_registry(secret_of(number))) == one.expiry + late


def test_at_the_expiry_itself_nothing_returns_yet(channel: Channel) -> None:
    one = lock(fresh(channel.world), Side.A, ETHER, channel.world.now + LATER)
    settled(channel, one)
    channel.world.travel(one.expiry - 1)
    assert gains(channel, one) == (0, 0)
    assert channel.world.now == one.expiry
    assert gains(channel, one) == (ETHER, 0)


def test_secrets_in_the_call_are_registered_first(channel: Channel) -> None:
    world, number = channel.world, fresh(channel.world)
    one = lock(number, Side.B, ETHER, world.now + LATER)
    settled(channel, one)
    receipt = channel.resolve((one,), secret_of(number))
    assert receipt.names() == ["SecretRegistered", "LocksResolved"]
    assert world.ask(world.registry, "registered_at", key_in_registry(secret_of(number))) == receipt.timestamp


def test_pending_locks_stay_listed_and_are_resolved_later(either: Channel) -> None:
    world, base = either.world, fresh(either.world)
    soon, late = world.now + LATER, world.now + 2 * LATER
    known = lock(base, Side.A, 10, late)
    lost = lock(base + 1, Side.A, 20, soon)
    open_a = lock(base + 2, Side.A, 40, late)
    open_b = lock(base + 3, Side.B, 80, late)
    settled(either, known, lost, open_a, open_b)
    world.travel(soon)
    assert gains(either, known, lost, open_a, open_b, secrets=(secret_of(base),)) == (20, 10)
    assert either.stored()[:2] == (40, 80)
    assert either.stored()[5] == rest_hash((open_a, open_b))
    assert gains(either, open_a, open_b, secrets=(secret_of(base + 3),)) == (80, 0)
    assert either.stored()[:2] == (40, 0)
    assert either.stored()[5] == rest_hash((open_a,))
    world.travel(late)
    assert gains(either, open_a) == (40, 0)
    assert either.stored()[:2] == (0, 0) and either.stored()[5] == bytes(32)


def test_a_list_that_is_over_pays_nothing_but_registers(channel: Channel) -> None:
    """Somebody resolved a lock a moment before: our call must not fail and take our registration with it."""
    world, base = channel.world, fresh(channel.world)
    locks = tuple(lock(base + number, Side.A, 10, world.now + LATER) for number in range(3))
    settled(channel, *locks)
    channel.resolve(locks, secret_of(base))
    stored = channel.stored()
    assert channel.resolve(locks, secret_of(base + 1)).names() == ["SecretRegistered"]
    assert channel.resolve((), secret_of(base + 2)).names() == ["SecretRegistered"]
    assert channel.stored() == stored
    assert gains(channel, *locks[1:]) == (0, 20)
    assert channel.resolve(locks, secret_of(base)).events == ()


@pytest.mark.parametrize("change", ["amount", "expiry", "sender", "kind", "id", "order", "more", "less"])
def test_only_the_recorded_list_pays(channel: Channel, change: str) -> None:
    base = fresh(channel.world)
    one, two = (lock(base + number, Side.A, 10, channel.world.now + LATER) for number in range(2))
    settled(channel, one, two)
    channel.world.reveal(secret_of(base), secret_of(base + 1))
    lists = {
        "amount": (replace(one, amount=Amount(11)), two),
        "expiry": (replace(one, expiry=Timestamp(one.expiry + 1)), two),
        "sender": (one, replace(two, sender=Side.B)),
        "kind": (replace(one, kind=LockKind.POINT), two),
        "id": (replace(one, id=LockId(1)), two),
        "order": (replace(one, id=LockId(two.id + 1)), two),
        "more": (one, two, lock(base + 2, Side.A, 1, one.expiry)),
        "less": (one,),
    }
    assert channel.resolve(lists[change]).events == ()
    assert gains(channel, one, two) == (0, 20)


def test_not_before_settling(channel: Channel) -> None:
    with pytest.raises(Reverted, match="not settled"):
        channel.resolve(())
    channel.close(Side.A)
    with pytest.raises(Reverted, match="not settled"):
        channel.resolve(())


def test_locks_beyond_what_is_held_get_what_is_left_and_remainders_return(world: World) -> None:
    for locked, known, expected in (
        ((7, 0), (True, True), (0, 7)),  # 5 + 5 promised, 7 held
        ((7, 0), (False, True), (5, 2)),  # the first back to A, then what is left
        ((100, 3), (True, True), (90, 13)),  # more held than promised: back to its sender, each
    ):
        base = fresh(world)
        locks = tuple(lock(base + number, Side.A, 5, world.now + LATER) for number in range(2))
        channel = settled(world.channel().funded(100, 10), *locks, locked=locked)
        held = channel.stored()[:2]
        world.reveal(*(secret_of(base + number) for number in range(2) if known[number]))
        world.travel(locks[0].expiry)
        assert sum(held) == sum(expected)
        assert gains(channel, *locks) == expected


def test_when_nothing_is_held_any_more_the_list_is_over(world: World) -> None:
    base = fresh(world)
    locks = tuple(lock(base + number, Side.A, 5, world.now + LATER) for number in range(3))
    channel = settled(world.channel().funded(100, 10), *locks, locked=(5, 0))
    assert gains(channel, *locks, secrets=(secret_of(base),)) == (0, 5)
    assert channel.stored()[5] == bytes(32)


def test_locks_without_money_leave_no_record(world: World) -> None:
    channel = world.channel().funded(100, 10)
    one = lock(fresh(world), Side.A, 5, world.now + LATER)
    body = Body(locks=(one,), locked=(0, 0))
    channel.close(Side.A, 1, body)
    channel.wait()
    channel.settle(body)
    assert channel.stored()[5] == bytes(32)


def test_another_kind_of_lock_is_not_opened_by_a_secret(channel: Channel) -> None:
    base = fresh(channel.world)
    point = replace(lock(base, Side.A, 10, channel.world.now + LATER), kind=LockKind.POINT)
    settled(channel, point)
    assert gains(channel, point, secrets=(secret_of(base),)) == (0, 0)
    channel.world.travel(point.expiry)
    assert gains(channel, point) == (10, 0)


def test_one_secret_opens_locks_with_the_same_key_everywhere(world: World) -> None:
    """A path of two channels, and two parts of one payment in the second."""
    base = fresh(world)
    first = lock(base, Side.A, 10, world.now + LATER)
    parts = tuple(replace(first, id=LockId(number), amount=Amount(4)) for number in (1, 2))
    one, two = settled(world.channel().funded(), first), settled(world.channel().funded(), *parts)
    assert gains(two, *parts, secrets=(secret_of(base),)) == (0, 8)
    world.travel(first.expiry + 1)
    assert gains(one, first) == (0, 10)


def raw(channel: Channel, data: bytes, *secrets: bytes) -> Receipt:
    """Whatever bytes, as the list."""
    return channel.do(channel.world.rich, "resolve_locks", *channel.head, data, list(secrets))


def test_a_list_is_whole_locks(channel: Channel) -> None:
    one = lock(fresh(channel.world), Side.A, 10, channel.world.now + LATER)
    settled(channel, one)
    channel.world.reveal(secret_of(one.id))
    stored = channel.stored()
    for data in (one.packed() + b"tail", one.packed()[:-1], one.packed() + bytes(57), bytes(57) + one.packed(), b"\0"):
        assert raw(channel, data).events == ()
    assert channel.stored() == stored
    assert gains(channel, one) == (0, 10)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("sender", list(Side))
def test_what_is_hashed_into_a_chain_is_no_list(world: World, count: int, known: bool, sender: Side) -> None:
    """The 89 bytes behind a chained record are public. Taken for a list, they were one lock of nonsense, which expires
    at once and sends all that is held back to its sender, registered or not."""
    for _ in range(4):  # other keys, which are what the nonsense is read from
        base = fresh(world)
        channel = world.channel(close_bond=0).funded()
        locks = tuple(lock(base + at, sender, 10 + at, world.now + LATER) for at in range(count))
        settled(channel, *locks)
        assert raw(channel, pack_locks(locks)).event("LocksResolved")["locks_hash"] == rest_hash(locks)
        if known:
            world.reveal(*(secret_of(base + at) for at in range(count)))
        stored, paid = channel.stored(), [channel.paid(side) for side in Side]
        before = rest_hash(locks[:-1])
        last = locks[-1].packed()
        tried = before + last
        for _ in range(3):
            assert raw(channel, tried).events == ()
            assert raw(channel, tried[:57]).events == ()
            assert raw(channel, bytes(25) + tried).events == ()
            tried = bytes(32) + tried[:57]
        assert channel.stored() == stored and paid == [channel.paid(side) for side in Side]
        total = sum(one.amount for one in locks)
        if known:
            assert gains(channel, *locks) == ((0, total) if sender is Side.A else (total, 0))


@settings(max_examples=150)
@given(data=st.data())
def test_no_other_bytes_move_anything(world: World, data: st.DataObject) -> None:
    """On a state's own list and on a chain: pieces of what is public, in any order, with any tail."""
    base = fresh(world)
    channel = world.channel(close_bond=0).funded()
    locks = tuple(lock(base + at, Side.A, 10 + at, world.now + LATER) for at in range(3))
    settled(channel, *locks)
    left = locks
    if data.draw(st.booleans(), label="chained"):
        world.reveal(secret_of(base))
        raw(channel, pack_locks(locks))
        left = locks[1:]
    world.reveal(secret_of(base + 1))
    chains = [rest_hash(locks[a:b]) for a in range(3) for b in range(a, 4)]
    pieces = st.sampled_from([*(one.packed() for one in locks), *chains, bytes(32), bytes(57)])
    parts = data.draw(st.lists(pieces, max_size=5), label="pieces")
    given = b"".join(parts) + data.draw(st.binary(max_size=60), label="tail")
    if given == pack_locks(left):
        return
    stored, paid = channel.stored(), [channel.paid(side) for side in Side]
    assert raw(channel, given).events == ()
    assert channel.stored() == stored and paid == [channel.paid(side) for side in Side]


def test_a_list_both_signed_with_a_broken_tail_cannot_be_opened(channel: Channel) -> None:
    """What it locks is lost, as with any hash that has no list behind it; all else is paid."""
    one = lock(fresh(channel.world), Side.A, 10, channel.world.now + LATER)
    packed = one.packed() + b"tail"
    opened = (0, 10, 0, keccak(packed), bytes(32))
    body = keccak(b"".join(v.to_bytes(32, "big") if isinstance(v, int) else v for v in opened))
    sender = channel.keys[0].address
    signature = channel.sign(1, body)[1]
    salts = channel.salts[1], keccak(channel.salts[0])
    channel.do(sender, "close", *channel.head, 1, body, compact(signature), *salts, value=channel.terms.close_bond)
    channel.wait()
    channel.do(sender, "settle", *channel.head, opened, NATIVE)
    assert raw(channel, packed, secret_of(one.id)).names() == ["SecretRegistered"]
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (10 * ETHER - 10 + BOND, 4 * ETHER)


def test_512_locks_fit_a_block(channel: Channel) -> None:
    base = fresh(channel.world)
    locks = tuple(lock(base * 1000 + number, Side.A, 10, channel.world.now + LATER) for number in range(512))
    settled(channel, *locks)
    secrets = [secret_of(base * 1000 + number) for number in range(128)]
    receipt = channel.resolve(locks, *secrets)
    assert receipt.gas < 8_000_000
    assert receipt.event("LocksResolved")["paid_b"] == 1280
    assert channel.stored()[5] == rest_hash(locks[128:])
    channel.world.travel(locks[0].expiry)
    assert gains(channel, *locks[128:]) == (3840, 0)


def closed_with(channel: Channel, *locks: Lock) -> Body:
    """Closed by A with a state of these locks; the deadline is over."""
    body = Body(net=ETHER, locks=locks)
    channel.close(Side.A, 3, body)
    channel.wait()
    return body


def test_settled_and_resolved_at_once(either: Channel) -> None:
    """As by two calls, but for the number of transfers."""
    base = fresh(either.world)
    known, open_b = (lock(base + at, side, 10 + at, either.world.now + LATER) for at, side in enumerate(Side))
    body = closed_with(either, known, open_b)
    receipt = either.settle_and_resolve(body, secret_of(base))
    assert receipt.names() == ["SecretRegistered", "Finalized", "Settled", "LocksResolved"]
    told = receipt.event("Settled")
    assert (told["paid_a"], told["paid_b"], told["deposit_a"], told["deposit_b"]) == (
        9 * ETHER - 10,
        5 * ETHER - 11,
        10,
        11,
    )
    assert told["locks_hash"] == body.locks_hash
    bond = BOND if either.token == NATIVE else 0
    assert (either.paid(Side.A) - bond, either.paid(Side.B)) == (9 * ETHER - 10, 5 * ETHER - 11 + 10)
    assert either.world.balance(NATIVE, either.terms.payout_a) >= BOND
    assert either.stored()[:2] == (0, 11) and either.stored()[5] == rest_hash((open_b,))
    assert gains(either, open_b, secrets=(secret_of(base + 1),)) == (11, 0)


def test_the_opening_is_not_looked_at_once_it_is_settled(channel: Channel) -> None:
    """Somebody settled a moment before: the secrets are registered and the locks paid all the same."""
    base = fresh(channel.world)
    one = lock(base, Side.A, 10, channel.world.now + LATER)
    body = closed_with(channel, one)
    channel.settle(body)
    receipt = channel.settle_and_resolve(Body(net=7), secret_of(base), locks=(one,))
    assert receipt.names() == ["SecretRegistered", "LocksResolved"]
    assert channel.paid(Side.B) == 5 * ETHER + 10


def test_another_list_does_not_keep_the_parties_from_their_money(channel: Channel) -> None:
    one = lock(fresh(channel.world), Side.A, 10, channel.world.now + LATER)
    body = closed_with(channel, one)
    receipt = channel.settle_and_resolve(body, locks=())
    assert receipt.names() == ["Finalized", "Settled"]
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (9 * ETHER - 10 + BOND, 5 * ETHER)
    assert channel.stored()[5] == body.locks_hash


def test_a_state_without_locks_is_settled_too(channel: Channel) -> None:
    body = closed_with(channel)
    assert channel.settle_and_resolve(body).names() == ["Finalized", "Settled"]
    assert channel.stored()[:2] == (0, 0)


def test_what_settle_refuses_it_refuses(channel: Channel) -> None:
    one = lock(fresh(channel.world), Side.A, 10, channel.world.now + LATER)
    body = Body(net=ETHER, locks=(one,))
    for opened, reason in ((None, "not settled"), (body, "not closing")):
        with pytest.raises(Reverted, match=reason):
            channel.settle_and_resolve(opened, locks=(one,))
    channel.close(Side.A, 3, body)
    with pytest.raises(Reverted, match="too early"):
        channel.settle_and_resolve(body)
    channel.wait()
    with pytest.raises(Reverted, match="other outcome"):
        channel.settle_and_resolve(Body(net=2, locks=(one,)))
    with pytest.raises(Reverted, match="other outcome"):
        channel.settle_and_resolve(body, bond_to=channel.tower.address)
    with pytest.raises(Reverted, match="not settled"):
        channel.settle_and_resolve(None, locks=(one,))


def test_the_bond_of_a_beaten_close_goes_to_the_tower_besides(channel: Channel) -> None:
    base = fresh(channel.world)
    one = lock(base, Side.B, 10, channel.world.now + LATER)
    body = Body(net=ETHER, locks=(one,))
    channel.close(Side.A, 3, Body())
    channel.tower_challenge(Side.B, 6, body)
    channel.wait()
    before = channel.world.balance(NATIVE, channel.tower.address)
    channel.settle_and_resolve(body, secret_of(base), bond_to=channel.tower.address)
    assert channel.world.balance(NATIVE, channel.tower.address) == before + BOND
    assert (channel.paid(Side.A), channel.paid(Side.B)) == (9 * ETHER + 10, 5 * ETHER - 10)
