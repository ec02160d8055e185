"""Floor 5: a typed client of the daemon's socket, for trio and asyncio alike.

    async with connect("/run/user/1000/channeld/dev/rpc.sock") as node:
        invoice = await node.make_invoice(token="native", amount=10**15)
        async for event in node.follow(since=0):
            ...

Of the daemon it knows the schema of its socket and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channeld.client.errors import ApiError, Unreachable

if TYPE_CHECKING:
    from channeld.client.connection import Client, TowerClient, connect, connect_tower

__all__ = ["ApiError", "Client", "TowerClient", "Unreachable", "connect", "connect_tower"]


def __getattr__(name: str) -> Any:
    """Import what needs anyio when it is first asked for: a command that makes one call starts without it."""
    if name in __all__:
        from channeld.client import connection

        return getattr(connection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
