"""What the contract could not push to us, taken when it can be: a payout that a token refused waits there as *owed*.

Nothing remembers it here: the contract is asked after each start, when an event says that something is owed, and again
while it is. A withdrawal that the token still refuses fails in simulation, costs nothing, and is tried again later. One
a day and token is sent, so two starts never send two for the same money.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from channeld.base.units import Address, Timestamp
from channeld.chain.intents import Intent
from channeld.chain.reads import RpcChain
from channeld.chain.sender import Sender

log = logging.getLogger(__name__)
AGAIN: Final = 600
"""Seconds of chain time between looks at what is owed."""
DAY: Final = 86_400


class Owed:
    """`us`: the account that channels pay out to."""

    def __init__(self, chain: RpcChain, sender: Sender, us: Address) -> None:
        self._chain, self._sender, self._us = chain, sender, us
        self._tokens: set[Address] = set()
        self._next = 0

    def watch(self, tokens: Iterable[Address]) -> None:
        """Something may be owed in these; looked at with the next block."""
        self._tokens.update(tokens)
        self._next = 0

    async def look(self, now: Timestamp) -> None:
        """Take what is owed. Unreachable: the chain cannot be asked now."""
        if not self._tokens or now < self._next:
            return
        self._next = now + AGAIN
        for token in sorted(self._tokens):
            amount = await self._chain.owed(token, self._us)
            if not amount:
                self._tokens.discard(token)
                continue
            log.warning("owed: %s of token 0x%s could not be paid out to us; taking it", amount, token.hex())
            call = self._chain.contracts.withdraw(token, self._us, self._us)
            key = f"withdraw:{token.hex()}:{now // DAY}"
            await self._sender.submit(Intent.of(self._us, key, call))
