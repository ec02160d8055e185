"""Every function of the manager from inside every call that lets a stranger run: it fails, and leaves no trace.

The matrix is made of the ABI, so a new function is in it or the test fails. That it is the lock that refuses is shown
with the same matrix against the same source without it: every row and every column has a cell that works then, and one
of them takes other people's money.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from channeld.base.units import NATIVE, Side
from tests.contracts.world import NO_STATE, call_data
from tests.contracts.zoo import PEEKS, PLAIN, both, debts
from tests.contracts.zoo_reentrancy import (
    Call,
    Outcome,
    Scene,
    functions,
    inner_calls,
    intruding,
    outer_calls,
    registry_calls,
    without_lock,
)

FREE = {"REGISTRY()", "PERMIT2()", "MIN_PERIOD()"}
"""What may be asked at any time: it is part of the code and cannot change."""
UNCAPPED = {
    "deposit",
    "deposit_many",
    "deposit_with_authorization",
    "deposit_with_permit2",
    "withdraw pays in coin",
    "withdraw pays tokens",
}
"""The outer calls in which a stranger has nearly all the gas."""


class Matrix:
    """A scene with its calls, and what each outer call comes to when the intruder does nothing."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.inner = inner_calls(scene)
        self.outer = outer_calls(scene)
        self.plain: dict[str, Outcome] = {call.name: scene.run(call) for call in self.outer}

    def cell(self, outer: Call, inner: Call) -> Outcome:
        return self.scene.run(outer, intruding(inner, self.scene.manager))

    def every_inner(self) -> list[tuple[str, Call]]:
        return [(name, call) for name, calls in self.inner.items() for call in calls]


@pytest.fixture(scope="module")
def locked() -> Matrix:
    return Matrix(Scene())


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return Matrix(Scene(without_lock(Path(tmp_path_factory.mktemp("unlocked")))))


def test_the_matrix_has_every_function(locked: Matrix) -> None:
    assert set(locked.inner) == set(functions("ChannelManager"))
    assert all(locked.inner.values()), [name for name, calls in locked.inner.items() if not calls]
    assert len({call.name for call in locked.outer}) == len(locked.outer) > 20


def test_every_call_works_by_itself(locked: Matrix) -> None:
    """Outer and inner: so a refusal inside is for being inside."""
    assert all(done.good and not done.inner for done in locked.plain.values())
    for name, call in locked.every_inner():
        assert locked.scene.alone(call), name


@pytest.mark.slow
def test_no_cell_works_or_leaves_a_trace(locked: Matrix) -> None:
    cells = 0
    for outer in locked.outer:
        plain = locked.plain[outer.name]
        for name, inner in locked.every_inner():
            done = locked.cell(outer, inner)
            assert done.inner, f"{outer.name} never reached the intruder"
            assert set(done.inner) == {name in FREE}, f"{inner.name} inside {outer.name}"
            assert (done.good, done.output) == (plain.good, plain.output), f"{inner.name} inside {outer.name}"
            assert done.logs == plain.logs, f"{inner.name} inside {outer.name}"
            assert done.root == plain.root, f"{inner.name} inside {outer.name}"
            cells += 1
    assert cells == len(locked.outer) * len(locked.every_inner())


def test_it_is_the_lock_that_refuses(unlocked: Matrix) -> None:
    """Without it every function works from somewhere, and from every outer call something works."""
    worked: set[tuple[str, str]] = set()
    for outer in unlocked.outer:
        plain = unlocked.plain[outer.name]
        assert plain.good
        for name, inner in unlocked.every_inner():
            if outer.name not in UNCAPPED and not name.startswith(("closings", "deposit(", "withdraw(")):
                continue
            done = unlocked.cell(outer, inner)
            if any(done.inner):
                worked.add((outer.name, name))
                if name.startswith(("deposit", "withdraw(", "settle", "close(", "challenge", "cooperate", "resolve")):
                    assert done.root != plain.root, f"{inner.name} inside {outer.name}"
    assert {outer for outer, _ in worked} == {outer.name for outer in unlocked.outer}
    assert {name for _, name in worked} == set(unlocked.inner)
    for outer_name in UNCAPPED:
        assert {name for outer, name in worked if outer == outer_name} == set(unlocked.inner), outer_name


@pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])
def test_the_theft_the_lock_stops(locked: Matrix, unlocked: Matrix, lock: bool) -> None:
    """A token that pokes its friend in a deposit, who deposits too: without the lock both are credited with both."""
    scene = (locked if lock else unlocked).scene
    with scene.stage.trial():
        token, mine = scene.poking, scene.channel(scene.poking)
        inner = call_data("ChannelManager", "deposit", token, mine.terms.hash, 1, 1000)
        scene.evm.become(scene.intruder, intruding(Call(name="deposit", data=inner), scene.manager))
        pot = scene.balance(token, scene.manager)
        scene.do(scene.rich, scene.manager, "deposit", token, mine.terms.hash, 0, 50)
        came, credited = scene.balance(token, scene.manager) - pot, sum(mine.stored()[:2])
        assert (came, credited) == ((50, 50) if lock else (1050, 2050))


@pytest.mark.parametrize("lock", [True, False], ids=["locked", "unlocked"])
def test_a_token_cannot_look_while_it_is_asked_for_a_balance(locked: Matrix, unlocked: Matrix, lock: bool) -> None:
    """Read-only reentrancy: any function, called by the token inside balanceOf, which then lies if it works."""
    matrix = locked if lock else unlocked
    scene = matrix.scene
    token = scene.beasts[1]
    views, raved = {"owed(address,address)", "channel(bytes32)", "closings()"}, set()
    for name, inner in matrix.every_inner():
        if name in FREE or (not lock and name not in views):
            continue
        with scene.stage.trial():
            channel = scene.channel(token).funded(1000, 500)
            scene.do(scene.rich, token, "aim", scene.manager, inner.data)
            scene.turn(token, PEEKS)
            channel.cooperate(1)
            scene.turn(token, PLAIN)
            assert both(channel) == (1000, 500)
            if debts(channel) != (0, 0):
                raved.add(name)
    assert raved == (set() if lock else views)


def test_the_registry_may_be_used_at_any_time(locked: Matrix) -> None:
    """From inside, registering does what it does outside, to the bit; and the outer call what it does without it."""
    scene = locked.scene
    calls = registry_calls(scene)
    assert {name.partition("(")[0] for name in functions("SecretRegistry")} == set(calls)
    for outer in locked.outer:
        plain = locked.plain[outer.name]
        for call in calls.values():
            done = locked.cell(outer, call)
            assert done.inner and all(done.inner), f"{call.name} inside {outer.name}"
            assert done.root == scene.run(outer, then=call).root, f"{call.name} inside {outer.name}"
            ours = tuple(one for one in done.logs if one[0] != scene.registry)
            assert ours == tuple(one for one in plain.logs if one[0] != scene.registry)
            assert (done.good, done.output) == (plain.good, plain.output)


def test_one_intruder_for_both_payouts_and_the_bond(locked: Matrix) -> None:
    """It is called for each, and has all its money: no more, no less."""
    scene = locked.scene
    with scene.stage.trial():
        channel = scene.channel(payout_a=scene.intruder, payout_b=scene.intruder).funded(1000, 500)
        channel.close(Side.A)
        channel.wait()
        had, pot = scene.balance(NATIVE, scene.intruder), scene.balance(NATIVE, scene.manager)
        again = Call(name="settle", data=call_data("ChannelManager", "settle", *channel.head, NO_STATE, NATIVE))
        done = locked.cell(again, again)
        assert done.good and done.inner == (False, False)
        scene.evm.become(scene.intruder, intruding(again, scene.manager))
        channel.settle(None)
        assert scene.balance(NATIVE, scene.intruder) == had + 1500 + channel.terms.close_bond
        assert scene.balance(NATIVE, scene.manager) == pot - 1500 - channel.terms.close_bond
