"""What must hold of every honest daemon at every moment, by name: I10 to I25, I28 (threats, part 4), and R16 and R18.

`Laws.look` is asked after each step of a cluster and reads the daemons' channels and books; `Laws.hear` is told of each
message as it leaves, and reads what is on disk at that moment. A daemon that is down is looked at when it is up again.
What a daemon may pass on is reckoned here anew, from its rows, its settings and the chain, and not asked of the parts
that decide it: I21 without `Traffic`, I22 without `Reserve`.
What can only be seen at the end (I26, I27, I29) stands in `tests.crash.laws` and in the cluster's audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from channeld.base.keys import sha256
from channeld.base.units import ChannelId, Side
from channeld.core.channel import Channel, Phase
from channeld.core.cooperating import LONGEST, SKEW
from channeld.core.messages import FailLock
from channeld.core.updating import our_locks
from channeld.node.reserve import LEAST
from channeld.node.service import Service
from channeld.storage.store import narrow
from channeld.wire import messages as wire
from tests.contracts.model import COIN
from tests.crash.chain import BASE_FEE, GAS, TIP, Block
from tests.crash.sim import OVERRIDES, Node, Sim, Unlawful, named_token

Place = tuple[str, ChannelId]
"""A node's name and a channel of its."""
_LIVE: Final = (Phase.OPEN, Phase.FROZEN)
_ENDS: Final = 5
"""Transactions that a dispute over one channel may take: close, challenge, `finalize`, `settle`, `resolveLocks`."""
_SEEN: Final = 6
"""Seconds that what a daemon knows of its account may be old: a block, a look at it, and a block that was late."""


def must(good: object, law: str, node: Node | None, text: str) -> None:
    if not good:
        raise Unlawful(f"{law}: {node.name + ': ' if node else ''}{text}")


class Laws:
    """`exempt`: nodes that are not honest, or not what they were; they may be named later."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self.exempt: set[str] = set()
        self.met: Counter[str] = Counter()
        self._versions: dict[Place, int] = {}
        self._signed: dict[tuple[str, ChannelId, int], bytes] = {}
        self._tops: dict[Place, int] = {}
        self._frozen: dict[Place, int] = {}
        self._outcomes: dict[tuple[str, str, str], tuple[str, int]] = {}
        self._told: set[bytes] = set()
        """Keys whose preimage has left a payee."""
        self._times: dict[str, int] = {}
        self._tokens = sum(amount for (token, _), amount in sim.chain.model.balances.items() if token == named_token())

    def start(self) -> None:
        """From now on; what the accounts hold now is all there is."""
        self._tokens = sum(
            amount for (token, _), amount in self.sim.chain.model.balances.items() if token == named_token()
        )
        self.sim.listener = self.hear

    # -- as a message leaves

    def hear(self, node: Node, message: wire.Message) -> None:
        if node.name in self.exempt or node.life is None or node.life.service is None:
            return
        match message:
            case wire.Commit() | wire.CommitAck():
                self._state(node, message.channel_id, int(message.version), message.signature)
            case wire.CoopSign():
                self._signature(node, message.channel_id, int(message.coop_version), message.signature)
            case wire.FulfilLock():
                key = sha256(message.preimage)
                known = node.service.store.rows("SELECT 1 FROM known WHERE key = ?", key)
                must(known, "I14", node, f"lock {message.lock_id}: its preimage is said and not on disk")
                self._revealed(node, node.service, message.channel_id, key)
            case wire.AddLock():
                self._caps(node, node.service)
                self._gas(node, node.service, message)
            case _:
                pass

    def _state(self, node: Node, id_: ChannelId, version: int, signature: bytes) -> None:
        new = self._signature(node, id_, version, signature)
        frozen = self._frozen.get((node.name, id_))
        must(not new or frozen is None or version <= frozen, "R16", node, f"frozen at {frozen}, and signs {version}")

    def _signature(self, node: Node, id_: ChannelId, version: int, signature: bytes) -> bool:
        """I11 and I19, of a signature that leaves; whether its version is new."""
        who, digest = self.sim.signatures[signature]
        must(who == node.key.address, "I11", node, "signs as somebody else")
        place = (node.name, id_, version)
        new = place not in self._signed
        must(self._signed.setdefault(place, digest) == digest, "I11", node, f"version {version} with two contents")
        top = self._tops.get(place[:2], 0)
        must(not new or version > top, "I11", node, f"version {version} after {top}")
        self._tops[place[:2]] = max(top, version)
        on_disk = node.service.store.rows("SELECT version FROM signed WHERE channel = ?", id_)
        must(on_disk and on_disk[0][0] >= version, "I19", node, f"version {version} leaves and is not on disk")
        self.met["signatures looked at"] += new
        return new

    def _revealed(self, node: Node, service: Service, id_: ChannelId, key: bytes) -> None:
        """I15, of a payee: the first time its preimage leaves, the locks that both have signed and that can still be
        enforced are worth what the invoice asks. A part that is not worth resolving counts nothing, unless it is the
        whole payment."""
        known = key in self._told or self._is_registered(key)
        self._told.add(key)
        rows = service.store.rows("SELECT amount FROM invoices WHERE hash = ?", key)
        if known or not rows or service.book.actors[id_].channel.recovering:
            return
        asked, now = 1 if rows[0][0] is None else narrow(rows[0][0]), self.sim.chain.head.timestamp
        parts = [
            lock.amount
            for actor in service.book.actors.values()
            for lock in actor.channel.current.body.locks.values()
            if lock.key == key and lock.sender is not actor.channel.we and lock.expiry > now
            if lock.amount >= min(asked, service.config.resolving(actor.channel.token))
        ]
        must(sum(parts) >= asked, "I15", node, f"says a preimage for {sum(parts)}, the invoice asks {asked}")
        self.met["sets looked at"] += 1
        self.met["sets of two parts"] += len(parts) > 1

    def _is_registered(self, key: bytes) -> bool:
        """On chain, or in a block that a reorg took: everybody has read it."""
        chain = self.sim.chain
        return any(key in block.state.model.registered for block in (chain.head, *chain.lost))

    def _gas(self, node: Node, service: Service, message: wire.AddLock) -> None:
        """I22, of a lock that is passed on: when that was decided, the account could have paid for the end of every
        channel, at twice the price."""
        rows = service.store.rows(
            "SELECT at FROM forwards WHERE out_channel = ? AND out_lock = ?", message.channel_id, message.lock_id
        )
        if not rows:
            return
        chain, since = self.sim.chain, rows[0][0] - _SEEN
        blocks = [block for block in (*chain.lost, *chain.blocks) if block.timestamp >= since]
        channels = [actor.channel for actor in service.book.actors.values()]
        short = [self._short_of(node, channels, block) for block in blocks]
        must(min(short) <= 0, "I22", node, f"passes a lock on and is {min(short)} wei short of ending its channels")
        self.met["passed on by the poor"] += node.name in self.sim.taken

    @staticmethod
    def _short_of(node: Node, channels: Iterable[Channel], block: Block) -> int:
        """Wei that the account lacks in that block to end what stands there of these channels; below 0: has left."""
        model, needed = block.state.model, 0
        for channel in channels:
            there = model.channels.get(channel.id.hex())
            if there is not None and not there.dead:
                needed += _ENDS * GAS * LEAST * (BASE_FEE + TIP)
                needed += 0 if there.deadline else channel.terms.close_bond
        return needed - model.balance(COIN, "0x" + node.key.address.hex())

    # -- after a step

    def look(self, nodes: Iterable[Node]) -> None:
        """Everything that can be seen now of the honest among `nodes` that are up."""
        self._conserved()
        up = [node for node in nodes if node.name not in self.exempt and node.life and node.life.service]
        for node in up:
            if node.life is None or node.life.dead:
                continue
            for actor in node.service.book.actors.values():
                self._channel(node, actor.channel)
            self._forwards(node, node.service)
            self._caps(node, node.service)
            self._final(node, node.service)
        self._paid_once()
        self.met["looks"] += 1

    def _conserved(self) -> None:
        model = self.sim.chain.model
        held = sum(amount for (token, _), amount in model.balances.items() if token == named_token())
        must(held == self._tokens, "I25", None, f"{held - self._tokens:+d} wei came from nowhere")
        due = model.entitled(named_token())
        must(model.balance(named_token(), "manager") == due, "I1", None, "the contract does not hold what it owes")

    def _channel(self, node: Node, channel: Channel) -> None:
        place = (node.name, channel.id)
        said = f"{channel.name} v{channel.current.version}"
        chain = self.sim.chain.model.channels.get(channel.id.hex())
        if channel.phase in _LIVE and chain is not None and not (chain.deadline or chain.dead or chain.version):
            deposits = (chain.deposit_a, chain.deposit_b)
            for state in (channel.current, channel.outstanding):
                least = min(state.body.balance(side, deposits[side]) for side in Side) if state else 0
                must(least >= 0 or channel.recovering, "I10", node, f"{said}: a side has {least}")
        out, top = channel.outstanding, channel.top[0]
        allowed = {channel.current.version, channel.outstanding_version, channel.base}
        settled = channel.phase not in _LIVE  # what was outstanding then is forgotten
        must(
            top in allowed or channel.recovering or settled,
            "I17",
            node,
            f"{said}: signed {top}, which is none of {allowed}",
        )
        if out is not None and channel.phase is Phase.OPEN:
            must(not channel.coop, "I18", node, f"{said}: proposes while a cooperate is live")
        if channel.phase is not Phase.OPEN and channel.phase is not Phase.OPENING:
            self._frozen.setdefault(place, max(channel.current.version, channel.outstanding_version))
        quiet = channel.ask is None or out is None
        must(quiet, "R11", node, f"{said}: proposes while its offer to close together is unanswered")
        if channel.coop is not None:
            longest = self.sim.time() + LONGEST + 2 * SKEW
            must(channel.coop.valid_until <= longest, "R14", node, f"{said}: a cooperate without end")
        must(channel.current.version >= self._versions.get(place, 0), "I20", node, f"{said} went down")
        self._versions[place] = channel.current.version
        locks = channel.current.body.locks
        for side in Side:
            must(channel.current.body.count(side) <= channel.max_locks, "I23", node, f"{said}: too many locks")
        theirs = max((id_ for sender, id_ in locks if sender is not channel.we), default=0)
        must(theirs <= channel.their_last_lock, "I24", node, f"{said}: lock {theirs} of theirs came out of turn")
        ours = max(our_locks(channel), default=0)
        must(ours < channel.next_lock, "I24", node, f"{said}: lock {ours} of ours has no number")
        for update in (*channel.queue, *(out.updates if out else ())):
            given = isinstance(update, FailLock) and update.lock_id in channel.claims
            must(not given, "I14", node, f"{said}: a lock whose preimage is known is given back")

    def _forwards(self, node: Node, service: Service) -> None:
        """I12, I13 and I16, for what is passed on."""
        actors = service.book.actors
        rows = service.store.rows(
            "SELECT in_channel, in_lock, out_channel, out_lock, state, amount_in, amount_out FROM forwards"
        )
        for in_channel, in_lock, out_channel, out_lock, state, amount_in, amount_out in rows:
            must(narrow(amount_in) >= narrow(amount_out), "I16", node, "passes on more than it was given")
            came, out = actors[in_channel].channel, actors[out_channel].channel
            if came.phase is not Phase.OPEN or out.phase is not Phase.OPEN:
                continue
            name, what = (came.we.other, in_lock), f"lock {in_lock} of {came.name} to lock {out_lock} of {out.name}"
            there, here = our_locks(out).get(out_lock), came.current.body.locks.get(name)
            removed = came.outstanding is not None and name not in came.outstanding.body.locks
            waits = there is not None and out_lock not in out.lost
            if state == "offered" and waits:
                must(here is not None and not removed, "I12", node, f"{what}: nobody pays for it")
                self.met["forwards looked at"] += 1
            if state == "fulfilled":
                given = any(
                    isinstance(update, FailLock) and update.lock_id == in_lock
                    for update in (*came.queue, *(came.outstanding.updates if came.outstanding else ()))
                )
                must(not given, "I13", node, f"{what}: paid there, given back here")
            if here is not None and there is not None:
                margin = here.expiry - there.expiry
                must(margin >= OVERRIDES["forward_delta"], "R18", node, f"{what}: {margin} s between them")

    def _caps(self, node: Node, service: Service) -> None:
        """I21: of each outgoing channel one neighbour holds its share of slots and money at most, and few locks are not
        worth resolving. A lock counts while both it and the one it came as stand in a state."""
        limits, actors = service.config.limits, service.book.actors
        now = self._times[node.name] = max(self._times.get(node.name, 0), service.world.now)
        slots: Counter[tuple[ChannelId, bytes]] = Counter()
        values: Counter[tuple[ChannelId, bytes]] = Counter()
        dust: list[set[ChannelId]] = []
        """The channels that each lock not worth resolving is in."""
        for in_channel, in_lock, out_channel, out_lock in service.store.rows(
            "SELECT in_channel, in_lock, out_channel, out_lock FROM forwards"
        ):
            came, out = actors[in_channel].channel, actors[out_channel].channel
            lock = our_locks(out).get(out_lock)
            if lock is None or (came.we.other, in_lock) not in came.current.body.locks:
                continue
            place = (out.id, bytes(came.peer))
            slots[place] += max(1, -((now - lock.expiry) // limits.usual))
            values[place] += lock.amount
            if lock.amount < service.config.resolving(out.token):
                dust.append({came.id, out.id})
        for id_, number in service.store.rows("SELECT channel, lock FROM parts"):
            kept = actors[id_].channel
            lock = kept.current.body.locks.get((kept.we.other, number))
            if lock is not None and lock.amount < service.config.resolving(kept.token):
                dust.append({kept.id})
        for place, count in slots.items():
            out, value = actors[place[0]].channel, values[place]
            if out.phase is not Phase.OPEN:
                continue
            most, holds = out.max_locks * limits.slots_share, sum(map(max, out.heard, out.told))
            must(count * 100 <= most, "I21", node, f"{out.name}: one neighbour has {count} of {out.max_locks} slots")
            must(value * 100 <= holds * limits.value_share, "I21", node, f"{out.name}: {value} of {holds} for one")
            self.met["shares of slots met"] += (count + 1) * 100 > most
        for id_ in actors:
            count = sum(id_ in one for one in dust)
            must(count <= limits.uneconomic, "I21", node, f"{id_.hex()[:8]}: {count} locks are not worth resolving")
            self.met["counts of dust met"] += bool(count) and count == limits.uneconomic
        must(len(dust) <= limits.uneconomic_in_all, "I21", node, f"{len(dust)} locks are not worth resolving")

    def _final(self, node: Node, service: Service) -> None:
        """I28: what has an outcome keeps it, but for a payment that failed and that its owner has begun anew."""
        for table, key, begun in (
            ("payments", "hash", "n"),
            ("transfers", "channel || id || outgoing", "0"),
            ("invoices", "hash", "0"),
        ):
            where = "state NOT IN ('pending', 'open')"
            for name, state, count in service.store.rows(
                f"SELECT hex({key}), state, {begun} FROM {table} WHERE {where}"
            ):
                place = (node.name, table, name)
                before, was = self._outcomes.get(place, (state, count))
                again = before == "failed" and count > was
                must(before == state or again, "I28", node, f"{table}: {before} became {state}")
                self._outcomes[place] = (state, count)

    def _paid_once(self) -> None:
        """I28: no payment has failed whose invoice is paid. A forwarder that is odd may pay and give back."""
        if self.exempt:
            return
        known = self._outcomes.items()
        paid = {name for (_, table, name), (state, _) in known if table == "invoices" and state == "paid"}
        for (who, table, name), (state, _) in known:
            good = table != "payments" or name not in paid or state == "succeeded"
            must(good, "I28", None, f"{who}: {state}, but the payee is paid")
