"""Every signature counts where it was meant to and nowhere else; and daemon and contract accept the same ones.

The matrix takes each signature a channel knows (State, Cooperate, Close and Delegation, by either side) and shows it at
every place of the contract that takes one: in its own channel, another channel of the same pair, another manager, on
another chain, and in its own channel after that was emptied and filled again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import pytest

from channeld.base.digests import ALL, Domain, close_digest, cooperate_digest, delegation_digest, state_digest
from channeld.base.keys import HALF_ORDER, ORDER, Key, compact, keccak, recover
from channeld.base.units import Digest, Seconds, Side, Timestamp, Version
from tests.contracts.evm import Evm
from tests.contracts.world import BOND, CHAIN_ID, ETHER, START, Body, Channel, Reverted, World, key_of

Compact = tuple[bytes, bytes]
VERSION: Final = 6
UNTIL: Final = 2**40
BODY: Final = Body(net=ETHER)
KINDS: Final = ("State", "Cooperate", "Close", "Delegation")
SLOTS: Final = ("close", "order", "cooperate", "challenge", "delegation")
MEANT: Final = {
    "close": "State",
    "order": "Close",
    "cooperate": "Cooperate",
    "challenge": "State",
    "delegation": "Delegation",
}


def digest_of(kind: str, channel: Channel, domain: Domain | None = None, version: int = VERSION) -> Digest:
    where, name, number = domain or channel.world.domain, channel.id, Version(version)
    match kind:
        case "State":
            return state_digest(where, name, number, BODY.hash)
        case "Cooperate":
            return cooperate_digest(where, name, number, ETHER, ALL, ALL, Timestamp(UNTIL))
        case "Close":
            return close_digest(where, name, number, BODY.hash, Timestamp(UNTIL))
        case _:
            return delegation_digest(where, name, number, channel.tower.address, Seconds(0))


def shown(channel: Channel, slot: str, side: Side, signature: Compact, version: int = VERSION) -> None:
    """Show it where `side`'s signature belongs, all else being right."""
    world = channel.world

    def good(kind: str, whose: Side) -> Compact:
        return compact(channel.keys[whose].sign(digest_of(kind, channel, version=version)))

    salts = {whose: (channel.salts[whose.other], keccak(channel.salts[whose])) for whose in Side}
    match slot:
        case "close":
            closer = channel.keys[side.other].address
            given: Any = (version, BODY.hash, signature, *salts[side.other])
            channel.do(closer, "close", *channel.head, *given, value=BOND)
        case "order":
            given = (version, BODY.hash, good("State", side.other), *salts[side], (UNTIL, signature))
            channel.do(world.rich, "close", *channel.head, *given, value=BOND)
        case "cooperate":
            both = (signature, good("Cooperate", Side.B)) if side is Side.A else (good("Cooperate", Side.A), signature)
            channel.do(world.rich, "cooperate", *channel.head, version, ETHER, ALL, ALL, UNTIL, *both)
        case "challenge":
            both = (signature, good("State", Side.B)) if side is Side.A else (good("State", Side.A), signature)
            given = (*channel.head, version, BODY.hash, *both, bytes(20), 0, compact(b""))
            channel.do(world.rich, "challenge", given)
        case _:
            states = good("State", Side.A), good("State", Side.B)
            given = (*channel.head, version, BODY.hash, *states, channel.tower.address, 0, signature)
            channel.do(world.rich, "challenge", given)


def ready(channel: Channel, slot: str, side: Side) -> Channel:
    """In the state in which this place takes a signature of this side."""
    if slot == "challenge":
        channel.close(Side.A)
    elif slot == "delegation":
        channel.close(side.other)  # the victim delegates
    return channel


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("slot", SLOTS)
def test_only_the_signature_that_is_meant_counts(world: World, slot: str, side: Side) -> None:
    """Each kind and signer at each place: one of eight goes through."""
    channel = ready(world.channel().funded(), slot, side)
    stored = channel.stored()
    for kind in KINDS:
        for signer in Side:
            if (kind, signer) == (MEANT[slot], side):
                continue
            with pytest.raises(Reverted, match=r"^(signature|delegation|not a participant|salt)$"):
                shown(channel, slot, side, compact(channel.keys[signer].sign(digest_of(kind, channel))))
    assert channel.stored() == stored
    shown(channel, slot, side, compact(channel.keys[side].sign(digest_of(MEANT[slot], channel))))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A second manager beside the first, and a chain with another id that is the same in all else."""

    manager: Channel
    chain: Channel


@pytest.fixture(scope="module")
def elsewhere() -> Elsewhere:
    here, there = World(Evm(START, CHAIN_ID)), World(Evm(START, CHAIN_ID + 1))
    second = World(here.evm)
    assert second.manager != here.manager
    assert there.manager == World(Evm(START, CHAIN_ID)).manager
    there.domain = Domain(chain_id=CHAIN_ID + 1, manager=there.manager)
    return Elsewhere(second.channel(), there.channel())


@pytest.mark.parametrize("where", ["channel", "manager", "chain"])
@pytest.mark.parametrize("slot", SLOTS)
def test_it_counts_in_no_other_channel_contract_or_chain(
    world: World, elsewhere: Elsewhere, slot: str, where: str
) -> None:
    """The same terms there; what was signed for here is refused, what is signed for there is not."""
    for side in Side:
        here = world.channel()
        if where == "channel":
            other = replace(here, terms=replace(here.terms, nonce=here.terms.nonce + 10**6))
        else:
            other = replace(getattr(elsewhere, where), terms=here.terms, salts=here.salts)
        for role in ("payer", "payee"):
            other.world.fund(key_of(role))
        other = ready(other.funded(), slot, side)
        assert other.id != here.id
        kind = MEANT[slot]
        with pytest.raises(Reverted, match=r"^(signature|delegation|not a participant)$"):
            shown(other, slot, side, compact(here.keys[side].sign(digest_of(kind, here))))
        # the id of there under the domain of here, and the other way round
        for mixed in (digest_of(kind, other, here.world.domain), digest_of(kind, here, other.world.domain)):
            if mixed != digest_of(kind, other):
                with pytest.raises(Reverted, match=r"^(signature|delegation|not a participant)$"):
                    shown(other, slot, side, compact(here.keys[side].sign(mixed)))
        shown(other, slot, side, compact(other.keys[side].sign(digest_of(kind, other))))


@pytest.mark.parametrize("slot", ["close", "order", "cooperate", "challenge"])
def test_what_was_signed_before_an_id_was_emptied_is_void_when_it_is_filled_again(world: World, slot: str) -> None:
    channel = world.channel().funded()
    channel.cooperate(VERSION + 1)
    assert channel.stored()[:3] == (0, 0, VERSION + 1)
    channel.funded()
    if slot == "challenge":
        channel.close(Side.A)
    for side in Side:
        with pytest.raises(Reverted, match="old version"):
            shown(channel, slot, side, compact(channel.keys[side].sign(digest_of(MEANT[slot], channel))))
    newer = VERSION + 2
    shown(channel, slot, Side.A, compact(channel.keys[0].sign(digest_of(MEANT[slot], channel, version=newer))), newer)


# -- one predicate


def mutated(chance: Random, signature: bytes) -> bytes:
    """A signature in which something is wrong, or nothing that matters, or nothing at all."""
    r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
    match chance.randrange(12):
        case 0:
            return signature
        case 1:  # a bit anywhere
            place = chance.randrange(65 * 8)
            return (int.from_bytes(signature, "big") ^ 1 << place).to_bytes(65, "big")
        case 2:  # the other root
            s, v = ORDER - s, 55 - v
        case 3:
            v = chance.choice([0, 1, 26, 27, 28, 29, 255])
        case 4:
            r = chance.choice([0, 1, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1])
        case 5:
            s = chance.choice([0, 1, HALF_ORDER - 1, HALF_ORDER, HALF_ORDER + 1, ORDER - 1, ORDER, 2**255, 2**256 - 1])
        case 6:  # r as the same abscissa modulo the order, where it fits
            r = r + ORDER if r + ORDER < 2**256 else r
        case 7:
            s = s + ORDER if s + ORDER < 2**256 else s
        case 8:
            r, s = s, r
        case 9:  # another length
            return signature[: chance.randrange(65)] if chance.randrange(2) else signature + bytes([v])
        case 10:
            return chance.randbytes(65)
        case _:
            return chance.randbytes(64) + bytes([chance.choice([27, 28])])
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])


def predicate(world: World, chance: Random, times: int) -> Iterator[tuple[bool, bool]]:
    """(accepted by the daemon, by the contract) for so many signatures, most of them mutated. Leaves nothing behind."""
    channel = world.channel().funded()
    closer, other = channel.keys
    for _ in range(times):
        version = Version(chance.randrange(1, 2**40))
        digest = state_digest(world.domain, channel.id, version, BODY.hash)
        key = other if chance.randrange(8) else Key(chance.randbytes(32))
        signature = mutated(chance, key.sign(digest))
        good = recover(digest, signature) == other.address
        try:
            given = compact(signature)
        except ValueError:
            yield good, False  # nothing that could be sent
            continue
        yield good, contract_accepts(channel, closer, version, given)
        # and what comes in the compact form itself, whatever its bits
        if chance.randrange(4) == 0:
            place = chance.randrange(512)
            raw = (int.from_bytes(given[0] + given[1], "big") ^ 1 << place).to_bytes(64, "big")
            given = raw[:32], raw[32:]
            wide = raw[:32] + bytes([raw[32] & 127]) + raw[33:] + bytes([27 + (raw[32] >> 7)])
            yield recover(digest, wide) == other.address, contract_accepts(channel, closer, version, given)


def contract_accepts(channel: Channel, closer: Key, version: int, signature: Compact) -> bool:
    """Whether a close by this state would go through; it is not carried out. AssertionError for any other reason."""
    given = (version, BODY.hash, signature, channel.salts[1], keccak(channel.salts[0]))
    reason = channel.would(closer.address, "close", *channel.head, *given, value=BOND)
    if reason not in ("", "signature"):
        raise AssertionError(reason)
    return reason == ""


def test_daemon_and_contract_accept_the_same_signatures(revm: type[Evm]) -> None:
    said = list(predicate(World(revm(START, CHAIN_ID)), Random(1), 3_000))
    assert all(ours == theirs for ours, theirs in said)
    accepted = sum(ours for ours, _ in said)
    assert len(said) // 20 < accepted < len(said) // 3, "good ones and bad ones alike must be among them"


def test_py_evm_says_the_same() -> None:
    said = list(predicate(World(Evm(START, CHAIN_ID)), Random(2), 150))
    assert all(ours == theirs for ours, theirs in said)
