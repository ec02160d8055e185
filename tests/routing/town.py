"""Small graphs for the routing tests: nodes are numbers, channels are made by a line each."""

from __future__ import annotations

from typing import Any

from channeld.base.keys import sha256
from channeld.base.units import Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp
from routing.fees import Policy
from routing.graph import Channel, Graph
from routing.search import Route, find_route
from routing.ways import OwnChannel

TOKEN = Address(b"\x01" * 20)
NOW = Timestamp(1_800_000_000)
PAYER, PAYEE = 0, 9


def node(number: int) -> NodeId:
    return NodeId(b"\x02" + number.to_bytes(32, "big"))


def channel_id(number: int) -> ChannelId:
    return ChannelId(sha256(number.to_bytes(4, "big")))


def toll(base: int = 1, ppm: int = 1000, delta: int = 600, **more: Any) -> Policy:
    return Policy(fee_base=Amount(base), fee_ppm=ppm, expiry_delta=Seconds(delta), **{"timestamp": NOW, **more})


def join(
    graph: Graph,
    number: int,
    side_a: int,
    side_b: int,
    there: Policy | None,
    back: Policy | None = None,
    capacity: int = 10**9,
) -> ChannelId:
    """Channel `number` with a policy for the way from `side_a` to `side_b`, and perhaps one for the way back."""
    made = Channel(
        channel_id=channel_id(number),
        node_a=node(side_a),
        node_b=node(side_b),
        token=TOKEN,
        capacity=Amount(capacity),
        seen=NOW,
    )
    graph.add(made)
    for side, policy in ((Side.A, there), (Side.B, back)):
        if policy is not None:
            graph.set_policy(made.channel_id, side, policy)
    return made.channel_id


def own(number: int, peer: int, spendable: int = 10**9) -> OwnChannel:
    return OwnChannel(
        channel_id=channel_id(number), side=Side.A, peer=node(peer), token=TOKEN, spendable=Amount(spendable)
    )


def route(graph: Graph, amount: int = 1_000_000, **more: Any) -> Route:
    """From payer to payee with generous limits, unless told otherwise."""
    asked: dict[str, Any] = {
        "source": node(PAYER),
        "target": node(PAYEE),
        "token": TOKEN,
        "amount": Amount(amount),
        "final_expiry_delta": Seconds(900),
        "own_channels": [own(100, 1)],
        "max_fee": Amount(amount),
        "now": NOW,
        **more,
    }
    return find_route(graph, **asked)
