"""The client over a real socket, under trio and under asyncio, and the blocking one beside it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from contextlib import aclosing
from functools import partial

import anyio
import pytest
import trio

from channeld.api.kinds import Record
from channeld.api.schema import FAULTS, NODE, TOWER
from channeld.api.serve import serve_api
from channeld.client import ApiError, Unreachable, connect
from channeld.client.blocking import BlockingClient
from channeld.client.calls import AsyncNodeCalls
from channeld.client.generate import TARGET, written
from tests.api.service import HASH, Counter, served, until


async def everything(path):
    """What a wallet does; the same source under both loops."""
    async with connect(path) as node:
        assert (await node.get_info())["alias"] == "counter"
        assert (await node.make_invoice(token="native", amount=2**80))["amount"] == str(2**80)
        with pytest.raises(ApiError) as refused:
            await node.decode_invoice(invoice="refused")
        assert (refused.value.code, refused.value.number, refused.value.hint) == (
            "invoice_expired",
            -32000,
            "ask for a new one",
        )
        assert str(refused.value) == "the invoice ran out (invoice_expired); ask for a new one"
        found = {}

        async def look(number):
            hash_ = number.to_bytes(32, "big")
            found[number] = (await node.lookup_payment(id=hash_))["id"]

        async with anyio.create_task_group() as tasks:
            for number in range(1_000):
                tasks.start_soon(look, number)
        assert found == {number: f"0x{number:064x}" for number in range(1_000)}
        with anyio.move_on_after(0):
            await node.get_info()
        assert (await node.get_info())["role"] == "node"


@pytest.mark.parametrize("loop", [trio.run, lambda function: asyncio.run(function())], ids=["trio", "asyncio"])
def test_calls_under_either_loop(tmp_path, loop):
    with served(Counter, tmp_path / "rpc.sock") as service:
        loop(partial(everything, tmp_path / "rpc.sock"))
    assert ("make_invoice") in {name for name, _ in service.asked}


@pytest.mark.parametrize("loop", [trio.run, lambda function: asyncio.run(function())], ids=["trio", "asyncio"])
def test_events_under_either_loop(tmp_path, loop):
    async def follow():
        with anyio.fail_after(10):
            await told()

    async def told():
        async with connect(tmp_path / "rpc.sock") as node:
            seen = []
            async with aclosing(node.follow(since=0)) as events:
                async for event in events:
                    seen.append(event["cursor"])
                    if len(seen) == 50:
                        break
            assert seen == list(range(1, 51))
            assert (await node.get_info())["role"] == "node"

    with served(Counter, tmp_path / "rpc.sock") as service:
        service.told = [{"cursor": n, "type": "t", "at": 0, "data": {}} for n in range(1, 61)]
        loop(follow)


async def test_nobody_there(tmp_path):
    with pytest.raises(Unreachable, match="no daemon answers"):
        async with connect(tmp_path / "rpc.sock"):
            pass


async def test_a_daemon_that_goes_away_ends_every_waiting_call(tmp_path):
    service = Counter()
    service.gate = trio.Event()
    ends = []

    async def wait(node):
        with pytest.raises(Unreachable):
            await node.lookup_payment(id=HASH)
        ends.append(1)

    scope = trio.CancelScope()

    async def serve(**given):
        with scope:
            await serve_api(service, tmp_path / "rpc.sock", **given)

    with trio.fail_after(10):
        async with trio.open_nursery() as calls:
            await calls.start(serve)
            async with connect(tmp_path / "rpc.sock") as node:
                for _ in range(10):
                    calls.start_soon(wait, node)
                await until(lambda: service.running == 10)
                scope.cancel()
                await until(lambda: len(ends) == 10)
                with pytest.raises(Unreachable):
                    await node.get_info()


async def test_something_else_at_the_socket(tmp_path):
    path = tmp_path / "rpc.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer():
            with listener.accept()[0] as other:
                other.recv(100)
                other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        async with connect(path) as node:
            with trio.fail_after(5), pytest.raises(Unreachable):
                await node.get_info()
        thread.join(5)


def test_the_blocking_client(tmp_path):
    with served(Counter, tmp_path / "rpc.sock"), BlockingClient(tmp_path / "rpc.sock", timeout=5) as node:
        assert node.get_info()["role"] == "node"
        with pytest.raises(ApiError, match="invoice_expired"):
            node.decode_invoice(invoice="refused")
        with pytest.raises(ApiError) as refused:
            node.call("nothing_like_it")
        assert refused.value.code == "unknown_method"
    with pytest.raises(Unreachable):
        BlockingClient(tmp_path / "rpc.sock")


def test_the_written_methods_are_those_of_the_schema():
    assert TARGET.read_text() == written(), "run python -m channeld.client.generate"


@pytest.mark.parametrize("schema", [NODE, TOWER], ids=["node", "tower"])
def test_the_schema_holds_together(schema):
    for name, method in schema.methods.items():
        assert method.name == name
        assert method.help.endswith(".")
        assert set(method.errors) <= FAULTS.keys()
        json.dumps(method.openrpc())
        for field in method.params:
            if not field.required:
                assert field.kind.read(field.kind.write(field.default), "") == field.default


def test_every_record_reads_what_it_writes():
    record: Record = NODE.methods["send_transfers"].result
    answer = {"ids": ["0x" + "01" * 16], "state": "succeeded", "version": 3}
    assert record.write(record.read(answer, "")) == answer


def test_every_method_has_a_typed_call():
    for name in NODE.methods:
        assert callable(getattr(AsyncNodeCalls, name))
