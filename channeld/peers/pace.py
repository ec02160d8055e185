"""How many strangers get a turn in a second, and who: the newest of those that wait.

A handshake, and what follows it, costs us more than it costs who asks for it again and again. So strangers get so many
turns in a second; who was idle for a while may get `burst` at once. Of those that wait the newest is next: under a
flood the others are about to lose their places (`places`) and would waste the turn, and whoever tries again has the
same chance as everybody else.
"""

from __future__ import annotations

import trio


class Pace:
    """`rate`: turns in a second, `burst`: most at once; each 1 or more. `run` has to run meanwhile."""

    def __init__(self, rate: int, burst: int) -> None:
        if rate < 1 or burst < 1:
            raise ValueError("a pace is at least one turn in a second")
        self._rate, self._burst = rate, burst
        self._spent = 0.0
        """Turns that are not made good by time yet, as of `_at`."""
        self._at = 0.0
        self._waiting: dict[trio.Event, None] = {}
        """Oldest first."""
        self._bell = trio.Event()

    async def turn(self) -> None:
        """Wait for a turn."""
        if not self._waiting and self._take():
            return
        mine = trio.Event()
        self._waiting[mine] = None
        self._bell.set()
        try:
            await mine.wait()
        finally:
            self._waiting.pop(mine, None)

    async def run(self) -> None:
        """Give turns to those that wait, until cancelled."""
        while True:
            await self._bell.wait()
            while self._waiting:
                if self._take():
                    newest, _ = self._waiting.popitem()
                    newest.set()
                else:
                    await trio.sleep(1 / self._rate)
            self._bell = trio.Event()

    def _take(self) -> bool:
        now = trio.current_time()
        self._spent = max(0.0, self._spent - (now - self._at) * self._rate)
        self._at = now
        if self._spent > self._burst - 1:
            return False
        self._spent += 1
        return True
