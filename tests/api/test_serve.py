"""JSON-RPC over the socket: framing, errors, many calls at once, who may call, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import stat

import pytest
import trio

from channeld.api import serve
from channeld.api.schema import NODE, TOWER
from channeld.base.errors import Refused
from tests.api.service import HASH, Caller, Counter, calling, serving, until


@pytest.fixture
def service():
    return Counter()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "rpc.sock"


def request(method, number=1, **params):
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


async def ask(caller: Caller, line: bytes):
    with trio.fail_after(5):
        await caller.say(line)
        return json.loads(await caller.hear())


async def test_a_call_is_answered(service, path):
    async with serving(service, path), calling(path) as caller:
        answer = await ask(caller, request("get_info", 42))
    assert answer == {"jsonrpc": "2.0", "id": 42, "result": {"role": "node", "alias": "counter"}}


async def test_arguments_arrive_in_the_daemons_form_with_defaults(service, path):
    async with serving(service, path), calling(path) as caller:
        await ask(caller, request("make_invoice", token="native", amount="1" + "0" * 24))
        transfers = [{"amount": "5", "id": "0x" + "ab" * 16}, {"amount": "6"}]
        await ask(caller, request("send_transfers", channel_id="0x" + HASH.hex(), transfers=transfers))
    assert service.asked == [
        (
            "make_invoice",
            {
                "token": "native",
                "amount": 10**24,
                "description": "",
                "expiry": 3600,
                "idempotency_key": None,
                "payment_hash": None,
                "hold_time": None,
            },
        ),
        (
            "send_transfers",
            {
                "channel_id": HASH,
                "transfers": [{"amount": 5, "id": b"\xab" * 16}, {"amount": 6, "id": None}],
                "wait": True,
            },
        ),
    ]


async def test_parameters_by_position(service, path):
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "make_invoice", "params": ["native", "7"]}).encode()
    async with serving(service, path), calling(path) as caller:
        assert (await ask(caller, line))["result"] == {"amount": "7"}


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "token is missing"),
        ({"token": "native", "amount": 5}, "amount must be a decimal string"),
        ({"token": "native", "amount": "1.5"}, "amount must be a decimal string"),
        ({"token": "native", "amount": "007"}, "amount must be a decimal string"),
        ({"token": "native", "amount": "-1"}, "amount must be a decimal string"),
        ({"token": "native", "amount": "٣"}, "amount must be a decimal string"),
        ({"token": "native", "amount": "9" * 5000}, "amount must be from 1 to"),
        ({"token": "native", "amount": str(2**88)}, "amount must be from 1 to"),
        ({"token": "../x", "amount": "5"}, "token must be a symbol"),
        ({"token": "native", "amuont": "5"}, "unknown 'amuont'"),
        ({"token": "native", "expiry": True}, "expiry must be a whole number"),
        ({"token": "native", "expiry": 1e3}, "expiry must be a whole number"),
        ({"token": "native", "description": "a\nb"}, "description contains"),
        ({"token": "native", "description": "\ud800"}, "description contains"),
        ({"token": "native", "description": "x" * 641}, "description must have 0 to 640"),
        (["native", "1", "", 60, None, None, None, 8], "8 parameters, make_invoice takes 7"),
        ("native", "must be an object"),
    ],
)
async def test_a_bad_parameter_is_named(service, path, params, says):
    line = json.dumps({"jsonrpc": "2.0", "id": "x", "method": "make_invoice", "params": params}).encode()
    async with serving(service, path), calling(path) as caller:
        answer = await ask(caller, line)
    assert answer["error"]["code"] == -32602
    assert says in answer["error"]["message"]
    assert answer["error"]["data"]["code"] == "invalid_params"
    assert answer["error"]["data"]["hint"].startswith("make_invoice(token, amount?")
    assert not service.asked


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        ("refused", -32000, "invoice_expired"),
        ("away", -32004, "unreachable"),
        ("broken", -32603, "internal"),
        ("bug", -32603, "internal"),
    ],
)
async def test_faults_have_number_code_and_hint_and_no_traceback(service, path, kind, number, code):
    async with serving(service, path), calling(path) as caller:
        answer = await ask(caller, request("decode_invoice", invoice=kind))
        assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (number, code)
        assert answer["error"]["data"]["hint"]
        assert "secret-detail" not in json.dumps(answer)
        assert "result" in await ask(caller, request("get_info"))


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"garbage", -32700),
        (b"\xff\xfe\x00", -32700),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "get_info"}', -32700),
        (b'{"jsonrpc": "2.0", "id": ' + b"9" * 10_000 + b', "method": "get_info"}', -32700),
        (b"[" * 200_000, -32700),
        (b"{}", -32600),
        (b"7", -32600),
        (b"[]", -32600),
        (b'{"id": 1, "method": "get_info"}', -32600),
        (b'{"jsonrpc": "2.0", "id": [1], "method": "get_info"}', -32600),
        (b'{"jsonrpc": "2.0", "id": true, "method": "get_info"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "get_info", "token": "x"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "__class__"}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "happen", "params": {"kind": "x"}}', -32601),
    ],
)
async def test_garbage_gets_an_error_and_the_connection_lives_on(service, path, line, number):
    async with serving(service, path), calling(path) as caller:
        assert (await ask(caller, line))["error"]["code"] == number
        assert "result" in await ask(caller, request("get_info"))


async def test_an_endless_line_ends_only_its_own_connection(service, path, monkeypatch):
    monkeypatch.setattr(serve, "LINE_BYTES", 10_000)
    async with serving(service, path), calling(path) as flooder, calling(path) as other:
        await flooder.stream.send_all(b"x" * 20_000)
        with trio.fail_after(5):
            assert json.loads(await flooder.hear())["error"]["code"] == -32600
            assert await flooder.hear() == b""
        assert "result" in await ask(other, request("get_info"))


async def test_a_batch_is_answered_as_one_array(service, path):
    batch = [json.loads(request("get_info", number)) for number in range(20)]
    batch += [{"jsonrpc": "2.0", "method": "get_info"}, {"bad": 1}, json.loads(request("nothing", 99))]
    async with serving(service, path), calling(path) as caller:
        answers = await ask(caller, json.dumps(batch).encode())
        too_many = await ask(caller, json.dumps([{}] * (serve.BATCH + 1)).encode())
    assert {answer["id"] for answer in answers if "result" in answer} == set(range(20))
    assert sorted(answer["error"]["code"] for answer in answers if "error" in answer) == [-32601, -32600]
    assert len(answers) == 22
    assert too_many["error"]["code"] == -32600
    assert len(service.asked) == 21


async def test_a_notification_is_carried_out_and_not_answered(service, path):
    async with serving(service, path), calling(path) as caller:
        await caller.say(b'{"jsonrpc": "2.0", "method": "get_info"}')
        await caller.say(b'{"jsonrpc": "2.0", "method": "decode_invoice", "params": {"invoice": "refused"}}')
        answer = await ask(caller, request("get_info", 5))
    assert answer["id"] == 5
    assert len(service.asked) == 2


async def test_a_thousand_calls_in_flight_on_one_connection(service, path):
    service.gate = trio.Event()
    async with serving(service, path), calling(path) as caller:
        ids = {number: number.to_bytes(32, "big").hex() for number in range(1_000)}
        with trio.fail_after(10):
            await caller.stream.send_all(b"".join(request("lookup_payment", n, id=h) + b"\n" for n, h in ids.items()))
            await until(lambda: service.running == 1_000)
            assert "result" in await ask(caller, request("get_info", "while they wait"))
            service.gate.set()
            answers = [json.loads(await caller.hear()) for _ in ids]
    assert {answer["id"]: answer["result"]["id"][2:] for answer in answers} == ids


async def test_no_more_is_read_than_there_are_slots(service, path, monkeypatch):
    monkeypatch.setattr(serve, "IN_FLIGHT", 5)
    service.gate = trio.Event()
    async with serving(service, path), calling(path) as caller:
        with trio.fail_after(5):
            await caller.stream.send_all(
                b"".join(request("lookup_payment", n, id=HASH.hex()) + b"\n" for n in range(50))
            )
            await trio.sleep(0.1)
            service.gate.set()
            for _ in range(50):
                assert "result" in json.loads(await caller.hear())
    assert service.most == 5


async def test_answers_nobody_reads_stop_the_reading(service, path, monkeypatch):
    monkeypatch.setattr(serve, "OUTBOX_BYTES", 10_000)
    async with serving(service, path), calling(path) as deaf, calling(path) as other:
        with trio.move_on_after(0.5):
            while True:
                await deaf.stream.send_all(request("get_info") + b"\n")
        asked = len(service.asked)
        await trio.sleep(0.1)
        assert len(service.asked) == asked
        assert "result" in await ask(other, request("get_info"))


async def test_a_caller_that_hangs_up_does_not_stop_what_it_began(service, path):
    service.gate = trio.Event()
    async with serving(service, path):
        async with calling(path) as caller:
            await caller.say(request("lookup_payment", id=HASH.hex()))
            await until(lambda: service.running == 1)
        await trio.sleep(0.05)
        assert service.running == 1
        service.gate.set()
        await until(lambda: service.running == 0)


async def test_connections_are_counted(service, path, monkeypatch):
    monkeypatch.setattr(serve, "CONNECTIONS", 2)
    async with serving(service, path), calling(path) as one, calling(path) as two:
        await ask(one, request("get_info"))
        await ask(two, request("get_info"))
        async with calling(path) as third:
            with trio.fail_after(5):
                assert json.loads(await third.hear())["error"]["data"]["code"] == "busy"
                assert await third.hear() == b""


async def test_the_socket_is_private(service, path):
    async with serving(service, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.is_socket()
    assert list(path.parent.iterdir()) == []


async def test_another_user_is_turned_away(service, path, monkeypatch):
    uid = os.geteuid()
    async with serving(service, path):
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        monkeypatch.setattr(serve, "ROOT", uid + 2)
        async with calling(path) as caller:
            with trio.fail_after(5), pytest.raises((trio.BrokenResourceError, json.JSONDecodeError)):
                await ask(caller, request("get_info"))
    assert not service.asked


async def test_a_folder_that_others_may_write_to_is_refused(service, path):
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(Refused, match="others may write"):
        await serve.serve_api(service, path)


async def test_a_dead_socket_is_replaced_and_a_live_one_is_not(service, path):
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(service, path), calling(path) as caller:
        with pytest.raises(Refused, match="another daemon") as refused:
            await serve.serve_api(Counter(), path)
        assert refused.value.code == "already_running"
        assert "result" in await ask(caller, request("get_info"))


async def test_a_file_in_its_place_is_left_alone(service, path):
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    with pytest.raises(Refused, match="is no socket"):
        await serve.serve_api(service, path)
    assert path.read_text() == "precious"


async def test_what_is_in_flight_is_finished_when_the_server_stops(service, path):
    service.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **given: serve.serve_api(service, path, **given))
        async with calling(path) as caller:
            await caller.say(request("lookup_payment", id=HASH.hex()))
            await until(lambda: service.running == 1)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), trio.fail_after(5):
                await trio.sleep(0.05)
                service.gate.set()
                assert "result" in json.loads(await caller.hear())
                assert await caller.hear() == b""


async def test_what_does_not_finish_is_given_up_after_the_grace(service, path, monkeypatch):
    monkeypatch.setattr(serve, "GRACE", 0.1)
    service.gate = trio.Event()
    with trio.fail_after(5):
        async with serving(service, path), calling(path) as caller:
            await caller.say(request("lookup_payment", id=HASH.hex()))
            await until(lambda: service.running == 1)
    assert not service.running


async def test_events_come_in_order_from_the_cursor_on(service, path):
    for number in range(3):
        service.happen(f"before_{number}")
    async with serving(service, path), calling(path) as caller:
        answer = await ask(caller, request("subscribe", since=1))
        assert answer["result"] == {"subscription": 1, "cursor": 1}
        service.happen("now")
        with trio.fail_after(5):
            told = [json.loads(await caller.hear()) for _ in range(3)]
        assert [said["params"]["event"]["type"] for said in told] == ["before_1", "before_2", "now"]
        assert {said["method"] for said in told} == {"event"}
        assert (await ask(caller, request("unsubscribe", subscription=1)))["result"] == {"ended": True}
        service.happen("later")
        assert "result" in await ask(caller, request("get_info"))
        # Without `since` a subscription starts where things stand.
        assert (await ask(caller, request("subscribe")))["result"] == {"subscription": 2, "cursor": 5}


@pytest.mark.parametrize("schema", [NODE, TOWER])
async def test_discover_lists_every_method(service, path, schema):
    async with serving(service, path, schema), calling(path) as caller:
        document = (await ask(caller, request("rpc.discover")))["result"]
    assert document["openrpc"].startswith("1.")
    assert [method["name"] for method in document["methods"]] == list(schema.methods)
    for method in document["methods"]:
        assert method["summary"]
        assert method["result"]["schema"]["type"] == "object"
        assert all({"name", "required", "schema"} <= param.keys() for param in method["params"])
