"""Two EVMs (revm) in lockstep: on one stand the Vyper contracts, on the other the Solidity twin, at the same addresses.

Whatever is sent goes to both, byte for byte, so signatures are made once and nothing has to be translated before two
outcomes are compared: success, returned data or reason, logs, and then what both hold, owe and store. A difference
raises `Differs`.

Two compilers burn different gas. A call with little gas may therefore fail on one side only; `call` then demands that
it failed for want of gas, takes it back on both, and repeats it with plenty. What it may never do is succeed in
another way than it does with plenty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env, JournalCheckpoint

from channeld.base.keys import keccak
from channeld.base.units import Address

CHAIN_ID: Final = 31337
START: Final = 1_900_000_000
PLENTY: Final = 8_000_000
"""Gas of a call that is not to fail for want of it."""
FAILED: Final = re.compile(r"Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}")
HALTED: Final = re.compile(r"Halt \{ reason: (?!CallTooDeep)")
"""Too deep is what the EVM here says if snapshots are left open, which is no fault of the contracts."""
ERROR: Final = keccak(b"Error(string)")[:4]

STARVED: Final = ("", "gas", "transfer", "picky", "TRANSFER_FROM_FAILED")
"""What a call may end in for want of gas: without a word where it ran out, the contract's own reason, a withdrawal's
for whatever stopped the token or the receiver, then a token's, and Permit2's for whatever stopped the token."""

Snapshot = tuple[list[JournalCheckpoint], int]
Log = tuple[str, tuple[bytes, ...], bytes]


class Differs(Exception):
    """The two contracts did not do the same."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call did on one side. `output` is what it returned, or reverted with; gas is not a part of it."""

    good: bool
    output: bytes
    logs: tuple[Log, ...]

    @property
    def reason(self) -> str:
        """ "ok", the reason, "" for a failure without one, the first bytes of any other data."""
        if self.good:
            return "ok"
        if self.output[:4] != ERROR:
            return self.output[:4].hex()
        size = int.from_bytes(self.output[36:68], "big")
        return self.output[68 : 68 + size].decode("utf-8", "replace")

    @property
    def starved(self) -> bool:
        """Whether this may be a failure for want of gas."""
        return not self.good and self.reason in STARVED


class Side:
    """One EVM."""

    def __init__(self) -> None:
        self.evm = EVM(env=Env(cfg=CfgEnv(chain_id=CHAIN_ID), block=BlockEnv(timestamp=START)), spec_id="CANCUN")

    def call(self, sender: Address, to: Address, data: bytes, value: int, gas: int) -> Outcome:
        try:
            output = self.evm.message_call(_text(sender), _text(to), calldata=data, value=value, gas=gas)
        except RuntimeError as error:
            failed = FAILED.search(str(error))
            if failed:
                return Outcome(False, bytes.fromhex(failed[1]), ())
            if HALTED.search(str(error)):
                return Outcome(False, b"", ())
            raise
        result = self.evm.result
        if result is None:
            raise RuntimeError("a call without a result")
        logs = tuple((log.address, tuple(log.data[0]), bytes(log.data[1])) for log in result.logs)
        return Outcome(True, bytes(output), logs)


class Pair:
    """Both sides; `views` are asked after each call and must agree."""

    def __init__(self) -> None:
        self.sides = (Side(), Side())
        self.now = START
        self.views = 0
        """How many were asked, of both."""
        self.watched: list[Address] = []
        """Whose coin is compared after each call."""

    # -- setting up

    def deploy(self, deployer: Address, *codes: bytes) -> Address:
        """The same code on both, or one for each; ends at the same address. Differs if only one can be deployed."""
        made: list[str] = []
        for side, code in zip(self.sides, codes * (2 // len(codes)), strict=True):
            try:
                made.append(side.evm.deploy(_text(deployer), code).lower())
            except RuntimeError as error:
                failed = FAILED.search(str(error))
                made.append(Outcome(False, bytes.fromhex(failed[1]) if failed else b"", ()).reason)
        if made[0] != made[1]:
            raise Differs(f"deployment: {made}")
        if not made[0].startswith("0x"):
            raise ValueError(made[0])
        return Address(bytes.fromhex(made[0][2:]))

    def place(self, who: Address, code: bytes) -> None:
        for side in self.sides:
            side.evm.insert_account_info(_text(who), AccountInfo(code=code))

    def give(self, who: Address, amount: int) -> None:
        for side in self.sides:
            side.evm.set_balance(_text(who), amount)

    def poke(self, who: Address, slot: int, value: int) -> None:
        for side in self.sides:
            side.evm.insert_account_storage(_text(who), slot, value)

    def snapshot(self) -> Snapshot:
        return [side.evm.snapshot() for side in self.sides], self.now

    def revert(self, snapshot: Snapshot) -> None:
        """Go back, which uses the snapshot up. Each needs a `revert` or a `keep`, innermost first."""
        for side, point in zip(self.sides, snapshot[0], strict=True):
            side.evm.revert(point)
        self.travel(snapshot[1])

    def keep(self) -> None:
        """Drop the newest snapshot: there is no way back to it."""
        for side in self.sides:
            side.evm.commit()

    def depth(self) -> int:
        """How many snapshots there are, neither reverted nor dropped, and some more."""
        return max(side.evm.journal_depth for side in self.sides)

    def travel(self, timestamp: int) -> None:
        """Set the time of the next calls, seconds."""
        self.now = timestamp
        for side in self.sides:
            side.evm.set_block_env(BlockEnv(timestamp=timestamp))

    # -- calling

    def call(self, sender: Address, to: Address, data: bytes, value: int = 0, gas: int = PLENTY) -> Outcome:
        """What both did. With less gas than `PLENTY`, what both do with plenty, and that less changes nothing else."""
        self.short = ()
        if gas >= PLENTY:
            return self._same("call", [side.call(sender, to, data, value, gas) for side in self.sides])
        before = self.snapshot()
        whole = self._same("call", [side.call(sender, to, data, value, PLENTY) for side in self.sides])
        self.revert(before)
        before = self.snapshot()
        short = [side.call(sender, to, data, value, gas) for side in self.sides]
        self.short = tuple(one.reason for one in short)
        for one in short:
            if one != whole and not one.starved:
                raise Differs(f"{gas} gas: {one}, and with plenty {whole}")
        if short == [whole, whole]:
            self.keep()
        else:
            self.revert(before)
            self._same("call", [side.call(sender, to, data, value, PLENTY) for side in self.sides])
        return whole

    short: tuple[str, ...] = ()
    """What the last call with little gas ended in, on each side: a reason or "ok"."""

    def ask(self, to: Address, data: bytes, gas: int = 500_000) -> bytes:
        """What a view answers on both; reasons if it reverts."""
        self.views += 1
        return self._same("view", [side.call(Address(b"\xfd" * 20), to, data, 0, gas) for side in self.sides]).output

    def compare_coin(self) -> None:
        """Every watched account has the same coin on both sides."""
        one, other = self.sides
        for who in self.watched:
            text = _text(who)
            if one.evm.get_balance(text) != other.evm.get_balance(text):
                raise Differs(f"coin of {text}: {one.evm.get_balance(text)} and {other.evm.get_balance(text)}")

    def coin(self, who: Address) -> int:
        return int(self.sides[0].evm.get_balance(_text(who)))

    @staticmethod
    def _same(what: str, outcomes: list[Outcome]) -> Outcome:
        one, other = outcomes
        if one != other:
            raise Differs(f"{what}: {one.reason} {one} and {other.reason} {other}")
        return one


def _text(who: Address) -> str:
    return "0x" + who.hex()
