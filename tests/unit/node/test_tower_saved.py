"""Which bodies a link keeps: whatever its tower may bring to the chain."""

from __future__ import annotations

from types import MappingProxyType

from channeld.base.units import Digest, LockId, Side, Signature, Timestamp, Version
from channeld.core.channel import MAX_LOCKS, Body
from channeld.node.tower_saved import SENT, Held, LinkState, load_link
from channeld.wire.messages import AppointmentReceipt
from tests.roles import lock

RECEIPT = AppointmentReceipt(
    hint=Digest(bytes(32)),
    seq=1,
    blob_hash=Digest(bytes(32)),
    head_number=1,
    head_time=Timestamp(1),
    valid_until=Timestamp(2),
    signature=Signature(bytes(65)),
)


def held(version: int) -> Held:
    return Held(version=Version(version), entrusted=frozenset(), receipt=RECEIPT)


def test_the_state_of_the_newest_receipt_stays_however_many_are_sent_after_it() -> None:
    state = LinkState()
    state.sending(Version(3), Body(3))
    state.receipted(held(3))
    for version in range(5, 25, 2):
        state.sending(Version(version), Body(version))
    assert sorted(state.sent) == [3, *range(25 - 2 * (SENT - 1), 25, 2)]
    state.receipted(held(23))
    assert sorted(state.sent) == [23]


def test_the_fullest_link_can_be_read_again() -> None:
    """As many states as are kept, each with as many locks as there can be, and the largest blob."""
    full = Body(
        -1,
        MappingProxyType(
            {(side, LockId(n)): lock(side, n, 2**87, n) for side in Side for n in range(1, MAX_LOCKS + 1)}
        ),
    )
    state = LinkState()
    for version in range(3, 3 + 2 * SENT, 2):
        state.sending(Version(version), full)
    assert len(state.sent) == SENT - 1
    state.held = held(1)
    state.sent = {Version(1): full, **state.sent}
    assert load_link(state.save()).sent == state.sent
