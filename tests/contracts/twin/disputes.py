"""Moves of a dispute: close, challenge, finalize, settle, resolve, register; and calls that make no sense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from channeld.base.digests import close_digest, delegation_digest
from channeld.base.keys import keccak
from channeld.base.units import NATIVE, Address, Digest, Seconds, Timestamp, Version
from tests.contracts.twin.calls import (
    NONE,
    Stored,
    adr,
    challenge_many,
    manager,
    register,
    register_points,
    registry,
    resolve_locks,
    selectors,
    sig,
    words_of,
)
from tests.contracts.twin.deposits import aside
from tests.contracts.twin.forgeries import forged
from tests.contracts.twin.player import BEATEN, CLOSER_B, DEAD, DELEGATED, Call, Player
from tests.contracts.twin.table import EMPTY, RICH, SECRETS, SHOWN, Line, body, role, scalar, secret

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def close(p: Player) -> Call:
    """By a participant, or by its order; with a state or without."""
    line = p.line()
    stored = p.stored(line)
    here = p.rng.randrange(2)
    if p.rng.randrange(3):
        version, hashed = p.version(stored.version), p.hash_of(line, stored)
        signature = p.state(line, version, hashed)[1 - here]
    else:
        version, hashed, signature = 0, b"\x01" * 32 if p.slip(10) else bytes(32), NONE
    salts = line.salts[1 - here], keccak(line.salts[here])
    if p.slip(20):
        salts = p.pick((line.salts[here], keccak(line.salts[1 - here])), (salts[0], bytes(32)))
    bond = line.bond if line.bond <= RICH // 8 else 0
    if p.slip(80):  # in 2106, when the deadline just fits, or no longer
        p.wait(2**32 - 1 - line.period + p.pick(0, 1))
    if p.slip(20):
        bond += 1
    data = words_of(adr(line.token), line.terms, version, hashed, signature, *salts)
    sender = p.anyone() if p.slip(20) else line.participants[here]
    if p.rng.randrange(3) and sender in p.table.roles:
        empty = p.rng.randrange(4) == 0
        return Call("close", sender, manager("close", 8 if empty else 7) + data + bytes(96 if empty else 0), bond)
    key = line.keys[here]
    if key is None:
        return aside(p, Call("close", sender, manager("close", 7) + data, bond))
    until = p.now - 1 if p.slip(20) else p.pick(p.now, p.now + 1000, 2**64 - 1)
    digest = close_digest(p.table.domain, line.id, Version(version), Digest(hashed), Timestamp(until))
    order = words_of(until, p.spoilt(sig(key.sign(digest)), 25))
    return Call("close by order", p.anyone(), manager("close", 8) + data + order, bond)


def _challenge(p: Player, line: Line) -> tuple[Address, bytes]:
    """A challenge, and who is to send it."""
    stored = p.stored(line)
    version, hashed = p.version(stored.version), p.hash_of(line, stored)
    unpaid = stored.flags & (BEATEN | DELEGATED) == BEATEN
    again = unpaid and p.rng.randrange(3) != 0
    if again:
        version, hashed = stored.version, (line.state if not p.slip(6) else hashed)
    signed = list(p.state(line, version, hashed))
    sender = p.anyone()
    if p.rng.randrange(3) == 0:
        here = p.rng.randrange(2)
        sender, signed[here] = (sender if p.slip(10) else line.participants[here]), NONE
    delegation = words_of(adr(NATIVE), 0, NONE)
    if (again and not p.slip(5)) or p.rng.randrange(3) == 0:
        delegation = _delegation(p, line, stored, version)
    return sender, words_of(adr(line.token), line.terms, version, hashed, *signed, delegation)


def _delegation(p: Player, line: Line, stored: Stored, version: int) -> bytes:
    """Payout, delay and signature of the victim."""
    victim = 0 if stored.flags & CLOSER_B else 1
    if p.slip(20):
        victim ^= 1
    payout = p.pick(role("tower").address, *line.payouts, p.table.echo, p.table.receivers["refuses"])
    delay = p.pick(0, 0, 1, 30, 60, 3600, 2**256 - 1)
    digest = delegation_digest(p.table.domain, line.id, Version(version), payout, Seconds(delay))
    return words_of(adr(payout), delay, p.sign(line, victim, digest))


def challenge(p: Player) -> Call:
    sender, given = _challenge(p, p.line())
    return aside(p, Call("challenge", sender, manager("challenge", 1) + given))


def challenges(p: Player) -> Call:
    count = p.pick(32, 33) if p.slip(40) else p.rng.randrange(6)
    sender, items = p.anyone(), []
    for _ in range(count):
        sender, given = _challenge(p, p.line())
        items.append(given)
    return aside(p, Call("challenge_many", sender, challenge_many(items)))


def _after(p: Player, stored: Stored) -> None:
    """Mostly wait for the deadline first."""
    if stored.deadline and not p.slip(10):
        p.wait(stored.deadline + p.pick(1, 1, 1, 1, 1, 500, 0))


def finalize(p: Player) -> Call:
    line = p.line()
    _after(p, p.stored(line))
    hashed = p.hash_of(line, p.stored(line)) if p.slip(15) else line.state
    bond_to = p.anyone() if p.slip(15) else line.bond_to
    return Call(
        "finalize", p.anyone(), manager("finalize", 4) + words_of(adr(line.token), line.terms, hashed, adr(bond_to))
    )


def settle(p: Player) -> Call:
    line = p.line()
    _after(p, p.stored(line))
    data = words_of(adr(line.token), line.terms, _opening(p, line))
    return Call("settle", p.anyone(), manager("settle", 4) + data)


def _opening(p: Player, line: Line) -> bytes:
    """The body of the recorded state and whose the bond is; now and then something else."""
    stored, chosen = p.stored(line), line.body
    if p.slip(12):
        chosen = p.pick(EMPTY, body(p.rng, line, stored.a, stored.b, p.now))
    packed = bytearray(chosen.packed)
    if p.slip(25):
        packed[p.rng.randrange(160)] ^= 1
    return words_of(bytes(packed), adr(p.anyone() if p.slip(20) else line.bond_to))


def resolve(p: Player) -> Call:
    line = p.line()
    text, secrets = _locks(p, line.locks)
    return Call("resolve_locks", p.anyone(), resolve_locks(line.token, line.terms, text, secrets))


def forge(p: Player) -> Call:
    """Resolve a channel's locks by what is not their list; mostly of one that has some."""
    listed = p.listed()
    line = p.rng.choice(listed) if listed and not p.slip(20) else p.line()
    text = forged(p.rng, line.locks, line.body.locks)
    if p.slip(4):
        opening = words_of(line.body.packed, adr(line.bond_to))
        return Call("settle and resolve", p.anyone(), resolve_locks(line.token, line.terms, text, [], opening))
    return Call("resolve_locks", p.anyone(), resolve_locks(line.token, line.terms, text, []))


def at_once(p: Player) -> Call:
    """Settle and resolve in one call: in time or too early, and though somebody has settled meanwhile."""
    line = p.line()
    stored = p.stored(line)
    settled = bool(stored.flags & DEAD)
    if line.state == bytes(32) and not settled and not p.slip(5):
        return settle(p)  # which alone can
    _after(p, stored)
    text, secrets = _locks(p, line.locks if settled != p.slip(12) else line.body.locks)
    opening = _opening(p, line)
    if p.slip(20 if not settled else 3):
        opening = p.pick(bytes(192), bytes(96) + b"\x01" * 32 + bytes(64), p.rng.randbytes(172) + bytes(20))
    return Call("settle and resolve", p.anyone(), resolve_locks(line.token, line.terms, text, secrets, opening))


def _locks(p: Player, listed: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """The list of these locks, mostly, and secrets, of which some may open one; now and then after an expiry."""
    locks = list(listed)
    if locks and p.rng.randrange(3) == 0:
        p.wait(min(int.from_bytes(p.rng.choice(locks)[53:], "big"), p.now + 10_000) + p.pick(-1, 0, 1))
    text = b"".join(locks)
    if p.slip(12):
        text = forged(p.rng, locks, locks)
    if p.slip(200):
        text = bytes(p.pick(57 * 512, 57 * 512 + 1))
    secrets = [secret(p.rng.randrange(SECRETS + 1)) for _ in range(p.pick(0, 0, 1, 2, 3))]
    if p.slip(60):
        secrets = [secret(0)] * p.pick(128, 129)
    return text, secrets


def secrets(p: Player) -> Call:
    lock = _lock_of(p, p.line())
    if lock and lock[9] == 1:
        return Call("register", p.anyone(), register([secret(SHOWN[lock[21:53]])]), to=p.table.registry)
    count = p.pick(128, 129) if p.slip(60) else p.rng.randrange(4)
    shown = [secret(p.rng.randrange(SECRETS)) for _ in range(count)]
    return Call("register", p.anyone(), register(shown), to=p.table.registry)


def _lock_of(p: Player, line: Line) -> bytes | None:
    """Mostly a lock of the channel, when its expiry is near enough to be waited for, on the second or one off."""
    locks = line.locks or line.body.locks
    near = [one for one in locks if p.now <= int.from_bytes(one[53:], "big") <= p.now + 10_000 and one[9] in (1, 2)]
    if not near or p.slip(4):
        return None
    lock = p.rng.choice(near)
    p.wait(int.from_bytes(lock[53:], "big") + p.pick(-1, 0, 0, 1))
    return lock


def scalars(p: Player) -> Call:
    lock = _lock_of(p, p.line())
    if lock and lock[9] == 2:
        return Call("register_points", p.anyone(), register_points([scalar(SHOWN[lock[21:53]])]), to=p.table.registry)
    count = p.pick(128, 129) if p.slip(60) else p.rng.randrange(4)
    shown = [scalar(p.rng.randrange(SECRETS)) for _ in range(count)]
    if shown and p.slip(8):
        shown[p.rng.randrange(len(shown))] = p.pick(0, ORDER, ORDER + 1, 2**256 - 1, ORDER - 1, 1)
    return Call("register_points", p.anyone(), register_points(shown), to=p.table.registry)


def travel(p: Player) -> Call:
    line = p.line()
    stored = p.stored(line)
    p.wait(p.pick(p.now + 1, p.now + 59, p.now + 61, stored.deadline, stored.deadline + 1, p.now + 3600))
    return Call("look", p.anyone(), manager("channel", 1) + line.id)


def nonsense(p: Player) -> Call:
    """What no contract should be sent."""
    kind = p.rng.randrange(8)
    sender = p.anyone()
    if kind == 0:
        return Call("nonsense", sender, b"", p.pick(0, 1))
    if kind == 1:
        return Call("nonsense", sender, p.rng.randbytes(p.rng.randrange(40)))
    if kind == 2:
        selector = p.rng.choice(list(selectors("ChannelManager").values()))
        return Call("nonsense", sender, selector + bytes(p.rng.randrange(3) * 32), p.pick(0, 0, 1))
    if kind == 3:
        return Call("nonsense", sender, registry("registered_at") + p.rng.randbytes(32), to=p.table.registry)
    if p.last.to is not None:
        return Call("nonsense", sender, manager("owed", 2) + p.rng.randbytes(64))
    if kind == 4:
        return Call("nonsense", sender, p.last.data, p.last.value + 1)
    if kind == 5:
        return Call("again", p.last.sender, p.last.data, p.last.value)
    return Call("nonsense", sender, _damaged(p), p.last.value)


LOOSE: Final = {
    manager("deposit_many", 2): (1, 2),
    manager("challenge_many", 1): (0, 1),
    manager("resolve_locks", 4): tuple(range(9, 200)),
    manager("resolve_locks", 5): (9, 10, *range(17, 200)),
}
"""Words of a call that place a list or tell its length. Solidity refuses what points out of the call data, where Vyper
reads zeros; nobody but the sender is any the worse, so such calls are not compared."""


def _damaged(p: Player) -> bytes:
    """The last call, with one thing in a word that does not belong there."""
    data = bytearray(p.last.data)
    words = [word for word in range((len(data) - 4) // 32) if word not in LOOSE.get(bytes(data[:4]), ())]
    if not words:
        return bytes(data)
    at = 4 + 32 * p.rng.choice(words)
    if p.rng.randrange(2):
        data[at] ^= 0x80  # above any address
    else:
        data[at + p.rng.randrange(32)] ^= 1 << p.rng.randrange(8)
    return bytes(data)
