"""The judge: is this close older than the evidence, and what must be done by when? One judge, two employers.

A node guards its own channels with `judge`, a tower those of its clients. It looks at what the chain shows of a
closing channel (`Case`) and at the newest version its employer can prove, and names the acts that are due. It is
asked again at every block, so an act that was lost, reverted or reorged away is simply named again; the sender
knows each by its key and does it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from channeld.base.units import Seconds, Timestamp, Version


class Verdict(Enum):
    """What a closing channel needs now."""

    CHALLENGE = "challenge"
    """Present the newer state, before the deadline if at all possible."""
    ATTACH = "attach"
    """The newest state stands already, but without the delegation that pays us: bring it (tie rule)."""
    WAIT = "wait"
    FINALIZE = "finalize"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A closing channel as the chain shows it."""

    version: Version
    """The version that would win now."""
    deadline: Timestamp
    """From the first block later than this, `finalize` is possible."""
    delegated: bool
    """Somebody's delegation for `version` is recorded."""
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the employer can prove: a state with both signatures, and for a tower the victim's delegation."""

    version: Version
    delegated: bool = False
    delay: Seconds = Seconds(0)
    """Seconds after the close before which the delegation earns nothing."""


def judge(case: Case, evidence: Evidence, *, now: Timestamp, period: Seconds) -> Verdict:
    """What `case` needs of somebody who holds `evidence`.

    Args:
        now: time of the newest block.
        period: the channel's challenge period as the contract clamps it; close time = deadline - period.

    A newer state is presented at once when it earns nothing, else as soon as the delegation counts, and in any
    case from 60 % of the period on. A challenge is still good after the deadline, until `finalize` has run.
    """
    if case.final:
        return Verdict.DONE
    opens = case.deadline - period + evidence.delay
    earning = not evidence.delegated or now >= opens
    late = now >= case.deadline - period * 2 // 5
    if case.version < evidence.version:
        return Verdict.CHALLENGE if earning or late else Verdict.WAIT
    if case.version == evidence.version and evidence.delegated and not case.delegated and now >= opens:
        return Verdict.ATTACH
    return Verdict.FINALIZE if now > case.deadline else Verdict.WAIT
