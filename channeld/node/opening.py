"""Opening: three messages agree on the terms and the memo, then the first deposit makes the channel.

Nothing is signed: a deposit alone is safe, because a close without a state returns it. Both sides save the channel,
both salts and the memo before money moves. A nonce is used once per node, so a salt is known to one peer only.
What its caller is answered is saved with the channel (`claim`), so that asking again after a death finds it instead of
opening a second one; and if the death took the last of the three messages too, the opener says it again when the peer
turns out not to know the channel.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from channeld.base.digests import Domain, Terms, channel_id, salt_commitment
from channeld.base.errors import Refused, Unreachable
from channeld.base.keys import Key, keccak
from channeld.base.units import MAX_AMOUNT, NATIVE, Address, Amount, ChannelId, Digest, NodeId, Seconds, Side
from channeld.chain.bindings import NO_MEMO, Contracts
from channeld.chain.intents import Intent, Status
from channeld.chain.reads import RpcChain
from channeld.chain.sender import Sender
from channeld.core.channel import MAX_LOCKS, Channel, Phase, Session
from channeld.core.events import Connected
from channeld.node.chainbook import note_fact
from channeld.node.config import Config
from channeld.node.ledger import Book
from channeld.node.lines import Line, Lines
from channeld.node.reserve import Reserve
from channeld.node.unpaid import IN_ALL, OF_PEER, Unpaid
from channeld.node.world import World
from channeld.storage.store import Batch, Store, narrow, wide
from channeld.wire import memo
from channeld.wire import messages as wire

log = logging.getLogger(__name__)
PATIENCE: Final = 30.0
LONGEST_PERIOD: Final = 30 * 86_400
_MEANT: Final = "SELECT id, amount FROM openings WHERE amount > ?"


@dataclass(eq=False, slots=True)
class _Ours:
    """A handshake that we began."""

    sent: wire.OpenChannel
    line: Line
    claim: Callable[[ChannelId], Batch]
    taken: bool = False
    """Whether the peer has accepted: from here on the channel is being saved, whoever still waits for it."""
    answered: trio.Event = field(default_factory=trio.Event)
    channel: Channel | None = None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class _Theirs:
    """A handshake of the peer's, answered and not yet agreed."""

    channel: Channel
    sealed: bytes
    match: Amount


class Openings:
    """See the file's head. `start(channel)` gives a new channel its actor."""

    def __init__(
        self,
        *,
        config: Config,
        book: Book,
        store: Store,
        world: World,
        lines: Lines,
        chain: RpcChain,
        sender: Sender,
        domain: Domain,
        account_key: Key,
        randomness: Callable[[int], bytes],
        start: Callable[[Channel], Awaitable[None]],
        nursery: trio.Nursery,
        reserve: Reserve,
        unpaid: Unpaid,
    ) -> None:
        self._config, self._book, self._store, self._world, self._lines = config, book, store, world, lines
        self._chain, self._sender, self._domain, self._key = chain, sender, domain, account_key
        self._randomness, self._start, self._nursery = randomness, start, nursery
        self._contracts: Contracts = chain.contracts
        self._reserve, self._unpaid = reserve, unpaid
        self._allowance, self._agreeing = trio.Lock(), trio.Lock()
        self._to_match: dict[ChannelId, Amount] = {}
        self._to_fund: dict[ChannelId, Amount] = {}
        self._funding: dict[ChannelId, tuple[Address, Amount]] = {}
        self._ours: dict[bytes, _Ours] = {}
        self._theirs: dict[tuple[NodeId, ChannelId], _Theirs] = {}
        self._repeated: dict[ChannelId, Line] = {}

    def salt(self, nonce: int) -> bytes:
        """Our salt of the channel with that nonce; found again from the account key alone."""
        return self._key.derive_bytes(f"salt/{nonce}")

    # -- asked from outside

    async def open(
        self,
        peer: NodeId,
        *,
        token: Address,
        amount: Amount,
        peer_amount: Amount,
        challenge_period: Seconds | None,
        public: bool,
        claim: Callable[[ChannelId], Batch] = lambda _: Batch(),
    ) -> ChannelId:
        """Agree on a channel with a connected peer and start depositing `amount`; returns once it is saved.

        `claim(id)`: what stands or falls with the new channel, in the same transaction.
        Refused: unknown_peer, safe_mode, peer_refused, amount_too_large, bad_period.
        """
        self._world.must_be_safe()
        line = self._lines.of(peer)
        if line is None:
            raise Refused("unknown_peer", f"not connected to {peer.hex()}", "connect first, with id@host:port")
        period = challenge_period or self._config.period
        if not self._config.network.min_challenge_period <= period <= LONGEST_PERIOD:
            text = f"a challenge period of {period} s is not allowed on this network"
            raise Refused("bad_period", text, f"{self._config.network.min_challenge_period} s to {LONGEST_PERIOD} s")
        if not 0 <= amount <= MAX_AMOUNT or amount + peer_amount == 0:
            raise Refused("amount_too_small", "a channel needs a deposit", "name an amount above 0")
        asked = self._proposal(token, amount, peer_amount, Seconds(period), public)
        ours = self._ours[asked.open_id] = _Ours(asked, line, claim)
        line.send([asked])
        try:
            with trio.move_on_after(PATIENCE):
                await ours.answered.wait()
            if ours.taken:  # it is about to be saved: an answer that there is no channel would be wrong
                await ours.answered.wait()
        finally:
            del self._ours[asked.open_id]
        if ours.refused is not None:
            raise ours.refused
        if ours.channel is None:
            raise Refused("peer_refused", f"the peer did not answer within {PATIENCE:g} s", "try again later")
        return ours.channel.id

    def _proposal(
        self, token: Address, amount: Amount, peer_amount: Amount, period: Seconds, public: bool
    ) -> wire.OpenChannel:
        nonce = int.from_bytes(self._randomness(8), "big")
        while self._nonce_used(nonce):
            nonce = int.from_bytes(self._randomness(8), "big")
        return wire.OpenChannel(
            open_id=Digest(self._randomness(32)),
            token=token,
            participant=self._key.address,
            payout=self._key.address,
            challenge_period=period,
            close_bond=self._config.network.close_bond,
            nonce=nonce,
            salt=self.salt(nonce),
            deposit_opener=amount,
            deposit_acceptor=peer_amount,
            max_locks=min(self._config.max_locks, MAX_LOCKS),
            public=public,
        )

    def _nonce_used(self, nonce: int) -> bool:
        begun = (theirs.channel.terms.nonce for theirs in self._theirs.values())
        return self._book.actors.uses(nonce) or nonce in begun

    # -- heard from peers

    async def heard(self, line: Line, message: wire.Message) -> None:
        match message:
            case wire.OpenChannel():
                await self._reserve.look_again()
                self._asked(line, message)
            case wire.AcceptChannel():
                await self._accepted(line, message)
            case wire.ChannelAgreed():
                await self._agreed(line, message)
            case wire.OpenRefused():
                ours = self._ours.get(message.open_id)
                if ours is not None and ours.line is line:
                    ours.refused = Refused("peer_refused", f"the peer refuses ({message.code}): {message.text}")
                    ours.answered.set()
            case wire.Error():
                self._unknown(line, ChannelId(message.channel_id))
            case _:
                pass

    def _asked(self, line: Line, asked: wire.OpenChannel) -> None:
        """The acceptor's answer. What we refuse costs us nothing."""
        try:
            self._must_accept(line, asked)
            terms = self._terms(asked, self._key.address, self._key.address, self.salt(asked.nonce))
        except (Refused, ValueError) as fault:
            code = fault.code if isinstance(fault, Refused) else "bad_terms"
            line.send([wire.OpenRefused(open_id=asked.open_id, code=code, text=str(fault)[:200])])
            return
        channel = self._channel(line.peer, terms, asked, Side.B, asked.salt, min(asked.max_locks, self._max_locks))
        sealed = memo.seal_salt(self._key.secret, asked.nonce, asked.salt)
        match = min(asked.deposit_acceptor, self._config.policy_for(asked.token).match_deposit)
        self._theirs[line.peer, channel.id] = _Theirs(channel, sealed, Amount(match))
        line.send(
            [
                wire.AcceptChannel(
                    open_id=asked.open_id,
                    participant=self._key.address,
                    payout=self._key.address,
                    salt=channel.salt_ours,
                    max_locks=channel.max_locks,
                    sealed=sealed,
                ),
            ],
        )

    @property
    def _max_locks(self) -> int:
        return min(self._config.max_locks, MAX_LOCKS)

    def _must_accept(self, line: Line, asked: wire.OpenChannel) -> None:
        network, policy = self._config.network, self._config.policy_for(asked.token)
        self._world.must_be_safe()
        if not self._config.accept_channels:
            raise Refused("not_accepting", "this node opens channels only itself")
        self._forget(line.peer)
        self._unpaid.must_take(line)
        if not network.min_challenge_period <= asked.challenge_period <= LONGEST_PERIOD:
            raise Refused("bad_period", f"a challenge period of {asked.challenge_period} s")
        if not network.close_bond // 2 <= asked.close_bond <= network.close_bond * 4:
            raise Refused("bad_bond", f"a close bond of {asked.close_bond} wei, about {network.close_bond} is usual")
        if asked.close_bond % memo.GWEI or asked.close_bond > memo.MAX_BOND:
            raise Refused("bad_bond", f"a close bond of {asked.close_bond} wei does not fit the deposit's memo")
        if asked.deposit_opener < policy.min_deposit:
            raise Refused("amount_too_small", f"a deposit of {asked.deposit_opener}, at least {policy.min_deposit}")
        match = min(asked.deposit_acceptor, policy.match_deposit) if asked.token == NATIVE else 0
        try:
            self._reserve.must_hold(self.promised + match, strangers=True)
        except Refused as fault:
            log.warning("peer=%s a channel is not accepted: %s", line.peer.hex()[2:10], fault)
            raise Refused("insufficient_gas", "this node could not pay for one more channel's end now") from fault
        if asked.max_locks < 1:
            raise Refused("bad_terms", "a channel without locks")
        if self._nonce_used(asked.nonce):
            raise Refused("nonce_used", "that nonce is in use here, take another")

    def _forget(self, peer: NodeId) -> None:
        """Handshakes that nobody went on with, but for the newest: of this peer, and of all."""
        for known in [name for name in self._theirs if name[0] == peer][: -OF_PEER + 1]:
            del self._theirs[known]
        for known in list(self._theirs)[: -IN_ALL + 1]:
            del self._theirs[known]

    def _terms(self, asked: wire.OpenChannel, participant: Address, payout: Address, salt_b: bytes) -> Terms:
        return Terms(
            participant_a=asked.participant,
            participant_b=participant,
            payout_a=asked.payout,
            payout_b=payout,
            challenge_period=asked.challenge_period,
            salt_commitment=salt_commitment(keccak(asked.salt), keccak(salt_b)),
            close_bond=asked.close_bond,
            nonce=asked.nonce,
        )

    def _channel(
        self, peer: NodeId, terms: Terms, asked: wire.OpenChannel, we: Side, theirs: bytes, max_locks: int
    ) -> Channel:
        return Channel(
            id=channel_id(self._domain, asked.token, terms.hash),
            domain=self._domain,
            token=asked.token,
            terms=terms,
            we=we,
            peer=peer,
            salt_ours=self.salt(asked.nonce),
            salt_theirs=theirs,
            max_locks=max_locks,
            public=asked.public,
        )

    async def _accepted(self, line: Line, said: wire.AcceptChannel) -> None:
        ours = self._ours.get(said.open_id)
        if ours is None or ours.line is not line or ours.taken or ours.answered.is_set():
            return
        asked = ours.sent
        try:
            if not 0 < said.max_locks <= asked.max_locks:
                raise ValueError(f"max_locks of {said.max_locks}")
            terms = self._terms(asked, said.participant, said.payout, said.salt)
            sealed = memo.seal_salt(self._key.secret, asked.nonce, said.salt)
            text = memo.build(terms=terms, salt_a=asked.salt, salt_b=said.salt, sealed_a=sealed, sealed_b=said.sealed)
        except ValueError as fault:
            ours.refused = Refused("peer_refused", f"the peer's answer does not fit: {fault}")
            ours.answered.set()
            return
        channel = self._channel(line.peer, terms, asked, Side.A, said.salt, said.max_locks)
        ours.taken = True
        try:
            with trio.CancelScope(shield=True):  # a line that ends now must not leave a channel without its actor
                await self._save(channel, text, asked.deposit_opener, ours.claim(channel.id))
                line.send([wire.ChannelAgreed(channel_id=channel.id, sealed=sealed)])
                await self._begin(channel, line)
            if asked.deposit_opener:
                self._fund_once_known(channel.id, asked.deposit_opener)
            ours.channel = channel
        finally:
            ours.answered.set()

    async def _agreed(self, line: Line, said: wire.ChannelAgreed) -> None:
        async with self._agreeing:  # one at a time, or all would find the room that is left for one
            await self._agree(line, said)

    async def _agree(self, line: Line, said: wire.ChannelAgreed) -> None:
        name = (line.peer, said.channel_id)
        theirs = self._theirs.get(name)  # it keeps its nonce taken until the channel does
        if theirs is None:
            return
        channel = theirs.channel
        try:  # many may have been begun while there was room for one
            self._unpaid.must_take(line)
            self._reserve.must_hold(self.promised, strangers=True)
        except Refused as fault:
            log.warning("peer=%s an agreed channel is not taken: %s", line.peer.hex()[2:10], fault)
            del self._theirs[name]
            line.send([wire.Error(channel_id=channel.id, code=fault.code, text="there is no room for it any more")])
            return
        salt_a, salt_b = channel.salts
        text = memo.build(
            terms=channel.terms,
            salt_a=salt_a,
            salt_b=salt_b,
            sealed_a=said.sealed,
            sealed_b=theirs.sealed,
        )
        with trio.CancelScope(shield=True):  # as in `_accepted`
            await self._save(channel, text, theirs.match, Batch())
            self._unpaid.agreed(channel.id, line)
            await self._begin(channel, line)
        self._theirs.pop(name, None)  # newer ones may have displaced it meanwhile
        if theirs.match:
            self._to_match[channel.id] = theirs.match

    def _unknown(self, line: Line, id_: ChannelId) -> None:
        """The peer does not know a channel that we have greeted it about. If it never heard that the channel is agreed
        (we died, or the line was cut, before that was said), it is told so now; once on each line, or the two would say
        so for ever. Of an agreement that it has forgotten it makes nothing."""
        actor = self._book.actors.get(id_)
        if actor is None or actor.channel.peer != line.peer or self._repeated.get(id_) is line:
            return
        channel = actor.channel
        if channel.we is not Side.A or channel.phase is not Phase.OPENING or channel.session is not Session.GREETING:
            return
        self._repeated[id_] = line
        sealed = memo.seal_salt(self._key.secret, channel.terms.nonce, channel.salt_theirs)
        line.send([wire.ChannelAgreed(channel_id=id_, sealed=sealed)])
        actor.post(Connected(), line=line)

    async def _save(self, channel: Channel, text: bytes, amount: Amount, claim: Batch) -> None:
        batch = Batch()
        batch.channel(channel)
        batch.extend(claim)
        batch.add(
            "INSERT INTO openings VALUES (?, ?, ?, ?)",
            *(channel.id, text, amount.to_bytes(16, "big"), self._world.now),
        )
        await self._store.commit(batch)

    async def _begin(self, channel: Channel, line: Line) -> None:
        await self._start(channel)
        self._book.actors[channel.id].post(Connected(), line=line)

    # -- money

    def memo_of(self, channel: ChannelId) -> bytes:
        """The memo that some deposit of the channel must carry before we call it open."""
        rows = self._store.rows("SELECT memo FROM openings WHERE id = ?", channel)
        return bytes(rows[0][0]) if rows else b""

    def resume(self) -> None:
        """After a restart: deposits that were meant and may not have been submitted; submitting twice is once."""
        meant = {ChannelId(id_): Amount(narrow(amount)) for id_, amount in self._store.rows(_MEANT, wide(0))}
        for channel in [actor.channel for actor in self._book.actors.values() if actor.channel.id in meant]:
            if channel.we is Side.B and channel.phase in (Phase.OPENING, Phase.OPEN):
                self._to_match[channel.id] = meant[channel.id]
                self.changed(channel)
            elif channel.phase is Phase.OPENING:
                self._fund_once_known(channel.id, meant[channel.id])

    def _fund_once_known(self, channel: ChannelId, amount: Amount) -> None:
        """Deposit as soon as the peer has spoken of the channel: one that died over the handshake knows nothing of it,
        and money paid in would wait for a close without a state."""
        self._to_fund[channel] = amount
        self.changed(self._book.actors[channel].channel)

    def changed(self, channel: Channel) -> None:
        """Our own deposit follows the opener's, so that asking for one costs a stranger as much."""
        if channel.phase is not Phase.OPENING:
            self._repeated.pop(channel.id, None)
            self._to_fund.pop(channel.id, None)  # frozen or over: money would go in only to wait for its way out
        elif channel.id in self._to_fund and channel.session is Session.LIVE:
            self._begin_funding(channel, self._to_fund.pop(channel.id))
        if channel.phase not in (Phase.OPENING, Phase.OPEN):
            self._to_match.pop(channel.id, None)
        elif channel.id in self._to_match and channel.told[Side.A]:
            self._begin_funding(channel, Amount(min(self._to_match.pop(channel.id), channel.told[Side.A])))

    def forgotten(self, channel: ChannelId) -> None:
        """A channel of the peer's is no more: nobody paid into it."""
        self._to_match.pop(channel, None)

    @property
    def promised(self) -> int:
        """Wei that first deposits of ours will still take from the account."""
        agreed = [theirs.match for theirs in self._theirs.values() if theirs.channel.token == NATIVE]
        for waiting in (self._to_fund, self._to_match):
            agreed += [amount for id_, amount in waiting.items() if self._book.actors[id_].channel.token == NATIVE]
        return sum(agreed) + sum(amount for token, amount in self._funding.values() if token == NATIVE)

    def _begin_funding(self, channel: Channel, amount: Amount) -> None:
        self._funding[channel.id] = channel.token, amount
        self._nursery.start_soon(self._fund, channel, amount)

    async def _fund(self, channel: Channel, amount: Amount) -> None:
        try:
            await self._deposit(channel, amount, "0", self.memo_of(channel.id))
        except (Refused, Unreachable) as fault:
            log.error("channel=%s deposit failed: %s", channel.name, fault)
            batch = Batch()
            self._book.events.add(batch, "deposit_failed", channel_id=channel.id, reason=str(fault))
            await self._store.commit(batch)
            self._book.events.ring()
        finally:
            self._funding.pop(channel.id, None)

    async def deposit(self, channel: ChannelId, amount: Amount, name: str) -> Intent:
        """Top up our side of an open channel. `name` makes asking twice asking once."""
        actor = self._book.actors.get(channel)
        if actor is None:
            raise Refused("unknown_channel", "no channel of ours has this id")
        if actor.channel.phase not in (Phase.OPENING, Phase.OPEN):
            raise Refused("channel_closing", f"channel {actor.channel.name} is {actor.channel.phase.value}")
        text = self.memo_of(channel) if actor.channel.phase is Phase.OPENING else NO_MEMO
        return await self._deposit(actor.channel, amount, name, text)

    async def _deposit(self, channel: Channel, amount: Amount, name: str, text: bytes) -> Intent:
        key = f"deposit:{channel.id.hex()}:{name}"
        known = await self._sender.find(key)
        if known is not None and not known.status.over:
            return await self._mined(key, channel)
        if known is not None and known.status is Status.BURIED:
            return known
        call = self._contracts.deposit(channel.token, channel.terms.hash, channel.we, amount, text)
        if channel.token == NATIVE:
            await self._sender.submit(Intent.of(self._key.address, key, call))
            return await self._mined(key, channel)
        async with self._allowance:  # one at a time: an approval replaces the one before
            await self._approve(channel, amount, name)
            await self._sender.submit(Intent.of(self._key.address, key, call))
            return await self._mined(key, channel)

    async def _approve(self, channel: Channel, amount: Amount, name: str) -> None:
        """An ERC-20 is taken by the contract, which needs leave: exactly what this deposit needs."""
        if await self._chain.allowance(channel.token, self._key.address) >= amount:
            return
        key = f"approve:{channel.id.hex()}:{name}"
        await self._sender.submit(Intent.of(self._key.address, key, self._contracts.approve(channel.token, amount)))
        done = await self._sender.wait(key)
        if not done.succeeded:
            raise Refused("deposit_failed", f"approve: {done.reason}")

    async def _mined(self, key: str, channel: Channel) -> Intent:
        done = await self._sender.wait(key)
        if not done.succeeded or done.receipt is None:
            raise Refused("deposit_failed", f"the deposit was not made: {done.reason}", "has the account enough?")
        batch = Batch()
        note_fact(batch, channel.id, "open_tx", done.receipt.tx_hash)
        await self._store.commit(batch)
        return done
