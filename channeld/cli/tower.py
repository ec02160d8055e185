"""The watchtower from both sides: `run` serves others, `add`, `list` and `remove` let some guard this node."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import click

from channeld.cli.amounts import decimal
from channeld.cli.daemon import locked, serve
from channeld.cli.output import brief
from channeld.cli.session import session, shared


@click.group()
@shared
def tower() -> None:
    """Run a watchtower, or let some guard this node."""


@tower.command()
@shared
@click.option("--passphrase-file", type=click.Path(dir_okay=False), help="Its first line opens the key.")
@click.option("--rpc", multiple=True, metavar="URL", help="JSON-RPC endpoint of the chain.")
@click.option("--manager", metavar="ADDRESS", help="The ChannelManager.")
@click.option("--registry", metavar="ADDRESS", help="The SecretRegistry.")
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect; port 0 for any.")
@click.option("--payout", metavar="ADDRESS", help="Where bonds that are won go.")
@click.option("--alias", help="A name for people.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="How much is logged.")
def run(passphrase_file: str | None, **flags: Any) -> None:
    """Run a watchtower until told to stop (Ctrl-C, SIGTERM, `channeld stop`)."""
    from channeld.api.schema import TOWER
    from channeld.cli.logs import begin
    from channeld.cli.secrets import key_of
    from channeld.cli.settings import load_tower

    here = session()
    given = {name: value for name, value in flags.items() if value not in (None, ())} | here.flags
    config = load_tower(given).config
    begin("debug" if here.verbose else config.log_level, config.log_format)
    with locked(config.data_dir):
        key = key_of(config.data_dir, passphrase_file)
        from channeld.tower.run import run as run_tower

        serve(partial(run_tower, config, key), config.socket, TOWER, here, lambda ready: ready.service)


@tower.command()
@shared
@click.argument("uri")
def add(uri: str) -> None:
    """Let the tower at URI, node-id@host:port, guard our channels from now on."""
    with session().connect() as daemon:
        said = daemon.tower_add(uri=uri)
    session().out.show(said, [("tower", said["node_id"]), ("guards", f"{said['channels']} channels")])


@tower.command()
@shared
@click.argument("node_id")
def remove(node_id: str) -> None:
    """Upload nothing more to a tower and ask it to forget us."""
    with session().connect() as daemon:
        said = daemon.tower_remove(node_id=node_id)
    session().out.show(said, [("removed", said["node_id"])])


@tower.command("list")
@shared
def list_() -> None:
    """Our towers."""
    with session().connect() as daemon:
        said = daemon.tower_list()
    _table(said, said["towers"])


@tower.command()
@shared
def status() -> None:
    """How well our channels are guarded; asked of a tower, what it guards and earned."""
    with session().connect() as daemon:
        said: Any = daemon.tower_status()
    if said["role"] == "node":
        _table(said, said["towers"])
        if not session().out.as_json:
            since = said.get("at_risk_since")
            risk = f"{said['value_at_risk']} base units at risk" + (f" since {_moment(since)}" if since else "")
            session().out.text(f"{said['guarded']} of {said['channels']} channels guarded; {risk}")
        return
    head = said["head"]
    session().out.show(
        said,
        [
            ("appointments", said["appointments"]),
            ("disputes", said["watched"]),
            ("challenges", f"{said['challenges_sent']} sent, {said['challenges_mined']} mined"),
            ("finalized", said["finalized"]),
            ("earned", f"{decimal(int(said['earned']), 18)} eth"),
            ("spent on gas", f"{decimal(int(said['spent']), 18)} eth"),
            ("account", f"{decimal(int(said['balance']), 18)} eth"),
            ("head", f"{head['latest']['number']}, {head['age']} s old"),
            ("next deadline", _moment(said["next_deadline"]) if said.get("next_deadline") else ""),
        ],
    )


def _table(said: Any, towers: Any) -> None:
    rows = [
        (
            brief(one["node_id"]),
            one["address"],
            "yes" if one["reachable"] else "no",
            one["channels"],
            one["behind"],
            one["value_at_risk"],
            one.get("error") or "",
        )
        for one in towers
    ]
    heads = ("tower", "address", "reachable", ">channels", ">behind", ">at risk", "trouble")
    session().out.table(said, heads, rows, "no towers; channeld tower add URI")


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
