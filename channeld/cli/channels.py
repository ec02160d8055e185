"""Connect, open, close: what makes and ends channels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from channeld.base.errors import Refused, Unreachable
from channeld.cli.amounts import parse, shown
from channeld.cli.output import brief
from channeld.cli.session import Session, session, shared

if TYPE_CHECKING:
    from channeld.client.blocking import BlockingClient
    from channeld.client.calls import Channel

POLL: Final = 0.2
"""Seconds between looks at a channel we wait for."""


@click.command()
@shared
@click.argument("uri")
def connect(uri: str) -> None:
    """Connect to the peer at URI, node-id@host:port, as its `info` shows it."""
    with session().connect() as daemon:
        said = daemon.connect_peer(uri=uri)
    session().out.show(said, [("connected to", said["node_id"]), ("at", said["address"])])


@click.command("open")
@shared
@click.argument("peer")
@click.argument("amount")
@click.option("--peer-amount", default="0", help="What the peer is asked to deposit.", show_default=True)
@click.option("--raw", is_flag=True, help="Amounts are base units, of --token.")
@click.option("--token", help="native, a symbol or an address; by default what AMOUNT says.")
@click.option("--challenge-period", type=int, help="Seconds to answer a close; the setting by default.")
@click.option("--private", is_flag=True, help="Do not announce it; nobody routes over it.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is open.", show_default=True)
@click.option("--timeout", type=float, default=600, help="Seconds to wait.", show_default=True)
@click.option("--idempotency-key", help="Said again with the same key, no second channel is opened.")
def open_(
    peer: str,
    amount: str,
    peer_amount: str,
    raw: bool,
    token: str | None,
    challenge_period: int | None,
    private: bool,
    wait: bool,
    timeout: float,
    idempotency_key: str | None,
) -> None:
    """Open a channel with PEER (node-id or node-id@host:port) and deposit AMOUNT, such as 5usdc or 0.1eth."""
    here = session()
    with here.connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        ours = parse(amount, tokens, raw=raw, token=token)
        theirs = parse(peer_amount, tokens, raw=raw, token=ours.token)
        said = daemon.open_channel(
            peer=peer,
            token=ours.token,
            amount=ours.units,
            peer_amount=theirs.units,
            challenge_period=challenge_period,
            public=not private,
            idempotency_key=idempotency_key,
        )
        name = said["channel_id"]
        here.out.progress(f"channel {brief(name)} agreed; waiting for the chain")
        if not wait:
            here.out.show(said, [("channel", name), ("state", said["state"])])
            return
        channel = _until(here, daemon, name, ("open", "closed", "failed"), timeout)
    if channel["state"] != "open":
        raise Refused(
            "channel_not_open", f"channel {brief(name)} is {channel['state']}: {channel['detail']}", "see the log"
        )
    _show(here, channel, tokens)


@click.command()
@shared
@click.argument("channel")
@click.option("--force", is_flag=True, help="Alone, at once: the money comes after the challenge period.")
@click.option("--together-for", type=int, default=30, help="Seconds to try it with the peer first.", show_default=True)
@click.option("--wait/--no-wait", default=False, help="Wait until the money is paid out.", show_default=True)
@click.option("--timeout", type=float, default=3_600, help="Seconds to wait.", show_default=True)
def close(channel: str, force: bool, together_for: int, wait: bool, timeout: float) -> None:
    """Close CHANNEL (its id, or enough of its beginning), together with the peer if it answers."""
    here = session()
    with here.connect() as daemon:
        name = resolved(daemon, channel)
        here.out.progress("closing alone" if force else "asking the peer to close together")
        said = daemon.close_channel(channel_id=name, force=force, timeout=together_for)
        if not wait:
            lines = [("channel", name), ("state", said["state"]), ("how", said["how"])]
            here.out.show(said, [*lines, ("transaction", said.get("close_tx"))])
            return
        here.out.progress(f"{said['how']}; waiting for the chain")
        tokens = daemon.get_info()["tokens"]
        _show(here, _until(here, daemon, name, ("closed",), timeout), tokens)


@click.command()
@shared
@click.argument("from_channel", metavar="FROM")
@click.argument("to_channel", metavar="TO")
@click.argument("amount")
@click.option("--max-fee", help="Most the whole way may cost; the setting by default.")
@click.option("--raw", is_flag=True, help="Amounts are base units of the channels' token.")
@click.option("--timeout", type=int, default=60, show_default=True, help="Seconds to find a way that works.")
@click.option("--idempotency-key", help="Said again with the same key, the first outcome is told again.")
def rebalance(
    from_channel: str,
    to_channel: str,
    amount: str,
    max_fee: str | None,
    raw: bool,
    timeout: int,
    idempotency_key: str | None,
) -> None:
    """Move AMOUNT from the channel FROM to the channel TO by a payment to ourselves; it costs the hops' fees."""
    here = session()
    with here.connect() as daemon:
        out, into = resolved(daemon, from_channel), resolved(daemon, to_channel)
        tokens = daemon.get_info()["tokens"]
        token = daemon.list_channels(channel_id=out)["channels"][0]["symbol"]
        fee = None if max_fee is None else parse(max_fee, tokens, raw=raw, token=token).units
        here.out.progress("looking for a way round and paying")
        said = daemon.rebalance(
            from_channel=out,
            to_channel=into,
            amount=parse(amount, tokens, raw=raw, token=token).units,
            max_fee=fee,
            timeout=timeout,
            idempotency_key=idempotency_key,
        )
    here.out.show(
        said,
        [
            (said["state"], shown(said["amount"], said["token"], tokens)),
            ("fee", shown(said["fee"], said["token"], tokens)),
            ("hops", said.get("hops", 0) or ""),
            ("from", out),
            ("to", into),
            ("payment hash", said["id"]),
        ],
    )


def resolved(daemon: BlockingClient, text: str) -> str:
    """The full id of the channel whose id is or begins with `text`. Refused `unknown_channel`, or `usage`."""
    wanted = "0x" + text.lower().removeprefix("0x")
    if len(wanted) == 66:
        return wanted
    if len(wanted) < 6:
        raise Refused("usage", f"{text!r:.70} is too short for a channel's id", "channeld channels lists them")
    found = [one["channel_id"] for one in daemon.list_channels()["channels"] if one["channel_id"].startswith(wanted)]
    if len(found) > 1:
        raise Refused("usage", f"{len(found)} channels begin with {text!r:.70}", "say more of the id")
    if not found:
        raise Refused("unknown_channel", f"no channel of ours begins with {text!r:.70}", "channeld channels --all")
    return found[0]


def _until(
    here: Session,
    daemon: BlockingClient,
    name: str,
    states: tuple[str, ...],
    timeout: float,
    now: Callable[[], float] = time.monotonic,
) -> Channel:
    """The channel once it is in one of `states`, telling each change of its phase."""
    deadline, detail = now() + timeout, ""
    while True:
        found = daemon.list_channels(channel_id=name)["channels"]
        if not found:
            raise Refused("unknown_channel", f"channel {brief(name)} is gone", "see the daemon's log")
        channel = found[0]
        if channel["state"] in states:
            return channel
        if channel["detail"] != detail:
            detail = channel["detail"]
            here.out.progress(f"channel {brief(name)}: {channel['state']}, {detail}")
        if now() > deadline:
            raise Unreachable(f"channel {brief(name)} is still {channel['state']} after {timeout:g} s ({detail})")
        time.sleep(POLL)


def _show(here: Session, channel: Channel, tokens: Any) -> None:
    token = channel["token"]
    paid = channel.get("paid_ours")
    here.out.show(
        channel,
        [
            ("channel", channel["channel_id"]),
            ("peer", channel["peer"]),
            ("state", channel["state"]),
            ("ours", shown(channel["ours"], token, tokens)),
            ("theirs", shown(channel["theirs"], token, tokens)),
            ("paid out to us", shown(paid, token, tokens) if paid is not None else ""),
        ],
    )
