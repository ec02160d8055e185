"""The gas reserve: what the account must hold to end all its channels against peers that fight (threat T19, I22).

A channel whose end nobody can pay for is one whose money the peer may take. So the account must be able to pay, at a
price per gas above today's, for each channel: the bond and the close, a challenge, `finalize`, `settle` and one
`resolveLocks`; and for each lock in it that is worth resolving: a registration of its own. There are two levels, so
that a rise of the price does not stop everything at once:

* a channel is opened or accepted only while `times` (a setting) today's price could be paid for it and all others;
* a lock is passed on or kept only while `LEAST` times that price could be paid for all, and for one lock more.

Who accepts counts channels that their opener has put nothing into as well, for all of them may be paid into at once.
For everything else they count nothing, or strangers could stop a node for the price of a message.

Balance and price are read with each new head, after the defence of the channels, and a few times more before a peer's
opening is refused for them. An endpoint that does not tell them leaves the figures as they were and keeps nobody
from the defence; until it has told them once nothing is taken. The price never counts above what the sender would
offer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.units import Address, Amount, ChannelId, Side
from channeld.chain.networks import Fees
from channeld.chain.reads import RpcChain
from channeld.core.channel import Body, Channel, Phase
from channeld.node.exposure import only_words
from channeld.node.ledger import Book
from channeld.storage.store import Batch, Store

log = logging.getLogger(__name__)
GAS_OF_CHANNEL: Final = 500_000
"""Gas limits of close, challenge, `finalize`, `settle` and one `resolveLocks` of an ERC-20 channel, with room; a test
holds it against the measured figures, tests/contracts/gas.json."""
GAS_OF_LOCK: Final = 75_000
"""Gas limit of a registration in a transaction of its own, and a lock's share of `resolveLocks`."""
LEAST: Final = 2
"""Times today's price: what a first offer covers (`chain.fees`)."""
LOOKS_AGAIN: Final = 4
MORE_LOCKS: Final = 2
"""Room for one more that is passed on: it comes in and goes out."""


class Reserve:
    """See the file's head. `costs`: what a lock of a token must be worth to be resolved at all, base units; `bond`: of
    a channel not opened yet, wei."""

    def __init__(
        self,
        *,
        us: Address,
        chain: RpcChain,
        book: Book,
        store: Store,
        fees: Fees,
        bond: int,
        costs: Callable[[Address], Amount],
        times: int,
    ) -> None:
        self._us, self._chain, self._book, self._store = us, chain, book, store
        self._fees, self._bond, self._costs, self._times = fees, bond, costs, times
        self._price: int | None = None
        self._balance = 0
        self._said = False
        self._again = 0
        self._looking = trio.Lock()
        self._sums: dict[bool, tuple[int, int]] = {False: (0, 0), True: (0, 0)}
        """Gas and bonds of all channels together, by whether they are only words."""
        self._channels = book.actors.tally(self._ends, self._add)
        self._counted: tuple[Body, Body, Side, Amount, int] | None = None
        """The last count of `_locks`: it is asked for each lock of a commit, of the same bodies."""

    async def look(self) -> None:
        """Read balance and price, and tell an event when locks are no longer taken or are again.

        Unreachable: the chain cannot be asked now. StoreFailed: the event cannot be saved.
        """
        async with self._looking:
            price = await self._chain.gas_price()
            self._balance, self._price = await self._chain.balance(self._us), price
            await self._tell()

    async def new_head(self) -> None:
        """Read balance and price if the chain tells them; if it does not, what was known stays."""
        self._again = LOOKS_AGAIN
        await self._try_to_look()

    async def look_again(self) -> None:
        """Read once more if a further channel could not be ended by what is known: the account may just have been
        filled. `LOOKS_AGAIN` times for each head, or strangers could have it asked as often as they ask us."""
        try:
            self.must_hold(0, strangers=True)
        except Refused:
            if self._again:
                self._again -= 1
                await self._try_to_look()

    async def _try_to_look(self) -> None:
        try:
            await self.look()
        except Unreachable as fault:
            log.warning("gas reserve: %s", fault)

    async def _tell(self) -> None:
        """Without channels there is nothing to be short of yet."""
        short = self.short if self.needed(LEAST) or self._said else None
        if (short is not None) == self._said:
            return
        self._said = short is not None
        log.warning("gas reserve: %s", short or "enough again")
        batch = Batch()
        name = "gas_enough" if short is None else "gas_low"
        needed = self.needed(LEAST, locks=MORE_LOCKS)
        self._book.events.add(batch, name, balance=str(self._balance), needed=str(needed))
        await self._store.commit(batch)
        self._book.events.ring()

    @property
    def short(self) -> str | None:
        """Why no further lock is taken, or None."""
        return self.why_short(None)

    def why_short(self, channel: Channel | None) -> str | None:
        """Why no further lock is taken into that channel, or None; it is counted as given, saved or not."""
        if self._price is None:
            return "the account's balance has not been read yet"
        needed = self.needed(LEAST, locks=MORE_LOCKS, turning=channel)
        if self._balance >= needed:
            return None
        return f"the account holds {self._balance} wei; ending its channels and locks may take {needed}"

    def must_hold(self, spent: int, *, strangers: bool) -> None:
        """Refused (insufficient_gas) unless a further channel could be ended as well, `spent` wei having been paid.

        strangers: count also channels whose opener has not paid in yet.
        """
        if self._price is None:
            raise Refused("insufficient_gas", "the account's balance has not been read yet", "try again")
        needed = self.needed(self._times, channels=1, strangers=strangers) + spent
        if self._balance < needed:
            text = f"it holds {self._balance} wei; deposits, and ending every channel, may take {needed}"
            raise Refused("insufficient_gas", f"the account 0x{self._us.hex()}: {text}", "send it some of the coin")

    def needed(
        self,
        times: int,
        *,
        channels: int = 0,
        locks: int = 0,
        strangers: bool = False,
        turning: Channel | None = None,
    ) -> int:
        """Wei that ending what there is, and so many more channels and locks, takes at `times` today's price.

        `turning`: a channel in the middle of its turn. It, and those whose turn is being saved, count as they will be,
        if that is more.
        """
        found = self._channels.look()
        gas, bonds = channels * GAS_OF_CHANNEL + locks * GAS_OF_LOCK, channels * self._bond
        unsaved = self._book.actors.turning
        if turning is not None:
            unsaved = {**unsaved, turning.id: turning}
        for id_, channel in unsaved.items():
            if (will := self._ends(channel)) is not None:
                now = found.get(id_)
                gas += max(0, will[1] - (now[1] if now is not None else 0))
        for words in (False, True) if strangers else (False,):
            gas, bonds = gas + self._sums[words][0], bonds + self._sums[words][1]
        return gas * min(times * (self._price or 0), self._fees.max_fee) + bonds

    def _ends(self, channel: Channel) -> tuple[bool, int, int] | None:
        """Whether it is only words, and gas and bond that its end may take; None if it is over."""
        if channel.phase is Phase.CLOSED:
            return None
        gas = GAS_OF_CHANNEL + self._locks(channel) * GAS_OF_LOCK
        return only_words(channel), gas, channel.terms.close_bond if channel.onchain is None else 0

    def _add(self, _: ChannelId, before: tuple[bool, int, int] | None, after: tuple[bool, int, int] | None) -> None:
        for sign, one in ((-1, before), (1, after)):
            if one is not None:
                words, gas, bond = one
                self._sums[words] = self._sums[words][0] + sign * gas, self._sums[words][1] + sign * bond

    def _locks(self, channel: Channel) -> int:
        """Locks in any state that may be enforced, as far as they are worth resolving; one that came in counts twice,
        for it may be passed on, and many are decided in one turn before the first of them stands in a state."""
        if not channel.current.body.locks and not channel.newest_body.locks:
            return 0
        least = self._costs(channel.token)
        bodies = channel.current.body, channel.newest_body
        known = self._counted
        if known is None or known[0] is not bodies[0] or known[1] is not bodies[1] or known[2:4] != (channel.we, least):
            locks = {**bodies[0].locks, **bodies[1].locks}
            count = sum(1 + (lock.sender is not channel.we) for lock in locks.values() if lock.amount >= least)
            known = self._counted = (*bodies, channel.we, least, count)
        return known[4]
