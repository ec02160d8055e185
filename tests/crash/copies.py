"""A machine that is set back whole: a node's files as they were, which nothing beside them can tell from the newest.

`keep` stops a node, copies its database with everything that stands beside it, and has it go on; `set_back` stops it
again and puts the copy in their place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import trio

from tests.crash.sim import Node


async def down(node: Node) -> None:
    """Stop a node where it stands."""
    node.restart = False
    life = node.life
    node.crash()
    if life is not None:
        await life.over.wait()


async def up(node: Node) -> None:
    node.restart = True
    node.start()
    await trio.sleep(0.1)
    await node.ready()


async def keep(node: Node) -> Path:
    """A copy of the node's database and of what stands beside it; where it is."""
    await down(node)
    kept = node.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for path in node.folder.glob(node.database.name + "*"):
        shutil.copy(path, kept)
    await up(node)
    return kept


async def set_back(node: Node, kept: Path) -> None:
    """The node is down, and its files are those of the copy, in place."""
    await down(node)
    _replace(node, kept)


def _replace(node: Node, kept: Path) -> None:
    for path in node.folder.glob(node.database.name + "*"):
        if not (kept / path.name).exists():
            path.unlink()
    for path in kept.iterdir():
        shutil.copyfile(path, node.folder / path.name)
