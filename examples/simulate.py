"""Payments over a real network with hidden balances: how often they arrive, after how many attempts, at what price.

    python examples/simulate.py --payments 2000

Every channel has a balance that nobody but its ends knows, and strangers keep moving them. One payer pays many payees,
small, medium and large amounts, by each of several ways of choosing a route; each way meets the same network, the same
payments and the same chance. (`beside` asks several ways at the same moment, over the very same balances; the benchmark
does.) A payment is tried until it arrives, no way is left, or ten attempts have failed; what
came back is learned from by those that learn. Everything runs in this process, on `routing` itself; nothing is on a
chain.

`shortest` takes the fewest hops that can carry the amount; `cheapest` the lowest fee; `fixed` the daemon's cost with
the same doubt for every hop; `learning` is the daemon's own; `parts` the same, divided where that is likelier."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import prod, sqrt
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.status import Status
from rich.table import Table

from channeld.base.units import Amount, NodeId, Seconds, Side, Timestamp
from routing.cost import HOP
from routing.edges import Direction, Edge
from routing.graph import Graph
from routing.liquidity import HALF_LIFE, Liquidity
from routing.search import NoRoute, Route, route_over
from routing.splitting import Ask, alone, find_parts
from routing.ways import OwnChannel

sys.path.insert(0, str(Path(__file__).parents[1]))  # the network's data stand beside the benchmark
from tests.bench import lightning
from tests.bench.lightning import NOW, TOKEN

SIZES: Final = {"small": 10**6, "medium": 10**8, "large": 10**9}
"""Base units; of the real network 1,000, 100,000 and 1,000,000 satoshi."""
MAX_ATTEMPTS: Final = 10
GAP: Final = 30
"""Seconds from one payment to the next."""
STRANGERS: Final = 1 - 0.5 ** (GAP / HALF_LIFE)
"""Share of the channels that strangers have used between two payments: nothing is known of them any more."""
EXPIRY: Final = Seconds(900)


# -- the network as it is


class World:
    """Hidden balances. `spread` "even": anywhere between empty and full; "ends": mostly near one of them."""

    def __init__(self, graph: Graph, payer: NodeId, chance: random.Random, spread: str = "even") -> None:
        self._chance, self._channels = chance, list(graph.channels())
        self.balance: dict[Direction, int] = {}
        for channel in self._channels:
            here = self._share(spread) if payer not in (channel.node_a, channel.node_b) else 0.5
            self.balance[channel.channel_id, Side.A] = held = round(channel.capacity * here)
            self.balance[channel.channel_id, Side.B] = channel.capacity - held
        self._payer, self._spread = payer, spread

    def _share(self, spread: str) -> float:
        if spread == "even":
            return self._chance.random()
        side = self._chance.betavariate(0.3, 3)
        return side if self._chance.random() < 0.5 else 1 - side

    def drift(self) -> None:
        """Strangers pay each other."""
        for channel in self._chance.sample(self._channels, round(len(self._channels) * STRANGERS)):
            if self._payer not in (channel.node_a, channel.node_b):
                here = round(channel.capacity * self._share(self._spread))
                self.balance[channel.channel_id, Side.A] = here
                self.balance[channel.channel_id, Side.B] = channel.capacity - here

    def move(self, direction: Direction, amount: int) -> None:
        channel_id, side = direction
        self.balance[direction] -= amount
        self.balance[channel_id, side.other] += amount

    def own(self, channels: Sequence[OwnChannel]) -> list[OwnChannel]:
        return [
            OwnChannel(
                channel_id=one.channel_id,
                side=one.side,
                peer=one.peer,
                token=one.token,
                spendable=Amount(self.balance[one.channel_id, one.side]),
            )
            for one in channels
        ]

    def lock(self, route: Route) -> int | None:
        """Bind the money of all hops; or bind nothing, and the hop that has too little."""
        for number, hop in enumerate(route.hops):
            if self.balance[hop.direction] < hop.amount:
                for bound in route.hops[:number]:
                    self.balance[bound.direction] += bound.amount
                return number
            self.balance[hop.direction] -= hop.amount
        return None

    def release(self, route: Route, *, paid: bool) -> None:
        for hop in route.hops:
            channel_id, side = hop.direction
            self.balance[(channel_id, side.other) if paid else hop.direction] += hop.amount


# -- ways to choose


class Fixed(Liquidity):
    """The same doubt for every hop, and no memory from one payment to the next."""

    def penalty(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> int:
        del direction, amount, capacity, now
        return 5 * HOP


class Free(Liquidity):
    """No doubt at all."""

    def penalty(self, direction: Direction, amount: Amount, capacity: Amount | None, now: Timestamp) -> int:
        del direction, amount, capacity, now
        return HOP


@dataclass(slots=True)
class Chooser:
    """`choose`: routes for so much that is left to pay; raises NoRoute. `learns`: whether it remembers."""

    choose: Callable[[Ask, Graph, Sequence[Route]], tuple[Route, ...]]
    learns: bool = False
    liquidity: Liquidity = field(default_factory=Liquidity)


def _by(ask: Ask, graph: Graph, liquidity: Liquidity) -> tuple[Route, ...]:
    return (alone(graph, replace(ask, liquidity=liquidity)),)


@lru_cache(maxsize=len(SIZES))
def _carrying(graph: Graph, amount: Amount) -> dict[NodeId, list[Edge]]:
    """Into each node, the directions that can carry an amount and a hundredth for fees; the graph stays as it is."""
    into: dict[NodeId, list[Edge]] = defaultdict(list)
    for target in graph.nodes(TOKEN):
        into[target] = [one for one in graph.edges_into(target, TOKEN) if one.carries(Amount(amount * 101 // 100))]
    return into


def shortest(ask: Ask, graph: Graph, _: Sequence[Route] = ()) -> tuple[Route, ...]:
    """The fewest hops that can carry the amount, backwards from the payee; within the same limit on fees as others."""
    into = _carrying(graph, ask.amount)
    own = {one.peer: one for one in ask.own_channels if one.spendable > ask.amount * 1.01}
    ways: dict[NodeId, tuple[Edge, ...]] = {ask.target: ()}
    queue = deque([ask.target])
    while queue:
        at = queue.popleft()
        if at in own:
            route = route_over(own[at], ways[at][::-1], ask.amount, ask.source, ask.final_expiry_delta)
            if route.fee > ask.max_fee:
                raise NoRoute("fee_budget", "the shortest way is too dear")
            return (route,)
        for edge in into[at]:
            bad = (edge.channel_id, edge.side) in ask.exclude or edge.source == ask.source
            if edge.source not in ways and not bad:
                ways[edge.source] = (*ways[at], edge)
                queue.append(edge.source)
    raise NoRoute("no_route", "no way")


def _bound(routes: Sequence[Route]) -> list[tuple[Direction, Amount]]:
    return [(hop.direction, hop.amount) for route in routes for hop in route.hops[1:]]


def choosers() -> dict[str, Chooser]:
    free, fixed = Free(), Fixed()
    learning, parts = Liquidity(), Liquidity()
    return {
        "shortest": Chooser(shortest),
        "cheapest": Chooser(lambda ask, graph, _: _by(ask, graph, free)),
        "fixed": Chooser(lambda ask, graph, _: _by(ask, graph, fixed)),
        "learning": Chooser(lambda ask, graph, _: _by(ask, graph, learning), learns=True, liquidity=learning),
        "parts": Chooser(lambda ask, graph, stands: find_parts(graph, ask, standing=_bound(stands)), True, parts),
    }


# -- one payment after another


@dataclass(slots=True)
class Paid:
    """What became of one payment."""

    first: bool = False
    arrived: bool = False
    attempts: int = 0
    parts: int = 0
    fee: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Guess:
    """How likely an attempt was thought, and whether it arrived."""

    chance: float
    arrived: bool


@dataclass(slots=True)
class Run:
    """One payer by one chooser."""

    graph: Graph
    world: World
    payer: NodeId
    chooser: Chooser
    channels: Sequence[OwnChannel]
    guesses: list[Guess] = field(default_factory=list)

    def pay(self, payee: NodeId, amount: int, now: Timestamp) -> Paid:
        paid, left, stand = Paid(), amount, list[Route]()
        exclude: set[Direction] = set()
        whole = self._ask(payee, amount, now)
        while paid.attempts < MAX_ATTEMPTS and left:
            own = self.world.own(self.channels)
            ask = replace(whole, amount=Amount(left), own_channels=own, exclude=frozenset(exclude))
            began = time.perf_counter()
            try:
                routes = self.chooser.choose(ask, self.graph, stand)
            except NoRoute:
                break
            finally:
                paid.seconds += time.perf_counter() - began
            paid.attempts += 1
            for route in routes:
                if self._try(route, exclude, now):
                    stand.append(route)
                    left -= route.amount
            if paid.attempts == 1:
                paid.first = not left
        paid.arrived, paid.parts = not left, len(stand)
        for route in stand:
            self.world.release(route, paid=paid.arrived)
            if paid.arrived:
                paid.fee += route.fee
                self._each(route.hops[1:], self.chooser.liquidity.settled, now)
            else:
                self._each(route.hops[1:], self.chooser.liquidity.carried, now)
        return paid

    def would(self, payee: NodeId, amount: int, now: Timestamp) -> bool:
        """Whether the first attempt of a payment would arrive; nothing is paid and nothing learned."""
        try:
            routes = self.chooser.choose(self._ask(payee, amount, now), self.graph, ())
        except NoRoute:
            return False
        bound = [route for route in routes if self.world.lock(route) is None]
        for route in bound:
            self.world.release(route, paid=False)
        return len(bound) == len(routes)

    def _ask(self, payee: NodeId, amount: int, now: Timestamp) -> Ask:
        return Ask(
            source=self.payer,
            target=payee,
            token=TOKEN,
            amount=Amount(amount),
            final_expiry_delta=EXPIRY,
            own_channels=self.world.own(self.channels),
            max_fee=Amount(amount // 20 + 10_000),
            now=now,
            liquidity=self.chooser.liquidity,
        )

    def _try(self, route: Route, exclude: set[Direction], now: Timestamp) -> bool:
        thought = prod(
            self.chooser.liquidity.chance(hop.direction, hop.amount, hop.capacity, now) for hop in route.hops[1:]
        )
        failed = self.world.lock(route)
        self.guesses.append(Guess(thought, failed is None))
        if failed is None:
            return True
        exclude.add(route.hops[failed].direction)
        self._each(route.hops[1:failed], self.chooser.liquidity.carried, now)
        self._each(route.hops[failed : failed + 1], self.chooser.liquidity.failed, now)
        return False

    def _each(self, hops: Sequence[Any], learn: Callable[..., None], now: Timestamp) -> None:
        if self.chooser.learns:
            for hop in hops:
                learn(hop.direction, hop.amount, hop.capacity, now)


def payments(count: int, seed: int) -> Iterator[tuple[NodeId, str]]:
    """Payees and sizes, by turns."""
    chance = random.Random(seed)
    reachable = [payee for _, payee in lightning.pairs()]
    for number in range(count):
        yield chance.choice(reachable), list(SIZES)[number % len(SIZES)]


def payer_of(graph: Graph, seed: int) -> NodeId:
    """A node with some channels, not a hub, and three that hold a large payment and more."""
    enough = SIZES["large"] * 11 // 10
    degree: dict[NodeId, int] = defaultdict(int)
    ample: dict[NodeId, int] = defaultdict(int)
    for channel in graph.channels():
        for node in (channel.node_a, channel.node_b):
            degree[node] += 1
            ample[node] += channel.capacity >= enough
    some = sorted(node for node, _ in lightning.pairs() if 5 <= degree[node] <= 30 and ample[node] >= 3)
    return random.Random(seed).choice(some)


def simulate(
    graph: Graph, count: int, seed: int, name: str, spread: str = "even", tell: Callable[[int], None] = lambda _: None
) -> tuple[dict[str, list[Paid]], list[Guess]]:
    """What became of each payment by size, and of each attempt, with the chooser of that name."""
    run = _run(graph, seed, name, spread)
    found: dict[str, list[Paid]] = {size: [] for size in SIZES}
    for number, (payee, size) in enumerate(payments(count, seed)):
        if payee != run.payer:
            found[size].append(run.pay(payee, SIZES[size], Timestamp(NOW + GAP * number)))
        run.world.drift()
        _refill(run.world, run.channels)
        tell(number)
    return found, run.guesses


def beside(graphs: Mapping[str, Graph], count: int, seed: int, spread: str = "even") -> dict[str, list[set[str]]]:
    """Of each payment by size, by which choosers its first attempt would arrive. The payments are made by `learning`,
    so all of them meet the same pairs, balances and history.

    Args:
        graphs: the choosers and the network, for each an own one as it keeps what it was led by.
    """
    run = _run(graphs["learning"], seed, "learning", spread)
    others = {
        name: Run(graph, run.world, run.payer, choosers()[name], run.channels)
        for name, graph in graphs.items()
        if name != "learning"
    }
    found: dict[str, list[set[str]]] = {size: [] for size in SIZES}
    for number, (payee, size) in enumerate(payments(count, seed)):
        if payee != run.payer:
            asked = payee, SIZES[size], Timestamp(NOW + GAP * number)
            arrives = {name for name, other in others.items() if other.would(*asked)}
            found[size].append(arrives | ({"learning"} if run.pay(*asked).first else set()))
        run.world.drift()
        _refill(run.world, run.channels)
    return found


def guesses(graph: Graph, count: int, seed: int, spread: str = "even") -> list[Guess]:
    """Of payments of any size, medium to twice large, by `learning`: how likely each attempt was thought, and whether
    it arrived. Between the sizes, so that no chance is rare."""
    run, chance = _run(graph, seed, "learning", spread), random.Random(seed)
    for number, (payee, _) in enumerate(payments(count, seed)):
        if payee != run.payer:
            amount = round(SIZES["medium"] * (2 * SIZES["large"] / SIZES["medium"]) ** chance.random())
            run.pay(payee, amount, Timestamp(NOW + GAP * number))
        run.world.drift()
        _refill(run.world, run.channels)
    return run.guesses


def _run(graph: Graph, seed: int, name: str, spread: str) -> Run:
    payer = payer_of(graph, seed)
    world = World(graph, payer, random.Random(seed), spread)
    return Run(graph, world, payer, choosers()[name], lightning.own_channels(graph, payer))


def _refill(world: World, channels: Sequence[OwnChannel]) -> None:
    """The payer's own channels are full again: it is the others' balances that are looked at."""
    for one in channels:
        here, there = (one.channel_id, one.side), (one.channel_id, one.side.other)
        whole = world.balance[here] + world.balance[there]
        world.balance[here], world.balance[there] = whole, 0


# -- what is shown


def interval(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not of:
        return 0.0, 1.0
    share = hits / of
    middle, wide = share + z * z / (2 * of), z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - wide) / (1 + z * z / of), (middle + wide) / (1 + z * z / of)


def difference(wins: int, losses: int, of: int, z: float = 1.96) -> tuple[float, float, float]:
    """Of pairs that were tried both ways: by how much the share of the one is above that of the other, and its 95 %
    interval. Only pairs count in which just one arrived (McNemar); losses and wins have the variance of counts."""
    gain = (wins - losses) / of
    wide = z * sqrt(max(wins + losses, 1) - (wins - losses) ** 2 / of) / of
    return gain - wide, gain, gain + wide


def deciles(guesses: Sequence[Guess]) -> list[tuple[float, float, int]]:
    """For each tenth of the chances: what was thought on the average, how many arrived, of how many."""
    groups: dict[int, list[Guess]] = defaultdict(list)
    for guess in guesses:
        groups[min(9, int(guess.chance * 10))].append(guess)
    return [
        (sum(one.chance for one in some) / len(some), sum(one.arrived for one in some) / len(some), len(some))
        for _, some in sorted(groups.items())
    ]


def _bar(share: float, low: float, high: float, width: int = 40) -> str:
    """A share with its interval: ━ up to it, and ╌ for where it may lie."""
    cells = [" "] * (width + 1)
    for at in range(round(share * width)):
        cells[at] = "━"
    for at in range(round(low * width), round(high * width) + 1):
        cells[at] = "╌" if cells[at] == " " else "─"
    cells[round(share * width)] = "●"
    return "".join(cells)


def show(console: Console, results: dict[str, dict[str, list[Paid]]], guesses: dict[str, list[Guess]]) -> None:
    table = Table(title="payments over the real network, balances hidden")
    for column in ("size", "chosen by", "first attempt", "arrived", "attempts", "parts", "fee ppm", "search ms"):
        table.add_column(column, justify="left" if column in ("size", "chosen by") else "right", no_wrap=True)
    for size, amount in SIZES.items():
        for name, by_size in results.items():
            some = by_size[size]
            done = [one for one in some if one.arrived]
            low, high = interval(sum(one.first for one in some), len(some))
            table.add_row(
                size if name == next(iter(results)) else "",
                name,
                f"{sum(one.first for one in some) / len(some):.1%} ({low:.1%} to {high:.1%})",
                f"{len(done) / len(some):.1%}",
                f"{sum(one.attempts for one in some) / len(some):.2f}",
                f"{sum(one.parts for one in done) / max(1, len(done)):.1f}",
                f"{sum(one.fee for one in done) * 1_000_000 / max(1, amount * len(done)):,.0f}",
                f"{sum(one.seconds for one in some) * 1_000 / max(1, sum(one.attempts for one in some)):.1f}",
            )
    console.print(table)
    console.print("\nfirst attempt arrived, with its 95 % interval")
    for size in SIZES:
        for name, by_size in results.items():
            hits, of = sum(one.first for one in by_size[size]), len(by_size[size])
            console.print(f"  {size:7}{name:9} {_bar(hits / of, *interval(hits, of))} {hits / of:.1%}", highlight=False)
    for name, tried in guesses.items():
        console.print(f"\nhow often an attempt of {name} arrived, by how likely it was thought")
        for thought, arrived, count in deciles(tried):
            line = f"  thought {thought:6.1%} {_bar(arrived, arrived, arrived)} {arrived:6.1%} of {count:,}"
            console.print(line, highlight=False)


def _tell(status: Status, name: str, of: int, number: int) -> None:
    status.update(f"{name}: payment {number + 1} of {of}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=300, help="for each way of choosing (default 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spread", choices=("even", "ends"), default="even", help="where hidden balances lie")
    parser.add_argument("--by", nargs="+", choices=list(choosers()), default=list(choosers()), metavar="NAME")
    given = parser.parse_args()
    console, error = Console(width=None if sys.stdout.isatty() else 110), Console(stderr=True)
    with error.status("reading the network …"):
        graph = lightning.load()
    results, guesses = {}, {}
    for name in given.by:
        with error.status(f"{name} …") as status:
            found, thought = simulate(
                graph, given.payments, given.seed, name, given.spread, partial(_tell, status, name, given.payments)
            )
        results[name] = found
        if choosers()[name].learns:
            guesses[name] = thought
    show(console, results, guesses)


if __name__ == "__main__":
    main()
