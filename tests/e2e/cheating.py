"""A front-runner for the dispute tests: it holds states between the oldest and the newest, and has gas of its own."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import trio

from channeld.base.digests import locks_hash
from channeld.base.keys import Key, keccak
from channeld.base.units import Address, Digest
from channeld.chain.bindings import Contracts
from channeld.chain.chain import Call
from channeld.chain.intents import Intent, MemoryIntents
from channeld.chain.networks import network
from channeld.chain.rpc import Rpc
from channeld.chain.sender import Sender
from channeld.cli.settings import KEYSTORE
from channeld.cli.stage import Actor, Stage
from channeld.core.channel import Channel
from channeld.core.saved import load
from channeld.node.keystore import decrypted
from channeld.node.keystore import load as load_file


def snapshot(actor: Actor, home: Path, name: str) -> Path:
    """A copy of a node's database, as it is now, under another name; the node goes on."""
    target = home / name
    target.mkdir()
    source = sqlite3.connect(home / actor.name / "node.sqlite3")
    copy = sqlite3.connect(target / "node.sqlite3")
    source.backup(copy)
    source.close()
    copy.close()
    for file in ("keystore.json", "config.toml"):
        if (home / actor.name / file).exists():
            shutil.copy(home / actor.name / file, target / file)
    return target


def channel_in(folder: Path, channel_id: str) -> Channel:
    """A channel out of a copied database."""
    copy = sqlite3.connect(folder / "node.sqlite3")
    ((saved,),) = copy.execute("SELECT saved FROM channels WHERE id = ?", (bytes.fromhex(channel_id[2:]),)).fetchall()
    copy.close()
    return load(saved)


async def challenge_with(town: Stage, channel: Channel, key: Key) -> str:
    """Put the channel's state against a close, as anybody who holds both signatures can; the revert reason or ""."""
    contracts, state = _contracts(town), channel.current
    return await send(
        town,
        contracts.challenge(
            channel.token,
            channel.terms,
            version=state.version,
            body_hash=state.body_hash,
            signature_a=state.signature_a,
            signature_b=state.signature_b,
        ),
        key,
    )


async def send(town: Stage, call: Call, key: Key) -> str:
    """One transaction; the reason if it was not done."""
    profile = network("dev")
    async with Rpc(town.url) as rpc, trio.open_nursery() as nursery:
        sender = Sender(
            rpc,
            key,
            MemoryIntents(),
            chain_id=profile.chain_id,
            fees=profile.fees,
            finality=profile.finality,
            poll=0.1,
        )
        await nursery.start(sender.run)
        await sender.submit(Intent.of(key.address, "cheat", call))
        done = await sender.wait("cheat")
        nursery.cancel_scope.cancel()
    return "" if done.succeeded else done.reason


async def close_with(town: Stage, channel: Channel, key: Key) -> str:
    """Close alone with whatever state `channel` holds, as its owner can and an honest daemon would not."""
    state = channel.current
    call = _contracts(town).close(
        channel.token,
        channel.terms,
        version=state.version,
        body_hash=state.body_hash,
        signature=state.signature(channel.we.other),
        salt_other=channel.salt_theirs,
        salt_own_hash=Digest(keccak(channel.salt_ours)),
    )
    return await send(town, call, key)


async def settle_with(town: Stage, channel: Channel, body_of: Channel, bond_to: bytes, key: Key) -> str:
    """Settle by the state that stands, which `body_of` holds."""
    state = body_of.current
    call = _contracts(town).settle(
        channel.token,
        channel.terms,
        net=state.body.net,
        locked_ab=state.body.locked_ab,
        locked_ba=state.body.locked_ba,
        locks_hash=locks_hash(state.body.locks.values()),
        blind=body_of.blind(state.version),
        bond_to=Address(bond_to),
    )
    return await send(town, call, key)


def key_of(town: Stage, name: str) -> Key:
    """A node's account key, opened with the stage's passphrase."""
    return decrypted(load_file(town.root / name / KEYSTORE), (town.root / "passphrase").read_bytes().rstrip())


def _contracts(town: Stage) -> Contracts:
    manager, registry = (Address(bytes.fromhex(text[2:])) for text in (town.manager, town.registry))
    return Contracts(manager=manager, registry=registry)
