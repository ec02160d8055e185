"""Every code the program refuses by is one a caller can look up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import channeld
from channeld.api.schema import FAULTS, NODE, TOWER, Number, number_of
from channeld.node.attempts import _hop_code, _payee_code
from channeld.node.reasons import NO_WAY
from channeld.wire.failure import FailureCode
from routing.search import Reason

ROOT = Path(channeld.__file__).parent.parent


def raised() -> Iterator[tuple[str, str]]:
    """Each code that stands in a `Refused(…)` of ours, literally or by a constant of its module, and where."""
    for package in ("channeld", "routing", "contracts"):
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            constants = {
                node.target.id: node.value.value
                for node in tree.body
                if isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            }
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused"):
                    continue
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                match node.args[:1]:
                    case [ast.Constant(value=str(code))]:
                        yield code, where
                    case [ast.Name(id=name)] if name in constants:
                        yield constants[name], where
                    case _:  # one that is passed on
                        pass


def test_every_code_we_refuse_by_has_a_meaning():
    found = list(raised())
    assert len(found) > 100, "the search finds nothing: was Refused renamed?"
    assert [f"{where}: {code}" for code, where in found if code not in FAULTS] == []


def test_every_code_a_payment_may_end_with_has_a_meaning():
    said = {_hop_code(code, at, 3) for code in FailureCode for at in range(3)}
    assert said | {_payee_code(code) for code in FailureCode} | {
        NO_WAY.get(one, one) for one in get_args(Reason)
    } <= set(FAULTS)


def test_codes_are_stable_words_in_one_family_each():
    for code, fault in FAULTS.items():
        assert re.fullmatch(r"[a-z][a-z_]{2,31}", code)
        assert fault.code == code
        assert number_of(code) is fault.number
        assert fault.meaning
        assert len(fault.meaning) <= 80


def test_a_code_nobody_listed_still_has_a_family():
    assert number_of("unknown_thing") is Number.NOT_FOUND
    assert number_of("insufficient_patience") is Number.INSUFFICIENT
    assert number_of("payment_lost") is Number.PAYMENT_FAILED
    assert number_of("something_else") is Number.REFUSED


def test_methods_name_only_codes_there_are():
    for schema in (NODE, TOWER):
        for method in schema.methods.values():
            assert set(method.errors) <= set(FAULTS), method.name
