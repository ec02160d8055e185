"""The chain itself: blocks, their states, and the pool, on py-evm with Prague rules.

Every block keeps its state root and py-evm's database keeps every node, so that the state at any block can be read
and called. The canonical chain is a plain list here; reverting shortens it. Headers follow Ethereum's rules but for
one: as on anvil and rollups, blocks made within a second share its timestamp, so that many quick transactions do not
run the chain ahead of the clock. Each block gets a `mixHash` of its own: two branches never share one. Not
thread-safe: the caller holds a lock. All numbers are wei, gas and seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from eth.consensus.context import ConsensusContext
from eth.db.atomic import AtomicDB
from eth.db.chain import ChainDB
from eth.exceptions import OutOfGas, PyEVMError, Revert
from eth.vm.chain_context import ChainContext
from eth.vm.forks.prague import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from trie.hexary import HexaryTrie
from trie.iter import NodeIterator

from channeld.base.keys import keccak
from channeld.base.units import MAX_TIMESTAMP
from channeld.chain.devchain.faults import INVALID_PARAMS, SERVER_ERROR, RpcFault, invalid, reverted
from channeld.chain.devchain.pool import Pool, Waiting, check_sender, check_shape

BUILDER: Final[Any] = PragueVM.get_transaction_builder()
GAS_LIMIT: Final = 30_000_000
COINBASE: Final = bytes(20)
"""Tips go here, as on anvil; the base fee is burnt."""
FRAME_SHARE: Final = 64
"""A call frame keeps one part in 64 of its gas back (EIP-150)."""


_NO_TRANSACTION: Final = (rlp.exceptions.RLPException, PyEVMError, BadSignature, ValidationError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedTx:
    """A transaction in its block, and all that its receipt says."""

    tx: Any
    raw: bytes
    hash: bytes
    sender: bytes
    index: int
    gas_used: int
    cumulative_gas: int
    price: int
    """Wei per gas that the sender paid, base fee included."""
    ok: bool
    output: bytes
    created: bytes | None
    logs: tuple[Log, ...]
    first_log: int
    """Number of its first log within the block."""
    bloom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A block of the canonical chain."""

    header: Any
    hash: bytes
    txs: tuple[MinedTx, ...]
    size: int

    @property
    def number(self) -> int:
        number: int = self.header.block_number
        return number

    @property
    def timestamp(self) -> int:
        timestamp: int = self.header.timestamp
        return timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an account holds in the genesis block."""

    balance: int = 0
    nonce: int = 0
    code: bytes = b""
    storage: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An `eth_call` or `eth_estimateGas`: a transaction nobody signed. `to` empty creates a contract."""

    sender: bytes = bytes(20)
    to: bytes = b""
    data: bytes = b""
    value: int = 0
    gas: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    height: int
    pool: Pool
    offset: int


class Evm:
    """The canonical chain, its states, and what waits to be mined."""

    def __init__(
        self,
        *,
        accounts: Mapping[bytes, Account],
        chain_id: int,
        clock: Callable[[], int],
        unprotected: bool = False,
    ) -> None:
        """`clock` gives seconds since 1970; the genesis block bears its time. `unprotected`: take transactions without
        a chain id, too."""
        self.chain_id = chain_id
        self._unprotected = unprotected
        self.offset = 0
        """Seconds by which chain time runs ahead of the clock."""
        self.next_timestamp: int | None = None
        self.pool = Pool()
        self._clock = clock
        self._salt = 0
        self._db = ChainDB(AtomicDB())
        self._blocks: list[Mined] = []
        self._by_hash: dict[bytes, Mined] = {}
        self._tx_block: dict[bytes, tuple[int, int]] = {}
        self._snapshots: list[Snapshot] = []
        self._genesis(accounts)

    # -- blocks ------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Mined:
        return self._blocks[-1]

    def block(self, number: int) -> Mined | None:
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def block_by_hash(self, block_hash: bytes) -> Mined | None:
        return self._by_hash.get(block_hash)

    def find_tx(self, tx_hash: bytes) -> tuple[Mined, MinedTx] | None:
        place = self._tx_block.get(tx_hash)
        if place is None:
            return None
        block = self._blocks[place[0]]
        return block, block.txs[place[1]]

    def _genesis(self, accounts: Mapping[bytes, Account]) -> None:
        empty = PragueVM.create_genesis_header(
            difficulty=0, timestamp=self._clock(), gas_limit=GAS_LIMIT, coinbase=COINBASE, extra_data=b""
        )
        vm = self._vm(empty)
        for address, account in accounts.items():
            vm.state.set_balance(address, account.balance)
            vm.state.set_nonce(address, account.nonce)
            if account.code:
                vm.state.set_code(address, account.code)
            for slot, value in (account.storage or {}).items():
                vm.state.set_storage(address, slot, value)
        vm.state.persist()
        self._append(empty.copy(state_root=vm.state.state_root), (), size=0)

    def _append(self, header: Any, txs: tuple[MinedTx, ...], size: int) -> Mined:
        encoded = rlp.encode(header)
        block = Mined(header=header, hash=keccak(encoded), txs=txs, size=len(encoded) + size)
        self._db.db[block.hash] = encoded
        self._blocks.append(block)
        self._by_hash[block.hash] = block
        for mined in txs:
            self._tx_block[mined.hash] = (block.number, mined.index)
        return block

    def _cut(self, height: int) -> None:
        """Forget the blocks above `height`."""
        for block in self._blocks[height + 1 :]:
            del self._by_hash[block.hash]
            for mined in block.txs:
                self._tx_block.pop(mined.hash, None)
        del self._blocks[height + 1 :]

    # -- time --------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Chain time by the clock, never before the head."""
        return max(self._clock() + self.offset, self.head.timestamp)

    def _next_time(self) -> int:
        if self.next_timestamp is not None:
            return self.next_timestamp
        return self.now()

    def set_next_time(self, timestamp: int) -> None:
        """The next block bears `timestamp`, and the clock runs on from there."""
        if timestamp < self.head.timestamp:
            text = f"timestamp {timestamp} is before the head's {self.head.timestamp}"
            raise RpcFault(INVALID_PARAMS, text)
        self.set_offset(timestamp - self._clock())
        self.next_timestamp = timestamp

    def set_offset(self, offset: int) -> None:
        """Chain time is the clock's and `offset` seconds; the contract's clock has 32 bits."""
        if self._clock() + offset > MAX_TIMESTAMP:
            raise invalid(f"an offset of {offset} s is beyond the year 2106")
        self.offset = offset

    # -- mining ------------------------------------------------------------------------------------------------

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction into the pool and return its hash; RpcFault as geth would."""
        if keccak(raw) in self._tx_block:
            raise RpcFault(SERVER_ERROR, "already known")
        tx, sender = _decode(raw)
        check_shape(tx, self.chain_id, GAS_LIMIT, unprotected=self._unprotected)
        state = self.state_at(self.head)
        check_sender(tx, state.get_nonce(sender), state.get_balance(sender))
        return self.pool.add(tx, raw, sender).hash

    def mine(self, *, with_pool: bool = True, change: Callable[[Any], None] | None = None) -> Mined:
        """Make the next block of what the pool has ready, or of none of it; `change` edits its state first."""
        header, vm, txs, receipts = self._build(with_pool=with_pool, change=change)
        vm.state.persist()
        block = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, [mined.tx for mined in txs], receipts)
        final = block.header.copy(state_root=vm.state.state_root)
        self.next_timestamp = None
        mined = self._append(final, tuple(txs), sum(len(tx.raw) for tx in txs))
        for tx in txs:
            waiting = self.pool.by_hash.get(tx.hash)
            if waiting is not None:
                self.pool.drop(waiting)
        if self.pool.by_hash:
            self.pool.forget_stale(self.state_at(self.head).get_nonce)
        return mined

    def _build(
        self, *, with_pool: bool = True, change: Callable[[Any], None] | None = None
    ) -> tuple[Any, Any, list[MinedTx], list[Any]]:
        """The header so far, the machine with the new state, the transactions and py-evm's receipts."""
        self._salt += 1
        header = PragueVM.create_header_from_parent(
            self.head.header,
            timestamp=self._next_time(),
            gas_limit=GAS_LIMIT,
            coinbase=COINBASE,
            mix_hash=keccak(b"devchain" + self._salt.to_bytes(8, "big")),
        )
        vm = self._vm(header)
        if change is not None:
            change(vm.state)
            vm.state.lock_changes()
        txs: list[MinedTx] = []
        receipts: list[Any] = []
        if with_pool:
            header = self._apply_pool(vm, header, txs, receipts)
            vm.state.lock_changes()
        return header, vm, txs, receipts

    def _apply_pool(self, vm: Any, header: Any, txs: list[MinedTx], receipts: list[Any]) -> Any:
        logs = 0
        for waiting in self.pool.ready(vm.state.get_nonce, header.base_fee_per_gas):
            try:
                receipt, computation = vm.apply_transaction(header, waiting.tx)
            except ValidationError:  # no room in this block, or its sender's money went elsewhere: it waits on
                continue
            before = header.gas_used
            header = vm.add_receipt_to_header(header, receipt)
            entries = tuple(
                Log(address=bytes(log.address), topics=tuple(map(_word, log.topics)), data=bytes(log.data))
                for log in receipt.logs
            )
            creates = not waiting.tx.to and not computation.is_error
            txs.append(
                MinedTx(
                    tx=waiting.tx,
                    raw=waiting.raw,
                    hash=waiting.hash,
                    sender=waiting.sender,
                    index=len(txs),
                    gas_used=header.gas_used - before,
                    cumulative_gas=header.gas_used,
                    price=header.base_fee_per_gas + waiting.tip(header.base_fee_per_gas),
                    ok=not computation.is_error,
                    output=bytes(computation.output),
                    created=bytes(computation.msg.storage_address) if creates else None,
                    logs=entries,
                    first_log=logs,
                    bloom=receipt.bloom,
                )
            )
            receipts.append(receipt)
            logs += len(entries)
        return header

    # -- reading -----------------------------------------------------------------------------------------------

    def _vm(self, header: Any) -> Any:
        return PragueVM(
            header=header,
            chaindb=self._db,
            chain_context=ChainContext(self.chain_id),
            consensus_context=ConsensusContext(self._db.db),
        )

    def state_at(self, block: Mined) -> Any:
        """py-evm's state after `block`; do not write to it."""
        return self._vm(block.header).state

    def pending_state(self) -> Any:
        """The state as it would be if the pool were mined now."""
        return self._build()[1].state

    def preview(self) -> tuple[Any, list[Waiting]]:
        """Header of the block to come as far as it is known, and what it would hold."""
        header, _, txs, _ = self._build()
        return header, [self.pool.by_hash[tx.hash] for tx in txs]

    def pending_nonce(self, address: bytes) -> int:
        return self.pool.next_nonce(address, self.state_at(self.head).get_nonce(address))

    def supply(self) -> tuple[int, int, int]:
        """Number of accounts, the wei they hold together at the head, and the base fees burnt so far."""
        trie = HexaryTrie(self._db.db, self.head.header.state_root)
        accounts = [rlp.decode(value) for _, value in NodeIterator(trie).items()]
        burnt = sum(block.header.base_fee_per_gas * block.header.gas_used for block in self._blocks)
        return len(accounts), sum(int.from_bytes(account[1], "big") for account in accounts), burnt

    def next_base_fee(self) -> int:
        header = PragueVM.create_header_from_parent(self.head.header, timestamp=self.head.timestamp + 1)
        fee: int = header.base_fee_per_gas
        return fee

    def call(self, call: Call, block: Mined | None) -> bytes:
        """What `call` returns in the state after `block` (None: in the block to come); RpcFault if it fails."""
        computation = self._run(self._state_for(block), call, min(call.gas or GAS_LIMIT, GAS_LIMIT))
        if computation.is_error:
            raise _fault(computation)
        return bytes(computation.output)

    def estimate(self, call: Call, block: Mined | None) -> int:
        """The least gas, to within one in 64, with which `call` succeeds; RpcFault if none is enough."""
        state = self._state_for(block)
        most = min(call.gas or GAS_LIMIT, GAS_LIMIT)
        done = self._run(state, call, most)
        if done.is_error:
            raise _fault(done)
        need = max(most - int(done.get_gas_remaining()), _floor(call.data))
        if not self._run(state, call, need).is_error:
            return need
        low, high = need, most  # a frame below holds gas back: search
        while high - low > max(1, high // FRAME_SHARE):
            middle = min((low + high) // 2, low + low // FRAME_SHARE + 2_300)
            if self._run(state, call, middle).is_error:
                low = middle
            else:
                high = middle
        return high

    def _state_for(self, block: Mined | None) -> Any:
        return self.pending_state() if block is None else self.state_at(block)

    def _run(self, state: Any, call: Call, gas: int) -> Any:
        """Run `call` and undo it. Its gas costs nothing: the sender is given the price beforehand."""
        price = state.base_fee
        snapshot = state.snapshot()
        try:
            if state.get_balance(call.sender) < call.value:
                raise RpcFault(SERVER_ERROR, f"insufficient funds for transfer: address 0x{call.sender.hex()}")
            unsigned = BUILDER.new_unsigned_dynamic_fee_transaction(
                chain_id=self.chain_id,
                nonce=state.get_nonce(call.sender),
                max_priority_fee_per_gas=0,
                max_fee_per_gas=price,
                gas=gas,
                to=call.to,
                value=call.value,
                data=call.data,
                access_list=(),
            )
            if gas < unsigned.intrinsic_gas:
                text = f"intrinsic gas too low: gas {gas}, minimum needed {unsigned.intrinsic_gas}"
                raise RpcFault(SERVER_ERROR, text)
            state.delta_balance(call.sender, gas * price)
            return state.apply_transaction(SpoofTransaction(unsigned, from_=call.sender, gas_price=price))
        except ValidationError as fault:
            raise RpcFault(SERVER_ERROR, f"{fault!s:.200}") from None
        finally:
            state.revert(snapshot)

    # -- the developer's hand ----------------------------------------------------------------------------------

    def take_snapshot(self) -> int:
        """Remember the chain as it is; the number is for `revert`."""
        self._snapshots.append(Snapshot(height=self.head.number, pool=self.pool.copy(), offset=self.offset))
        return len(self._snapshots)

    def revert(self, number: int) -> bool:
        """Go back to a snapshot, which is used up with all later ones; False if there is none such."""
        if not 0 < number <= len(self._snapshots):
            return False
        snapshot = self._snapshots[number - 1]
        if snapshot.height > self.head.number:
            return False
        del self._snapshots[number - 1 :]
        self._cut(snapshot.height)
        self.pool = snapshot.pool
        self.offset = snapshot.offset
        self.next_timestamp = None
        return True

    def reorganise(self, depth: int) -> None:
        """Replace the newest `depth` blocks by as many empty ones at the same times; their transactions are gone."""
        if not 0 < depth <= self.head.number:
            raise invalid(f"cannot reorganise {depth} of {self.head.number} blocks")
        times = [block.timestamp for block in self._blocks[-depth:]]
        self._cut(self.head.number - depth)
        for timestamp in times:
            self.next_timestamp = timestamp
            self.mine(with_pool=False)


def _decode(raw: bytes) -> tuple[Any, bytes]:
    """py-evm's transaction and its sender; legacy, type 1, 2 and 4 only."""
    if not raw or (raw[0] < 0xC0 and raw[0] not in (1, 2, 4)):
        raise RpcFault(SERVER_ERROR, "transaction type not supported")
    try:
        tx = BUILDER.decode(raw)
        tx.validate()
        tx.check_signature_validity()
        return tx, bytes(tx.sender)
    except (*_NO_TRANSACTION, ValueError, TypeError, IndexError) as fault:
        raise RpcFault(SERVER_ERROR, f"invalid transaction: {fault!s:.200}") from None


def _word(topic: int) -> bytes:
    return topic.to_bytes(32, "big")


def _floor(data: bytes) -> int:
    """The least a transaction with this data costs (EIP-7623)."""
    zeros = data.count(0)
    return 21_000 + 10 * (zeros + 4 * (len(data) - zeros))


def _fault(computation: Any) -> RpcFault:
    error = computation.error
    if isinstance(error, Revert):
        return reverted(bytes(computation.output))
    if isinstance(error, OutOfGas):
        return RpcFault(SERVER_ERROR, "out of gas")
    return RpcFault(SERVER_ERROR, f"{error!s:.200}" or type(error).__name__)
