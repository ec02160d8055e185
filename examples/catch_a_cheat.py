"""A cheat closes with an old state while its victim sleeps. The victim's watchtower answers, and takes the bond.

    python examples/catch_a_cheat.py

The cheat is a program of its own, `examples/cheat.py`: it copies an old state, signed by both, out of its node's store.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import trio

from channeld.cli.stage import ETHER, Actor, Stage, stage
from channeld.client import connect_tower

DOLLAR = 1_000_000


async def cheat(town: Stage, *words: str) -> Any:
    """Run the adversary program."""
    program = Path(__file__).parent / "cheat.py"
    command = [sys.executable, str(program), *words]
    done = await trio.run_process(command, capture_stdout=True, env=town.environment())
    return json.loads(done.stdout)


async def guarded(victim: Actor) -> None:
    """Wait until the tower has signed for the victim's newest state."""
    async with victim.client() as client:
        while True:
            told = await client.tower_status()
            if told["guarded"] == told["channels"] and told["value_at_risk"] == "0":
                return
            await trio.sleep(0.1)


async def bond_won(tower: Actor) -> int:
    """Wait until the tower was paid; wei."""
    async with connect_tower(tower.socket) as client:
        while True:
            told = await client.tower_status()
            if int(told["earned"]):
                return int(told["earned"])
            await trio.sleep(0.2)


async def main() -> None:
    async with stage() as town:
        print("starting a chain, two nodes and a watchtower ...")
        await town.chain()
        await town.deploy()
        ours, theirs = await town.nodes("cheat", "victim", tokens=100 * DOLLAR)
        tower = await town.tower("tower")
        await town.fund(tower.address, wei=ETHER)
        channel = await town.open(ours, theirs, 50 * DOLLAR, period=12)
        async with theirs.client() as client:
            await client.tower_add(uri=tower.uri)

        async with ours.client() as client:
            await client.send_transfers(channel_id=channel, transfers=[{"amount": 5 * DOLLAR}])
            home, state = str(town.root / "cheat"), str(town.root / "old.state")
            old = await cheat(town, "keep", "--data-dir", home, "--channel", channel, "--to", state)
            print(f"the cheat puts state #{old['version']} aside: it had 45 dollars then")
            await client.send_transfers(channel_id=channel, transfers=[{"amount": 30 * DOLLAR}])
        print("the cheat pays 30 dollars more; the victim goes to sleep")
        await guarded(theirs)
        await theirs.stop()
        await ours.stop()

        passphrase = str(town.root / "passphrase")
        words = ("--data-dir", home, "--passphrase-file", passphrase, "--rpc", town.url, "--state", state)
        closed = await cheat(town, "close", *words)
        print(f"the cheat closes with state #{closed['version']}, in block {closed['block']}")

        bond = await bond_won(tower)
        print(f"the tower has answered with the newest state and has the cheat's bond of {bond} wei")
        await theirs.start()
        shown = await town.channel_state(theirs, channel, "closed")
        print(f"the victim wakes up and has its {int(shown['paid_ours']) / DOLLAR:.2f} dollars on chain")


if __name__ == "__main__":
    trio.run(main)
