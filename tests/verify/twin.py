"""Part `twin`: the Vyper contracts and their Solidity twin, side by side through random and hostile sequences.

Two compilers, two sources, one behaviour: what a bug of one compiler or a slip in one source changes shows up as a
difference. A chunk also fails if its sequences did not meet every reason the contracts can give, for then they would
prove less than they seem to. What both do wrong is no difference: after each call laws judge them that are neither's.
`tests/contracts/twin/campaign.py` says what a sequence is. The part `wrong-twins` turns it round: twins with one thing
changed must be found out, and so must what is changed in both.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

import contracts
from tests.contracts.twin import build, campaign
from tests.contracts.twin.laws import Unlawful
from tests.contracts.twin.pair import Differs
from tests.contracts.twin.wrong import HOLES, SUBTLE, WRONG, Hole
from tests.verify.part import Counts, Found, Part

MANAGER: Final = Path(contracts.__file__).parent / "ChannelManager.vy"
ABOUT: Final = ("tests/contracts/twin", "tests/contracts/zoo.py", "contracts/mocks")
SEQUENCES: Final = 1_000
"""In a chunk."""


def run(seed: int, chunk: int) -> Counts:
    """One chunk; what its calls ended in, by "call: outcome", and `sequences`, `transactions`, `views`, `differences`.

    A transaction counts once, though each contract is sent it (and again with plenty, if it was sent little gas); so
    does a view. What is sent to a token or a receiver counts too.
    """
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
    """A twin with one thing wrong, or both contracts with the same; it must be found out."""
    changes = WRONG | SUBTLE
    if chunk >= len(changes):
        return _run_hole(seed, chunk, *list(HOLES.items())[chunk - len(changes)])
    name, (file, old, new) = list(changes.items())[chunk]
    try:
        campaign.run(build.compiled({file: (old, new)}), seed, chunk, SEQUENCES * 3)
    except Differs as difference:
        if isinstance(difference, Unlawful):
            raise Found(f"where only the twin is wrong, a difference comes first: {difference}") from None
        return {"found": 1}
    raise Found(f"{SEQUENCES * 3} sequences do not tell the twin from one where {name}")


def _run_hole(seed: int, chunk: int, name: str, hole: Hole) -> Counts:
    """Both contracts wrong in the same way, which a law must find."""
    ours, (file, old, new) = hole
    code = build.vyper(MANAGER, *ours)
    try:
        campaign.run(build.compiled({file: (old, new)}), seed, chunk, SEQUENCES * 3, code)
    except Unlawful:
        return {"found by a law": 1}
    except Differs as difference:
        raise Found(f"not the same hole in both, {name}: {difference}") from None
    raise Found(f"no law of {SEQUENCES * 3} sequences finds that {name}")


PART: Final = Part(
    name="twin",
    what="Vyper contracts and Solidity twin agree, call by call, on random and hostile sequences",
    chunks=100,
    run=run,
    tools=tools,
    about=ABOUT,
    missing=build.missing,
    shown=(
        "sequences",
        "transactions",
        "views",
        "differences",
        "event: Settled",
        "event: LocksResolved",
        "event: Challenged",
    ),
)

WRONG_TWINS: Final = Part(
    name="wrong-twins",
    what="each twin with one thing wrong is told from the Vyper contracts; what is wrong in both, the laws find",
    chunks=len(WRONG | SUBTLE | HOLES),
    run=run_wrong,
    tools=tools,
    about=ABOUT,
    missing=build.missing,
)
