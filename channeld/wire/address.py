"""Where a node listens: `host:port`, with its id in front when one means to dial it: `id@host:port`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from channeld.base.errors import Malformed
from channeld.base.units import NodeId

MAX_ADDRESS: Final = 128

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,98}[A-Za-z0-9])?\.?", re.ASCII)
_SIX: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A host name or IP address (IPv6 without brackets), and a TCP port, 1 .. 65535."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddress:
    """A node and where it listens."""

    node: NodeId
    at: HostPort

    def __str__(self) -> str:
        return f"{self.node.hex()}@{self.at}"


def host_port(text: str) -> HostPort:
    """`host:port` or `[IPv6]:port`; Malformed for anything else."""
    host, colon, digits = text.rpartition(":")
    if len(text) > MAX_ADDRESS or not colon or not re.fullmatch(r"[1-9][0-9]{0,4}", digits, re.ASCII):
        raise Malformed(f"{text[:80]!r} is not host:port")
    six = host.startswith("[") and host.endswith("]") and _SIX.fullmatch(host[1:-1]) and ":" in host
    if int(digits) > 65_535 or not (six or _NAME.fullmatch(host)):
        raise Malformed(f"{text[:80]!r} is not host:port")
    return HostPort(host=host[1:-1] if six else host, port=int(digits))


def node_address(text: str) -> NodeAddress:
    """`id@host:port`, the id 66 hex digits; Malformed for anything else."""
    digits, at, rest = text.partition("@")
    if not at or not re.fullmatch(r"0[23][0-9a-fA-F]{64}", digits, re.ASCII):
        raise Malformed(f"{text[:80]!r} is not id@host:port with 66 hex digits of id")
    return NodeAddress(node=NodeId(bytes.fromhex(digits)), at=host_port(rest))
