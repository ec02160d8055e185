"""The simulated chain with the real bytecode on it: every call runs on the model and in py-evm, and both agree.

`TwinChain` is a `ModelChain` whose states carry the root of an EVM's state beside the model. Each transaction, question
and estimate is applied to both, at the same time and by the same sender. They must agree on whether it reverts and why,
on what it returns, on the contracts' events byte for byte, and after each block on every channel, debt, token and coin
there is; `Differs` says where not. A node is told what the bytecode said. The laws' audit, which asks the model, is so
an audit of the bytecode, and a model that leans on something the contracts do not do cannot go unnoticed.

Old states are exact, since a root names each: questions at an older block and reorgs need nothing more. Gas is not
metered: a transaction costs what the model says and may use `PLENTY`. The token's own reasons are not compared, only
that it reverts. While the model's token refuses a receiver, that receiver's balance stands at its greatest during a
call, so that whatever it were given would overflow: the token reverts, as a token does that bars somebody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth.abc import AtomicDatabaseAPI
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague.state import PragueState
from eth_typing import Address as Place
from eth_typing import Hash32

from channeld.base.keys import keccak
from channeld.base.units import Address, Seconds
from contracts.deploy import manager_code, registry_code, token_code
from tests.contracts.evm import GAS_PRICE, Evm, Result
from tests.contracts.model import COIN, Refusal
from tests.contracts.world import call_data
from tests.crash.chain import ERROR_STRING, Block, Mined, ModelChain, Tx
from tests.crash.contract import Call, Log, State, named, record_of, word_of

PLENTY: Final = 10_000_000
"""Gas that a call may use."""
MAKER: Final = Address(keccak(b"maker")[:20])
"""Deploys, and mints the token."""
MOST: Final = 2**256 - 1
BALANCES: Final = 0
"""The token's slot of `balanceOf`."""
NOBODY: Final = Address(bytes(20))


class Differs(AssertionError):
    """The model and the bytecode do not do the same."""


@dataclass(slots=True, kw_only=True)
class TwinState(State):
    """The model's state and, by its root, the EVM's."""

    root: bytes

    def copy(self) -> TwinState:
        model = State.copy(self)
        return TwinState(
            model=model.model, nonces=model.nonces, allowances=model.allowances, slots=model.slots, root=self.root
        )


class Machine(Evm):
    """py-evm at any of its old states. Nothing is kept in it but what a root names."""

    def __init__(self, now: int, chain_id: int) -> None:
        super().__init__(now, chain_id)
        self.database: AtomicDatabaseAPI = AtomicDB()
        self.state = PragueState(self.database, self.context, self.state.state_root)

    def go(self, root: bytes, now: int) -> None:
        """To the state of that root, at that time."""
        self.state = PragueState(self.database, self.context, Hash32(root))
        self.timestamp = now

    def root(self) -> bytes:
        """Name the present state."""
        self.rest()
        return bytes(self.state.state_root)

    def call(self, sender: Address, to: Address, data: bytes, value: int = 0) -> Result:
        """Apply a call that costs its sender nothing."""
        self.give(sender, PLENTY * GAS_PRICE)
        self.state.lock_changes()
        done = self._apply(sender, to, data, value, PLENTY)
        self.give(sender, done.gas * GAS_PRICE - PLENTY * GAS_PRICE)
        return done

    def ask_word(self, to: Address, data: bytes) -> bytes:
        done = self.ask(to, data, gas=PLENTY)
        if not done.good:
            raise Differs(f"a view reverts: {data[:4].hex()}")
        return done.output

    def placed(self, code: bytes) -> bytes:
        """What a constructor leaves on chain. It must leave no storage: only the code is kept."""
        self.give(MAKER, PLENTY * GAS_PRICE)
        self.state.lock_changes()
        done = self._apply(MAKER, None, code, 0, PLENTY)
        if not done.good:
            raise Differs(f"a constructor reverts: {done.output!r}")
        return self.code(done.created)


def balance_slot(who: Address) -> int:
    """Where the token keeps what an account has."""
    return int.from_bytes(keccak(BALANCES.to_bytes(32, "big") + bytes(12) + who), "big")


def reason_of(output: bytes) -> str:
    """Of a revert; empty for one without any."""
    if output[:4] != ERROR_STRING:
        return ""
    length = int.from_bytes(output[36:68], "big")
    return output[68 : 68 + length].decode("utf-8")


class TwinCall(Call):
    """One call, on the model and on the bytecode."""

    def __init__(self, chain: TwinChain, state: TwinState) -> None:
        super().__init__(state, chain.domain, chain.registry, chain.min_period)
        self.chain, self.twin = chain, state

    def run(self, sender: Address, to: Address, data: bytes, value: int) -> bytes:
        done = self._in_evm(sender, to, data, value)
        refusal, modelled = None, b""
        try:
            modelled = super().run(sender, to, data, value)
        except Refusal as fault:
            refusal = fault
        what = f"{data[:4].hex()} of {to.hex()}"
        if done.good != (refusal is None):
            raise Differs(
                f"{what}: the model says {refusal or 'yes'}, the bytecode {reason_of(done.output) or done.good}"
            )
        if refusal is not None:
            if to != self.chain.token and str(refusal) != reason_of(done.output) and str(refusal) != "transferFrom":
                raise Differs(f"{what}: the model refuses with {refusal}, the bytecode with {reason_of(done.output)}")
            raise refusal
        self._agree(what, modelled, done)
        self.chain.agreed += 1
        return done.output

    @property
    def refusing(self) -> set[tuple[str, str]]:
        """(token, receiver) of those that the token gives nothing."""
        return self.model.refusing

    def _in_evm(self, sender: Address, to: Address, data: bytes, value: int) -> Result:
        """Apply it there, with the token as unwilling as the model's; `twin.root` names what it leaves."""
        machine = self.chain.machine
        machine.go(self.twin.root, self.model.now)
        kept: dict[int, int] = {}
        for token, owner in self.refusing if to != self.chain.token else ():
            if token == named(self.chain.token):
                slot = balance_slot(Address(bytes.fromhex(owner[2:])))
                kept[slot] = machine.state.get_storage(Place(self.chain.token), slot)
                machine.state.set_storage(Place(self.chain.token), slot, MOST)
        done = machine.call(sender, to, data, value)
        for slot, before in kept.items():
            machine.state.set_storage(Place(self.chain.token), slot, before)
        if done.good:
            self.twin.root = machine.root()
        return done

    def _agree(self, what: str, modelled: bytes, done: Result) -> None:
        if modelled != done.output:
            raise Differs(f"{what}: the model returns {modelled.hex()}, the bytecode {done.output.hex()}")
        ours = (self.domain.manager, self.registry)
        logs = [Log(place, topics, text) for place, topics, text in done.logs if place in ours]
        if logs != self.logs:
            raise Differs(f"{what}: the model says {self.logs}, the bytecode {logs}")


class TwinChain(ModelChain):
    """See the file's head. `agreed`: calls of which model and bytecode have said the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.agreed = 0
        first = self.blocks[0]
        self.machine = Machine(first.timestamp, self.domain.chain_id)
        for place, code in self.deployed():
            self.machine.become(place, self.machine.placed(code))
        first.state = TwinState(model=first.state.model, root=self.machine.root())

    def deployed(self) -> list[tuple[Address, bytes]]:
        """What stands where, as init code."""
        manager = manager_code(self.registry, Seconds(self.min_period))
        return [(self.registry, registry_code()), (self.domain.manager, manager), (self.token, token_code())]

    def fund(self, who: Address, *, coin: int = 0, token: int = 0) -> None:
        super().fund(who, coin=coin, token=token)
        for block in self.blocks:
            state = self._twin(block.state)
            self.machine.go(state.root, block.timestamp)
            self.machine.give(who, coin)
            if not self.machine.call(MAKER, self.token, call_data("TestToken", "mint", _text(who), token)).good:
                raise Differs("the token is not minted")
            state.root = self.machine.root()

    @staticmethod
    def _twin(state: State) -> TwinState:
        if not isinstance(state, TwinState):
            raise Differs("a state without its EVM")
        return state

    def _call(self, state: State) -> Call:
        return TwinCall(self, self._twin(state))

    def _apply(self, state: State, tx: Tx) -> tuple[State, Mined]:
        """The fee is the model's, in both."""
        twin = self._twin(state.copy())
        self.machine.go(twin.root, twin.model.now)
        self.machine.give(tx.sender, -self.fee(tx))
        twin.root = self.machine.root()
        after, done = super()._apply(twin, tx)
        if done.ok and not tx.data:
            state_ = self._twin(after)
            self.machine.go(state_.root, state_.model.now)
            self.machine.call(tx.sender, tx.to, b"", tx.value)
            state_.root = self.machine.root()
        return after, done

    def mine(self) -> Block:
        block = super().mine()
        if block.mined:
            self._compare(block)
        return block

    def _compare(self, block: Block) -> None:
        """Everything the contracts and the accounts hold, in both."""
        state = self._twin(block.state)
        machine, model = self.machine, state.model
        machine.go(state.root, block.timestamp)
        ask, manager = machine.ask_word, self.domain.manager
        for name, channel in model.channels.items():
            said = ask(manager, call_data("ChannelManager", "channel", bytes.fromhex(name)))
            words = [int.from_bytes(said[at : at + 32], "big") for at in range(0, 160, 32)]
            word = words[0] << 168 | words[1] << 80 | words[2] << 40 | words[3] << 8 | words[4]
            if (word, said[160:]) != (word_of(channel), record_of(channel)):
                raise Differs(f"block {block.number}: channel {name} is {said.hex()}, in the model {channel}")
        for (kind, who), amount in model.owed.items():
            said = ask(manager, call_data("ChannelManager", "owed", _text(_known(kind)), _text(_known(who))))
            if int.from_bytes(said, "big") != amount:
                raise Differs(f"block {block.number}: {who} is owed {said.hex()}, in the model {amount}")
        for (kind, who), amount in model.balances.items():
            place = manager if who == "manager" else _known(who)
            if kind == COIN:
                has = machine.balance(place)
            elif kind == named(self.token):
                has = int.from_bytes(ask(self.token, call_data("TestToken", "balanceOf", _text(place))), "big")
            else:
                raise Differs(f"the model knows a token {kind}")
            if has != amount:
                raise Differs(f"block {block.number}: {who} has {has} of {kind}, in the model {amount}")


def _known(name: str) -> Address:
    """An account or a token by the model's name."""
    return NOBODY if name == COIN else Address(bytes.fromhex(name[2:]))


def _text(who: bytes) -> str:
    return "0x" + who.hex()


__all__ = ["Differs", "Machine", "TwinCall", "TwinChain"]
