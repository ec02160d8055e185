"""Every rule of the protocol broken in the code, by subject: what is exchanged for what (`tests.machines.rules`).

`LIVENESS` names those whose loss costs a round trip and nothing else.
"""

from __future__ import annotations

from tests.machines.broken.meeting import MEETING
from tests.machines.broken.mutant import Mutant
from tests.machines.broken.onchain import ONCHAIN
from tests.machines.broken.shell import SHELL
from tests.machines.broken.updating import UPDATING

__all__ = ["LIVENESS", "MUTANTS", "Mutant"]
LIVENESS = frozenset({"the next proposal is not sent with the ack"})
"""Rules whose loss costs a round trip and nothing else."""
MUTANTS = (*UPDATING, *MEETING, *ONCHAIN, *SHELL)
