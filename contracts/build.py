"""`python -m contracts.build` compiles the sources into `contracts/artifacts` and writes the manager's interface.

`--check` only compares.

The compiler is pinned, is told no path, and adds no metadata, so the same sources give the same bytes anywhere.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from channeld.base.keys import keccak

HERE: Final = Path(__file__).parent
SOURCES: Final = (
    "ChannelManager.vy",
    "SecretRegistry.vy",
    "mocks/TestToken.vy",
    "mocks/NastyToken.vy",
    "mocks/Reentrant.vy",
)
INTERFACE: Final = HERE / "interfaces" / "IChannelManager.vyi"
COMPILER: Final = "0.4.3"
MOST: Final = 23_347
"""Bytes of runtime code with immutables: 5 % under the limit of EIP-170."""


@cache
def compiled(source: Path) -> str:
    """The artifact of one source file, as the text that is committed. Needs the pinned vyper."""
    import vyper
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle

    if not vyper.__version__.startswith(COMPILER):
        raise SystemExit(f"vyper {vyper.__version__} is installed, but the contracts are pinned to {COMPILER}")
    bundle = FilesystemInputBundle([HERE, source.parent])
    out = compile_from_file_input(
        bundle.load_file(source.name),
        input_bundle=bundle,
        output_formats=["abi", "bytecode", "bytecode_runtime", "layout"],
        no_bytecode_metadata=True,
    )
    runtime = bytes.fromhex(out["bytecode_runtime"].removeprefix("0x"))
    length = sum(place["length"] for place in out["layout"].get("code_layout", {}).values())
    if len(runtime) + length > MOST:
        raise SystemExit(f"{source.name}: {len(runtime) + length} bytes of code, more than {MOST}")
    stored = {
        "name": source.stem,
        "compiler": f"vyper {COMPILER}",
        "abi": out["abi"],
        "bytecode": out["bytecode"],
        "runtime": out["bytecode_runtime"],
        "immutables": {"offset": len(runtime), "length": length},
        "code_hash": "0x" + keccak(runtime).hex(),
    }
    return json.dumps(stored, indent=1) + "\n"


HEAD: Final = f'''# pragma version {COMPILER}
"""
@title IChannelManager
@license MIT
@notice What other contracts may call of the manager. Made from ChannelManager.vy, which says what each does.
"""
'''
OPTIONAL: Final = ("memo: bytes32[6]", "signature_b: Signature", "order: Order", "opening: Opening")
"""Last arguments that may be left out."""


def interface() -> str:
    """The manager's interface for Vyper callers, as the text that is committed: structs and functions, no events."""
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle

    bundle = FilesystemInputBundle([HERE])
    made = compile_from_file_input(
        bundle.load_file("ChannelManager.vy"), input_bundle=bundle, output_formats=["interface"]
    )["interface"]
    structs, _, rest = made.partition("# Events")
    structs = re.sub(r"struct Due:\n(?: {4}.*\n)+\n*", "", structs.partition("# Structs")[2])  # not handed in by anyone
    functions = re.sub(r"-> \S+/I\w+\.vyi:", "-> address:", rest.partition("# Functions")[2])
    for argument in OPTIONAL:
        kind = argument.partition(": ")[2]
        functions = functions.replace(f"{argument})", f"{argument} = empty({kind}))", 1)
    functions = re.sub(r"^def (\w+)\((.{100,})\)", _spread, functions, flags=re.MULTILINE)
    return HEAD + structs.rstrip() + "\n\n" + functions.rstrip() + "\n"


def _spread(found: re.Match[str]) -> str:
    """A long list of arguments, one a line."""
    return f"def {found[1]}(\n    " + ",\n    ".join(found[2].split(", ")) + ",\n)"


def stale(folder: Path = HERE / "artifacts") -> list[str]:
    """Names of the artifacts in `folder` that are not what the sources compile to."""
    wrong = []
    for source in SOURCES:
        path = folder / (Path(source).stem + ".json")
        if not path.exists() or path.read_text(encoding="utf-8") != compiled(HERE / source):
            wrong.append(path.stem)
    if folder == HERE / "artifacts" and INTERFACE.read_text(encoding="utf-8") != interface():
        wrong.append(INTERFACE.stem)
    return wrong


def main(arguments: list[str]) -> int:
    """Build, or with `--check` compare; the exit code is 1 iff something was stale under `--check`."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m contracts.build [--check]", file=sys.stderr)
        return 2
    wrong = stale()
    for name in wrong:
        print(f"{name} {'is stale' if arguments else 'rebuilt'}")
    if not arguments:
        for source in SOURCES:
            path = HERE / "artifacts" / (Path(source).stem + ".json")
            path.parent.mkdir(exist_ok=True)
            path.write_text(compiled(HERE / source), encoding="utf-8")
        INTERFACE.write_text(interface(), encoding="utf-8")
    return 1 if wrong and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
