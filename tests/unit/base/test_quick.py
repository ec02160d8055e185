"""The quick `replace` does what the standard one does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields

import pytest

from channeld.base.errors import Broken
from channeld.base.quick import replace
from channeld.base.units import Amount
from channeld.core.channel import Channel
from tests.roles import open_pair


@dataclass(frozen=True, slots=True)
class Pair:
    first: int
    second: int = 2


def test_it_is_what_the_standard_function_makes() -> None:
    channel = open_pair().opener.channel
    changes = {"leaving": True, "reserved": Amount(7), "reason": "because"}
    quick, standard = replace(channel, **changes), dataclasses.replace(channel, **changes)  # type: ignore[arg-type]
    assert quick == standard
    assert all(getattr(quick, field.name) == getattr(standard, field.name) for field in fields(Channel))
    assert channel.reason == ""


def test_laws_are_checked() -> None:
    channel = open_pair().opener.channel
    with pytest.raises(Broken, match="below zero"):
        replace(channel, told=(Amount(-1), Amount(0)))


def test_a_class_without_laws() -> None:
    assert replace(Pair(1), second=5) == Pair(1, 5)


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="no field third"):
        replace(Pair(1), third=3)  # type: ignore[call-arg]
