"""What must hold of every honest daemon at every moment, by name: I10 to I25, I28 (threats, part 4), and R16 and R18.

`Laws.look` is asked after each step of a cluster and reads the daemons' channels and books; `Laws.hear` is told of each
message as it leaves, and reads what is on disk at that moment. A daemon that is down is looked at when it is up again.
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
from channeld.node.service import Service
from channeld.storage.store import narrow
from channeld.wire import messages as wire
from tests.crash.sim import OVERRIDES, Node, Sim, Unlawful, named_token

Place = tuple[str, ChannelId]
"""A node's name and a channel of its."""
_LIVE: Final = (Phase.OPEN, Phase.FROZEN)


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
                known = node.service.store.rows("SELECT 1 FROM preimages WHERE key = ?", key)
                must(known, "I14", node, f"lock {message.lock_id}: its preimage is said and not on disk")
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
