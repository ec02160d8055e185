"""What the enumerator has found, each as a test of its own: the bug, and the death (or the cut) that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.crash import scenarios
from tests.crash.enumerator import fresh_folder
from tests.crash.sim import Point, Sim, simulate


@pytest.mark.rule("R17")
def test_a_secret_whose_fulfil_is_not_acknowledged_is_registered() -> None:
    """A lock that our own unanswered proposal removes still stands in `current`. The guard did not look at it, so a
    peer that took the preimage and kept its acknowledgement had both: the lock upstream and this one."""
    with fresh_folder() as folder:
        done = scenarios.run("secret", folder)
    assert any(point.name == "submit register" for point in done.points)


@pytest.mark.parametrize(
    ("who", "where", "when"),
    [("payee", "send AcceptChannel", "after"), ("payer", "send ChannelAgreed", "before")],
)
def test_nothing_is_paid_into_a_channel_that_the_peer_does_not_know(who: str, where: str, when: str) -> None:
    """A death over the handshake left the opener with a channel that the acceptor had never saved, and it deposited."""

    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        sim.down_for = 2.0
        with trio.move_on_after(30):
            await payer.open(payee, 1_000)
        for name, channel in sim.chain.model.channels.items():
            known = {id_.hex() for id_ in payee.service.book.actors}
            assert channel.holds == 0 or name in known
        assert sim.deaths == 1

    with fresh_folder() as folder:
        simulate(program, Path(folder), doomed=Point(who, where, 1, when))
