"""The breaks of the rules fit the source, and `RULES.md` names for each a walk or a test that is there.

That what it names does catch the break is tried by `make verify PART=rules`; here only that no change of the source or
of a test has left a break behind that nobody could try.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import channeld
from tests.machines.broken import LIVENESS, MUTANTS, Mutant
from tests.machines.play import ALL
from tests.machines.rules import ROOT, WALK, record

RULES = tuple(f"R{number}" for number in range(1, 23))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_break_fits_the_source_and_changes_it(mutant: Mutant):
    source = (Path(channeld.__file__).parent / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1
    broken = source.replace(mutant.old, mutant.new)
    assert broken != source
    compile(broken, mutant.file, "exec")


def test_every_rule_is_broken_and_no_two_breaks_have_one_name():
    assert {mutant.rule.split(".")[0] for mutant in MUTANTS} >= set(RULES)
    names = Counter(mutant.name for mutant in MUTANTS)
    assert max(names.values()) == 1
    assert set(names) >= LIVENESS


def test_the_record_says_of_every_break_what_catches_it():
    assert set(record()) == {mutant.name for mutant in MUTANTS}


@pytest.mark.parametrize("killer", sorted(set(record().values())))
def test_what_catches_a_break_is_there(killer: str):
    walk = WALK.fullmatch(killer)
    if walk is not None:
        assert int(walk["seed"]) < ALL[walk["machine"]][1]
        return
    path, _, name = killer.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {re.escape(name.partition('[')[0])}\(", text, re.MULTILINE)
