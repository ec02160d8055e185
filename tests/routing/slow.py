"""The reference for the search: Dijkstra's algorithm over labels, exact, without bounds, shortcuts or memory.

It walks networkx's graph and asks each `Policy` and `Liquidity` itself. Only a label that is no dearer, no larger and,
where limits bind, no longer in hops or time makes another needless; so what it finds is the optimum, slowly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from heapq import heappop, heappush
from itertools import count

from channeld.base.units import Address, Amount, NodeId, Seconds, Timestamp
from routing.cost import RISK, UNIT
from routing.edges import Direction, Edge
from routing.graph import Graph
from routing.liquidity import Liquidity
from routing.ways import OwnChannel

Found = tuple[int, int, int, int]
"""Cost, amount sent, lock time, hops."""


def slowest_best(
    graph: Graph,
    *,
    source: NodeId,
    target: NodeId,
    token: Address,
    amount: Amount,
    final_expiry_delta: Seconds,
    own_channels: Iterable[OwnChannel],
    now: Timestamp,
    max_fee: int | None = None,
    max_hops: int | None = None,
    max_expiry_delta: int | None = None,
    liquidity: Liquidity | None = None,
    exclude: Collection[Direction] = (),
    short: Mapping[Direction, Amount] | None = None,
    hints: Collection[Edge] = (),
) -> Found | None:
    """The cheapest way, or None if there is none within the limits."""
    most: dict[NodeId, int] = defaultdict(int)
    for channel in own_channels:
        if channel.token == token:
            most[channel.peer] = max(most[channel.peer], channel.spendable)
    bounded = not (max_fee is max_hops is max_expiry_delta is None)
    settled: dict[NodeId, list[Found]] = defaultdict(list)
    ticket = count()
    heap: list[tuple[Found, int, NodeId]] = [((0, amount, final_expiry_delta, 0), next(ticket), target)]
    while heap:
        label, _, node = heappop(heap)
        cost, due, expiry, hops = label[0], Amount(label[1]), label[2], label[3]
        if node == source:
            return label
        if any(
            other[1] <= due and (not bounded or (other[2] <= expiry and other[3] <= hops)) for other in settled[node]
        ):
            continue
        settled[node].append(label)
        reached = [((cost, due, expiry, hops + 1), source)] if most[node] >= due else []
        for edge in (*graph.edges_into(node, token), *(hint for hint in hints if hint.target == node)):
            policy = edge.policy
            direction = edge.channel_id, edge.side
            if direction in exclude or due >= (short or {}).get(direction, due + 1):
                continue
            if edge.source == source or policy is None or not edge.carries(due) or policy.min_lock > amount:
                continue
            sent = due + policy.fee(due)
            price = cost + (sent - due) * UNIT + sent * policy.expiry_delta * RISK
            if liquidity is not None:
                price += due * liquidity.penalty((edge.channel_id, edge.side), due, edge.capacity, now)
            reached.append(((price, Amount(sent), Seconds(expiry + policy.expiry_delta), hops + 1), edge.source))
        for farther, place in reached:
            over = (
                (max_fee is not None and farther[1] > amount + max_fee)
                or (max_hops is not None and farther[3] > max_hops)
                or (max_expiry_delta is not None and farther[2] > max_expiry_delta)
            )
            if not over:
                heappush(heap, (farther, next(ticket), place))
    return None
