"""R16: a frozen channel signs no state, ever again. One place does it, so that it is done the same way each time."""

from __future__ import annotations

from channeld.base.quick import replace
from channeld.core.channel import Channel, Phase
from channeld.core.effects import Frozen, Note, Step
from channeld.core.messages import Fault


def freeze(channel: Channel, reason: str, *, tell: str = "") -> Step:
    """Stop signing. With `tell`, a code, the peer is told why."""
    if channel.phase not in (Phase.OPENING, Phase.OPEN):
        return Step(channel)
    notes: tuple[Note, ...] = (Frozen(reason=reason),)
    sends = (Fault(code=tell, text=reason[:200]),) if tell else ()
    return Step(replace(channel, phase=Phase.FROZEN, reason=reason[:200], waiting=None), sends, notes)
