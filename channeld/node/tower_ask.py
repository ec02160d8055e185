"""What a tower knows of a channel that we do not: asked at every start, before a peer can make us sign anything.

Each upload is numbered and signed by us, and saved before it leaves. So a tower that shows an upload of ours with a
higher number than any we remember proves that our database is older than the channel. What it holds is sealed for us:
the newest state with both signatures, which is adopted: in full or, if we do not know its locks, in
outline. A tower that says it holds nothing proves nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from channeld.base.errors import Answer, PeerFault, Refused
from channeld.base.units import ChannelId, Digest, NodeId, Version, short
from channeld.core.channel import Body, Channel, Outline
from channeld.core.events import Recover
from channeld.core.messages import Proof
from channeld.node.tower_saved import LinkState, load_link
from channeld.storage.store import Batch
from channeld.wire import appointment
from channeld.wire.messages import Appointment, Message

if TYPE_CHECKING:
    from channeld.node.tower_link import Kit
    from channeld.node.towers import Tower

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """An upload of ours that a tower gave back. `proof`: its state; `outline` instead if we do not know its locks."""

    seq: int
    version: Version
    blob_hash: Digest
    proof: Proof | None = None
    outline: Outline | None = None


def read_copy(kit: Kit, tower: NodeId, auth: NodeId, channel: Channel | None, hint: Digest, answer: Message) -> Copy:
    """What the tower shows.

    Raises:
        PeerFault: no upload that `auth` has signed for this tower and hint.
        Malformed: signed by us, but not sealed by us.
    """
    if not isinstance(answer, Appointment):
        raise PeerFault(Answer.DISCONNECT, f"{type(answer).__name__} in answer to a question")
    hashed = appointment.blob_hash(answer.blob)
    ours = appointment.is_update_signed(kit.domain, tower, auth, hint, answer.seq, hashed, answer.signature)
    if answer.hint != hint or not ours:
        raise PeerFault(Answer.DISCONNECT, "the tower claims an update that we never signed")
    version, kept = appointment.open_backup(answer.blob, hint=hint, seq=answer.seq, backup_key=kit.backup_key)
    if channel is None:
        return Copy(seq=answer.seq, version=version, blob_hash=hashed)
    evidence = appointment.open_blob(answer.blob, salt=channel.salt_ours, tower=tower, auth=auth, seq=answer.seq)
    proof = _proof(channel, evidence, kept)
    outline = _outline(evidence, kept) if proof is None else None
    return Copy(seq=answer.seq, version=version, blob_hash=hashed, proof=proof, outline=outline)


def _outline(evidence: appointment.Evidence, kept: appointment.Body) -> Outline:
    return Outline(
        version=evidence.version,
        body_hash=evidence.body_hash,
        signature_a=evidence.signature_a,
        signature_b=evidence.signature_b,
        net=kept.net,
        locked_ab=kept.locked_ab,
        locked_ba=kept.locked_ba,
        locks_hash=kept.locks_hash,
    )


def _proof(channel: Channel, evidence: appointment.Evidence, kept: appointment.Body) -> Proof | None:
    """The state in full. The copy has its locks' hash only: they must be none, or the same as in a state we know."""
    known = [MappingProxyType({}), channel.current.body.locks, channel.newest_body.locks]
    for locks in known:
        body = Body(kept.net, locks)
        if body.hash(channel.blind(evidence.version)) == evidence.body_hash:
            return Proof(
                version=evidence.version,
                body=body,
                signature_a=evidence.signature_a,
                signature_b=evidence.signature_b,
            )
    return None


def remembered(kit: Kit, tower: NodeId, channel: Channel) -> LinkState:
    """What our own database says that we gave the tower."""
    rows = kit.store.rows("SELECT saved FROM receipts WHERE tower = ? AND channel = ?", tower, channel.id)
    return load_link(rows[0][0]) if rows else LinkState()


async def ahead(kit: Kit, tower: Tower, name: ChannelId, copy: Copy) -> None:
    """A tower shows an upload of ours that we do not remember: this database is a copy. In recovery for good."""
    actor = kit.book.actors[name]
    newer = copy.version > actor.channel.best.version
    if actor.channel.recovering and not newer:
        return
    log.error(
        "tower=%s channel=%s holds update %s with version %s, we know %s: was the database restored?",
        *(short(tower.node[1:]), actor.channel.name, copy.seq, copy.version, actor.channel.current.version),
    )
    batch, reason = Batch(), f"a tower holds update {copy.seq} of version {copy.version}"
    kit.book.events.add(
        *(batch, "tower_ahead"), tower=tower.node, channel_id=name, seq=copy.seq, version=copy.version, newer=newer
    )
    try:
        await actor.ask(Recover(reason=reason, proof=copy.proof, outline=copy.outline), writes=batch)
    except Refused as fault:  # it is over on chain, and signs nothing anyway
        log.info("channel=%s %s", actor.channel.name, fault)
    kit.book.events.ring()
