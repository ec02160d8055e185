"""What must hold after every call, whatever two contracts agree on: a hole in both is no difference between them.

Nothing here is taken from the contracts' code. The books keep each channel as the calls, the logs and `channel` tell
it, and the list of locks as the participants made it. The laws:

- A resolve with any bytes but exactly the list that is recorded changes nothing of the channel; with exactly that list
  it does resolve. What stays recorded is nothing, or the chain of a part of the list, in its order.
- What `channel` answers changes by logged events alone, to the word in the newest of them.
- Each channel: what it holds grows by what is deposited and falls by exactly what is paid. A dead channel holds money
  iff it records locks.
- All channels: the coin, and an honest token, that the manager has is what they hold, with the bonds of those that
  close, and what it owes. A payout address gets, or is owed, exactly what the logs say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from channeld.base.digests import channel_id
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Digest
from tests.contracts.twin.calls import Stored, adr, list_of, manager, topics, words_of
from tests.contracts.twin.forgeries import chain
from tests.contracts.twin.pair import Differs, Outcome
from tests.contracts.twin.table import Line, Table

EVENTS: Final = topics("ChannelManager")
BALANCE: Final = keccak(b"balanceOf(address)")[:4]
MASK88: Final = 2**88 - 1
FINAL, DEAD = 16, 32


class Unlawful(Differs):
    """Both contracts did the same, and neither may."""


def exact(locks: tuple[bytes, ...], record: bytes, chained: bool) -> bytes | None:
    """The one list a record stands for; None if nobody knows one."""
    text = b"".join(locks)
    if not locks or record != (chain(locks) if chained else keccak(text)):
        return None
    return text


@dataclass(slots=True)
class Book:
    """What is known of a channel."""

    token: Address
    word: int = 0
    record: bytes = bytes(32)
    bond: int = 0
    locks: tuple[bytes, ...] = ()
    """Those it was settled with, and then those that stay."""
    chained: bool = False
    spoken: int = 0
    """What a Finalized has let go of, which the Settled after it must pay."""

    @property
    def held(self) -> int:
        return (self.word >> 168) + (self.word >> 80 & MASK88)

    @property
    def list(self) -> bytes | None:
        """The recorded list."""
        return exact(self.locks, self.record, self.chained)


@dataclass(frozen=True, slots=True)
class Event:
    """One of the manager's logs about a channel."""

    name: str
    id: bytes
    words: tuple[bytes, ...]

    def number(self, at: int) -> int:
        return int.from_bytes(self.words[at], "big")


class Laws:
    """The books of one sequence: `begin` before a call, `judge` after it."""

    def __init__(self, table: Table, tally: Counter[str]) -> None:
        self.table, self.pair, self.tally = table, table.pair, tally
        self.lines: dict[bytes, Line] = {}
        self.books: dict[bytes, Book] = {}
        self.owed: dict[tuple[Address, Address], int] = {}
        self.before: dict[tuple[Address, Address], int] = {}
        self.coin: dict[Address, int] = {}
        """Of whoever may be paid, but the manager."""

    def begin(self, lines: Iterable[Line]) -> None:
        """Remember what there is before a call; `lines` are the channels played with."""
        for line in lines:
            self.lines[line.id] = line
            self.books.setdefault(line.id, Book(line.token))
        payees = {who for line in self.lines.values() for who in line.payouts} | set(self.pair.watched)
        self.coin = {who: self.pair.coin(who) for who in payees - {self.table.manager}}
        self.before = dict(self.owed)

    def judge(self, data: bytes, value: int, outcome: Outcome, lines: Iterable[Line]) -> None:
        """Unlawful if the call, of which `data` was sent, did what no call may."""
        text = list_of(data)
        gets: Counter[Address] = Counter()
        touched: set[bytes] = {line.id for line in lines}
        resolved = set()
        for name, topics_of, words in self._logs(outcome):
            if name in ("Owed", "Withdrawn"):
                self._debt(name, Address(topics_of[0][12:]), Address(topics_of[1][12:]), words, gets)
                continue
            id = topics_of[0]
            touched.add(id)
            book = self.books.setdefault(id, Book(Address(data[16:36])))
            if name == "LocksResolved":
                resolved.add(id)
                self._resolves(book, text, words[3])
            self._enter(book, self.lines.get(id), name, words, value)
            self._pays(book, self.lines.get(id), name, words, gets)
        if text is not None and outcome.good:
            self._must_resolve(data, text, resolved)
        for id in touched:
            self._stands(id, self.books[id])
        self._money()
        if value == 0:
            self._payees(gets)

    def _logs(self, outcome: Outcome) -> list[tuple[str, list[bytes], list[bytes]]]:
        """Name, indexed words and other words of each of the manager's logs, without the memos."""
        return [
            (EVENTS[head[0]], list(head[1:]), [data[at : at + 32] for at in range(0, len(data), 32)])
            for source, head, data in outcome.logs
            if source.lower() == "0x" + self.table.manager.hex() and EVENTS[head[0]] != "Memo"
        ]

    # -- locks

    def _resolves(self, book: Book, text: bytes | None, rest: bytes) -> None:
        """The list that resolves is the recorded one, and what stays is of it."""
        if text is None or text != book.list:
            shown = "no list" if text is None else f"{len(text)} bytes {text.hex()}"
            raise Unlawful(f"locks resolved by {shown}, which is not the list that is recorded")
        if rest != bytes(32):
            stay = remaining(book.locks, rest)
            if not stay:
                raise Unlawful("what stays of the locks is not of the list")
            book.locks = stay
        self.tally[f"law: the list, {'chained' if book.chained else 'flat'}"] += 1

    def _must_resolve(self, data: bytes, text: bytes, resolved: set[bytes]) -> None:
        """The recorded list resolves; and count the others that were tried on a record."""
        id = channel_id(self.table.domain, Address(data[16:36]), Digest(keccak(data[36 : 36 + 256])))
        book = self.books.get(id)
        if id in resolved or book is None or not book.word & DEAD or book.record == bytes(32):
            return
        if text == book.list:
            raise Unlawful("the list that is recorded did not resolve")
        self.tally[f"law: another list, {'chained' if book.chained else 'flat'}"] += 1

    # -- a channel

    @staticmethod
    def _enter(book: Book, line: Line | None, name: str, words: list[bytes], value: int) -> None:
        """Change a book as a log tells."""
        held = book.held
        book.word = int.from_bytes(words[0], "big")
        paid = 0
        if name == "Deposited":
            if book.held <= held:
                raise Unlawful(f"a deposit, and {held} became {book.held}")
            return
        if name in ("Cooperated", "Settled", "LocksResolved"):
            paid = int.from_bytes(words[1], "big") + int.from_bytes(words[2], "big")
        if name == "Closed":
            book.bond, book.record = value, keccak(words[1] + bytes(32))
        elif name == "Challenged":
            book.record = keccak(words[1] + words[2])
        elif name == "Cooperated" and book.word & DEAD:
            book.record = bytes(32)
        elif name in ("Settled", "LocksResolved"):
            book.record, book.chained = words[3], name == "LocksResolved"
            if name == "Settled":
                book.locks = line.body.locks if line else ()
        # Settling is logged after the word has changed, which a Finalized just before it shows already.
        if name != "Finalized" and held + book.spoken != book.held + paid:
            raise Unlawful(f"{name}: {held} held, then {book.held}, and {paid} paid")
        book.spoken = held - book.held if name == "Finalized" else 0
        if book.word & (FINAL | DEAD):
            book.bond = 0

    def _stands(self, id: bytes, book: Book) -> None:
        """What `channel` answers is what the logs came to."""
        stored = Stored.of(self.pair.ask(self.table.manager, manager("channel", 1) + id))
        if stored.word != book.word or stored.record != book.record:
            raise Unlawful(f"channel {id.hex()} changed without a log: {stored} and {book}")
        if book.spoken:
            raise Unlawful(f"channel {id.hex()}: {book.spoken} is held no longer and was not paid")
        if book.word & DEAD and (book.record != bytes(32)) != (book.held != 0):
            raise Unlawful(f"channel {id.hex()} is dead, holds {book.held} and records {book.record.hex()}")

    # -- money

    def _debt(self, name: str, token: Address, owner: Address, words: list[bytes], gets: Counter[Address]) -> None:
        answer = self.pair.ask(self.table.manager, manager("owed", 2) + words_of(adr(token), adr(owner)))
        self.owed[token, owner] = int.from_bytes(answer, "big")
        if name == "Withdrawn" and token == NATIVE:
            amount = int.from_bytes(words[1], "big")
            gets[owner] -= amount
            gets[Address(words[0][12:])] += amount

    @staticmethod
    def _pays(book: Book, line: Line | None, name: str, words: list[bytes], gets: Counter[Address]) -> None:
        """Who gets coin by a log."""
        if name == "Finalized":
            gets[Address(words[1][12:])] += int.from_bytes(words[2], "big")
        elif name in ("Cooperated", "Settled", "LocksResolved") and line and book.token == NATIVE:
            for side in (0, 1):
                gets[line.payouts[side]] += int.from_bytes(words[1 + side], "big")

    def _payees(self, gets: Counter[Address]) -> None:
        for who, had in self.coin.items():
            key = NATIVE, who
            got = self.pair.coin(who) - had + self.owed.get(key, 0) - self.before.get(key, 0)
            if got != gets[who]:
                raise Unlawful(f"{who.hex()} was to get {gets[who]}, and got or is owed {got}")

    def _money(self) -> None:
        """What the manager has is what the channels hold, the bonds, and what it owes."""
        answer = self.pair.ask(self.table.plain, BALANCE + adr(self.table.manager))
        bonds = sum(book.bond for book in self.books.values())
        for token, has, more in (
            (NATIVE, self.pair.coin(self.table.manager), bonds),
            (self.table.plain, int.from_bytes(answer, "big"), 0),
        ):
            held = sum(book.held for book in self.books.values() if book.token == token)
            owed = sum(amount for (kind, _), amount in self.owed.items() if kind == token)
            if has != held + owed + more:
                raise Unlawful(f"the manager has {has} of {token.hex()}, holds {held}, owes {owed}, bonds {more}")


def remaining(locks: tuple[bytes, ...], record: bytes) -> tuple[bytes, ...]:
    """Those of `locks` that are still listed under `record`, the chain of a part of them; none if it is of no part."""
    for chosen in range(1, 2 ** len(locks)):
        some = tuple(lock for number, lock in enumerate(locks) if chosen >> number & 1)
        if chain(some) == record:
            return some
    return ()
