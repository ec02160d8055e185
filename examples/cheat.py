"""A cheat: it keeps an old state that both signed, and later closes the channel on chain with that one.

An honest node would never do this, so the cheat is a program of its own. It reads the store of the node it belongs to,
and signs with that node's key, without asking the daemon:

    python examples/cheat.py keep  --data-dir hub --channel 0x… --to old.state
    python examples/cheat.py close --data-dir hub --passphrase-file FILE --rpc URL --state old.state

What it prints is JSON. The daemon should not run when it closes: both would send transactions of the same account.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import trio

from channeld.base.errors import ChanneldError
from channeld.base.keys import Key, keccak
from channeld.base.units import Address
from channeld.chain.bindings import Contracts
from channeld.chain.intents import Intent, MemoryIntents
from channeld.chain.networks import network
from channeld.chain.rpc import Rpc
from channeld.chain.sender import Sender
from channeld.core.channel import Channel
from channeld.core.saved import load
from channeld.node.keystore import decrypted
from channeld.node.keystore import load as read_keystore


def keep(data_dir: Path, channel_id: str, to: Path) -> dict[str, Any]:
    """Copy the newest state of a channel out of a node's store; the node may be running."""
    store = sqlite3.connect(f"file:{data_dir / 'node.sqlite3'}?mode=ro", uri=True)
    try:
        rows = store.execute("SELECT saved FROM channels WHERE id = ?", (bytes.fromhex(channel_id[2:]),)).fetchall()
    finally:
        store.close()
    if not rows:
        raise SystemExit(f"no channel {channel_id} in {data_dir}")
    to.write_bytes(rows[0][0])
    return shown(load(rows[0][0]))


def shown(channel: Channel) -> dict[str, Any]:
    """The state in a few words."""
    return {
        "channel_id": f"0x{channel.id.hex()}",
        "version": channel.current.version,
        "ours": str(channel.balance),
        "theirs": str(channel.peer_balance),
    }


async def close(rpc_url: str, key: Key, channel: Channel) -> dict[str, Any]:
    """Close with the state that was kept: it carries the victim's signature, so the contract takes it."""
    state, profile = channel.current, network("dev")
    contracts = Contracts(manager=Address(channel.domain.manager), registry=Address(bytes(20)))
    call = contracts.close(
        channel.token,
        channel.terms,
        version=state.version,
        body_hash=state.body_hash,
        signature=state.signature(channel.we.other),
        salt_other=channel.salt_theirs,
        salt_own_hash=keccak(channel.salt_ours),
    )
    async with Rpc(rpc_url) as rpc, trio.open_nursery() as nursery:
        sender = Sender(
            rpc,
            key,
            MemoryIntents(),
            chain_id=profile.chain_id,
            fees=profile.fees,
            finality=profile.finality,
            poll=0.1,
        )
        await sender.submit(Intent.of(key.address, "close", call))
        await nursery.start(sender.run)
        done = await sender.wait("close")
        nursery.cancel_scope.cancel()
    if done.receipt is None or not done.succeeded:
        raise SystemExit(f"the close failed: {done.reason}")
    return shown(channel) | {"tx": f"0x{done.receipt.tx_hash.hex()}", "block": done.receipt.block.number}


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description="Keeps an old state of a channel and closes with it.")
    parser.add_argument("what", choices=("keep", "close"))
    parser.add_argument("--data-dir", type=Path, required=True, help="of the node that cheats")
    parser.add_argument("--channel", help="keep: which one")
    parser.add_argument("--to", type=Path, help="keep: the file to write")
    parser.add_argument("--state", type=Path, help="close: the file that was kept")
    parser.add_argument("--rpc", help="close: the chain")
    parser.add_argument("--passphrase-file", type=Path, help="close: opens the node's key")
    given = parser.parse_args()
    try:
        if given.what == "keep":
            said = keep(given.data_dir, given.channel, given.to)
        else:
            passphrase = given.passphrase_file.read_bytes().splitlines()[0]
            key = decrypted(read_keystore(given.data_dir / "keystore.json"), passphrase)
            said = trio.run(close, given.rpc, key, load(given.state.read_bytes()))
    except ChanneldError as fault:
        raise SystemExit(str(fault)) from None
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
