"""Part "guards": each lemma fails when what it rests on is taken out of the contract.

A proof may hold because it says nothing. So each guard of a lemma (`tests.verify.halmos`) is removed from the source of
the manager, which is compiled, and the case that names it must find a counterexample. Any that does not is a finding,
and so is a guard whose text is not there exactly once.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.verify import forge, halmos
from tests.verify.part import Counts, Found, Part

CONTRACTS: Final = forge.ROOT / "contracts"
GUARDS: Final = tuple((lemma, guard) for lemma in halmos.LEMMAS for guard in lemma.guards)


def without(guard: halmos.Guard) -> str:
    """The manager's source with a guard broken; Found if the source is not as the guard says."""
    source = (CONTRACTS / "ChannelManager.vy").read_text(encoding="utf-8")
    for old, new in guard.changes:
        if source.count(old) != 1:
            raise Found(f"guard {guard.name!r}: {old!r} is in the source {source.count(old)} times")
        source = source.replace(old, new)
    return source


def init_code(source: str, folder: Path) -> bytes:
    """What the pinned compiler makes of a source of the manager, as `contracts.build` does it."""
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle

    path = folder / "ChannelManager.vy"
    forge.write_if_new(path, source)
    bundle = FilesystemInputBundle([CONTRACTS, folder])
    out = compile_from_file_input(
        bundle.load_file(path), input_bundle=bundle, output_formats=["bytecode"], no_bytecode_metadata=True
    )
    return bytes.fromhex(out["bytecode"].removeprefix("0x"))


def run(seed: int, chunk: int) -> Counts:
    """Break one guard; there is no chance in it."""
    reason = halmos.missing()
    if reason:
        raise RuntimeError(reason)
    lemma, guard = GUARDS[chunk]
    folder = forge.ROOT / "build" / "guards" / str(chunk)  # its own: two runs at once would compile each other's
    halmos.prepare(folder, init_code(without(guard), folder / "broken"))
    verdicts, said = halmos.prove(folder, lemma.name, guard.case, quick=True)
    if [one.end for one in verdicts] != ["FAIL"]:
        raise Found(f"lemma {lemma.name} does without {guard.name!r}: {verdicts}\n{said[-4000:]}")
    return {"guards": 1, "counterexamples": 1}


def tools() -> dict[str, str]:
    """Versions of halmos, what it rests on, and the compiler."""
    return {**halmos.tools(), "vyper": version("vyper")}


PART: Final = Part(
    name="guards",
    what="every lemma fails without the guard it rests on",
    chunks=len(GUARDS),
    run=run,
    tools=tools,
    about=("contracts/ChannelManager.vy", "tests/contracts/halmos", "tests/verify/halmos.py", "tests/verify/guards.py"),
)
