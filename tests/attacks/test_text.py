"""Text from outside at each door to a log or a terminal: one line, visible, bounded, whatever a stranger wrote."""

from __future__ import annotations

import ast
import json
import logging
import sys
from pathlib import Path

import pytest

from channeld.base.plain import LONGEST, plain
from channeld.cli.exits import Ending, Exit
from channeld.cli.logs import BURST, MESSAGE, TRACE, OneLine, Steady
from channeld.cli.output import LINE, VALUE, Output

ROOT = Path(__file__).parents[2]
HOSTILE = {
    "colours": "\x1b[2J\x1b[31mall is well",
    "C1 control sequence": "\x9b2Jgone",
    "a forged entry": 'x\ntime=2026-01-01T00:00:00.000Z level=info msg="paid"',
    "a line separator": "x\u2028y\u2029z\x85w",
    "turned round": "\u202etxt.exe\u2066",
    "nul and delete": "\0\x7f\x08\x08",
    "carriage return": "x\roverwritten",
    "a quote that ends": 'x" level=critical msg="y',
    "a backslash before the quote": 'x\\" y\\',
    "half a pair": "\ud800\udfff",
    "tags and joiners": "\U000e0041\u200d\ufeff",
    "sixty-four KiB": "A" * 65_536,
    "sixty-four KiB of escapes": "\x1b" * 65_536,
}


def is_harmless(text: str, most: int) -> bool:
    """One visible line of bounded length."""
    line = text.removesuffix("\n")
    return line.isprintable() and len(text) <= most


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_line_stays_one_line(name: str, as_json: bool):
    form = OneLine(as_json=as_json)
    try:
        raise ValueError(HOSTILE[name])
    except ValueError:
        trouble = sys.exc_info()
    record = logging.LogRecord("channeld.node.x", 30, "f", 1, "peer says %s", (HOSTILE[name],), trouble)
    said = form.format(record)
    assert is_harmless(said, 12 * (2 * MESSAGE + TRACE))
    if as_json:
        assert json.loads(said)["level"] == "warning"
    else:
        assert fields(said).keys() == {"time", "level", "at", "msg", "fault", "trace"}
        assert fields(said)["level"] == "warning"


def fields(line: str) -> dict[str, str]:
    """The key=value pairs of a log line, read as a program would that trusts the quotes."""
    found: dict[str, str] = {}
    at = 0
    while at < len(line):
        name, _, _ = line[at:].partition("=")
        at += len(name) + 1
        end = at
        if line[at : at + 1] == '"':
            end += 1
            while line[end] != '"':
                end += 2 if line[end] == "\\" else 1
            end += 1
        else:
            end = at + len(line[at:].partition(" ")[0])
        assert name.isidentifier(), name
        assert name not in found, name
        found[name] = line[at:end]
        at = end + 1
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_what_people_read_stays_on_its_line(name: str, capsys: pytest.CaptureFixture[str]):
    text, out = HOSTILE[name], Output(as_json=False)
    out.show({}, [("description", text), ("state", "open")])
    first, second = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert is_harmless(first, 12 * VALUE)
    assert second.split() == ["state", "open"]
    out.error(Ending(code="peer_refused", message=text, hint=text, exit=Exit.REFUSED))
    told = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert len(told) == 2
    assert all(is_harmless(line, 12 * LONGEST) for line in told)
    out.table([], ["alias", ">n"], [(text[:200], 1), ("other", 2)], "")
    rows = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert all(row.isprintable() for row in rows)
    assert len(rows) in (3, 4, 5)  # a head and two rows, the first folded at the width where it is long


@pytest.mark.parametrize("name", HOSTILE)
def test_a_line_of_text_stays_a_line(name: str, capsys: pytest.CaptureFixture[str]):
    Output(as_json=False).text(HOSTILE[name], "ours")
    first, second = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert is_harmless(first, 12 * LINE)
    assert second == "ours"


def record(number: int, at: float, *, line: int = 1, level: int = 20) -> logging.LogRecord:
    made = logging.LogRecord("channeld.node.x", level, "f", line, "peer says %d", (number,), None)
    made.created = at
    return made


def test_one_place_writes_a_burst_and_then_one_line_each_second():
    steady = Steady()
    passed = [one for one in (record(n, 1_000 + n / 100) for n in range(10_000)) if steady.filter(one)]
    assert BURST <= len(passed) <= BURST + 100  # in a hundred seconds
    assert "like it left out" in passed[-1].getMessage()
    assert passed[0].getMessage() == "peer says 0"
    assert steady.filter(record(1, 1_100, line=2))  # another place in the program
    assert all(steady.filter(record(n, 1_100, level=40)) for n in range(1_000))
    assert sum(steady.filter(record(n, 5_000)) for n in range(10_000)) == BURST
    assert steady.filter(record(1, 10)) is False  # a clock set back gives nothing


@pytest.mark.parametrize("name", HOSTILE)
def test_json_for_a_pipe_is_ascii(name: str, capsys: pytest.CaptureFixture[str]):
    Output(as_json=True).value({"alias": HOSTILE[name]})
    said = capsys.readouterr().out
    assert said.isascii()
    assert said.count("\n") == 1
    assert json.loads(said)["alias"] == json.loads(json.dumps(HOSTILE[name]))  # two halves come back as a pair


def test_what_is_harmless_is_left_as_it_is():
    assert plain("a cup of tea, € 3 — 茶") == "a cup of tea, € 3 — 茶"
    assert plain("x" * 11, 10) == "x" * 10 + "… (1 more)"
    assert plain("a\nb\x1b") == "a\\nb\\x1b"


def test_nothing_else_of_the_command_line_writes():
    """A new `print` would be a door of its own: each file that writes to a stream is looked at here."""
    writers = set()
    for path in sorted((ROOT / "channeld").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("print", "sys.stdout.write", "sys.stderr.write", "click.echo", "logging.StreamHandler"):
                writers.add(path.relative_to(ROOT / "channeld").as_posix())
    assert writers == {
        "cli/logs.py",
        "cli/output.py",
        "cli/routing.py",  # JSON, which is ASCII
        "cli/demo/show.py",  # progress of the demo's own lines
        "core/diagram.py",  # prints the picture of the phases, at development time
    }
