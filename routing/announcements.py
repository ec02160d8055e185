"""Which gossip to believe: whose signature, how old, how much of it, and from whom.

Three kinds are told on, in the spirit of BOLT 7. A *channel announcement* proves by four signatures that two
nodes and the two participants of a channel belong together; that the channel exists on chain, and what it
holds, is for the caller to look up, after the signatures, which cost less. A *channel update* gives one side's
policy, a *node announcement* a node's addresses; each is signed by its node and replaces an older one.

What is signed here is a Keccak-256 of a 32-byte domain tag and fixed-width big-endian fields, texts by their
own hash, so no two messages share their bytes; the channel announcement is EIP-712, since wallets' keys sign it:

    node announcement  tag ‖ node 33 ‖ timestamp 4 ‖ features 8 ‖ keccak(alias) ‖ count 1 ‖ keccak(address) ...
    channel update     tag ‖ channel 32 ‖ side 1 ‖ timestamp 4 ‖ disabled 1 ‖ base 11 ‖ ppm 4 ‖ delta 4
                           ‖ min 11 ‖ max 11
    tag                keccak of the name, e.g. "channeld channel update v1"

A channel id holds chain, contract, token and terms, so an update counts for one channel on one chain only.

Judging raises `PeerFault`: IGNORE for what is merely of no use (old news, from the future, too much), WARN
for what an honest node would not have passed on (a wrong signature, values out of range).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from channeld.base.digests import Domain, Terms, announcement_digest, channel_id
from channeld.base.errors import Answer, PeerFault
from channeld.base.keys import keccak, recover, verify_node
from channeld.base.pack import amount_bytes
from channeld.base.units import Address, ChannelId, Digest, NodeId, Seconds, Side, Timestamp, exactly
from routing.fees import NEVER, Policy

MAX_FUTURE: Final = Seconds(86_400)
"""How far ahead of chain time a timestamp may lie; a node that goes farther could never be corrected."""
MAX_ADDRESSES: Final = 4
MAX_ADDRESS_BYTES: Final = 128
MAX_ALIAS_BYTES: Final = 32

_NODE_TAG: Final = keccak(b"channeld node announcement v1")
_UPDATE_TAG: Final = keccak(b"channeld channel update v1")


def node_digest(
    node: NodeId, timestamp: Timestamp, addresses: Sequence[str], alias: str = "", features: int = 0
) -> Digest:
    """What a node signs to tell where it is reached; at most four addresses. ValueError out of range."""
    if len(addresses) > MAX_ADDRESSES:
        raise ValueError(f"{len(addresses)} addresses, at most {MAX_ADDRESSES}")
    texts = [_text(address, MAX_ADDRESS_BYTES, "address") for address in addresses]
    try:
        fixed = exactly(33, node, "node") + timestamp.to_bytes(4, "big") + features.to_bytes(8, "big")
    except OverflowError:
        raise ValueError(f"timestamp {timestamp} or features {features} out of range") from None
    name = _text(alias, MAX_ALIAS_BYTES, "alias")
    return Digest(keccak(_NODE_TAG + fixed + name + bytes([len(texts)]) + b"".join(texts)))


def update_digest(channel: ChannelId, side: Side, policy: Policy) -> Digest:
    """What the node on `side` signs to set its policy."""
    return Digest(
        keccak(
            _UPDATE_TAG
            + exactly(32, channel, "channel id")
            + bytes([side])
            + policy.timestamp.to_bytes(4, "big")
            + bytes([policy.disabled])
            + amount_bytes(policy.fee_base)
            + policy.fee_ppm.to_bytes(4, "big")
            + policy.expiry_delta.to_bytes(4, "big")
            + amount_bytes(policy.min_lock)
            + amount_bytes(policy.max_lock)
        )
    )


def verify_node_announcement(
    *,
    node: NodeId,
    timestamp: Timestamp,
    addresses: Sequence[str],
    alias: str,
    features: int,
    signature: bytes,
    now: Timestamp,
    known: Timestamp = NEVER,
) -> None:
    """Judge a node's addresses. The caller keeps them only for nodes that have a channel.

    Args:
        now: chain time.
        known: timestamp of the announcement we have of this node, 0 for none.

    Raises:
        PeerFault: IGNORE or WARN, see the head of the file.
    """
    _judge_time(timestamp, known, now)
    try:
        digest = node_digest(node, timestamp, addresses, alias, features)
    except ValueError as fault:
        raise PeerFault(Answer.WARN, f"node announcement: {fault}") from None
    _judge_node(digest, signature, node, "node announcement")


def verify_channel_update(
    *,
    channel: ChannelId,
    side: Side,
    node: NodeId,
    policy: Policy,
    signature: bytes,
    now: Timestamp,
    known: Timestamp = NEVER,
) -> None:
    """Judge one direction's policy.

    Args:
        node: the node on `side`, as the channel was announced.
        policy: its construction has checked the ranges.
        known: timestamp of the policy we have of this direction, 0 for none.

    Raises:
        PeerFault: IGNORE or WARN, see the head of the file.
    """
    _judge_time(policy.timestamp, known, now)
    _judge_node(update_digest(channel, side, policy), signature, node, "channel update")


def verify_channel_announcement(
    *,
    domain: Domain,
    token: Address,
    terms: Terms,
    node_a: NodeId,
    node_b: NodeId,
    node_signature_a: bytes,
    node_signature_b: bytes,
    participant_signature_a: bytes,
    participant_signature_b: bytes,
) -> ChannelId:
    """Judge the claim that a channel joins two nodes; whether it is on chain is not known yet.

    Returns:
        The channel's id, to look up on chain: it must be open with a deposit before the graph takes it.

    Raises:
        PeerFault: WARN, when any of the four signatures is wrong or the nodes are the same.
    """
    if node_a == node_b:
        raise PeerFault(Answer.WARN, "channel announcement: a channel of a node with itself")
    channel = channel_id(domain, token, terms.hash)
    digest = announcement_digest(domain, channel, node_a, node_b)
    _judge_node(digest, node_signature_a, node_a, "channel announcement")
    _judge_node(digest, node_signature_b, node_b, "channel announcement")
    signed = (participant_signature_a, participant_signature_b)
    for side, signature in zip(Side, signed, strict=True):
        if recover(digest, signature) != terms.participant(side):
            raise PeerFault(Answer.WARN, f"channel announcement: not signed by participant {side.name}")
    return channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many messages at once, and `each` more in `every` seconds. All 1 or more."""

    burst: int
    every: Seconds
    each: int = 1


GOSSIP_RATE: Final = Rate(burst=10_000, every=Seconds(1), each=20)
"""News of one peer, which come unasked; what is over is found out by asking, within the hour."""
UPDATE_RATE: Final = Rate(burst=10, every=Seconds(60))
"""For one direction of a channel, whoever brings it: LND's default is the same burst at one a minute."""


class Spam:
    """A token bucket per origin (peer, or channel and side), bounded: who was quiet longest is forgotten first.

    Mutable; one owner. Times are whole seconds of any one clock.
    """

    def __init__(self, rate: Rate, *, max_origins: int = 50_000) -> None:
        self._rate = rate
        self._max_origins = max_origins
        self._full_at: OrderedDict[object, int] = OrderedDict()

    def __len__(self) -> int:
        """How many origins are remembered."""
        return len(self._full_at)

    def judge(self, origin: object, now: int) -> None:
        """Count one message of `origin` (anything hashable).

        Raises:
            PeerFault: IGNORE, when it is one too many; it is not counted then.
        """
        # A bucket is one number: the moment when it will be full again, in parts of a second.
        rate, now = self._rate, now * self._rate.each
        full_at = max(self._full_at.get(origin, now), now) + rate.every
        if full_at - now > rate.burst * rate.every:
            raise PeerFault(Answer.IGNORE, "too much gossip from one origin")
        self._full_at[origin] = full_at
        self._full_at.move_to_end(origin)
        while len(self._full_at) > self._max_origins:
            self._full_at.popitem(last=False)


def _judge_time(timestamp: Timestamp, known: Timestamp, now: Timestamp) -> None:
    if timestamp <= known:
        raise PeerFault(Answer.IGNORE, f"gossip of {timestamp}, that of {known} is known")
    if timestamp > now + MAX_FUTURE:
        raise PeerFault(Answer.IGNORE, f"gossip of {timestamp}, {timestamp - now} s from now")


def _judge_node(digest: Digest, signature: bytes, node: NodeId, what: str) -> None:
    if not verify_node(digest, signature, node):
        raise PeerFault(Answer.WARN, f"{what}: not signed by {node.hex()}")


def _text(text: str, most: int, what: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        raise ValueError(f"{what} is no text") from None
    if len(data) > most:
        raise ValueError(f"{what} of {len(data)} bytes, at most {most}")
    return keccak(data)
