"""No outbox (ADR 16): what a death swallowed follows from the saved channel, and leaves again byte for byte."""

from __future__ import annotations

import pytest

from channeld.node.loop import Actor
from channeld.wire import messages as wire
from tests.crash.enumerator import fresh_folder
from tests.crash.scenarios import line, quiet
from tests.crash.sim import Point, Sim, simulate

SAID = (wire.Transfer, wire.Commit, wire.CommitAck)


def played(doomed: Point | None) -> tuple[int, list[tuple[str, bytes]]]:
    """Deaths, and every proposal and acknowledgement that left a node, as bytes."""

    async def program(sim: Sim) -> tuple[int, list[tuple[str, bytes]]]:
        (payer, payee), (opened,) = await line(sim, Actor, "payer", "payee")
        sim.spoken.clear()
        sim.watching = True
        await payer.transfer(opened, [3, 4, 5], "one")
        await payee.until(lambda: int(payee.channel(opened)["ours"]) == 12)
        await quiet((payer, payee))
        return sim.deaths, [(name, wire.encode(said)) for name, said in sim.spoken if isinstance(said, SAID)]

    with fresh_folder() as folder:
        return simulate(program, folder, doomed=doomed)


@pytest.mark.rule("R10")
@pytest.mark.parametrize(
    ("who", "where", "when", "twice"),
    [
        ("payer", "send Commit", "after", {0, 1}),  # the payee has it; its acknowledgement had left in vain, or not yet
        ("payer", "send Commit", "before", {3}),
        ("payer", "send Transfer", "before", {0}),
        ("payee", "save channels+signed+transfers", "before", {4}),  # all of it was said, and none of it kept
        ("payee", "save channels+signed+transfers", "after", {0}),
        ("payee", "send CommitAck", "before", {0}),
    ],
)
def test_after_a_death_the_same_bytes_leave_again(who: str, where: str, when: str, twice: set[int]) -> None:
    """`twice`: how many messages had left in vain; each leaves once more, and no other does."""
    calm = played(None)[1]
    deaths, said = played(Point(who, where, 1, when))
    assert deaths == 1
    assert set(said) == set(calm), "the same signatures, updates and versions, whoever died"
    assert len(said) - len(calm) in twice
    assert len(calm) == 5
