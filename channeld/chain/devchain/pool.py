"""Transactions that wait: by sender and nonce, replaced only for a fee a tenth higher, mined by tip.

The rules and the words of refusal are those of geth's legacy pool, since the sender is written against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from channeld.base.keys import keccak
from channeld.chain.devchain.faults import INVALID_PARAMS, SERVER_ERROR, RpcFault

PRICE_BUMP: Final = 10
"""Percent by which both fees of a replacement must exceed those of what it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A transaction that is signed, affordable and not mined yet. `tx` is py-evm's, `raw` what came in."""

    tx: Any
    raw: bytes
    hash: bytes
    sender: bytes
    order: int

    @property
    def nonce(self) -> int:
        nonce: int = self.tx.nonce
        return nonce

    def tip(self, base_fee: int) -> int:
        """What the block's maker gets per gas; below zero if the fee does not cover the base fee."""
        tip: int = min(self.tx.max_priority_fee_per_gas, self.tx.max_fee_per_gas - base_fee)
        return tip

    @property
    def cost(self) -> int:
        """The most wei it can take from its sender."""
        cost: int = self.tx.gas * self.tx.max_fee_per_gas + self.tx.value
        return cost


@dataclass(slots=True)
class Pool:
    """What waits, and for whom."""

    by_sender: dict[bytes, dict[int, Waiting]] = field(default_factory=dict)
    by_hash: dict[bytes, Waiting] = field(default_factory=dict)
    arrived: int = 0

    def copy(self) -> Pool:
        return Pool(
            {sender: dict(lane) for sender, lane in self.by_sender.items()},
            dict(self.by_hash),
            self.arrived,
        )

    def add(self, tx: Any, raw: bytes, sender: bytes) -> Waiting:
        """Take in a checked transaction; RpcFault if a dearer one with its nonce is here."""
        new = Waiting(tx=tx, raw=raw, hash=keccak(raw), sender=sender, order=self.arrived)
        if new.hash in self.by_hash:
            raise RpcFault(SERVER_ERROR, "already known")
        lane = self.by_sender.setdefault(sender, {})
        old = lane.get(new.nonce)
        if old is not None:
            for name in ("max_fee_per_gas", "max_priority_fee_per_gas"):
                if getattr(tx, name) * 100 < getattr(old.tx, name) * (100 + PRICE_BUMP):
                    raise RpcFault(SERVER_ERROR, "replacement transaction underpriced")
            del self.by_hash[old.hash]
        self.arrived += 1
        lane[new.nonce] = self.by_hash[new.hash] = new
        return new

    def drop(self, waiting: Waiting) -> None:
        if self.by_hash.pop(waiting.hash, None) is not None:
            lane = self.by_sender[waiting.sender]
            del lane[waiting.nonce]
            if not lane:
                del self.by_sender[waiting.sender]

    def forget_stale(self, nonce_of: Callable[[bytes], int]) -> None:
        """Drop what can never be mined any more because its nonce is used."""
        for sender, lane in list(self.by_sender.items()):
            used = nonce_of(sender)
            for waiting in [waiting for nonce, waiting in lane.items() if nonce < used]:
                self.drop(waiting)

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The first nonce from `nonce` on that nothing here uses."""
        lane = self.by_sender.get(sender, {})
        while nonce in lane:
            nonce += 1
        return nonce

    def ready(self, nonce_of: Callable[[bytes], int], base_fee: int) -> Iterator[Waiting]:
        """What can be mined, best tip first, each sender's in order of nonce. Tell `skip` of a failure by `send`."""
        heads = {}
        for sender, lane in self.by_sender.items():
            head = lane.get(nonce_of(sender))
            if head is not None and head.tip(base_fee) >= 0:
                heads[sender] = head
        while heads:
            best = max(heads.values(), key=lambda waiting: (waiting.tip(base_fee), -waiting.order))
            del heads[best.sender]
            yield best
            following = self.by_sender.get(best.sender, {}).get(nonce_of(best.sender))
            if following is not None and following is not best and following.tip(base_fee) >= 0:
                heads[best.sender] = following


def check_shape(tx: Any, chain_id: int, gas_limit: int, *, unprotected: bool) -> None:
    """Refuse what no state can make good; `unprotected`: what bears no chain id is welcome."""
    if tx.chain_id is None and not unprotected:
        raise RpcFault(SERVER_ERROR, "only replay-protected (EIP-155) transactions allowed over RPC")
    if tx.chain_id not in (chain_id, None):
        raise RpcFault(SERVER_ERROR, f"invalid chain id for signer: have {tx.chain_id} want {chain_id}")
    if tx.gas > gas_limit:
        raise RpcFault(SERVER_ERROR, "exceeds block gas limit")
    if tx.gas < tx.intrinsic_gas:
        raise RpcFault(SERVER_ERROR, f"intrinsic gas too low: gas {tx.gas}, minimum needed {tx.intrinsic_gas}")
    if tx.max_priority_fee_per_gas > tx.max_fee_per_gas:
        text = f"maxPriorityFeePerGas: {tx.max_priority_fee_per_gas}, maxFeePerGas: {tx.max_fee_per_gas}"
        raise RpcFault(SERVER_ERROR, "max priority fee per gas higher than max fee per gas: " + text)
    if len(tx.data) > 131_072 and tx.to:
        raise RpcFault(INVALID_PARAMS, "oversized data")


def check_sender(tx: Any, nonce: int, balance: int) -> None:
    """Refuse what this sender cannot send as the chain stands."""
    if tx.nonce < nonce:
        raise RpcFault(SERVER_ERROR, f"nonce too low: next nonce {nonce}, tx nonce {tx.nonce}")
    cost = tx.gas * tx.max_fee_per_gas + tx.value
    if balance < cost:
        text = f"balance {balance}, tx cost {cost}, overshot {cost - balance}"
        raise RpcFault(SERVER_ERROR, "insufficient funds for gas * price + value: " + text)
