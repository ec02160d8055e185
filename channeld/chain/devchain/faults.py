"""What a JSON-RPC call of the dev chain fails with, in the words and codes of geth and anvil."""

from __future__ import annotations

from typing import Final

INVALID_REQUEST: Final = -32600
NO_METHOD: Final = -32601
INVALID_PARAMS: Final = -32602
PARSE_ERROR: Final = -32700
INTERNAL: Final = -32603
SERVER_ERROR: Final = -32000
REVERTED: Final = 3

_ERROR_STRING: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")


class RpcFault(Exception):
    """A JSON-RPC error object: a number, a sentence, and for a revert its data as hex."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, object]:
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


def invalid(text: str) -> RpcFault:
    """The caller's parameters make no sense."""
    return RpcFault(INVALID_PARAMS, text)


def reverted(output: bytes) -> RpcFault:
    """A revert with `output`, its reason in the message if it is an `Error(string)` (EIP-838)."""
    reason = revert_reason(output)
    text = "execution reverted" + (f": {reason}" if reason else "")
    return RpcFault(REVERTED, text, "0x" + output.hex())


def revert_reason(output: bytes) -> str:
    """The text of an `Error(string)`, the number of a `Panic(uint256)`, or nothing."""
    if output[:4] == _ERROR_STRING and len(output) >= 68:
        length = int.from_bytes(output[36:68], "big")
        return output[68 : 68 + length].decode("utf-8", "replace")
    if output[:4] == _PANIC and len(output) == 36:
        return f"panic: 0x{int.from_bytes(output[4:], 'big'):02x}"
    return ""
