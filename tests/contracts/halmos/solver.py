"""`python solver.py YICES FILE`: the answer to FILE, which halmos wrote, after one simplification.

Vyper computes min and max without a branch, as x ^ ((x ^ y) · [x > y]). Halmos keeps that product as a function it
knows nothing of, and when that is not enough as one of 256 bits, which solvers do not see through in minutes. Here a
product with a factor that is 0 or 1 by a condition becomes what it equals: zero or the other factor, by that condition.
That is the meaning of the product, so nothing is proved that does not hold.

Yices is asked first and answers most in no time. For what takes it longer Bitwuzla is asked as well: some only one of
them can answer. The first answer counts. `python solver.py --bitwuzla FILE` asks Bitwuzla alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

PRODUCT: Final = "(f_evm_bvmul_256 (ite "
ZERO_ONE: Final = " (_ bv0 256) (_ bv1 256)) "
ONE_ZERO: Final = " (_ bv1 256) (_ bv0 256)) "
PATIENCE: Final = 3
"""Seconds for yices."""


def after(text: str, start: int) -> int:
    """Index behind the term of SMT-LIB that begins at `start`."""
    depth = 0
    for i in range(start, len(text)):
        if text[i] == "(":
            depth += 1
        elif text[i] == ")":
            depth -= 1
            if depth <= 0:
                return i + 1 if depth == 0 else i
        elif depth == 0 and text[i].isspace():
            return i
    raise ValueError("a term without an end")


def simplified(text: str) -> str:
    """The same formulas with every product (ite c 0 1) · y as (ite c 0 y), and (ite c 1 0) · y as (ite c y 0)."""
    done: list[str] = []
    at = 0
    while (found := text.find(PRODUCT, at)) >= 0:
        condition = found + len(PRODUCT)
        end = after(text, condition)
        kind = next((one for one in (ZERO_ONE, ONE_ZERO) if text.startswith(one, end)), None)
        if kind is None:
            done.append(text[at:condition])
            at = condition
            continue
        before = text[at:found]
        factor = end + len(kind)
        at = after(text, factor)
        other = simplified(text[factor:at])
        both = f"(_ bv0 256) {other}" if kind is ZERO_ONE else f"{other} (_ bv0 256)"
        # the parenthesis that closed the product closes the ite
        done += [before, f"(ite {simplified(text[condition:end])} {both}"]
    done.append(text[at:])
    return "".join(done)


def said(answer: Path) -> bool:
    """Whether a file holds an answer, sat or unsat."""
    return answer.exists() and answer.read_text(encoding="utf-8").startswith(("sat", "unsat"))


def bitwuzla(name: str) -> None:
    """Print Bitwuzla's answer, numbers in decimal."""
    import bitwuzla as solver

    options = solver.Options()
    options.set(solver.Option.PRODUCE_MODELS, True)
    solver.Parser(solver.TermManager(), options, base=10).parse(name, parse_only=False, parse_file=True)


def main(arguments: list[str]) -> int:
    """Solve, and print what the first solver with an answer says; `unknown` if none has one."""
    first, name = arguments
    if first == "--bitwuzla":
        bitwuzla(name)
        return 0
    path = Path(name)
    simple = path.with_suffix(".simple.smt2")
    simple.write_text(simplified(path.read_text(encoding="utf-8")), encoding="utf-8")
    commands = [
        [first, "--smt2-model-format", "--bvconst-in-decimal", str(simple)],
        [sys.executable, __file__, "--bitwuzla", str(simple)],
    ]
    answers = [path.with_suffix(f".{number}.out") for number in range(2)]
    running: dict[int, int] = {}
    try:
        for number, command in enumerate(commands):
            with answers[number].open("wb") as answer:
                started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answer)
            running[started.pid] = number
            if number == 0:
                with suppress(subprocess.TimeoutExpired):
                    started.wait(PATIENCE)
                    running.clear()
                    if said(answers[0]):
                        break
        while running:
            number = running.pop(os.wait()[0])
            if said(answers[number]):
                break
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
    print(next((answer.read_text() for answer in answers if said(answer)), "unknown"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
