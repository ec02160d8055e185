"""The zoo: tokens that misbehave in every way known from real ones, and a chain on which a trial leaves no trace.

A token's misdeeds are one mock's (`contracts/mocks/NastyToken.vy`) modes; what each does to money stands here as
numbers, so that one test can hold the manager to the same law for all of them. `Stage` is the EVM of the other tests
with a way back: `with stage.trial():` ends with everything as it was before.

The catalogue follows github.com/d-xo/weird-erc20 in spirit: what a token was seen to do somewhere, and by which name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth.db.atomic import AtomicDB
from eth.vm.forks.prague.state import PragueState
from eth_typing import Hash32

from channeld.base.digests import Domain
from channeld.base.keys import Key, keccak
from channeld.base.units import Address, Side
from contracts import artifact
from contracts.deploy import PERMIT2
from tests.contracts.evm import BLANK_ROOT, Evm
from tests.contracts.world import CHAIN_ID, START, Channel, World, key_of

(
    PLAIN,
    SILENT,
    DENIES,
    LIES,
    TAKES,
    BURNS,
    BOMBS,
    PICKY,
    HALVES,
    REFUSES,
    REASONS,
    NONZERO,
    PAUSED,
    SKIMS,
    CALLS,
    PEEKS,
    MUTE,
    RAVES,
) = range(18)
"""The modes of NastyToken, as its source numbers them."""
UNIT: Final = 10**18
"""The scale at which a NastyToken's share is worth one base unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirk:
    """One way of a token to misbehave when it moves money.

    `leaves` and `arrives`: of 1000 units told to move, those that count as gone from the payer and those the receiver
    gets. `accepts`: whether what transferFrom says lets a careful caller go on. `reverts`: the token's own reason.
    """

    name: str
    mode: int
    real: str
    leaves: int = 1000
    arrives: int = 1000
    accepts: bool = True
    reverts: str | None = None


def _stuck(name: str, mode: int, real: str, reverts: str | None = None) -> Quirk:
    return Quirk(name=name, mode=mode, real=real, leaves=0, arrives=0, accepts=reverts is None, reverts=reverts)


QUIRKS: Final = (
    Quirk(name="plain", mode=PLAIN, real="WETH, most tokens"),
    Quirk(name="says nothing", mode=SILENT, real="USDT, BNB"),
    Quirk(name="moves and says false", mode=DENIES, real="Tether Gold", accepts=False),
    Quirk(name="moves and says 4 KiB of zeros", mode=BOMBS, real="made to burn a caller's gas", accepts=False),
    Quirk(name="wants nearly all the gas", mode=PICKY, real="tokens behind proxies that keep long books"),
    Quirk(name="keeps a tenth", mode=TAKES, real="STA, PAXG; USDT could", arrives=900),
    Quirk(name="takes a tenth on top", mode=SKIMS, real="fee paid by the sender, as some reflection tokens"),
    Quirk(name="moves half", mode=HALVES, real="tokens that move what they can", leaves=500, arrives=500),
    Quirk(name="refuses zero", mode=NONZERO, real="LEND"),
    _stuck("says true and moves nothing", LIES, "honeypots"),
    _stuck("says false and moves nothing", REFUSES, "ZRX, EURS", "false"),
    _stuck("never comes back", BURNS, "made to burn a caller's gas", "gas"),
    _stuck("reverts with 4 KiB", REASONS, "made to burn a caller's gas", "much"),
    _stuck("is paused", PAUSED, "USDC, BNB, ZIL", "paused"),
)


GONE: Final = {
    "no code": b"",
    "answers with one byte": bytes.fromhex("60015ff3"),
    "reverts on everything": bytes.fromhex("5f5ffd"),
    "eats all gas": bytes.fromhex("5b5f56"),
    "answers with nothing": bytes.fromhex("00"),
}
"""What stands at a token's address after its contract was replaced or destroyed."""
ODD_BALANCES: Final = {"reverts when asked": MUTE, "says more each time": RAVES}
"""Modes in which a token moves money, but does not say how much there is: made to upset whoever counts by balances."""
WATCHFUL: Final = {"calls in the middle of a transfer": CALLS, "calls when asked for a balance": PEEKS}
"""Modes in which a token lets a stranger run (ERC-777: imBTC, AMP; or one made for it)."""


class Stage(Evm):
    """An EVM on which trials can be made."""

    def __init__(self, timestamp: int = START, chain_id: int = CHAIN_ID) -> None:
        super().__init__(timestamp, chain_id)
        self.store = AtomicDB()
        self.state = PragueState(self.store, self.context, Hash32(BLANK_ROOT))

    def root(self) -> Hash32:
        """The hash of everything: code, storage, coin and nonces of all accounts."""
        self.state.persist()
        return self.state.state_root

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Whatever happens inside has not happened afterwards, time included."""
        root, timestamp = self.root(), self.timestamp
        try:
            yield
        finally:
            self.state = PragueState(self.store, self.context, root)
            self.timestamp = timestamp


class Zoo(World):
    """A world on a stage, with the real Permit2 where it stands everywhere.

    `code` gives the init code of another manager than ours, from the registry's address.
    """

    def __init__(self, code: Callable[[Address], bytes] | None = None) -> None:
        self.stage = Stage()
        super().__init__(self.stage)
        if code is not None:
            self.manager = self.deploy("ChannelManager", code(self.registry))
            self.domain = Domain(chain_id=CHAIN_ID, manager=self.manager)
        self.stage.become(PERMIT2, permit2_code(CHAIN_ID, PERMIT2))
        for role in ("payer", "payee", "anyone"):
            self.fund(key_of(role))

    def beast(self) -> Address:
        """A new NastyToken, plain so far, of which payer and payee have plenty."""
        self.stage.root()  # every account not yet saved slows each call down
        token = self.deploy("NastyToken", artifact("NastyToken").bytecode)
        for role in ("payer", "payee"):
            self.do(self.rich, token, "mint", key_of(role).address, 10**24)
        return token

    def reentrant(self) -> Address:
        """A new contract that may call back, with some coin."""
        made = self.deploy("Reentrant", artifact("Reentrant").bytecode)
        self.evm.give(made, 10**18)
        return made

    def turn(self, token: Address, mode: int, *only: Address) -> None:
        """Have a NastyToken misbehave from now on, for all receivers or for one."""
        self.do(self.rich, token, "set_mode", mode, *only)


def permit2_code(chain_id: int, place: Address) -> bytes:
    """The real Permit2's runtime code as its constructor leaves it on a chain at an address."""
    published: dict[str, Any] = json.loads((Path(__file__).parent / "vectors/permit2.json").read_text("utf-8"))
    code = bytearray.fromhex(published["runtime"][2:])
    for name, value in (("chain_id", chain_id.to_bytes(32, "big")), ("domain", permit2_domain(chain_id, place))):
        at = published["immutables"][name]
        if code[at - 1] != 0x7F or any(code[at : at + 32]):
            raise ValueError(f"no place for {name} at {at}")
        code[at : at + 32] = value
    return bytes(code)


def permit2_domain(chain_id: int, place: Address) -> bytes:
    """The hash of Permit2's EIP-712 domain; it has no version."""
    kind = keccak(b"EIP712Domain(string name,uint256 chainId,address verifyingContract)")
    return keccak(kind + keccak(b"Permit2") + chain_id.to_bytes(32, "big") + bytes(12) + place)


def both(channel: Channel) -> tuple[int, int]:
    """What the two payout addresses have of the channel's money."""
    return channel.paid(Side.A), channel.paid(Side.B)


def debts(channel: Channel) -> tuple[int, int]:
    """What the manager owes the two payout addresses in the channel's money."""
    owed = channel.world.owed
    return owed(channel.token, channel.terms.payout_a), owed(channel.token, channel.terms.payout_b)


def delegated(zoo: Zoo, owner: Key, code: Address) -> None:
    """Have an account run the code of a contract, as a transaction with an authorization does (EIP-7702)."""
    zoo.evm.become(owner.address, b"\xef\x01\x00" + code)
