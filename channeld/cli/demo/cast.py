"""Who plays in the demo, and how they come to stand: chain, contracts, three nodes, a tower, a shop; all processes."""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

import channeld
from channeld.base.errors import Refused
from channeld.base.units import NATIVE, Address
from channeld.chain.bindings import Contracts
from channeld.chain.chain import Fact
from channeld.chain.rpc import Rpc
from channeld.cli.demo import books
from channeld.cli.demo.show import Line, Show, Tube, coin, usd
from channeld.cli.stage import ETHER, Actor, Stage
from channeld.client import connect_tower

DOLLAR: Final = 1_000_000
GIFT: Final = 1_000 * DOLLAR
"""DemoUSD that payer and hub begin with."""
DEPOSIT: Final = 50 * DOLLAR
PRICE: Final = DOLLAR // 10
"""Of one call to the shop."""
PERIOD: Final = 15
"""Challenge period of the channels, seconds; a day or so where money is real."""
AnswerT = TypeVar("AnswerT")
FactT = TypeVar("FactT", bound=Fact)
PARTIES: Final = ("payer", "hub", "merchant", "tower")


@dataclass(eq=False, kw_only=True)
class Cast:
    """The stage with its actors, and what is known of the play so far. `fault`: what is broken on purpose."""

    town: Stage
    show: Show
    rpc: Rpc
    contracts: Contracts
    fault: str = ""
    start: int = 0
    """The block at which everybody had their money and no channel was open."""
    first: str = ""
    """payer─hub, the channel's id."""
    second: str = ""
    """hub─merchant."""
    old: dict[str, Any] = field(default_factory=dict)
    """The old state that the cheat keeps."""
    newest: dict[str, Any] = field(default_factory=dict)
    """hub─merchant as the merchant knew it when it went to sleep."""
    closed: dict[str, Any] = field(default_factory=dict)
    """What the cheat said when it had closed."""

    @property
    def calls(self) -> int:
        """Paid calls to the shop; few where the demo is to fail anyway."""
        return 10 if self.fault else 200

    def __getitem__(self, name: str) -> Actor:
        return self.town.actors[name]

    def account(self, name: str) -> str:
        """0x and 40 digits, lower case."""
        return str(self[name].ready["address"]).lower()

    @property
    def token(self) -> Address:
        return Address(bytes.fromhex(self.town.token[2:]))

    async def channel(self, name: str, channel_id: str) -> dict[str, Any]:
        """A channel as a node shows it."""
        async with self[name].client() as node:
            return dict((await node.list_channels(channel_id=channel_id))["channels"][0])

    async def tubes(self) -> list[Tube]:
        """The two channels, each as its left end shows it."""
        first, second = await self.channel("payer", self.first), await self.channel("hub", self.second)
        return [
            Tube(left="payer", right="hub", left_has=int(first["ours"]), right_has=int(first["theirs"])),
            Tube(left="hub", right="merchant", left_has=int(second["ours"]), right_has=int(second["theirs"])),
        ]

    async def tower_status(self) -> dict[str, Any]:
        """What the tower says of itself."""
        async with connect_tower(self["tower"].socket) as tower:
            return dict(await tower.tower_status())

    async def facts(self, kind: type[FactT]) -> list[FactT]:
        """The manager's events of one kind since the start."""
        found = await books.facts(self.rpc, self.contracts, self.start)
        return [fact for fact in found if isinstance(fact, kind)]

    async def chain_time(self) -> int:
        """Of the newest block."""
        return int((await self.rpc.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16)

    async def after(self, moment: int) -> int:
        """Move the dev chain's clock past `moment`; by how many seconds."""
        jump = max(1, moment - await self.chain_time() + 1)
        await self.rpc.call("evm_increaseTime", hex(jump))
        await self.rpc.call("evm_mine")
        return jump

    async def run_example(self, name: str, *words: str) -> dict[str, Any]:
        """Run a program of `examples/` to its end; the JSON it prints. Refused (program_failed) otherwise."""
        done = await trio.run_process(
            [sys.executable, str(example(name)), *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=self.town.environment(),
        )
        if done.returncode:
            raise Refused("program_failed", f"{name}: {done.stderr.decode(errors='replace').strip()[-300:]}")
        return dict(json.loads(done.stdout))


async def until(ask: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
    """Ask ten times a second until the answer is something. Stopped by the caller's time limit."""
    while True:
        answer = await ask()
        if answer:
            return answer
        await trio.sleep(0.1)


def example(name: str) -> Path:
    """A program of `examples/`: beside the source, or where the wheel put it. Refused (`no_example`) if nowhere."""
    beside = Path(channeld.__file__).parents[1] / "examples"
    installed = Path(sysconfig.get_path("data")) / "share" / "channeld" / "examples"
    for folder in (beside, installed):
        if (folder / name).is_file():
            return folder / name
    raise Refused("no_example", f"{name} is neither in {beside} nor in {installed}", "run the demo in a checkout")


@asynccontextmanager
async def rise(town: Stage, show: Show, fault: str) -> AsyncIterator[Cast]:
    """Everything stands and has money. The chain and the contracts come first, the rest side by side."""
    with show.line("chain", "starting a development chain") as line:
        chain = await town.chain(block_time=1.0)
        line.equal("the chain's id", chain.ready["chain_id"], 31_337)
        line.say(
            f"py-evm at {town.url}, chain 31337, a block a second     DEVELOPMENT KEYS", url=town.url, pid=chain.pid
        )
    with show.line("deploy", "putting the contracts on it") as line:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(town.deploy)
            nursery.start_soon(trio.to_thread.run_sync, _web3)  # a second or more, meanwhile
        line.say(f"ChannelManager {town.manager}\nDemoUSD        {town.token}", manager=town.manager, token=town.token)
    manager, registry = (Address(bytes.fromhex(text[2:])) for text in (town.manager, town.registry))
    contracts = Contracts(manager=manager, registry=registry)
    async with Rpc(town.url) as rpc:
        cast = Cast(town=town, show=show, rpc=rpc, contracts=contracts, fault=fault)
        with show.line("nodes", "starting payer, hub, merchant and tower") as line:
            await _nodes(cast)
            _told(cast, line)
        with show.line("money", "sending everybody coins for gas and DemoUSD") as line:
            await _money(cast, line)
        with show.line("shop", "opening the shop") as line:
            await _shop(cast, line)
        yield cast


def _web3() -> None:
    """Import what the first `Contracts` needs."""
    Contracts(manager=NATIVE, registry=NATIVE)


async def _nodes(cast: Cast) -> None:
    town = cast.town
    async with trio.open_nursery() as nursery:
        for name in ("payer", "hub"):
            nursery.start_soon(town.node, name)
        nursery.start_soon(_merchant, cast)
        nursery.start_soon(town.tower, "tower")


async def _merchant(cast: Cast) -> None:
    """An honest node; or, on purpose, one that withholds the preimage."""
    if cast.fault != "preimage-withheld":
        await cast.town.node("merchant")
        return
    actor = await cast.town.node("merchant", start=False)
    actor.command = [sys.executable, str(example("withhold.py")), *actor.command[len(cast.town.command()) :]]
    await actor.start()


def _told(cast: Cast, line: Line) -> None:
    shown = []
    for name in PARTIES:
        actor = cast[name]
        line.must(actor.alive, f"{name} is not running")
        shown.append(f"{name:<9} {actor.ready['listen']:<16} account {actor.ready['address']}  pid {actor.pid}")
    processes = [{"name": name} | cast[name].ready | {"pid": cast[name].pid} for name in PARTIES]
    line.say("\n".join(shown), processes=processes)


async def _money(cast: Cast, line: Line) -> None:
    tokens = {"payer": GIFT, "hub": GIFT, "merchant": 0, "tower": 0}
    await cast.town.fund_all({cast[name].address: (ETHER, tokens[name]) for name in PARTIES})
    cast.start = int(await cast.rpc.call("eth_blockNumber"), 16)
    for name in PARTIES:
        line.equal(f"{name}'s coins", await books.balance(cast.rpc, cast.account(name), cast.start), ETHER)
    line.say(f"{coin(ETHER)} for gas each; payer and hub {usd(GIFT)} DemoUSD", block=cast.start)


async def _shop(cast: Cast, line: Line) -> None:
    merchant = cast["merchant"]
    words = ("shop", "--socket", str(merchant.socket), "--listen", "127.0.0.1:0", "--price", f"{usd(PRICE)}DemoUSD")
    actor = cast.town.actor("shop", *words, "--json")
    await actor.start()
    line.must(actor.alive, "the shop is not running")
    line.say(f"{actor.ready['url']}, {usd(PRICE)} DemoUSD a call; pid {actor.pid}", **actor.ready)
