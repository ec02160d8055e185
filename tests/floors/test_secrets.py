"""Secrets are compared in constant time, and signed and sealed with by libraries in C (T66)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from eth_account import Account
from eth_keys.backends.coincurve import CoinCurveECCBackend

ROOT = Path(__file__).parents[2]
SECRETS = {"secret", "payment_secret", "preimage", "salt", "mac", "tag", "passphrase", "password"}
"""Names by which the code calls what nobody may learn byte by byte."""
SLOW = {"eth_keys", "ecdsa", "pyaes", "pure25519", "rsa"}
"""Libraries that sign or encrypt in Python. `eth_account`, which signs transactions, takes its curve from where a test
looks; `Crypto` (scrypt) is C."""
FREE = ("channeld/chain/devchain/", "channeld/cli/demo/")
"""What holds nobody's money: a chain for development, and the demo."""


def name_of(node: ast.expr) -> str:
    """The last name of an expression that is a name, an attribute or a call of one, without leading underscores."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lstrip("_")
        case ast.Call(func=called):
            return name_of(called)
        case _:
            return ""


def compared(text: str) -> Iterator[int]:
    """Lines on which a secret is compared by `==` or `!=` with something that is no constant."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(name_of(side) in SECRETS for side in sides) and not any(isinstance(s, ast.Constant) for s in sides):
            yield node.lineno


def imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def sources() -> Iterator[tuple[str, str]]:
    for folder in ("channeld", "routing"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if not where.startswith(FREE):
                yield where, path.read_text(encoding="utf-8")


def test_the_search_finds_what_it_looks_for():
    for text in ("a.secret == b", "x = tag(k) != mac", "if told.payment_secret != invoice.secret: pass"):
        assert list(compared(text)) == [1]
    for text in ("tag == 'latest'", "secret is None", "hmac.compare_digest(tag, mac)", "secrets == 3", "a < salt"):
        assert not list(compared(text))
    assert set(imported("import eth_keys.backends\nfrom ecdsa.util import x\nfrom . import y")) == {"eth_keys", "ecdsa"}


def test_t66_no_secret_is_compared_byte_by_byte():
    assert [f"{where}:{line}" for where, text in sources() for line in compared(text)] == []


def test_t66_nothing_signs_or_seals_in_python():
    every = list(sources())
    assert len(every) > 100
    assert [where for where, text in every if SLOW & set(imported(text))] == []
    keys = dict(every)["channeld/base/keys.py"]
    assert "coincurve" in set(imported(keys))


def test_t66_transactions_are_signed_by_the_library_in_c_too():
    assert type(Account()._keys.backend) is CoinCurveECCBackend
