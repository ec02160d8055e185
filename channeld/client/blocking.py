"""The same calls without an event loop, one at a time: for scripts and the command line, which must start at once."""

from __future__ import annotations

import json
import socket
from os import PathLike
from types import TracebackType
from typing import Any, Self

from channeld.api.schema import Schema
from channeld.client.calls import BlockingNodeCalls, BlockingTowerCalls
from channeld.client.errors import Unreachable, raised


class _Line:
    """One connection, one call at a time."""

    schema: Schema

    def __init__(self, path: str | PathLike[str], timeout: float | None = None) -> None:
        """`timeout`: seconds without a byte after which a call is `Unreachable`; None waits for ever."""
        self._numbered = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as fault:
            self._socket.close()
            raise Unreachable(f"no daemon answers at {path}: {fault.strerror or fault}") from None
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._answers.close()
        self._socket.close()

    def call(self, method: str, /, **params: Any) -> Any:
        """Send one request and give its result; ApiError or Unreachable, as the client of `connection`."""
        known = self.schema.methods.get(method)
        return self.ask(method, known.write(**params) if known else params)

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The same for any method, with parameters as they travel."""
        self._numbered += 1
        request = {"jsonrpc": "2.0", "id": self._numbered, "method": method, "params": params}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
            if not line.endswith(b"\n"):
                raise Unreachable("the daemon closed the connection")
            answer = json.loads(line)
        except OSError as fault:
            raise Unreachable(f"the daemon does not answer: {fault.strerror or fault}") from None
        except ValueError:
            raise Unreachable("what answers at the socket is no channeld") from None
        if "error" in answer:
            raise raised(answer["error"])
        return answer.get("result")


class BlockingClient(_Line, BlockingNodeCalls):
    """A node's socket."""


class BlockingTowerClient(_Line, BlockingTowerCalls):
    """A tower's own socket."""
