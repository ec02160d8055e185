"""Plays one sequence of calls on both sides: keeps what has been seen, sends, compares, and counts.

The moves themselves are in `deposits.py` and `disputes.py`. Each builds a call that is right or nearly right; `slip`
says when to get something wrong, `sign` when to sign badly.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Final, TypeVar

from channeld.base.digests import state_digest
from channeld.base.keys import HALF_ORDER, Key, keccak
from channeld.base.units import NATIVE, Address, Digest, Version
from tests.contracts.twin.calls import NONE, Stored, adr, manager, num, sig, topics, words_of
from tests.contracts.twin.laws import Laws, remaining
from tests.contracts.twin.pair import PLENTY, Differs, Outcome
from tests.contracts.twin.table import Line, Table, body, role

T = TypeVar("T")
EVENTS: Final = topics("ChannelManager")
"""Name of each event of the manager by its topic."""
CLOSED, CHALLENGED, SETTLED, RESOLVED, OWED, WITHDRAWN = (
    next(topic for topic, name in EVENTS.items() if name == wanted)
    for wanted in ("Closed", "Challenged", "Settled", "LocksResolved", "Owed", "Withdrawn")
)
BALANCE: Final = keccak(b"balanceOf(address)")[:4]
PAYING: Final = ("cooperate", "finalize", "settle", "resolve_locks", "settle and resolve", "withdraw")
"""Calls that push money, whose care for gas matters most."""
AT_ONCE: Final = "settled and resolved by one call"
PLAINLY: Final = keccak(b"set_mode(uint256)")[:4] + bytes(32)
COUNTED: Final = keccak(b"counted()")[:4]
CLOSER_B, BEATEN, DELEGATED, VOID, FINAL, DEAD = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the manager, or of `to`."""

    name: str
    sender: Address
    data: bytes
    value: int = 0
    to: Address | None = None


class Player:
    """The state of one sequence."""

    def __init__(self, table: Table, rng: random.Random, tally: Counter[str]) -> None:
        self.table = table
        self.pair = table.pair
        self.rng = rng
        self.tally = tally
        table.reset()
        self.lines = [table.line(rng, rng.randrange(2**40)) for _ in range(rng.choice((1, 1, 2, 3)))]
        self.focus = self.lines[0]
        self.payouts = {who for line in self.lines for who in line.payouts}
        self.debts: list[tuple[Address, Address]] = []
        self.trail: list[str] = []
        self.laws = Laws(table, tally)
        self.last = Call("owed", table.rich, manager("closings", 0))

    # -- chances

    def slip(self, one_in: int = 14) -> bool:
        return self.rng.randrange(one_in) == 0

    def pick(self, *choices: T) -> T:
        return choices[self.rng.randrange(len(choices))]

    def line(self) -> Line:
        """The channel this move is about, mostly."""
        if self.slip(8):
            return self.rng.choice(self.lines)
        return self.focus

    def listed(self) -> list[Line]:
        """The channels of which unresolved locks are recorded."""
        return [line for line in self.lines if line.id in self.laws.books and self.laws.books[line.id].list]

    def renew(self) -> None:
        """Another channel instead of the one in focus, of which nothing is left."""
        fresh = self.table.line(self.rng, self.rng.randrange(2**40))
        self.lines[self.lines.index(self.focus)] = self.focus = fresh
        self.payouts |= set(fresh.payouts)

    @property
    def now(self) -> int:
        return self.pair.now

    def anyone(self) -> Address:
        return self.rng.choice(self.table.roles)

    def stored(self, line: Line) -> Stored:
        return Stored.of(self.pair.ask(self.table.manager, manager("channel", 1) + line.id))

    def wait(self, timestamp: int) -> None:
        """Let time pass until then, if it is not over."""
        if timestamp > self.now:
            self.pair.travel(timestamp)
            self.trail.append(f"travel to {timestamp}")

    # -- signatures

    def sign(self, line: Line, side: int, digest: bytes) -> bytes:
        """The two words of a side's signature; now and then another's, a broken one or none."""
        key: Key | None = line.keys[side]
        if self.slip(40):
            key = self.pick(role("tower"), line.keys[1 - side])
        if key is None:
            return NONE
        return self.spoilt(sig(key.sign(Digest(digest))), 40)

    def spoilt(self, signature: bytes, one_in: int) -> bytes:
        """The signature, or something that only looks like it."""
        if not self.slip(one_in):
            return signature
        r, vs = signature[:32], int.from_bytes(signature[32:], "big")
        return self.pick(
            NONE,
            r + num(vs ^ 2**255),
            r + num((HALF_ORDER + self.rng.randrange(3)) | (vs >> 255 << 255)),
            bytes(32) + num(vs),
            num(2**256 - 1) + num(vs),
            r + bytes(32),
            self.rng.randbytes(64),
        )

    def state(self, line: Line, version: int, hashed: bytes) -> tuple[bytes, bytes]:
        """What the two sides sign of a state."""
        digest = state_digest(self.table.domain, line.id, Version(version), Digest(hashed))
        return self.sign(line, 0, digest), self.sign(line, 1, digest)

    def version(self, known: int) -> int:
        """Newer than `known`, mostly."""
        if self.slip(10):
            return self.pick(known, max(known - 1, 0), 0, 2**40, 2**40 + known + 1, 2**256 - 1, 2**40 - 1)
        return known + self.rng.randrange(1, 4)

    def hash_of(self, line: Line, stored: Stored) -> bytes:
        """The body hash of some state of the channel, new or known."""
        if line.bodies and self.slip(4):
            return self.rng.choice(line.bodies).hash
        return body(self.rng, line, stored.a, stored.b, self.now).hash

    # -- sending

    def send(self, call: Call) -> Outcome:
        """Send to both; compare everything a call can have changed."""
        to = self.table.manager if call.to is None else call.to
        gas = PLENTY
        if self.rng.randrange(3 if call.name in PAYING else 12) == 0:
            zeros = call.data.count(0)
            gas = 22_000 + 4 * zeros + 16 * (len(call.data) - zeros) + self.rng.randrange(250_000)
        self.trail.append(f"{call.name} {call.sender.hex()} {to.hex()} {call.value} {gas} {call.data.hex()}")
        self.laws.begin(self.lines)
        outcome = self.pair.call(call.sender, to, call.data, call.value, gas)
        self.tally["transactions"] += 1
        self.tally[f"{call.name}: {outcome.reason}"] += 1
        for place, reason in zip(("vyper", "twin"), self.pair.short, strict=False):
            self.tally[f"little gas, {place}: {reason if reason in ('ok', 'gas', '') else 'other'}"] += 1
        self.last = call
        self.learn(outcome)
        self.laws.judge(call.data, call.value, outcome, self.lines)
        self.compare()
        return outcome

    def learn(self, outcome: Outcome) -> None:
        """Remember what the logs tell of the channels and of debts."""
        if {SETTLED, RESOLVED} <= {head[0] for _, head, _ in outcome.logs if head}:
            self.tally[AT_ONCE] += 1
        for source, head, data in outcome.logs:
            if source.lower() != "0x" + self.table.manager.hex():
                continue
            self.tally[f"event: {EVENTS[head[0]]}"] += 1
            if head[0] == OWED:
                self.debts.append((Address(head[1][12:]), Address(head[2][12:])))
            elif head[0] == WITHDRAWN:
                self.debts = [one for one in self.debts if one != (head[1][12:], head[2][12:])]
            for line in self.lines:
                if head[1] == line.id:
                    self.learn_of(line, head[0], data)

    def learn_of(self, line: Line, kind: bytes, data: bytes) -> None:
        if kind == CLOSED:
            line.state, line.bond_to = data[32:64], NATIVE
        elif kind == CHALLENGED:
            line.state, line.bond_to = data[32:64], Address(data[76:96])
        elif kind == SETTLED:
            line.locks = line.body.locks
        elif kind == RESOLVED:
            line.locks = remaining(line.locks, data[96:128])

    def compare(self) -> None:
        """Ask both what they owe and hold; what they store of the channels, the laws have asked."""
        place, pair = self.table.manager, self.pair
        pair.ask(place, manager("closings", 0))
        pair.ask(self.table.echo, COUNTED)
        for line in self.lines:
            for owner in set(line.payouts):
                pair.ask(place, manager("owed", 2) + words_of(adr(line.token), adr(owner)))
                pair.ask(place, manager("owed", 2) + words_of(adr(NATIVE), adr(owner)))
        pair.compare_coin()

    def finish(self) -> None:
        """What the end of a sequence leaves: every account's coin and tokens."""
        self.pair.call(self.table.rich, self.table.nasty, PLAINLY)
        payouts = sorted(self.payouts)
        for who in {*self.pair.watched, *payouts}:
            for token in (self.table.plain, self.table.nasty):
                self.pair.ask(token, BALANCE + adr(who))
        sides = [[side.evm.get_balance("0x" + who.hex()) for who in payouts] for side in self.pair.sides]
        if sides[0] != sides[1]:
            raise Differs(f"coin of the payout addresses: {sides}")
