"""`Chain` over JSON-RPC: blocks by tag or depth, and contract state at a block's hash.

A question at a block names it by hash (EIP-1898), so that an answer is never of another branch than the one asked
about; a node that has lost the block says so, and that counts as unreachable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from channeld.base.digests import registry_key
from channeld.base.errors import Malformed, Refused, Unreachable
from channeld.base.units import NATIVE, Address, Amount, ChannelId, LockKey, LockKind, Timestamp, exactly
from channeld.chain import many
from channeld.chain.bindings import Contracts
from channeld.chain.chain import BlockRef, Call, ChannelWord, Head
from channeld.chain.networks import Finality
from channeld.chain.rpc import Rpc, RpcError
from contracts import artifact, same_code

ZERO: Final = "0x" + "00" * 20


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def block_ref(shape: Any) -> BlockRef:
    """A block of JSON-RPC as a `BlockRef`; Unreachable if it is none."""
    try:
        return BlockRef(
            number=int(shape["number"], 16),
            hash=exactly(32, bytes.fromhex(shape["hash"][2:]), "block hash"),
            timestamp=Timestamp(int(shape["timestamp"], 16)),
        )
    except (TypeError, KeyError, ValueError) as fault:
        raise Unreachable(f"the node gave a block that is none: {fault!s:.100}") from None


async def read_head(rpc: Rpc, finality: Finality) -> Head:
    """The newest block and, by the network's rule, the newest safe and final ones. Unreachable if it cannot be told."""
    if finality.tags:
        answers = await rpc.batch([("eth_getBlockByNumber", [tag, False]) for tag in ("latest", "safe", "finalized")])
        for answer in answers:
            if isinstance(answer, RpcError):
                raise Unreachable(f"the node gives no block: {answer}")
        latest = block_ref(answers[0])
        safe, final = (latest if answer is None else block_ref(answer) for answer in answers[1:])
        if answers[2] is None:  # a young chain has no final block but its first
            final = await _numbered(rpc, 0)
            safe = final if answers[1] is None else safe
    else:
        latest = block_ref(await _told(rpc, "eth_getBlockByNumber", "latest", False))
        safe = await _numbered(rpc, max(0, latest.number - finality.safe_depth))
        final = await _numbered(rpc, max(0, latest.number - finality.final_depth))
    if safe.number > latest.number:
        safe = latest
    if final.number > safe.number:
        final = safe
    return Head(latest=latest, safe=safe, finalized=final)


async def _numbered(rpc: Rpc, number: int) -> BlockRef:
    return block_ref(await _told(rpc, "eth_getBlockByNumber", hex(number), False))


async def _told(rpc: Rpc, method: str, *params: Any) -> Any:
    try:
        return await rpc.call(method, *params)
    except RpcError as fault:
        raise Unreachable(f"{method}: {fault}") from None


class RpcChain:
    """`Chain` by way of one RPC endpoint."""

    def __init__(self, rpc: Rpc, contracts: Contracts, *, chain_id: int, finality: Finality) -> None:
        self.rpc = rpc
        self.contracts = contracts
        self.chain_id = chain_id
        self.finality = finality

    async def head(self) -> Head:
        return await read_head(self.rpc, self.finality)

    async def block(self, number: int) -> BlockRef:
        """The canonical block of that number; Unreachable if there is none (yet)."""
        return await _numbered(self.rpc, number)

    async def channel(self, channel_id: ChannelId, at: BlockRef | None = None) -> ChannelWord:
        try:
            return self.contracts.read_channel(await self._ask(self.contracts.ask_channel(channel_id), at))
        except Malformed as fault:
            raise Unreachable(str(fault)) from None

    async def channels(self, ids: Sequence[ChannelId]) -> list[ChannelWord]:
        """The words of many channels by now, in their order, hundreds in one request; their records are left out."""
        found: list[ChannelWord] = []
        for start in range(0, len(ids), many.MOST):
            some = ids[start : start + many.MOST]
            try:
                found += many.read(await self._ask(many.ask(self.contracts.manager, some), None), len(some))
            except Malformed as fault:
                raise Unreachable(f"eth_call: {fault}") from None
        return found

    async def registered_at(self, key: LockKey, at: BlockRef | None = None) -> Timestamp:
        asked = self.contracts.ask_registered_at(registry_key(LockKind.HASH, key))
        return Timestamp(self._number(await self._ask(asked, at)))

    async def registered_of(self, keys: Sequence[LockKey]) -> dict[LockKey, Timestamp]:
        """When the preimages of those locks were registered, those that were not left out; many in one request."""
        asked = [self.contracts.ask_registered_at(registry_key(LockKind.HASH, key)) for key in keys]
        found = {}
        for key, answer in zip(keys, await self.rpc.batch([_called(call, None) for call in asked]), strict=True):
            if isinstance(answer, RpcError):
                raise Unreachable(f"eth_call: {answer}")
            if at := self._number(_bytes(answer)):
                found[key] = Timestamp(at)
        return found

    async def owed(self, token: Address, owner: Address, at: BlockRef | None = None) -> Amount:
        return Amount(self._number(await self._ask(self.contracts.ask_owed(token, owner), at)))

    async def closings(self, at: BlockRef | None = None) -> int:
        answer = await self._ask(self.contracts.ask_closings(), at)
        return self._number(answer) if answer else 0  # before the manager was there, nothing was closed

    async def balance(self, owner: Address, token: Address = NATIVE, at: BlockRef | None = None) -> int:
        if token == NATIVE:
            return quantity(await _told(self.rpc, "eth_getBalance", hexed(owner), _at(at)))
        return self._number(await self._ask(self.contracts.ask_balance(token, owner), at))

    async def gas_price(self) -> int:
        """What the node asks for a unit of gas now, wei. Unreachable: it does not say."""
        return quantity(await _told(self.rpc, "eth_gasPrice"))

    async def allowance(self, token: Address, owner: Address, at: BlockRef | None = None) -> int:
        return self._number(await self._ask(self.contracts.ask_allowance(token, owner), at))

    async def check(self) -> None:
        """Refuse another chain, unknown code, or a manager over another registry.

        Raises:
            Refused: `wrong_chain`, `unknown_contract`.
            Unreachable: the node does not answer.
        """
        found = quantity(await _told(self.rpc, "eth_chainId"))
        if found != self.chain_id:
            text = f"the node is on chain {found}, the network is {self.chain_id}"
            raise Refused("wrong_chain", text, "check the RPC address and the network's name")
        for name, address in (("ChannelManager", self.contracts.manager), ("SecretRegistry", self.contracts.registry)):
            if not same_code(artifact(name), await self.code(address)):
                text = f"the code at {hexed(address)} is not the {name} that this version knows"
                raise Refused("unknown_contract", text, "check the address, or deploy with `channeld deploy`")
        registry = Address((await self._ask(self.contracts.ask_registry(), None))[-20:])
        if registry != self.contracts.registry:
            text = f"the manager uses the registry {hexed(registry)}, not {hexed(self.contracts.registry)}"
            raise Refused("unknown_contract", text, "set the registry to the manager's own")

    def _number(self, answer: bytes) -> int:
        try:
            return self.contracts.read_number(answer)
        except Malformed as fault:
            raise Unreachable(str(fault)) from None

    async def code(self, address: Address) -> bytes:
        """The code there now, empty for none."""
        return _bytes(await _told(self.rpc, "eth_getCode", hexed(address), "latest"))

    async def _ask(self, call: Call, at: BlockRef | None) -> bytes:
        method, params = _called(call, at)
        return _bytes(await _told(self.rpc, method, *params))


def _called(call: Call, at: BlockRef | None) -> tuple[str, tuple[Any, ...]]:
    said = {"data": hexed(call.data)} if call.to is None else {"to": hexed(call.to), "data": hexed(call.data)}
    return "eth_call", (said, _at(at))


def quantity(answer: Any) -> int:
    """A number as JSON-RPC writes it, 0x and hex. Unreachable: the answer is none."""
    try:
        return int(answer, 16)
    except (TypeError, ValueError):
        raise Unreachable(f"the node gave no number: {answer!r:.100}") from None


def _bytes(answer: Any) -> bytes:
    try:
        return bytes.fromhex(answer[2:])
    except (TypeError, ValueError):
        raise Unreachable(f"the node gave no bytes: {answer!r:.100}") from None


def _at(block: BlockRef | None) -> Any:
    return "latest" if block is None else {"blockHash": hexed(block.hash), "requireCanonical": True}
