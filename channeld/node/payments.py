"""A payment of our own: find ways, offer locks, learn from what comes back, try again, tell one outcome.

The payer fixes amount, fee budget and deadline before any peer speaks. A payment may go in parts, over several ways at
the same time; together its locks that are under way never promise the payee more than the amount, so a part is tried
again only once it has come back, and only what came back is planned anew. The payee releases all or nothing (R21); the
first preimage is the proof of payment. When no other way is left, the parts that stand are waited for: the payee gives
them back.

A payment becomes a row in the transaction that queues its first lock, whichever of its parts that is, and each further
lock is saved in that of its own channel: nothing is offered that is not on disk, and a payment that goes well costs no
transaction of its own. After a restart the payments that are pending go on in the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import trio

from channeld.base.digests import Domain
from channeld.base.errors import BUGS, Broken, Malformed, Refused
from channeld.base.quick import replace
from channeld.base.units import Address, Amount, LockKey, NodeId, Preimage, Timestamp
from channeld.node import reasons
from channeld.node.attempts import Lessons, attempt_of, build, hints_of, locks_of, offer_of
from channeld.node.finding import Finder
from channeld.node.keysend import asked_again
from channeld.node.ledger import Attempt, Book
from channeld.node.payment_row import COLUMNS, Circle, Payment, circle_of, new_payment, payment_of
from channeld.node.probing import Probing
from channeld.node.world import World
from channeld.storage.store import Batch, Store, wide
from channeld.wire import invoice, onion
from channeld.wire.invoice import Invoice
from routing.edges import Direction
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.search import Route
from routing.splitting import Ask

log = logging.getLogger(__name__)
MAX_ROUNDS: Final = 20
"""Plans that one payment may make."""

_ARRIVED: Final = "SELECT 1 FROM invoices WHERE hash = ? AND state = 'paid'"
_decode = lru_cache(maxsize=1_024)(invoice.decode)
"""An invoice is read several times on its way to being paid; the same text always says the same."""


@dataclass(eq=False, slots=True)
class _Part:
    """A lock of ours that is under way, or about to be."""

    attempt: Attempt
    amount: Amount
    """What the payee gets of it."""
    fee: Amount
    carried: tuple[tuple[Direction, Amount], ...]
    """What it binds at hops of others."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Running:
    """A payment whose outcome is open."""

    asked: Invoice
    payment: Payment
    """As it began; with its outcome once that is on disk."""
    circle: Circle | None = None
    """Of a payment to ourselves."""
    fee: Amount = Amount(0)
    hops: int = 0
    """Of the parts of the newest plan: all fees, and the longest way."""
    claim: Batch = field(default_factory=Batch)
    """What is saved with the row."""
    fresh: bool = False
    """Whether the row is still to be made."""
    exclude: set[Direction] = field(default_factory=set)
    told: set[Direction] = field(default_factory=set)
    """Those that came back with other terms, and may be tried once more under them."""
    short: dict[Direction, Amount] = field(default_factory=dict)
    """What some directions did not carry: less may go there, not as much again."""
    refusal: Refused | None = None
    """The first of a channel of ours that would not take an attempt."""
    rounds: int = 0
    """Plans of which something left us."""
    out: list[_Part] = field(default_factory=list)
    """What is under way. Together they promise the payee no more than the amount."""
    lesson: tuple[str, str] | None = None
    """Code and text of what came back last."""
    verdict: tuple[str, str] | None = None
    """It has failed; what is still under way is waited for."""
    done: trio.Event = field(default_factory=trio.Event)
    """Its outcome is on disk: paid, failed, or not to be known."""

    @property
    def left(self) -> Amount:
        """What is promised to the payee by no part yet."""
        return Amount(self.payment.amount - sum(part.amount for part in self.out))


class Payments:
    """Pays invoices. `randomness(n)` gives n fresh random bytes."""

    def __init__(
        self,
        book: Book,
        store: Store,
        world: World,
        graph: Graph,
        *,
        domain: Domain,
        us: NodeId,
        randomness: Callable[[int], bytes],
        nursery: trio.Nursery,
        least_part: Callable[[Address], Amount] = lambda _: Amount(1),
        liquidity: Liquidity | None = None,
    ) -> None:
        """`least_part`: in a token, below which nobody would resolve a part on chain, so that none takes it (R21)."""
        self._book, self._store, self._world, self._graph = book, store, world, graph
        self._domain, self._us, self._randomness, self._nursery = domain, us, randomness, nursery
        self._running: dict[LockKey, _Running] = {}
        self.liquidity = Liquidity() if liquidity is None else liquidity
        self._lessons = Lessons(graph, self.liquidity)
        lately = self._lessons.lately
        self.ways = Finder(book, world, graph, us=us, liquidity=self.liquidity, lately=lately, least_part=least_part)
        self.probing = Probing(book, world, self.ways, self._lessons, domain=domain, randomness=randomness)
        ((self._count,),) = store.rows("SELECT coalesce(max(n), 0) FROM payments")

    # -- asked from outside

    async def pay(
        self,
        text: str,
        amount: Amount | None,
        max_fee: Amount | None,
        timeout: int,
        *,
        again: bool = True,
        claim: Batch | None = None,
    ) -> Payment:
        """Pay an invoice and wait for the outcome. Asked again, it tells the first outcome again.

        Args:
            again: whether the caller knows that it may have been asked before; else a paid invoice is refused.
            claim: saved with the payment's row.

        Refused: the codes of `pay_invoice` in api.schema.
        """
        asked = self.read(text)
        running = self._running.get(asked.payment_hash)  # perhaps somebody has just asked, and it is not saved yet
        if running is None:
            found = self.find(asked.payment_hash)
            if found is not None and found.state != "failed":
                if found.state == "succeeded" and not again:
                    raise Refused(
                        "invoice_paid", "this invoice was paid by us already", "channeld payments shows the payment"
                    )
                return _outcome(found)
            running = self._begin(asked, text, amount, max_fee, timeout, claim, found)
        elif claim:  # the same payment under another key
            await self._store.commit(claim)
        return await _outcome_of(running, timeout)

    def send(self, asked: Invoice, drawn: Preimage, max_fee: Amount, timeout: int, claim: Batch) -> None:
        """Begin to pay somebody who has asked for nothing (`keysend.asked_of`); `outcome` waits for what follows.

        Args:
            drawn: the preimage, fresh.
            claim: saved with the payment's row.

        Refused: `payee_own`, `safe_mode`.
        """
        self._begin(asked, "", None, max_fee, timeout, claim, None, drawn)

    def go_round(self, asked: Invoice, text: str, circle: Circle, max_fee: Amount, timeout: int, claim: Batch) -> None:
        """Begin to pay an invoice of our own from one channel of ours to another; `outcome` waits for what follows.

        Args:
            asked: nobody has seen it; it names its amount.
            claim: saved with the payment's row; what makes the invoice and the circle stands there.

        Refused: `safe_mode`.
        """
        self._world.must_be_safe()
        payment = new_payment(asked, text, _amount(asked, None), max_fee, self._world.now, timeout)
        self._start(_Running(asked=asked, payment=payment, fresh=True, circle=circle, claim=claim))

    async def outcome(self, hash_: LockKey, timeout: int) -> Payment:
        """Of a payment that was begun. Refused: as by what began it, or `unknown_payment`."""
        running = self._running.get(hash_)
        if running is not None:
            return await _outcome_of(running, timeout)
        found = self.find(hash_)
        if found is None:
            raise Refused("unknown_payment", f"no payment of ours is 0x{hash_.hex()}", "channeld payments")
        return _outcome(found)

    def read(self, text: str) -> Invoice:
        """Refused (invoice_malformed, invoice_wrong_chain): not an invoice for us to look at."""
        try:
            asked = _decode(text)
        except Malformed as fault:
            raise Refused("invoice_malformed", str(fault), "copy the whole invoice again") from fault
        if asked.domain != self._domain:
            raise Refused(
                "invoice_wrong_chain",
                f"the invoice is for chain {asked.domain.chain_id}, contract 0x{asked.domain.manager.hex()}",
                f"this node is on chain {self._domain.chain_id}",
            )
        return asked

    def plan(self, text: str, amount: Amount | None, max_fee: Amount | None) -> tuple[tuple[Route, ...], float]:
        """How a payment would go now, and how likely all of it arrives; nothing is paid. Refused: as by `pay`."""
        asked = self.read(text)
        if asked.payee == self._us:
            raise _own()
        pays = _amount(asked, amount)
        return self.ways.plan(self._ask(asked, pays, max_fee if max_fee is not None else _usual_fee(pays)))

    def find(self, hash_: LockKey) -> Payment | None:
        rows = self._store.rows(f"SELECT {COLUMNS} FROM payments WHERE hash = ?", hash_)
        return payment_of(rows[0]) if rows else None

    def _begin(
        self,
        asked: Invoice,
        text: str,
        amount: Amount | None,
        max_fee: Amount | None,
        timeout: int,
        claim: Batch | None,
        failed: Payment | None,
        drawn: bytes = b"",
    ) -> _Running:
        self._world.must_be_safe()
        now = self._world.now
        if asked.payee == self._us:
            raise _own(drawn)
        if asked.is_expired(now):
            raise Refused("invoice_expired", f"the invoice expired {now - asked.expires_at} s ago", "ask for a new one")
        pays = _amount(asked, amount)
        if asked.payment_hash in self._world.registered:
            raise Refused("invoice_paid", "the invoice's preimage is public already", "ask for a new one")
        fee = max_fee if max_fee is not None else _usual_fee(pays)
        payment = new_payment(asked, text, pays, fee, now, timeout, drawn)
        running = _Running(asked=asked, payment=payment, fresh=True)
        if failed is not None:
            running.claim.add("DELETE FROM payments WHERE hash = ? AND state = 'failed'", payment.hash)
        if claim is not None:
            running.claim.extend(claim)
        return self._start(running)

    def _start(self, running: _Running) -> _Running:
        hash_ = running.asked.payment_hash
        self._running[hash_] = running
        begun = False
        try:
            self._go_on(running)
            begun = True
        finally:
            if not begun:
                del self._running[hash_]
        return running

    def _row(self, running: _Running) -> Batch:
        """What makes the row of a payment that begins, as it is now. The first part to be saved makes it."""
        payment = running.payment
        self._count += 1
        row = Batch()
        row.extend(running.claim)
        row.add(
            f"INSERT OR IGNORE INTO payments (n, {COLUMNS}) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', x'', '', '', ?, 0)",
            *(self._count, payment.hash, payment.invoice, payment.drawn, payment.token, payment.payee),
            *(wide(payment.amount), wide(running.fee), wide(payment.max_fee), payment.give_up, running.hops),
            payment.at,
        )
        return row

    def resume(self) -> None:
        """After a restart: go on with what was pending."""
        for row in self._store.rows(f"SELECT {COLUMNS} FROM payments WHERE state = 'pending'"):
            payment = payment_of(row)
            final_delta = self._world.network.final_delta
            asked = self.read(payment.invoice) if payment.invoice else asked_again(payment, self._domain, final_delta)
            running = self._running[payment.hash] = _Running(
                asked=asked,
                payment=payment,
                circle=circle_of(self._store, payment.hash),
                fee=payment.fee,
                hops=payment.hops,
            )
            for channel, lock in self._store.rows(
                "SELECT channel, lock FROM attempts WHERE hash = ? AND state = 'offered'", payment.hash
            ):
                attempt = self._book.attempt((channel, lock))
                if attempt is not None:
                    running.out.append(_part_of(attempt))
            if not running.out:  # else what is left is planned when one comes back: no peer is connected yet
                self._go_on(running)

    # -- heard from the book

    def fulfilled(self, what: Attempt, preimage: Preimage, at: Timestamp) -> None:
        running = self._running.get(what.hash)
        if running is not None:
            for part in running.out:  # the payee takes all of them
                if part.carried:
                    self._lessons.taken(part.carried, self._world.now)
        self._over(what.hash, state="succeeded", preimage=preimage, settled_at=at)

    def forgotten(self, hash_: LockKey) -> None:
        """In recovery: it may have been paid, so it is not tried again."""
        if hash_ in self._running and (found := self.find(hash_)) is not None:
            self._over(hash_, state=found.state, code=found.code, text=found.text, settled_at=found.settled_at)
        self.probing.forgotten(hash_)

    def returned(self, what: Attempt, reason: bytes) -> None:
        """What came back may be none that is under way: a close can give a lock back twice."""
        running = self._running.get(what.hash)
        part = None if running is None else next((one for one in running.out if one.attempt is what), None)
        if running is None or part is None:
            self.probing.returned(what, reason)
            return
        running.out.remove(part)
        running.fresh = False  # the row was saved with it
        lesson = self._lessons.returned(what, reason, self._world.now)
        if lesson.avoid is not None and lesson.short is not None:
            running.short[lesson.avoid] = min(lesson.short, running.short.get(lesson.avoid, lesson.short))
        elif lesson.avoid is not None and lesson.told and lesson.avoid not in running.told:
            running.told.add(lesson.avoid)
        elif lesson.avoid is not None:
            running.exclude.add(lesson.avoid)
        running.lesson = lesson.code, lesson.text
        if lesson.final and running.verdict is None:
            running.verdict = running.lesson
        self._go_on(running)

    def _over(self, hash_: LockKey, **outcome: Any) -> None:
        """The outcome is on disk."""
        running = self._running.pop(hash_, None)
        if running is not None:
            running.payment = replace(running.payment, fee=running.fee, hops=running.hops, **outcome)
            running.done.set()

    # -- the parts of one payment

    def _go_on(self, running: _Running) -> None:
        """Plan what no part promises yet. If that cannot be, the payment fails once no part is under way any more."""
        if running.verdict is None and running.left:
            running.verdict = self._why_not(running) or self._planned(running)
        if running.verdict is not None and not running.out:
            self._fail(running, *running.verdict)

    def _why_not(self, running: _Running) -> tuple[str, str] | None:
        """Why there is to be no other plan."""
        code, text = running.lesson or ("payment_failed", "no attempt could be made")
        if running.rounds >= MAX_ROUNDS:
            return code or "payment_failed", text
        if self._world.now > running.payment.give_up:
            return "payment_timeout", f"no way that works was found in time; last: {text}"
        if running.circle is not None and self._store.rows(_ARRIVED, running.payment.hash):
            return "payment_failed", "it has arrived, but what left us for it came back: it has cost nothing"
        return None

    def _planned(self, running: _Running) -> tuple[str, str] | None:
        """Send what is left on its way; or why it cannot be."""
        try:
            self._world.must_be_safe()
            routes = self._routes(running)
            parts = [self._part(running, route) for route in routes]
        except Refused as no_way:
            fault = running.refusal or no_way  # the rest of the ways may be none only because of it
            code, text = reasons.NO_WAY.get(fault.code, fault.code), fault.text
            if running.lesson is not None:
                code, text = running.lesson[0] or code, f"{running.lesson[1]}; then: {text}"
            return code, text
        except (Broken, *BUGS) as fault:  # in finding a way: it ends this payment, not the channel whose turn this is
            log.critical("payment=%s no plan: %s", running.payment.hash.hex(), fault, exc_info=True)
            return "internal", "a mistake in finding a way; the log says more"
        running.rounds += 1
        running.out += (part for part, _, _ in parts)
        running.fee = Amount(sum(part.fee for part in running.out))
        running.hops = max([running.hops if len(parts) < len(running.out) else 0, *(len(one.hops) for one in routes)])
        writes = self._row(running) if running.fresh else Batch()
        if running.rounds > 1 or not running.fresh:
            writes.extend(self._new_plan(running))
        for (part, route, packet), mine in zip(parts, [writes, *(_copy(writes) for _ in parts[1:])], strict=True):
            self._send(running, part, route, packet, mine)
        return None

    def _routes(self, running: _Running) -> tuple[Route, ...]:
        spent = sum(part.fee for part in running.out)
        ask = self._ask(running.asked, running.left, Amount(max(0, running.payment.max_fee - spent)))
        if running.exclude or running.short:
            ask = replace(ask, exclude=frozenset(running.exclude), short=running.short)
        if running.circle is not None:
            return (self.ways.round(ask, running.circle),)
        carried = [one for part in running.out for one in part.carried]
        return self.ways.parts(ask, carried)

    def _ask(self, asked: Invoice, amount: Amount, max_fee: Amount) -> Ask:
        hints = hints_of(asked)
        return self.ways.ask(asked.payee, asked.token, amount, max_fee, final_delta=asked.min_final_delta, hints=hints)

    def _part(self, running: _Running, route: Route) -> tuple[_Part, Route, bytes]:
        built = self._onion(running.asked, running.payment, route)
        attempt = attempt_of(running.asked, route, built.secrets)
        carried = tuple((hop.direction, hop.amount) for hop in route.hops[1:])
        return _Part(attempt, route.amount, route.fee, carried), route, built.packet

    def _onion(self, asked: Invoice, payment: Payment, route: Route) -> onion.Built:
        return build(asked, payment.amount, route, self._world.now, self._randomness, drawn=payment.drawn)

    def _new_plan(self, running: _Running) -> Batch:
        writes = Batch()
        writes.add(
            "UPDATE payments SET fee = ?, hops = ? WHERE hash = ?",
            *(wide(running.fee), running.hops, running.asked.payment_hash),
        )
        return writes

    def _send(self, running: _Running, part: _Part, route: Route, packet: bytes, writes: Batch) -> None:
        tag = self._book.tag(part.attempt)
        first = route.hops[0]

        def refused(fault: Refused) -> None:
            """Others took what the channel had, since we looked: over another one, if there is another."""
            self._book.untag(tag)
            running.out.remove(part)
            running.exclude.add(first.direction)
            running.refusal = running.refusal or fault
            if not running.out:
                running.rounds -= 1  # nothing of it left us
            self._go_on(running)

        offer = offer_of(tag, running.asked, route, packet, self._world.now)
        self._book.actors[first.channel_id].post(offer, writes=writes, on_refusal=refused)

    def _fail(self, running: _Running, code: str, text: str) -> None:
        outcome: dict[str, Any] = {"state": "failed", "code": code, "text": text[:500], "settled_at": self._world.now}
        hash_ = running.asked.payment_hash
        batch = self._row(running) if running.fresh else Batch()
        batch.add(
            "UPDATE payments SET state = 'failed', code = ?, text = ?, settled_at = ? "
            "WHERE hash = ? AND state = 'pending'",
            *(code, text[:500], outcome["settled_at"], hash_),
        )
        self._book.events.add(batch, "payment_failed", payment_hash=hash_, code=code)
        self._nursery.start_soon(self._save_failed, hash_, outcome, batch)

    async def _save_failed(self, hash_: LockKey, outcome: dict[str, Any], batch: Batch) -> None:
        await self._store.commit(batch)
        self._book.events.ring()
        self._over(hash_, **outcome)


def _amount(asked: Invoice, amount: Amount | None) -> Amount:
    """What an invoice is to be paid with. Refused (amount_fixed, amount_required): the two do not say it."""
    if asked.amount is not None and amount is not None and amount != asked.amount:
        raise Refused("amount_fixed", f"the invoice is for {asked.amount}", "leave the amount out")
    pays = asked.amount if asked.amount is not None else amount
    if pays is None:
        raise Refused("amount_required", "the invoice leaves the amount to the payer", "name an amount")
    return pays


def _own(drawn: bytes = b"") -> Refused:
    if drawn:
        return Refused("payee_own", "the payee is this node", "it is for others to be paid")
    return Refused("invoice_own", "the invoice is our own", "it is for others to pay")


def _usual_fee(amount: Amount) -> Amount:
    return Amount(max(amount // 100, 1_000))


async def _outcome_of(running: _Running, timeout: int) -> Payment:
    with trio.move_on_after(timeout + 5):
        await running.done.wait()
    return _outcome(running.payment)


def _outcome(payment: Payment) -> Payment:
    """What is told of a payment that succeeded or is pending; Refused for others."""
    if payment.state == "failed":
        raise reasons.failed(payment.code, payment.text)
    if payment.state == "unknown":
        raise Refused(payment.code, payment.text, "ask the payee; a new invoice can be paid")
    return payment


def _part_of(attempt: Attempt) -> _Part:
    """One that was under way before a restart."""
    _, locks = locks_of(attempt)
    carried = tuple((lock.direction, lock.amount) for lock in locks[1:])
    return _Part(attempt, locks[-1].amount, Amount(locks[0].amount - locks[-1].amount), carried)


def _copy(batch: Batch) -> Batch:
    same = Batch()
    same.extend(batch)
    return same
