"""BOLT 8: the published vectors, and that meddled acts and frames give Malformed and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.base.errors import Malformed
from channeld.base.keys import Key
from channeld.base.units import NodeId
from channeld.wire.handshake import Initiator, Responder
from channeld.wire.transport import MAX_MESSAGE, Transport
from tests.wire.strategies import spoiled

VECTORS: Any = json.loads((Path(__file__).parent / "vectors" / "bolt08.json").read_text())
h = bytes.fromhex

DIALLER = Key(b"\x11" * 32)
LISTENER = Key(b"\x21" * 32)


def keys_of(case: Any) -> tuple[Key, Key]:
    given = case["given"]
    static, ephemeral = Key(h(given["ls.priv"])), Key(h(given["e.priv"]))
    assert static.public == h(given["ls.pub"])
    assert ephemeral.public == h(given["e.pub"])
    return static, ephemeral


def play(case: Any, acts: list[Any]) -> Any:
    """Feed each input to the next act and compare each output; the last result."""
    done: Any = None
    for step in case["steps"]:
        if "input" in step:
            if "error" in case["steps"][-1] and step is case["steps"][-2]:
                with pytest.raises(Malformed):
                    acts.pop(0)(h(step["input"]))
                return None
            done = acts.pop(0)(h(step["input"]))
        elif "output" in step:
            done = acts.pop(0)() if done is None else done
            assert (done[0] if isinstance(done, tuple) else done).hex() == step["output"]
    return done


def check_keys(transport: Transport, keys: dict[str, str], remote: NodeId) -> None:
    """The transport's keys are these: it understands, and is understood by, one made of them."""
    assert transport.remote == remote
    chaining = h(VECTORS["messages"]["given"]["ck"])
    other = Transport(sending=h(keys["rk"]), receiving=h(keys["sk"]), chaining=chaining, remote=remote)
    for number in range(600):
        text = b"message %d" % number
        assert other.receive(transport.encrypt(text)) == [text]
        assert transport.receive(other.encrypt(text)) == [text]


@pytest.mark.parametrize("case", VECTORS["initiator"], ids=lambda case: case["name"])
def test_initiator_vectors(case):
    static, ephemeral = keys_of(case)
    initiator = Initiator(static, ephemeral, NodeId(h(case["given"]["rs.pub"])))
    done = play(case, [initiator.act_one, initiator.act_three])
    if "keys" in case["steps"][-1]:
        check_keys(done[1], case["steps"][-1]["keys"], NodeId(h(case["given"]["rs.pub"])))
    else:
        assert "error" in case["steps"][-1]


@pytest.mark.parametrize("case", VECTORS["responder"], ids=lambda case: case["name"])
def test_responder_vectors(case):
    responder = Responder(*keys_of(case))
    done = play(case, [responder.act_two, responder.finish])
    if "keys" in case["steps"][-1]:
        check_keys(done, case["steps"][-1]["keys"], DIALLER.public)
    else:
        assert "error" in case["steps"][-1]


def test_message_vectors_with_two_rotations():
    given, outputs = VECTORS["messages"]["given"], VECTORS["messages"]["outputs"]
    transport = Transport(
        sending=h(given["sk"]), receiving=h(given["rk"]), chaining=h(given["ck"]), remote=DIALLER.public
    )
    sent = [transport.encrypt(b"hello") for _ in range(1002)]
    assert sorted(map(int, outputs)) == [0, 1, 500, 501, 1000, 1001]
    for number, output in outputs.items():
        assert sent[int(number)].hex() == output


def connected() -> tuple[Transport, Transport]:
    initiator = Initiator(DIALLER, Key(b"\x12" * 32), LISTENER.public)
    responder = Responder(LISTENER, Key(b"\x22" * 32))
    act, near = initiator.act_three(responder.act_two(initiator.act_one()))
    return near, responder.finish(act)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_may_be_cut_anywhere(texts, data):
    near, far = connected()
    stream = b"".join(near.encrypt(text) for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += far.receive(stream[start:end])
    assert got == texts


def test_the_longest_message_and_one_byte_more():
    near, far = connected()
    assert far.receive(near.encrypt(bytes(MAX_MESSAGE))) == [bytes(MAX_MESSAGE)]
    with pytest.raises(ValueError, match="65536"):
        near.encrypt(bytes(MAX_MESSAGE + 1))


@settings(max_examples=100)
@given(st.integers(0, 200))
def test_a_meddled_frame_breaks_the_stream_for_good(at):
    near, far = connected()
    first = near.encrypt(b"untouched")
    assert far.receive(first) == [b"untouched"]
    stream = bytearray(near.encrypt(b"one") + near.encrypt(bytes(150)))
    stream[at % len(stream)] ^= 1
    with pytest.raises(Malformed):
        far.receive(bytes(stream))
    with pytest.raises(Malformed):
        far.receive(near.encrypt(b"later"))


@settings(max_examples=60)
@given(st.data())
def test_meddled_acts_are_malformed(data):
    initiator = Initiator(DIALLER, Key(b"\x12" * 32), LISTENER.public)
    responder = Responder(LISTENER, Key(b"\x22" * 32))
    one = initiator.act_one()
    bad = data.draw(spoiled(st.just(one)) | st.binary(max_size=70))
    if bad != one:
        with pytest.raises(Malformed):
            Responder(LISTENER, Key(b"\x22" * 32)).act_two(bad)
    two = responder.act_two(one)
    bad = data.draw(spoiled(st.just(two)))
    if bad != two:
        other = Initiator(DIALLER, Key(b"\x12" * 32), LISTENER.public)
        other.act_one()
        with pytest.raises(Malformed):
            other.act_three(bad)
    three, _ = initiator.act_three(two)
    bad = data.draw(spoiled(st.just(three)))
    if bad != three:
        with pytest.raises(Malformed):
            responder.finish(bad)


def test_dialling_somebody_else_fails_at_the_listener():
    initiator = Initiator(DIALLER, Key(b"\x12" * 32), Key(b"\x33" * 32).public)
    with pytest.raises(Malformed):
        Responder(LISTENER, Key(b"\x22" * 32)).act_two(initiator.act_one())


@pytest.mark.parametrize("remote", [b"", bytes(33), b"\x04" + bytes(32), b"\x02" + b"\xff" * 32])
def test_dialling_what_is_no_key_is_malformed(remote):
    with pytest.raises(Malformed):
        Initiator(DIALLER, Key(b"\x12" * 32), NodeId(remote)).act_one()
