"""Transactions out: one queue per key, each intent followed until it is buried.

`submit` saves an intent and returns; `run` does the rest, a round for every change of the head: look for receipts of
everything sent, send again what the node has lost (the same bytes), raise what has waited too long, and send what is
new. Before the first attempt the call is simulated: what would revert is marked failed with its reason and never
sent, for the caller to decide about. Order of safety: the intent is saved, then its signed bytes, then they are sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import trio

from channeld.base.errors import Broken, Refused, Unreachable
from channeld.base.keys import Key, keccak
from channeld.base.units import Address, Timestamp
from channeld.chain.bindings import revert_reason
from channeld.chain.chain import Head
from channeld.chain.fees import Offer, first_offer, is_due, raised
from channeld.chain.intents import Attempt, Intent, IntentStore, Receipt, Status
from channeld.chain.networks import Fees, Finality
from channeld.chain.reads import block_ref, hexed, quantity, read_head
from channeld.chain.rpc import Rpc, RpcError

KEY_LENGTH: Final = 128
GAS_MARGIN: Final = 4
"""The gas limit is the estimate and a fourth part more, since the state may have changed when it is mined."""
GAS_EXTRA: Final = 10_000
LOST_ROUNDS: Final = 3
"""Looks that must agree before a nonce counts as used by somebody else."""
UNDERPRICED: Final = ("underpriced", "less than block base fee", "fee too low", "below base fee")
KNOWN: Final = ("already known", "already imported", "known transaction", "nonce too low")


class Sender:
    """The one user of `key`'s nonces on one chain. Start `run`; then `submit` and `wait`."""

    def __init__(
        self,
        rpc: Rpc,
        key: Key,
        store: IntentStore,
        *,
        chain_id: int,
        fees: Fees,
        finality: Finality,
        poll: float,
    ) -> None:
        """`poll` in seconds: how often to look at the head; a submit is acted on at once."""
        self.address: Address = key.address
        self._rpc = rpc
        self._key = key
        self._store = store
        self._chain_id = chain_id
        self._fees = fees
        self._finality = finality
        self._poll = poll
        self._open: dict[str, Intent] = {}
        self._lost: dict[str, int] = {}
        self._seen: Head | None = None
        """At which the last round was finished."""
        self._bell = trio.Event()
        self._changed = trio.Event()
        self._listeners: list[trio.MemorySendChannel[Intent]] = []
        self._saving = trio.Lock()
        self.trouble: str = ""
        """Why the last round could not be finished; empty if it was."""

    # -- for callers ---------------------------------------------------------------------------------------------

    async def submit(self, intent: Intent) -> Intent:
        """Save `intent` and have it done; returns what is known under its key once it is saved.

        A key that is under way or done stays as it is. One that failed or was dropped begins anew.

        Raises:
            Refused: `bad_intent` for a key that is too long or another sender's intent.
        """
        if intent.sender != self.address or not 0 < len(intent.key) <= KEY_LENGTH:
            raise Refused("bad_intent", f"intent {intent.key!r:.60} is not one for {hexed(self.address)}")
        async with self._saving:
            known = self._open.get(intent.key) or await self._store.intent(self.address, intent.key)
            if known is not None and known.status not in (Status.FAILED, Status.DROPPED):
                return known
            await self._save(intent)
        self._bell.set()
        return intent

    async def find(self, key: str) -> Intent | None:
        """What is known under `key`."""
        return self._open.get(key) or await self._store.intent(self.address, key)

    async def wait(self, key: str, *, buried: bool = False) -> Intent:
        """The intent once it is mined (or buried, if asked), failed or dropped; look at its `status`.

        Raises:
            KeyError: nothing was ever submitted under `key`.
        """
        while True:
            changed = self._changed
            intent = await self.find(key)
            if intent is None:
                raise KeyError(key)
            if intent.status.over or (intent.status is Status.MINED and not buried):
                return intent
            await changed.wait()

    def listen(self) -> trio.MemoryReceiveChannel[Intent]:
        """Every change of every intent from now on, in order. Close it when no longer read."""
        sending, receiving = trio.open_memory_channel[Intent](math.inf)
        self._listeners.append(sending)
        return receiving

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what was submitted, until cancelled. What an earlier process left open comes first."""
        async with self._saving:
            for intent in await self._store.open_intents(self.address):
                self._open.setdefault(intent.key, intent)
        task_status.started()
        while True:
            self._bell = trio.Event()
            try:
                if self._open:
                    await self._round()
                self.trouble = ""
            except Unreachable as fault:
                self.trouble = str(fault)
            with trio.move_on_after(self._poll):
                await self._bell.wait()

    # -- one round -----------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        head = await read_head(self._rpc, self._finality)
        if head == self._seen and all(intent.status is Status.MINED for intent in self._open.values()):
            return  # only further blocks bury what is mined
        prices = await self._rpc.batch(
            [
                ("eth_getBlockByHash", [hexed(head.latest.hash), False]),
                ("eth_maxPriorityFeePerGas", []),
                ("eth_getTransactionCount", [hexed(self.address), "latest"]),
                ("eth_getTransactionCount", [hexed(self.address), hex(head.finalized.number)]),
            ]
        )
        base_fee, tip, nonce, final_nonce = _prices(prices)
        await self._follow(head, final_nonce)
        for intent in list(self._open.values()):
            if intent.status is Status.SENT:
                await self._push(intent, head.latest.timestamp, base_fee, tip, nonce)
        await self._fill_gap(head, base_fee, tip, nonce)
        for intent in list(self._open.values()):
            if intent.status is Status.NEW:
                await self._begin(intent, head.latest.timestamp, base_fee, tip, nonce)
        self._seen = head

    async def _follow(self, head: Head, final_nonce: int) -> None:
        """Bring every sent intent up to date with the chain."""
        sent = [intent for intent in self._open.values() if intent.attempts]
        hashes = [attempt.hash for intent in sent for attempt in intent.attempts]
        if not hashes:
            return
        answers = await self._rpc.batch([("eth_getTransactionReceipt", [hexed(tx_hash)]) for tx_hash in hashes])
        shapes = dict(zip(hashes, answers, strict=True))
        for intent in sent:
            found = [shapes[attempt.hash] for attempt in intent.attempts if isinstance(shapes[attempt.hash], dict)]
            if found:
                await self._mined(intent, found[0], head)
            elif intent.status is Status.MINED:  # a reorg took it away
                await self._save(replace(intent, status=Status.SENT, receipt=None, reason="reorganised away"))
            elif intent.nonce is not None and intent.nonce < final_nonce:
                await self._lose(intent)

    async def _lose(self, intent: Intent) -> None:
        """Its nonce went to a transaction that is not ours, for good: after a few such rounds, take another."""
        self._lost[intent.key] = self._lost.get(intent.key, 0) + 1
        if self._lost[intent.key] >= LOST_ROUNDS:
            del self._lost[intent.key]
            reason = "its nonce was used elsewhere"
            await self._save(replace(intent, status=Status.NEW, nonce=None, attempts=(), reason=reason))

    async def _fill_gap(self, head: Head, base_fee: int, tip: int, nonce: int) -> None:
        """Spend a nonce that nothing of ours or in the node's pool has, if one of ours waits behind it."""
        ours = [intent.nonce for intent in self._open.values() if intent.nonce is not None]
        if nonce in ours or max(ours, default=-1) < nonce:
            return
        pending = int(await self._asked("eth_getTransactionCount", hexed(self.address), "pending"), 16)
        if pending > nonce:
            return
        key = f"gap:{nonce}:{head.latest.number}"
        filler = Intent(sender=self.address, key=key, to=self.address, data=b"", gas=21_000, nonce=nonce)
        await self._attempt(filler, first_offer(base_fee, tip, self._fees), head.latest.timestamp)

    async def _mined(self, intent: Intent, shape: Mapping[str, Any], head: Head) -> None:
        receipt = await self._receipt(shape, intent.receipt)
        if receipt is None:
            return
        status, reason = Status.MINED, "" if receipt.ok else intent.reason
        if not receipt.ok and intent.receipt != receipt:
            reason = await self._why(intent, receipt.block.number)
        if receipt.block.number <= head.finalized.number:
            status = Status.BURIED if receipt.ok else Status.FAILED
        changed = replace(intent, status=status, receipt=receipt, reason=reason)
        if changed != intent:
            await self._save(changed)

    async def _receipt(self, shape: Mapping[str, Any], known: Receipt | None) -> Receipt | None:
        """The receipt as a value; None if its block is not the canonical one any more."""
        try:
            tx_hash, block_hash = (bytes.fromhex(shape[name][2:]) for name in ("transactionHash", "blockHash"))
            if known is not None and known.tx_hash == tx_hash and known.block.hash == block_hash:
                return known
            created = shape.get("contractAddress")
            number = int(shape["blockNumber"], 16)
            block = block_ref(await self._asked("eth_getBlockByNumber", hex(number), False))
            if block.hash != block_hash:
                return None
            return Receipt(
                tx_hash=tx_hash,
                block=block,
                ok=int(shape["status"], 16) == 1,
                gas_used=int(shape["gasUsed"], 16),
                price=int(shape["effectiveGasPrice"], 16),
                created=Address(bytes.fromhex(created[2:])) if created else None,
            )
        except (KeyError, TypeError, ValueError) as fault:
            raise Unreachable(f"a receipt that cannot be read: {fault!s:.100}") from None

    async def _why(self, intent: Intent, number: int) -> str:
        """Why a mined transaction reverted: run it again on the block before."""
        try:
            await self._rpc.call("eth_call", self._fields(intent), hex(max(0, number - 1)))
        except RpcError as fault:
            return _reason(fault)
        return "reverted, though it succeeds on the block before"

    # -- signing and sending -------------------------------------------------------------------------------------

    async def _begin(self, intent: Intent, now: Timestamp, base_fee: int, tip: int, nonce: int) -> None:
        if intent.not_before is not None and now <= intent.not_before:
            return
        if intent.deadline is not None and now > intent.deadline:
            await self._save(replace(intent, status=Status.DROPPED, reason="its deadline passed before it was sent"))
            return
        gas = intent.gas
        if gas is None:
            try:
                estimate = quantity(await self._rpc.call("eth_estimateGas", self._fields(intent)))
            except RpcError as fault:
                if fault.reverted:
                    await self._save(replace(intent, status=Status.FAILED, reason=_reason(fault)))
                else:
                    await self._note(intent, fault.message)
                return
            gas = estimate if not intent.data else estimate + estimate // GAS_MARGIN + GAS_EXTRA
        taken = [one.nonce + 1 for one in self._open.values() if one.nonce is not None]
        ready = replace(intent, gas=gas, nonce=max([nonce, *taken]), reason="")
        await self._attempt(ready, first_offer(base_fee, tip, self._fees), now)

    async def _push(self, intent: Intent, now: Timestamp, base_fee: int, tip: int, nonce: int) -> None:
        """Raise or repeat what has been sent and is not mined."""
        if intent.nonce is None or intent.nonce < nonce:
            return  # something with its nonce is mined: `_follow` will find out what
        if is_due(intent.attempts, base_fee, now, intent.deadline, self._fees):
            offer = raised(intent.attempts[-1], base_fee, tip, self._fees)
            if offer is not None:
                await self._attempt(intent, offer, now)
                return
        last = intent.attempts[-1]
        try:
            known = await self._rpc.call("eth_getTransactionByHash", hexed(last.hash))
        except RpcError:
            known = None
        if known is None:
            await self._send(intent, last)

    async def _attempt(self, intent: Intent, offer: Offer, now: Timestamp) -> None:
        raw = await self._sign(intent, offer)
        attempt = Attempt(raw=raw, hash=keccak(raw), max_fee=offer.max_fee, tip=offer.tip, at=now)
        attempts = (*intent.attempts, attempt)
        saved = await self._save(replace(intent, attempts=attempts, status=Status.SENT))
        await self._send(saved, attempt)

    async def _send(self, intent: Intent, attempt: Attempt) -> None:
        try:
            answer = await self._rpc.call("eth_sendRawTransaction", hexed(attempt.raw))
        except RpcError as fault:
            text = fault.message.lower()
            if any(words in text for words in KNOWN):
                return
            await self._note(intent, fault.message)
            if any(words in text for words in UNDERPRICED):  # due for a raise at the next round
                cheap = replace(attempt, at=Timestamp(0))
                await self._save(replace(self._open[intent.key], attempts=(*intent.attempts[:-1], cheap)))
            return
        if answer != hexed(attempt.hash):
            raise Broken(f"the node names our transaction {answer}, we {hexed(attempt.hash)}")
        self._bell.set()

    async def _sign(self, intent: Intent, offer: Offer) -> bytes:
        from eth_account import Account

        if intent.nonce is None or intent.gas is None:
            raise Broken(f"intent {intent.key} is signed without nonce or gas")
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": intent.nonce,
            "gas": intent.gas,
            "maxFeePerGas": offer.max_fee,
            "maxPriorityFeePerGas": offer.tip,
            "value": intent.value,
            "data": intent.data,
        }
        if intent.to is not None:
            fields["to"] = bytes(intent.to)
        return bytes(Account.sign_transaction(fields, self._key.secret).raw_transaction)

    # -- small things --------------------------------------------------------------------------------------------

    def _fields(self, intent: Intent) -> dict[str, str]:
        fields = {"from": hexed(self.address), "value": hex(intent.value), "data": hexed(intent.data)}
        if intent.to is not None:
            fields["to"] = hexed(intent.to)
        return fields

    async def _asked(self, method: str, *params: Any) -> Any:
        try:
            return await self._rpc.call(method, *params)
        except RpcError as fault:
            raise Unreachable(f"{method}: {fault}") from None

    async def _note(self, intent: Intent, reason: str) -> None:
        if intent.reason != reason:
            await self._save(replace(intent, reason=reason))

    async def _save(self, intent: Intent) -> Intent:
        with trio.CancelScope(shield=True):
            await self._store.save_intent(intent)
        if intent.status.over:
            self._open.pop(intent.key, None)
        else:
            self._open[intent.key] = intent
        self._changed.set()
        self._changed = trio.Event()
        for listener in list(self._listeners):
            try:
                listener.send_nowait(intent)
            except trio.BrokenResourceError:
                self._listeners.remove(listener)
        return intent


def _prices(answers: Sequence[Any]) -> tuple[int, int, int, int]:
    """Base fee of the newest block, suggested tip, next nonce, next nonce as of the finalized block."""
    block, tip, nonce, final_nonce = answers
    if isinstance(tip, RpcError):  # not every node has the method; `min_tip` then decides
        tip = "0x0"
    if isinstance(final_nonce, RpcError):  # state too old for the node: it says nothing about used nonces
        final_nonce = "0x0"
    try:
        return int(block["baseFeePerGas"], 16), int(tip, 16), int(nonce, 16), int(final_nonce, 16)
    except (KeyError, TypeError, ValueError) as fault:
        raise Unreachable(f"the node gives no prices: {fault!s:.100}") from None


def _reason(fault: RpcError) -> str:
    if fault.data:
        return revert_reason(fault.data)
    return fault.message.removeprefix("execution reverted: ")
