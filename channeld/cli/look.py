"""Commands that look and change nothing (and `stop`)."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from channeld.base.errors import Refused
from channeld.cli.amounts import shown
from channeld.cli.output import brief
from channeld.cli.session import session, shared


@click.command()
@shared
def info() -> None:
    """Who the daemon is, where it listens, how the chain looks."""
    with session().connect() as daemon:
        said = daemon.get_info()
    head = said["head"]
    states = said.get("channels", {})
    session().out.show(
        said,
        [
            (said["role"], said["node_id"]),
            ("alias", said["alias"]),
            ("version", said["version"]),
            ("account", said["address"]),
            ("network", f"{said['network']} (chain id {said['chain_id']})"),
            ("manager", said["manager"]),
            ("listens at", said["listen"]),
            ("reach it by", "  ".join(said["uris"])),
            ("socket", said["socket"]),
            ("head", f"{head['latest']['number']}, {head['age']} s old, finalized {head['finalized']['number']}"),
            ("safe mode", said["safe_mode"]),
            ("short of gas", said.get("gas_short")),
            ("peers", said.get("peers", 0) or ""),
            ("channels", ", ".join(f"{count} {state}" for state, count in states.items() if count)),
            ("known network", _extent(said.get("graph"))),
        ],
    )


def _extent(graph: Any) -> str:
    """How much of the network gossip has shown."""
    if graph is None:
        return ""
    syncing = ", and more is being asked for" if graph["syncing"] else ""
    return f"{graph['channels']:,} public channels of {graph['nodes']:,} nodes{syncing}"


@click.command()
@shared
def balance() -> None:
    """What there is of each token, on chain and in channels."""
    with session().connect() as daemon:
        said = daemon.get_balance()
    rows = []
    for one in said["balances"]:
        unit = [{"symbol": one["symbol"], "token": one["token"], "decimals": one["decimals"]}]
        columns: list[str] = [one["wallet"], one["spendable"], one["pending"], one["receivable"], one["owed"]]
        rows.append([one["symbol"], *(shown(units, one["token"], unit) for units in columns)])
    heads = ("token", ">wallet", ">spendable", ">pending", ">receivable", ">owed")
    session().out.table(said, heads, rows, "nothing yet")


@click.command()
@shared
def peers() -> None:
    """Who we are connected to or have channels with."""
    with session().connect() as daemon:
        said = daemon.list_peers()
    rows = [
        (
            one["node_id"],
            one["address"],
            "yes" if one["connected"] else "no",
            one.get("channels", 0),
            one.get("alias", ""),
        )
        for one in said["peers"]
    ]
    session().out.table(
        said, ("node", "address", "connected", ">channels", "alias"), rows, "no peers; channeld connect"
    )


@click.command()
@shared
@click.option("--all", "closed", is_flag=True, help="Those that are over, too.")
@click.option("--full", is_flag=True, help="Ids in full.")
def channels(closed: bool, full: bool) -> None:
    """Our channels: balances, state, peer."""
    with session().connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        said = daemon.list_channels(closed=closed)
    rows = []
    for one in said["channels"]:
        locked = int(one["locked_ours"]) + int(one["locked_theirs"])
        rows.append(
            (
                one["channel_id"] if full else brief(one["channel_id"]),
                one["peer"] if full else brief(one["peer"]),
                one["state"] + ("" if one["connected"] or one["state"] != "open" else ", offline"),
                shown(one["ours"], one["token"], tokens),
                shown(one["theirs"], one["token"], tokens),
                shown(locked, one["token"], tokens) if locked else "",
                one["version"],
            )
        )
    heads = ("channel", "peer", "state", ">ours", ">theirs", ">locked", ">version")
    session().out.table(said, heads, rows, "no channels; channeld open PEER AMOUNT")


@click.command()
@shared
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="How many, newest first.")
@click.option("--cursor", help="`next` of the page before.")
@click.option("--id", "one_id", help="Only this one: payment hash, or id of a direct transfer.")
def payments(limit: int, cursor: str | None, one_id: str | None) -> None:
    """Payments made and received, newest first."""
    said: Any
    with session().connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        if one_id:
            said = daemon.lookup_payment(id=one_id)
            found = [said]
        else:
            said = daemon.list_payments(limit=limit, cursor=cursor)
            found = said["payments"]
    rows = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["created_at"])),
            one["direction"],
            shown(one["amount"], one["token"], tokens),
            shown(one["fee"], one["token"], tokens) if int(one["fee"]) else "",
            one["state"],
            brief(one["id"]),
            one.get("error_text") or one.get("description") or ("keysend" if one["kind"] == "keysend" else ""),
        )
        for one in found
    ]
    heads = ("when", "way", ">amount", ">fee", "state", "id", "about")
    session().out.table(said, heads, rows, "no payments yet")


@click.command()
@shared
@click.argument("method")
@click.argument("params", default="{}")
def call(method: str, params: str) -> None:
    """Call METHOD with PARAMS, a JSON object; rpc.discover lists the methods."""
    try:
        given = json.loads(params)
    except ValueError as fault:
        raise Refused("usage", f"PARAMS is not JSON: {fault}", "like '{\"limit\": 5}'") from None
    if not isinstance(given, dict):
        raise Refused("usage", "PARAMS must be an object", "like '{\"limit\": 5}'")
    with session().connect() as daemon:
        session().out.value(daemon.ask(method, given))


@click.command()
@shared
def stop() -> None:
    """Stop the daemon; nothing is lost and channels stay open."""
    with session().connect() as daemon:
        said = daemon.stop()
    session().out.show(said, [("stopping", "yes")])
