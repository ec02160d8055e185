"""Every error has one exit code, and the table in the docstring is the one in the code."""

from __future__ import annotations

import re

import pytest

from channeld.api.schema import FAULTS, Number
from channeld.base.errors import Answer, Broken, Malformed, PeerFault, Refused, Unreachable
from channeld.cli import exits
from channeld.cli.exits import Exit, ending
from channeld.client import ApiError


def test_the_table_lists_every_code():
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", exits.__doc__ or "", re.MULTILINE)}
    assert told == set(Exit)


@pytest.mark.parametrize("code", FAULTS)
def test_every_code_of_the_schema_has_an_exit(code):
    by_name, by_number = ending(Refused(code, "text")), ending(ApiError(code, "text", number=FAULTS[code].number))
    assert by_name
    assert by_number
    assert by_name.exit == by_number.exit != Exit.OK


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Refused("unknown_channel", ""), 5),
        (Refused("insufficient_balance", ""), 6),
        (Refused("no_route", ""), 7),
        (Refused("wrong_passphrase", ""), 4),
        (Refused("bad_config", ""), 2),
        (Refused("something_new", ""), 8),
        (ApiError("unknown_thing", "", number=Number.NOT_FOUND), 5),
        (ApiError("odd", "", number=-1), 8),
        (Unreachable("x"), 3),
        (PeerFault(Answer.WARN, "x"), 3),
        (Malformed("x"), 2),
        (Broken("x"), 1),
        (KeyboardInterrupt(), 130),
        (OSError(98, "in use"), 8),
        (ExceptionGroup("g", [ExceptionGroup("h", [Refused("safe_mode", "")])]), 8),
        (ExceptionGroup("g", [ValueError(), Unreachable("x")]), 3),
    ],
)
def test_exit_codes(fault, code):
    told = ending(fault)
    assert told
    assert told.exit == code


def test_what_was_not_raised_on_purpose_has_no_ending():
    assert ending(KeyError("x")) is None
    assert ending(ExceptionGroup("g", [KeyError("x")])) is None
