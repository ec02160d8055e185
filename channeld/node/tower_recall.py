"""Asking our towers what they hold of our channels: at every start, before a peer can make us sign anything.

Each channel is asked about with the key and the connection that its uploads have, so a tower learns nothing by it. A
tower that does not answer is asked until it does; the node goes on without it after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import trio

from channeld.base.errors import Malformed, PeerFault, Unreachable
from channeld.base.units import ChannelId, NodeId, short
from channeld.core.channel import Channel, Phase
from channeld.node.tower_ask import ahead, read_copy, remembered
from channeld.node.tower_call import TowerCall
from channeld.node.tower_link import FIRST_DELAY, LONGEST_DELAY, Kit
from channeld.wire import appointment
from channeld.wire.messages import GetAppointment, TowerError

if TYPE_CHECKING:
    from channeld.node.towers import Tower

log = logging.getLogger(__name__)
ASK_WITHIN: Final = 10.0
"""Seconds for which a start waits for towers (`towers.wait`), so that one that is down does not stop payments. What is
signed then, before a tower answers, may be a version that a forgotten state has: if the peer lies, that is."""
ASK_AT_ONCE: Final = 16


class Recall:
    """See the file's head. `towers`: ours, as they are now; `within`: seconds for which a start waits for them."""

    def __init__(self, kit: Kit, towers: Mapping[NodeId, Tower], nursery: trio.Nursery, within: float) -> None:
        self._kit, self._towers, self._nursery, self._within = kit, towers, nursery, within
        self._told = trio.Event()

    async def ask_all(self) -> None:
        """Recovery (protocol): what do our towers hold of us? One that does not answer is asked until it does."""
        left, limit = [0], trio.CapacityLimiter(ASK_AT_ONCE)
        pairs = [
            (tower, actor.channel.id)
            for tower in self._towers.values()
            for actor in self._kit.book.actors.values()
            if not tower.removed and may_learn(actor.channel)
        ]
        left[0] = len(pairs)
        if pairs:
            for tower, name in pairs:
                self._nursery.start_soon(self._ask_until_told, tower, name, left, limit)
            with trio.move_on_after(self._within):
                while left[0]:
                    await self._told.wait()
        if left[0]:
            log.warning("%s of %s questions to towers have no answer yet: going on without", left[0], len(pairs))
        self._kit.asked.set()

    async def _ask_until_told(
        self, tower: Tower, name: ChannelId, left: list[int], limit: trio.CapacityLimiter
    ) -> None:
        delay = FIRST_DELAY
        while not tower.removed:
            actor = self._kit.book.actors.get(name)
            if actor is None or not may_learn(actor.channel):
                break
            async with limit:
                answered = await self._ask_one(tower, actor.channel)
            if answered:
                break
            await trio.sleep(delay * (0.75 + self._kit.chance() / 2))
            delay = min(delay * 2, LONGEST_DELAY)
        left[0] -= 1
        self._told.set()
        self._told = trio.Event()

    async def _ask_one(self, tower: Tower, channel: Channel) -> bool:
        """Whether the tower said what it holds. Each channel has a key and a connection of its own, as ever."""
        auth = self._kit.account_key.derive(f"tower/{tower.node.hex()}/{channel.id.hex()}")
        call = TowerCall(lambda: tower.address, auth, self._kit.net)
        try:
            answer = await call.ask(GetAppointment())
            if isinstance(answer, TowerError):  # it holds nothing, or does not say: that proves nothing
                return answer.code in ("unknown", "deleted")
            hint = appointment.hint_of(channel.salt_ours, tower.node)
            copy = read_copy(self._kit, tower.node, auth.public, channel, hint, answer)
        except (Unreachable, PeerFault, Malformed) as fault:
            log.info("tower=%s channel=%s not asked: %s", short(tower.node[1:]), channel.name, fault)
            return False
        finally:
            await call.hang_up()
        if (
            copy.seq > remembered(self._kit, tower.node, channel).seq
        ):  # read now: an upload may have been made meanwhile
            await ahead(self._kit, tower, channel.id, copy)
        return True


def may_learn(channel: Channel) -> bool:
    """Whether it could still sign a state, or close with one that is too old: a declared copy, too, can only learn."""
    return channel.phase not in (Phase.SETTLED, Phase.CLOSED)
