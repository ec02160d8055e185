"""Calls of the contracts as bytes and their logs as facts, by web3's codec and the committed ABI.

web3 takes over a second to import, so only `Contracts()` imports it. The signatures follow the contracts; the
meaning of each argument stands in their sources and in `base.digests`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from channeld.base.digests import MEMO_BYTES, Terms
from channeld.base.errors import Malformed
from channeld.base.keys import compact
from channeld.base.units import (
    NATIVE,
    Address,
    Amount,
    ChannelId,
    Digest,
    Preimage,
    Seconds,
    Side,
    Timestamp,
    Version,
    exactly,
)
from channeld.chain.chain import (
    BlockRef,
    Call,
    ChannelWord,
    Fact,
    SeenChallenge,
    SeenClose,
    SeenCooperate,
    SeenDeposit,
    SeenFinal,
    SeenLocks,
    SeenMemo,
    SeenOwed,
    SeenSecret,
    SeenSettle,
    SeenWithdrawn,
)
from contracts import artifact

NO_MEMO: Final = bytes(MEMO_BYTES)
_DEPOSIT: Final = "deposit(address,bytes32,uint256,uint256)"
_DEPOSIT_MEMO: Final = "deposit(address,bytes32,uint256,uint256,bytes32[6])"
_TERMS: Final = "(address,address,address,address,uint256,bytes32,uint256,uint256)"
_SIGNATURE: Final = "(bytes32,bytes32)"
_COOPERATE: Final = f"cooperate(address,{_TERMS},uint256,int256,uint256,uint256,uint256,{_SIGNATURE},{_SIGNATURE})"
_CLOSE: Final = f"close(address,{_TERMS},uint256,bytes32,{_SIGNATURE},bytes32,bytes32)"
NO_ONE: Final = Address(bytes(20))
_ERROR_STRING: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")


def revert_reason(data: bytes) -> str:
    """What a revert says: the text of `Error(string)`, the number of a panic, else the data as hex."""
    if data[:4] == _ERROR_STRING and len(data) >= 68:
        length = int.from_bytes(data[36:68], "big")
        return data[68 : 68 + length].decode("utf-8", "replace")
    if data[:4] == _PANIC and len(data) == 36:
        return f"panic 0x{int.from_bytes(data[4:], 'big'):02x}"
    return data.hex() if data else "reverted without a reason"


class Contracts:
    """One manager and its registry, and any ERC-20."""

    def __init__(self, *, manager: Address, registry: Address) -> None:
        from eth_abi.exceptions import DecodingError
        from web3 import Web3
        from web3.exceptions import Web3Exception

        self._faults = (DecodingError, Web3Exception)
        self.manager = manager
        self.registry = registry
        web3 = Web3()
        self._codec = web3.codec
        self._manager = web3.eth.contract(abi=artifact("ChannelManager").abi)
        self._registry = web3.eth.contract(abi=artifact("SecretRegistry").abi)
        self._token = web3.eth.contract(abi=artifact("TestToken").abi)
        self._readers: dict[tuple[bytes, bytes], tuple[Any, Callable[[dict[str, Any], dict[str, Any]], Fact]]] = {}
        for source, contract, address in (
            ("ChannelManager", self._manager, manager),
            ("SecretRegistry", self._registry, registry),
        ):
            for name in (entry["name"] for entry in artifact(source).abi if entry["type"] == "event"):
                event = getattr(contract.events, name)()
                self._readers[address, bytes.fromhex(event.topic[2:])] = (event, _FACTS[name])

    # -- calls of the manager ------------------------------------------------------------------------------------

    def deposit(self, token: Address, terms_hash: Digest, side: Side, amount: Amount, memo: bytes = NO_MEMO) -> Call:
        """Pay into a channel; an ERC-20 needs `approve` first. `memo` 192 bytes."""
        words = [memo[at : at + 32] for at in range(0, len(exactly(MEMO_BYTES, memo, "memo")), 32)]
        name, rest = (_DEPOSIT, ()) if memo == NO_MEMO else (_DEPOSIT_MEMO, (words,))
        data = self._encode(self._manager, name, token, terms_hash, int(side), amount, *rest)
        return Call(to=self.manager, data=data, value=amount if token == NATIVE else 0)

    def cooperate(
        self,
        token: Address,
        terms: Terms,
        *,
        version: Version,
        net: int,
        out_a: int,
        out_b: int,
        valid_until: Timestamp,
        signature_a: bytes,
        signature_b: bytes,
    ) -> Call:
        """Take money out together. A participant who sends it may leave its own signature empty."""
        if not (signature_a and signature_b):
            signature_a, signature_b = signature_a or signature_b, b""  # the contract knows whose it must be
        arguments = (version, net, out_a, out_b, valid_until, compact(signature_a), compact(signature_b))
        return self._to_manager(_COOPERATE, token, _tuple(terms), *arguments)

    def close(
        self,
        token: Address,
        terms: Terms,
        *,
        version: Version,
        body_hash: Digest,
        signature: bytes,
        salt_other: bytes,
        salt_own_hash: bytes,
    ) -> Call:
        """Close alone, with the peer's signature on a state, or with no state (version 0, zero hash, no signature)."""
        arguments = (version, body_hash, compact(signature), salt_other, salt_own_hash)
        call = self._to_manager(_CLOSE, token, _tuple(terms), *arguments)
        return Call(to=call.to, data=call.data, value=terms.close_bond)

    def challenge(
        self,
        token: Address,
        terms: Terms,
        *,
        version: Version,
        body_hash: Digest,
        signature_a: bytes,
        signature_b: bytes,
        payout: Address = NO_ONE,
        delay: Seconds = Seconds(0),
        delegation: bytes = b"",
    ) -> Call:
        """Put a newer state against a close; `payout`, `delay` and `delegation` are a tower's."""
        state = (version, body_hash, compact(signature_a), compact(signature_b))
        return self._to_manager("challenge", (token, _tuple(terms), *state, payout, delay, compact(delegation)))

    def finalize(self, token: Address, terms: Terms, *, body_hash: Digest, bond_to: Address = NO_ONE) -> Call:
        return self._to_manager("finalize", token, _tuple(terms), body_hash, bond_to)

    def settle(
        self,
        token: Address,
        terms: Terms,
        *,
        net: int = 0,
        locked_ab: int = 0,
        locked_ba: int = 0,
        locks_hash: Digest = Digest(bytes(32)),
        blind: bytes = bytes(32),
        bond_to: Address = NO_ONE,
    ) -> Call:
        """Open the body and pay both out. Without a state everything but `bond_to` stays as it is here."""
        body = (net, locked_ab, locked_ba, locks_hash, blind)
        return self._to_manager("settle", token, _tuple(terms), body, bond_to)

    def resolve_locks(self, token: Address, terms: Terms, locks: bytes, secrets: Sequence[Preimage] = ()) -> Call:
        """Pay out locks of a settled channel: `locks` is the packed list whose hash the contract keeps."""
        return self._to_manager("resolve_locks", token, _tuple(terms), locks, list(secrets))

    def withdraw(self, token: Address, owner: Address, to: Address) -> Call:
        return self._to_manager("withdraw", token, owner, to)

    # -- calls of others -----------------------------------------------------------------------------------------

    def register(self, secrets: Sequence[Preimage]) -> Call:
        """Register up to 128 secrets, each 32 bytes."""
        return Call(to=self.registry, data=self._encode(self._registry, "register", list(secrets)))

    def approve(self, token: Address, amount: int) -> Call:
        """Let the manager take `amount` of the sender's."""
        return Call(to=token, data=self._encode(self._token, "approve", self.manager, amount))

    def transfer(self, token: Address, to: Address, amount: int) -> Call:
        """Send money outside any channel."""
        if token == NATIVE:
            return Call(to=to, data=b"", value=amount)
        return Call(to=token, data=self._encode(self._token, "transfer", to, amount))

    def mint(self, token: Address, to: Address, amount: int) -> Call:
        """Make money of the dev chain's token."""
        return Call(to=token, data=self._encode(self._token, "mint", to, amount))

    # -- questions, and their answers ----------------------------------------------------------------------------

    def ask_channel(self, channel_id: ChannelId) -> Call:
        return self._to_manager("channel", channel_id)

    def read_channel(self, answer: bytes) -> ChannelWord:
        deposit_a, deposit_b, version, deadline, flags, record = self._decode(
            ["uint256", "uint256", "uint256", "uint256", "uint256", "bytes32"], answer
        )
        return ChannelWord(
            deposit_a=Amount(deposit_a),
            deposit_b=Amount(deposit_b),
            version=Version(version),
            deadline=Timestamp(deadline),
            flags=flags,
            record=Digest(record),
        )

    def ask_owed(self, token: Address, owner: Address) -> Call:
        return self._to_manager("owed", token, owner)

    def ask_closings(self) -> Call:
        return self._to_manager("closings")

    def ask_registry(self) -> Call:
        return self._to_manager("REGISTRY")

    def ask_registered_at(self, registry_key: bytes) -> Call:
        """`registry_key` as `digests.registry_key` makes it."""
        return Call(to=self.registry, data=self._encode(self._registry, "registered_at", registry_key))

    def ask_balance(self, token: Address, owner: Address) -> Call:
        return Call(to=token, data=self._encode(self._token, "balanceOf", owner))

    def ask_allowance(self, token: Address, owner: Address) -> Call:
        return Call(to=token, data=self._encode(self._token, "allowance", owner, self.manager))

    def read_number(self, answer: bytes) -> int:
        number: int = self._decode(["uint256"], answer)[0]
        return number

    def _to_manager(self, name: str, *arguments: Any) -> Call:
        return Call(to=self.manager, data=self._encode(self._manager, name, *arguments))

    def _encode(self, contract: Any, name: str, *arguments: Any) -> bytes:
        return bytes.fromhex(contract.encode_abi(name, list(arguments))[2:])

    def _decode(self, types: list[str], answer: bytes) -> Sequence[Any]:
        if len(answer) != 32 * len(types):
            raise Malformed(f"an answer of {len(answer)} bytes, not {32 * len(types)}: no such contract there?")
        try:
            return tuple(self._codec.decode(types, answer))
        except self._faults as fault:
            raise Malformed(f"an answer that cannot be read: {fault!s:.120}") from None

    # -- logs ----------------------------------------------------------------------------------------------------

    def fact(self, log: Any, block: BlockRef) -> Fact | None:
        """What a log, as JSON-RPC gives it, says; None if it is not of our contracts or none of their events.

        Raises:
            Malformed: it claims to be one of ours and cannot be read, or is of another block.
        """
        try:
            address = bytes.fromhex(log["address"][2:])
            topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
            reader = self._readers.get((address, topics[0])) if topics else None
            if reader is None:
                return None
            if bytes.fromhex(log["blockHash"][2:]) != block.hash:
                raise Malformed("a log of another block")
            tx_hash = exactly(32, bytes.fromhex(log["transactionHash"][2:]), "transaction hash")
            index = int(log["logIndex"], 16)
            entry = {
                "address": log["address"],
                "topics": topics,
                "data": bytes.fromhex(log["data"][2:]),
                "blockHash": block.hash,
                "blockNumber": block.number,
                "transactionHash": tx_hash,
                "transactionIndex": 0,
                "logIndex": index,
            }
            event, make = reader
            return make(event.process_log(entry)["args"], {"block": block, "tx_hash": tx_hash, "log_index": index})
        except (*self._faults, KeyError, TypeError, ValueError, IndexError) as fault:
            raise Malformed(f"a log that cannot be read: {type(fault).__name__} {fault!s:.120}") from None


def _tuple(terms: Terms) -> tuple[Any, ...]:
    return (
        terms.participant_a,
        terms.participant_b,
        terms.payout_a,
        terms.payout_b,
        terms.challenge_period,
        terms.salt_commitment,
        terms.close_bond,
        terms.nonce,
    )


def _id(args: dict[str, Any]) -> ChannelId:
    return ChannelId(bytes(args["channel_id"]))


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text[2:]))


def _word(args: dict[str, Any]) -> ChannelWord:
    """The channel's new word, which each of its events carries; the record is not in it."""
    return ChannelWord.unpack(args["word"], Digest(bytes(32)))


def _deposited(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    word = _word(args)
    return SeenDeposit(**place, channel_id=_id(args), deposit_a=word.deposit_a, deposit_b=word.deposit_b)


def _memo(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenMemo(**place, channel_id=_id(args), memo=b"".join(args["memo"]))


def _cooperated(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    word = _word(args)
    return SeenCooperate(
        **place,
        channel_id=_id(args),
        version=word.version,
        paid_a=args["paid_a"],
        paid_b=args["paid_b"],
        deposit_a=word.deposit_a,
        deposit_b=word.deposit_b,
    )


def _closed(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    word = _word(args)
    return SeenClose(
        **place,
        channel_id=_id(args),
        closer=word.closer,
        version=word.version,
        body_hash=Digest(bytes(args["body_hash"])),
        deadline=word.deadline,
        salt=bytes(args["salt"]),
        index=args["closing_index"],
    )


def _challenged(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenChallenge(
        **place,
        channel_id=_id(args),
        version=_word(args).version,
        body_hash=Digest(bytes(args["body_hash"])),
        bond_to=_address(args["bond_to"]),
    )


def _finalized(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenFinal(
        **place,
        channel_id=_id(args),
        version=_word(args).version,
        bond_to=_address(args["bond_to"]),
        bond=args["bond"],
    )


def _settled(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenSettle(**place, version=_word(args).version, **_paid(args))


def _locks_resolved(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenLocks(**place, **_paid(args))


def _paid(args: dict[str, Any]) -> dict[str, Any]:
    """What left a dead channel, and what its locks still hold back."""
    word = _word(args)
    return {
        "channel_id": _id(args),
        "paid_a": args["paid_a"],
        "paid_b": args["paid_b"],
        "locked_ab": word.deposit_a,
        "locked_ba": word.deposit_b,
        "locks_hash": Digest(bytes(args["locks_hash"])),
    }


def _owed(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenOwed(**place, token=_address(args["token"]), owner=_address(args["owner"]), amount=args["amount"])


def _withdrawn(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    return SeenWithdrawn(
        **place,
        token=_address(args["token"]),
        owner=_address(args["owner"]),
        to=_address(args["to"]),
        amount=args["amount"],
    )


def _registered(args: dict[str, Any], place: dict[str, Any]) -> Fact:
    timestamp = place["block"].timestamp
    return SeenSecret(**place, key=bytes(args["key"]), secret=bytes(args["secret"]), timestamp=timestamp)


_FACTS: Final[dict[str, Callable[[dict[str, Any], dict[str, Any]], Fact]]] = {
    "Deposited": _deposited,
    "Memo": _memo,
    "Cooperated": _cooperated,
    "Closed": _closed,
    "Challenged": _challenged,
    "Finalized": _finalized,
    "Settled": _settled,
    "LocksResolved": _locks_resolved,
    "Owed": _owed,
    "Withdrawn": _withdrawn,
    "SecretRegistered": _registered,
}
