"""Moves that bring money in, take it out in agreement or withdraw it, and those of tokens and receivers."""

from __future__ import annotations

from typing import Final

from channeld.base.digests import (
    ALL,
    authorization_nonce,
    channel_id,
    cooperate_digest,
    memo_hash,
    permit_witness,
)
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Digest, Side, Timestamp, Version
from tests.contracts.twin.calls import NONE, adr, deposit_many, manager, num, sig, words_of
from tests.contracts.twin.pair import CHAIN_ID
from tests.contracts.twin.player import Call, Player
from tests.contracts.twin.table import MASK88, RICH, SIDES, Line, role
from tests.contracts.zoo import PICKY

RECEIVE: Final = keccak(
    b"ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)
PERMISSIONS: Final = b"TokenPermissions(address token,uint256 amount)"
PERMIT: Final = keccak(
    b"PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
    b"ChannelDeposit witness)ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)" + PERMISSIONS
)
MODES: Final = (*range(17), PICKY, PICKY, PICKY)
"""Of NastyToken, all but the last, which tells the gas it is given; oftener the one that wants nearly all of it."""


def amount(p: Player, line: Line) -> int:
    """Mostly what fits; else nothing, all that fits, or too much."""
    kind = p.rng.randrange(24)
    if kind < 20:
        return p.rng.choice((p.rng.randrange(1, 10**6), p.rng.randrange(1, 10**18)))
    stored = p.stored(line)
    room = MASK88 - stored.a - stored.b
    return p.pick(0, max(room, 0), room + 1 if room >= 0 else 0, 2**88, 2**200)


def side(p: Player) -> int:
    return p.pick(2, 2**255, 2**256 - 1, 256) if p.slip(30) else p.rng.randrange(2)


def memo(p: Player) -> bytes:
    """192 bytes: none, or anything."""
    return p.pick(bytes(192), p.rng.randbytes(192), bytes(32) + p.rng.randbytes(160))


def value(p: Player, token: Address, wanted: int) -> int:
    """The coin to send with a deposit, mostly the right one."""
    right = wanted if token == NATIVE else 0
    if p.slip(30):
        right = p.pick(0, 1, right + 1)
    return right if right <= RICH // 8 else 0


def deposit(p: Player) -> Call:
    line = p.line()
    wanted = amount(p, line)
    head = words_of(adr(line.token), line.hash, side(p), wanted)
    if p.rng.randrange(3):
        data = manager("deposit", 5) + head + memo(p)
    else:
        data = manager("deposit", 4) + head
    return Call("deposit", p.anyone(), data, value(p, line.token, wanted))


def many(p: Player) -> Call:
    token = p.line().token
    count = p.pick(64, 65) if p.slip(40) else p.rng.randrange(5)
    lines = [line for line in p.lines if line.token == token]
    items, total = [], 0
    for _ in range(count):
        line = p.rng.choice(lines)
        wanted = amount(p, line)
        total += wanted
        hashed = p.rng.randbytes(32) if p.slip(10) else line.hash
        items.append(words_of(hashed, side(p), wanted, memo(p)))
    return Call("deposit_many", p.anyone(), deposit_many(token, items), value(p, token, total))


def authorization(p: Player) -> Call:
    """By EIP-3009, whose nonce says where the money goes."""
    line = p.line()
    token = line.token if p.slip(10) else p.table.nasty
    channel = channel_id(p.table.domain, token, Digest(line.hash))
    owner = role(p.rng.choice(SIDES))
    wanted, where, said, own = amount(p, line), side(p), memo(p), p.pick(bytes(32), p.rng.randbytes(32))
    after, before = p.pick(0, p.now - 1), p.pick(2**256 - 1, p.now + 1, p.now + 100)
    if p.slip(20):
        after, before = p.pick((p.now, p.now + 1), (0, p.now))
    nonce = authorization_nonce(channel, Side(where % 2), memo_hash(said), own)
    struct = words_of(RECEIVE, adr(owner.address), adr(p.table.manager), wanted, after, before, nonce)
    digest = keccak(b"\x19\x01" + _domain(p.table.nasty) + keccak(struct))
    signature = p.spoilt(sig(owner.sign(Digest(digest))), 20)
    if p.slip(20):
        wanted += 1
    if p.slip(20):
        where ^= 1
    head = words_of(adr(token), line.hash, where, wanted, said, adr(owner.address))
    data = manager("deposit_with_authorization", 10) + head + words_of(after, before, own, signature)
    return Call("deposit_with_authorization", p.anyone(), data)


def _domain(token: Address) -> bytes:
    kind = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    return keccak(words_of(kind, keccak(b"Nasty"), keccak(b"1"), CHAIN_ID, adr(token)))


def permit(p: Player) -> Call:
    """By Permit2, whose witness says where the money goes."""
    line = p.rng.choice([one for one in p.lines if one.token != NATIVE or p.slip(10)] or p.lines)
    owner = role(p.rng.choice(SIDES))
    wanted, where, said = amount(p, line), side(p), memo(p)
    nonce, deadline = p.rng.randrange(6), p.pick(p.now, p.now + 100, 2**256 - 1)
    if p.slip(20):
        deadline = p.now - 1
    witness = permit_witness(line.id, Side(where % 2), memo_hash(said))
    permitted = keccak(words_of(keccak(PERMISSIONS), adr(line.token), wanted))
    struct = words_of(PERMIT, permitted, adr(p.table.manager), nonce, deadline, witness)
    digest = keccak(b"\x19\x01" + p.table.permits + keccak(struct))
    signature = p.spoilt(sig(owner.sign(Digest(digest))), 20)
    if p.slip(20):
        where ^= 1
    head = words_of(adr(line.token), line.hash, where, wanted, said, adr(owner.address))
    return Call(
        "deposit_with_permit2",
        p.anyone(),
        manager("deposit_with_permit2", 9) + head + words_of(nonce, deadline, signature),
    )


def cooperate(p: Player) -> Call:
    line = p.line()
    stored = p.stored(line)
    version = p.version(stored.version)
    net = p.pick(0, p.rng.randint(-stored.b, stored.a), stored.a, -stored.b, 2**255 - 1, -(2**255), -1, 1)
    outs = [p.pick(ALL, ALL, 0, 1, p.rng.randint(0, stored.a + stored.b), 2**256 - 1) for _ in (0, 1)]
    until = p.now - 1 if p.slip(20) else p.pick(p.now, p.now + 1000, 2**64 - 1)
    digest = cooperate_digest(p.table.domain, line.id, Version(version), net, outs[0], outs[1], Timestamp(until))
    signed = [p.sign(line, 0, digest), p.sign(line, 1, digest)]
    given = words_of(adr(line.token), line.terms, version, net, *outs, until)
    sender, name = p.anyone(), "cooperate"
    if p.rng.randrange(2):
        here = p.rng.randrange(2)
        sender = line.participants[here] if not p.slip(10) else sender
        signed = [signed[1 - here], NONE]
    if signed[1] == NONE and p.rng.randrange(2):
        return aside(p, Call(name, sender, manager(name, 8) + given + signed[0]))
    return aside(p, Call(name, sender, manager(name, 9) + given + signed[0] + signed[1]))


def aside(p: Player, call: Call) -> Call:
    """The call as it is, or through the contract if that is who is to send it."""
    if call.sender == p.table.agent:
        data = keccak(b"call(address,bytes)")[:4] + words_of(adr(p.table.manager), 64, len(call.data), call.data)
        return Call(call.name, p.anyone(), data + bytes(-len(call.data) % 32), call.value, p.table.agent)
    if call.sender in (NATIVE, p.table.manager):  # nobody can send as these
        return Call(call.name, p.anyone(), call.data, call.value)
    return call


def withdraw(p: Player) -> Call:
    if not p.debts and not p.slip(6):
        return mood(p)
    token, owner = p.rng.choice(p.debts) if p.debts and not p.slip() else (p.line().token, p.anyone())
    # What kept the money away may be over.
    if owner == p.table.receivers["accepts if slot 0 is set"]:
        p.pair.poke(owner, 0, p.rng.randrange(2))
    if p.rng.randrange(2):
        data = keccak(b"set_mode(uint256)")[:4] + num(0)
        p.send(Call("mood", p.anyone(), data, to=p.table.nasty))
        p.send(Call("mood", p.anyone(), keccak(b"bar(address,bool)")[:4] + words_of(adr(owner), 0), to=p.table.nasty))
        p.send(Call("mood", p.anyone(), keccak(b"refuse(bool)")[:4] + num(0), to=p.table.echo))
    to = owner if p.rng.randrange(3) else p.anyone()
    sender = owner if owner in p.table.roles and p.rng.randrange(2) else p.anyone()
    return aside(p, Call("withdraw", sender, manager("withdraw", 3) + words_of(adr(token), adr(owner), adr(to))))


def mood(p: Player) -> Call:
    """A token or a receiver is another than before."""
    kind = p.rng.randrange(8)
    if kind < 4:
        mode = 0 if p.rng.randrange(3) == 0 else p.rng.choice(MODES)
        return Call("mood", p.anyone(), keccak(b"set_mode(uint256)")[:4] + num(mode), to=p.table.nasty)
    who = p.pick(*p.line().payouts, p.table.roles[0], p.table.manager)
    if kind == 4:
        data = keccak(b"bar(address,bool)")[:4] + words_of(adr(who), p.rng.randrange(2))
        return Call("mood", p.anyone(), data, to=p.table.nasty)
    if kind == 5:
        return Call("mood", p.anyone(), keccak(b"refuse(bool)")[:4] + num(p.rng.randrange(2)), to=p.table.echo)
    # Whoever is paid, or the token itself, calls back. The token tells the gas it has if its call works, as some views'
    # that are not locked would.
    views = (manager("channel", 1) + p.line().id, manager("closings", 0), manager("owed", 2) + bytes(64))
    to, data = p.table.nasty, p.pick(*views)
    if p.rng.randrange(2) and len(p.last.data) <= 4096:
        to, data = p.table.echo, p.pick(p.last.data, *views, manager("REGISTRY", 0))
    aimed = words_of(adr(p.table.manager), 64, len(data), data) + bytes(-len(data) % 32)
    return Call("mood", p.anyone(), keccak(b"aim(address,bytes)")[:4] + aimed, to=to)


def switch(p: Player) -> Call:
    """A receiver accepts from now on, or no longer: its slot 0 is written behind its back."""
    p.pair.poke(p.table.receivers["accepts if slot 0 is set"], 0, p.rng.randrange(2))
    return Call("look", p.anyone(), manager("closings", 0))
