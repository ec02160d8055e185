"""Every decoder keeps the law: any bytes give a value or its documented refusal, and cost no more than they may.

A short seeded run of each target, the corpus, and a roll call: a public function that says it raises `Malformed` has a
target or a reason. `make verify PART=decoders` runs the same targets for ten million inputs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from channeld.base.errors import Malformed
from tests.attacks import judge, mutate
from tests.attacks.decoders import NOT_HERE, TARGETS
from tests.attacks.judge import Escaped, Target

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
EACH = 2_000
WEIGHED = 25
"""Of these many inputs of each target the memory and calls are counted too."""


def corpus(target: Target) -> list[bytes]:
    """What is kept of a target."""
    path = CORPUS / f"{target.name.replace(' ', '_').replace(chr(39), '')}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [bytes.fromhex(line.partition("#")[0].strip()) for line in lines if line.partition("#")[0].strip()]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_any_bytes_are_a_value_or_the_documented_refusal(target: Target):
    seeds, random = list(target.seeds()), Random(f"test/{target.name}")
    taken = 0
    for _ in range(EACH // 20 if target.slow else EACH):
        taken += judge.law(target, mutate.of(random, seeds, tree=target.tree))
    # Something was refused: the mutations reach the checks. Every memo that its own seed has sealed has a meaning.
    assert taken < EACH or target.name == "memo sealed"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_valid_input_is_taken_so_that_what_is_mutated_is_worth_it(target: Target):
    assert any(judge.law(target, seed) for seed in target.seeds())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_i33_memory_and_calls_are_bounded_by_the_inputs_length(target: Target):
    seeds, random = list(target.seeds()), Random(f"cost/{target.name}")
    for data in [*seeds, *(mutate.of(random, seeds, tree=target.tree) for _ in range(WEIGHED)), *BOMBS]:
        judge.bounded(target, data)


BOMBS = (
    b"\xdc\x0f\xff" * 1_000,
    b"\xdc\x0f\xff" * 20_000,
    b"\xdc\x00\x20" * 20_000,
    b"\xdc\x00\x10" + (b"\xdc\x0f\xff" + b"\x90" * 4_095) * 16,
    b"\xdc\x00\x05" + (b"\xdc\x0f\xff" + b"\xa2ab" * 4_095) * 5,
    b"\xdc\x00\x20" + b"\xda\x07\xf0" * 32 + b"\xf0\x9f\x98\x80" * 16_000,
    b"\x9f" * 60_000,
    (b"\xdc\x00\x20" + b"\x90" * 32) * 1_800,
    b"\xdc\x00\x20" + (b"\xdc\x00\x20" * 31 + b"\x90" * 992) * 32,
    b"\xdc\x00\x20" + (b"\xdc\x00\x20" + (b"\xdc\x00\x20" + b"\x90" * 32) * 32) * 32,
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff" + bytes(100),
    b"\xdb\xff\xff\xff\xff" + b"a" * 100,
    b"\xdf\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'"' + b"\\u202e" * 10_000 + b'"',
    b"9" * 60_000,
    bytes(65_535),
    b"\xff" * 65_535,
)
"""Inputs that promise much, nest deep or are as long as one frame."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_kept_is_played_again(target: Target):
    for data in corpus(target):
        judge.law(target, data)
        judge.bounded(target, data)


def test_every_file_of_the_corpus_has_a_target():
    names = {f"{target.name.replace(' ', '_').replace(chr(39), '')}.txt" for target in TARGETS}
    assert {path.name for path in CORPUS.iterdir()} - {"README.md"} <= names


# ---- the roll call


def decoders(tree: ast.AST, prefix: str) -> Iterator[str]:
    """Names of public functions whose docstring or body says `Malformed`; private classes' methods are no doors."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield from decoders(node, f"{prefix}.{name}")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("_"):
                raises = any(isinstance(one, ast.Raise) and "Malformed" in ast.dump(one) for one in ast.walk(node))
                if raises or "Malformed" in (ast.get_docstring(node) or ""):
                    yield f"{prefix}.{name}"


def test_no_public_decoder_is_left_out():
    found = set()
    for path in sorted((ROOT / "channeld").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "channeld").with_suffix("").parts)
        found |= set(decoders(ast.parse(path.read_text(encoding="utf-8")), module))
    covered = {name for target in TARGETS for name in target.covers}
    missing = {
        name
        for name in found - covered
        if name not in NOT_HERE and not any(name.startswith(f"{outer}.") for outer in NOT_HERE)
    }
    assert not missing
    gone = covered - found  # their docstrings leave it to the file's head
    assert gone <= {
        "wire.handshake.Responder.act_two",
        "wire.handshake.Initiator.act_three",
        "wire.handshake.Responder.finish",
    }


def test_the_roll_call_sees_a_new_decoder():
    text = 'def read(data):\n  """Malformed: too short."""\nclass _Hidden:\n  def take(self):\n    raise Malformed\n'
    assert list(decoders(ast.parse(text), "wire.new")) == ["wire.new.read"]


# ---- the law itself can be broken


def broken_in(what: str, data: bytes) -> object:
    """A decoder with a mistake of some kind."""
    if not data:
        raise Malformed("nothing")
    match what:
        case "index":
            return data[int.from_bytes(data[:1], "big")]
        case "memory":
            return bytes(int.from_bytes(data[:3], "big"))
        case "calls":
            return [len(data) for _ in data for _ in data]
        case _:
            return data


@pytest.mark.parametrize("what", ["index", "memory", "calls"])
def test_a_decoder_with_a_mistake_is_found(what: str):
    target = Target(name=what, decode=lambda data: broken_in(what, data), seeds=lambda: [b"\0" * 150])
    random, found = Random(4), 0
    for _ in range(40):
        try:
            judge.bounded(target, mutate.of(random, [b"\0" * 150], tree=False))
        except Escaped:
            found += 1
    assert found


def test_one_without_mistakes_is_not():
    target = Target(name="good", decode=lambda data: broken_in("", data), seeds=lambda: [b"\0" * 150])
    random = Random(4)
    for _ in range(100):
        judge.bounded(target, mutate.of(random, [b"\0" * 150], tree=False))
