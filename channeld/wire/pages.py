"""What stands in a `GossipPage`: whole messages of gossip of one class, each behind its length (2 bytes, big-endian).

A page is asked for with a `GossipQuery`, so that gossip in bulk never comes faster than the asker can judge it. An
answer has `MOST` pages at most. The classes are asked for in the order of `KINDS`: a policy means nothing before its
channel is known, nor does a node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from channeld.base.errors import Malformed
from channeld.wire.messages import (
    MAX_PAGE,
    ChannelAnnouncement,
    ChannelUpdate,
    NodeAnnouncement,
    decode,
)

MOST: Final = 8
"""Pages of an answer."""
CHANNELS: Final = 49
POLICIES: Final = 50
NODES: Final = 48
Gossip = ChannelAnnouncement | ChannelUpdate | NodeAnnouncement
KINDS: Final[dict[int, type[Gossip]]] = {
    CHANNELS: ChannelAnnouncement,
    POLICIES: ChannelUpdate,
    NODES: NodeAnnouncement,
}
"""By their numbers."""


def fitting(encoded: Iterable[bytes]) -> int:
    """How many of these messages, from the first, fit into one page."""
    size = count = 0
    for data in encoded:
        size += 2 + len(data)
        if size > MAX_PAGE:
            break
        count += 1
    return count


def join(encoded: Iterable[bytes]) -> bytes:
    """Encoded messages that fit into one page as its bytes."""
    return b"".join(len(data).to_bytes(2, "big") + data for data in encoded)


def split(kind: int, page: bytes) -> list[Gossip]:
    """The messages in a page. Malformed: bytes that are none, or of another class."""
    found, at, cls = list[Gossip](), 0, KINDS[kind]
    while at < len(page):
        end = at + 2 + int.from_bytes(page[at : at + 2], "big")
        if end > len(page):
            raise Malformed("page: it ends within a message")
        message = decode(page[at + 2 : end])
        if not isinstance(message, cls):
            raise Malformed(f"page: a {type(message).__name__} among messages of class {kind}")
        found.append(message)
        at = end
    return found
