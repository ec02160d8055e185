"""`init` makes a data directory; `config check` says what its settings come to."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import click

from channeld.base.errors import Refused
from channeld.cli.session import session, shared


@click.command()
@shared
@click.option("--tower", is_flag=True, help="For a watchtower instead of a node.")
@click.option("--passphrase-file", type=click.Path(dir_okay=False), help="Its first line encrypts the key.")
@click.option(
    "--import-key", type=click.Path(dir_okay=False, path_type=Path), help="A keystore, or a file of 64 hex digits."
)
@click.option("--import-passphrase-file", type=click.Path(dir_okay=False), help="Opens the keystore to import.")
@click.option("--rpc", multiple=True, metavar="URL", help="JSON-RPC endpoint of the chain; may be said again.")
@click.option("--manager", metavar="ADDRESS", help="The ChannelManager, as deploy prints it.")
@click.option("--registry", metavar="ADDRESS", help="The SecretRegistry, as deploy prints it.")
@click.option("--token", "tokens", multiple=True, metavar="SYMBOL=ADDRESS:DECIMALS", help="A token to know by name.")
@click.option("--listen", metavar="HOST:PORT", help="Where peers connect.")
@click.option("--alias", help="A name for people.")
def init(
    tower: bool,
    passphrase_file: str | None,
    import_key: Path | None,
    import_passphrase_file: str | None,
    rpc: tuple[str, ...],
    manager: str | None,
    registry: str | None,
    tokens: tuple[str, ...],
    listen: str | None,
    alias: str | None,
) -> None:
    """Make a data directory: an encrypted key and a file of settings with every default in it.

    Nothing that is there already is overwritten. The key opens in any Ethereum wallet; the account pays for gas.
    """
    from channeld.base.keys import Key
    from channeld.cli.secrets import key_in, passphrase
    from channeld.cli.settings import FILE, KEYSTORE, file_text, load_node, load_tower
    from channeld.node import keystore
    from channeld.node.config import Config
    from channeld.tower.config import TowerConfig

    place, out = session().place(), session().out
    for name in (KEYSTORE, FILE):
        if (place.data_dir / name).exists():
            raise Refused(
                "already_initialised", f"{place.data_dir / name} is there already", "choose another --data-dir"
            )
    said: dict[str, Any] = {
        "network": place.network,
        "chain.rpc": rpc or None,
        "chain.manager": manager,
        "chain.registry": registry,
        "chain.tokens": dict(map(_token, tokens)) or None,
        "tower.listen" if tower else "peers.listen": listen,
        "alias": alias,
        "api.socket": session().flags.get("socket"),
    }
    text = file_text(TowerConfig if tower else Config, {key: value for key, value in said.items() if value is not None})
    key = key_in(import_key, import_passphrase_file) if import_key else Key(secrets.token_bytes(32))
    sealed = passphrase(passphrase_file, f"New passphrase for {place.data_dir}", confirm=True)
    cost = keystore.LIGHT if place.network == "dev" else keystore.STRONG
    place.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.data_dir.chmod(0o700)
    _write(place.data_dir / FILE, text)
    complete = True
    try:
        (load_tower if tower else load_node)(session().flags)
    except Refused as fault:
        if fault.code == "bad_config" and any(word in fault.text for word in ("no contract", "no JSON-RPC")):
            complete = False  # to be filled in before `run`
        else:
            (place.data_dir / FILE).unlink()
            raise
    keystore.save(place.data_dir / KEYSTORE, keystore.encrypted(key, sealed, n=cost))
    account = f"0x{key.address.hex()}"
    made = {
        "data_dir": str(place.data_dir),
        "network": place.network,
        "address": account,
        "config": str(place.data_dir / FILE),
        "keystore": str(place.data_dir / KEYSTORE),
        "complete": complete,
    }
    steps = [] if complete else [("to do", "fill in rpc, manager and registry under [chain] in the settings")]
    out.show(
        made,
        [
            ("data directory", place.data_dir),
            ("network", place.network),
            ("account", account + "  send it some of the chain's coin for gas and deposits"),
            *steps,
            ("next", f"channeld {'tower ' if tower else ''}run --data-dir {place.data_dir}"),
        ],
    )


def _token(text: str) -> tuple[str, dict[str, Any]]:
    symbol, _, rest = text.partition("=")
    where, _, decimals = rest.rpartition(":")
    if not (symbol.isalnum() and where and decimals.isdecimal()):
        raise Refused("usage", f"--token {text!r:.80} is not SYMBOL=ADDRESS:DECIMALS", "like USDC=0x8335…2913:6")
    return symbol, {"address": where, "decimals": int(decimals[:4])}


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


@click.group()
@shared
def config() -> None:
    """The settings."""


@config.command()
@shared
@click.option("--tower", is_flag=True, help="Of a watchtower instead of a node.")
def check(tower: bool) -> None:
    """Check every setting and show what would be used and where it comes from."""
    from channeld.cli.settings import Used, check_environment, load_node, load_tower

    check_environment()
    used: tuple[Used, ...] = (load_tower if tower else load_node)(session().flags).used
    value = [{"key": one.key, "value": one.value, "unit": one.unit, "source": one.source} for one in used]
    rows = [(one.key, one.value, one.unit, one.source, one.why) for one in sorted(used, key=lambda one: one.key)]
    session().out.table({"ok": True, "settings": value}, ("setting", "value", "unit", "from", "what it is"), rows, "")
