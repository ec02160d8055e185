"""Whatever is called in whatever order, contract and model agree, and no base unit appears or is lost."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.digests import ALL, Lock
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts import model
from tests.contracts.model import ModelChannel, Outcome, Payout, Refusal
from tests.contracts.world import (
    BEATEN,
    BOND,
    CLOSER_B,
    DEAD,
    DELEGATED,
    FINAL,
    PERIOD,
    VOID,
    Body,
    Channel,
    Receipt,
    Reverted,
    World,
    lock,
    secret_of,
)

SIDES = st.sampled_from(Side)
VERSIONS = st.integers(1, 8)
NETS = st.integers(-150, 150)
HELD = st.tuples(st.integers(0, 80), st.integers(0, 80))
BODIES = st.tuples(NETS, HELD, st.integers(0, 2))
"""net, locked, how many of the channel's three locks are listed, less one"""

STEPS = st.one_of(
    st.tuples(st.just("deposit"), SIDES, st.integers(0, 100)),
    st.tuples(st.just("cooperate"), VERSIONS, NETS, st.sampled_from([0, 10, ALL]), st.sampled_from([0, 10, ALL])),
    st.tuples(st.just("close"), SIDES, st.integers(0, 8), BODIES),
    st.tuples(st.just("challenge"), VERSIONS, BODIES, st.booleans(), st.sampled_from([0, PERIOD // 2])),
    st.tuples(st.just("finalize")),
    st.tuples(st.just("settle")),
    st.tuples(st.just("resolve")),
    st.tuples(st.just("reveal"), st.integers(0, 2)),
    st.tuples(st.just("travel"), st.sampled_from([PERIOD // 2, PERIOD + 1, 3 * PERIOD])),
)
PLOTS = st.one_of(
    st.lists(STEPS, max_size=12),
    # Most random plots end early: these begin where it gets interesting.
    st.builds(
        lambda a, b, state, middle, end: [("deposit", Side.A, a), ("deposit", Side.B, b), state, *middle, *end],
        st.integers(1, 100),
        st.integers(1, 100),
        st.tuples(st.just("close"), SIDES, st.integers(0, 3), BODIES),
        st.lists(STEPS, max_size=5),
        st.just([("travel", PERIOD + 1), ("settle",), ("resolve",), ("travel", 3 * PERIOD), ("resolve",)]),
    ),
)


class Twin:
    """A real channel and its model, led through the same plot."""

    def __init__(self, world: World, token: Address) -> None:
        world.count += 1
        self.world = world
        self.real = world.channel(token, close_bond=BOND)
        self.model = ModelChannel(period=PERIOD, bond=BOND)
        self.tower = Address(keccak(b"tower %d" % world.count)[:20])
        self.numbers = [world.count * 100 + number for number in range(3)]
        expiries = (world.now + PERIOD, world.now + 2 * PERIOD, world.now + 4 * PERIOD)
        self.locks = tuple(
            lock(number, side, 30, expiry)
            for number, side, expiry in zip(self.numbers, (Side.A, Side.B, Side.A), expiries, strict=True)
        )
        self.registered: dict[bytes, int] = {}
        self.deposited = 0
        self.paid = Payout()
        self.bonds: dict[str, int] = {}
        self.pool = {one: world.balance(one, world.manager) for one in (NATIVE, world.token)}

    def body(self, drawn: tuple[int, tuple[int, int], int]) -> Body:
        net, held, count = drawn
        locks = tuple(sorted(self.locks[: count + 1], key=lambda one: (one.sender, one.id))) if count else ()
        return Body(net=net, locked=held, locks=locks)

    def step(self, name: str, *drawn: object) -> None:
        """Do it to both; they must agree on whether it can be done."""
        if name == "travel":
            (seconds,) = drawn
            assert isinstance(seconds, int)
            self.world.travel(self.world.now + seconds)
            return
        refusal = reason = ""
        now = self.world.now + 1
        after, paid = self.model, Payout()
        try:
            after, paid = self.expect(name, now, *drawn)
        except Refusal as refused:
            refusal = str(refused)
        try:
            self.act(name, *drawn)
        except Reverted as reverted:
            reason = reverted.reason
        assert reason == refusal, (name, drawn)
        if not refusal:
            self.model = after
            self.take(paid)
        self.check()

    def expect(self, name: str, now: int, *drawn: object) -> tuple[ModelChannel, Payout]:
        match name, drawn:
            case "deposit", (Side() as side, int(amount)):
                after = model.deposit(self.model, side, amount)
                self.deposited += amount
                return after, Payout()
            case "cooperate", (int(version), int(net), int(out_a), int(out_b)):
                return model.cooperate(self.model, version, net, out_a, out_b)
            case "close", (Side() as side, int(version), tuple(body)):
                return model.close(self.model, side, now, version, self.outcome(self.body(body))), Payout()
            case "challenge", (int(version), tuple(body), bool(delegated), int(delay)):
                outcome = self.outcome(self.body(body), "tower" if delegated else "")
                return model.challenge(self.model, now, version, outcome, delay), Payout()
            case "finalize", ():
                return model.finalize(self.model, now)
            case "settle", ():
                return model.settle(self.model, now)
            case "resolve", ():
                return model.resolve(self.model, now, self.registered)
            case "reveal", (int(number),):
                self.registered.setdefault(self.locks[number].key, now)
                return self.model, Payout()
            case _:
                raise AssertionError(name)

    def act(self, name: str, *drawn: object) -> Receipt:
        real = self.real
        match name, drawn:
            case "deposit", (Side() as side, int(amount)):
                return real.deposit(side, amount)
            case "cooperate", (int(version), int(net), int(out_a), int(out_b)):
                return real.cooperate(version, net, out_a, out_b)
            case "close", (Side() as side, int(version), tuple(body)):
                return real.close(side, version, self.body(body) if version else None)
            case "challenge", (int(version), tuple(body), bool(delegated), int(delay)):
                victim = self.model.closer.other
                delegation = real.delegate(victim, version, self.tower, delay) if delegated else b""
                return real.challenge(version, self.body(body), payout=self.tower, delay=delay, delegation=delegation)
            case "finalize", ():
                opened = self.opened()
                digest = Body(net=opened[0], locked=opened[1:3], locks=self.listed()).hash if any(opened) else bytes(32)
                return real.do(self.world.rich, "finalize", *real.head, digest, self.bond_to())
            case "settle", ():
                return real.do(self.world.rich, "settle", *real.head, *self.opened(), self.bond_to())
            case "resolve", ():
                return real.resolve(self.model.outcome.locks if self.model.dead else ())
            case "reveal", (int(number),):
                return self.world.reveal(secret_of(self.numbers[number]))
            case _:
                raise AssertionError(name)

    def outcome(self, body: Body, bond_to: str = "") -> Outcome:
        ab, ba = body.held()
        return Outcome(net=body.net, locked_ab=ab, locked_ba=ba, locks=body.locks, bond_to=bond_to)

    def listed(self) -> tuple[Lock, ...]:
        return self.model.outcome.locks

    def opened(self) -> tuple[int, int, int, bytes, bytes]:
        if replace(self.model.outcome, bond_to="") == Outcome() and not self.stated():
            return 0, 0, 0, bytes(32), bytes(32)
        outcome = self.model.outcome
        return Body(net=outcome.net, locked=(outcome.locked_ab, outcome.locked_ba), locks=outcome.locks).opened()

    def stated(self) -> bool:
        """Whether a state is recorded, were it one that says nothing."""
        return self.real.stored()[5] != keccak(bytes(64))

    def bond_to(self) -> Address:
        return self.tower if self.model.outcome.bond_to else NATIVE

    def take(self, paid: Payout) -> None:
        self.paid = replace(self.paid, a=self.paid.a + paid.a, b=self.paid.b + paid.b)
        if paid.bond_to:
            self.bonds[paid.bond_to] = self.bonds.get(paid.bond_to, 0) + paid.bond

    def check(self) -> None:
        """The laws: storage as modelled, everybody paid as modelled, nothing made and nothing lost."""
        one, world = self.model, self.world
        flags = (
            CLOSER_B * (one.closer is Side.B)
            | BEATEN * one.beaten
            | DELEGATED * one.delegated
            | VOID * one.void
            | FINAL * one.final
            | DEAD * one.dead
        )
        assert self.real.stored()[:5] == (one.deposit_a, one.deposit_b, one.version, one.deadline, flags)
        token = self.real.token
        native = token == NATIVE
        assert self.real.paid(Side.A) == self.paid.a + (self.bonds.get("a", 0) if native else 0)
        assert self.real.paid(Side.B) == self.paid.b + (self.bonds.get("b", 0) if native else 0)
        assert world.balance(NATIVE, self.tower) == self.bonds.get("tower", 0)
        assert self.deposited == one.holds + self.paid.a + self.paid.b
        held = {token: one.holds}
        held[NATIVE] = held.get(NATIVE, 0) + one.bonded
        for which, before in self.pool.items():
            assert world.balance(which, world.manager) == before + held.get(which, 0)


@settings(max_examples=80)
@given(plot=PLOTS, coin=st.booleans())
def test_contract_and_model_agree_and_nothing_is_lost(world: World, plot: list[tuple[object, ...]], coin: bool) -> None:
    twin = Twin(world, NATIVE if coin else world.token)
    for name, *drawn in plot:
        assert isinstance(name, str)
        twin.step(name, *drawn)


def test_the_plots_reach_the_end(world: World) -> None:
    """One by hand, through most of the machine: stale close, challenge, tie, settle, locks."""
    twin = Twin(world, world.token)
    for name, *drawn in (
        ("deposit", Side.A, 90),
        ("deposit", Side.B, 40),
        ("close", Side.B, 2, (-20, (0, 0), 0)),
        ("challenge", 5, (30, (50, 20), 2), False, 0),
        ("challenge", 5, (30, (50, 20), 2), True, 0),
        ("finalize",),
        ("reveal", 0),
        ("travel", PERIOD + 1),
        ("settle",),
        ("resolve",),
        ("travel", 4 * PERIOD),
        ("resolve",),
        ("deposit", Side.A, 1),
    ):
        assert isinstance(name, str)
        twin.step(name, *drawn)
    assert isinstance(twin.real, Channel)
    assert twin.model.holds == 0
    assert twin.bonds == {"tower": BOND}
    assert twin.paid == Payout(a=60 - 50 + 50 - 30 + 0, b=70 - 20 + 20 + 30)
