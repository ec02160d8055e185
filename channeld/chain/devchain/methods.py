"""The JSON-RPC calls of the dev chain: parameters in, results out, in the forms of the execution APIs.

`eth_…`, `net_…`, `web3_…` as a node has them; `evm_…` and `anvil_…` as anvil has them; `dev_…` are ours. Each is a
plain function of the chain; the server calls them one at a time, in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from eth.exceptions import PyEVMError
from eth_utils.exceptions import ValidationError

from channeld.chain.devchain import shapes
from channeld.chain.devchain.evm import COINBASE, Evm, Mined
from channeld.chain.devchain.faults import INTERNAL, NO_METHOD, SERVER_ERROR, RpcFault, invalid
from channeld.chain.devchain.shapes import address, data, number, quantity, word

TIP: Final = 10**9
"""What `eth_maxPriorityFeePerGas` suggests, wei per gas."""
MAX_MINE: Final = 10_000
MAX_FEE_HISTORY: Final = 1_024

Params = Sequence[Any]
Method = Callable[[Params], Any]

LIGHT: Final = frozenset(
    {
        "eth_accounts", "eth_blockNumber", "eth_chainId", "eth_getBlockByHash", "eth_getBlockByNumber",
        "eth_getBlockReceipts", "eth_getLogs", "eth_getTransactionByHash", "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas", "eth_syncing", "evm_increaseTime", "evm_setAutomine", "evm_setIntervalMining",
        "evm_setNextBlockTimestamp", "evm_snapshot", "net_version", "web3_clientVersion",
    }
)  # fmt: skip
"""Calls that run no code and take no time: the server answers them without a thread."""


class Methods:
    """Every call by name. `automine` and `block_time` (seconds, 0 for never) are for the server to act on."""

    def __init__(
        self, evm: Evm, *, accounts: Sequence[bytes], automine: bool, block_time: float, safe: int, finalized: int
    ) -> None:
        """`safe` and `finalized`: by how many blocks those tags lag behind `latest`."""
        self.evm = evm
        self.automine = automine
        self.block_time = block_time
        self._accounts = accounts
        self._lag = {"latest": 0, "safe": safe, "finalized": finalized}
        self._genesis_supply = evm.supply()[1]
        self.table: dict[str, Method] = {
            name: getattr(self, name)
            for name in dir(self)
            if name.startswith(("eth_", "net_", "web3_", "evm_", "anvil_", "dev_", "txpool_"))
        }
        for setter in ("setBalance", "setCode", "setNonce", "setStorageAt"):
            for family in ("dev_", "hardhat_"):
                self.table[family + setter] = self.table["anvil_" + setter]

    def call(self, name: str, params: Params) -> Any:
        """The result of one call; RpcFault for any reason it has none."""
        method = self.table.get(name)
        if method is None:
            raise RpcFault(NO_METHOD, f"the method {name:.64} does not exist/is not available")
        try:
            return method(params)
        except (IndexError, KeyError) as fault:
            raise invalid(f"{name}: missing parameter {fault!s:.64}") from None
        except (PyEVMError, ValidationError, ValueError, TypeError, AttributeError, OverflowError) as fault:
            raise RpcFault(INTERNAL, f"{name}: {type(fault).__name__}: {fault!s:.200}") from None

    # -- the node ----------------------------------------------------------------------------------------------

    def web3_clientVersion(self, params: Params) -> str:  # noqa: N802
        return "channeld-devchain/py-evm"

    def net_version(self, params: Params) -> str:
        return str(self.evm.chain_id)

    def eth_chainId(self, params: Params) -> str:  # noqa: N802
        return quantity(self.evm.chain_id)

    def eth_syncing(self, params: Params) -> bool:
        return False

    def eth_accounts(self, params: Params) -> list[str]:
        return [data(account) for account in self._accounts]

    # -- blocks ------------------------------------------------------------------------------------------------

    def _block(self, tag: Any) -> Mined | None:
        """The block that `tag` names; None for `pending`. RpcFault if there is none."""
        if isinstance(tag, dict):
            if "blockHash" in tag:
                block = self.evm.block_by_hash(word(tag["blockHash"]))
                if block is None:
                    raise RpcFault(SERVER_ERROR, "header not found")
                return block
            tag = tag.get("blockNumber")
        if tag == "pending":
            return None
        block = self._numbered(tag)
        if block is None:
            raise RpcFault(SERVER_ERROR, "header not found")
        return block

    def _numbered(self, tag: Any) -> Mined | None:
        if tag in self._lag:
            return self.evm.block(max(0, self.evm.head.number - self._lag[tag]))
        return self.evm.block(0 if tag == "earliest" else number(tag, "block number"))

    def _at(self, params: Params, place: int, default: str = "latest") -> Mined | None:
        tag = params[place] if len(params) > place and params[place] is not None else default
        return self._block(tag)

    def eth_blockNumber(self, params: Params) -> str:  # noqa: N802
        return quantity(self.evm.head.number)

    def eth_getBlockByNumber(self, params: Params) -> Any:  # noqa: N802
        full = len(params) > 1 and bool(params[1])
        if params[0] == "pending":
            return shapes.pending_block(*self.evm.preview(), full=full)
        block = self._numbered(params[0])
        return None if block is None else shapes.block(block, full=full)

    def eth_getBlockByHash(self, params: Params) -> Any:  # noqa: N802
        block = self.evm.block_by_hash(word(params[0]))
        return None if block is None else shapes.block(block, full=len(params) > 1 and bool(params[1]))

    def eth_getBlockReceipts(self, params: Params) -> Any:  # noqa: N802
        block = self._at(params, 0)
        return None if block is None else [shapes.receipt(block, tx) for tx in block.txs]

    def eth_getLogs(self, params: Params) -> list[Any]:  # noqa: N802
        wanted = shapes.LogFilter.read(params[0])
        query = params[0]
        if "blockHash" in query:
            if "fromBlock" in query or "toBlock" in query:
                raise invalid("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
            block = self.evm.block_by_hash(word(query["blockHash"]))
            if block is None:
                raise RpcFault(SERVER_ERROR, "unknown block")
            return [shapes.log(*found) for found in wanted.find([block])]
        first = self._block(query.get("fromBlock") or "latest") or self.evm.head
        last = self._height(query.get("toBlock") or "latest")
        numbers = range(first.number, min(last, self.evm.head.number) + 1)
        blocks = (block for block in map(self.evm.block, numbers) if block is not None)
        return [shapes.log(*found) for found in wanted.find(blocks)]

    def _height(self, tag: Any) -> int:
        """Like `_block`, but a number beyond the head is no error."""
        if isinstance(tag, str) and tag.startswith("0x"):
            return number(tag, "block number")
        block = self._block(tag)
        return self.evm.head.number if block is None else block.number

    # -- state -------------------------------------------------------------------------------------------------

    def _state(self, params: Params, place: int) -> Any:
        block = self._at(params, place)
        return self.evm.pending_state() if block is None else self.evm.state_at(block)

    def eth_getBalance(self, params: Params) -> str:  # noqa: N802
        return quantity(self._state(params, 1).get_balance(address(params[0])))

    def eth_getCode(self, params: Params) -> str:  # noqa: N802
        return data(self._state(params, 1).get_code(address(params[0])))

    def eth_getStorageAt(self, params: Params) -> str:  # noqa: N802
        slot = number(params[1], "slot")
        value: int = self._state(params, 2).get_storage(address(params[0]), slot)
        return data(value.to_bytes(32, "big"))

    def eth_getTransactionCount(self, params: Params) -> str:  # noqa: N802
        if len(params) > 1 and params[1] == "pending":
            return quantity(self.evm.pending_nonce(address(params[0])))
        return quantity(self._state(params, 1).get_nonce(address(params[0])))

    def eth_call(self, params: Params) -> str:
        return data(self.evm.call(shapes.call(params[0]), self._at(params, 1)))

    def eth_estimateGas(self, params: Params) -> str:  # noqa: N802
        """By default in the block to come, so that what becomes possible with time is seen before it is mined."""
        return quantity(self.evm.estimate(shapes.call(params[0]), self._at(params, 1, "pending")))

    # -- fees --------------------------------------------------------------------------------------------------

    def eth_gasPrice(self, params: Params) -> str:  # noqa: N802
        return quantity(self.evm.next_base_fee() + TIP)

    def eth_maxPriorityFeePerGas(self, params: Params) -> str:  # noqa: N802
        return quantity(TIP)

    def eth_feeHistory(self, params: Params) -> Any:  # noqa: N802
        newest = self._at(params, 1) or self.evm.head
        count = min(number(params[0], "block count"), MAX_FEE_HISTORY, newest.number + 1)
        if count < 1:
            raise invalid("block count must be at least 1")
        blocks = [block for block in map(self.evm.block, range(newest.number - count + 1, newest.number + 1)) if block]
        following = self.evm.block(newest.number + 1)
        after = following.header.base_fee_per_gas if following else self.evm.next_base_fee()
        percentiles = params[2] if len(params) > 2 and params[2] else []
        return shapes.fee_history(blocks, after, [float(percentile) for percentile in percentiles])

    # -- transactions ------------------------------------------------------------------------------------------

    def eth_sendRawTransaction(self, params: Params) -> str:  # noqa: N802
        tx_hash = self.evm.submit(shapes.octets(params[0], "transaction"))
        if self.automine:
            self.evm.mine()
        return data(tx_hash)

    def eth_getTransactionByHash(self, params: Params) -> Any:  # noqa: N802
        tx_hash = word(params[0])
        waiting = self.evm.pool.by_hash.get(tx_hash)
        if waiting is not None:
            return shapes.waiting(waiting)
        found = self.evm.find_tx(tx_hash)
        return None if found is None else shapes.transaction(*found)

    def eth_getTransactionReceipt(self, params: Params) -> Any:  # noqa: N802
        found = self.evm.find_tx(word(params[0]))
        return None if found is None else shapes.receipt(*found)

    def txpool_status(self, params: Params) -> Any:
        return {"pending": quantity(len(self.evm.pool.by_hash)), "queued": quantity(0)}

    # -- the developer's hand ----------------------------------------------------------------------------------

    def evm_mine(self, params: Params) -> str:
        if params and params[0] is not None:
            options = params[0] if isinstance(params[0], dict) else {"timestamp": params[0]}
            if options.get("timestamp") is not None:
                self.evm.set_next_time(number(options["timestamp"], "timestamp"))
            self._mine(number(options.get("blocks", 1), "blocks"))
        else:
            self._mine(1)
        return "0x0"

    def anvil_mine(self, params: Params) -> None:
        """Blocks, and the seconds between them."""
        count = number(params[0], "blocks") if params and params[0] is not None else 1
        gap = number(params[1], "interval") if len(params) > 1 and params[1] is not None else None
        self._mine(count, gap)

    def _mine(self, count: int, gap: int | None = None) -> None:
        if not 0 <= count <= MAX_MINE:
            raise invalid(f"{count} blocks at once, at most {MAX_MINE}")
        for made in range(count):
            if gap and made:
                self.evm.set_next_time(self.evm.head.timestamp + gap)
            self.evm.mine()

    def evm_increaseTime(self, params: Params) -> int:  # noqa: N802
        """Move the clock on by so many seconds; the next block shows it. Returns the whole offset."""
        self.evm.set_offset(self.evm.offset + number(params[0], "seconds"))
        return self.evm.offset

    def evm_setNextBlockTimestamp(self, params: Params) -> None:  # noqa: N802
        self.evm.set_next_time(number(params[0], "timestamp"))

    def evm_snapshot(self, params: Params) -> str:
        return quantity(self.evm.take_snapshot())

    def evm_revert(self, params: Params) -> bool:
        return self.evm.revert(number(params[0], "snapshot"))

    def evm_setAutomine(self, params: Params) -> None:  # noqa: N802
        self.automine = bool(params[0])

    def evm_setIntervalMining(self, params: Params) -> None:  # noqa: N802
        self.block_time = float(number(params[0], "seconds"))

    def anvil_reorg(self, params: Params) -> None:
        if len(params) > 1 and params[1]:
            raise invalid("a reorg brings no transactions of its own here")
        self.evm.reorganise(number(params[0], "depth"))

    def anvil_setBalance(self, params: Params) -> None:  # noqa: N802
        """Set an account's wei by decree, in a block of its own."""
        who, balance = address(params[0]), number(params[1], "balance")
        self.evm.mine(with_pool=False, change=lambda state: state.set_balance(who, balance))

    def anvil_setCode(self, params: Params) -> None:  # noqa: N802
        who, code = address(params[0]), shapes.octets(params[1], "code")
        self.evm.mine(with_pool=False, change=lambda state: state.set_code(who, code))

    def anvil_setNonce(self, params: Params) -> None:  # noqa: N802
        who, nonce = address(params[0]), number(params[1], "nonce")
        self.evm.mine(with_pool=False, change=lambda state: state.set_nonce(who, nonce))

    def anvil_setStorageAt(self, params: Params) -> bool:  # noqa: N802
        who, slot, value = address(params[0]), number(params[1], "slot"), int.from_bytes(word(params[2]), "big")
        self.evm.mine(with_pool=False, change=lambda state: state.set_storage(who, slot, value))
        return True

    def anvil_dropTransaction(self, params: Params) -> str | None:  # noqa: N802
        waiting = self.evm.pool.by_hash.get(word(params[0]))
        if waiting is None:
            return None
        self.evm.pool.drop(waiting)
        return data(waiting.hash)

    def dev_supply(self, params: Params) -> Any:
        """Every wei there is: genesis − burnt must equal total, else somebody has used `setBalance`."""
        accounts, total, burnt = self.evm.supply()
        return {
            "accounts": accounts,
            "genesis": quantity(self._genesis_supply),
            "total": quantity(total),
            "burnt": quantity(burnt),
            "coinbase": data(COINBASE),
        }
