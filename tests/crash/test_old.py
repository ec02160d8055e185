"""A machine that was set back whole, and one honest neighbour: its proof speaks for every channel in the database."""

from __future__ import annotations

import trio

from channeld.base.errors import Refused
from channeld.core.channel import Phase
from channeld.node.loop import Actor
from tests.crash.copies import keep, set_back, up
from tests.crash.enumerator import fresh_folder
from tests.crash.laws import signatures
from tests.crash.scenarios import line, quiet
from tests.crash.sim import Sim, simulate


def test_one_neighbours_proof_keeps_a_lying_one_from_a_second_signature() -> None:
    """The liar says what it said at the time of the copy: it has gone back to its own copy of that moment."""

    async def program(sim: Sim) -> tuple[list[str], list[bool], str]:
        (honest, hub, liar), (left, right) = await line(sim, Actor, "honest", "hub", "liar")
        await honest.transfer(left, [100], "before")
        await hub.transfer(right, [10], "before, too")
        await quiet((honest, hub, liar))
        kept, lie = await keep(hub), await keep(liar)
        await hub.until(lambda: all(bool(hub.channel(one)["connected"]) for one in (left, right)))
        await honest.transfer(left, [200], "forgotten")
        await hub.transfer(right, [20], "forgotten, too")
        await hub.until(lambda: int(hub.channel(left)["ours"]) == 300)
        await liar.until(lambda: int(liar.channel(right)["ours"]) == 30)
        await quiet((honest, hub, liar))
        await set_back(liar, lie)
        await set_back(hub, kept)
        await up(hub)
        await hub.until(lambda: hub.service.book.actors[left].channel.recovering)
        await up(liar)
        await hub.until(lambda: hub.channel(right)["connected"])
        again = "in time"
        with trio.move_on_after(20):
            try:
                again = await hub.transfer(right, [40], "a second signature")
            except Refused as fault:
                again = fault.code
        channels = [hub.service.book.actors[one].channel for one in (left, right)]
        signatures(sim)
        return [one.phase.name for one in channels], [one.recovering for one in channels], again

    with fresh_folder() as folder:
        phases, recovering, again = simulate(program, folder)
    assert (phases, recovering) == ([Phase.FROZEN.name] * 2, [True] * 2)
    assert again == "channel_closing"
