"""What the figures were measured on: processors, load, and how fast the disk really syncs."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from pathlib import Path
from statistics import median
from typing import Final

SYNCS: Final = 300
BLOCK: Final = 4_096
TICKS: Final = os.sysconf("SC_CLK_TCK")


def fdatasyncs_per_second(folder: Path, count: int = SYNCS) -> float:
    """Of 4 kB written in turn into a preallocated file, by the median time."""
    path = folder / "fdatasync"
    with path.open("wb", buffering=0) as file:
        file.write(bytes(BLOCK * 64))
        os.fsync(file.fileno())
        taken = []
        for number in range(count):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes([number % 256]) * BLOCK, number % 64 * BLOCK)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return 1 / median(taken)


def filesystem(folder: Path) -> str:
    """The type of the file system that holds `folder`; on tmpfs syncing costs nothing and durable figures lie."""
    found = ("", "unknown")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        where, kind = line.split()[1:3]
        if folder.resolve().is_relative_to(where) and len(where) >= len(found[0]):
            found = (where, kind)
    return found[1]


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def load() -> float:
    """Processes that ran or waited to run, over the last minute."""
    return os.getloadavg()[0]


def starved() -> str:
    """Share of the last minute in which something waited for a processor, as the kernel tells it; "" if it does not."""
    try:
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").split()
    except OSError:
        return ""
    return f"; something waited for a processor {some[2].removeprefix('avg60=')} % of the last minute"


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def describe(folder: Path) -> list[str]:
    """Lines for the foot of the table."""
    return [
        f"{os.cpu_count()} x {processor()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"fdatasync {fdatasyncs_per_second(folder):,.0f} per second on {filesystem(folder)}",
        f"load average {load():.1f}{starved()}",
    ]
