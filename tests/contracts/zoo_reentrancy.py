"""The reentrancy matrix: every function of the manager, from inside every call that hands control to a stranger.

One address, the intruder, is a payout address, a bond's receiver or the friend of a token that pokes it in the middle
of each transfer. For a cell of the matrix its code is a few bytes that make one call and log whether it worked: the
call is part of the code, so that it costs no storage, and fits into what a payout's gas allows.

`inner_calls` gives for each function of the ABI calls that work from the intruder when nothing else runs; `outer_calls`
the transactions that reach the intruder. What a transaction comes to is compared by the hash of the whole state.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channeld.base.digests import pack_locks
from channeld.base.keys import Key, compact, keccak
from channeld.base.units import NATIVE, Address, Seconds, Side
from contracts import artifact
from contracts.build import HERE, compiled
from contracts.deploy import PERMIT2, manager_code
from tests.contracts.evm import MINER, Result
from tests.contracts.world import BOND, MIN_PERIOD, NO_STATE, Body, Channel, call_data, key_of, lock, secret_of
from tests.contracts.zoo import CALLS, REFUSES, Zoo
from tests.contracts.zoo_signing import Authorization, Permit, data

STOP: Final = bytes(1)
REFUSE: Final = bytes.fromhex("5f5ffd")
LOCK: Final = "# pragma nonreentrancy on\n"
A, B = 1000, 500
MANY: Final = Seconds(30 * 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to be made: by the intruder if it is an inner one, by `rich` if it is an outer one."""

    name: str
    data: bytes
    value: int = 0
    target: Address | None = None
    """The manager, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a transaction came to: what it returned and logged, the state it left, and how the inner calls ended."""

    good: bool
    output: bytes
    logs: tuple[Any, ...]
    root: bytes
    inner: tuple[bool, ...]


def signature(entry: dict[str, Any]) -> str:
    """Name and types of a function, as its selector hashes them."""
    return f"{entry['name']}({','.join(_type(one) for one in entry['inputs'])})"


def _type(one: dict[str, Any]) -> str:
    if not one["type"].startswith("tuple"):
        return str(one["type"])
    return "(" + ",".join(_type(part) for part in one["components"]) + ")" + str(one["type"]).removeprefix("tuple")


def functions(contract: str) -> list[str]:
    """Every external function, each overload for itself."""
    return [signature(entry) for entry in artifact(contract).abi if entry["type"] == "function"]


def unlocked() -> str:
    """The manager's source without its lock."""
    source = (HERE / "ChannelManager.vy").read_text(encoding="utf-8")
    if source.count(LOCK) != 1:
        raise ValueError("the lock is not where it was")
    return source.replace(LOCK, "")


def init_code(bytecode: str) -> Callable[[Address], bytes]:
    """How to deploy another manager's code with the arguments of ours."""

    def code(registry: Address) -> bytes:
        ours = artifact("ChannelManager").bytecode
        return bytes.fromhex(bytecode[2:]) + manager_code(registry, MIN_PERIOD, PERMIT2)[len(ours) :]

    return code


def intruding(call: Call, manager: Address) -> bytes:
    """Code that makes a call with all its gas, whatever it was called with, and logs one word: whether it worked.

    Called while it is calling, it does nothing: a flag in transient storage says so.
    """
    head, leave = 102, 100
    size = f"61{len(call.data):04x}"
    code = bytes.fromhex(
        f"5f5c60{leave:02x}57"  # if the flag is up, leave
        "60015f5d"  # raise it
        f"{size}60{head:02x}5f39"  # the call's data to memory
        f"5f5f{size}5f7f{call.value:064x}73{(call.target or manager).hex()}5af1"
        "5f5f5d"  # lower the flag
        "5f5260205fa000"  # log, stop
    )
    return code.ljust(leave, b"\x00") + b"\x5b\x00" + call.data


class Scene(Zoo):
    """A world with an intruder and a channel in each phase, for the manager given."""

    def __init__(self, code: Callable[[Address], bytes] | None = None) -> None:
        super().__init__(code)
        self.intruder = self.plant(STOP)
        self.evm.give(self.intruder, 10**18)
        self.beasts = [self.beast() for _ in range(2)]
        for beast in self.beasts:
            self.do(self.rich, beast, "mint", self.intruder, 10**6)
        self.owner = key_of("owner")
        for beast in self.beasts:
            self.do(self.rich, beast, "mint", self.owner.address, 10**6)
        self.poking = self.beasts[0]
        """The token of the outer calls; the other is that of the inner ones."""

    # -- channels in all phases

    def closed(self, channel: Channel, body: Body | None = None, by: Side = Side.A) -> Channel:
        channel.close(by, 0 if body is None else 1, body)
        return channel

    def with_locks(self, token: Address = NATIVE, **terms: Any) -> tuple[Channel, bytes]:
        """A settled channel with a lock of each side, and the call that resolves them."""
        channel, body, resolving = self._over(self.channel(token, **terms), Side.A)
        channel.settle(body)
        return channel, call_data("ChannelManager", "resolve_locks", *resolving)

    def to_settle(self, token: Address = NATIVE, by: Side = Side.A, **terms: Any) -> bytes:
        """The call that settles a closed channel with a lock of each side, and resolves them."""
        _, body, resolving = self._over(self.channel(token, **terms), by)
        return call_data("ChannelManager", "resolve_locks", *resolving, (body.opened(), NATIVE))

    def _over(self, channel: Channel, by: Side) -> tuple[Channel, Body, tuple[Any, ...]]:
        """The channel, closed with a lock of each side, after its deadline; its body, and how to resolve the locks."""
        number = channel.terms.nonce * 10
        body = Body(locks=(lock(number, Side.A, 300, 2**32 - 1), lock(number + 1, Side.B, 200, 2**32 - 1)))
        self.closed(channel.funded(A, B), body, by).wait()
        return channel, body, (*channel.head, pack_locks(body.locks), [secret_of(number), secret_of(number + 1)])

    def in_debt(self, token: Address, owner: Address) -> None:
        """The manager owes `owner` what it could not push."""
        channel = self.channel(token, payout_a=owner).funded(A, 0)
        code = self.evm.code(owner)
        if token == NATIVE:
            self.evm.become(owner, REFUSE)
        else:
            self.turn(token, REFUSES)
        channel.cooperate(1)
        self.evm.become(owner, code)
        if token != NATIVE:
            self.turn(token, 0)
        if self.owed(token, owner) != A:
            raise ValueError("nothing is owed")

    def agreed(self, channel: Channel, *keys: Key) -> bytes:
        """A cooperate of all, signed by the keys given."""
        signed = channel.agree(1, 0, A, A, 2**63)
        both = [compact(one) for key, one in zip(channel.keys, signed, strict=True) if key in keys]
        return call_data("ChannelManager", "cooperate", *channel.head, 1, 0, A, A, 2**63, *both)

    # -- running

    def run(self, outer: Call, code: bytes = STOP, then: Call | None = None) -> Outcome:
        """An outer call with the intruder's code as given, and nothing left of it. `then`: a call of the intruder after
        it, as if in the same block."""
        with self.stage.trial():
            self.evm.become(self.intruder, code)
            done = self.evm.send(self.rich, outer.target or self.manager, outer.data, outer.value, 5_000_000)
            if then is not None:
                self.evm.become(self.intruder, intruding(then, self.manager))
                self.stage.timestamp -= 1
                self.evm.send(self.rich, self.intruder, b"", 0, 5_000_000)
            return self._outcome(done)

    def alone(self, call: Call) -> bool:
        """Whether the intruder's call works when nothing else runs."""
        with self.stage.trial():
            self.evm.become(self.intruder, intruding(call, self.manager))
            done = self.evm.send(self.rich, self.intruder, b"", 0, 5_000_000)
            return self._outcome(done).inner == (True,)

    def _outcome(self, done: Result) -> Outcome:
        """With the fee, which depends on the intruder's gas, taken out of the state, and the intruder's code too."""
        self.evm.become(self.intruder, STOP)
        for who in (self.rich, MINER):
            self.evm.give(who, 10**30 - self.evm.balance(who))
        self.stage.state.set_nonce(self.rich, 10**6)  # type: ignore[arg-type]
        return Outcome(
            good=done.good,
            output=done.output,
            logs=tuple(one for one in done.logs if one[0] != self.intruder),
            root=self.stage.root(),
            inner=tuple(any(text) for source, _, text in done.logs if source == self.intruder),
        )


def inner_calls(scene: Scene) -> dict[str, list[Call]]:
    """For each function of the manager, calls that work from the intruder; the keys are to be those of the ABI."""
    found: dict[str, list[Call]] = {name: [] for name in functions("ChannelManager")}
    other, owner = scene.beasts[1], scene.owner
    memo = [b"\x01" * 32] * 6

    def add(name: str, call: bytes, value: int = 0, note: str = "") -> None:
        (key,) = (one for one in found if keccak(one.encode())[:4] == call[:4])
        assert key.startswith(name + "(")
        found[key].append(Call(name=f"{name}{note}", data=call, value=value))

    def manager(name: str, *arguments: Any) -> bytes:
        return call_data("ChannelManager", name, *arguments)

    mine = {"participant_a": scene.intruder}
    for token, value, note in ((NATIVE, 50, " of coin"), (other, 0, " of a token")):
        terms = scene.channel(token).terms.hash
        add("deposit", manager("deposit", token, terms, 0, 50), value, note)
        add("deposit", manager("deposit", token, terms, 1, 50, memo), value, note)
        add("deposit_many", manager("deposit_many", token, [(terms, 0, 50, memo)]), value, note)
    add("deposit_with_authorization", data(Authorization.to(scene.channel(other), owner, amount=50)))
    add("deposit_with_permit2", data(Permit.to(scene.channel(other), owner, amount=50)))
    for token, note in ((NATIVE, " of coin"), (other, " of a token")):
        together, sent = scene.channel(token).funded(A, B), scene.channel(token, **mine).funded(A, B)
        add("cooperate", scene.agreed(together, *together.keys), 0, note)
        add("cooperate", scene.agreed(sent, sent.keys[1]), 0, note)
        over = scene.closed(scene.channel(token).funded(A, B))
        _, resolve = scene.with_locks(token)
        over.wait()
        add("finalize", manager("finalize", *over.head, bytes(32), NATIVE), 0, note)
        add("settle", manager("settle", *over.head, NO_STATE, NATIVE), 0, note)
        add("resolve_locks", resolve, 0, note)
        add("resolve_locks", scene.to_settle(token), 0, f" and settle{note}")
    wanted = scene.channel(**mine).funded(A, B)
    salts = (wanted.salts[1], keccak(wanted.salts[0]))
    add("close", manager("close", *wanted.head, 0, bytes(32), (bytes(32),) * 2, *salts), BOND)
    order = scene.channel().funded(A, B)
    salts = (order.salts[1], keccak(order.salts[0]))
    signed = order.order(Side.A, 0, bytes(32), 2**40)
    add("close", manager("close", *order.head, 0, bytes(32), (bytes(32),) * 2, *salts, signed), BOND, " by order")
    closing = scene.closed(scene.channel(challenge_period=MANY).funded(A, B))
    evidence = closing.delegated(Side.B, 1, Body(net=5))
    add("challenge", manager("challenge", evidence))
    add("challenge_many", manager("challenge_many", [evidence]))
    debtor = scene.plant(STOP)
    for token, note in ((NATIVE, " of coin"), (other, " of a token")):
        scene.in_debt(token, debtor)
        add("withdraw", manager("withdraw", token, debtor, debtor), 0, note)
    add("owed", manager("owed", NATIVE, debtor))
    add("channel", manager("channel", closing.id))
    for name in ("closings", "REGISTRY", "PERMIT2", "MIN_PERIOD"):
        add(name, manager(name))
    return found


def outer_calls(scene: Scene) -> list[Call]:
    """Transactions of anybody in which the intruder gets to run."""
    return [*_in_coin(scene), *_in_tokens(scene)]


def _in_coin(scene: Scene) -> list[Call]:
    found = []
    for side in Side:
        payout, letter = {("payout_a", "payout_b")[side]: scene.intruder}, "AB"[side]
        together = scene.channel(**payout).funded(A, B)
        found.append(Call(name=f"cooperate pays {letter}", data=scene.agreed(together, *together.keys)))
        early = scene.closed(scene.channel(challenge_period=MANY, **payout).funded(A, B), by=side)
        found.append(Call(name=f"cooperate gives {letter} its bond", data=scene.agreed(early, *early.keys)))
        over = scene.closed(scene.channel(**payout).funded(A, B), by=side)
        over.wait()
        finalize = call_data("ChannelManager", "finalize", *over.head, bytes(32), NATIVE)
        found.append(Call(name=f"finalize gives {letter} its bond", data=finalize))
        settle = call_data("ChannelManager", "settle", *over.head, NO_STATE, NATIVE)
        found.append(Call(name=f"settle pays {letter}", data=settle))
        found.append(Call(name=f"resolve_locks pays {letter}", data=scene.with_locks(**payout)[1]))
        both = scene.to_settle(by=side, **payout)
        found.append(Call(name=f"resolve_locks settles and pays {letter}", data=both))
    beaten = scene.closed(scene.channel().funded(A, B))
    body, to = Body(net=5), scene.intruder
    beaten.challenge(1, body, payout=to, delay=0, delegation=beaten.delegate(Side.B, 1, to, 0))
    beaten.wait()
    opened = body.opened(), to
    ends: dict[str, tuple[Any, ...]] = {
        "finalize": (body.hash, to),
        "settle": opened,
        "resolve_locks": (b"", [], opened),
    }
    for name, rest in ends.items():
        call = call_data("ChannelManager", name, *beaten.head, *rest)
        found.append(Call(name=f"{name} gives a tower the bond", data=call))
    scene.in_debt(NATIVE, to)
    found.append(Call(name="withdraw pays in coin", data=call_data("ChannelManager", "withdraw", NATIVE, to, to)))
    return found


def _in_tokens(scene: Scene) -> list[Call]:
    """The token pokes the intruder in the middle of each transfer; at the end, a receiver is called by its hook."""
    token, owner, found = scene.poking, scene.owner, []
    scene.do(scene.rich, token, "mint", scene.rich, 10**6)
    terms = scene.channel(token).terms.hash
    found.append(Call(name="deposit", data=call_data("ChannelManager", "deposit", token, terms, 0, 50)))
    many = [(terms, 0, 50, [bytes(32)] * 6), (scene.channel(token).terms.hash, 1, 60, [bytes(32)] * 6)]
    found.append(Call(name="deposit_many", data=call_data("ChannelManager", "deposit_many", token, many)))
    for consent in (Authorization.to(scene.channel(token), owner), Permit.to(scene.channel(token), owner, nonce=99)):
        found.append(Call(name=consent.call, data=data(consent)))
    together = scene.channel(token).funded(A, B)
    found.append(Call(name="cooperate pays tokens", data=scene.agreed(together, *together.keys)))
    over = scene.closed(scene.channel(token).funded(A, B))
    over.wait()
    settle = call_data("ChannelManager", "settle", *over.head, NO_STATE, NATIVE)
    found.append(Call(name="settle pays tokens", data=settle))
    found.append(Call(name="resolve_locks pays tokens", data=scene.with_locks(token)[1]))
    found.append(Call(name="resolve_locks settles and pays tokens", data=scene.to_settle(token)))
    hooked = scene.channel(token, payout_a=scene.intruder).funded(A, B)
    found.append(Call(name="cooperate pays a hooked receiver", data=scene.agreed(hooked, *hooked.keys)))
    debtor = scene.plant(STOP)
    scene.in_debt(token, debtor)
    withdraw = call_data("ChannelManager", "withdraw", token, debtor, debtor)
    found.append(Call(name="withdraw pays tokens", data=withdraw))
    scene.do(scene.rich, token, "hook", scene.intruder, True)
    scene.do(scene.rich, token, "aim", scene.intruder, b"")
    scene.turn(token, CALLS)
    return found


def registry_calls(scene: Scene) -> dict[str, Call]:
    """For each function of the registry a call that works."""
    calls = {
        "register": call_data("SecretRegistry", "register", [secret_of(10**9)]),
        "register_points": call_data("SecretRegistry", "register_points", [10**9]),
        "registered_at": call_data("SecretRegistry", "registered_at", bytes(32)),
    }
    return {name: Call(name=name, data=call, target=scene.registry) for name, call in calls.items()}


def without_lock(folder: Path) -> Callable[[Address], bytes]:
    """How to deploy the manager compiled without its lock."""
    source = folder / "ChannelManager.vy"
    source.write_text(unlocked(), encoding="utf-8")
    return init_code(json.loads(compiled(source))["bytecode"])
