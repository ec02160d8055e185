"""revm in the place of py-evm: the same bare state and clock, some ten times faster, for volume.

It is a second implementation of the EVM, written in another language: where the two are led through the same calls
(`test_plots.py`) they judge each other.
"""

from __future__ import annotations

import re
from typing import Final

from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env

from channeld.base.units import Address
from tests.contracts.evm import NOBODY, Evm, Result

REVERTED: Final = re.compile(r"Revert \{ gas_used: (\d+), output: 0x([0-9a-f]*) \}")
HALTED: Final = re.compile(r"Halt \{ reason: .*gas_used: (\d+)")


class Revm(Evm):
    """See `Evm`; gas is not metered as a transaction's (no base fee, no refunds), only limited."""

    def __init__(self, timestamp: int, chain_id: int) -> None:
        self.timestamp = timestamp
        self.evm = EVM(env=Env(cfg=CfgEnv(chain_id=chain_id), block=BlockEnv(timestamp=timestamp)), spec_id="CANCUN")

    def give(self, who: Address, amount: int) -> None:
        self.evm.set_balance(_text(who), self.balance(who) + amount)

    def become(self, who: Address, code: bytes) -> None:
        coin, nonce = self.balance(who), self.evm.basic(_text(who)).nonce
        self.evm.insert_account_info(_text(who), AccountInfo(nonce=nonce, code=code))
        self.evm.set_balance(_text(who), coin)

    def balance(self, who: Address) -> int:
        return int(self.evm.get_balance(_text(who)))

    def code(self, who: Address) -> bytes:
        return bytes(self.evm.get_code(_text(who)) or b"")

    def send(self, sender: Address, to: Address | None, data: bytes, value: int, gas: int) -> Result:
        self.timestamp += 1
        self.evm.set_block_env(BlockEnv(timestamp=self.timestamp))
        return self._call(sender, to, data, value, gas)

    def ask(self, to: Address, data: bytes, sender: Address = NOBODY, gas: int = 10_000_000, value: int = 0) -> Result:
        self.evm.set_block_env(BlockEnv(timestamp=self.timestamp))
        before = self.evm.snapshot()
        result = self._call(sender, to, data, value, gas)
        self.evm.revert(before)
        return result

    def _call(self, sender: Address, to: Address | None, data: bytes, value: int, gas: int) -> Result:
        created = Address(b"")
        self.evm.reset_transient_storage()
        try:
            if to is None:
                made = self.evm.deploy(_text(sender), data, value=value, gas=gas)
                created, output = Address(bytes.fromhex(made[2:])), b""
            else:
                output = bytes(self.evm.message_call(_text(sender), _text(to), calldata=data, value=value, gas=gas))
        except RuntimeError as error:
            failed = REVERTED.search(str(error))
            if failed:
                return _failed(int(failed[1]), bytes.fromhex(failed[2]))
            halted = HALTED.search(str(error))
            if halted:
                return _failed(int(halted[1]), b"")
            raise
        done = self.evm.result
        if done is None:
            raise AssertionError("no result")
        logs = tuple(
            (
                Address(bytes.fromhex(log.address[2:])),
                tuple(bytes.fromhex(topic[2:]) for topic in log.topics),
                bytes(log.data[1]),
            )
            for log in done.logs
        )
        return Result(good=True, gas=int(done.gas_used), output=output, created=created, logs=logs)


def _failed(gas: int, output: bytes) -> Result:
    return Result(good=False, gas=gas, output=output, created=Address(b""), logs=())


def _text(who: Address) -> str:
    return "0x" + who.hex()
