"""A small network on one machine: a development chain, contracts, nodes and towers as real processes.

Every part is started through the public command line, with its own data directory, and spoken to through its own
socket, exactly as a user would. The demo, the examples, the benchmarks and the end-to-end tests stand on it. Leaving
the `Stage` ends every process it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.keys import Key
from channeld.base.units import NATIVE, Address
from channeld.client import connect

PATIENCE: Final = 60.0
"""Seconds for any process to say that it is ready."""
ETHER: Final = 10**18
HERE: Final = Path(__file__).resolve().parents[2]
"""The folder that holds the package."""


@dataclass(eq=False, kw_only=True)
class Actor:
    """One process. `ready` is the line it printed when it stood; `log` is where its stderr goes."""

    name: str
    command: list[str]
    log: Path
    environment: Mapping[str, str]
    ready: dict[str, Any] = field(default_factory=dict)
    process: trio.Process | None = None

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def socket(self) -> Path:
        return Path(self.ready["socket"])

    @property
    def node_id(self) -> str:
        return str(self.ready["node_id"])

    @property
    def uri(self) -> str:
        return f"{self.node_id.removeprefix('0x')}@{self.ready['listen']}"

    @property
    def address(self) -> Address:
        return Address(bytes.fromhex(self.ready["address"][2:]))

    async def start(self, patience: float = PATIENCE) -> None:
        """Start it and wait for its ready line; the second time where it listened before.

        Refused (start_failed) with the end of its log if no such line comes.
        """
        again = ["--listen", str(self.ready["listen"])] if "listen" in self.ready else []
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                self.command + again,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment,
                start_new_session=True,
            )
        line = b""
        with trio.move_on_after(patience):
            line = await _first_line(self.process)
        try:
            self.ready = json.loads(line)
        except ValueError:
            await self.kill()
            raise Refused("start_failed", f"{self.name} did not start: {self.tail()}", f"see {self.log}") from None

    def tail(self) -> str:
        """The last words of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace").strip()[-500:] or "it said nothing"

    async def stop(self, patience: float = 10.0) -> int:
        """Ask it to end (SIGTERM) and wait; kill it if it does not. Returns its exit code."""
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with trio.move_on_after(patience):
                await self.process.wait()
        await self.kill()
        return self.process.returncode or 0

    async def kill(self) -> None:
        """`kill -9`, at once."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            with trio.CancelScope(shield=True):
                await self.process.wait()

    def client(self) -> Any:
        """Its socket: `async with actor.client() as client`."""
        return connect(self.socket)


async def _first_line(process: trio.Process) -> bytes:
    line = b""
    if process.stdout is None:
        return line
    while not line.endswith(b"\n"):
        got = await process.stdout.receive_some(65_536)
        if not got:
            return line
        line += got
    return line


@dataclass(eq=False, kw_only=True)
class Stage:
    """Where the processes live. `token` is the play token's address as text, `DemoUSD` with six decimals."""

    root: Path
    actors: dict[str, Actor] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """Further lines of every node's [chain] settings, e.g. {"max_head_age": "5"}."""
    url: str = ""
    manager: str = ""
    registry: str = ""
    token: str = ""
    min_period: int = 10

    # -- parts

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "channeld", *words]

    async def tell(self, *words: str, check: bool = True) -> Any:
        """Run one command of the command line to its end; its JSON answer. Refused (command_failed) if it fails."""
        done = await trio.run_process(
            self.command(*words),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=self.environment(),
        )
        if done.returncode and check:
            raise Refused(
                "command_failed", f"channeld {' '.join(words)}: {done.stderr.decode(errors='replace')[-500:]}"
            )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def environment(self) -> dict[str, str]:
        """Ours without its settings; programs find this very package, installed or not, wherever they are started."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHANNELD_")}
        path = os.pathsep.join(filter(None, [str(HERE), clean.get("PYTHONPATH")]))
        return clean | {"XDG_RUNTIME_DIR": str(self.root), "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}

    def actor(self, name: str, *words: str) -> Actor:
        made = Actor(
            name=name,
            command=self.command(*words),
            log=self.root / f"{name}.log",
            environment=self.environment(),
        )
        self.actors[name] = made
        return made

    async def chain(self, *, block_time: float = 1.0, port: int = 0, extra: tuple[str, ...] = ()) -> Actor:
        """The development chain."""
        words = ("devchain", "--port", str(port), "--block-time", str(block_time), "--json", *extra)
        actor = self.actor("chain", *words)
        await actor.start()
        self.url = actor.ready["url"]
        return actor

    async def deploy(self, *, min_period: int = 10) -> None:
        """The contracts and the play token, paid by the first development key."""
        said = await self.tell(
            *("deploy", "--rpc", self.url, "--dev-key", "0", "--network", "dev", "--token", "--json"),
            *("--min-period", str(min_period)),
        )
        self.manager, self.registry = said["manager"], said["registry"]
        self.token, self.min_period = said["tokens"]["DemoUSD"]["address"], min_period

    async def node(self, name: str, *, extra: str = "", start: bool = True) -> Actor:
        """A node of its own: key, settings, process. `extra`: lines put in front of its settings file."""
        home = self.root / name
        await self._init(name, home)
        self._write_settings(home, extra)
        words = ("run", "--data-dir", str(home), "--passphrase-file", str(self.root / "passphrase"), "--json")
        actor = self.actor(name, *words)
        if start:
            await actor.start()
        return actor

    async def nodes(self, *names: str, extra: str = "", tokens: int = 0) -> list[Actor]:
        """Several nodes, started side by side, each with coins for gas and that many token units."""
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(partial(self.node, name, extra=extra))
        made = [self.actors[name] for name in names]
        await self.fund_all({actor.address: (10 * ETHER, tokens) for actor in made})
        return made

    async def tower(self, name: str, *, extra: str = "", start: bool = True) -> Actor:
        """A watchtower with an account of its own."""
        home = self.root / name
        await self._init(name, home, "--tower")
        self._write_settings(home, extra)
        passphrase = str(self.root / "passphrase")
        words = ("tower", "run", "--data-dir", str(home), "--passphrase-file", passphrase, "--json")
        actor = self.actor(name, *words)
        if start:
            await actor.start()
        return actor

    async def _init(self, name: str, home: Path, *more: str) -> None:
        passphrase = self.root / "passphrase"
        passphrase.write_text("for development only\n", encoding="utf-8")
        await self.tell(
            *("init", "--data-dir", str(home), "--network", "dev", "--passphrase-file", str(passphrase)),
            *("--rpc", self.url, "--manager", self.manager, "--registry", self.registry),
            *("--token", f"DemoUSD={self.token}:6", "--listen", "127.0.0.1:0", "--alias", name, "--json", *more),
        )

    def _write_settings(self, home: Path, extra: str) -> None:
        path = home / "config.toml"
        text = path.read_text(encoding="utf-8")
        chain = "".join(f"{name} = {value}\n" for name, value in (self.settings | self._own()).items())
        head, mark, tail = text.partition("[chain]\n")
        path.write_text(extra + head + mark + chain + tail, encoding="utf-8")

    def _own(self) -> dict[str, str]:
        return {"min_challenge_period": str(self.min_period)}

    # -- money, outside of any channel

    async def fund(self, address: Address, *, wei: int = 10 * ETHER, tokens: int = 0, dev_key: int = 1) -> None:
        """Give an account coins, and mint it tokens; mined when this returns."""
        await self.fund_all({address: (wei, tokens)}, dev_key=dev_key)

    async def fund_all(self, gifts: Mapping[Address, tuple[int, int]], *, dev_key: int = 1) -> None:
        """Give each account (wei, tokens), all at once; mined when this returns."""
        from channeld.chain.bindings import Contracts
        from channeld.chain.intents import Intent, MemoryIntents
        from channeld.chain.networks import network
        from channeld.chain.rpc import Rpc
        from channeld.chain.sender import Sender

        contracts = Contracts(manager=_bytes(self.manager), registry=_bytes(self.registry))
        profile, key = network("dev"), self.dev_key(dev_key)
        calls = [contracts.transfer(NATIVE, address, wei) for address, (wei, _) in gifts.items() if wei]
        calls += [
            contracts.mint(_bytes(self.token), address, tokens) for address, (_, tokens) in gifts.items() if tokens
        ]
        async with Rpc(self.url) as rpc, trio.open_nursery() as nursery:
            sender = Sender(
                rpc,
                key,
                MemoryIntents(),
                chain_id=profile.chain_id,
                fees=profile.fees,
                finality=profile.finality,
                poll=0.1,
            )
            for number, call in enumerate(calls):
                await sender.submit(Intent.of(key.address, f"fund:{number}", call))
            await nursery.start(sender.run)
            for number in range(len(calls)):
                done = await sender.wait(f"fund:{number}")
                if not done.succeeded:
                    raise Unreachable(f"funding failed: {done.reason}")
            nursery.cancel_scope.cancel()

    def dev_key(self, number: int) -> Key:
        from channeld.chain.devchain import dev_keys

        return dev_keys()[number]

    # -- waiting

    async def channel_state(
        self, actor: Actor, channel_id: str, *states: str, quiet: bool = False, patience: float = 60.0
    ) -> dict[str, Any]:
        """Wait until the actor shows the channel in one of `states`, and if it is to be `quiet` with nothing locked.

        Refused (too_late): it does not in time.
        """
        found: dict[str, Any] = {}
        with trio.move_on_after(patience):
            async with actor.client() as client:
                while True:
                    found = (await client.list_channels(channel_id=channel_id))["channels"][0]
                    if found["state"] in states and not (quiet and found["locks"]):
                        return found
                    await trio.sleep(0.1)
        raise Refused("too_late", f"{actor.name}: channel {channel_id[:10]} is {found.get('state')}, not {states}")

    async def open(
        self,
        opener: Actor,
        acceptor: Actor,
        amount: int,
        *,
        token: str = "DemoUSD",
        period: int | None = None,
        public: bool = True,
        peer_amount: int = 0,
        at: str = "",
    ) -> str:
        """A channel between two nodes, open on both sides; its id. `at`: the acceptor's URI, if not its own word."""
        async with opener.client() as client:
            said = await client.open_channel(
                peer=at or acceptor.uri,
                token=token,
                amount=amount,
                peer_amount=peer_amount,
                challenge_period=period,
                public=public,
            )
        channel = str(said["channel_id"])
        await self.channel_state(opener, channel, "open")
        await self.channel_state(acceptor, channel, "open")
        return channel

    async def close(self) -> None:
        """End every process, the chain last."""
        async with trio.open_nursery() as nursery:
            for name, actor in self.actors.items():
                if name != "chain":
                    nursery.start_soon(actor.stop)
        if "chain" in self.actors:
            await self.actors["chain"].stop()


def _bytes(address: str) -> Address:
    return Address(bytes.fromhex(address.removeprefix("0x")))


@asynccontextmanager
async def stage(root: Path | None = None) -> AsyncIterator[Stage]:
    """A stage in a fresh folder (a temporary one if not given), cleaned up at the end."""
    home = Path(tempfile.mkdtemp(prefix="channeld-")) if root is None else root
    home.mkdir(mode=0o700, exist_ok=True)
    made = Stage(root=home)
    try:
        yield made
    finally:
        with trio.CancelScope(shield=True):
            await made.close()
        if root is None:
            rmtree(home, ignore_errors=True)
