"""py-evm without a chain round it: a state, a clock, and transactions applied to it one by one.

By the rules of Prague, intrinsic gas, refunds and the calldata floor included. There are no signatures to make and no
blocks to seal, so a transaction takes a millisecond or two; each has a timestamp of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.state import PragueState
from eth.vm.spoof import SpoofTransaction
from eth_typing import Address as Place
from eth_typing import BlockNumber, Hash32

from channeld.base.units import Address

GAS_PRICE: Final = 10**9
MINER: Final = Address(b"\xfe" * 20)
"""Gets every fee: what a transaction adds to its balance tells the gas."""
NOBODY: Final = Address(b"\xfd" * 20)
"""Asks the views."""
BLANK_ROOT: Final = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a transaction did. `output` is what it returned or the reason it reverted with."""

    good: bool
    gas: int
    output: bytes
    created: Address
    logs: tuple[tuple[Address, tuple[bytes, ...], bytes], ...]


class Evm:
    """An EVM with a clock."""

    def __init__(self, timestamp: int, chain_id: int) -> None:
        self.timestamp = timestamp
        self.context = ExecutionContext(
            coinbase=Place(MINER),
            timestamp=timestamp,
            block_number=BlockNumber(1),
            difficulty=0,
            mix_hash=Hash32(bytes(32)),
            gas_limit=60_000_000,
            prev_hashes=(),
            chain_id=chain_id,
            base_fee_per_gas=0,
            excess_blob_gas=0,
        )
        self.state = PragueState(AtomicDB(), self.context, Hash32(BLANK_ROOT))

    def give(self, who: Address, amount: int) -> None:
        """Add to an account's coin, out of nowhere."""
        self.state.delta_balance(Place(who), amount)

    def become(self, who: Address, code: bytes) -> None:
        """Put code at an address, or take it away."""
        self.state.set_code(Place(who), code)

    def rest(self) -> None:
        """Put what has changed into the trie: unsaved accounts slow each transaction down. Not within a snapshot."""
        self.state.lock_changes()
        self.state.persist()

    def balance(self, who: Address) -> int:
        return int(self.state.get_balance(Place(who)))

    def code(self, who: Address) -> bytes:
        return bytes(self.state.get_code(Place(who)))

    def send(self, sender: Address, to: Address | None, data: bytes, value: int, gas: int) -> Result:
        """Apply one transaction, a second after the last."""
        self.timestamp += 1
        self.state.lock_changes()
        return self._apply(sender, to, data, value, gas)

    def ask(self, to: Address, data: bytes, sender: Address = NOBODY, gas: int = 10_000_000, value: int = 0) -> Result:
        """Apply a transaction at the present time and take it back."""
        self.state.lock_changes()
        before = self.state.snapshot()
        self.give(sender, 10**18)
        result = self._apply(sender, to, data, value, gas)
        self.state.revert(before)
        return result

    def _apply(self, sender: Address, to: Address | None, data: bytes, value: int, gas: int) -> Result:
        self.context._timestamp = self.timestamp
        transaction = SpoofTransaction(
            PragueVM.create_unsigned_transaction(
                nonce=self.state.get_nonce(Place(sender)),
                gas_price=GAS_PRICE,
                gas=gas,
                to=Place(b"" if to is None else to),
                value=value,
                data=data,
            ),
            from_=sender,
        )
        before = self.balance(MINER)
        done = self.state.apply_transaction(transaction)  # type: ignore[arg-type]
        return Result(
            good=bool(done.is_success),
            gas=(self.balance(MINER) - before) // GAS_PRICE,
            output=bytes(done.output),
            created=Address(bytes(done.msg.storage_address)) if to is None else Address(b""),
            logs=tuple(
                (Address(bytes(source)), tuple(topic.to_bytes(32, "big") for topic in topics), bytes(text))
                for source, topics, text in done.get_log_entries()
            ),
        )
