"""The JSON-RPC client: errors the node gives are kept apart from a node that gives no answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import trio

from channeld.base.errors import Unreachable
from channeld.base.units import Address
from channeld.chain.bindings import Contracts
from channeld.chain.networks import network
from channeld.chain.reads import RpcChain
from channeld.chain.rpc import MAX_BATCH, Rpc, RpcError

Reply = Callable[[Any], bytes]
OWNER = Address(b"\x11" * 20)


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


async def listen(nursery: trio.Nursery, reply: Reply) -> str:
    """A node that answers whatever `reply` makes of the request."""

    async def answer(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(
            next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
        )
        while len(body) < length:
            body += await stream.receive_some()
        async with stream:
            try:
                await stream.send_all(reply(json.loads(body)))
            except trio.BrokenResourceError:
                pass

    listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
    return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/secret-token"


@pytest.fixture
async def talk(nursery: trio.Nursery) -> AsyncIterator[Callable[[Reply], Any]]:
    opened: list[Rpc] = []

    async def start(reply: Reply, **options: Any) -> Rpc:
        rpc = Rpc(await listen(nursery, reply), timeout=0.5, **options)
        opened.append(rpc)
        return rpc

    yield start
    for rpc in opened:
        await rpc.aclose()


def result(request: Any, value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": value}


async def test_a_result_and_an_error(talk: Any) -> None:
    rpc = await talk(lambda request: http(json.dumps(result(request, [1, None])).encode()))
    assert await rpc.call("x") == [1, None]
    error = {"code": 3, "message": "execution reverted: old version", "data": "0x08c379a0"}
    rpc = await talk(lambda request: http(json.dumps({"id": request["id"], "error": error}).encode()))
    with pytest.raises(RpcError) as fault:
        await rpc.call("x")
    assert (fault.value.code, fault.value.data, fault.value.reverted) == (3, bytes.fromhex("08c379a0"), True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 5_000,
        b"SSH-2.0-OpenSSH\r\n",
        http(b"<html>502 Bad Gateway</html>", "502 Bad Gateway"),
        http(b"null"),
        http(b"7"),
        http(b"{}"),
        http(b'{"id": 1, "error": "no"}'),
        http(b"[" * 100_000),
        http(b'{"id": 1, "result": "0x1"')[:-3],
        http(b'{"id": 1, "error": {"code": -32005, "message": "slow down"}}', "429 Too Many Requests"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_no_usable_answer_is_unreachable(talk: Any, answer: bytes) -> None:
    rpc = await talk(lambda request: answer)
    with pytest.raises(Unreachable) as fault:
        await rpc.call("x")
    assert "secret-token" not in str(fault.value)


@pytest.mark.parametrize("said", [None, "", "0x", "ten", 7, ["0x1"]])
async def test_what_is_no_number_is_unreachable(talk: Any, said: Any) -> None:
    rpc = await talk(lambda request: http(json.dumps(result(request, said)).encode()))
    contracts = Contracts(manager=OWNER, registry=OWNER)
    chain = RpcChain(rpc, contracts, chain_id=1, finality=network("dev").finality)
    for asked in (chain.gas_price(), chain.balance(OWNER), chain.check()):
        with pytest.raises(Unreachable):
            await asked


async def test_an_answer_has_a_limit(talk: Any) -> None:
    rpc = await talk(lambda request: http(b'"' + b"x" * 100_000 + b'"'), max_answer=10_000)
    with pytest.raises(Unreachable, match="more than 10000"):
        await rpc.call("x")


async def test_silence_is_unreachable(nursery: trio.Nursery) -> None:
    async def hold(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    listeners = await nursery.start(partial(trio.serve_tcp, hold, 0, host="127.0.0.1"))
    async with Rpc(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", timeout=0.1) as rpc:
        with pytest.raises(Unreachable, match="no answer within"):
            await rpc.call("x")


async def test_nobody_listens() -> None:
    async with Rpc("http://127.0.0.1:9") as rpc:
        with pytest.raises(Unreachable):
            await rpc.call("x")


async def test_batches_keep_their_order_and_are_cut(talk: Any) -> None:
    sizes = []

    def reply(requests: Any) -> bytes:
        sizes.append(len(requests))
        answers = [result(one, one["params"][0]) for one in reversed(requests)]
        answers[0] = {"id": answers[0]["id"], "error": {"code": 1, "message": "last fails"}}
        return http(json.dumps(answers).encode())

    rpc = await talk(reply)
    results = await rpc.batch([("x", [number]) for number in range(MAX_BATCH + 5)])
    assert sizes == [MAX_BATCH, 5]
    assert results[:3] == [0, 1, 2]
    assert isinstance(results[MAX_BATCH - 1], RpcError)


async def test_a_batch_with_a_hole_is_no_answer(talk: Any) -> None:
    rpc = await talk(lambda requests: http(json.dumps([result(requests[0], 1)]).encode()))
    with pytest.raises(Unreachable, match="missing"):
        await rpc.batch([("x", []), ("y", [])])
    rpc = await talk(lambda requests: http(b'{"id": null, "error": {"code": -32600, "message": "batch too large"}}'))
    with pytest.raises(RpcError, match="too large"):
        await rpc.batch([("x", []), ("y", [])])
