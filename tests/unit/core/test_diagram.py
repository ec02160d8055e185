"""The picture in channeld/core/README.md is drawn from MOVES, and the text names every rule."""

from __future__ import annotations

from pathlib import Path

import pytest

import channeld.core
from channeld.core.channel import Phase
from channeld.core.diagram import draw, main, redraw

README = Path(channeld.core.__file__).with_name("README.md")


def test_the_picture_is_fresh():
    text = README.read_text(encoding="utf-8")
    assert redraw(text) == text, "run: python -m channeld.core.diagram channeld/core/README.md"


def test_every_phase_is_in_the_picture():
    drawn = draw()
    for phase in Phase:
        assert f" {phase.name}" in drawn
    assert "FROZEN --> OPEN" not in drawn


@pytest.mark.parametrize("rule", [f"R{number}" for number in range(1, 23)])
def test_every_rule_is_told(rule: str):
    assert rule in README.read_text(encoding="utf-8")


def test_a_text_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="Mermaid"):
        redraw("no picture")


def test_it_prints(capsys: pytest.CaptureFixture[str]):
    main([])
    assert capsys.readouterr().out == draw()
    main([str(README)])
    assert capsys.readouterr().out == README.read_text(encoding="utf-8")
