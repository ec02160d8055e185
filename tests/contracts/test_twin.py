"""The Solidity twin: the same interface as the Vyper contracts, and the same behaviour in every sequence played.

The campaign of `make verify` plays a hundred thousand sequences; here are some hundred. That the comparison would find
a difference is shown by twins with one thing changed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import pytest
from eth_abi.abi import encode

pytest.importorskip("pyrevm", reason="pyrevm is not published for this Python")

from channeld.base.keys import keccak
from contracts import artifact
from tests.contracts.twin import calls, campaign
from tests.contracts.twin.build import MOST, Built, compiled, missing, sources, vyper
from tests.contracts.twin.calls import adr, num
from tests.contracts.twin.forgeries import KINDS, chain
from tests.contracts.twin.laws import Unlawful
from tests.contracts.twin.pair import Differs, Pair
from tests.contracts.twin.player import AT_ONCE, COUNTED
from tests.contracts.twin.table import Table, role
from tests.contracts.twin.wrong import HOLES, SUBTLE, WRONG, Hole
from tests.contracts.world import call_data
from tests.verify.slither import allowed, judged
from tests.verify.twin import MANAGER

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

SEED: Final = 2025
SEQUENCES: Final = 300


@pytest.fixture(scope="module")
def twin() -> Mapping[str, Built]:
    return compiled()


def _shape(one: dict[str, Any]) -> Any:
    return [_shape(part) for part in one["components"]] if "components" in one else one["type"]


def _interface(abi: list[dict[str, Any]]) -> set[str]:
    """Functions with their outputs and mutability, events with what is indexed, and the constructor."""
    found = set()
    for entry in abi:
        inputs = [(_shape(one), one.get("indexed")) for one in entry["inputs"]]
        outputs = [_shape(one) for one in entry.get("outputs", ())]
        found.add(f"{entry['type']} {entry.get('name')} {inputs} {outputs} {entry.get('stateMutability')}")
    return found


@pytest.mark.parametrize("name", ["ChannelManager", "SecretRegistry"])
def test_same_interface(twin: Mapping[str, Built], name: str) -> None:
    ours = _interface(twin[name].abi)
    theirs = _interface(artifact(name).abi)
    assert {one for one in ours if not one.startswith("constructor")} == {
        one for one in theirs if not one.startswith("constructor")
    }
    assert len(ours) > 3


def test_it_could_be_deployed(twin: Mapping[str, Built]) -> None:
    assert 5_000 < twin["ChannelManager"].size <= MOST


@pytest.mark.parametrize(
    ("registry", "period"),
    [(None, 60), (True, 0), (True, 30 * 86400 + 1), (True, 2**255), (True, 1), (True, 30 * 86400)],
)
def test_same_constructor(twin: Mapping[str, Built], registry: bool | None, period: int) -> None:
    pair, deployer = Pair(), role("anyone").address
    place = deployer
    if registry:
        place = pair.deploy(deployer, artifact("SecretRegistry").bytecode, twin["SecretRegistry"].bytecode)
    arguments = adr(place) + adr(deployer) + num(period)
    codes = [artifact("ChannelManager").bytecode + arguments, twin["ChannelManager"].bytecode + arguments]
    if registry and 0 < period <= 30 * 86400:
        manager = pair.deploy(deployer, *codes)
        assert pair.ask(manager, calls.manager("MIN_PERIOD", 0)) == num(period)
        assert pair.ask(manager, calls.manager("PERMIT2", 0)) == adr(deployer)
        assert pair.ask(manager, calls.manager("REGISTRY", 0)) == adr(place)
    else:
        with pytest.raises(ValueError, match=r"^period$" if registry else r"^registry$"):
            pair.deploy(deployer, *codes)


def test_calls_are_packed_as_the_abi_says() -> None:
    rng = random.Random(SEED)
    token, items = rng.randbytes(20), [tuple(rng.randbytes(32) for _ in range(2)) for _ in range(3)]
    memo = [rng.randbytes(32) for _ in range(6)]
    packed = [calls.words_of(one, 1, 2**255, *memo) for one, _ in items]
    whole = encode(
        ["address", "(bytes32,uint256,uint256,bytes32[6])[]"], [token, [(one, 1, 2**255, memo) for one, _ in items]]
    )
    assert calls.deposit_many(token, packed) == calls.manager("deposit_many", 2) + whole
    secrets, locks = [one for one, _ in items], rng.randbytes(57)
    terms = (token, token, token, token, 7, secrets[0], 8, 9)
    packed_terms = calls.words_of(*[adr(token)] * 4, 7, secrets[0], 8, 9)
    assert calls.resolve_locks(token, packed_terms, locks, secrets) == call_data(
        "ChannelManager", "resolve_locks", token, terms, locks, secrets
    )
    body = (-5, 1, 2**255, *secrets[:2])
    opening = num(-5) + num(1) + num(2**255) + b"".join(secrets[:2]) + adr(token)
    assert calls.resolve_locks(token, packed_terms, locks, secrets, opening) == call_data(
        "ChannelManager", "resolve_locks", token, terms, locks, secrets, (body, token)
    )
    assert calls.register(secrets) == call_data("SecretRegistry", "register", secrets)


def test_both_do_the_same(twin: Mapping[str, Built]) -> None:
    tally = campaign.run(twin, SEED, 0, SEQUENCES)
    assert tally["sequences"] == SEQUENCES
    for name in ("deposit", "cooperate", "close", "challenge", "settle", "resolve_locks", "settle and resolve"):
        assert tally[f"{name}: ok"] >= 20, name
    assert tally[AT_ONCE] >= 10
    assert len(campaign.unseen(tally)) < 5


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
def test_a_difference_is_found(change: tuple[str, str, str]) -> None:
    name, old, new = change
    with pytest.raises(Differs, match=r"^seed \d+, chunk \d+, sequence \d+: "):
        campaign.run(compiled({name: (old, new)}), SEED, 1, SEQUENCES)


def test_what_both_do_wrong_is_found() -> None:
    """The bytes that are hashed into a chain are public, and once counted as a list: any pending lock could be taken.
    Both contracts had this hole, so there was no difference to find; the laws find it."""
    ours, (name, old, new) = next(iter(HOLES.values()))
    code = vyper(MANAGER, *ours)
    assert code != artifact("ChannelManager").bytecode
    with pytest.raises(Unlawful, match=r"sequence \d+: locks resolved by \d+ bytes [0-9a-f]+, which is not the list"):
        campaign.run(compiled({name: (old, new)}), SEED, 1, SEQUENCES, code)


def test_the_laws_find_no_fault_with_the_source_as_it_is(twin: Mapping[str, Built]) -> None:
    """So that the test above fails for the hole, and not for how it was compiled."""
    assert vyper(MANAGER) == artifact("ChannelManager").bytecode
    assert campaign.run(twin, SEED, 1, SEQUENCES)["sequences"] == SEQUENCES


@pytest.mark.parametrize("hole", HOLES.values(), ids=list(HOLES))
def test_the_holes_fit_the_sources(hole: Hole) -> None:
    (ours, _), (name, old, new) = hole
    assert MANAGER.read_text(encoding="utf-8").count(ours) == 1
    assert new in sources({name: (old, new)})[name]


def test_no_forged_list_is_the_list() -> None:
    """Nearly none is, and the preimages of the record and of the first link are among them."""
    rng = random.Random(SEED)
    for count in (1, 2, 5):
        locks = [rng.randbytes(57) for _ in range(count)]
        made = [kind(rng, locks) for kind in KINDS for _ in range(30)]
        assert sum(one != b"".join(locks) for one in made) > len(made) * 9 // 10
        assert chain(locks[:-1]) + locks[-1] in made and bytes(32) + locks[-1] in made
        assert keccak(chain(locks[:-1]) + locks[-1]) == chain(locks)


def test_a_receiver_that_calls_back_takes_its_money_whatever_that_burns(twin: Mapping[str, Built]) -> None:
    """Or it would take it of one contract and not of the other: compilers burn different gas to refuse a call."""
    table = Table(twin)
    pair, echo, counts = table.pair, table.echo, []
    for name in ("eats all gas", "accepts"):
        aimed = keccak(b"aim(address,bytes)")[:4] + calls.words_of(
            adr(table.receivers[name]), 64, 4, b"call", bytes(28)
        )
        assert pair.call(table.rich, echo, aimed).good
        assert pair.call(table.rich, echo, b"", 1, 21_000 + 52_300).good
        assert pair.short == ("ok", "ok")
        counts.append(divmod(int.from_bytes(pair.ask(echo, COUNTED), "big"), 2**128))
    assert counts == [(0, 2), (1, 2)]


@pytest.mark.parametrize("change", SUBTLE.values(), ids=list(SUBTLE))
def test_the_subtle_ones_fit_the_sources(change: tuple[str, str, str]) -> None:
    name, old, new = change
    assert new in sources({name: (old, new)})[name]


def test_a_change_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="not one place"):
        sources({"Base.sol": ("no such text", "")})


def test_slither_findings_are_judged() -> None:
    known = {"assembly one", "naming *", "gone since"}
    assert judged({"assembly one", "naming two", "unforeseen"}, known) == ({"unforeseen"}, {"gone since"})
    assert all(allowed().values())


def test_a_found_difference_can_be_played_again(twin: Mapping[str, Built]) -> None:
    """The same seed, chunk and number give the same calls, whatever was played before."""
    told = []
    for numbers in ((3,), (1, 2, 3)):
        table, tally = Table(twin), Counter[str]()
        for number in numbers:
            tally.clear()
            campaign.play(table, SEED, 0, number, tally)
        told.append(dict(tally))
    assert told[0] == told[1]
    assert told[0]["sequences"] == 1 and len(told[0]) > 5
