"""A tower as a process of its own, to be killed: `python -m tests.tower.process <settings as JSON>`.

Prints one JSON line, where it listens, and runs until a signal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import trio

from channeld.chain.networks import network
from channeld.tower.config import TowerConfig
from channeld.tower.run import TowerReady, run
from tests.tower.world import PROFILE, key_of


async def main(told: dict[str, Any]) -> None:
    profile = network("dev", {**PROFILE, "manager": told["manager"], "registry": told["registry"]})
    home = Path(told["home"])
    config = TowerConfig(
        data_dir=home, network=profile, socket=home / "rpc.sock", listen=("127.0.0.1", 0), rpc=(told["rpc"],)
    )
    async with trio.open_nursery() as nursery:
        ready: TowerReady = await nursery.start(run, config, key_of("tower"))
        print(json.dumps({"port": ready.listen.port, "node_id": ready.node_id.hex()}), flush=True)


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
