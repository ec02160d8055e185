"""Transactions out: said once, done once, whatever the process, the pool and the chain do in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from channeld.base.errors import Refused, Unreachable
from channeld.base.keys import Key, keccak
from channeld.base.units import NATIVE, Address, Seconds, Timestamp
from channeld.chain.bindings import Contracts
from channeld.chain.chain import Call
from channeld.chain.devchain import DEV_BALANCE, dev_keys
from channeld.chain.intents import Intent, IntentStore, MemoryIntents, Status
from channeld.chain.networks import Fees
from channeld.chain.rpc import RpcError
from channeld.chain.sender import Sender
from tests.chain.nodes import FEES, POLL, Node, signed

KEY, PAYEE = dev_keys()[5], dev_keys()[6]
PATIENT = replace(FEES, replace_after=Seconds(10_000))


def pay(amount: int, key: str = "pay", **more: Any) -> Intent:
    return Intent.of(KEY.address, key, Call(to=PAYEE.address, data=b"", value=amount), **more)


async def until(sender: Sender, key: str, holds: Callable[[Intent], bool]) -> Intent:
    """The first state of an intent for which `holds`."""
    with trio.fail_after(10):
        with sender.listen() as changes:
            known = await sender.find(key)
            if known is not None and holds(known):
                return known
            async for intent in changes:
                if intent.key == key and holds(intent):
                    return intent
    raise AssertionError("the sender has gone")


async def earned(node: Node) -> int:
    return int(await node.rpc.call("eth_getBalance", "0x" + PAYEE.address.hex(), "latest"), 16) - DEV_BALANCE


async def empty_block(node: Node, seconds: int) -> None:
    """A block that takes nothing from the pool, some time later (the dev chain's decrees have their own)."""
    await node.rpc.call("evm_increaseTime", seconds)
    await node.rpc.call("dev_setBalance", "0x" + "01" * 20, "0x1")


class Run:
    """A sender's process, which can be killed."""

    def __init__(self, node: Node, store: IntentStore, fees: Fees = FEES, key: Key = KEY) -> None:
        self.sender = node.sender(key, store, fees)
        self._scope = trio.CancelScope()

    async def start(self, nursery: trio.Nursery) -> Sender:
        started = trio.Event()

        async def run() -> None:
            with self._scope:
                async with trio.open_nursery() as inner:
                    await inner.start(self.sender.run)
                    started.set()

        nursery.start_soon(run)
        await started.wait()
        return self.sender

    def kill(self) -> None:
        self._scope.cancel()


async def test_it_is_done_once_and_followed_until_buried(node: Node, nursery: trio.Nursery) -> None:
    sender = await Run(node, MemoryIntents()).start(nursery)
    changes = sender.listen()
    await sender.submit(pay(7))
    await sender.submit(pay(7))
    mined = await sender.wait("pay")
    assert mined.receipt is not None
    assert (mined.succeeded, mined.receipt.gas_used, mined.nonce) == (True, 21_000, 0)
    assert (await sender.submit(pay(7))).status is Status.MINED
    await node.mine(2)
    with trio.fail_after(10):
        assert (await sender.wait("pay", buried=True)).status is Status.BURIED
    assert (await sender.submit(pay(7))).status is Status.BURIED
    assert await earned(node) == 7
    spent = DEV_BALANCE - int(await node.rpc.call("eth_getBalance", "0x" + KEY.address.hex(), "latest"), 16)
    assert spent == 7 + mined.receipt.fee
    states = [changes.receive_nowait().status for _ in range(4)]
    assert states == [Status.NEW, Status.SENT, Status.MINED, Status.BURIED]


async def test_many_at_once_take_following_nonces(devchain: Node, nursery: trio.Nursery) -> None:
    await devchain.rpc.call("evm_setAutomine", False)
    sender = await Run(devchain, MemoryIntents(), PATIENT).start(nursery)
    for number in range(20):
        await sender.submit(pay(1, f"pay:{number}"))
    for number in range(20):
        await until(sender, f"pay:{number}", lambda intent: intent.status is Status.SENT)
    await devchain.mine()
    nonces = [(await sender.wait(f"pay:{number}")).nonce for number in range(20)]
    assert nonces == list(range(20))
    assert await earned(devchain) == 20


async def test_a_restart_sends_the_same_bytes(devchain: Node, nursery: trio.Nursery) -> None:
    """The node forgets the transaction and we are killed; the next process sends it again, unchanged."""
    await devchain.rpc.call("evm_setAutomine", False)
    store = MemoryIntents()
    first = Run(devchain, store, PATIENT)
    sender = await first.start(nursery)
    await sender.submit(pay(5))
    sent = await until(sender, "pay", lambda intent: intent.status is Status.SENT)
    tx_hash = "0x" + sent.attempts[0].hash.hex()
    await trio.sleep(5 * POLL)
    first.kill()
    await trio.sleep(2 * POLL)
    assert await devchain.rpc.call("anvil_dropTransaction", tx_hash) == tx_hash
    again = await Run(devchain, store, PATIENT).start(nursery)
    with trio.fail_after(10):
        while await devchain.rpc.call("eth_getTransactionByHash", tx_hash) is None:
            await trio.sleep(POLL)
    await devchain.mine()
    done = await again.wait("pay")
    assert (done.succeeded, done.attempts) == (True, sent.attempts)
    assert await earned(devchain) == 5


class NoSending:
    """A node that dies on every attempt to send."""

    def __init__(self, node: Node) -> None:
        self._rpc = node.rpc
        self.batch = node.rpc.batch

    async def call(self, method: str, *params: Any) -> Any:
        if method == "eth_sendRawTransaction":
            raise Unreachable("gone")
        return await self._rpc.call(method, *params)


async def test_killed_between_saving_and_sending(devchain: Node, nursery: trio.Nursery) -> None:
    store = MemoryIntents()
    first = Run(devchain, store)
    first.sender._rpc = NoSending(devchain)  # type: ignore[assignment]
    sender = await first.start(nursery)
    await sender.submit(pay(5))
    saved = await until(sender, "pay", lambda intent: bool(intent.attempts))
    await trio.sleep(3 * POLL)
    assert sender.trouble == "gone"
    first.kill()
    again = await Run(devchain, store).start(nursery)
    done = await again.wait("pay")
    assert done.receipt is not None
    assert done.receipt.tx_hash == saved.attempts[0].hash == keccak(saved.attempts[0].raw)
    assert await earned(devchain) == 5


async def test_what_waits_too_long_offers_more_under_its_nonce(devchain: Node, nursery: trio.Nursery) -> None:
    await devchain.rpc.call("evm_setAutomine", False)
    sender = await Run(devchain, MemoryIntents()).start(nursery)
    await sender.submit(pay(5))
    await until(sender, "pay", lambda intent: intent.status is Status.SENT)
    for count in (2, 3):
        await empty_block(devchain, 5)
        await until(sender, "pay", lambda intent, count=count: len(intent.attempts) == count)  # type: ignore[misc]
    await trio.sleep(3 * POLL)
    await devchain.mine()
    done = await sender.wait("pay")
    first, second, third = done.attempts
    assert done.receipt is not None
    assert done.receipt.tx_hash == third.hash
    for less, more in ((first, second), (second, third)):
        assert more.max_fee * 8 >= less.max_fee * 9
        assert more.tip * 8 >= less.tip * 9
    assert await earned(devchain) == 5


async def test_fees_stop_at_the_cap(devchain: Node, nursery: trio.Nursery) -> None:
    await devchain.rpc.call("evm_setAutomine", False)
    fees = Fees(min_tip=10**9, max_fee=3 * 10**9, replace_after=Seconds(1))
    sender = await Run(devchain, MemoryIntents(), fees).start(nursery)
    await sender.submit(pay(5))
    await until(sender, "pay", lambda intent: intent.status is Status.SENT)
    for _ in range(5):
        await empty_block(devchain, 5)
        await trio.sleep(3 * POLL)
    intent = await sender.find("pay")
    assert intent is not None
    assert max(attempt.max_fee for attempt in intent.attempts) <= fees.max_fee
    await devchain.mine()
    assert (await sender.wait("pay")).succeeded


async def test_a_reorg_sends_the_same_bytes_again(node: Node, nursery: trio.Nursery) -> None:
    sender = await Run(node, MemoryIntents(), PATIENT).start(nursery)
    snapshot = await node.rpc.call("evm_snapshot")
    await sender.submit(pay(5))
    mined = await sender.wait("pay")
    assert mined.receipt is not None
    await node.rpc.call("evm_revert", snapshot)
    await node.mine()
    again = await until(sender, "pay", lambda intent: intent.status is Status.MINED and intent.receipt != mined.receipt)
    assert again.receipt is not None
    assert again.receipt.tx_hash == mined.receipt.tx_hash
    assert again.receipt.block.hash != mined.receipt.block.hash
    assert await earned(node) == 5


async def test_a_call_that_reverts_once_mined_says_why(node: Node, nursery: trio.Nursery) -> None:
    where = await node.deploy()
    contracts = Contracts(manager=where.manager, registry=where.registry)
    sender = await Run(node, MemoryIntents()).start(nursery)
    call = contracts.withdraw(NATIVE, KEY.address, KEY.address)
    await sender.submit(Intent.of(KEY.address, "w", call, gas=100_000))  # not estimated, so not simulated
    mined = await sender.wait("w")
    assert (mined.status, mined.succeeded, mined.reason) == (Status.MINED, False, "nothing")
    await node.mine(2)
    with trio.fail_after(10):
        failed = await sender.wait("w", buried=True)
    assert (failed.status, failed.reason) == (Status.FAILED, "nothing")
    anew = await sender.submit(Intent.of(KEY.address, "w", call))
    assert anew.status is Status.NEW
    assert (await until(sender, "w", lambda intent: intent.status.over)).attempts == ()


async def test_a_nonce_that_somebody_else_used_is_given_up(devchain: Node, nursery: trio.Nursery) -> None:
    await devchain.rpc.call("evm_setAutomine", False)
    sender = await Run(devchain, MemoryIntents(), PATIENT).start(nursery)
    await sender.submit(pay(5))
    await until(sender, "pay", lambda intent: intent.status is Status.SENT)
    await trio.sleep(3 * POLL)
    other = signed(KEY, 0, to=PAYEE.address, value=100, fee=90 * 10**9, tip=20 * 10**9)
    await devchain.rpc.call("eth_sendRawTransaction", "0x" + other.hex())
    await devchain.mine(3)
    await until(sender, "pay", lambda intent: intent.nonce == 1 and intent.status is Status.SENT)
    await trio.sleep(3 * POLL)
    await devchain.mine()
    assert (await sender.wait("pay")).succeeded
    assert await earned(devchain) == 105


async def test_a_gap_before_our_nonce_is_filled(devchain: Node, nursery: trio.Nursery) -> None:
    """A store from before a reorg: what we sent waits behind nonces that nobody uses any more."""
    store = MemoryIntents()
    far = replace(pay(5), nonce=2, gas=21_000)
    raw = signed(KEY, 2, to=PAYEE.address, value=5)
    from channeld.chain.intents import Attempt

    attempt = Attempt(raw=raw, hash=keccak(raw), max_fee=3 * 10**9, tip=10**9, at=Timestamp(2**31))
    await store.save_intent(replace(far, attempts=(attempt,), status=Status.SENT))
    sender = await Run(devchain, store, PATIENT).start(nursery)
    with trio.fail_after(10):
        assert (await sender.wait("pay")).succeeded
    assert await devchain.rpc.call("eth_getTransactionCount", "0x" + KEY.address.hex(), "latest") == "0x3"
    assert await earned(devchain) == 5


async def test_without_money_it_waits_and_says_so(devchain: Node, nursery: trio.Nursery) -> None:
    poor = Key(b"\x42" * 32)
    sender = await Run(devchain, MemoryIntents(), key=poor).start(nursery)
    intent = Intent.of(poor.address, "pay", Call(to=PAYEE.address, data=b"", value=5))
    await sender.submit(intent)
    waiting = await until(sender, "pay", lambda intent: bool(intent.reason))
    assert "insufficient funds" in waiting.reason
    assert waiting.status is Status.NEW
    await devchain.rpc.call("dev_setBalance", "0x" + poor.address.hex(), hex(10**18))
    with trio.fail_after(10):
        assert (await sender.wait("pay")).succeeded


async def test_times_before_and_after(devchain: Node, nursery: trio.Nursery) -> None:
    sender = await Run(devchain, MemoryIntents()).start(nursery)
    head = int((await devchain.rpc.call("eth_getBlockByNumber", "latest", False))["timestamp"], 16)
    await sender.submit(pay(1, "late", deadline=Timestamp(head - 1)))
    dropped = await sender.wait("late")
    assert (dropped.status, dropped.attempts) == (Status.DROPPED, ())
    await sender.submit(pay(2, "early", not_before=Timestamp(head + 500)))
    await trio.sleep(4 * POLL)
    held = await sender.find("early")
    assert held is not None
    assert held.status is Status.NEW
    await devchain.rpc.call("evm_increaseTime", 600)
    await devchain.mine()
    with trio.fail_after(10):
        assert (await sender.wait("early")).succeeded


async def test_a_node_that_comes_back(devchain: Node, nursery: trio.Nursery) -> None:
    class Away:
        async def call(self, method: str, *params: Any) -> Any:
            raise Unreachable("away")

        batch = call

    run = Run(devchain, MemoryIntents())
    rpc, run.sender._rpc = run.sender._rpc, Away()  # type: ignore[assignment]
    sender = await run.start(nursery)
    await sender.submit(pay(5))
    await trio.sleep(3 * POLL)
    assert sender.trouble == "away"
    sender._rpc = rpc
    with trio.fail_after(10):
        assert (await sender.wait("pay")).succeeded
    await trio.sleep(2 * POLL)
    assert sender.trouble == ""


async def test_what_is_no_intent_of_ours_is_refused(devchain: Node) -> None:
    sender = devchain.sender(KEY)
    for bad in (pay(1, ""), pay(1, "x" * 129), replace(pay(1), sender=Address(bytes(20)))):
        with pytest.raises(Refused) as refused:
            await sender.submit(bad)
        assert refused.value.code == "bad_intent"
    with pytest.raises(KeyError):
        await sender.wait("never")


async def test_a_dear_block_makes_it_offer_more(devchain: Node, nursery: trio.Nursery) -> None:
    """The base fee climbs above our offer: the next one covers it."""
    burner = dev_keys()[7]
    sender = await Run(devchain, MemoryIntents(), PATIENT).start(nursery)
    await devchain.rpc.call("evm_setAutomine", False)
    await sender.submit(pay(5))
    sent = await until(sender, "pay", lambda intent: intent.status is Status.SENT)
    await trio.sleep(3 * POLL)
    await devchain.rpc.call("anvil_dropTransaction", "0x" + sent.attempts[0].hash.hex())
    sender._rpc, rpc = NoSending(devchain), sender._rpc  # type: ignore[assignment]
    for nonce in range(16):
        spin = signed(burner, nonce, data=b"\xfe", gas=29_000_000, fee=90 * 10**9)
        try:
            await devchain.rpc.call("eth_sendRawTransaction", "0x" + spin.hex())
        except RpcError:
            break
        await devchain.mine()
    block = await devchain.rpc.call("eth_getBlockByNumber", "latest", False)
    assert int(block["baseFeePerGas"], 16) > sent.attempts[0].max_fee
    sender._rpc = rpc
    await devchain.rpc.call("evm_increaseTime", 3)
    await devchain.rpc.call("dev_setBalance", "0x" + "01" * 20, "0x1")
    raised = await until(sender, "pay", lambda intent: len(intent.attempts) > 1)
    assert raised.attempts[-1].max_fee > int(block["baseFeePerGas"], 16)
    await trio.sleep(3 * POLL)
    await devchain.mine()
    with trio.fail_after(10):
        assert (await sender.wait("pay")).succeeded
