"""The program run as its users run it: a process of its own, judged by exit code, stdout and stderr."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """What stdout says as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """What the last line of stderr says as JSON."""
        return json.loads(self.err.splitlines()[-1])


def environment(**more: str) -> dict[str, str]:
    """This process's environment, less what would change how the program behaves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHANNELD_", "XDG_"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | more


def channeld(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Ended:
    done = subprocess.run(
        [sys.executable, "-m", "channeld", *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A process that said it is ready, and what it said."""

    process: subprocess.Popen[str]
    ready: Any

    def end(self, signum: int = signal.SIGTERM) -> Ended:
        """Ask it to stop and wait for it."""
        self.process.send_signal(signum)
        return self.ended()

    def ended(self) -> Ended:
        out, err = self.process.communicate(timeout=20)
        return Ended(code=self.process.returncode, out=out, err=err)


@contextmanager
def daemon(*arguments: str | Path, cwd: Path) -> Iterator[Daemon]:
    """A daemon from its ready line on; killed if the test leaves it running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "channeld", *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise AssertionError(f"not ready: {process.communicate(timeout=10)}")
            yield Daemon(process=process, ready=json.loads(line))
        finally:
            if process.poll() is None:
                process.kill()
