"""The rows of the benchmark: what each is called, what it should reach, and what others have published.

A peer's figure stands with its source and its conditions. The first of a row is the best one whose conditions come
near to ours; the table's ratio is against it, the others are printed beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final, Literal

from tests.contracts.gas import BESIDE

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What another system reaches, in the row's unit. `source` says where that was published or how it was measured."""

    name: str
    value: float
    source: str
    conditions: str = ""

    def json(self) -> dict[str, Any]:
        return {"value": self.value, "source": self.source, "conditions": self.conditions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure to be measured."""

    name: str
    what: str
    unit: str
    target: float
    better: Better
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure measured. `note`: what a reader of the table should know of the conditions."""

    row: Row
    samples: tuple[float, ...]
    note: str = ""

    @property
    def value(self) -> float:
        return median(self.samples)

    @property
    def reached(self) -> bool:
        return self.value >= self.row.target if self.row.better == "higher" else self.value <= self.row.target

    @property
    def ratio(self) -> float | None:
        """How many times better than the first peer; None without one."""
        if not self.row.peers:
            return None
        theirs = self.row.peers[0].value
        return self.value / theirs if self.row.better == "higher" else theirs / self.value

    def json(self) -> dict[str, Any]:
        """The form of build/bench.json."""
        return {
            "name": self.row.name,
            "value": self.value,
            "unit": self.row.unit,
            "target": self.row.target,
            "better": self.row.better,
            "peer": {peer.name: peer.json() for peer in self.row.peers},
            "samples": list(self.samples),
        }


_BOTTLEPAY: Final = "bottlepay/lightning-benchmark README"
_LND: Final = Peer(
    name="LND 0.12.1 bbolt", value=33, source=_BOTTLEPAY, conditions="10 channels, 100 workers, 8 vCPU, pd-ssd"
)
_LND_SQLITE: Final = Peer(
    name="LND sqlite", value=71, source="lnd #7252", conditions="best of 8 runs (39 to 71), M1 Pro"
)
_CLN: Final = Peer(
    name="Core Lightning 0.9.3", value=61, source=_BOTTLEPAY, conditions="1 channel, 100 workers, 8 vCPU, pd-ssd"
)
_ECLAIR: Final = Peer(name="Eclair 0.6.1 sqlite", value=89, source=_BOTTLEPAY, conditions="100 workers, 8 vCPU, pd-ssd")
_LDK_NODE: Final = Peer(
    name="ldk-node",
    value=176,
    source="ldk-node #915: 1,000 payments in 5.69 s",
    conditions="file store, Ryzen 5800XT; 160 with sqlite, 85 with postgres",
)
_LDK: Final = Peer(
    name="LDK without disk",
    value=340,
    source="rust-lightning 608c8adfd, bench_sends",
    conditions="in memory, no transport, Xeon W-10885M",
)


def _rates() -> tuple[Row, ...]:
    return (
        Row(
            name="transfers_per_second",
            what="direct transfers over one channel, each a record on both disks",
            unit="1/s",
            target=10_000,
            better="higher",
            peers=(
                Peer(
                    name="Teechan",
                    value=2_480,
                    source="arXiv 1612.07766",
                    conditions="one channel in SGX, nothing synced to disk",
                ),
                Peer(
                    name="statechannels server-wallet",
                    value=122,
                    source="statechannels #2530: 100 updates in 0.82 s",
                    conditions="concurrent, postgres",
                ),
                Peer(
                    name="Starlight, one by one",
                    value=38,
                    source="starlight benchmarks/2021-11-05",
                    conditions="26 ms round trip",
                ),
                Peer(
                    name="Starlight, sums of 95,000",
                    value=1_190_000,
                    source="starlight benchmarks/2021-11-05",
                    conditions="one agreement per 95,000 payments, no locks, state written to disk",
                ),
            ),
        ),
        Row(
            name="payments_1hop_per_second",
            what="hash-locked payments with onion over one channel, invoices made before",
            unit="1/s",
            target=2_000,
            better="higher",
            peers=(_LDK_NODE, _ECLAIR, _LND_SQLITE, _CLN, _LND, _LDK),
        ),
        Row(
            name="invoice_payments_1hop_per_second",
            what="the same, each invoice made, decoded and paid within the time",
            unit="1/s",
            target=1_000,
            better="higher",
            peers=(_ECLAIR, _CLN, _LND),
        ),
        Row(
            name="payments_3hop_per_second",
            what="over two hubs, four processes",
            unit="1/s",
            target=400,
            better="higher",
            peers=(
                Peer(
                    name="Core Lightning 2018",
                    value=8.3,
                    source="dgarage/LightningBenchmarks README",
                    conditions="two hops between, 60 in flight, i7-6500U, docker",
                ),
            ),
        ),
    )


def _latencies() -> tuple[Row, ...]:
    return (
        Row(
            name="latency_1hop_p50_ms",
            what="a lone payment to the neighbour, from call to answer",
            unit="ms",
            target=4,
            better="lower",
            peers=(
                Peer(
                    name="Core Lightning 2025",
                    value=27.5,
                    source="CLN tests/benchmark.py test_payment_speed",
                    conditions="mean of a failing payment, commit timer 0",
                ),
                Peer(
                    name="go-nitro",
                    value=247,
                    source="go-nitro .adr/0011",
                    conditions="time to first payment, fsync always, 10 ms latency; 84 without fsync",
                ),
                Peer(
                    name="Raiden light client",
                    value=2_130,
                    source="light-client #876",
                    conditions="mean of 50 direct transfers over Matrix",
                ),
            ),
        ),
        Row(
            name="latency_3hop_p50_ms",
            what="a lone payment over two hubs, from call to answer",
            unit="ms",
            target=12,
            better="lower",
            peers=(
                Peer(
                    name="Core Lightning, main net",
                    value=8_600,
                    source="blog.lnrouter.app, 2022",
                    conditions="median over the real network, retries included: another thing than loopback",
                ),
            ),
        ),
    )


def _hostile() -> tuple[Row, ...]:
    return (
        Row(
            name="hostile_latency_ratio",
            what="a lone payment's median time while 1,000 strangers attack the payee's port, by that before",
            unit="x",
            target=2,
            better="lower",
        ),
    )


def _restart() -> tuple[Row, ...]:
    return (
        Row(
            name="restart_10k_channels_seconds",
            what="from the start of the process until it has paid, its 10,000 channels with one peer all there again",
            unit="s",
            target=5,
            better="lower",
        ),
        Row(
            name="memory_per_idle_channel_bytes",
            what="resident memory that one of those channels takes; 100,000 fit in 2 GiB at the target",
            unit="B",
            target=20_000,
            better="lower",
        ),
        Row(
            name="memory_per_pending_lock_bytes",
            what="resident memory that one pending lock takes; 512 full channels fit in 1 GiB at the target",
            unit="B",
            target=4_000,
            better="lower",
        ),
    )


def _degraded() -> tuple[Row, ...]:
    """What trouble costs: held against the same nodes without it."""
    return (
        Row(
            name="both_ways_payments_unfairness",
            what="both ends pay each other over one channel at full load: the faster side's rate by the slower's",
            unit="x",
            target=2,
            better="lower",
        ),
        Row(
            name="both_ways_transfers_unfairness",
            what="the same with direct transfers",
            unit="x",
            target=2,
            better="lower",
        ),
        Row(
            name="head_lag_seconds_under_load",
            what="how late the chain's watcher knows a block, at its worst under these loads; a block takes 2 s",
            unit="s",
            target=2,
            better="lower",
        ),
        Row(
            name="slow_disk_payments_ratio",
            what="payments over one channel when each sync of both sides takes 2 ms longer, by those without",
            unit="x",
            target=0.7,
            better="higher",
        ),
        Row(
            name="slow_disk_latency_p50_ms",
            what="a lone payment on it: six syncs one after another beside the 4 ms of a quick disk",
            unit="ms",
            target=16,
            better="lower",
        ),
        *(
            row
            for whole in (50, 200)
            for row in (
                Row(
                    name=f"rtt_{whole}ms_payments_ratio",
                    what=f"payments over a wire of {whole} ms there and back, by what one round trip for all allows",
                    unit="x",
                    target=0.7,
                    better="higher",
                ),
                Row(
                    name=f"rtt_{whole}ms_latency_rtts",
                    what="a lone payment on it, in round trips",
                    unit="rtt",
                    target=1.3,
                    better="lower",
                ),
            )
        ),
        Row(
            name="hub_500_channels_payments_ratio",
            what="payments over a hub that has 500 channels with its peers, by those over one with each",
            unit="x",
            target=0.8,
            better="higher",
        ),
        Row(
            name="hub_500_channels_transfers_ratio",
            what="single transfers to the hub, each over another of the 500, by those over one with each peer",
            unit="x",
            target=0.5,
            better="higher",
        ),
        Row(
            name="stalled_peer_latency_ratio",
            what="others' median payment time over a hub while its payments to one stopped peer hang, by that before",
            unit="x",
            target=1.5,
            better="lower",
        ),
    )


def _history() -> tuple[Row, ...]:
    return (
        Row(
            name="history_transfers_ratio",
            what="CPU or bytes of a direct transfer after 900,000 others, by those after 10,000; the worst",
            unit="x",
            target=1.1,
            better="lower",
        ),
        Row(
            name="history_payments_ratio",
            what="the same of a hash-locked payment over a hub: of payer, hub and payee",
            unit="x",
            target=1.1,
            better="lower",
        ),
    )


_DRIVEN: Final = "its own bytecode on anvil 1.7.1, same amounts, token and steady state"


_ELECTRUM: Final = Peer(
    name="Electrum's router",
    value=113,
    source="LNPathFinder of 2026-08, run on the same graph and pairs",
    conditions="unmodified, its own database's dictionaries filled with the data",
)


def _routes() -> tuple[Row, ...]:
    """On the Lightning network of 2026-02-03: 17,324 nodes, 50,808 channels, 200 pairs."""
    return (
        Row(
            name="route_cold_median_ms",
            what="a route over a real network with nothing kept from an earlier search, exact and the cheapest",
            unit="ms",
            target=3,
            better="lower",
            peers=(_ELECTRUM,),
        ),
        Row(
            name="route_cold_p99_ms",
            what="the same, the slowest of a hundred",
            unit="ms",
            target=15,
            better="lower",
            peers=(replace(_ELECTRUM, value=430),),
        ),
        Row(
            name="route_warm_median_ms",
            what="the same question again",
            unit="ms",
            target=0.1,
            better="lower",
            peers=(_ELECTRUM,),
        ),
        Row(
            name="route_updates_ratio",
            what="searches of one payer while 1,000,000 policies an hour change, by those while none does",
            unit="x",
            target=1.5,
            better="lower",
        ),
        Row(
            name="route_parts_median_ms",
            what="a payment of 1,000,000 sat divided into up to ten parts that are likeliest together",
            unit="ms",
            target=50,
            better="lower",
        ),
        Row(
            name="route_load_seconds",
            what="reading that network from its file into the graph",
            unit="s",
            target=2,
            better="lower",
        ),
        Row(
            name="route_memory_mib",
            what="resident memory of a process that holds it",
            unit="MiB",
            target=300,
            better="lower",
        ),
    )


def _learning() -> tuple[Row, ...]:
    """On the same network, balances hidden and moved by strangers; how it is counted: `tests/bench/learning.py`."""
    than = "first attempts that arrive, by those of the better of shortest path and fixed penalty; 95 % interval"
    return (
        Row(
            name="routing_calibration_points",
            what="how far what is thought of an attempt's chance is from what comes, in the worst tenth of the chances",
            unit="pts",
            target=5,
            better="lower",
        ),
        *(
            Row(
                name=f"first_attempts_{size}_ratio",
                what=f"{size} payments: {than}",
                unit="x",
                target=least,
                better="higher",
            )
            for size, least in (("small", 0.99), ("medium", 1), ("large", 1))
        ),
    )


def _gossip() -> tuple[Row, ...]:
    """On the same network."""
    return (
        Row(
            name="gossip_sync_50k_seconds",
            what="a fresh node learns 50,808 channels from a peer, every signature and every deposit looked at",
            unit="s",
            target=60,
            better="lower",
        ),
        Row(
            name="gossip_sync_payment_p50_ms",
            what="a lone payment of that node to a neighbour meanwhile, from call to answer",
            unit="ms",
            target=50,
            better="lower",
        ),
    )


def _gas() -> tuple[Row, ...]:
    """The calls that have a target; `make bench-gas` prints the others too."""
    return tuple(
        Row(
            name=name,
            what=beside.what,
            unit="gas",
            target=beside.target,
            better="lower",
            peers=tuple(Peer(name=who, value=gas, source=_DRIVEN) for who, gas in beside.peers),
        )
        for name, beside in BESIDE.items()
        if beside.target is not None
    )


ROWS: Final[Mapping[str, Row]] = {
    row.name: row
    for row in (
        *_rates(),
        *_latencies(),
        *_hostile(),
        *_restart(),
        *_degraded(),
        *_history(),
        *_routes(),
        *_learning(),
        *_gossip(),
        *_gas(),
    )
}

LEFT_OUT: Final[Mapping[str, str]] = {
    "tower_updates_per_second": "needs a tower with a million rows, which takes longer to fill than all else here",
    "tower_bytes_per_channel": "the same",
}
"""Rows that will follow, and what each waits for."""
