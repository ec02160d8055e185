"""JSON-RPC 2.0 over HTTP to an Ethereum node, on trio by way of httpx.

Two things can go wrong and they are kept apart: the node answers with an error (`RpcError`: asking again gives the
same), or it gives no usable answer (`Unreachable`: no connection, a timeout, a status, or bytes that are no JSON-RPC;
asking again may help). Nothing is tried again here: who polls or sends decides that.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpx
import trio

from channeld.base import shallow
from channeld.base.errors import ChanneldError, Unreachable

MAX_ANSWER: Final = 32 * 2**20
"""Bytes of one HTTP answer that are read at most."""
MAX_BATCH: Final = 100
"""Requests that are sent in one HTTP request; longer batches are cut."""
TIMEOUT: Final = 20.0
LIMIT_EXCEEDED: Final = -32005
"""Infura's and others' code for too many requests."""
FAILED_RUN: Final = ("revert", "invalid opcode", "out of gas", "invalidfeopcode", "stack underflow")
"""What nodes say of a call that ran and failed, revert data or not."""


class RpcError(ChanneldError):
    """The node's answer to one call is an error.

    `data` is the revert data if the call ran and reverted, else None.
    """

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data

    @property
    def reverted(self) -> bool:
        """Whether the call ran in the EVM and failed there."""
        text = self.message.lower()
        return self.data is not None or any(words in text for words in FAILED_RUN)


class Rpc:
    """One endpoint. Many calls may be under way at once."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT, max_answer: int = MAX_ANSWER) -> None:
        """`timeout` in seconds, for connecting and for each pause in an answer; `max_answer` in bytes."""
        self.url = url
        self._http = httpx.AsyncClient(timeout=timeout, trust_env=False)
        self._timeout = timeout
        self._max_answer = max_answer
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        fault: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._http.__aexit__(kind, fault, trace)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(self, method: str, *params: Any) -> Any:
        """The result of one call, as JSON has it.

        Raises:
            RpcError: the node says no.
            Unreachable: it does not answer, or not in JSON-RPC.
        """
        answer = await self._post(self._request(method, params))
        return _result(answer)

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results in the order of `calls`, an `RpcError` standing in the place of each that failed.

        Raises:
            Unreachable: no answer, or one that is no batch with every id in it.
        """
        results: list[Any] = []
        for start in range(0, len(calls), MAX_BATCH):
            results += await self._batch(calls[start : start + MAX_BATCH])
        return results

    async def _batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        requests = [self._request(method, params) for method, params in calls]
        answers = await self._post(requests)
        if isinstance(answers, dict):
            _result(answers)  # the whole batch was refused: raises what it says
        if not isinstance(answers, list):
            raise Unreachable(f"{self._name}: no JSON-RPC batch in the answer")
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        results: list[Any] = []
        for request in requests:
            if request["id"] not in by_id:
                raise Unreachable(f"{self._name}: an answer is missing from the batch")
            try:
                results.append(_result(by_id[request["id"]]))
            except RpcError as fault:
                results.append(fault)
        return results

    @property
    def _name(self) -> str:
        """The endpoint without what may be a secret in its path or query."""
        url = httpx.URL(self.url)
        return f"{url.scheme}://{url.host}:{url.port}" if url.port else f"{url.scheme}://{url.host}"

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    def _http_request(self, content: Any) -> httpx.Request:
        data = json.dumps(content, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        request = self._http.build_request("POST", self.url, content=data, headers=headers)
        request.stream = _Body(data)
        return request

    async def _post(self, content: Any) -> Any:
        body, status = bytearray(), 0
        try:
            # Too long an answer is cut off by cancelling, which unwinds httpx's generators where they stand.
            with trio.CancelScope() as reading:
                response = await self._http.send(self._http_request(content), stream=True)
                try:
                    status = response.status_code
                    async for chunk in response.aiter_bytes():
                        body += chunk
                        if len(body) > self._max_answer:
                            reading.cancel()
                finally:
                    await response.aclose()
        except httpx.TimeoutException:
            raise Unreachable(f"{self._name}: no answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as fault:
            raise Unreachable(f"{self._name}: {type(fault).__name__} {fault}".rstrip()) from None
        if len(body) > self._max_answer:
            raise Unreachable(f"{self._name}: an answer of more than {self._max_answer} bytes")
        try:
            answer = shallow.loads(body)
        except ValueError:
            raise Unreachable(f"{self._name}: HTTP {status} without JSON") from None
        if not isinstance(answer, dict | list):
            raise Unreachable(f"{self._name}: HTTP {status} without JSON-RPC")
        return answer


class _Body(httpx.AsyncByteStream):
    """A request's bytes, once. httpx's own is a generator, which trio finds unfinished when a send is cancelled."""

    def __init__(self, data: bytes) -> None:
        self._parts = [data]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.pop()


def _result(answer: Any) -> Any:
    """The result in an answer; RpcError for an error, Unreachable for neither."""
    if not isinstance(answer, dict):
        raise Unreachable("an answer that is no JSON-RPC")
    error = answer.get("error")
    if error is None:
        if "result" not in answer:
            raise Unreachable("an answer with neither result nor error")
        return answer["result"]
    if not isinstance(error, dict):
        raise Unreachable("an answer with an error that is none")
    code, message = error.get("code"), error.get("message")
    if code == LIMIT_EXCEEDED:
        raise Unreachable(f"the node wants fewer requests: {message!s:.200}")
    raise RpcError(code if isinstance(code, int) else 0, str(message)[:2_000], _revert_data(error.get("data")))


def _revert_data(data: Any) -> bytes | None:
    """Revert data as geth, anvil and the dev chain give it: 0x-hex, at times inside an object."""
    if isinstance(data, dict):
        data = data.get("data")
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return bytes.fromhex(data[2:])
        except ValueError:
            return None
    return None
