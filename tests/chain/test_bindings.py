"""Calls and logs of the real contracts on a real chain: what we encode works, what they say is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from channeld.base.digests import (
    NO_LOCKS,
    Domain,
    Terms,
    body_hash,
    channel_id,
    cooperate_digest,
    registry_key,
    salt_commitment,
    state_digest,
)
from channeld.base.errors import Malformed, Refused, Unreachable
from channeld.base.keys import keccak, sha256
from channeld.base.units import (
    NATIVE,
    Address,
    Amount,
    ChannelId,
    Digest,
    LockKey,
    LockKind,
    Preimage,
    Seconds,
    Side,
    Timestamp,
    Version,
)
from channeld.chain import many
from channeld.chain.bindings import NO_ONE, Contracts, revert_reason
from channeld.chain.chain import (
    BlockRef,
    Call,
    Fact,
    SeenChallenge,
    SeenClose,
    SeenCooperate,
    SeenDeposit,
    SeenFinal,
    SeenMemo,
    SeenSecret,
    SeenSettle,
)
from channeld.chain.deploy import Deployment
from channeld.chain.devchain import DEV_CHAIN_ID, dev_keys
from channeld.chain.intents import Intent, Status
from channeld.chain.reads import RpcChain
from tests.chain.nodes import Node

OPENER, ACCEPTOR = dev_keys()[2], dev_keys()[3]
SALT_A, SALT_B = b"\xa1" * 32, b"\xb2" * 32
BOND = 10**15
TERMS = Terms(
    participant_a=OPENER.address,
    participant_b=ACCEPTOR.address,
    payout_a=OPENER.address,
    payout_b=ACCEPTOR.address,
    challenge_period=Seconds(10),
    salt_commitment=salt_commitment(keccak(SALT_A), keccak(SALT_B)),
    close_bond=BOND,
    nonce=1,
)


class Acts:
    """Both sides' transactions, and the facts in the block of each."""

    def __init__(self, node: Node, chain: RpcChain, nursery: trio.Nursery) -> None:
        self.node = node
        self.chain = chain
        self._nursery = nursery
        self._senders = {key: node.sender(key) for key in (OPENER, ACCEPTOR)}
        self._count = 0

    async def start(self) -> None:
        for sender in self._senders.values():
            await self._nursery.start(sender.run)

    async def do(self, key: object, call: Call) -> Intent:
        self._count += 1
        sender = self._senders[key]  # type: ignore[index]
        await sender.submit(Intent.of(sender.address, f"act:{self._count}", call))
        with trio.fail_after(10):
            return await sender.wait(f"act:{self._count}")

    async def see(self, key: object, call: Call) -> list[Fact]:
        """Do it, and read what the contracts said."""
        intent = await self.do(key, call)
        assert intent.succeeded, intent.reason
        assert intent.receipt is not None
        block = intent.receipt.block
        logs = await self.node.rpc.call("eth_getLogs", {"blockHash": "0x" + block.hash.hex()})
        facts = [self.chain.contracts.fact(log, block) for log in logs]
        return [fact for fact in facts if fact is not None]


@pytest.fixture
async def where(node: Node) -> Deployment:
    return await node.deploy(token=True)


@pytest.fixture
async def acts(node: Node, where: Deployment, nursery: trio.Nursery) -> Acts:
    made = Acts(node, node.chain(where), nursery)
    await made.start()
    return made


async def test_a_channel_from_deposit_to_settlement(node: Node, where: Deployment, acts: Acts) -> None:
    chain, contracts = acts.chain, acts.chain.contracts
    domain = Domain(chain_id=DEV_CHAIN_ID, manager=where.manager)
    channel = channel_id(domain, NATIVE, TERMS.hash)
    await chain.check()

    text = bytes(range(1, 193))
    [memo, deposit] = await acts.see(OPENER, contracts.deposit(NATIVE, TERMS.hash, Side.A, Amount(1_000), text))
    assert isinstance(memo, SeenMemo) and isinstance(deposit, SeenDeposit)
    assert (memo.channel_id, memo.memo) == (channel, text)
    assert (deposit.channel_id, deposit.deposit_a, deposit.deposit_b) == (channel, 1_000, 0)

    old_block = deposit.block
    cooperation = {"version": Version(2), "net": 100, "out_a": 50, "out_b": 0, "valid_until": Timestamp(2**32 - 1)}
    digest = cooperate_digest(domain, channel, Version(2), 100, 50, 0, Timestamp(2**32 - 1))
    signatures = {"signature_a": b"", "signature_b": ACCEPTOR.sign(digest)}
    [cooperate] = await acts.see(OPENER, contracts.cooperate(NATIVE, TERMS, **cooperation, **signatures))  # type: ignore[arg-type]
    assert isinstance(cooperate, SeenCooperate)
    assert (cooperate.version, cooperate.paid_a, cooperate.deposit_a, cooperate.deposit_b) == (2, 50, 850, 100)

    blind = b"\x0b" * 32
    old, new = (body_hash(net, 0, 0, NO_LOCKS, blind) for net in (10, 300))
    stale = {"version": Version(3), "body_hash": old, "salt_other": SALT_A, "salt_own_hash": keccak(SALT_B)}
    signature = OPENER.sign(state_digest(domain, channel, Version(3), old))
    [close] = await acts.see(ACCEPTOR, contracts.close(NATIVE, TERMS, **stale, signature=signature))  # type: ignore[arg-type]
    assert isinstance(close, SeenClose)
    assert (close.closer, close.version, close.body_hash, close.salt) == (Side.B, 3, old, SALT_A)
    assert close.deadline == close.block.timestamp + 10
    assert await chain.closings() == 1
    assert await chain.closings(old_block) == 0

    word = await chain.channel(channel)
    assert (word.closing, word.closer, word.version, word.deadline, word.beaten) == (
        True,
        Side.B,
        3,
        close.deadline,
        False,
    )
    assert (await chain.channel(channel, old_block)).deposit_a == 1_000

    digest = state_digest(domain, channel, Version(5), new)
    signature_a, signature_b = OPENER.sign(digest), ACCEPTOR.sign(digest)
    newer = contracts.challenge(
        NATIVE, TERMS, version=Version(5), body_hash=new, signature_a=signature_a, signature_b=signature_b
    )
    [challenge] = await acts.see(OPENER, newer)
    assert isinstance(challenge, SeenChallenge)
    assert (challenge.version, challenge.body_hash, challenge.bond_to) == (5, new, NO_ONE)

    await node.rpc.call("evm_increaseTime", 20)
    await node.mine()
    [final] = await acts.see(OPENER, contracts.finalize(NATIVE, TERMS, body_hash=new))
    assert isinstance(final, SeenFinal)
    assert (final.bond_to, final.bond) == (OPENER.address, BOND)
    opened = {"net": 300, "locks_hash": NO_LOCKS, "blind": blind}
    [settle] = await acts.see(OPENER, contracts.settle(NATIVE, TERMS, **opened))  # type: ignore[arg-type]
    assert isinstance(settle, SeenSettle)
    assert (settle.paid_a, settle.paid_b, settle.locked_ab) == (550, 400, 0)
    word = await chain.channel(channel)
    assert (word.dead, word.final, word.beaten) == (True, True, True)
    assert (word.deposit_a, word.deposit_b) == (0, 0)


async def test_tokens_secrets_and_refusals(where: Deployment, acts: Acts) -> None:
    chain, contracts, token = acts.chain, acts.chain.contracts, where.token
    assert token is not None
    await acts.see(OPENER, contracts.mint(token, OPENER.address, 500))
    await acts.see(OPENER, contracts.approve(token, 400))
    assert await chain.allowance(token, OPENER.address) == 400
    facts = await acts.see(OPENER, contracts.deposit(token, TERMS.hash, Side.B, Amount(300)))
    assert [type(fact) for fact in facts] == [SeenDeposit]
    assert await chain.balance(OPENER.address, token) == 200
    assert await chain.balance(where.manager, token) == 300
    await acts.see(OPENER, contracts.transfer(token, ACCEPTOR.address, 50))
    assert await chain.balance(ACCEPTOR.address, token) == 50

    secret = Preimage(b"\x05" * 32)
    [seen] = await acts.see(OPENER, contracts.register([secret]))
    assert isinstance(seen, SeenSecret)
    assert (seen.secret, seen.key) == (secret, registry_key(LockKind.HASH, sha256(secret)))
    assert await chain.registered_at(LockKey(sha256(secret))) == seen.timestamp == seen.block.timestamp
    assert await chain.registered_at(LockKey(bytes(32))) == 0
    some = [LockKey(sha256(bytes([number]) * 32)) for number in range(105)]
    assert await chain.registered_of(some) == {LockKey(sha256(secret)): seen.timestamp}
    assert await chain.owed(NATIVE, OPENER.address) == 0

    failed = await acts.do(OPENER, contracts.withdraw(NATIVE, OPENER.address, OPENER.address))
    assert (failed.status, failed.reason, failed.attempts) == (Status.FAILED, "nothing", ())


async def test_many_channels_are_told_by_one_call_as_one_by_one(node: Node, where: Deployment, acts: Acts) -> None:
    """Whatever a word holds, an answer that looks like the beginning of code (0xef) included."""
    chain = acts.chain
    paid = channel_id(Domain(chain_id=DEV_CHAIN_ID, manager=where.manager), NATIVE, TERMS.hash)
    await acts.see(OPENER, chain.contracts.deposit(NATIVE, TERMS.hash, Side.A, Amount(1_000)))
    manager, ids = "0x" + where.manager.hex(), [ChannelId(keccak(bytes([number]))) for number in range(5)]
    stored = await node.rpc.call("eth_getStorageAt", manager, "0x" + keccak(bytes(32) + paid).hex(), "latest")
    assert int(stored, 16) == 1_000 << 168  # `words` is the contract's first variable
    for number, id_ in enumerate(ids[:3]):
        slot = keccak(bytes(32) + id_)
        word = (b"\xef" + keccak(slot)[1:], b"\xff" * 32, bytes(31) + b"\x01")[number]
        await node.rpc.call("anvil_setStorageAt", manager, "0x" + slot.hex(), "0x" + word.hex())
    every = [*ids[:2], paid, *ids[2:]]
    words = await chain.channels(every)
    assert words == [await chain.channel(id_) for id_ in every]
    assert (words[0].deposit_a >> 80, words[2].deposit_a, words[3].flags, words[4].flags) == (0xEF, 1_000, 1, 0)
    assert await chain.channels([]) == []


async def test_as_many_channels_as_one_question_holds_and_one_more(
    node: Node, where: Deployment, acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = acts.chain
    paid = channel_id(Domain(chain_id=DEV_CHAIN_ID, manager=where.manager), NATIVE, TERMS.hash)
    await acts.see(OPENER, chain.contracts.deposit(NATIVE, TERMS.hash, Side.A, Amount(1_000)))
    asked, call = [], chain.rpc.call

    async def counted(method: str, *params: object) -> object:
        asked.append(method)
        return await call(method, *params)

    monkeypatch.setattr(chain.rpc, "call", counted)
    ids = [ChannelId(keccak(number.to_bytes(4, "big"))) for number in range(many.MOST)]
    words = await chain.channels([*ids, paid])
    assert [word.deposit_a for word in words] == [0] * many.MOST + [1_000]
    assert asked == ["eth_call"] * 2
    with pytest.raises(ValueError, match="at most"):
        many.ask(where.manager, [*ids, paid])


async def test_no_manager_is_no_answer(node: Node, where: Deployment) -> None:
    chain = node.chain(replace(where, manager=Address(b"\x77" * 20)))
    with pytest.raises(Unreachable):
        await chain.channels([ChannelId(bytes(32))])


@pytest.mark.parametrize("answer", [b"", bytes(32), bytes(34), b"\1" + bytes(32)])
def test_another_answer_than_that_to_one_channel_is_malformed(answer: bytes) -> None:
    assert many.read(bytes(33), 1)[0].deposit_a == 0
    with pytest.raises(Malformed):
        many.read(answer, 1)


async def test_other_code_and_other_chains_are_refused(node: Node, where: Deployment) -> None:
    chain = node.chain(where)
    chain.chain_id = 1
    with pytest.raises(Refused) as refused:
        await chain.check()
    assert refused.value.code == "wrong_chain"
    swapped = node.chain(replace(where, manager=where.registry, registry=where.manager))
    with pytest.raises(Refused) as refused:
        await swapped.check()
    assert refused.value.code == "unknown_contract"
    second = await node.deploy(key=dev_keys()[8], plain=True)
    with pytest.raises(Refused, match="uses the registry"):
        await node.chain(replace(where, registry=second.registry)).check()
    nowhere = node.chain(replace(where, manager=NO_ONE))
    with pytest.raises(Unreachable):
        await nowhere.channel(channel_id(Domain(chain_id=1, manager=NO_ONE), NATIVE, TERMS.hash))
    gone = BlockRef(number=1, hash=b"\x01" * 32, timestamp=Timestamp(1))
    with pytest.raises(Unreachable):
        await chain.closings(gone)


def test_a_log_that_lies_is_malformed() -> None:
    contracts = Contracts(manager=OPENER.address, registry=ACCEPTOR.address)
    block = BlockRef(number=1, hash=b"\x01" * 32, timestamp=Timestamp(5))
    topic = "0x" + keccak(b"SecretRegistered(bytes32,bytes32)").hex()
    good = {
        "address": "0x" + ACCEPTOR.address.hex(),
        "topics": [topic, "0x" + "22" * 32],
        "data": "0x" + "33" * 32,
        "blockHash": "0x" + "01" * 32,
        "transactionHash": "0x" + "44" * 32,
        "logIndex": "0x0",
    }
    fact = contracts.fact(good, block)
    assert isinstance(fact, SeenSecret)
    assert (fact.key, fact.secret) == (b"\x22" * 32, b"\x33" * 32)
    assert contracts.fact({**good, "address": "0x" + "99" * 20}, block) is None
    assert contracts.fact({**good, "topics": ["0x" + "99" * 32]}, block) is None
    lies: list[object] = [
        {**good, "blockHash": "0x" + "02" * 32},
        {**good, "data": "0x"},
        {**good, "data": "0xzz"},
        {**good, "topics": [topic]},
        {**good, "transactionHash": "0x"},
        {**good, "logIndex": None},
        {},
        None,
    ]
    for lie in lies:
        with pytest.raises(Malformed):
            contracts.fact(lie, block)


def test_revert_reasons() -> None:
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + (3).to_bytes(32, "big") + b"old".ljust(32, b"\0")
    assert revert_reason(text) == "old"
    assert revert_reason(bytes.fromhex("4e487b71") + (17).to_bytes(32, "big")) == "panic 0x11"
    assert revert_reason(b"") == "reverted without a reason"
    assert revert_reason(b"\x01\x02") == "0102"


def test_a_word_of_nobody_is_open_and_empty() -> None:
    contracts = Contracts(manager=OPENER.address, registry=ACCEPTOR.address)
    word = contracts.read_channel(bytes(192))
    assert (word.deposit_a, word.closing, word.dead, word.record) == (0, False, False, Digest(bytes(32)))
