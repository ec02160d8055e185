"""The real network in `data/`, as a graph of ours: nodes and channels by their numbers, a msat as a base unit."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from channeld.base.units import Address, Amount, ChannelId, NodeId, Seconds, Side, Timestamp
from routing.edges import Edge
from routing.fees import MAX_EXPIRY_DELTA, PER_MILLION, Policy
from routing.graph import Channel, Graph
from routing.ways import OwnChannel

DATA: Final = Path(__file__).parent / "data"
TOKEN: Final = Address(b"\x01" * 20)
NOW: Final = Timestamp(1_770_100_000)
BLOCK: Final = 600


def node(number: int) -> NodeId:
    return NodeId(b"\x02" + number.to_bytes(32, "big"))


def channel_id(number: int) -> ChannelId:
    return ChannelId(number.to_bytes(32, "big"))


def rows() -> Iterator[tuple[int, ...]]:
    """Source, target, channel, capacity, base, ppm, blocks, least, most, disabled; two rows for each channel."""
    with gzip.open(DATA / "lightning_graph_2026.csv.gz", "rt", newline="") as file:
        table = csv.reader(file)
        next(table)
        for row in table:
            yield tuple(map(int, row))


def pairs() -> list[tuple[NodeId, NodeId]]:
    found = json.loads((DATA / "lightning_pairs.json").read_text())
    return [(node(source), node(target)) for source, target in found["2026-100000000"]]


def load() -> Graph:
    graph, before = Graph(), None
    for row in rows():
        if before is not None:
            _join(graph, before, row)
            before = None
        else:
            before = row
    return graph


def _join(graph: Graph, there: tuple[int, ...], back: tuple[int, ...]) -> None:
    source, target, number, capacity = there[:4]
    channel = Channel(
        channel_id=channel_id(number),
        node_a=node(source),
        node_b=node(target),
        token=TOKEN,
        capacity=Amount(capacity * 1_000),
        seen=NOW,
    )
    graph.add(channel)
    for side, row in zip(Side, (there, back), strict=True):
        if (said := policy(row, NOW)) is not None:
            graph.set_policy(channel.channel_id, side, said)


def policy(row: tuple[int, ...], at: Timestamp) -> Policy | None:
    """What a direction asks for; None if that was never announced."""
    base, ppm, blocks, least, most, disabled = row[4:]
    if disabled == 2:
        return None
    return Policy(
        fee_base=Amount(base),
        fee_ppm=min(ppm, PER_MILLION),
        expiry_delta=Seconds(min(blocks * BLOCK, MAX_EXPIRY_DELTA)),
        min_lock=Amount(min(least, most)),
        max_lock=Amount(most),
        disabled=bool(disabled) or ppm > PER_MILLION,
        timestamp=at,
    )


def own_channels(graph: Graph, payer: NodeId) -> list[OwnChannel]:
    """The payer's channels as if all in them were its own."""
    return [_own(edge) for edge in graph.edges_into(payer, TOKEN) if edge.capacity]


def _own(edge: Edge) -> OwnChannel:
    return OwnChannel(
        channel_id=edge.channel_id,
        side=edge.side.other,
        peer=edge.source,
        token=TOKEN,
        spendable=edge.capacity or Amount(0),
    )
