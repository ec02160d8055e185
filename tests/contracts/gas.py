"""What each call costs, in the same conditions for each: read by the tests, by the bench and by `make bench-gas`.

Steady state, as a busy manager meets it: counters and the manager's token balance are non-zero, the allowance is
infinite; the participants are paid at their own addresses, which exist and hold the token, and side A sends what a
participant sends. Amounts have no zero bytes. The token is OpenZeppelin's (`vectors/openzeppelin_erc20.json`), for so
it was when the others were measured. `make bench-gas` prints the figures beside the floor and the others', on anvil too
where it is; `python -m tests.contracts.gas --write` makes them the snapshot that `test_gas.py` compares with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Side
from tests.contracts.world import Body, Channel, World, key_of, lock, secret_of, words_of

HERE: Final = Path(__file__).parent
SNAPSHOT: Final = HERE / "gas.json"
AMOUNT: Final = 1_234_567_890_123_456_789
NET: Final = 345_678_901_234_567_891
BOND: Final = 1_234_567_890_123_457
LOCK_AMOUNT: Final = 12_345_678_901
MEMO: Final = bytes(range(1, 193))
TEN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a figure is compared with. `floor`: base fee, data, storage, log and transfers, and nothing else."""

    what: str
    target: int | None = None
    floor: int | None = None
    peers: tuple[tuple[str, int], ...] = ()
    """Best first; each its own bytecode on anvil, under the same conditions."""


BESIDE: Final[Mapping[str, Beside]] = {
    "gas_open_eth": Beside(
        what="first deposit",
        target=48_000,
        floor=44_800,
        peers=(("Perun", 46_430), ("Nitro", 46_576), ("Vector", 168_642), ("Celer", 361_968)),
    ),
    "gas_open_erc20": Beside(
        what="first deposit",
        target=67_000,
        floor=62_800,
        peers=(("Perun", 65_234), ("Nitro", 65_638), ("Raiden", 131_438), ("Vector", 212_528)),
    ),
    "gas_open_memo_eth": Beside(what="first deposit with a full memo", target=53_000),
    "gas_open_memo_erc20": Beside(what="first deposit with a full memo"),
    "gas_open_batch_eth": Beside(what="each of ten in one call"),
    "gas_open_batch_erc20": Beside(
        what="each of ten in one call", target=36_000, peers=(("multicall of a bare prototype", 34_576),)
    ),
    "gas_topup_eth": Beside(
        what="further deposit",
        target=31_000,
        floor=27_700,
        peers=(("Perun", 29_330), ("Nitro", 29_572), ("Vector", 33_477)),
    ),
    "gas_topup_erc20": Beside(
        what="further deposit",
        target=50_000,
        floor=45_700,
        peers=(("Perun", 48_134), ("Nitro", 48_634), ("Raiden", 65_173)),
    ),
    "gas_cooperative_close_eth": Beside(
        what="all transactions",
        target=52_000,
        floor=43_000,
        peers=(("Nitro", 92_456), ("Celer", 177_109), ("Vector", 180_455), ("Perun", 264_519)),
    ),
    "gas_cooperative_close_erc20": Beside(
        what="all transactions",
        target=60_000,
        floor=50_500,
        peers=(("Nitro", 99_236), ("Raiden", 141_944), ("Celer", 185_267), ("Vector", 197_899)),
    ),
    "gas_cooperate_relayed_eth": Beside(what="the same, sent by a third party with both signatures"),
    "gas_take_out_eth": Beside(what="one side takes a part out, the channel stays open"),
    "gas_unilateral_close_eth": Beside(
        what="close and settle, bond and index included",
        target=125_000,
        floor=71_800,
        peers=(("Nitro", 174_693), ("Perun", 340_884), ("Celer", 364_036), ("Vector", 398_788)),
    ),
    "gas_unilateral_close_erc20": Beside(
        what="close and settle, bond and index included",
        target=135_000,
        floor=79_500,
        peers=(("Nitro", 183_286), ("Raiden", 226_630), ("Perun", 359_789), ("Celer", 375_225)),
    ),
    "gas_close": Beside(what="close by the newest state", floor=32_400),
    "gas_close_relayed": Beside(what="close by a signed Close"),
    "gas_finalize": Beside(what="pays the bond"),
    "gas_settle_eth": Beside(what="settle, bond included", floor=39_400),
    "gas_challenge": Beside(
        what="by a tower, with delegation",
        target=60_000,
        floor=36_600,
        peers=(("Nitro", 74_113), ("Vector", 81_992), ("Raiden", 90_917), ("Perun", 96_995), ("Celer", 126_018)),
    ),
    "gas_challenge_batched": Beside(what="each of ten", target=50_000, peers=(("Nitro", 74_113), ("Raiden", 90_917))),
    "gas_lock_registered": Beside(
        what="per further lock of 16, secret registered",
        target=7_000,
        floor=1_100,
        peers=(("Raiden", 36_486), ("Celer", 147_621), ("Vector", 187_443)),
    ),
    "gas_lock_new_secret": Beside(
        what="per further lock of 16, secret in the call",
        target=30_000,
        peers=(("Raiden", 36_486), ("Celer", 147_621), ("Vector", 187_443)),
    ),
    "gas_register": Beside(what="one secret", peers=(("Raiden", 46_205),)),
    "gas_register_each": Beside(what="per further secret of 16", peers=(("Raiden", 25_215),)),
    "gas_register_point": Beside(what="one point"),
}


def measure(world: World) -> dict[str, int]:
    """Gas used per operation in a fresh world, all of its transactions together, by the names of `BESIDE`."""
    stored = json.loads((HERE / "vectors" / "openzeppelin_erc20.json").read_text(encoding="utf-8"))
    coin = world.deploy("TestToken", bytes.fromhex(stored["bytecode"][2:]))
    world.evm.give(key_of("tower").address, 1)
    found: dict[str, int] = {}
    for name, token in (("eth", NATIVE), ("erc20", coin)):
        _ready(world, token)
        found |= {f"{key}_{name}": gas for key, gas in _money_in(world, token)}
        found |= {f"{key}_{name}": gas for key, gas in _money_out(world, token)}
    found |= dict(_disputes(world))
    found["gas_lock_registered"] = _per_lock(world, new=False)
    found["gas_lock_new_secret"] = _per_lock(world, new=True)
    secrets = [keccak(b"gas %d" % number) for number in range(17)]
    found["gas_register"] = world.reveal(secrets[0]).gas
    found["gas_register_each"] = (world.reveal(*secrets[1:]).gas - found["gas_register"]) // 15
    point = int.from_bytes(secrets[0], "big")
    found["gas_register_point"] = world.do(world.rich, world.registry, "register_points", [point]).gas
    return {name: found[name] for name in BESIDE if name in found}


def _money_in(world: World, token: Address) -> Iterator[tuple[str, int]]:
    channel = _channel(world, token)
    yield "gas_open", channel.deposit(Side.A, AMOUNT).gas
    yield "gas_topup", channel.deposit(Side.A, AMOUNT).gas
    yield "gas_open_memo", _channel(world, token).deposit(Side.A, AMOUNT, MEMO).gas
    deposits = [(_channel(world, token).terms.hash, 0, AMOUNT, words_of(bytes(192))) for _ in range(TEN)]
    sender, value = key_of("payer").address, TEN * AMOUNT if token == NATIVE else 0
    many = world.do(sender, world.manager, "deposit_many", token, deposits, value=value)
    yield "gas_open_batch", many.gas // TEN


def _money_out(world: World, token: Address) -> Iterator[tuple[str, int]]:
    until, payer = world.now + 10**6, key_of("payer").address
    yield "gas_cooperative_close", _open(world, token).cooperate(7, NET, valid_until=until, sender=payer).gas
    yield "gas_cooperate_relayed", _open(world, token).cooperate(7, NET, valid_until=until).gas
    part = _open(world, token).cooperate(7, NET, out_a=NET, out_b=0, valid_until=until, sender=payer)
    yield "gas_take_out", part.gas
    channel, body = _open(world, token), Body(net=NET, blind=secret_of(0))
    closed = channel.close(Side.A, 12_345, body).gas
    channel.wait()
    settled = channel.settle(body, sender=payer).gas
    yield "gas_settle", settled
    yield "gas_unilateral_close", closed + settled


def _disputes(world: World) -> Iterator[tuple[str, int]]:
    body, newer = Body(blind=secret_of(0)), Body(net=NET, blind=secret_of(1))
    channel = _open(world, NATIVE)
    yield "gas_close", channel.close(Side.A, 12_345, body).gas
    channel.wait(-100)
    yield "gas_challenge", channel.tower_challenge(Side.B, 12_347, newer, delay=1800).gas
    channel.wait()
    yield "gas_finalize", channel.finalize(newer, channel.tower.address).gas
    relayed = _open(world, NATIVE)
    order = relayed.order(Side.A, 12_345, body.hash, world.now + 3600)
    yield "gas_close_relayed", relayed.close(Side.A, 12_345, body, sender=world.rich, order=order).gas
    ten = [_open(world, NATIVE) for _ in range(TEN)]
    for one in ten:
        one.close(Side.A, 12_345, body)
    ten[0].wait(-100)
    given = [one.delegated(Side.B, 12_347, newer, 1800) for one in ten]
    many = world.do(world.rich, world.manager, "challenge_many", given)
    if many.names() != ["Challenged"] * TEN:
        raise AssertionError("not all ten counted")
    yield "gas_challenge_batched", many.gas // TEN


def _channel(world: World, token: Address) -> Channel:
    own = {"payout_a": key_of("payer").address, "payout_b": key_of("payee").address}
    return world.channel(token, close_bond=BOND, nonce=0x1234567890ABCDE + world.count, **own)


def _open(world: World, token: Address) -> Channel:
    return _channel(world, token).funded(AMOUNT, AMOUNT)


def _ready(world: World, token: Address) -> None:
    """Counters above zero, money in the manager, and at both participants."""
    channel = _channel(world, token)
    if token != NATIVE:
        for role in ("payer", "payee"):
            who = key_of(role).address
            world.do(world.rich, token, "transfer", who, 10**24)
            world.do(who, token, "approve", world.manager, 2**256 - 1)
    channel.funded(AMOUNT, AMOUNT).close(Side.A)


def _per_lock(world: World, *, new: bool) -> int:
    """Of 16 locks in one call against one lock, per further lock; each on a settled channel of its own."""
    few, many = (_resolved(world, count, new=new) for count in (1, 16))
    return (many - few) // 15


def _resolved(world: World, count: int, *, new: bool) -> int:
    channel = _open(world, NATIVE)
    names = [world.count * 1000 + number for number in range(count)]
    expiry = world.now + 86_400
    locks = tuple(lock(name, Side.A, LOCK_AMOUNT, expiry) for name in names)
    body = Body(net=NET, locks=locks, blind=secret_of(0))
    channel.close(Side.A, 12_345, body)
    channel.wait()
    channel.settle(body)
    secrets = [secret_of(name) for name in names]
    if new:
        return channel.resolve(locks, *secrets).gas
    world.reveal(*secrets)
    return channel.resolve(locks).gas


def table(found: Mapping[str, int]) -> str:
    """The figures beside target, floor and the best peer, for people."""
    lines = [f"{'':28} {'gas':>8} {'target':>8} {'':>7} {'floor':>8} {'':>7}  best peer"]
    for name, gas in found.items():
        beside = BESIDE[name]
        target, said = ("", "") if beside.target is None else (f"{beside.target:,}", "reached")
        if beside.target is not None and gas > beside.target:
            said = f"+{gas / beside.target - 1:.1%}"
        floor, over = ("", "") if beside.floor is None else (f"{beside.floor:,}", f"x {gas / beside.floor:.2f}")
        peer = ""
        if beside.peers:
            who, theirs = beside.peers[0]
            peer = f"{who} {theirs:,} (x {theirs / gas:.2f})"
        lines.append(f"{name:28} {gas:>8,} {target:>8} {said:>7} {floor:>8} {over:>7}  {peer}")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print the table; with `--write` keep the figures as the snapshot. Exit code 2 for anything else."""
    if arguments not in ([], ["--write"]):
        print("usage: python -m tests.contracts.gas [--write]", file=sys.stderr)
        return 2
    found = measure(World())
    print(table(found))
    if arguments:
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
