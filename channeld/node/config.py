"""The node's settings, frozen: read once at the start (file, environment, flags), handed to whoever needs them.

Chain parameters (periods, deltas, finality, fees) are those of the network's profile, `channeld/chain/networks.toml`;
the file's `[chain]` table puts a user's own values over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from channeld.base.errors import Refused
from channeld.base.settings import (
    amount,
    choice,
    endpoint,
    flag,
    many,
    maybe,
    node_uri,
    setting,
    text,
    url,
    whole,
)
from channeld.base.units import MAX_AMOUNT, NATIVE, Address, Amount, Seconds
from channeld.chain.networks import Network
from channeld.node.jamming import USUAL, Limits
from channeld.peers.caps import Caps

DOOR: Final = Caps()
"""Defaults of `[peers]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """On what terms channels of one token are opened and used. Amounts in the token's base units."""

    fee_base: Amount = setting(
        "policy.fee_base", amount, Amount(0), "taken from each payment forwarded", unit="base units"
    )
    fee_ppm: int = setting(
        "policy.fee_ppm", whole(0, 1_000_000), 100, "taken of the amount forwarded", unit="millionths"
    )
    min_lock: Amount = setting("policy.min_lock", amount, Amount(1), "smallest payment forwarded", unit="base units")
    max_lock: Amount = setting(
        "policy.max_lock", amount, Amount(MAX_AMOUNT), "largest payment forwarded", unit="base units"
    )
    min_deposit: Amount = setting(
        "policy.min_deposit", amount, Amount(0), "smallest deposit of a peer that opens to us", unit="base units"
    )
    match_deposit: Amount = setting(
        "policy.match_deposit", amount, Amount(0), "most we deposit when an opener asks for it", unit="base units"
    )
    resolving: Amount | None = setting(
        "policy.resolving",
        maybe(amount),
        None,
        "what resolving a lock on chain costs; smaller ones count as not worth it; empty: the network's; 0: none does",
        unit="base units",
    )


_DEFAULT = TokenPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything `channeld run` needs besides its key."""

    data_dir: Path
    network: Network
    socket: Path
    """Of the API."""
    policy: TokenPolicy = _DEFAULT
    policies: Mapping[Address, TokenPolicy] = field(default_factory=dict)
    """Tokens with terms of their own; see `policy_for`."""

    rpc: tuple[str, ...] = setting("chain.rpc", many(url, 4), (), "JSON-RPC endpoints; the first that answers is used")
    alias: str = setting("alias", text(32), "", "a name for people, announced to the network")
    listen: tuple[str, int] = setting(
        "peers.listen",
        endpoint,
        ("127.0.0.1", 9735),
        "where peers connect; 0.0.0.0 for the whole world, port 0 for any",
    )
    announce: tuple[tuple[str, int], ...] = setting(
        "peers.announce",
        many(endpoint, 4),
        (),
        "how others reach us; empty: what `listen` says, where that is an address",
    )
    max_strangers: int = setting(
        "peers.max_strangers", whole(1, 65_536), DOOR.connections, "peers without a channel that may be connected"
    )
    max_strangers_from_one: int = setting(
        "peers.max_strangers_from_one",
        whole(1, 65_536),
        DOOR.from_one,
        "the same from one address (IPv6: one /64); more where a proxy makes all come from one",
    )
    max_handshakes: int = setting(
        "peers.max_handshakes", whole(1, 65_536), DOOR.strangers, "connections that may be shaking hands"
    )
    max_handshakes_from_one: int = setting(
        "peers.max_handshakes_from_one", whole(1, 65_536), DOOR.strangers_from_one, "the same from one address"
    )
    accept_channels: bool = setting("peers.accept_channels", flag, True, "let others open channels to us")
    challenge_period: Seconds | None = setting(
        "channels.challenge_period",
        maybe(whole(10, 30 * 86_400)),
        None,
        "time to answer a close; empty: the network's",
        unit="s",
    )
    max_locks: int = setting("channels.max_locks", whole(1, 256), 256, "payments under way per direction of a channel")
    gas_times: int = setting(
        "channels.gas_times",
        whole(2, 1_000),
        5,
        "a channel is opened or accepted only if the account could end all of them at so many times today's gas price",
    )
    slots_share: int = setting(
        "forwarding.slots_share",
        whole(1, 100),
        USUAL.slots_share,
        "most of a channel's slots that locks from one neighbour may take",
        unit="percent",
    )
    value_share: int = setting(
        "forwarding.value_share",
        whole(1, 100),
        USUAL.value_share,
        "most of what a channel can send that locks from one neighbour may hold",
        unit="percent",
    )
    usual_hold: Seconds = setting(
        "forwarding.usual_hold",
        whole(60, 30 * 86_400),
        USUAL.usual,
        "a lock takes a slot for every so long it may hang",
        unit="s",
    )
    max_uneconomic: int = setting(
        "forwarding.max_uneconomic",
        whole(0, 512),
        USUAL.uneconomic,
        "locks of a channel not worth resolving on chain, passed on",
    )
    max_uneconomic_in_all: int = setting(
        "forwarding.max_uneconomic_in_all",
        whole(0, 1_000_000),
        USUAL.uneconomic_in_all,
        "the same in all channels together",
    )
    max_fee_ppm: int = setting(
        "payments.max_fee_ppm",
        whole(0, 1_000_000),
        10_000,
        "most a payment may cost if the caller says nothing",
        unit="millionths",
    )
    max_fee_base: Amount = setting(
        "payments.max_fee_base", amount, Amount(1_000), "and this much on top", unit="base units"
    )
    accept_keysend: bool = setting(
        "payments.accept_keysend", flag, False, "take payments that nobody has asked for; each is kept for good"
    )
    probing: bool = setting(
        "payments.probing",
        flag,
        False,
        "let callers send probes: locks that nobody can take, to learn how far they get; each binds money for a while",
    )
    towers: tuple[str, ...] = setting("towers.uris", many(node_uri), (), "watchtowers that guard our channels")
    tower_wait: int = setting(
        "towers.wait", whole(0, 86_400), 10, "for which a start signs nothing while a tower has not answered", unit="s"
    )
    tower_receipts: int = setting(
        "towers.receipts", whole(0, 16), 0, "receipts needed before a payment counts as received; 0: none"
    )
    tower_receipts_above: Amount = setting(
        "towers.receipts_above", amount, Amount(0), "smaller payments count without", unit="base units"
    )
    log_level: str = setting("log.level", choice("debug", "info", "warning", "error"), "info", "how much is logged")
    log_format: str = setting("log.format", choice("text", "json"), "text", "key=value lines, or JSON lines")

    def policy_for(self, token: Address) -> TokenPolicy:
        """The terms for `token` (`NATIVE` for the coin)."""
        return self.policies.get(token, self.policy)

    def resolving(self, token: Address) -> Amount:
        """Base units under which a lock of `token` is not worth resolving on chain (R21)."""
        said = self.policy_for(token).resolving
        return Amount(self.network.resolving(token)) if said is None else said

    @property
    def caps(self) -> Caps:
        """How many strangers are let in."""
        return Caps(
            connections=self.max_strangers,
            from_one=self.max_strangers_from_one,
            strangers=self.max_handshakes,
            strangers_from_one=self.max_handshakes_from_one,
        )

    @property
    def limits(self) -> Limits:
        """What one neighbour may hold up."""
        return Limits(
            slots_share=self.slots_share,
            value_share=self.value_share,
            usual=self.usual_hold,
            uneconomic=self.max_uneconomic,
            uneconomic_in_all=self.max_uneconomic_in_all,
        )

    @property
    def manager(self) -> Address:
        """The `ChannelManager` we use; a config without one cannot be made."""
        return _known(self.network.manager)

    @property
    def registry(self) -> Address:
        """The `SecretRegistry` that belongs to it."""
        return _known(self.network.registry)

    @property
    def period(self) -> Seconds:
        """Challenge period of channels that we open, seconds."""
        return self.challenge_period or self.network.challenge_period

    def __post_init__(self) -> None:
        if not self.rpc:
            raise Refused("bad_config", "chain.rpc: no JSON-RPC endpoint is given", 'rpc = ["http://127.0.0.1:8545"]')
        if self.network.manager in (None, NATIVE) or self.network.registry in (None, NATIVE):
            hint = "channeld deploy prints both; they go into [chain]"
            raise Refused("bad_config", f"chain.manager: no contract is known on {self.network.id}", hint)
        if self.challenge_period is not None and self.challenge_period < self.network.min_challenge_period:
            raise Refused(
                "bad_config",
                "channels.challenge_period: below what the network allows",
                f"at least {self.network.min_challenge_period} s on {self.network.id}",
            )
        for policy in (self.policy, *self.policies.values()):
            if policy.min_lock > policy.max_lock:
                raise Refused("bad_config", "policy.min_lock: above max_lock", "swap them")


def _known(address: Address | None) -> Address:
    if address is None:
        raise Refused("bad_config", "no contract is known on this network")
    return address
