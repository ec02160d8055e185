"""One channel's turn-taking: events in, a saved step, then messages and consequences out.

A channel's events wait in its inbox; a turn takes all that wait, lets the core decide them one after another, adds
our next proposal, saves everything at once, and only then lets anything out. While a turn is being saved the next
events gather, and so does what nothing follows from at once: our wishes while the peer has a proposal of ours to
answer, since nothing more can be proposed before, and the acknowledgement of locks, of which more is heard soon. That
is what makes batches under load and nothing slower without. Nothing is awaited between deciding and saving. A law that
breaks stops this channel where it was saved, and no other.

A lock that arrives and whose answer is a matter of this channel alone (it pays an invoice of ours) is answered in the
same turn: one transaction, one signature and one round trip less. What another channel has to do, it may decide at once
too, in a turn of its own that rests on this one: both are saved in one transaction if it can be, and the second never
without the first. If the first is not saved, the other turn is taken again without what rested on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final, Protocol

import trio

from channeld.base.errors import BUGS, Answer, ChanneldError, NotSaved, PeerFault, Refused, StoreFailed
from channeld.base.keys import Key
from channeld.base.quick import replace
from channeld.base.units import LockId
from channeld.core.channel import Channel, Session
from channeld.core.effects import Arrived, Learned, Note
from channeld.core.events import (
    CloseAlone,
    Connected,
    Disconnected,
    Event,
    Fail,
    Fulfil,
    Got,
    Offer,
    Pay,
    Propose,
    Recover,
    Seen,
    SeenHead,
)
from channeld.core.machine import step
from channeld.core.messages import Ack, AddLock, Commit, Message
from channeld.storage.store import Batch, Store

log = logging.getLogger(__name__)
MAX_TURN: Final = 2_048
_PROPOSE: Final = Propose()
_STILL: Final = (Seen, SeenHead, CloseAlone, Fulfil, Disconnected, Recover)
"""What a channel that has stopped still hears: the chain, and what gets its money out there. None of it signs a state
without a session, and it has none any more."""
_PATIENT: Final = (Pay, Offer, Fulfil, Fail)
"""Wishes that lead to nothing before the peer has answered what is outstanding."""
PATIENCE: Final = 0.05
"""Seconds after which what waits is saved even so; callers may wait for that."""
_saved: Final = attrgetter(*(one.name for one in fields(Channel) if one.name not in ("session", "ask", "waiting")))
"""What of a channel is saved."""


class Line(Protocol):
    """The live connection to the peer."""

    def say(self, channel: Channel, messages: list[Message]) -> None: ...

    def complain(self, channel: Channel, fault: PeerFault) -> None: ...


class Ledger(Protocol):
    """Writes down what notes say, in the channel's own transaction, and then lets it have its consequences."""

    def record(self, channel: Channel, notes: tuple[Note, ...], batch: Batch) -> None: ...

    def follow(self, channel: Channel, notes: tuple[Note, ...]) -> None: ...

    def at_once(self, channel: Channel, arrived: Arrived, turn: Batch) -> tuple[Event, Batch] | None:
        """The answer to a lock that is not saved yet, to be saved with it; None if the lock is to be recorded. It may
        be on its way in another channel by then, in a turn that rests on this one."""

    def pass_back(self, channel: Channel, learned: Learned, turn: Batch) -> None:
        """A preimage is about to be saved in this turn: who waits for it upstream has it in one that rests on it."""

    def why_old(self, channel: Channel) -> str: ...

    def late(self, channel: Channel, commit: Commit) -> tuple[LockId, ...]: ...

    def secure(self, actor: Actor, late: tuple[LockId, ...], commit: Commit) -> None: ...


@dataclass(eq=False, slots=True)
class Reply:
    """Where the outcome of one event is told, after it was saved."""

    done: trio.Event = field(default_factory=trio.Event)
    notes: tuple[Note, ...] = ()
    fault: ChanneldError | None = None

    async def wait(self) -> tuple[Note, ...]:
        if not self.done.is_set():  # most of a batch are: no turn of the scheduler for each
            await self.done.wait()
        if self.fault is not None:
            raise self.fault
        return self.notes


@dataclass(eq=False, slots=True)
class _Item:
    event: Event
    writes: Batch | None
    reply: Reply | None
    line: Line | None
    on_refusal: Callable[[Refused], None] | None = None
    after: Batch | None = None
    refused: bool = False
    """Whether that was told: it is told once, whatever becomes of the turn."""


@dataclass(slots=True)
class _Turn:
    channel: Channel
    line: Line | None
    sends: list[Message] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)
    replies: list[Reply] = field(default_factory=list)
    complaints: list[tuple[Line | None, PeerFault]] = field(default_factory=list)


class Actor:
    """Owns one channel. `channel` is its last saved value."""

    def __init__(self, channel: Channel, key: Key, store: Store, ledger: Ledger, *, now: Callable[[], int]) -> None:
        self.channel = channel
        self.line: Line | None = None
        self.broken: str | None = None
        self._key, self._store, self._ledger, self._now = key, store, ledger, now
        self._inbox: list[_Item] = []
        self._held: list[_Item] | None = None
        self._bell = trio.Event()
        self._hurry = trio.Event()
        self._acked = False
        """Whether an acknowledgement is in the inbox: with it there may be more to propose."""
        self._turned = trio.Event()
        self._retiring: tuple[Callable[[Channel], bool], trio.Event] | None = None
        self._retired = False

    def post(
        self,
        event: Event,
        *,
        writes: Batch | None = None,
        reply: Reply | None = None,
        line: Line | None = None,
        on_refusal: Callable[[Refused], None] | None = None,
        after: Batch | None = None,
    ) -> None:
        """Put an event in the inbox. `writes` are saved with it, unless it is refused.

        after: another channel's turn, about to be saved, that the event rests on: never is one on disk without the
            other's, and nothing of it leaves before.
        """
        item = _Item(event, writes, reply, line, on_refusal, after)
        if after is not None:
            after.followed = True
        if self._retired:
            self._refuse(item, Refused("unknown_channel", f"channel {self.channel.name} is forgotten"))
            return
        if self._held is not None and isinstance(event, Got):
            self._held.append(item)
            return
        self._inbox.append(item)
        self._bell.set()
        if self._leads_on(event):
            self._hurry.set()

    def _leads_on(self, event: Event) -> bool:
        """Whether something follows from the event at once; else it may wait and be saved with others. In the inbox."""
        if isinstance(event, _PATIENT):
            return self._acked
        if not isinstance(event, Got) or not isinstance(event.message, Ack):
            return True
        out, self._acked = self.channel.outstanding, True
        alone = len(self._inbox) == 1 and not self.channel.queue
        return not alone or out is None or not all(isinstance(update, AddLock) for update in out.updates)

    async def ask(self, event: Event, *, writes: Batch | None = None) -> tuple[Note, ...]:
        """Post, and wait until it is saved; Refused if it cannot be."""
        reply = Reply()
        self.post(event, writes=writes, reply=reply)
        return await reply.wait()

    @property
    def backlog(self) -> int:
        """Events that wait, for backpressure."""
        return len(self._inbox) + len(self._held or ())

    async def room(self, most: int) -> None:
        """Wait until no more than `most` events wait: backpressure for who brings them."""
        while self.backlog > most and not self.broken:
            await self._turned.wait()

    def release(self) -> None:
        """What was held because of a late fulfil may go on (R17)."""
        held, self._held = self._held or [], None
        self._inbox = held + self._inbox
        self._bell.set()
        self._hurry.set()

    async def retire(self, if_: Callable[[Channel], bool]) -> bool:
        """Take no turn any more if that holds of the channel once all that waits has had its turn; whether it does."""
        decided = trio.Event()
        self._retiring = if_, decided
        self._bell.set()
        await decided.wait()
        return self._retired

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take turns until cancelled, or until it has retired."""
        task_status.started()
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            while self._inbox:
                await self._gather()
                most = 1 if self.broken else MAX_TURN  # what a stopped channel cannot take stands alone
                items, self._inbox = self._inbox[:most], self._inbox[most:]
                await self._take(items)
                self._turned.set()
                self._turned = trio.Event()
            if self._retiring is not None:
                (holds, decided), self._retiring = self._retiring, None
                self._retired = holds(self.channel)
                decided.set()
                if self._retired:
                    return

    async def _gather(self) -> None:
        """Let wait what can: together it is saved once."""
        if self.channel.outstanding is not None and self.line is not None:
            with trio.move_on_after(PATIENCE):
                await self._hurry.wait()
        if len(self._inbox) <= MAX_TURN:
            self._hurry, self._acked = trio.Event(), False

    async def _take(self, items: list[_Item]) -> None:
        """One turn. What goes wrong before it is saved undoes it; after that it only stops the channel."""
        try:
            turn = await self._save(items)
        except StoreFailed:  # the disk: what cannot be remembered must not be signed, in any channel
            raise
        except NotSaved as fault:
            self._again(items, fault)
            return
        except (ChanneldError, *BUGS) as fault:
            self._stop(fault, items)
            return
        try:
            self._let_out(turn)
        except (ChanneldError, *BUGS) as fault:
            self._stop(fault, [])
        for reply in turn.replies:
            reply.done.set()

    def _again(self, items: list[_Item], fault: NotSaved) -> None:
        """Another channel's turn was not saved, and so nothing of this one, which rested on it. It is decided anew; but
        what the peer has said it says again on a new line, as nothing that it led to may be counted on."""
        log.warning("channel=%s a turn is taken again: %s", self.channel.name, fault)
        lines = [item.line for item in items if isinstance(item.event, Got) and item.line is not None]
        if lines:
            self._cut()
            for line in {id(line): line for line in lines}.values():
                line.complain(self.channel, PeerFault(Answer.DISCONNECT, "a fault of ours"))
        heard = (item for item in items if not isinstance(item.event, Got | Connected) or item.line not in lines)
        self._inbox = [item for item in heard if not item.refused] + self._inbox
        self._hurry.set()

    def _stop(self, fault: Exception, items: list[_Item]) -> None:
        """Sign nothing more. Of `items` nothing was saved or sent: what a channel that has stopped still hears has a
        turn each, if it was not the one that stopped it; whoever asked for the others is refused."""
        log.critical("channel=%s BROKEN %s", self.channel.name, fault, exc_info=isinstance(fault, BUGS))
        before, self.broken = self.broken, str(fault) or type(fault).__name__
        self._cut()
        left = [item for item in items if before is None and isinstance(item.event, _STILL) and not item.refused]
        for item in items:
            if item not in left and (item.reply is None or not item.reply.done.is_set()):
                self._refuse(item, self._stopped())
        self._inbox = left + self._inbox
        self._hurry.set()

    def _cut(self) -> None:
        """No session any more, whatever the line does."""
        self.channel, self.line = replace(self.channel, session=Session.CUT, ask=None, waiting=None), None

    def _stopped(self) -> Refused:
        return Refused("channel_broken", f"channel {self.channel.name} has stopped: {self.broken}")

    async def _save(self, items: list[_Item]) -> _Turn:
        turn = _Turn(self.channel, self.line)
        saved = False
        try:
            self._decide(turn, items)
            self._ledger.record(turn.channel, tuple(turn.notes), turn.batch)
            if _differs(turn.channel, self.channel):
                turn.batch.channel(turn.channel)
            if turn.batch:
                await self._store.commit(turn.batch)
            saved = True
        finally:
            turn.batch.failed = not saved  # also before the store has it: what rests on it is not saved either
        turn.batch.writes.clear()  # others ask what became of it for a while; a channel is large
        return turn

    def _let_out(self, turn: _Turn) -> None:
        if turn.channel.phase is not self.channel.phase:
            log.info("channel=%s %s -> %s", turn.channel.name, self.channel.phase.name, turn.channel.phase.name)
        self.channel, self.line = turn.channel, turn.line
        if self.line is not None and turn.sends:
            self.line.say(turn.channel, [one for one in turn.sends if not _overtaken(one, turn.channel)])
        for line, complaint in turn.complaints:
            if line is not None:
                line.complain(turn.channel, complaint)
        self._ledger.follow(turn.channel, tuple(turn.notes))

    def _decide(self, turn: _Turn, items: list[_Item]) -> None:
        old = self._ledger.why_old(self.channel)
        if old:
            self._one(turn, _Item(Recover(reason=old), None, None, None))
        for at, item in enumerate(items):
            if self.broken and not isinstance(item.event, _STILL):
                self._refuse(item, self._stopped())
                continue
            if item.after is not None and item.after.failed:
                if not isinstance(item.event, Fulfil):
                    self._refuse(item, Refused("channel_broken", "what it rests on was not saved"))
                    continue
                item.after = None  # a preimage that opens its lock is worth taking, whatever else was not saved
            if isinstance(item.event, Got) and (item.line is not turn.line or self._hold(turn, item, items[at + 1 :])):
                continue
            self._one(turn, item)
        if not self.broken:
            self._one(turn, _Item(_PROPOSE, None, None, None))

    def _one(self, turn: _Turn, item: _Item) -> None:
        try:
            done = step(turn.channel, item.event, self._key)
        except Refused as fault:
            self._refuse(item, fault)
            return
        except PeerFault as fault:
            log.warning("channel=%s peer fault: %s", turn.channel.name, fault.text)
            turn.complaints.append((item.line, fault))
            if fault.answer is Answer.DISCONNECT:
                turn.channel = replace(turn.channel, session=Session.CUT)
            return
        match item.event:
            case Connected():
                turn.line, turn.sends = item.line, []
            case Disconnected():
                turn.line, turn.sends = None, []
            case _:
                pass
        turn.channel = done.channel
        turn.sends += done.sends
        if item.writes is not None:
            turn.batch.extend(item.writes)
        if item.after is not None:
            turn.batch.after.append(item.after)
        if item.reply is not None:
            item.reply.notes = done.notes
            turn.replies.append(item.reply)
        for note in done.notes:
            if isinstance(note, Learned):
                self._ledger.pass_back(turn.channel, note, turn.batch)
            if not (isinstance(note, Arrived) and self._answered(turn, note)):
                turn.notes.append(note)

    def _answered(self, turn: _Turn, arrived: Arrived) -> bool:
        """Answer a lock in the turn that brings it, if that can be; whether it was."""
        answer = self._ledger.at_once(turn.channel, arrived, turn.batch)
        if answer is None:
            return False
        event, writes = answer
        self._one(turn, _Item(event, writes, None, None))
        return True

    def _hold(self, turn: _Turn, item: _Item, rest: list[_Item]) -> bool:
        """R17: a commit that fulfils a lock of ours too late waits until the secret is safe upstream."""
        if self._held is not None:
            self._held.append(item)
            return True
        message = item.event.message if isinstance(item.event, Got) else None
        if not isinstance(message, Commit):
            return False
        late = self._ledger.late(turn.channel, message)
        if not late:
            return False
        log.warning("channel=%s late fulfil of locks %s is held", turn.channel.name, late)
        self._held = [item]
        self._ledger.secure(self, late, message)
        return True

    def _refuse(self, item: _Item, fault: Refused) -> None:
        if item.refused:
            return
        item.refused = True
        if item.on_refusal is not None:
            item.on_refusal(fault)
        elif item.reply is None:
            log.info("channel=%s %s refused: %s", self.channel.name, type(item.event).__name__, fault.text)
        else:
            item.reply.fault = fault
            item.reply.done.set()


def _overtaken(message: Message, channel: Channel) -> bool:
    """Whether it is a proposal of ours that lost a crossing in the very turn that made it: nobody needs it any more."""
    return isinstance(message, Commit) and message.version != channel.outstanding_version


def _differs(new: Channel, old: Channel) -> bool:
    """Whether something changed that is saved."""
    if new is old:
        return False
    return bool(_saved(new) != _saved(old))
