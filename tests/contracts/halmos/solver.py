"""`python solver.py SOLVER [OPTION …] FILE`: the solver's answer to FILE, which halmos wrote, after one simplification.

Vyper computes min and max without a branch, as x ^ ((x ^ y) · [x > y]). Halmos keeps that product as a function that it
knows nothing of, and when that is not enough as one of 256 bits, which solvers do not see through in minutes. Here a
product with a factor that is 0 or 1 by a condition becomes what it equals: zero or the other factor, by that condition.
That is the meaning of the product, so nothing is proved that does not hold.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

PRODUCT: Final = "(f_evm_bvmul_256 (ite "
ZERO_ONE: Final = " (_ bv0 256) (_ bv1 256)) "
ONE_ZERO: Final = " (_ bv1 256) (_ bv0 256)) "


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


def main(arguments: list[str]) -> int:
    """Solve; the exit code is the solver's."""
    *command, name = arguments
    path = Path(name)
    simple = path.with_suffix(".simple.smt2")
    simple.write_text(simplified(path.read_text(encoding="utf-8")), encoding="utf-8")
    return subprocess.run([*command, str(simple)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
