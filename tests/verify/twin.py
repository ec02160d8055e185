"""Part `twin`: the Vyper contracts and their Solidity twin, side by side through random and hostile sequences.

Two compilers, two sources, one behaviour: what a bug of one compiler or a slip in one source changes shows up as a
difference. A chunk also fails if its sequences did not meet every reason the contracts can give, for then they would
prove less than they seem to. `tests/contracts/twin/campaign.py` says what a sequence is. The part `wrong twins` turns
it round: twins with one thing changed must be found out.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from tests.contracts.twin import build, campaign
from tests.contracts.twin.pair import Differs
from tests.contracts.twin.wrong import SUBTLE, WRONG
from tests.verify.part import Counts, Found, Part

SEQUENCES: Final = 1_000
"""In a chunk."""


def run(seed: int, chunk: int) -> Counts:
    """One chunk; what its calls ended in, by "call: outcome", and `sequences`, `calls`, `differences`."""
    try:
        tally = campaign.run(build.compiled(), seed, chunk, SEQUENCES)
    except Differs as difference:
        raise Found(str(difference)) from None
    missed = campaign.unseen(tally)
    if missed:
        raise Found(f"chunk {chunk}: no call was refused for {', '.join(sorted(missed))}")
    return {**tally, "differences": 0}


def tools() -> dict[str, str]:
    return {"solc": build.version(), "vyper": version("vyper"), "pyrevm": version("pyrevm")}


def run_wrong(seed: int, chunk: int) -> Counts:
    """A twin with one thing wrong, which must be found out."""
    changes = WRONG | SUBTLE
    name, (file, old, new) = list(changes.items())[chunk]
    try:
        campaign.run(build.compiled({file: (old, new)}), seed, chunk, SEQUENCES * 3)
    except Differs:
        return {"found": 1}
    raise Found(f"{SEQUENCES * 3} sequences do not tell the twin from one where {name}")


PART: Final = Part(
    name="twin",
    what="Vyper contracts and Solidity twin agree, call by call, on random and hostile sequences",
    chunks=100,
    run=run,
    tools=tools,
)

WRONG_TWINS: Final = Part(
    name="wrong-twins",
    what="each of the twins with one thing wrong is told from the Vyper contracts",
    chunks=len(WRONG | SUBTLE),
    run=run_wrong,
    tools=tools,
)
