"""What a user gets wrong, on the command line against a real node: one line, a hint, a code, and nothing changed."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from channeld.base.digests import Domain
from channeld.base.keys import Key
from channeld.base.units import Address, Amount, ChannelId, LockKey, NodeId, Seconds, Timestamp
from channeld.cli.stage import Actor, Stage
from channeld.peers.talk import fresh_key
from channeld.wire import bech32m
from channeld.wire.invoice import HintHop, Invoice, decode, encode
from tests.e2e.people import DOLLAR, invoice, line_of, nodes

HELD = 100 * DOLLAR
WORDS = {"for ever": "lock time", "for too much a fee": "in fees", "to nobody": "nobody has announced a way"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    exit: int
    code: str
    message: str
    hint: str


async def _wrong(town: Stage, data_dir: Path, *words: str, in_words: bool) -> Said:
    """Run a command that must fail, and `in_words` once more for people: the same in one line, and a hint."""
    (line,), exit_code = await _ran(town, data_dir, *words, "--json")
    told = json.loads(line)
    said = Said(exit=exit_code, code=told["code"], message=told["message"], hint=told.get("hint", ""))
    if not in_words:
        return said
    (error, *hint), again = await _ran(town, data_dir, *words, "--text")
    assert error.startswith("error: ") and error.endswith(f"({told['code']})"), (words, error)
    assert hint == ([f"hint: {told['hint']}"] if "hint" in told else []), (words, hint)
    assert exit_code == again != 0
    return said


async def _ran(town: Stage, data_dir: Path, *words: str) -> tuple[list[str], int]:
    """What the command said on stderr, where daemons also log, and its exit code. On stdout it said nothing."""
    done = await trio.run_process(
        town.command(*words, "--data-dir", str(data_dir)),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=town.environment(),
    )
    assert done.stdout == b"", words
    lines = done.stderr.decode().splitlines()
    return [line for line in lines if words[0] != "run" or not line.startswith("time=")], done.returncode


def _judge(name: str, said: Said, exit_code: int, code: str, faults: list[str]) -> None:
    """The names of `WORDS` are told apart by their text."""
    assert WORDS.get(name, "") in said.message, (name, said)
    if (said.exit, said.code) != (exit_code, code) or not said.message or not said.hint:
        faults.append(f"{name}: {said}, not {exit_code} {code} with a hint")


async def _books(actor: Actor) -> Any:
    """All that a payment could change, and what was paid."""
    async with actor.client() as client:
        channels = [
            {name: one[name] for name in ("channel_id", "state", "ours", "theirs", "locks", "version")}
            for one in (await client.list_channels())["channels"]
        ]
        payments = (await client.list_payments(limit=500))["payments"]
        balances = (await client.get_balance())["balances"]
    return channels, [one for one in payments if one["state"] != "failed"], balances


def _forged(real: str, key: Key | None = None, **changed: Any) -> str:
    """A well-made invoice like `real`, of a payee of our own."""
    key = key or fresh_key()
    made = replace(decode(real), payee=key.public, payment_hash=LockKey(secrets.token_bytes(32)), **changed)
    return encode(made, key)


def _way(through: Actor, fee: int) -> tuple[tuple[HintHop, ...]]:
    """A hint that leads on from a node there is."""
    node, channel = NodeId(bytes.fromhex(through.node_id[2:])), ChannelId(secrets.token_bytes(32))
    return ((HintHop(node=node, channel=channel, fee_base=Amount(fee), fee_ppm=0, expiry_delta=Seconds(60)),),)


def _resealed(real: str, at: int) -> str:
    """One bit changed, and the checksum made to fit again."""
    head, data = bech32m.decode(real)
    return bech32m.encode(head, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


@pytest.mark.timeout(240)
async def test_an_invoice_that_cannot_be_paid(town: Stage) -> None:
    payer, payee, stranger = await nodes(town, "payer", "payee", "stranger")
    async with payee.client() as client:
        short = await client.make_invoice(token="DemoUSD", amount=DOLLAR, expiry=1)
    made_at = time.monotonic()
    await line_of(town, (payer, payee), HELD)
    real = (await invoice(payee, DOLLAR, "good"))["invoice"]
    asked: Invoice = decode(real)
    paid = (await invoice(payee, DOLLAR, "paid before"))["invoice"]
    home = town.root / "payer"
    assert (await town.tell("pay", paid, "--data-dir", str(home)))["state"] == "succeeded"
    async with payer.client() as client:
        own = (await client.make_invoice(token="DemoUSD", amount=1))["invoice"]
    open_amount = await _any_amount(payee)
    await trio.sleep(max(0, 3 - (time.monotonic() - made_at)))
    before = [await _books(actor) for actor in (payer, payee, stranger)]

    wrong_chain = Domain(chain_id=1, manager=asked.domain.manager)
    other_contract = Domain(chain_id=asked.domain.chain_id, manager=Address(b"\x11" * 20))
    beginning, way = Timestamp(1_600_000_000), _way(payee, fee=0)
    cases: dict[str, tuple[tuple[str, ...], int, str]] = {
        "expired": ((short["invoice"],), 8, "invoice_expired"),
        "expired long ago": ((_forged(real, created=beginning),), 8, "invoice_expired"),
        "of another chain": ((_forged(real, domain=wrong_chain),), 8, "invoice_wrong_chain"),
        "of another contract": ((_forged(real, domain=other_contract),), 8, "invoice_wrong_chain"),
        "a letter changed": ((real[:40] + ("q" if real[40] != "q" else "p") + real[41:],), 8, "invoice_malformed"),
        "a letter lost": ((real[:-1],), 8, "invoice_malformed"),
        "resealed, the amount": ((_resealed(real, 60),), 8, "invoice_malformed"),
        "resealed, the signature": ((_resealed(real, len(bech32m.decode(real)[1]) - 40),), 8, "invoice_malformed"),
        "no invoice": (("lnbc1qqqq",), 8, "invoice_malformed"),
        "nothing": (("",), 2, "invalid_params"),
        "paid already": ((paid,), 8, "invoice_paid"),
        "our own": ((own,), 8, "invoice_own"),
        "another amount": ((real, "--amount", "2DemoUSD"), 8, "amount_fixed"),
        "no amount": ((open_amount,), 8, "amount_required"),
        "an amount of what": ((open_amount, "--amount", "many"), 2, "usage"),
        "more than the channel holds": ((await _asked(payee, HELD + 1),), 6, "insufficient_balance"),
        "more than there is": ((await _asked(payee, 2**88 - 1),), 6, "insufficient_balance"),
        "no route": ((await _asked(stranger, DOLLAR),), 7, "unknown_payee"),
        "to nobody": ((_forged(real, hints=()),), 7, "unknown_payee"),
        "for ever": ((_forged(real, hints=way, min_final_delta=Seconds(2**32 - 1)),), 7, "no_route"),
        "for too much a fee": ((_forged(real, hints=_way(payee, fee=DOLLAR)),), 7, "fee_budget"),
    }
    faults: list[str] = []
    for place, (name, (words, exit_code, code)) in enumerate(cases.items()):
        said = await _wrong(town, home, "pay", *words, in_words=place % 4 == 0)
        _judge(name, said, exit_code, code, faults)
    assert not faults, "\n".join(faults)
    assert [await _books(actor) for actor in (payer, payee, stranger)] == before

    assert (await town.tell("pay", real, "--data-dir", str(home)))["state"] == "succeeded"


async def _asked(payee: Actor, amount: int) -> str:
    return str((await invoice(payee, amount))["invoice"])


async def _any_amount(payee: Actor) -> str:
    async with payee.client() as client:
        return str((await client.make_invoice(token="DemoUSD", amount=None))["invoice"])


@pytest.mark.timeout(240)
async def test_other_mistakes_of_a_user(town: Stage) -> None:
    payer, payee = await nodes(town, "payer", "payee")
    (opened,) = await line_of(town, (payer, payee), HELD)
    home = town.root / "payer"
    nobody = f"{fresh_key().public.hex()}@127.0.0.1:1"
    somebody_else = f"{fresh_key().public.hex()}@{payee.ready['listen']}"
    us = f"{payer.node_id[2:]}@{payer.ready['listen']}"
    before = [await _books(actor) for actor in (payer, payee)]

    cases: dict[str, tuple[tuple[str, ...], int, str]] = {
        "transfer of more than the channel holds": (("transfer", opened, "101DemoUSD"), 6, "insufficient_balance"),
        "transfer in no channel": (("transfer", "0x" + "07" * 32, "1DemoUSD"), 5, "unknown_channel"),
        "close no channel": (("close", "0x" + "07" * 32), 5, "unknown_channel"),
        "connect where nobody is": (("connect", nobody), 3, "unreachable"),
        "connect to somebody else": (("connect", somebody_else), 3, "unreachable"),
        "connect to ourselves": (("connect", us), 8, "peer_refused"),
        "connect to no address": (("connect", "over there"), 2, "invalid_params"),
        "open with more than there is": (("open", payee.uri, "100000DemoUSD"), 6, "insufficient_funds"),
        "open with coins that are not there": (("open", payee.uri, "100000eth"), 6, "insufficient_funds"),
        "open with nobody": (("open", nobody, "1DemoUSD"), 3, "unreachable"),
        "open in no token": (("open", payee.uri, "1gold"), 5, "unknown_token"),
        "open with nothing": (("open", payee.uri, "0DemoUSD"), 8, "amount_too_small"),
        "open with a short period": (("open", payee.uri, "1DemoUSD", "--challenge-period", "1"), 8, "bad_period"),
        "open with no peer": (("open", "somebody", "1DemoUSD"), 2, "invalid_params"),
        "a tower where none is": (("tower", "add", nobody), 3, "unreachable"),
        "no such invoice": (("invoice", "show", "0x" + "07" * 32), 5, "unknown_invoice"),
    }
    faults: list[str] = []
    for place, (name, (words, exit_code, code)) in enumerate(cases.items()):
        said = await _wrong(town, home, *words, in_words=place % 4 == 0)
        _judge(name, said, exit_code, code, faults)
    assert not faults, "\n".join(faults)
    assert [await _books(actor) for actor in (payer, payee)] == before

    assert (await town.tell("transfer", opened, "1DemoUSD", "--data-dir", str(home)))["state"] == "succeeded"
    assert Amount(int((await _books(payee))[0][0]["ours"])) == DOLLAR


@pytest.mark.timeout(120)
async def test_a_daemon_that_may_not_start(town: Stage) -> None:
    """What `channeld run` meets in its surroundings. The node that stands goes on, and nothing of it is touched."""
    (node,) = await nodes(town, "node")
    home, other = town.root / "node", town.root / "other"
    await town.node("other", start=False)
    settings = (other / "config.toml").read_text(encoding="utf-8")
    key = (other / "keystore.json").read_bytes()
    right, wrong = town.root / "passphrase", town.root / "wrong"
    wrong.write_text("battery staple\n")
    store = sorted(path.name for path in other.iterdir())

    async def told(passphrase: Path, *words: str, text: str = settings, keystore: bytes = key) -> Said:
        (other / "config.toml").write_text(text, encoding="utf-8")
        (other / "keystore.json").write_bytes(keystore)
        return await _not_run(town, other, "--passphrase-file", str(passphrase), *words)

    cases = {
        "a wrong passphrase": (await told(wrong), 4, "wrong_passphrase"),
        "a keystore cut off": (await told(right, keystore=key[:-20]), 2, "bad_keystore"),
        "a wrong kind": (
            await told(right, text="alias = 7\n" + settings.replace("alias", "# alias", 1)),
            2,
            "bad_config",
        ),
        "no contract there": (await told(right, "--manager", "0x" + "11" * 20), 8, "unknown_contract"),
        "another network": (await told(right, "--network", "base"), 8, "wrong_chain"),
        "no chain there": (await told(right, "--rpc", "http://127.0.0.1:1"), 3, "unreachable"),
        "a port in use": (await told(right, "--listen", node.ready["listen"]), 8, "port_in_use"),
        "a socket in use": (await told(right, "--socket", str(node.socket)), 8, "already_running"),
    }
    faults: list[str] = []
    for name, (said, exit_code, code) in cases.items():
        _judge(name, said, exit_code, code, faults)
    assert not faults, "\n".join(faults)
    assert str(node.ready["listen"]) in cases["a port in use"][0].message

    second = await _not_run(town, home, "--passphrase-file", str(right))
    assert (second.exit, second.code) == (8, "already_running")
    assert str(node.pid) in second.message
    assert node.alive
    async with node.client() as client:
        assert (await client.get_info())["node_id"] == node.node_id
    assert set(store) <= {path.name for path in other.iterdir()}

    await town.actors["other"].start()  # and with everything as it was, it starts
    assert town.actors["other"].alive


async def _not_run(town: Stage, data_dir: Path, *words: str) -> Said:
    """A daemon that ends at once."""
    (line,), exit_code = await _ran(town, data_dir, "run", *words, "--json")
    told = json.loads(line)
    return Said(exit=exit_code, code=told["code"], message=told["message"], hint=told.get("hint", ""))
