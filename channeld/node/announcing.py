"""Gossip as it is made and taken apart: messages of the wire on one side, what `routing` judges on the other.

Values only. What we say about a channel of ours is signed here; what others say is turned into terms and policies, and
a message that cannot be such a thing at all is garbage: the peer that sent it is disconnected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from channeld.base.digests import Domain, Terms, announcement_digest, channel_id
from channeld.base.errors import Answer, PeerFault
from channeld.base.keys import Key, recover, verify_node
from channeld.base.units import Address, ChannelId, Digest, NodeId, Seconds, Side, Timestamp
from channeld.core.channel import Channel
from channeld.wire import messages as wire
from routing.announcements import node_digest, update_digest, verify_channel_announcement
from routing.fees import Policy

WORD: Final = 32


def terms_of(data: bytes) -> Terms:
    """The eight ABI words of a `ChannelAnnouncement` as terms. PeerFault (DISCONNECT) if they are none."""
    words = [data[at : at + WORD] for at in range(0, len(data), WORD)]
    try:
        participant_a, participant_b, payout_a, payout_b, period, commitment, bond, nonce = words
        terms = Terms(
            participant_a=Address(participant_a[12:]),
            participant_b=Address(participant_b[12:]),
            payout_a=Address(payout_a[12:]),
            payout_b=Address(payout_b[12:]),
            challenge_period=Seconds(int.from_bytes(period, "big")),
            salt_commitment=Digest(commitment),
            close_bond=int.from_bytes(bond, "big"),
            nonce=int.from_bytes(nonce, "big"),
        )
    except ValueError as fault:
        raise PeerFault(Answer.DISCONNECT, f"channel announcement: {fault}") from None
    if terms.abi() != data:
        raise PeerFault(Answer.DISCONNECT, "channel announcement: the terms are not in ABI form")
    return terms


def id_of(message: wire.ChannelAnnouncement) -> ChannelId:
    """Which channel is announced. PeerFault (DISCONNECT) if the terms are none."""
    domain = Domain(chain_id=message.chain_id, manager=message.manager)
    return channel_id(domain, message.token, terms_of(message.terms).hash)


def judge_channel(domain: Domain, message: wire.ChannelAnnouncement) -> None:
    """PeerFault (WARN) if it is for another contract or one of the four signatures is wrong."""
    if (message.chain_id, message.manager) != (domain.chain_id, domain.manager):
        raise PeerFault(Answer.WARN, "channel announcement: of another chain or contract")
    verify_channel_announcement(
        domain=domain,
        token=message.token,
        terms=terms_of(message.terms),
        node_a=message.node_a,
        node_b=message.node_b,
        node_signature_a=message.node_signature_a,
        node_signature_b=message.node_signature_b,
        participant_signature_a=message.participant_signature_a,
        participant_signature_b=message.participant_signature_b,
    )


def policy_of(message: wire.ChannelUpdate) -> Policy:
    """The policy in an update. PeerFault (DISCONNECT) if a value is out of range."""
    try:
        return Policy(
            fee_base=message.fee_base,
            fee_ppm=message.fee_ppm,
            expiry_delta=message.expiry_delta,
            min_lock=message.min_lock,
            max_lock=message.max_lock,
            disabled=message.disabled,
            timestamp=message.timestamp,
        )
    except ValueError as fault:
        raise PeerFault(Answer.DISCONNECT, f"channel update: {fault}") from None


def update_of(channel: ChannelId, side: Side, policy: Policy, node_key: Key) -> wire.ChannelUpdate:
    """Our policy for sending out over `channel`, signed."""
    return wire.ChannelUpdate(
        channel_id=channel,
        side=side,
        timestamp=policy.timestamp,
        disabled=policy.disabled,
        fee_base=policy.fee_base,
        fee_ppm=policy.fee_ppm,
        expiry_delta=policy.expiry_delta,
        min_lock=policy.min_lock,
        max_lock=policy.max_lock,
        signature=node_key.sign(update_digest(channel, side, policy)),
    )


def node_of(timestamp: Timestamp, addresses: Sequence[str], alias: str, node_key: Key) -> wire.NodeAnnouncement:
    """Where we are reached, signed. ValueError: more than four addresses, or texts too long."""
    return wire.NodeAnnouncement(
        node_id=node_key.public,
        timestamp=timestamp,
        addresses=tuple(addresses),
        alias=alias,
        signature=node_key.sign(node_digest(node_key.public, timestamp, addresses, alias)),
    )


def ends(channel: Channel, us: NodeId) -> tuple[NodeId, NodeId]:
    """The nodes of sides A and B of a channel of ours."""
    return (us, channel.peer) if channel.we is Side.A else (channel.peer, us)


def half(channel: Channel, node_key: Key, account_key: Key) -> wire.AnnouncementSignatures:
    """Our two signatures that a channel of ours be announced."""
    digest = announcement_digest(channel.domain, channel.id, *ends(channel, node_key.public))
    return wire.AnnouncementSignatures(
        channel_id=channel.id,
        node_signature=node_key.sign(digest),
        participant_signature=account_key.sign(digest),
    )


def judge_half(channel: Channel, us: NodeId, message: wire.AnnouncementSignatures) -> None:
    """PeerFault (WARN) if these are not the peer's two signatures."""
    digest = announcement_digest(channel.domain, channel.id, *ends(channel, us))
    good = verify_node(digest, message.node_signature, channel.peer)
    if not good or recover(digest, message.participant_signature) != channel.peer_key:
        raise PeerFault(Answer.WARN, "announcement signatures: not the peer's")


def whole(
    channel: Channel, us: NodeId, ours: wire.AnnouncementSignatures, theirs: wire.AnnouncementSignatures
) -> wire.ChannelAnnouncement:
    """The announcement that both halves make."""
    node_a, node_b = ends(channel, us)
    a, b = (ours, theirs) if channel.we is Side.A else (theirs, ours)
    return wire.ChannelAnnouncement(
        chain_id=channel.domain.chain_id,
        manager=channel.domain.manager,
        token=channel.token,
        terms=channel.terms.abi(),
        node_a=node_a,
        node_b=node_b,
        node_signature_a=a.node_signature,
        node_signature_b=b.node_signature,
        participant_signature_a=a.participant_signature,
        participant_signature_b=b.participant_signature,
    )
