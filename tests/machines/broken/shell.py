"""Breaks of R17 to R22 in the node, where the rules stand that speak of more than one channel."""

from __future__ import annotations

from tests.machines.broken.mutant import Mutant

SHELL = (
    Mutant(
        "R17",
        "the shell's cut-off is the expiry",
        "node/world.py",
        "return self.now + self.network.delta_inclusion + self.network.clock_skew < expiry",
        "return self.now < expiry",
    ),
    Mutant(
        "R17",
        "a late fulfil is acknowledged at once",
        "node/ledger.py",
        "            if self._world.registered.get(lock.key, lock.expiry + 1) > lock.expiry:\n                found",
        "            if not lock.key:\n                found",
    ),
    Mutant(
        "R17",
        "a late fulfil is held for ever",
        "node/ledger.py",
        "            if self._world.now > lock.expiry + self._world.network.forward_delta:\n",
        "            if self._world.now > lock.expiry + 10**9:\n",
    ),
    Mutant(
        "R18",
        "no time between two locks",
        "node/forwarding.py",
        "told.expiry + max(policy.expiry_delta, world.network.forward_delta)",
        "told.expiry",
    ),
    Mutant(
        "R18",
        "no time to fulfil the outgoing lock",
        "node/forwarding.py",
        "now + 2 * world.network.delta_inclusion + world.network.clock_skew:",
        "now:",
    ),
    Mutant(
        "R18",
        "the final hop takes any expiry",
        "node/forwarding.py",
        "world.now + world.network.final_delta - world.network.clock_skew",
        "0",
    ),
    Mutant(
        "R19",
        "passed on to another registry",
        "node/forwarding.py",
        "        if out.channel.domain != channel.domain:",
        "        if not out.channel.domain:",
    ),
    Mutant(
        "R19",
        "passed on though registered",
        "node/forwarding.py",
        "        if lock.key in world.registered:\n            raise _No(FailureCode.KEY_ALREADY",
        "        if not lock.key:\n            raise _No(FailureCode.KEY_ALREADY",
    ),
    Mutant(
        "R19",
        "paid though registered",
        "node/payments.py",
        "        if asked.payment_hash in self._world.registered:",
        "        if not asked.payment_hash:",
    ),
    Mutant(
        "R20",
        "a registration that a reorg took is still believed",
        "node/guard.py",
        "            self._world.registered.pop(key, None)  # R20",
        "            self._world.registered.get(key, None)  # R20",
    ),
    Mutant(
        "R21",
        "released before the set is whole",
        "node/forwarding.py",
        "        if sum(one.amount for one in parts) < told.total:\n",
        "        if not parts:\n",
    ),
    Mutant(
        "R21",
        "another payment secret",
        "node/forwarding.py",
        "not hmac.compare_digest(told.payment_secret, invoice.secret) or ",
        "",
    ),
    Mutant(
        "R21",
        "parts of another total",
        "node/forwarding.py",
        "        if any(other.total != told.total for other in parts):\n",
        "        if not parts and parts:\n",
    ),
    Mutant(
        "R21",
        "released in a channel that is closing",
        "node/forwarding.py",
        "        return open_ and self._world",
        "        return self._world",
    ),
    Mutant(
        "R21",
        "released with too little time",
        "node/forwarding.py",
        "open_ and self._world.may_fulfil(part.expiry)",
        "open_",
    ),
    Mutant(
        "R21",
        "the claim is not on disk",
        "node/forwarding.py",
        '                "INSERT OR IGNORE INTO parts VALUES (?, ?, ?, ?, ?)",',
        '                "INSERT OR IGNORE INTO parts SELECT ?, ?, ?, ?, ? WHERE 0",',
    ),
    Mutant(
        "R22",
        "what is held never fails by itself",
        "node/forwarding.py",
        "            if old or not all(",
        "            if old and not all(",
    ),
    Mutant(
        "R22",
        "an invoice is paid twice",
        "node/forwarding.py",
        "invoice is None or invoice.paid or",
        "invoice is None or",
    ),
)
