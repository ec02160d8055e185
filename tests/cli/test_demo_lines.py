"""The demo's lines: what holds is printed, what does not ends it under the line's name; the picture adds up."""

from __future__ import annotations

import json

import httpx
import pytest
import trio

from channeld.base.errors import Refused
from channeld.cli.demo.show import BAR, Failed, Show, Tube, signed, usd
from channeld.cli.output import Output
from channeld.client import ApiError


def shown(as_json: bool) -> Show:
    return Show(Output(as_json), clock=iter([0.0, *[2.5] * 20]).__next__)


def test_a_line_that_holds_is_printed_with_its_facts(capsys):
    with shown(True).line("pay", "paying") as line:
        line.equal("the fee", 3, 3)
        line.say("paid", fee="3")
    assert json.loads(capsys.readouterr().out) == {"at": 2.5, "line": "pay", "ok": True, "text": "paid", "fee": "3"}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (ApiError("no_route", "no way there"), "no way there (no_route)"),
        (Refused("too_late", "the channel is open"), "the channel is open (too_late)"),
        (trio.TooSlowError(), "it took too long"),
        (httpx.ConnectError("refused"), "ConnectError: refused"),
        (ExceptionGroup("two", [ApiError("busy", "later")]), "later (busy)"),
        (ExceptionGroup("own", [Failed("pay", "the fee is 4, not 3")]), "the fee is 4, not 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_goes_wrong_in_an_act_fails_its_line(capsys, fault, why):
    with pytest.raises(Failed) as failed, shown(True).line("pay"):
        raise fault
    printed = json.loads(capsys.readouterr().out)
    assert (printed["line"], printed["ok"]) == ("pay", False)
    assert printed["text"] == why
    assert failed.value.text == f"line `pay` does not hold: {why}"


def test_what_is_not_equal_says_both(capsys):
    with pytest.raises(Failed, match="the fee is 4, not 3"), shown(False).line("pay") as line:
        line.equal("the fee", 4, 3)
    assert "✗ pay" in capsys.readouterr().out


def test_a_fault_of_the_demo_itself_is_no_failed_line():
    with pytest.raises(ZeroDivisionError), shown(True).line("pay"):
        raise ZeroDivisionError


def test_the_picture_has_every_party_and_every_balance(capsys):
    tubes = [
        Tube(left="payer", right="hub", left_has=30 * 10**6, right_has=10 * 10**6),
        Tube(left="hub", right="merchant", left_has=0, right_has=0),
    ]
    shown(False).picture(tubes)
    names, bars = capsys.readouterr().out.strip("\n").splitlines()
    assert [word for word in names.split() if "─" not in word] == ["payer", "hub", "merchant"]
    assert bars.split() == ["30.00", "█" * (BAR * 3 // 4) + "░" * (BAR // 4), "10.00", "0.00", "░" * BAR, "0.00"]


def test_amounts_are_shown_in_full():
    assert [usd(units) for units in (0, 1, 1_500_000, 40_104_010)] == ["0.00", "0.000001", "1.50", "40.10401"]
    assert (signed(-1_000), signed(0)) == ("− 1_000", "+ 0")
