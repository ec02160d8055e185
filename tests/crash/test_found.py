"""What the enumerator has found, each as a test of its own: the bug, and the death (or the cut) that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from channeld.base.units import ChannelId, NodeId
from channeld.wire import messages as wire
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


def test_nothing_is_paid_into_a_channel_that_is_given_up_before_the_peer_has_come_back() -> None:
    """The deposit waited for the peer alone: closed meanwhile by its owner, the channel was paid into all the same."""

    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        sim.down_for = 20.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(payer.open, payee, 1_000)
            while not sim.deaths:
                await trio.sleep(0.1)
            (opened,) = payer.service.book.actors
            sim.chain.held = True  # the close waits, so the channel is frozen when the peer comes
            with trio.move_on_after(5):
                await payer.ask("close_channel", channel_id=opened, force=True, timeout=5)
            await payer.until(lambda: payer.channel(opened)["connected"])
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        assert sim.deaths == 1
        assert [tx.name for tx in sim.chain.pool] == ["close"]

    with fresh_folder() as folder:
        simulate(program, Path(folder), doomed=Point("payee", "save channels+openings", 1, "after"))


@pytest.mark.parametrize(
    ("who", "where", "when"),
    [
        ("payer", "save asked+channels+openings", "after"),
        ("payer", "send ChannelAgreed", "before"),
        ("payer", "send ChannelAgreed", "after"),
    ],
)
def test_a_channel_asked_for_again_under_its_key_is_the_same_channel(who: str, where: str, when: str) -> None:
    """The answer was saved after the channel: a death between the two let the caller, who asked again, open and fund a
    second one. It is the first one that opens: its peer is told again what the death took (`Openings._unknown`)."""

    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        told = await payer._opened(payee, 1_000, 0, True, 0)
        opened = ChannelId(bytes.fromhex(told["channel_id"][2:]))
        assert sim.deaths == 1
        for node in (payer, payee):
            await node.until(lambda node=node: node.knows(opened, "open"), 120)  # type: ignore[misc]
        again = await payer._opened(payee, 1_000, 0, True, 0)
        assert again == told
        assert list(payer.service.book.actors) == [opened]
        await trio.sleep(30)
        assert [(name, one.holds) for name, one in sim.chain.model.channels.items()] == [(opened.hex(), 1_000)]

    with fresh_folder() as folder:
        simulate(program, folder, doomed=Point(who, where, 1, when))


def test_a_line_that_is_cut_over_the_handshake_leaves_a_channel_that_works() -> None:
    """The last of the three messages is lost with its line, which nobody survives but the two nodes; both live on."""

    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        cut: list[str] = []

        def judge(_sender: str, _to: str, message: wire.Message) -> float | None:
            if isinstance(message, wire.ChannelAgreed) and not cut:
                cut.append("once")
                return None
            return 0.0

        sim.judge = judge
        told = await payer._opened(payee, 1_000, 0, True, 0)
        opened = ChannelId(bytes.fromhex(told["channel_id"][2:]))
        for node in (payer, payee):
            await node.until(lambda node=node: node.knows(opened, "open"), 120)  # type: ignore[misc]
        assert await payer.transfer(opened, [5], "first") != "failed"
        await payee.until(lambda: int(payee.channel(opened)["ours"]) == 5)
        assert cut

    with fresh_folder() as folder:
        simulate(program, folder)


@pytest.mark.parametrize("who", ["payer", "payee"])
def test_a_line_that_ends_while_a_channel_is_saved_leaves_it_an_actor(who: str) -> None:
    """What was left of the handler was cancelled with its line: the channel was on disk, nobody took its turns."""

    async def program(sim: Sim) -> None:
        payer, payee = await sim.node("payer"), await sim.node("payee")
        cut: list[Point] = []

        def passed(point: Point) -> None:
            if point.node == who and "openings" in point.name and point.when == "after" and not cut:
                cut.append(point)
                other = payee if who == "payer" else payer
                line = sim.nodes[who].service.lines.of(NodeId(other.node_id))
                assert line is not None
                line.scope.cancel()

        sim.passed = passed
        told = await payer._opened(payee, 1_000, 0, True, 0)
        opened = ChannelId(bytes.fromhex(told["channel_id"][2:]))
        for node in (payer, payee):
            await node.until(lambda node=node: node.knows(opened, "open"), 120)  # type: ignore[misc]
        assert len(cut) == 1

    with fresh_folder() as folder:
        simulate(program, folder)


def test_a_second_line_to_a_peer_that_is_being_dialled_may_end() -> None:
    """The peer comes back after a while, the node that dials it again and its caller who asks for a channel reach it at
    the same moment. One of the two lines ends, and the whole node ended with it."""
    point = Point("payee", "save channels+events+facts", 1, "after")
    with fresh_folder() as folder:
        assert scenarios.run("open", folder, seed=1, doomed=point, down_for=90.0).deaths == 1
