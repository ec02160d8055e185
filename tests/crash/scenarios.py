"""What nodes go through while one of them dies: each scenario is prepared, played while points count, and judged.

A scenario's function prepares its world with `sim.watching` off, turns it on for what the scenario is about, and says
who is honest and, where books cannot be asked, what each must have won. `run` brings the world to its end and judges
it by `laws`. Every step asks the way a client does: again, with the same words, when the node died over it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio
from eth_account import Account

from channeld.base.errors import Refused
from channeld.base.keys import Key, keccak
from channeld.base.units import Amount, ChannelId, Digest, Timestamp
from channeld.chain.chain import Call
from channeld.core.channel import Channel, Phase
from channeld.core.events import Offer
from channeld.node.ledger import Attempt
from channeld.node.loop import Actor
from channeld.wire import invoice, onion, payload
from channeld.wire import messages as wire
from channeld.wire.payload import FinalPayload
from tests.crash.chain import BASE_FEE, GAS, TIP, ModelChain, Tx
from tests.crash.copies import keep, set_back, up
from tests.crash.held import held, held_on_chain, keysend
from tests.crash.laws import finish, judge
from tests.crash.played import DEPOSIT, Played, Program, line, quiet
from tests.crash.sim import DOMAIN, Node, Point, Sim, Unlawful, contracts, named_token, simulate

# -- opening and paying


async def open_(sim: Sim, actor: type[Actor]) -> Played:
    sim.watching = False
    payer, payee = await sim.node("payer", actor=actor), await sim.node("payee", actor=actor)
    sim.watching = True
    opened = await payer.open(payee, DEPOSIT)
    if await payer.transfer(opened, [5], "first") == "failed":
        raise Unlawful("a new channel does not pay")
    paid_into = [name for name, channel in sim.chain.model.channels.items() if channel.holds]
    payer_up = await payer.ready()
    asked = payer_up.store.rows("SELECT key FROM asked")  # a caller that has waited in vain asks under a new one
    if opened.hex() not in paid_into or len(paid_into) > len(asked):
        raise Unlawful(f"{len(asked)} channels were asked for, {len(paid_into)} have money in them")
    await quiet((payer, payee))
    return Played(honest=(payer, payee))


async def direct(sim: Sim, actor: type[Actor]) -> Played:
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    sim.watching = True
    await payer.transfer(opened, [3, 4, 5], "one")
    await payer.transfer(opened, [6], "two")
    await payee.until(lambda: int(payee.channel(opened)["ours"]) == 18)
    await payee.transfer(opened, [7], "back")
    await quiet((payer, payee))
    return Played(honest=(payer, payee))


async def forward(sim: Sim, actor: type[Actor]) -> Played:
    (payer, hub, payee), _ = await line(sim, actor, "payer", "hub", "payee")
    sim.watching = True
    asked = await payee.invoice(70, "one")
    await payer.pay(asked["invoice"])
    await quiet((payer, hub, payee))
    return Played(honest=(payer, hub, payee))


async def fail_back(sim: Sim, actor: type[Actor]) -> Played:
    """A hop that cannot, and a payee whose invoice has expired when the lock comes."""
    (payer, hub, payee), (_left, right) = await line(sim, actor, "payer", "hub", "payee")
    await hub.transfer(right, [800], "used up")
    await quiet((payer, hub, payee))
    sim.watching = True

    def judge_(sender: str, to: str, message: wire.Message) -> float | None:
        return 30.0 if (sender, to) == ("hub", "payee") and isinstance(message, wire.AddLock) else 0.0

    large, late = await payee.invoice(500, "too large"), await payee.invoice(20, "late", expiry=20)
    if await payer.pay(large["invoice"], 30) == "succeeded":
        raise Unlawful("a payment passed where no money is")
    sim.judge = judge_
    if await payer.pay(late["invoice"], 30) == "succeeded":
        raise Unlawful("an invoice was paid after its time")
    sim.judge = lambda *_: 0.0
    await quiet((payer, hub, payee))
    return Played(honest=(payer, hub, payee))


async def crossing(sim: Sim, actor: type[Actor]) -> Played:
    """Proposals cross on a slow line that is cut in the middle, twice."""
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    await payer.transfer(opened, [300], "before")
    await payee.until(lambda: int(payee.channel(opened)["ours"]) == 300)
    seen: dict[str, int] = {"payer": 0, "payee": 0}

    def judge_(sender: str, to: str, message: wire.Message) -> float | None:
        if isinstance(message, wire.Commit):
            seen[sender] += 1
            return None if seen[sender] == (2 if sender == "payer" else 3) else 0.4
        return 0.0

    sim.judge = judge_
    sim.watching = True
    for round_ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(payer.transfer, opened, [10, 20], f"there {round_}")
            nursery.start_soon(payee.transfer, opened, [1, 2], f"back {round_}")
        await trio.sleep(0.3)
    await quiet((payer, payee))
    sim.judge = lambda *_: 0.0
    return Played(honest=(payer, payee))


async def parts(sim: Sim, actor: type[Actor]) -> Played:
    """One payment in two parts over two channels: our payer sends one lock a payment, so its parts are offered here."""
    sim.watching = False
    payer, payee = await sim.node("payer", actor=actor), await sim.node("payee", actor=actor)
    opened = [await payer.open(payee, amount) for amount in (DEPOSIT, DEPOSIT + 1)]
    asked = invoice.decode((await payee.invoice(100, "in parts"))["invoice"])
    now = Timestamp(int(sim.time()))
    expiry = Timestamp(now + 120)
    service = payer.service
    for id_, amount in zip(opened, (60, 40), strict=True):
        told = FinalPayload(
            amount=Amount(amount), expiry=expiry, payment_secret=asked.payment_secret, total=Amount(100)
        )
        built = onion.build([(payee.node_id, payload.encode(told))], asked.payment_hash, keccak(id_))
        tag = service.book.tag(Attempt(hash=asked.payment_hash, route=b""))
        offer = Offer(tag=tag, amount=Amount(amount), key=asked.payment_hash, expiry=expiry, onion=built.packet)
        sim.watching = True
        await service.book.actors[id_].ask(offer)
    await quiet((payer, payee))
    paid = (await payee.ready()).store.rows("SELECT state FROM invoices")[0][0] == "paid"
    return Played(honest=(payer, payee), won={"payer": -100 * paid, "payee": 100 * paid})


async def rebalance(sim: Sim, actor: type[Actor]) -> Played:
    """A payment to ourselves, round a triangle: out and home are two channels of one node, and neither knows the other.
    Then one that comes back, since nothing is left in between."""
    (owner, left, right), (out, between) = await line(sim, actor, "owner", "left", "right")
    home = await right.open(owner, DEPOSIT)
    await owner.until(lambda: home in owner.service.gossip.known)
    asked: dict[str, Any] = {"from_channel": out, "to_channel": home, "max_fee": None, "timeout": 120}
    sim.watching = True
    with suppress(Refused):  # one of the others may be away just then
        await owner.ask("rebalance", amount=200, idempotency_key="one", **asked)
    await quiet((owner, left, right))
    await left.transfer(between, [700], "used up")
    with suppress(Refused):
        told = await owner.ask("rebalance", amount=301, idempotency_key="two", **asked)
        raise Unlawful(f"a rebalance passed where no money is: {told}")
    await quiet((owner, left, right))
    return Played(honest=(owner, left, right))


async def probe(sim: Sim, actor: type[Actor]) -> Played:
    """Locks that nobody can take, one that arrives and one that does not: whoever dies over them, nobody pays."""
    sim.watching = False
    owner = await sim.node("owner", actor=actor, probing=True)
    hub, payee = await sim.node("hub", actor=actor), await sim.node("payee", actor=actor)
    opened = [await owner.open(hub, DEPOSIT), await hub.open(payee, DEPOSIT // 2)]
    await owner.until(lambda: all(id_ in owner.service.gossip.known for id_ in opened))
    sim.watching = True
    for amount in (300, 450):  # the hub lets one neighbour bind 400 of what it has there
        with suppress(Refused):  # the hub may be away just then
            await owner.ask("probe", node_id=payee.node_id, token="DemoUSD", amount=amount, max_fee=100)
    await quiet((owner, hub, payee))
    return Played(honest=(owner, hub, payee), won={"owner": 0, "hub": 0, "payee": 0})


# -- closing


async def together(sim: Sim, actor: type[Actor]) -> Played:
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    await payer.transfer(opened, [100], "paid")
    await quiet((payer, payee))
    sim.watching = True
    await payer.ask("close_channel", channel_id=opened, force=False, timeout=60)
    for node in (payer, payee):
        await node.until(lambda node=node: node.channel(opened)["state"] == "closed")  # type: ignore[misc]
    return Played(honest=(payer, payee))


async def alone(sim: Sim, actor: type[Actor]) -> Played:
    """Both close at once and alone, after a payment."""
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    await payer.transfer(opened, [100], "paid")
    await quiet((payer, payee))
    sim.watching = True
    await payer.ask("close_channel", channel_id=opened, force=True, timeout=0)
    for node in (payer, payee):
        await node.until(lambda node=node: node.channel(opened)["state"] == "closed")  # type: ignore[misc]
    return Played(honest=(payer, payee), wounded=True)


async def _stale(sim: Sim, actor: type[Actor]) -> tuple[Node, Node, ChannelId, Channel]:
    """A cheat that is off line, holds an old state, and owes more by the newest."""
    (cheat, payee), (opened,) = await line(sim, actor, "cheat", "payee")
    await cheat.transfer(opened, [100], "a little")
    await quiet((cheat, payee))
    old = cheat.service.book.actors[opened].channel
    await cheat.transfer(opened, [500], "more")
    await payee.until(lambda: int(payee.channel(opened)["ours"]) == 600)
    cheat.restart = False
    cheat.crash()
    return cheat, payee, opened, old


def close_call(channel: Channel) -> Call:
    """Close alone with whatever state `channel` holds."""
    state = channel.current
    return contracts().close(
        channel.token,
        channel.terms,
        version=state.version,
        body_hash=state.body_hash,
        signature=state.signature(channel.we.other),
        salt_other=channel.salt_theirs,
        salt_own_hash=keccak(channel.salt_ours),
    )


def send_raw(sim: Sim, key: Key, call: Call) -> Tx:
    """A transaction from outside any daemon."""
    if call.to is None:
        raise ValueError("nothing is deployed here")
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": DOMAIN.chain_id,
        "nonce": sim.chain.state.nonces.get(key.address, 0),
        "gas": GAS,
        "maxFeePerGas": 2 * BASE_FEE + TIP,
        "maxPriorityFeePerGas": TIP,
        "value": call.value,
        "data": call.data,
        "to": bytes(call.to),
    }
    return sim.chain.submit(bytes(Account.sign_transaction(fields, key.secret).raw_transaction))


async def dispute(sim: Sim, actor: type[Actor]) -> Played:
    """An old state on chain: the payee answers with the newest, and is paid by it."""
    cheat, payee, opened, old = await _stale(sim, actor)
    send_raw(sim, cheat.key, close_call(old))
    sim.watching = True
    await payee.until(lambda: payee.channel(opened)["state"] == "closed")
    if sim.chain.model.balance("coin", "0x" + cheat.key.address.hex()) + sim.chain.gas_of(cheat.key.address) >= 10**20:
        raise Unlawful("the cheat has its bond back")
    return Played(honest=(payee,), won={"payee": 600}, wounded=True)


# -- locks on chain


async def _withheld(sim: Sim, actor: type[Actor]) -> tuple[tuple[Node, Node, Node], dict[str, str]]:
    """A payment over a hub whose payee can say the preimage only to the chain."""
    nodes, _ = await line(sim, actor, "payer", "hub", "payee")
    payer, hub, payee = nodes

    def judge_(sender: str, to: str, message: wire.Message) -> float | None:
        if sender == "payee" and isinstance(message, wire.FulfilLock):
            sim.apart.add(frozenset(("hub", "payee")))
            return None
        return 0.0

    sim.judge = judge_
    asked = await payee.invoice(70, "withheld")
    return (payer, hub, payee), asked


async def secret(sim: Sim, actor: type[Actor]) -> Played:
    """The preimage goes over the registry: payee and hub are paid, in one channel by the chain."""
    (payer, hub, payee), asked = await _withheld(sim, actor)
    sim.watching = True
    await payer.pay(asked["invoice"], 400)
    (right,) = (await payee.ready()).book.actors
    await payee.ask("close_channel", channel_id=right, force=True, timeout=0)
    for node in (payee, hub):
        await node.until(lambda node=node: node.channel(right)["state"] == "closed")  # type: ignore[misc]
    sim.apart.clear()
    return Played(honest=(payer, hub, payee), wounded=True)


async def gone(sim: Sim, actor: type[Actor]) -> Played:
    """The payee dies for good with a lock proposed to it: hub and payer get their money back."""
    (payer, hub, payee), (_left, right) = await line(sim, actor, "payer", "hub", "payee")

    def judge_(sender: str, to: str, message: wire.Message) -> float | None:
        if (sender, to) == ("hub", "payee") and isinstance(message, wire.Commit):
            payee.restart = False
            payee.crash()
            return None
        return 0.0

    sim.judge = judge_
    asked = await payee.invoice(70, "nobody there")
    sim.watching = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(payer.pay, asked["invoice"], 60)
        await trio.sleep(10)
        await hub.ask("close_channel", channel_id=right, force=True, timeout=0)
    await hub.until(lambda: hub.channel(right)["state"] == "closed")
    await quiet((payer, hub))
    return Played(honest=(payer, hub), won={"payer": 0, "hub": 0}, wounded=True)


# -- reorgs


async def reorg_close(sim: Sim, actor: type[Actor]) -> Played:
    """The close goes, and then the settlement: what was sent is lost to the pool, and must be sent again."""
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    await payer.transfer(opened, [100], "paid")
    await quiet((payer, payee))
    sim.watching = True
    await payer.ask("close_channel", channel_id=opened, force=True, timeout=0)
    for what in ("close", "settle"):
        while not any(done.tx.name == what and done.ok for block in sim.chain.blocks for done in block.mined):
            await trio.sleep(0.5)
        sim.chain.reorganise(2, drop=lambda tx, what=what: tx.name == what)  # type: ignore[misc]
    for node in (payer, payee):
        await node.until(lambda node=node: node.channel(opened)["state"] == "closed")  # type: ignore[misc]
    return Played(honest=(payer, payee), wounded=True)


async def reorg_secret(sim: Sim, actor: type[Actor]) -> Played:
    """The registration goes with a reorg (R20)."""
    (payer, hub, payee), asked = await _withheld(sim, actor)
    sim.watching = True

    async def reorganise() -> None:
        with trio.move_on_after(150):  # after a death the lock may have come back instead: nothing is registered then
            while not any(done.tx.name == "register" for block in sim.chain.blocks for done in block.mined):
                await trio.sleep(0.5)
            sim.chain.reorganise(2, drop=lambda tx: tx.name == "register")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reorganise)
        await payer.pay(asked["invoice"], 400)
    sim.apart.clear()
    sim.judge = lambda *_: 0.0
    await quiet((payer, hub, payee))
    return Played(honest=(payer, hub, payee), wounded=True)


# -- money that could not be pushed, and copies


async def withdraw(sim: Sim, actor: type[Actor]) -> Played:
    """A payout that the token refuses is owed, and the node takes it when it can."""
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    await payer.transfer(opened, [100], "paid")
    await quiet((payer, payee))
    owner = "0x" + payee.key.address.hex()
    for block in sim.chain.blocks:
        block.state.model.refusing.add((named_token(), owner))
    sim.watching = True
    await payer.ask("close_channel", channel_id=opened, force=False, timeout=60)
    await payee.until(lambda: payee.channel(opened)["state"] == "closed")
    if sim.chain.model.owed.get((named_token(), owner)) != 100:
        raise Unlawful("what could not be paid is not owed")
    for block in sim.chain.blocks:
        block.state.model.refusing.clear()
    await payee.until(lambda: not sim.chain.model.owed.get((named_token(), owner)), 1_500)
    return Played(honest=(payer, payee))


async def restore(sim: Sim, actor: type[Actor]) -> Played:
    """The payer comes back with an old copy of its database: it must sign nothing, and end by the newest state."""
    (payer, payee), (opened,) = await line(sim, actor, "payer", "payee")
    await payer.transfer(opened, [100], "before")
    await quiet((payer, payee))
    kept = await keep(payer)
    await payer.until(lambda: payer.channel(opened)["connected"])
    await payer.transfer(opened, [200], "forgotten")
    await payee.until(lambda: int(payee.channel(opened)["ours"]) == 300)
    await quiet((payer, payee))
    await set_back(payer, kept)
    sim.watching = True
    await up(payer)
    await payer.until(lambda: payer.service.book.actors[opened].channel.phase is not Phase.OPEN)
    await payer.ask("close_channel", channel_id=opened, force=False, timeout=20)
    for node in (payer, payee):
        await node.until(lambda node=node: node.channel(opened)["state"] == "closed")  # type: ignore[misc]
    return Played(honest=(payer, payee), won={"payer": -300, "payee": 300}, wounded=True)


SCENARIOS: Final[dict[str, Program]] = {
    "open": open_,
    "direct": direct,
    "forward": forward,
    "fail back": fail_back,
    "crossing": crossing,
    "parts": parts,
    "held": held,
    "keysend": keysend,
    "together": together,
    "alone": alone,
    "dispute": dispute,
    "secret": secret,
    "held on chain": held_on_chain,
    "gone": gone,
    "reorg close": reorg_close,
    "reorg secret": reorg_secret,
    "withdraw": withdraw,
    "restore": restore,
    "rebalance": rebalance,
    "probe": probe,
}


ONLY: Final[dict[str, frozenset[str]]] = {"parts": frozenset({"payee"})}
"""Whose deaths a scenario is about, where it is not everybody: a payer in parts is the scenario itself."""


SHORTEST_LOCK: Final = 30.0
"""Seconds (`forward_delta` here) for which a node may be down without missing anything."""
LONG: Final[dict[str, frozenset[str]]] = (
    {
        name: frozenset({"payer", "payee"})
        for name in ("open", "direct", "crossing", "together", "alone", "reorg close", "withdraw")
    }
    | {name: frozenset({"payer"}) for name in ("forward", "held", "keysend")}
    | {"secret": frozenset({"payer"}), "reorg secret": frozenset({"payer"})}
)
"""Who may be down for long and still lose nothing. A forwarder or payee that sleeps past the expiry of a lock whose
preimage it has given away loses that lock (R17, R20): no start can mend it, so it is not tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    points: tuple[Point, ...]
    deaths: int
    seconds: float
    """Simulated."""
    reverted: int
    """Transactions that were mined in vain."""


def run(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    doomed: Point | None = None,
    again: int | None = None,
    down_for: float = 1.0,
    actor: type[Actor] = Actor,
    chain: type[ModelChain] = ModelChain,
) -> Result:
    """Play a scenario to its end and judge it; Unlawful says which law is broken.

    A node that was down for longer than its locks stood may find its channels on chain, and nothing wrong with it.
    """

    async def program(sim: Sim) -> Result:
        sim.down_for = down_for
        played = await SCENARIOS[name](sim, actor)
        if not played.wounded and down_for < SHORTEST_LOCK:
            for node in played.honest:
                await node.ready()
                for one in node.service.book.actors.values():
                    if one.broken or one.channel.phase not in (Phase.OPENING, Phase.OPEN, Phase.CLOSED):
                        raise Unlawful(f"{node.name}: a channel is {one.channel.phase.name} {one.channel.reason}")
        points = tuple(sim.points)
        await finish(sim, played.honest)
        judge(sim, played.honest, played.won)
        return Result(
            points=points,
            deaths=sim.deaths,
            seconds=sim.clock.current_time(),
            reverted=len(sim.chain.refused),
        )

    return simulate(program, folder, seed=seed, doomed=doomed, again=again, chain=chain)


__all__ = ["SCENARIOS", "Digest", "Result", "line", "quiet", "run"]
