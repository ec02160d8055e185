"""Deposits by the owner's signature: EIP-3009 and Permit2 (the real one), whoever sends them.

A signature is for one deposit: so much of one token into one side of one channel with one memo, once, in its time, by
one manager on one chain. Every argument of the calls is changed in turn, as their ABI lists them, and everything that
is signed too: nothing moves. An allowance, to the manager or to Permit2, is nobody's consent.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import pytest
from eth_account.messages import encode_typed_data

from channeld.base.keys import Key, compact, keccak
from channeld.base.units import NATIVE, Address, Side
from contracts import artifact
from contracts.deploy import PERMIT2, manager_code
from tests.contracts.world import CHAIN_ID, MIN_PERIOD, Reverted, key_of, words_of
from tests.contracts.zoo import PLAIN, QUIRKS, Quirk, Stage, Zoo, permit2_code, permit2_domain
from tests.contracts.zoo_signing import FAR, MEMO, Authorization, Permit, data

KINDS: Final[dict[str, Any]] = {"EIP-3009": Authorization, "Permit2": Permit}
AMOUNT: Final = 1000
NO_MEMO: Final = bytes(192)


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture
def owner(zoo: Zoo) -> Key:
    """An owner with tokens and no coin at all."""
    zoo.count += 1
    return Key(keccak(b"owner %d" % zoo.count))


def given(zoo: Zoo, kind: Any, owner: Key, token: Address | None = None, **more: Any) -> Any:
    """An owner's consent to a deposit into a new channel, which would go through."""
    token = zoo.beast() if token is None else token
    zoo.do(zoo.rich, token, "mint", owner.address, 10**6)
    _approve(zoo, owner.address, token)
    return kind.to(zoo.channel(token), owner, **more)


def _approve(zoo: Zoo, owner: Address, token: Address) -> None:
    """To both who might pull, as owners do. A NastyToken asks for no allowance."""
    if token == zoo.token:
        for spender in (PERMIT2, zoo.manager):
            with_coin = 10**18
            zoo.evm.give(owner, with_coin)
            zoo.do(owner, token, "approve", spender, 2**256 - 1)


def send(zoo: Zoo, consent: Any, sender: Address | None = None, arguments: list[Any] | None = None) -> Any:
    sent = consent.arguments() if arguments is None else arguments
    return zoo.do(zoo.rich if sender is None else sender, zoo.manager, consent.call, *sent, gas=1_000_000)


def stored(zoo: Zoo, consent: Any) -> tuple[int, int]:
    found: tuple[int, ...] = zoo.ask(zoo.manager, "channel", consent.channel)
    return found[0], found[1]


@pytest.mark.parametrize("side", list(Side), ids=["A", "B"])
@pytest.mark.parametrize("memo", [MEMO, NO_MEMO], ids=["memo", "no memo"])
def test_anyone_brings_an_owners_money(zoo: Zoo, kind: Any, owner: Key, side: Side, memo: bytes) -> None:
    consent = given(zoo, kind, owner, side=side, memo=memo, amount=AMOUNT)
    had = zoo.balance(consent.token, owner.address)
    assert zoo.evm.balance(owner.address) == 0
    receipt = send(zoo, consent, zoo.fund(key_of("anyone")))
    assert stored(zoo, consent) == ((AMOUNT, 0), (0, AMOUNT))[side]
    assert zoo.balance(consent.token, owner.address) == had - AMOUNT
    assert zoo.balance(consent.token, zoo.manager) == AMOUNT
    assert sorted(receipt.names()) == (["Deposited", "Memo"] if memo == MEMO else ["Deposited"])
    assert receipt.event("Deposited")["channel_id"] == consent.channel
    if memo == MEMO:
        assert receipt.event("Memo")["memo"] == MEMO


def test_permit2_takes_of_an_ordinary_token_by_its_allowance(zoo: Zoo, owner: Key) -> None:
    consent = given(zoo, Permit, owner, zoo.token)
    pot = zoo.balance(zoo.token, zoo.manager)
    send(zoo, consent)
    assert stored(zoo, consent) == (AMOUNT, 0) and zoo.balance(zoo.token, zoo.manager) == pot + AMOUNT
    zoo.do(owner.address, zoo.token, "approve", PERMIT2, 0)
    with pytest.raises(Reverted, match="TRANSFER_FROM_FAILED"):
        send(zoo, consent.but(nonce=8))


def test_a_copied_call_does_the_same(zoo: Zoo, kind: Any, owner: Key) -> None:
    """Whoever is first: the deposit is the owner's, in the owner's channel. The second takes nothing."""
    consent = given(zoo, kind, owner)
    roots = []
    for sender in (zoo.rich, zoo.fund(key_of("anyone"))):
        with zoo.stage.trial():
            receipt = send(zoo, consent, sender)
            roots.append((receipt.events, stored(zoo, consent), zoo.balance(consent.token, owner.address)))
    assert roots[0] == roots[1]
    send(zoo, consent)
    for sender in (zoo.rich, key_of("anyone").address):
        with pytest.raises(Reverted):
            send(zoo, consent, sender)
    assert stored(zoo, consent) == (AMOUNT, 0) and zoo.balance(consent.token, zoo.manager) == AMOUNT


def test_used_once_it_is_used_for_all(zoo: Zoo, kind: Any, owner: Key) -> None:
    """The same nonce signed again: EIP-3009's covers the deposit, so another deposit may use it; Permit2's does not."""
    consent = given(zoo, kind, owner)
    send(zoo, consent)
    again = consent.but(side=Side.B)
    if kind is Permit:
        with pytest.raises(Reverted):
            send(zoo, again)
        again = again.but(nonce=consent.nonce + 1)
    send(zoo, again)
    assert stored(zoo, consent) == (AMOUNT, AMOUNT)
    with pytest.raises(Reverted):
        send(zoo, again)


# ------------------------------------------------------------------------------- every argument and every signed field


def _other(zoo: Zoo, consent: Any, name: str) -> list[Any]:
    """Values that are no less good than the argument's own, and are not what was signed."""
    words = words_of(consent.memo)
    other_owner = Key(keccak(b"other owner"))
    changes: dict[str, list[Any]] = {
        "token": [zoo.beast(), zoo.token],
        "terms_hash": [zoo.channel(consent.token).terms.hash],
        "side": [1 - int(consent.side), 2],
        "amount": [AMOUNT - 1, AMOUNT + 1, 1],
        "memo": [[bytes(32)] * 6, [*words[:5], bytes(32)], [bytes(32), *words[1:]]],
        "owner": [other_owner.address, key_of("payer").address, zoo.manager, NATIVE],
        "valid_after": [1],
        "valid_before": [FAR - 1],
        "owner_nonce": [bytes(32)],
        "nonce": [8, 7 + 256],
        "deadline": [FAR - 1],
        "signature": _mangled(consent),
    }
    for token in {consent.token, *changes["token"]} - {zoo.token}:
        for who in (consent.owner.address, other_owner.address):
            zoo.do(zoo.rich, token, "mint", who, 10**6)
    return changes[name]


def _mangled(consent: Any) -> list[Any]:
    r, vs = compact(consent.signed())
    flipped = bytes([vs[0] ^ 0x80]) + vs[1:]
    stranger = compact(consent.but(owner=Key(keccak(b"stranger"))).signed())
    return [(bytes(32), bytes(32)), (r, flipped), (vs, r), (r, bytes(32)), stranger]


def _names(call: str) -> list[str]:
    (entry,) = (one for one in artifact("ChannelManager").abi if one.get("name") == call)
    return [one["name"] for one in entry["inputs"]]


ARGUMENTS: Final = [
    (kind, name) for kind in KINDS.values() for name in _names(kind.__dataclass_fields__["call"].default)
]


@pytest.mark.parametrize(("kind", "name"), ARGUMENTS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_no_argument_is_free(zoo: Zoo, kind: Any, name: str, owner: Key) -> None:
    """As a thief would: the signature stays, an argument changes."""
    consent = given(zoo, kind, owner)
    place = _names(consent.call).index(name)
    arguments = consent.arguments()
    others = _other(zoo, consent, name)
    assert others and all(other != arguments[place] for other in others)
    had = zoo.balance(consent.token, owner.address)
    for other in others:
        changed = [*arguments[:place], other, *arguments[place + 1 :]]
        pots = zoo.balance(consent.token, zoo.manager), zoo.balance(zoo.token, zoo.manager)
        with pytest.raises(Reverted):
            send(zoo, consent, arguments=changed)
        assert (zoo.balance(consent.token, zoo.manager), zoo.balance(zoo.token, zoo.manager)) == pots
        assert zoo.balance(consent.token, owner.address) == had
    send(zoo, consent)  # and it would have gone through all the time
    assert stored(zoo, consent) == (AMOUNT, 0)


SIGNED: Final[dict[str, Any]] = {
    "chain_id": 1,
    "manager": Address(b"\x77" * 20),
    "terms_hash": keccak(b"other terms"),
    "side": Side.B,
    "amount": AMOUNT + 1,
    "memo": NO_MEMO,
    "token": Address(b"\x66" * 20),
}
TIMED: Final[dict[Any, dict[str, Any]]] = {
    Authorization: {"valid_after": 1, "valid_before": FAR - 1, "owner_nonce": bytes(32)},
    Permit: {"nonce": 8, "deadline": FAR - 1, "permit2": Address(b"\x55" * 20)},
}
FIELDS: Final = [(kind, field) for kind in KINDS.values() for field in {**SIGNED, **TIMED[kind]}]


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_what_was_signed_for_something_else_is_no_consent(zoo: Zoo, kind: Any, field: str, owner: Key) -> None:
    consent = given(zoo, kind, owner)
    changed = consent.but(**{field: {**SIGNED, **TIMED[kind]}[field]})
    signature = compact(changed.signed())
    assert signature != compact(consent.signed())
    with pytest.raises(Reverted):
        send(zoo, consent, arguments=[*consent.arguments()[:-1], signature])
    assert zoo.balance(consent.token, zoo.manager) == 0
    send(zoo, consent)


def test_all_fields_are_tried() -> None:
    for kind in KINDS.values():
        own = {field.name for field in fields(kind)} - {"owner"}
        assert own == set(SIGNED) | set(TIMED[kind])


# ----------------------------------------------------------------------------------------------------------- its time


def test_an_authorization_has_its_time(zoo: Zoo, owner: Key) -> None:
    """It counts from the second after valid_after to the one before valid_before."""
    consent = given(zoo, Authorization, owner)
    now = zoo.now + 10
    timed = consent.but(valid_after=now, valid_before=now + 2)
    for moment, good in ((now, False), (now + 1, True), (now + 2, False)):
        with zoo.stage.trial():
            zoo.travel(moment - 1)
            if good:
                send(zoo, timed)
                assert zoo.now == moment
                continue
            with pytest.raises(Reverted, match="too early" if moment == now else "expired"):
                send(zoo, timed)


def test_a_permit_has_its_deadline(zoo: Zoo, owner: Key) -> None:
    consent = given(zoo, Permit, owner)
    timed = consent.but(deadline=zoo.now + 10)
    for late in (0, 1):
        with zoo.stage.trial():
            zoo.travel(timed.deadline - 1 + late)
            if not late:
                send(zoo, timed)
                continue
            with pytest.raises(Reverted):
                send(zoo, timed)


# ------------------------------------------------------------------------------------- another chain, another manager


def test_on_another_chain_it_is_worth_nothing(owner: Key, zoo: Zoo, kind: Any) -> None:
    """The same contracts at the same addresses, the same money: only the chain's number differs."""
    other = Zoo()
    here = given(other, kind, owner)
    other.stage.context._chain_id = 1
    other.evm.become(PERMIT2, permit2_code(1, PERMIT2))
    with pytest.raises(Reverted):
        send(other, here)
    there = here.but(chain_id=1)
    send(other, there)
    assert stored(other, there) == (AMOUNT, 0)


def test_permit2_knows_when_its_chain_has_split(owner: Key) -> None:
    """Its domain is kept from its deployment; after a fork with another number it is made anew."""
    other = Zoo()
    here = given(other, Permit, owner)
    other.stage.context._chain_id = 2
    with pytest.raises(Reverted):
        send(other, here)
    send(other, here.but(chain_id=2))


def test_another_manager_cannot_use_it_nor_anyone_directly(zoo: Zoo, kind: Any, owner: Key) -> None:
    consent = given(zoo, kind, owner)
    twin = zoo.deploy("ChannelManager", manager_code(zoo.registry, MIN_PERIOD, PERMIT2))
    assert twin != zoo.manager
    with pytest.raises(Reverted):
        zoo.send(zoo.rich, twin, data(consent))
    nonce = keccak(consent.channel + int(consent.side).to_bytes(32, "big") + keccak(consent.memo) + bytes(31) + b"\x07")
    r, vs = compact(consent.signed())
    if kind is Authorization:
        v, s = 27 + (vs[0] >> 7), bytes([vs[0] & 127]) + vs[1:]
        direct = [owner.address, zoo.manager, AMOUNT, 0, FAR, nonce, v, r, s]
        with pytest.raises(Reverted, match="not the receiver"):
            zoo.do(zoo.rich, consent.token, "receiveWithAuthorization", *direct)
        direct[1] = zoo.rich
        with pytest.raises(Reverted, match="signature"):
            zoo.do(zoo.rich, consent.token, "receiveWithAuthorization", *direct)
    send(zoo, consent)


# ------------------------------------------------------------------------------------------- an allowance is no consent


def test_an_allowance_to_the_manager_moves_for_its_owner_only(zoo: Zoo, kind: Any) -> None:
    """Somebody has approved manager and Permit2 without limit. No call of anybody else takes a unit of it."""
    saver, thief = Key(keccak(b"saver")), zoo.fund(key_of("anyone"))
    zoo.do(zoo.rich, zoo.token, "mint", saver.address, 10**6)
    _approve(zoo, saver.address, zoo.token)
    had, pot = zoo.balance(zoo.token, saver.address), zoo.balance(zoo.token, zoo.manager)
    channel = zoo.channel(zoo.token)
    signed = kind.to(channel, key_of("anyone")).arguments()
    place = _names(kind.to(channel, saver).call).index("owner")
    empty = (bytes(32), bytes(32))
    for owner in (saver.address, NATIVE, zoo.manager, PERMIT2):
        for signature in (signed[-1], empty, (bytes(31) + b"\x01", bytes(31) + b"\x01")):
            arguments = [*signed[:place], owner, *signed[place + 1 : -1], signature]
            with pytest.raises(Reverted):
                zoo.do(thief, zoo.manager, kind.to(channel, saver).call, *arguments, gas=1_000_000)
    item = (channel.terms.hash, 0, 50, [bytes(32)] * 6)
    poor = Key(keccak(b"poor")).address
    zoo.evm.give(poor, 10**18)
    for call, arguments in (("deposit", [zoo.token, *item[:3]]), ("deposit_many", [zoo.token, [item]])):
        with pytest.raises(Reverted):
            zoo.do(poor, zoo.manager, call, *arguments)
    assert zoo.balance(zoo.token, saver.address) == had and zoo.balance(zoo.token, zoo.manager) == pot
    zoo.do(saver.address, zoo.manager, "deposit", zoo.token, *item[:3])
    assert channel.stored()[0] == 50


def test_a_signature_is_not_for_the_native_coin_nor_for_what_is_no_token(zoo: Zoo, kind: Any, owner: Key) -> None:
    consent = given(zoo, kind, owner)
    nothing_there = (NATIVE, Address(b"\x05" * 20))
    for token in (*nothing_there, zoo.registry, zoo.manager, PERMIT2):
        with pytest.raises(Reverted, match="token" if token in nothing_there else None):
            send(zoo, consent.but(token=token))
        assert stored(zoo, consent.but(token=token)) == (0, 0)


# --------------------------------------------------------------------------------------------------------- the zoo


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_the_credit_is_what_arrives(zoo: Zoo, kind: Any, owner: Key, quirk: Quirk) -> None:
    """EIP-3009 says nothing, so what a token would say does not count; Permit2 stops at a token that says no."""
    consent = given(zoo, kind, owner)
    had = zoo.balance(consent.token, owner.address)
    zoo.turn(consent.token, quirk.mode)
    arrives = AMOUNT * quirk.arrives // 1000
    if arrives == 0 or (kind is Permit and not quirk.accepts):
        with pytest.raises(Reverted):
            send(zoo, consent)
        zoo.turn(consent.token, PLAIN)
        assert stored(zoo, consent) == (0, 0) and zoo.balance(consent.token, owner.address) == had
        send(zoo, consent)  # the nonce is not used up
        assert stored(zoo, consent) == (AMOUNT, 0)
        return
    send(zoo, consent)
    assert stored(zoo, consent) == (arrives, 0)
    zoo.turn(consent.token, PLAIN)
    assert zoo.balance(consent.token, zoo.manager) == arrives


def test_the_domains_are_the_contracts_own(zoo: Zoo) -> None:
    """What is signed here is what the real Permit2 says its domain is, kept and made anew."""
    asked = keccak(b"DOMAIN_SEPARATOR()")[:4]
    for chain_id, place in ((CHAIN_ID, PERMIT2), (CHAIN_ID, Address(b"\x11" * 20)), (1, PERMIT2)):
        stage = Stage(chain_id=chain_id)
        stage.become(place, permit2_code(chain_id, place))
        assert stage.ask(place, asked).output == permit2_domain(chain_id, place)
    mainnet = "866a5aba21966af95d6c7ab78eb2b2fc913915c28be3b9aa07cc04ff903e3f28"
    stage = Stage(chain_id=1)
    stage.become(PERMIT2, permit2_code(1, PERMIT2))
    assert stage.ask(PERMIT2, asked).output.hex() == mainnet


def test_an_authorization_is_what_a_wallet_would_sign(zoo: Zoo, owner: Key) -> None:
    """The same bytes as eth-account makes of the standard's type."""
    consent = given(zoo, Authorization, owner)
    parts = [
        "address from",
        "address to",
        "uint256 value",
        "uint256 validAfter",
        "uint256 validBefore",
        "bytes32 nonce",
    ]
    nonce = keccak(consent.channel + bytes(32) + keccak(MEMO) + consent.owner_nonce)
    values = (owner.address, zoo.manager, AMOUNT, 0, FAR, nonce)
    types = [dict(zip(("type", "name"), field.split(), strict=True)) for field in parts]
    message = encode_typed_data(
        {"name": "Nasty", "version": "1", "chainId": CHAIN_ID, "verifyingContract": consent.token},
        {"ReceiveWithAuthorization": types},
        {one["name"]: value for one, value in zip(types, values, strict=True)},
    )
    assert keccak(b"\x19\x01" + message.header + message.body) == consent.digest()
    assert zoo.ask(consent.token, "DOMAIN_SEPARATOR") == message.header


def test_permit2_stands_at_any_address(owner: Key) -> None:
    """A manager of a chain that has it elsewhere, or not at all."""
    zoo = Zoo()
    elsewhere = Address(b"\x22" * 20)
    zoo.evm.become(elsewhere, permit2_code(CHAIN_ID, elsewhere))
    there = zoo.deploy("ChannelManager", manager_code(zoo.registry, MIN_PERIOD, elsewhere))
    nowhere = zoo.deploy("ChannelManager", manager_code(zoo.registry, MIN_PERIOD, Address(b"\x23" * 20)))
    consent = given(zoo, Permit, owner)
    for manager, permit2, good in ((there, elsewhere, True), (there, PERMIT2, False), (nowhere, elsewhere, False)):
        moved = consent.but(manager=manager, permit2=permit2, nonce=9)
        if good:
            zoo.send(zoo.rich, manager, data(moved))
            assert zoo.balance(consent.token, manager) == AMOUNT
            continue
        with pytest.raises(Reverted):
            zoo.send(zoo.rich, manager, data(moved.but(nonce=10)), gas=1_000_000)
