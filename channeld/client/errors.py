"""What a call can end with instead of an answer."""

from __future__ import annotations


class ApiError(Exception):
    """The daemon said no.

    `code` is stable and lower_snake_case (`channeld.api.schema.FAULTS` lists them), `number` is the JSON-RPC code of
    its family; `message` and `hint` are for people and may be reworded.
    """

    def __init__(self, code: str, message: str, hint: str = "", number: int = 0) -> None:
        super().__init__(f"{message} ({code})" + (f"; {hint}" if hint else ""))
        self.code, self.message, self.hint, self.number = code, message, hint, number


class Unreachable(Exception):
    """Nobody answers at the socket, or the connection broke; whether a call was carried out is not known."""


def raised(error: object) -> ApiError:
    """The exception for the `error` member of an answer."""
    said = error if isinstance(error, dict) else {}
    data = said.get("data")
    data = data if isinstance(data, dict) else {}
    number = said.get("code")
    return ApiError(
        str(data.get("code", "internal")),
        str(said.get("message", "an error without a message")),
        str(data.get("hint", "")),
        number if isinstance(number, int) else 0,
    )
