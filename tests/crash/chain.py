"""A chain in memory under simulated time: blocks, a pool, reorgs, and the JSON-RPC that a daemon speaks to it.

`ModelChain` mines what was submitted, each transaction by `contract.Call` on the reference model; it keeps the state
after each block, so that questions at an older block and reorgs are exact. `ModelRpc` stands where a daemon has its
HTTP client: same methods, same shapes, same errors. Nothing here takes real time or chance: timestamps come from the
clock that is passed in, and a block's hash from its content and its branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import trio
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from channeld.base.digests import Domain
from channeld.base.errors import Unreachable
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, ChannelId
from channeld.chain import many
from channeld.chain.rpc import Rpc, RpcError
from contracts import artifact
from tests.contracts.model import COIN, ModelManager, Refusal
from tests.crash.contract import MANAGER_CALLS, REGISTRY_CALLS, TOKEN_CALLS, Call, Log, State, named

BASE_FEE: Final = 10**9
TIP: Final = 10**9
GAS: Final = 100_000
"""What every transaction uses."""
ERROR_STRING: Final = bytes.fromhex("08c379a0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tx:
    """A signed EIP-1559 transaction, read."""

    raw: bytes
    hash: bytes
    sender: Address
    nonce: int
    to: Address
    value: int
    data: bytes
    max_fee: int
    tip: int

    @property
    def price(self) -> int:
        return min(self.max_fee, BASE_FEE + self.tip)

    @property
    def name(self) -> str:
        """The function it calls."""
        for table in (MANAGER_CALLS, REGISTRY_CALLS, TOKEN_CALLS):
            if self.data[:4] in table:
                return table[self.data[:4]].name
        return "pay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    tx: Tx
    ok: bool
    reason: str
    logs: tuple[Log, ...]


@dataclass(slots=True, kw_only=True)
class Block:
    number: int
    parent: bytes
    timestamp: int
    branch: int
    mined: list[Mined]
    state: State
    """After it."""
    hash: bytes = b""

    def __post_init__(self) -> None:
        words = (self.number, self.timestamp, self.branch)
        self.hash = keccak(
            self.parent + b"".join(one.to_bytes(32, "big") for one in words) + b"".join(m.tx.hash for m in self.mined)
        )


def read(raw: bytes) -> Tx:
    """ValueError for bytes that are no transaction of type 2."""
    fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return Tx(
        raw=raw,
        hash=keccak(raw),
        sender=Address(bytes.fromhex(str(Account.recover_transaction(raw))[2:])),
        nonce=int(fields["nonce"]),
        to=Address(bytes(fields["to"])),
        value=int(fields["value"]),
        data=bytes(fields["data"]),
        max_fee=int(fields["maxFeePerGas"]),
        tip=int(fields["maxPriorityFeePerGas"]),
    )


@dataclass(kw_only=True)
class ModelChain:
    """`clock`: seconds since 1970. `safe`, `final`: by how many blocks those tags lag behind the newest."""

    clock: Callable[[], float]
    domain: Domain
    registry: Address
    token: Address
    min_period: int = 10
    block_time: float = 2.0
    safe: int = 1
    final: int = 3
    blocks: list[Block] = field(default_factory=list)
    pool: list[Tx] = field(default_factory=list)
    lost: list[Block] = field(default_factory=list)
    """Blocks that reorgs took away."""
    refused: list[tuple[str, str, str]] = field(default_factory=list)
    """(sender, function, reason) of each transaction that was mined and reverted."""
    held: bool = False
    """While it is set nothing of the pool is mined."""
    garbled: int = 0
    """How many more estimates are answered with what is no number."""
    tells_price: bool = True
    """Whether endpoints have an answer to `eth_gasPrice`."""

    def __post_init__(self) -> None:
        now = int(self.clock())
        state = State(model=ModelManager(now=now))
        self.blocks = [Block(number=0, parent=bytes(32), timestamp=now, branch=0, mined=[], state=state)]
        self._branch = 0

    # -- the miner

    @property
    def head(self) -> Block:
        return self.blocks[-1]

    @property
    def state(self) -> State:
        return self.head.state

    @property
    def model(self) -> ModelManager:
        return self.head.state.model

    def fund(self, who: Address, *, coin: int = 0, token: int = 0) -> None:
        """Give by decree, in every block there is. Before anything else happens."""
        for block in self.blocks:
            for kind, amount in ((COIN, coin), (named(self.token), token)):
                key = (kind, named(who))
                block.state.model.balances[key] = block.state.model.balances.get(key, 0) + amount

    async def run(self) -> None:
        """A block every `block_time` seconds, until cancelled."""
        while True:
            await trio.sleep(self.block_time)
            self.mine()

    def next_time(self) -> int:
        return max(self.head.timestamp + 1, int(self.clock()))

    def mine(self) -> Block:
        """The next block, with what waits in the pool as far as its nonces allow."""
        state, mined = self.state.copy(), []
        state.model.now = self.next_time()
        left: list[Tx] = []
        for tx in sorted(self.pool, key=lambda one: one.nonce):
            if self.held or tx.nonce > state.nonces.get(tx.sender, 0):
                left.append(tx)
            elif tx.nonce == state.nonces.get(tx.sender, 0):
                state, done = self._apply(state, tx)
                mined.append(done)
        self.pool = left
        head = self.head
        block = Block(
            number=head.number + 1,
            parent=head.hash,
            timestamp=state.model.now,
            branch=self._branch,
            mined=mined,
            state=state,
        )
        self.blocks.append(block)
        return block

    def _apply(self, state: State, tx: Tx) -> tuple[State, Mined]:
        """The state after a transaction: a revert costs its gas and changes nothing else."""
        fee = self.fee(tx)
        paid = state.copy()
        paid.nonces[tx.sender] = tx.nonce + 1
        paid.model.balances[COIN, named(tx.sender)] = paid.model.balance(COIN, named(tx.sender)) - fee
        done, call = paid.copy(), None
        try:
            if done.model.balance(COIN, named(tx.sender)) < tx.value:
                raise Refusal("balance")
            call = self._call(done)
            if tx.data:
                call.run(tx.sender, tx.to, tx.data, tx.value)
            else:
                done.model.move(COIN, named(tx.sender), named(tx.to), tx.value)
        except Refusal as fault:
            self.refused.append((named(tx.sender), tx.name, str(fault)))
            return paid, Mined(tx=tx, ok=False, reason=str(fault), logs=())
        return done, Mined(tx=tx, ok=True, reason="", logs=tuple(call.logs))

    @staticmethod
    def fee(tx: Tx) -> int:
        """Wei that a transaction costs its sender, whatever comes of it."""
        return GAS * tx.price

    def _call(self, state: State) -> Call:
        return Call(state, self.domain, self.registry, self.min_period)

    def reorganise(self, depth: int, *, drop: Callable[[Tx], bool] = lambda _: False) -> None:
        """The last `depth` blocks go; one more comes in their place, without what they held. That waits in the pool
        again, but for what `drop` says is gone."""
        if not 0 < depth < len(self.blocks):
            raise ValueError(f"a reorg of {depth} blocks of {len(self.blocks)}")
        gone, self.blocks = self.blocks[-depth:], self.blocks[:-depth]
        self.lost += gone
        self._branch += 1
        waiting, self.pool = self.pool, []
        for _ in range(depth + 1):
            self.mine()
        again = [done.tx for block in gone for done in block.mined if not drop(done.tx)]
        self.pool = again + waiting

    def submit(self, raw: bytes) -> Tx:
        """RpcError: it cannot be taken into the pool."""
        tx = read(raw)
        if any(one.hash == tx.hash for one in self.pool):
            raise RpcError(-32000, "already known")
        if tx.nonce < self.state.nonces.get(tx.sender, 0):
            raise RpcError(-32000, "nonce too low")
        if self.model.balance(COIN, named(tx.sender)) < tx.value + GAS * tx.price:
            raise RpcError(-32000, "insufficient funds for gas * price + value")
        for one in self.pool:
            if (one.sender, one.nonce) == (tx.sender, tx.nonce):
                if tx.max_fee * 10 < one.max_fee * 11:
                    raise RpcError(-32000, "replacement transaction underpriced")
                self.pool.remove(one)
                break
        self.pool.append(tx)
        return tx

    def gas_of(self, who: Address) -> int:
        """Wei that an account has paid for gas, on the branch that stands."""
        return sum(self.fee(done.tx) for block in self.blocks for done in block.mined if done.tx.sender == who)

    # -- the reader

    def find(self, hash_: bytes) -> tuple[Block, int] | None:
        for block in reversed(self.blocks):
            for place, done in enumerate(block.mined):
                if done.tx.hash == hash_:
                    return block, place
        return None

    def at(self, tag: Any) -> Block | None:
        """The block that a tag, a number or an EIP-1898 object names; None if there is none (on this branch)."""
        if isinstance(tag, dict):
            found = bytes.fromhex(tag["blockHash"][2:])
            return next((block for block in reversed(self.blocks) if block.hash == found), None)
        lag = {"latest": 0, "pending": 0, "safe": self.safe, "finalized": self.final}
        number = max(0, self.head.number - lag[tag]) if tag in lag else int(tag, 16)
        return self.blocks[number] if number < len(self.blocks) else None

    def ask(self, fields: dict[str, str], state: State, now: int) -> bytes:
        """What a call returns on a copy of `state`; RpcError if it reverts."""
        state = state.copy()
        state.model.now = now
        sender, to = (Address(bytes.fromhex(fields.get(name, "0x" + "00" * 20)[2:])) for name in ("from", "to"))
        value, data = int(fields.get("value", "0x0"), 16), bytes.fromhex(fields.get("data", "0x")[2:])
        if "to" not in fields:
            return self._many(state, data)
        try:
            return self._call(state).run(sender, to, data, value) if data else b""
        except Refusal as fault:
            text = str(fault).encode()
            raise RpcError(
                3, f"execution reverted: {fault}", ERROR_STRING + _word(32) + _word(len(text)) + text.ljust(32, b"\0")
            ) from None

    def _many(self, state: State, data: bytes) -> bytes:
        """What `chain.many` asks: its program is not run here, but its ids are looked up by the manager's own view."""
        manager = self.domain.manager
        program = many.ask(manager, [ChannelId(bytes(32))]).data[:-32]
        if not data.startswith(program):
            raise RpcError(-32000, "the model creates no contracts")
        words = b""
        for at in range(len(program), len(data), 32):
            told = self._call(state).run(Address(bytes(20)), manager, many.SELECTOR + data[at : at + 32], 0)
            a, b, version, deadline, flags = (int.from_bytes(told[n : n + 32], "big") for n in range(0, 160, 32))
            words += (a << 168 | b << 80 | version << 40 | deadline << 8 | flags).to_bytes(32, "big")
        return b"\0" + words


class ModelRpc(Rpc):
    """What one daemon's `Rpc` answers. `seam(name)` is entered round each submit; `down`: nobody answers."""

    def __init__(self, chain: ModelChain, seam: Callable[[str, str], None]) -> None:
        self.url = "model:"
        self.chain, self._seam = chain, seam
        self.down = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        fault: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def call(self, method: str, *params: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.down:
            raise Unreachable("the endpoint does not answer")
        answer = getattr(self, method)(*params)
        await trio.lowlevel.checkpoint()
        return answer

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        answers: list[Any] = []
        for method, params in calls:
            try:
                answers.append(await self.call(method, *params))
            except RpcError as fault:
                answers.append(fault)
        return answers

    # -- the methods

    def eth_chainId(self) -> str:  # noqa: N802
        return hex(self.chain.domain.chain_id)

    def eth_getCode(self, address: str, _at: Any = "latest") -> str:  # noqa: N802
        names = {self.chain.domain.manager: "ChannelManager", self.chain.registry: "SecretRegistry"}
        name = names.get(Address(bytes.fromhex(address[2:])))
        if name is None:
            return "0x"
        offset, length = artifact(name).immutables
        code = artifact(name).runtime
        return _hex(code[:offset] + bytes(length) + code[offset:])

    def eth_getBlockByNumber(self, tag: str, _full: bool) -> Any:  # noqa: N802
        return _shape(self.chain.at(tag))

    def eth_getBlockByHash(self, hash_: str, _full: bool) -> Any:  # noqa: N802
        return _shape(self.chain.at({"blockHash": hash_}))

    def eth_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        return hex(TIP)

    def eth_gasPrice(self) -> str:  # noqa: N802
        if not self.chain.tells_price:
            raise RpcError(-32603, "internal error")
        return hex(BASE_FEE + TIP)

    def _state(self, tag: Any) -> Block:
        block = self.chain.at(tag)
        if block is None:
            raise RpcError(-32000, "header not found")
        return block

    def eth_getTransactionCount(self, address: str, tag: str) -> str:  # noqa: N802
        who = Address(bytes.fromhex(address[2:]))
        nonce = self._state(tag).state.nonces.get(who, 0)
        if tag == "pending":
            waiting = {tx.nonce for tx in self.chain.pool if tx.sender == who}
            while nonce in waiting:
                nonce += 1
        return hex(nonce)

    def eth_getBalance(self, address: str, tag: Any = "latest") -> str:  # noqa: N802
        return hex(self._state(tag).state.model.balance(COIN, named(bytes.fromhex(address[2:]))))

    def eth_call(self, fields: dict[str, str], tag: Any = "latest") -> str:
        block = self._state(tag)
        return _hex(self.chain.ask(fields, block.state, block.timestamp))

    def eth_estimateGas(self, fields: dict[str, str]) -> str:  # noqa: N802
        """In the block to come, after what waits there before it."""
        if self.chain.garbled:
            self.chain.garbled -= 1
            return "0x?"
        state = self.chain.state.copy()
        state.model.now = self.chain.next_time()
        for tx in sorted(self.chain.pool, key=lambda one: one.nonce):
            if tx.nonce == state.nonces.get(tx.sender, 0):
                count = len(self.chain.refused)
                state, _ = self.chain._apply(state, tx)
                del self.chain.refused[count:]
        self.chain.ask(fields, state, state.model.now)
        return hex(GAS)

    def eth_sendRawTransaction(self, raw: str) -> str:  # noqa: N802
        data = bytes.fromhex(raw[2:])
        name = f"submit {read(data).name}"
        self._seam(name, "before")
        tx = self.chain.submit(data)
        self._seam(name, "after")
        return _hex(tx.hash)

    def eth_getTransactionByHash(self, hash_: str) -> Any:  # noqa: N802
        wanted = bytes.fromhex(hash_[2:])
        known = any(tx.hash == wanted for tx in self.chain.pool) or self.chain.find(wanted) is not None
        return {"hash": hash_} if known else None

    def eth_getTransactionReceipt(self, hash_: str) -> Any:  # noqa: N802
        found = self.chain.find(bytes.fromhex(hash_[2:]))
        if found is None:
            return None
        block, place = found
        done = block.mined[place]
        return {
            "transactionHash": hash_,
            "blockHash": _hex(block.hash),
            "blockNumber": hex(block.number),
            "status": hex(done.ok),
            "gasUsed": hex(GAS),
            "effectiveGasPrice": hex(done.tx.price),
            "contractAddress": None,
        }

    def eth_getLogs(self, query: dict[str, Any]) -> list[Any]:  # noqa: N802
        block = self._state({"blockHash": query["blockHash"]})
        wanted = {bytes.fromhex(one[2:]) for one in query["address"]}
        found = [(done, log) for done in block.mined for log in done.logs]
        return [
            {
                "address": _hex(log.address),
                "topics": [_hex(topic) for topic in log.topics],
                "data": _hex(log.data),
                "blockHash": _hex(block.hash),
                "transactionHash": _hex(done.tx.hash),
                "logIndex": hex(index),
            }
            for index, (done, log) in enumerate(found)
            if log.address in wanted
        ]


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _shape(block: Block | None) -> Any:
    if block is None:
        return None
    return {
        "number": hex(block.number),
        "hash": _hex(block.hash),
        "parentHash": _hex(block.parent),
        "timestamp": hex(block.timestamp),
        "baseFeePerGas": hex(BASE_FEE),
    }


__all__ = ["NATIVE", "Block", "Mined", "ModelChain", "ModelRpc", "Tx"]
