"""The audit: every wei and every token unit, read from blocks and receipts by plain JSON-RPC.

The coin: what all accounts and contracts hold, and the base fees that were burnt, is what the genesis gave out. An
account is whatever a block or a receipt names, and each contract. The token: what all hold is what was minted. And
what each party holds more or less than at the start follows from its transactions, the bonds, and the payments that
its own node lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from channeld.base.keys import keccak
from channeld.base.units import Address, Timestamp
from channeld.chain.bindings import Contracts
from channeld.chain.chain import BlockRef, Fact, SeenFinal
from channeld.chain.reads import hexed
from channeld.chain.rpc import Rpc, RpcError

TRANSFER: Final = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
ZERO: Final = "0x" + "0" * 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Tx:
    """A mined transaction. `fee` is all the sender paid for gas, `burnt` and `tip` its two parts; in wei."""

    block: int
    sender: str
    to: str
    value: int
    """0 if it failed."""
    fee: int
    burnt: int
    tip: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the chain says at block `head`: accounts are 0x-addresses in lower case, amounts wei or base units."""

    head: int
    genesis: Mapping[str, int]
    wei: Mapping[str, int]
    tokens: Mapping[str, int]
    minted: int
    """All that was ever minted of the token."""
    moved: Mapping[str, int]
    """What the token's own Transfer events add up to, by account."""
    txs: tuple[Tx, ...]
    facts: tuple[Fact, ...]
    miner: str

    @property
    def burnt(self) -> int:
        return sum(tx.burnt for tx in self.txs)

    @property
    def tips(self) -> int:
        return sum(tx.tip for tx in self.txs)

    def gas(self, account: str, since: int) -> tuple[int, int]:
        """How many transactions the account sent after block `since`, and the wei they cost in gas."""
        fees = [tx.fee for tx in self.txs if tx.sender == account and tx.block > since]
        return len(fees), sum(fees)

    def sent(self, account: str, since: int) -> int:
        """Wei that left the account as the value of its transactions: the bond of a close."""
        return sum(tx.value for tx in self.txs if tx.sender == account and tx.block > since)

    def given(self, account: str, since: int) -> int:
        """Wei that others' transactions brought it directly."""
        return sum(tx.value for tx in self.txs if tx.to == account and tx.block > since)

    def bonds(self, account: str, since: int) -> int:
        """Close bonds paid out to it."""
        return sum(
            fact.bond
            for fact in self.facts
            if isinstance(fact, SeenFinal) and hexed(fact.bond_to) == account and fact.block.number > since
        )


async def read(rpc: Rpc, contracts: Contracts, token: Address) -> Books:
    """The books as they stand at the newest block."""
    head = int(await rpc.call("eth_blockNumber"), 16)
    blocks = await _all(rpc, [("eth_getBlockByNumber", [hex(n), True]) for n in range(head + 1)])
    receipts = await _all(rpc, [("eth_getBlockReceipts", [hex(n)]) for n in range(head + 1)])
    txs = tuple(
        _tx(block, tx, receipt)
        for block, of_block in zip(blocks, receipts, strict=True)
        for tx, receipt in zip(block["transactions"], of_block, strict=True)
    )
    named = {tx.sender for tx in txs} | {tx.to for tx in txs} | {block["miner"] for block in blocks}
    made = {receipt["contractAddress"] for of_block in receipts for receipt in of_block}
    ours = {hexed(contracts.manager), hexed(contracts.registry), hexed(token)}  # made within a call of the proxy
    accounts = sorted((named | made | ours | set(await rpc.call("eth_accounts"))) - {"", None})
    wei = await _balances(rpc, accounts, head)
    genesis = await _balances(rpc, accounts, 0)
    moved = await _moved(rpc, token, head)
    holders = sorted(set(accounts) | set(moved) - {ZERO})
    calls = [contracts.ask_balance(token, Address(bytes.fromhex(one[2:]))) for one in holders]
    asked = [("eth_call", [{"to": hexed(call.to or b""), "data": hexed(call.data)}, hex(head)]) for call in calls]
    tokens = {one: int(answer, 16) for one, answer in zip(holders, await _all(rpc, asked), strict=True)}
    return Books(
        head=head,
        genesis=genesis,
        wei=wei,
        tokens=tokens,
        minted=-moved.get(ZERO, 0),
        moved=moved,
        txs=txs,
        facts=tuple(await facts(rpc, contracts, 0)),
        miner=blocks[-1]["miner"],
    )


async def facts(rpc: Rpc, contracts: Contracts, since: int) -> list[Fact]:
    """What the manager's events say from block `since` on. Their blocks come without a time."""
    manager = f"0x{contracts.manager.hex()}"
    logs = await rpc.call("eth_getLogs", {"address": manager, "fromBlock": hex(since), "toBlock": "latest"})
    found = (contracts.fact(log, _place(log)) for log in logs)
    return [fact for fact in found if fact is not None]


async def balance(rpc: Rpc, account: str, block: int) -> int:
    """Wei of an account at a block."""
    return int(await rpc.call("eth_getBalance", account, hex(block)), 16)


def _place(log: Any) -> BlockRef:
    return BlockRef(
        number=int(log["blockNumber"], 16), hash=bytes.fromhex(log["blockHash"][2:]), timestamp=Timestamp(0)
    )


def _tx(block: Any, tx: Any, receipt: Any) -> Tx:
    gas, price, base = (
        int(text, 16) for text in (receipt["gasUsed"], receipt["effectiveGasPrice"], block["baseFeePerGas"])
    )
    return Tx(
        block=int(block["number"], 16),
        sender=tx["from"],
        to=tx["to"] or "",
        value=int(tx["value"], 16) if int(receipt["status"], 16) else 0,
        fee=gas * price,
        burnt=gas * base,
        tip=gas * (price - base),
    )


async def _balances(rpc: Rpc, accounts: Iterable[str], block: int) -> dict[str, int]:
    names = list(accounts)
    answers = await _all(rpc, [("eth_getBalance", [one, hex(block)]) for one in names])
    return {one: int(answer, 16) for one, answer in zip(names, answers, strict=True)}


async def _moved(rpc: Rpc, token: Address, head: int) -> dict[str, int]:
    """Every Transfer of the token added up, by account; the zero account is where minting comes from."""
    asked = {"address": f"0x{token.hex()}", "fromBlock": "0x0", "toBlock": hex(head), "topics": [TRANSFER]}
    found: dict[str, int] = {}
    for log in await rpc.call("eth_getLogs", asked):
        source, target = ("0x" + topic[-40:] for topic in log["topics"][1:3])
        amount = int(log["data"], 16)
        found[source] = found.get(source, 0) - amount
        found[target] = found.get(target, 0) + amount
    return found


async def _all(rpc: Rpc, calls: list[tuple[str, list[Any]]]) -> list[Any]:
    """The answers of a batch; the first that is an error is raised."""
    answers = await rpc.batch(calls)
    for answer in answers:
        if isinstance(answer, RpcError):
            raise answer
    return answers
