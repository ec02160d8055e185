"""One channel's evidence at one tower: sealed, numbered, sent, receipted; renewed, and deleted in the end.

At most one upload is under way, and it is on disk before it leaves, so that after a crash the same number has the same
bytes. What happens meanwhile is not queued: when the receipt is here, the newest state is looked at. Each link has a
key, a connection and a pace of its own; a tower that is down holds up nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from channeld.base.digests import Domain, delegation_digest, locks_hash
from channeld.base.errors import Answer, Malformed, PeerFault, Unreachable
from channeld.base.keys import Key
from channeld.base.units import LockKey, Preimage, Seconds, Signature, Version, short
from channeld.core.channel import Channel, Phase
from channeld.node import tower_ask
from channeld.node.exposure import History, at_stake, claimed, value
from channeld.node.tower_ask import read_copy
from channeld.node.tower_call import NoPromise, TowerCall
from channeld.node.tower_saved import Held, LinkState, Pending, load_link
from channeld.peers.net import Net
from channeld.storage.store import Batch, Store
from channeld.wire import appointment
from channeld.wire.messages import (
    Appointment,
    AppointmentReceipt,
    DeleteAppointment,
    GetAppointment,
    PutAppointment,
    TowerError,
)

if TYPE_CHECKING:
    from channeld.node.ledger import Book
    from channeld.node.towers import Tower
    from channeld.node.world import World

log = logging.getLogger(__name__)
MAX_LAG: Final = 120
"""Seconds of chain time by which a receipt's head may differ from ours."""
MAX_VALIDITY: Final = 30 * 86_400
MAX_SEQ: Final = 2**48
LONGEST_PERIOD: Final = 30 * 86_400
IDLE: Final = 60.0
"""Seconds without an upload after which the connection is closed."""
CATCH_UP: Final = 600
"""Seconds after which a tower gets the newest state though nothing is at stake. Of an older one it does not have it
could not say that it is old; and we, who forget what is over, could not open that one to have it paid out."""
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
LOUD: Final = 3
"""Attempts that fail in a row until the channel is called unprotected."""
GUARDED: Final = (Phase.OPEN, Phase.FROZEN, Phase.CLOSING)
_GONE: Final = ("unknown", "deleted")


@dataclass(slots=True, kw_only=True)
class Kit:
    """What all links share."""

    book: Book
    store: Store
    world: World
    domain: Domain
    account_key: Key
    net: Net
    randomness: Callable[[int], bytes]
    forget_within: float
    """Seconds within which a closed channel's appointment is deleted, at random."""
    news: Callable[[], None]
    """Told whenever some cover has changed."""
    backup_key: bytes
    asked: trio.Event = field(default_factory=trio.Event)
    """Set when the towers were asked, at the start, what they hold: nothing is uploaded before."""

    def chance(self) -> float:
        """Evenly from 0 to 1."""
        return int.from_bytes(self.randomness(4), "big") / 2**32


class Link:
    """See the file's head. `history` belongs to the channel and is shared by its links."""

    def __init__(self, tower: Tower, channel: Channel, history: History, kit: Kit) -> None:
        self.tower, self.id, self.history = tower, channel.id, history
        self.error: str | None = None
        self.failures = 0
        self.wanted = Version(0)
        """Somebody waits for cover of this version."""
        self.stale = False
        """The tower has other terms than those our upload was made for."""
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        self._kit = kit
        self.state = self._load()
        self._auth = kit.account_key.derive(f"tower/{tower.node.hex()}/{channel.id.hex()}")
        self._hint = appointment.hint_of(channel.salt_ours, tower.node)
        self._bell, self._hurry = trio.Event(), trio.Event()
        self._call = TowerCall(lambda: tower.address, self._auth, kit.net)

    @property
    def name(self) -> str:
        return f"tower={short(self.tower.node[1:])} channel={short(self.id)}"

    @property
    def channel(self) -> Channel | None:
        actor = self._kit.book.actors.get(self.id)
        return None if actor is None else actor.channel

    # -- what there is to do

    def ring(self) -> None:
        """Something may have to be uploaded."""
        self._bell.set()

    def hurry(self) -> None:
        """Do not wait for the next try: there is reason to believe that the tower is there."""
        self._hurry.set()
        self._bell.set()

    def valid(self) -> bool:
        """Whether a receipt still promises something."""
        return self.state.held is not None and self._kit.world.now < self.state.held.receipt.valid_until

    def promised(self) -> int:
        """The version that a valid receipt covers; -1 for none."""
        held = self.state.held
        return held.version if held is not None and self.valid() and not self.state.revealed else -1

    def risk(self, channel: Channel) -> int:
        """What a theft could cost us if this were our only tower; base units."""
        if not guards(channel):
            return 0
        if self.state.held is None or not self.valid():
            return at_stake(channel, self.history, Version(0), frozenset())
        return at_stake(channel, self.history, self.state.held.version, self.state.held.entrusted)

    def covers(self, channel: Channel) -> bool:
        """Whether a valid receipt leaves nothing at stake."""
        return self.valid() and not self.state.revealed and self.risk(channel) == 0

    def due(self, channel: Channel) -> bool:
        """Whether an upload would change anything."""
        if not guards(channel) or self.state.revealed or self.tower.payout is None:
            return False
        held = self.state.held
        if held is None or not self.valid():
            return True
        version = channel.current.version
        if held.version > version:  # the tower knows more than we do: nothing of ours may take its place
            return False
        if self.stale:
            return True
        if (held.version, held.entrusted) == (version, frozenset(self._preimages(channel))):
            return self._old(held)
        late = self._kit.world.now - held.receipt.head_time >= CATCH_UP
        return self._old(held) or late or held.version < self.wanted <= version or self.risk(channel) > 0

    def _old(self, held: Held) -> bool:
        """Renew when half of the promised time is over."""
        receipt = held.receipt
        return self._kit.world.now > (receipt.head_time + receipt.valid_until) // 2

    def _preimages(self, channel: Channel) -> dict[LockKey, Preimage]:
        """The most valuable of those we know and the chain does not."""
        found = [lock for lock in claimed(channel, channel.current.body) if lock.key not in self._kit.world.registered]
        found.sort(key=lambda lock: (-lock.amount, lock.id))
        return {lock.key: channel.claims[lock.id] for lock in found[: appointment.MAX_PREIMAGES]}

    def watch(self) -> None:
        """Note since when something is at risk."""
        channel = self.channel
        risky = channel is not None and self.risk(channel) > 0
        if not risky:
            self.state.since = None
        elif self.state.since is None:
            self.state.since = self._kit.world.now

    # -- the task

    async def run(self) -> None:
        """Keep the tower up to date until cancelled, or until the appointment has been deleted."""
        with self.scope:
            try:
                await self._kit.asked.wait()
                while not await self._round():
                    pass
            finally:
                await self._call.hang_up()
                self.ended.set()

    async def _round(self) -> bool:
        """One upload, one failure, or one rest. Returns whether there is nothing left to do for ever."""
        channel = self.channel
        if channel is not None and channel.phase is Phase.CLOSED and not self.state.forget:
            await self._call.hang_up()
            await trio.sleep(self._kit.forget_within * self._kit.chance())
            self.state.forget = True
        if self.state.forget and self.state.held is None and self.state.pending is None and not self.state.revealed:
            await self._erase()
            return True
        if not self.state.forget and self.state.pending is None and (channel is None or not self.due(channel)):
            await self._rest()
            return False
        try:
            if self.state.forget:
                return await self._forget()
            await self._upload(channel)
        except (Unreachable, PeerFault, Malformed) as fault:
            self.tower.reachable = isinstance(fault, NoPromise)
            await self._call.hang_up()
            await self._failed(str(fault))
        else:
            self._worked()
        return False

    async def _rest(self) -> None:
        self.watch()
        with trio.move_on_after(IDLE):
            await self._bell.wait()
            self._bell = trio.Event()
            return
        await self._call.hang_up()

    def _worked(self) -> None:
        if self.failures >= LOUD:
            log.warning("%s guarded again", self.name)
        self.failures, self.error, self.tower.reachable = 0, None, True
        self.watch()
        self._kit.news()

    async def _failed(self, text: str) -> None:
        self.failures += 1
        self.error = text
        self.watch()
        log.info("%s upload failed: %s", self.name, text)
        if self.failures == LOUD and not self.state.forget:
            channel, since = self.channel, self.state.since or self._kit.world.now
            risk = self.risk(channel) if channel is not None else 0
            log.error("%s FAILED: %s; UNPROTECTED since %s, value at risk %s", self.name, text, since, risk)
            await self._tell("tower_failed", error=text, since=since, value_at_risk=str(risk))
        wait = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.failures - 1, 10)) * (0.75 + self._kit.chance() / 2)
        self._hurry = trio.Event()
        with trio.move_on_after(wait):
            await self._hurry.wait()

    async def _tell(self, type_: str, **data: object) -> None:
        batch, events = Batch(), self._kit.book.events
        events.add(batch, type_, tower=self.tower.node, channel_id=self.id, **data)
        await self._kit.store.commit(batch)
        events.ring()

    # -- an upload

    async def _upload(self, channel: Channel | None) -> None:
        again = self.state.pending is not None
        if self.state.pending is None:
            if channel is None:
                return
            await self._call.pace()
            channel = self.channel or channel
            if not self.due(channel):
                return
            self.state.pending = self._seal(channel)
            await self._save()
        pending = self.state.pending
        answer = await self._call.ask(
            PutAppointment(
                chain_id=self._kit.domain.chain_id,
                manager=self._kit.domain.manager,
                hint=self._hint,
                seq=pending.seq,
                blob=pending.blob,
                signature=self._sign(pending),
            )
        )
        match answer:
            case AppointmentReceipt():
                await self._receipt(answer, pending, again=again)
            case TowerError():
                await self._refused(answer)
            case _:
                raise PeerFault(Answer.DISCONNECT, f"{type(answer).__name__} in answer to an upload")

    def _seal(self, channel: Channel) -> Pending:
        kit, state, tower = self._kit, channel.current, self.tower
        payout = tower.payout
        if payout is None:
            raise NoPromise("the tower has not said yet where its reward goes")
        self.state.seq += 1
        self.stale = False
        period = min(max(channel.terms.challenge_period, kit.world.network.min_challenge_period), LONGEST_PERIOD)
        delay = Seconds(min(tower.turn, 2) * (period // 4))
        digest = delegation_digest(kit.domain, channel.id, state.version, payout, delay)
        body, preimages = state.body, self._preimages(channel)
        self.state.sending(state.version, body)
        blob = appointment.seal(
            appointment.Evidence(
                version=state.version,
                body_hash=state.body_hash,
                signature_a=Signature(state.signature_a),
                signature_b=Signature(state.signature_b),
                payout=payout,
                delay=delay,
                delegation=kit.account_key.sign(digest),
                token=channel.token,
                terms=channel.terms,
                preimages=tuple(preimages.values()),
            ),
            appointment.Body(
                net=body.net,
                locked_ab=body.locked_ab,
                locked_ba=body.locked_ba,
                locks_hash=locks_hash(body.locks.values()),
                blind=channel.blind(state.version),
            ),
            salt=channel.salt_ours,
            tower=tower.node,
            auth=self._auth.public,
            seq=self.state.seq,
            t=kit.randomness(32),
            backup_key=kit.backup_key,
        )
        return Pending(seq=self.state.seq, version=state.version, entrusted=frozenset(preimages), blob=blob)

    def _sign(self, pending: Pending) -> Signature:
        digest = appointment.update_digest(
            self._kit.domain, self.tower.node, self._hint, pending.seq, pending.blob_hash
        )
        return self._auth.sign(digest)

    async def _receipt(self, receipt: AppointmentReceipt, pending: Pending, *, again: bool) -> None:
        """Keep a good receipt. One with a bad signature is none; one that promises too little is not relied on."""
        self._must_answer(receipt, pending)
        late = self._kit.world.chain_time - receipt.head_time
        self.state.pending = None
        trouble = self._promise_fault(receipt)
        if trouble is None:
            self.state.receipted(Held(version=pending.version, entrusted=pending.entrusted, receipt=receipt))
        self.watch()
        await self._save()
        if trouble is not None and not (again and late > MAX_LAG):  # said again, it may be the first answer from then
            raise NoPromise(trouble)
        if trouble is None:
            self.tower.last_receipt_at = self._kit.world.now

    def _must_answer(self, receipt: AppointmentReceipt, pending: Pending) -> None:
        if (receipt.hint, receipt.seq, receipt.blob_hash) != (self._hint, pending.seq, pending.blob_hash):
            raise PeerFault(Answer.DISCONNECT, "the receipt is for something else")
        if not appointment.is_receipt_signed(self._kit.domain, self.tower.node, self._auth.public, receipt):
            raise PeerFault(Answer.DISCONNECT, "the receipt is not signed by the tower")

    def _promise_fault(self, receipt: AppointmentReceipt) -> str | None:
        world = self._kit.world
        if receipt.head_time < world.chain_time - MAX_LAG:
            return f"the tower is {world.chain_time - receipt.head_time} s behind the chain"
        if receipt.head_time > world.now + MAX_LAG:
            return f"the tower's head is {receipt.head_time - world.now} s in the future"
        if not world.now < receipt.valid_until <= receipt.head_time + MAX_VALIDITY:
            return f"the receipt is valid until {receipt.valid_until}"
        return None

    async def _refused(self, error: TowerError) -> None:
        match error.code:
            case "behind" | "other_bytes" | "other_hint":
                await self._compare()
            case "deleted":
                self._skip_to(error.seq)
                await self._save()
            case "revealed":
                log.warning("%s a close was seen: the tower keeps our newest state, without a promise", self.name)
                self.state.pending, self.state.revealed = None, True
                await self._save()
            case _:
                raise NoPromise(f"the tower refuses: {error.code}: {error.text}")

    async def _compare(self) -> None:
        """The tower holds a higher number than we gave: our database is old. It may know a newer state than we do."""
        kit, answer = self._kit, await self._call.ask(GetAppointment())
        if isinstance(answer, TowerError) and answer.code == "deleted":
            await self._refused(answer)
            return
        channel = self.channel
        copy = read_copy(kit, self.tower.node, self._auth.public, channel, self._hint, answer)
        newer = channel is None or copy.version > channel.current.version
        ahead = copy.seq > self.state.seq
        self._skip_to(copy.seq)
        if newer and isinstance(answer, Appointment):  # never overwrite what may be the only copy
            receipt = AppointmentReceipt(
                hint=answer.hint,
                seq=answer.seq,
                blob_hash=copy.blob_hash,
                head_number=answer.head_number,
                head_time=answer.head_time,
                valid_until=answer.valid_until,
                signature=answer.receipt,
            )
            if not appointment.is_receipt_signed(kit.domain, self.tower.node, self._auth.public, receipt):
                raise PeerFault(Answer.DISCONNECT, "the receipt is not signed by the tower")
            self.state.held = Held(version=copy.version, entrusted=frozenset(), receipt=receipt)
        await self._save()
        if channel is not None and (ahead or newer):
            await tower_ask.ahead(kit, self.tower, channel.id, copy)

    def _skip_to(self, seq: int) -> None:
        if seq >= MAX_SEQ:
            raise PeerFault(Answer.DISCONNECT, f"the tower claims sequence {seq}")
        self.state.pending, self.state.seq = None, max(self.state.seq, seq)

    # -- the end

    async def _forget(self) -> bool:
        """Ask the tower to delete what it holds; True when that is over."""
        if self.state.held is not None and not self.valid():
            await self._erase()  # its promise is over: it forgets by itself
            return True
        if self.state.pending is None or self.state.pending.blob:
            self.state.seq += 1
            self.state.pending = Pending(seq=self.state.seq, version=Version(0), entrusted=frozenset(), blob=b"")
            await self._save()
        pending = self.state.pending
        answer = await self._call.ask(DeleteAppointment(seq=pending.seq, signature=self._sign(pending)))
        match answer:
            case AppointmentReceipt():
                self._must_answer(answer, pending)
            case TowerError(code=code) if code in (*_GONE, "revealed"):
                pass
            case TowerError(code="behind" | "other_bytes", seq=seq):
                self._skip_to(seq)
                return False
            case TowerError():
                raise NoPromise(f"the tower refuses: {answer.code}: {answer.text}")
            case _:
                raise PeerFault(Answer.DISCONNECT, f"{type(answer).__name__} in answer to a deletion")
        await self._erase()
        return True

    async def _erase(self) -> None:
        """Nothing is held any more; the number stays known, should this tower be asked again."""
        self.state.held = self.state.pending = self.state.since = self.error = None
        if self.channel is None or self.channel.phase is Phase.CLOSED:
            self.state.sent = {}  # till then a tower may bring what it was told to delete
        self.state.revealed = False
        await self._save()
        self._kit.news()

    # -- the disk

    async def _save(self) -> None:
        batch = Batch()
        batch.add(
            "INSERT INTO receipts VALUES (?, ?, ?) ON CONFLICT (tower, channel) DO UPDATE SET saved = excluded.saved",
            *(self.tower.node, self.id, self.state.save()),
        )
        await self._kit.store.commit(batch)

    def _load(self) -> LinkState:
        rows = self._kit.store.rows(
            "SELECT saved FROM receipts WHERE tower = ? AND channel = ?", self.tower.node, self.id
        )
        return load_link(rows[0][0]) if rows else LinkState()


def guards(channel: Channel) -> bool:
    """Whether there is a state to guard: signed by both, ours to show, and not settled."""
    case = channel.onchain
    if channel.phase not in GUARDED or channel.recovering or (case is not None and case.closer is channel.we):
        return False
    state = channel.current
    return bool(state.version and state.signature_a and state.signature_b)


def something_to_lose(channel: Channel) -> bool:
    """Whether an old state could take anything from us at all."""
    return guards(channel) and value(channel) > 0
