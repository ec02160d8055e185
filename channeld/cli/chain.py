"""`devchain` runs a chain for development; `deploy` puts the contracts on one."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from channeld.base.errors import Refused
from channeld.cli.output import Output
from channeld.cli.session import session, shared

if TYPE_CHECKING:
    from channeld.base.keys import Key
    from channeld.base.units import Address
    from channeld.chain.deploy import Deployment
    from channeld.chain.networks import Network


@click.command()
@shared
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8545, show_default=True, help="0 for any.")
@click.option(
    "--block-time", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds between blocks; 0: none."
)
@click.option("--automine/--no-automine", default=True, show_default=True, help="A block for each transaction at once.")
@click.option("--chain-id", type=click.IntRange(1), default=31_337, show_default=True)
@click.option("--safe-lag", type=click.IntRange(0), default=1, show_default=True, help="Blocks `safe` lags behind.")
@click.option(
    "--finalized-lag", type=click.IntRange(0), default=2, show_default=True, help="Blocks `finalized` lags behind."
)
@click.option("--genesis", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Further accounts, JSON.")
@click.option("--unprotected", is_flag=True, help="Take transactions without a chain id, too.")
def devchain(**given: Any) -> None:
    """Run a chain for development: JSON-RPC over HTTP, funded keys that everyone knows. Its money is worthless."""
    import trio

    from channeld.cli.logs import begin

    begin("debug" if session().verbose else "warning", "text")
    trio.run(partial(_devchain, session().out, given))


async def _devchain(out: Output, given: dict[str, Any]) -> None:
    import trio

    from channeld.chain.devchain import dev_keys, serve_devchain

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_signal, signals, nursery.cancel_scope)
            chain = await nursery.start(partial(serve_devchain, **given))
            keys = [{"address": f"0x{key.address.hex()}", "key": f"0x{key.secret.hex()}"} for key in dev_keys()]
            if out.as_json:
                ready = {"ready": True, "url": chain.url, "port": chain.port, "chain_id": chain.chain_id}
                out.value(ready | {"development_keys": keys})
            else:
                out.text("DEVELOPMENT KEYS: everyone knows them. Never send them anything of value.")
                for one in keys:
                    out.text(f"  {one['address']}  {one['key']}")
                out.text(f"ready: chain {chain.chain_id} at {chain.url}")


async def _until_signal(signals: Any, scope: Any) -> None:
    async for _ in signals:
        scope.cancel()


@click.command()
@shared
@click.option("--rpc", required=True, metavar="URL", help="JSON-RPC endpoint of the chain.")
@click.option(
    "--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Who pays: a keystore, or 64 hex digits."
)
@click.option("--passphrase-file", type=click.Path(dir_okay=False), help="Opens the keystore.")
@click.option("--dev-key", type=click.IntRange(0, 9), help="Who pays: a key of the dev chain, by number.")
@click.option("--registry", metavar="ADDRESS", help="Use this SecretRegistry instead of a new one.")
@click.option("--min-period", type=click.IntRange(1, 30 * 86_400), help="Shortest challenge period, seconds.")
@click.option("--permit2", metavar="ADDRESS", help="Use this Permit2 instead of the one most chains have.")
@click.option("--token", is_flag=True, help="A token for play, too (not on chains with real money).")
@click.option("--plain", is_flag=True, help="New contracts at addresses of their own, without the deployment proxy.")
def deploy(
    rpc: str,
    key_file: Path | None,
    passphrase_file: str | None,
    dev_key: int | None,
    registry: str | None,
    min_period: int | None,
    permit2: str | None,
    token: bool,
    plain: bool,
) -> None:
    """Put SecretRegistry and ChannelManager on a chain and print the entry for the settings.

    They get the same addresses whoever deploys them, and on every chain; what is there already is checked and used.
    """
    import trio

    from channeld.base.units import Seconds
    from channeld.chain.networks import network
    from channeld.cli.secrets import key_in
    from contracts.deploy import PERMIT2

    here = session()
    profile = network(here.place().network)
    if token and profile.id != "dev":
        raise Refused("usage", f"no tokens for play on {profile.id}", "--token goes with --network dev")
    if (dev_key is None) == (key_file is None):
        raise Refused("usage", "say who pays", "--key-file FILE, or --dev-key 0 on a dev chain")
    known, permits = _address("--registry", registry), _address("--permit2", permit2)
    if key_file is not None:
        key = key_in(key_file, passphrase_file)
    else:
        from channeld.chain.devchain import dev_keys

        key = dev_keys()[dev_key or 0]
    here.out.progress("sending the contracts")
    period = Seconds(min_period or profile.min_challenge_period)
    what = {"min_period": period, "registry": known, "permit2": permits or PERMIT2, "token": token, "plain": plain}
    found = trio.run(_deployed, rpc, key, profile, what)
    _say_deployed(here.out, profile, rpc, found, period)


def _address(option: str, text: str | None) -> Address | None:
    from channeld.base.settings import address

    try:
        return address(text) if text else None
    except ValueError as fault:
        raise Refused("usage", f"{option} {fault}", "0x…") from None


async def _deployed(url: str, key: Key, profile: Network, what: dict[str, Any]) -> Deployment:
    """`what`: the arguments of `channeld.chain.deploy.deploy`."""
    import trio

    from channeld.chain.deploy import deploy as put
    from channeld.chain.intents import MemoryIntents
    from channeld.chain.rpc import Rpc
    from channeld.chain.sender import Sender

    async with Rpc(url) as rpc:
        chain_id = int(await rpc.call("eth_chainId"), 16)
        if chain_id != profile.chain_id:
            hint = f"name its profile: --network; {profile.id} has {profile.chain_id}"
            raise Refused("wrong_chain", f"{url} is chain {chain_id}", hint)
        sender = Sender(
            rpc,
            key,
            MemoryIntents(),
            chain_id=chain_id,
            fees=profile.fees,
            finality=profile.finality,
            poll=min(profile.poll, 1.0),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(sender.run)
            found = await put(sender, rpc, **what)
            nursery.cancel_scope.cancel()
    return found


def _say_deployed(out: Output, profile: Network, url: str, found: Deployment, period: int) -> None:
    where = {"manager": f"0x{found.manager.hex()}", "registry": f"0x{found.registry.hex()}"}
    entry = ["[chain]", f'rpc = ["{url}"]', *(f'{name} = "{value}"' for name, value in where.items())]
    tokens = {}
    if found.token is not None:
        tokens = {"DemoUSD": {"address": f"0x{found.token.hex()}", "decimals": 6}}
        entry.append(f'tokens = {{ DemoUSD = {{ address = "0x{found.token.hex()}", decimals = 6 }} }}')
    if period != profile.min_challenge_period:
        entry.append(f"min_challenge_period = {period}")
    text = "\n".join(entry)
    if out.as_json:
        network = {"network": profile.id, "chain_id": profile.chain_id, "rpc": url}
        made = {"min_period": period, "permit2": f"0x{found.permit2.hex()}", "permit2_there": found.permit2_there}
        cost = {"block": found.block, "gas_used": found.gas_used, "fee": str(found.fee), "config": text}
        out.value(network | where | made | {"tokens": tokens} | cost)
        return
    if not found.permit2_there and profile.id != "dev":
        out.text(f"no Permit2 at 0x{found.permit2.hex()}: deposits by its permits revert")
    if found.gas_used:
        out.text(f"deployed in block {found.block} for {found.gas_used} gas; for config.toml:", "", *entry)
    else:
        out.text(f"there since block {found.block}, nothing was sent; for config.toml:", "", *entry)
