"""The tower's settings, frozen: read once at the start (file, environment, flags)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from channeld.base.errors import Refused
from channeld.base.settings import address, choice, endpoint, flag, many, maybe, setting, text, url, whole
from channeld.base.units import NATIVE, Address, Seconds
from channeld.chain.networks import Network
from channeld.tower.policy import Policy

DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerConfig:
    """Everything `channeld tower run` needs besides its key."""

    data_dir: Path
    network: Network
    socket: Path
    """Of the tower's own API."""

    rpc: tuple[str, ...] = setting("chain.rpc", many(url, 4), (), "JSON-RPC endpoints; the first that answers is used")
    alias: str = setting("alias", text(32), "", "a name for people")
    listen: tuple[str, int] = setting(
        "tower.listen",
        endpoint,
        ("127.0.0.1", 9911),
        "where clients connect; 0.0.0.0 for the whole world, port 0 for any",
    )
    announce: tuple[tuple[str, int], ...] = setting(
        "tower.announce", many(endpoint, 4), (), "how clients reach us; empty: what `listen` says"
    )
    payout: Address | None = setting(
        "tower.payout", maybe(address), None, "where bonds that the tower wins are paid; empty: its own account"
    )
    validity: Seconds = setting(
        "tower.validity", whole(3_600, 365 * DAY), Seconds(30 * DAY), "how long a receipt promises cover", unit="s"
    )
    grace: Seconds = setting(
        "tower.grace", whole(0, 365 * DAY), Seconds(30 * DAY), "how long an appointment is kept after that", unit="s"
    )
    room: int = setting("tower.room", whole(1, 10**9), 1_000_000, "most appointments")
    max_connections: int = setting("tower.max_connections", whole(1, 100_000), 2_000, "clients connected at once")
    max_from_one: int = setting(
        "tower.max_from_one",
        whole(1, 100_000),
        64,
        "the same from one address (IPv6: one /64); more where a proxy makes all come from one",
    )
    min_bond: int = setting(
        "tower.min_bond", whole(0, 10**30), 0, "least close bond of a channel that is defended; 0: all", unit="wei"
    )
    finalize_all: bool = setting(
        "tower.finalize_all", flag, False, "finalize guarded channels whose bond goes to others too, at our cost"
    )
    log_level: str = setting("log.level", choice("debug", "info", "warning", "error"), "info", "how much is logged")
    log_format: str = setting("log.format", choice("text", "json"), "text", "key=value lines, or JSON lines")

    @property
    def policy(self) -> Policy:
        """The limits as the gate takes them."""
        return Policy(
            validity=self.validity,
            grace=self.grace,
            room=self.room,
            max_connections=self.max_connections,
            max_from_one=self.max_from_one,
            min_bond=self.min_bond,
            finalize_all=self.finalize_all,
        )

    @property
    def manager(self) -> Address:
        """The `ChannelManager` whose channels are guarded."""
        if self.network.manager is None:
            raise Refused("bad_config", "no contract is known on this network")
        return self.network.manager

    def __post_init__(self) -> None:
        if not self.rpc:
            raise Refused("bad_config", "chain.rpc: no JSON-RPC endpoint is given", 'rpc = ["http://127.0.0.1:8545"]')
        if self.network.manager in (None, NATIVE):
            hint = "channeld deploy prints it; it goes into [chain]"
            raise Refused("bad_config", f"chain.manager: no contract is known on {self.network.id}", hint)
