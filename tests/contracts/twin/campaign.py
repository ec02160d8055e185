"""Sequences of calls on both contracts side by side, and what they reached.

After each call the two are compared, and judged by laws that are neither's (`laws.py`). A sequence is some thirty
calls on one to three channels. Which moves are likely depends on how far the channel has come, so that most sequences
see a close, a challenge, a settlement and locks resolved. Everything comes from (seed, chunk, number), so any finding
can be played again alone.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import contracts
from tests.contracts.twin import deposits, disputes
from tests.contracts.twin.build import Built
from tests.contracts.twin.calls import selectors, topics
from tests.contracts.twin.pair import Differs
from tests.contracts.twin.player import AT_ONCE, DEAD, FINAL, Call, Player
from tests.contracts.twin.table import Table

Move = Callable[[Player], Call]
LONGEST: Final = 30
"""Calls of a sequence at most."""
SHOWN: Final = 240
"""How much of each call a difference is told with; seed, chunk and number give the whole again."""
OPEN: Final[dict[Move, int]] = {
    deposits.deposit: 8,
    deposits.many: 3,
    deposits.authorization: 3,
    deposits.permit: 3,
    deposits.cooperate: 4,
    disputes.close: 10,
}
CLOSING: Final[dict[Move, int]] = {
    disputes.challenge: 6,
    disputes.challenges: 4,
    deposits.cooperate: 2,
    disputes.finalize: 2,
    disputes.settle: 3,
    disputes.at_once: 4,
    disputes.travel: 2,
    disputes.secrets: 1,
    disputes.scalars: 1,
}
FIXED: Final[dict[Move, int]] = {
    disputes.settle: 8,
    disputes.at_once: 8,
    deposits.cooperate: 3,
    disputes.challenge: 1,
    disputes.finalize: 1,
}
OVER: Final[dict[Move, int]] = {
    disputes.resolve: 7,
    disputes.forge: 4,
    disputes.at_once: 2,
    disputes.secrets: 4,
    disputes.scalars: 4,
    disputes.travel: 1,
    deposits.withdraw: 4,
}
ALWAYS: Final[dict[Move, int]] = {
    deposits.mood: 2,
    deposits.switch: 1,
    deposits.withdraw: 1,
    disputes.nonsense: 1,
    disputes.secrets: 1,
}
LAWS: Final = {f"law: {which} list, {kind}" for which in ("the", "another") for kind in ("flat", "chained")}
"""What has to be tried on records of both kinds."""
VIEWS: Final = ("REGISTRY", "PERMIT2", "MIN_PERIOD", "owed", "closings", "channel")
ANY: Final[dict[Move, int]] = OPEN | CLOSING | FIXED | OVER | ALWAYS


def next_move(player: Player) -> Move:
    """A move that fits one of the channels, mostly."""
    if player.slip(16):
        return player.rng.choice(list(ANY))
    if player.debts and player.slip(6):
        return deposits.withdraw
    if player.listed() and player.slip(3):
        return disputes.forge
    player.focus = player.rng.choice(player.lines)
    stored = player.stored(player.focus)
    if stored.flags & DEAD and stored.record == bytes(32) and player.rng.randrange(2):
        player.renew()
        stored = player.stored(player.focus)
    if stored.flags & DEAD:
        fitting = OVER
    elif stored.flags & FINAL:
        fitting = FIXED
    elif stored.deadline:
        fitting = CLOSING
    else:
        fitting = OPEN
    weights = fitting | ALWAYS
    return player.rng.choices(list(weights), weights=list(weights.values()))[0]


def play(table: Table, seed: int, chunk: int, number: int, tally: Counter[str]) -> None:
    """One sequence; Differs with the calls of it, their beginnings, if the two do not agree; Unlawful if both err."""
    rng = random.Random(f"{seed} {chunk} {number}")
    player = Player(table, rng, tally)
    try:
        for _ in range(rng.randrange(8, LONGEST + 1)):
            player.pair.travel(player.now + rng.choice((0, 1, 1, 12)))
            call = next_move(player)(player)
            player.send(call)
        player.finish()
    except Differs as difference:
        story = "\n".join(line[:SHOWN] for line in player.trail)
        raise type(difference)(f"seed {seed}, chunk {chunk}, sequence {number}: {difference}\n{story}") from None
    tally["sequences"] += 1


def run(twin: Mapping[str, Built], seed: int, chunk: int, count: int, ours: bytes | None = None) -> Counter[str]:
    """`count` sequences of a chunk; what was reached, by "call: outcome".

    `ours` is the init code of another manager than the committed one.
    """
    table = Table(twin, ours)
    tally: Counter[str] = Counter()
    for number in range(count):
        play(table, seed, chunk, number, tally)
    tally["views"] += table.pair.views
    return tally


def reasons() -> set[str]:
    """Every reason a call of the Vyper contracts can give, from their sources; not those of the constructor."""
    found: set[str] = set()
    for name in ("ChannelManager.vy", "SecretRegistry.vy"):
        text = (Path(contracts.__file__).parent / name).read_text(encoding="utf-8")
        found |= set(re.findall(r'assert .*, "([^"]+)"', text)) | set(re.findall(r'return "([^"]+)"', text))
    return found - {"registry", "period"}


def unseen(tally: Mapping[str, int]) -> set[str]:
    """Reasons that no call was given, events that none emitted, functions and overloads that never succeeded."""
    seen = {key.partition(": ")[2] for key in tally}
    names = {name for name, _ in selectors("ChannelManager") if name not in VIEWS} | {"register", "register_points"}
    names |= {"close by order", "settle and resolve"}
    missed = (reasons() | set(topics("ChannelManager").values())) - seen
    missed |= {name for name in names if not tally.get(f"{name}: ok")}
    missed |= ({AT_ONCE} | LAWS) - set(tally)
    return missed | {place for place in ("vyper", "twin") if not tally.get(f"little gas, {place}: gas")}
