"""JSON forms of the execution APIs: reading parameters, writing blocks, transactions, receipts and logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from channeld.chain.devchain.evm import Call, Log, Mined, MinedTx
from channeld.chain.devchain.faults import invalid
from channeld.chain.devchain.pool import Waiting

Json = dict[str, Any]


# -- reading -----------------------------------------------------------------------------------------------------


def number(value: Any, what: str) -> int:
    """A quantity: 0x-hex or a plain JSON integer, 0 .. 2**256 - 1."""
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and value.startswith("0x") and 2 < len(value) <= 66:
        try:
            found = int(value[2:], 16)
        except ValueError:
            raise invalid(f"{what}: {value:.70} is not hexadecimal") from None
    else:
        raise invalid(f"{what}: {value!r:.70} is not a quantity")
    if not 0 <= found < 2**256:
        raise invalid(f"{what}: out of range")
    return found


def octets(value: Any, what: str, length: int | None = None) -> bytes:
    """Bytes as 0x-hex, of `length` if given."""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise invalid(f"{what}: {value!r:.70} is not 0x-hex")
    try:
        found = bytes.fromhex(value[2:])
    except ValueError:
        raise invalid(f"{what}: {value:.70} is not hexadecimal") from None
    if length is not None and len(found) != length:
        raise invalid(f"{what}: {len(found)} bytes, want {length}")
    return found


def address(value: Any) -> bytes:
    return octets(value, "address", 20)


def word(value: Any) -> bytes:
    return octets(value, "hash", 32)


def call(fields: Any) -> Call:
    """The first parameter of eth_call and eth_estimateGas. Its fees are ignored: a call pays none."""
    if not isinstance(fields, dict):
        raise invalid("a call is an object")
    body = fields.get("input") if fields.get("input") is not None else fields.get("data")
    gas = fields.get("gas")
    return Call(
        sender=address(fields["from"]) if fields.get("from") else bytes(20),
        to=address(fields["to"]) if fields.get("to") else b"",
        data=octets(body, "data") if body else b"",
        value=number(fields.get("value") or 0, "value"),
        gas=None if gas is None else number(gas, "gas"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which logs `eth_getLogs` wants: of any of these addresses (none: all), with these topics by position."""

    addresses: frozenset[bytes]
    topics: tuple[frozenset[bytes], ...]

    @classmethod
    def read(cls, query: Any) -> LogFilter:
        if not isinstance(query, dict):
            raise invalid("a filter is an object")
        addresses = query.get("address") or []
        topics = query.get("topics") or []
        if not isinstance(topics, list) or len(topics) > 4:
            raise invalid("topics: a list of at most four")
        return cls(
            addresses=frozenset(map(address, addresses if isinstance(addresses, list) else [addresses])),
            topics=tuple(
                frozenset(map(word, topic if isinstance(topic, list) else [] if topic is None else [topic]))
                for topic in topics
            ),
        )

    def fits(self, entry: Log) -> bool:
        if self.addresses and entry.address not in self.addresses:
            return False
        if len(entry.topics) < len(self.topics):
            return False
        return all(not wanted or entry.topics[place] in wanted for place, wanted in enumerate(self.topics))

    def find(self, blocks: Iterable[Mined]) -> Iterator[tuple[Mined, MinedTx, int]]:
        """Each fitting log as its block, its transaction and its place in the transaction."""
        for block in blocks:
            for tx in block.txs:
                for place, entry in enumerate(tx.logs):
                    if self.fits(entry):
                        yield block, tx, place


# -- writing -----------------------------------------------------------------------------------------------------


def quantity(value: int) -> str:
    return hex(value)


def data(value: bytes) -> str:
    return "0x" + value.hex()


def bloom(value: int) -> str:
    return data(value.to_bytes(256, "big"))


def block(mined: Mined, *, full: bool) -> Json:
    shape = _header(mined.header)
    shape["hash"] = data(mined.hash)
    shape["size"] = quantity(mined.size)
    shape["transactions"] = [transaction(mined, tx) if full else data(tx.hash) for tx in mined.txs]
    return shape


def pending_block(header: Any, txs: Sequence[Waiting], *, full: bool) -> Json:
    """The block to come: it has no hash, no nonce and no miner yet."""
    shape = _header(header)
    shape |= {"hash": None, "nonce": None, "miner": None, "size": quantity(0)}
    shape["transactions"] = [waiting(tx) if full else data(tx.hash) for tx in txs]
    return shape


def _header(header: Any) -> Json:
    return {
        "number": quantity(header.block_number),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": bloom(header.bloom),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(0),
        "totalDifficulty": quantity(0),
        "extraData": data(header.extra_data),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "uncles": [],
        "withdrawals": [],
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
    }


def _tx_fields(tx: Any, raw: bytes, tx_hash: bytes, sender: bytes) -> Json:
    kind = raw[0] if raw[0] < 0xC0 else 0
    shape: Json = {
        "hash": data(tx_hash),
        "type": quantity(kind),
        "chainId": quantity(tx.chain_id),
        "nonce": quantity(tx.nonce),
        "from": data(sender),
        "to": data(tx.to) if tx.to else None,
        "value": quantity(tx.value),
        "gas": quantity(tx.gas),
        "input": data(tx.data),
        "r": quantity(tx.r),
        "s": quantity(tx.s),
        "v": quantity(tx.y_parity if kind else tx.v),
    }
    if kind:
        shape["yParity"] = quantity(tx.y_parity)
        shape["accessList"] = [
            {"address": data(who), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}
            for who, slots in tx.access_list
        ]
    if kind >= 2:
        shape["maxFeePerGas"] = quantity(tx.max_fee_per_gas)
        shape["maxPriorityFeePerGas"] = quantity(tx.max_priority_fee_per_gas)
    return shape


def waiting(tx: Waiting) -> Json:
    nowhere = {"blockHash": None, "blockNumber": None, "transactionIndex": None}
    return _tx_fields(tx.tx, tx.raw, tx.hash, tx.sender) | nowhere | {"gasPrice": quantity(tx.tx.max_fee_per_gas)}


def _place(mined: Mined, tx: MinedTx) -> Json:
    return {
        "blockHash": data(mined.hash),
        "blockNumber": quantity(mined.number),
        "transactionIndex": quantity(tx.index),
    }


def transaction(mined: Mined, tx: MinedTx) -> Json:
    shape = _tx_fields(tx.tx, tx.raw, tx.hash, tx.sender)
    return shape | _place(mined, tx) | {"gasPrice": quantity(tx.price)}


def receipt(mined: Mined, tx: MinedTx) -> Json:
    return _place(mined, tx) | {
        "transactionHash": data(tx.hash),
        "type": quantity(tx.raw[0] if tx.raw[0] < 0xC0 else 0),
        "from": data(tx.sender),
        "to": data(tx.tx.to) if tx.tx.to else None,
        "contractAddress": None if tx.created is None else data(tx.created),
        "status": quantity(int(tx.ok)),
        "gasUsed": quantity(tx.gas_used),
        "cumulativeGasUsed": quantity(tx.cumulative_gas),
        "effectiveGasPrice": quantity(tx.price),
        "logsBloom": bloom(tx.bloom),
        "logs": [log(mined, tx, place) for place in range(len(tx.logs))],
    }


def log(mined: Mined, tx: MinedTx, place: int) -> Json:
    entry = tx.logs[place]
    return _place(mined, tx) | {
        "transactionHash": data(tx.hash),
        "address": data(entry.address),
        "topics": [data(topic) for topic in entry.topics],
        "data": data(entry.data),
        "logIndex": quantity(tx.first_log + place),
        "blockTimestamp": quantity(mined.timestamp),
        "removed": False,
    }


def fee_history(blocks: Sequence[Mined], next_base_fee: int, percentiles: Sequence[float]) -> Json:
    shape: Json = {
        "oldestBlock": quantity(blocks[0].number),
        "baseFeePerGas": [quantity(one.header.base_fee_per_gas) for one in blocks] + [quantity(next_base_fee)],
        "gasUsedRatio": [one.header.gas_used / one.header.gas_limit for one in blocks],
    }
    if percentiles:
        shape["reward"] = [[quantity(_reward(one, percentile)) for percentile in percentiles] for one in blocks]
    return shape


def _reward(mined: Mined, percentile: float) -> int:
    """The tip at which `percentile` per cent of the block's gas is reached."""
    reached = 0.0
    tips = sorted((tx.price - mined.header.base_fee_per_gas, tx.gas_used) for tx in mined.txs)
    for tip, gas in tips:
        reached += gas
        if reached >= mined.header.gas_used * percentile / 100:
            return int(tip)
    return int(tips[-1][0]) if tips else 0
