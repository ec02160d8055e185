"""Twins with one thing wrong: what the comparison must find, or it would prove nothing.

Each is a file, what it says, and what it is to say instead. What is wrong in both contracts is no difference; `HOLES`
are for the laws.
"""

from __future__ import annotations

from typing import Final

WRONG: Final = {
    "a list may be of any length": ("Disputes.sol", "        if (locks.length % LOCK_BYTES != 0) return;\n", ""),
    "a deadline is over when it is reached": (
        "ChannelManager.sol",
        'require(block.timestamp > _deadline(word), "too early");\n        require(records',
        'require(block.timestamp >= _deadline(word), "too early");\n        require(records',
    ),
    "locks are held in full": ("Disputes.sol", "_min(body.locked_ab, paidA)", "_min(paidA, paidA)"),
}
"""Found by the few sequences of the fast test."""
Change = tuple[str, str, str]
Hole = tuple[tuple[str, str], Change]
HOLES: Final[dict[str, Hole]] = {
    "the bytes hashed into a chain count as a list": (
        (
            """    if len(locks) % LOCK_BYTES != 0:
        return due_a, due_b
""",
            "",
        ),
        ("Disputes.sol", "        if (locks.length % LOCK_BYTES != 0) return;\n", ""),
    ),
    "a list is not compared with the record": (
        ("    if not whole and seen != record:\n        return due_a, due_b\n", ""),
        ("Disputes.sol", "        if (!tally.whole && tally.seen != record) return;\n", ""),
    ),
    "what stays is not in the list's order": (
        ("rest = keccak256(concat(rest, entry))", "rest = keccak256(concat(entry, rest))"),
        (
            "Disputes.sol",
            "keccak256(abi.encodePacked(tally.rest, entry))",
            "keccak256(abi.encodePacked(entry, tally.rest))",
        ),
    ),
    "net is not taken from B": (
        ("    return a + taken, b - taken", "    return a + taken, b"),
        ("Disputes.sol", "return (a + taken, b - taken);", "return (a + taken, b);"),
    ),
    "a refused payout is owed to nobody": (
        ("        self._owe(empty(address), to, amount)\n", "        pass\n"),
        ("Payouts.sol", '"")) _owe(address(0), to, amount);', '"")) return;'),
    ),
    "the recorded list is refused once it is a chain": (
        ("if not whole and seen != record:", "if not whole:"),
        ("Disputes.sol", "if (!tally.whole && tally.seen != record) return;", "if (!tally.whole) return;"),
    ),
}
"""The same wrong in both, so that there is no difference: what the Vyper source says and what instead, and the twin's
file and the same of it. Only a law finds these; the first was a theft."""
SUBTLE: Final = {
    "a close in 2106 has a deadline of few bits": (
        "Disputes.sol",
        'require(deadline <= MASK32, "too late");',
        "deadline &= MASK32;",
    ),
    "a batch looks at amounts only when it credits": (
        "ChannelManager.sol",
        'require(deposits[i].amount <= MASK88, "too much");',
        "",
    ),
    "a secret at the expiry is too late": ("Disputes.sol", "registered <= expiry", "registered < expiry"),
    "no lock against calls from inside": ("Base.sol", "entered = true;", "entered = false;"),
    "a delegation counts a second late": ("Disputes.sol", ">= given.delay", "> given.delay"),
    "the parity of a signature is not looked at": (
        "Base.sol",
        "uint8(27 + (uint256(signature.vs) >> 255))",
        "uint8(27)",
    ),
    "a close order never expires": ("Disputes.sol", "block.timestamp <= order.valid_until", "true"),
    "the oldest version counts": ("Payouts.sol", "agreed.version > _version(word)", "agreed.version >= _version(word)"),
    "a refused payout is forgotten": ("Payouts.sol", '"")) _owe(address(0), to, amount);', '"")) return;'),
    "what a token did not move is paid": ("Payouts.sol", "if (moved != amount) _owe", "if (moved > amount) _owe"),
    "a void state still pays": ("Disputes.sol", "if (word & VOID != 0) return", "if (word & DEAD != 0) return"),
    "the bond is the closer's though beaten": ("Disputes.sol", "closerB == beaten ?", "!closerB ?"),
    "net is not clamped to what B has": ("Disputes.sol", "uint256 taken = _min(size, b);", "uint256 taken = size;"),
    "a batch stops where one is refused": (
        "ChannelManager.sol",
        "if (bytes(_challenge(given[i])).length == 0) counted |= 1 << i;",
        "if (bytes(_challenge(given[i])).length != 0) break; else counted |= 1 << i;",
    ),
    "a version is presented again without a delegation": (
        "Disputes.sol",
        'if (bondTo == address(0)) return "nothing new";',
        "",
    ),
    "too little gas fails a payout": ("Payouts.sol", "COIN_GAS_LEFT = 90_000", "COIN_GAS_LEFT = 30_000"),
    "too little gas fails a payout of a token": ("Payouts.sol", "TOKEN_GAS_LEFT = 106_000", "TOKEN_GAS_LEFT = 50_000"),
    "more gas for the receiver": ("Payouts.sol", "COIN_GAS = 50_000", "COIN_GAS = 60_000"),
    "what settling pays is lost if locks are resolved with it": (
        "Disputes.sol",
        "due.a = _add(due.a, tally.paidA);",
        "due.a = tally.paidA;",
    ),
    "an opening is looked at though somebody has settled": (
        "ChannelManager.sol",
        "if (words[id] & DEAD == 0) {",
        "if (words[id] & DEAD == 0 || opening.body.locks_hash != 0) {",
    ),
    "a channel closed without a state is settled with its locks": (
        "ChannelManager.sol",
        'require(opening.body.locks_hash != 0, "not settled");',
        "",
    ),
    "the bond goes out after the money": (
        "Payouts.sol",
        """        _pushCoin(due.winner, due.bond);
        _pay(token, terms.payout_a, due.a, terms.payout_b, due.b);""",
        """        _pay(token, terms.payout_a, due.a, terms.payout_b, due.b);
        _pushCoin(due.winner, due.bond);""",
    ),
    "a memo is logged though it is none": ("Payouts.sol", "if (memo[0] != 0) emit", "if (memo[1] != 0) emit"),
    "the sum of the deposits may be too large": (
        "Payouts.sol",
        "MASK88 - _depositA(word) - _depositB(word)",
        "MASK88 - _depositA(word)",
    ),
}
"""Found by a campaign of some thousand sequences."""
