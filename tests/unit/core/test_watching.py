"""The judge, at each of its boundaries; the node and the tower ask the same one."""

from __future__ import annotations

import pytest

from channeld.base.units import Seconds, Timestamp, Version
from channeld.core.watching import Case, Evidence, Verdict, judge

CLOSED_AT = 1_000
PERIOD = Seconds(100)
DEADLINE = Timestamp(CLOSED_AT + PERIOD)


def verdict(now: int, *, case: int = 3, evidence: int = 3, by: bool = False, mine: bool = False, delay: int = 0) -> str:
    """`by`: somebody's delegation stands; `mine`: we hold one, that counts after `delay`."""
    return judge(
        Case(version=Version(case), deadline=DEADLINE, delegated=by, final=False),
        Evidence(version=Version(evidence), delegated=mine, delay=Seconds(delay)),
        now=Timestamp(now),
        period=PERIOD,
    ).name


@pytest.mark.parametrize("now", [0, CLOSED_AT, DEADLINE, DEADLINE + 1, DEADLINE + 10_000])
def test_a_final_case_is_done(now: int):
    case = Case(version=Version(1), deadline=DEADLINE, delegated=False, final=True)
    assert judge(case, Evidence(version=Version(9)), now=Timestamp(now), period=PERIOD) is Verdict.DONE


@pytest.mark.parametrize("now", [CLOSED_AT, DEADLINE, DEADLINE + 10_000])
def test_a_newer_state_is_presented_at_once_and_until_final(now: int):
    assert verdict(now, evidence=4) == "CHALLENGE"


@pytest.mark.parametrize(
    ("now", "said"),
    [(CLOSED_AT, "WAIT"), (CLOSED_AT + 49, "WAIT"), (CLOSED_AT + 50, "CHALLENGE"), (DEADLINE + 1, "CHALLENGE")],
)
def test_a_delegate_waits_until_it_earns(now: int, said: str):
    assert verdict(now, evidence=4, mine=True, delay=50) == said


@pytest.mark.parametrize(("now", "said"), [(CLOSED_AT + 59, "WAIT"), (CLOSED_AT + 60, "CHALLENGE")])
def test_from_sixty_percent_on_it_goes_unpaid_rather_than_too_late(now: int, said: str):
    assert verdict(now, evidence=4, mine=True, delay=90) == said


@pytest.mark.parametrize("now", [CLOSED_AT, DEADLINE])
@pytest.mark.parametrize("evidence", [2, 3])
def test_nothing_to_do_before_the_deadline(now: int, evidence: int):
    assert verdict(now, evidence=evidence) == "WAIT"


@pytest.mark.parametrize("evidence", [2, 3])
def test_finalize_from_the_first_second_after_the_deadline(evidence: int):
    assert verdict(DEADLINE + 1, evidence=evidence) == "FINALIZE"


@pytest.mark.parametrize(
    ("now", "by", "mine", "said"),
    [
        (CLOSED_AT + 50, False, True, "ATTACH"),
        (CLOSED_AT + 49, False, True, "WAIT"),
        (CLOSED_AT + 50, True, True, "WAIT"),
        (CLOSED_AT + 50, False, False, "WAIT"),
        (DEADLINE + 1, False, True, "ATTACH"),
        (DEADLINE + 1, True, True, "FINALIZE"),
    ],
)
def test_the_tie_rule_brings_the_delegation(now: int, by: bool, mine: bool, said: str):
    assert verdict(now, by=by, mine=mine, delay=50) == said
