"""One payment passes the functions that `channeld/core/__init__.py` names, in that order: traced, and compared."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import channeld.core
from channeld.base.units import LockId, Side
from channeld.core import effects, machine
from channeld.core.effects import Note, Step
from channeld.core.events import Event, Fulfil, Got, Offer, Propose
from tests.roles import START, Node, Pair, lock_key, offer, open_pair, preimage

CORE = Path(channeld.core.__file__).parent
MACHINE = machine.__file__
N = TypeVar("N", bound=Note)
ROW = re.compile(r"^    (payer|payee|forwarder, upstream|forwarder, down) +(\w+\.\w+)", re.MULTILINE)


@contextmanager
def traced(found: list[str]) -> Iterator[None]:
    """Put each function of the core that `machine` calls into `found`, as `module.name`."""

    def called(frame: FrameType, what: str, _: object) -> None:
        caller = frame.f_back
        if what != "call" or caller is None or caller.f_code.co_filename != MACHINE:
            return
        path = Path(frame.f_code.co_filename)
        if path.parent == CORE and path.name not in ("machine.py", "events.py", "effects.py", "channel.py"):
            found.append(f"{path.stem}.{frame.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(before)


class Route:
    """A payer, a forwarder and a payee; who does what is written down as it happens."""

    def __init__(self) -> None:
        self.up: Pair = open_pair()
        self.down: Pair = open_pair()
        self.passed: list[tuple[str, str]] = []
        self.nodes: dict[str, Node] = {
            "payer": self.up.opener,
            "forwarder, upstream": self.up.acceptor,
            "forwarder, down": self.down.opener,
            "payee": self.down.acceptor,
        }

    def do(self, who: str, event: Event) -> Step:
        found: list[str] = []
        with traced(found):
            done = self.nodes[who].do(event)
        self.passed += [(who, name) for name in found]
        return done

    def agree(self, proposer: str, other: str) -> tuple[Note, ...]:
        """One proposal and its acknowledgement; what the other side learned by it."""
        (commit,) = self.do(proposer, Propose()).sends
        taken = self.do(other, Got(message=commit, now=START))
        (ack,) = taken.sends
        self.do(proposer, Got(message=ack, now=START))
        return taken.notes

    def one(self, notes: tuple[Note, ...], kind: type[N]) -> N:
        """The one note of that kind."""
        (found,) = [note for note in notes if isinstance(note, kind)]
        return found


def test_a_payment_passes_what_is_named_in_that_order():
    route = Route()
    route.do("payer", offer(50))
    arrived = route.one(route.agree("payer", "forwarder, upstream"), effects.Arrived)
    assert arrived.lock.key == lock_key(1)
    onward = Offer(tag=b"on", amount=arrived.lock.amount, key=arrived.lock.key, expiry=arrived.lock.expiry, onion=b"o")
    route.do("forwarder, down", onward)
    final = route.one(route.agree("forwarder, down", "payee"), effects.Arrived)
    route.do("payee", Fulfil(lock_id=final.lock.id, preimage=preimage(1)))
    learned = route.one(route.agree("payee", "forwarder, down"), effects.Learned)
    route.do("forwarder, upstream", Fulfil(lock_id=arrived.lock.id, preimage=learned.preimage))
    paid = route.one(route.agree("forwarder, upstream", "payer"), effects.Learned)
    assert (paid.lock_id, paid.preimage) == (LockId(1), preimage(1))
    named = ROW.findall(channeld.core.__doc__ or "")
    assert route.passed == named
    assert len(named) == 16
    assert route.up.opener.channel.current.body.balance(Side.A, 1_000) == 950
    assert route.down.acceptor.channel.current.body.balance(Side.B, 500) == 550


def test_the_trace_sees_a_function_more():
    found: list[str] = []
    node = open_pair().opener
    with traced(found):
        node.do(offer(50))
        node.do(Propose())
    assert found == ["paying.offer", "updating.propose"]
