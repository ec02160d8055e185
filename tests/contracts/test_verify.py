"""What the long campaigns rest on: chunks are remembered, mutants are really different, no list names what is gone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from contracts import artifact
from tests.contracts.evm import Evm
from tests.contracts.mutants import KILLERS, SOURCES, equivalent, mutants
from tests.verify import ledger
from tests.verify.__main__ import parts
from tests.verify.ledger import Done
from tests.verify.part import Page, Part


def done(chunk: int, *, seed: int = 1, code: str = "aa", **counts: int) -> Done:
    return Done(
        part="some",
        seed=seed,
        chunk=chunk,
        counts=counts,
        seconds=60,
        date="2026-01-01",
        code=code,
        tools={"tool": "1.0"},
    )


PART = Part(name="some", what="something", chunks=3, run=lambda seed, chunk: {}, tools=dict)


def test_a_chunk_counts_for_its_bytecode_and_seed_only(tmp_path: Path) -> None:
    for one in (done(0, calls=5), done(1, calls=7), done(2, code="bb"), done(1, seed=2, calls=1)):
        ledger.add(one, tmp_path)
    kept = ledger.load("some", tmp_path)
    assert sorted(ledger.newest(kept, "aa", 1)) == [0, 1]
    assert sorted(ledger.newest(kept, "aa", 2)) == [1]
    assert sorted(ledger.newest(kept, "bb", 1)) == [2]
    assert ledger.total(ledger.newest(kept, "aa", 1).values()) == {"calls": 12}


def test_the_table_shows_what_holds_for_the_code_as_it_is(tmp_path: Path) -> None:
    now = ledger.subject(PART)
    ledger.add(done(0, code="another", calls=3), tmp_path)
    assert "not run" in ledger.table([PART], tmp_path)
    for one in (done(0, code=now, calls=5), done(1, code=now, calls=7)):
        ledger.add(one, tmp_path)
    row = ledger.table([PART], tmp_path).splitlines()[-1]
    assert "12 calls" in row and "2 of 3" in row and "2026-01-01" in row and "tool 1.0" in row


def test_a_change_of_what_a_result_rests_on_voids_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "rules.py").write_text("one", encoding="utf-8")
    part = replace(PART, about=("model",))
    before = ledger.subject(part, tmp_path)
    assert before != ledger.subject(PART, tmp_path)
    assert before == ledger.subject(part, tmp_path)
    (tmp_path / "model" / "rules.py").write_text("two", encoding="utf-8")
    assert before != ledger.subject(part, tmp_path)


def test_a_line_that_a_crash_cut_short_is_forgotten(tmp_path: Path) -> None:
    ledger.add(done(0, calls=5), tmp_path)
    with (tmp_path / "some.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"part": "some", "se')
    assert [one.chunk for one in ledger.load("some", tmp_path)] == [0]
    ledger.add(done(1, calls=7), tmp_path)
    assert [one.chunk for one in ledger.load("some", tmp_path)] == [0, 1]


def test_the_results_go_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{ledger.BEGIN}\nold\n{ledger.END}\nafter\n", encoding="utf-8")
    ledger.write(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{ledger.BEGIN}\n\nnew\n\n{ledger.END}\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="no place"):
        ledger.write(page, "new")


def test_the_page_names_every_part(revm: type[Evm]) -> None:
    assert revm, "the campaigns rest on it"
    texts = {page: (ledger.ROOT / page.value).read_text(encoding="utf-8") for page in Page}
    for part in parts():
        text = texts[part.page]
        assert f"`{part.name}`" in text
        assert part.chunks > 0
        assert part.about, f"{part.name}: what does a result rest on?"
        assert all((ledger.ROOT / place).exists() for place in part.about)
    assert all(ledger.BEGIN in text and ledger.END in text for text in texts.values())


def test_the_engine_is_not_voided_by_a_new_bytecode_and_the_contracts_are(tmp_path: Path) -> None:
    """A part of the engine rests on its files alone; one of the contracts on the bytecode besides."""
    (tmp_path / "file").write_text("one", encoding="utf-8")
    given = Part(name="p", what="w", chunks=1, run=lambda seed, chunk: {}, tools=dict, about=("file",))
    contracts, engine = (ledger.subject(replace(given, page=page), tmp_path) for page in Page)
    plain = hashlib.sha256(b"file\0one").hexdigest()
    assert engine == plain != contracts
    (tmp_path / "file").write_text("two", encoding="utf-8")
    assert ledger.subject(replace(given, page=Page.ENGINE), tmp_path) != engine


def test_mutants_differ_from_the_source_and_from_each_other() -> None:
    every = mutants()
    sources = {name: (Path("contracts") / f"{name}.vy") for name in SOURCES}
    root = ledger.ROOT
    originals = {name: (root / path).read_text(encoding="utf-8") for name, path in sources.items()}
    assert len(every) > 150
    assert len({mutant.name for mutant in every}) == len(every)
    assert all(mutant.source != originals[mutant.contract] for mutant in every)
    assert equivalent().keys() <= {mutant.name for mutant in every}
    asserts = sum(text.count("    assert ") for text in originals.values())
    assert sum(mutant.name.endswith("[True]") for mutant in every) == asserts


def test_every_killer_is_there() -> None:
    folder = Path(__file__).parent
    assert [name for name in KILLERS if not (folder / name.split("::")[0]).exists()] == []
    assert artifact("ChannelManager").code_hash
