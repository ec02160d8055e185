"""The running dev chain: a listener, one call at a time, and a block whenever it is time for one.

Calls that run code do so in a worker thread under a lock that serves in order of arrival, so that a heavy call
delays others but never the event loop, and nobody sees a chain between two states.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from channeld.base import shallow
from channeld.base.errors import Refused
from channeld.base.units import Address
from channeld.chain.devchain.faults import INVALID_REQUEST, PARSE_ERROR, RpcFault
from channeld.chain.devchain.http import serve_stream
from channeld.chain.devchain.keys import DEV_BALANCE, DEV_CHAIN_ID, dev_keys
from contracts.deploy import PROXY, PROXY_CODE

if TYPE_CHECKING:
    from channeld.chain.devchain.evm import Account
    from channeld.chain.devchain.methods import Methods

MAX_BATCH: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DevChain:
    """What a started dev chain tells: where it listens, and its chain id."""

    url: str
    port: int
    chain_id: int
    accounts: tuple[Address, ...]


async def serve_devchain(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    block_time: float = 0,
    automine: bool = True,
    chain_id: int = DEV_CHAIN_ID,
    safe_lag: int = 1,
    finalized_lag: int = 2,
    genesis: Path | None = None,
    unprotected: bool = False,
    task_status: trio.TaskStatus[DevChain] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a dev chain until cancelled; `task_status` gets a `DevChain` once it listens.

    Args:
        port: 0 for any free one.
        block_time: seconds between blocks that come without a transaction; 0 for none.
        automine: mine each transaction at once.
        safe_lag, finalized_lag: blocks by which those tags lag behind `latest`.
        genesis: JSON file with further accounts, `{"0x<address>": {"balance", "nonce", "code", "storage": {slot:
            value}}}`, numbers as 0x-hex or integers. As on anvil, the deterministic deployment proxy is there from the
            beginning; an empty entry for its address takes it away.
        unprotected: take transactions without a chain id, which nodes refuse by default.

    Raises:
        Refused: `port_in_use`, or `bad_genesis` for a file that is not one.
    """
    keys = dev_keys()
    accounts = await trio.to_thread.run_sync(partial(_accounts, genesis))
    methods = await trio.to_thread.run_sync(
        partial(_start, accounts, chain_id, automine, block_time, safe_lag, finalized_lag, unprotected)
    )
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as fault:
        text = f"cannot listen on {host}:{port}: {fault.strerror}"
        raise Refused("port_in_use", text, "choose another port, or 0 for any") from None
    server = _Server(methods)
    bound = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.mine_by_time)
        handler = partial(serve_stream, answer=server.answer)
        await nursery.start(trio.serve_listeners, handler, listeners)
        shown = f"[{host}]" if ":" in host else host
        task_status.started(
            DevChain(
                url=f"http://{shown}:{bound}",
                port=bound,
                chain_id=chain_id,
                accounts=tuple(key.address for key in keys),
            )
        )


def _start(
    accounts: Mapping[bytes, Account],
    chain_id: int,
    automine: bool,
    block_time: float,
    safe: int,
    finalized: int,
    unprotected: bool,
) -> Methods:
    from channeld.chain.devchain.evm import Evm
    from channeld.chain.devchain.methods import Methods

    evm = Evm(accounts=accounts, chain_id=chain_id, clock=lambda: int(time.time()), unprotected=unprotected)
    return Methods(
        evm,
        accounts=[key.address for key in dev_keys()],
        automine=automine,
        block_time=block_time,
        safe=safe,
        finalized=finalized,
    )


def _accounts(genesis: Path | None) -> dict[bytes, Account]:
    from channeld.chain.devchain.evm import Account
    from channeld.chain.devchain.shapes import address, number, octets

    accounts: dict[bytes, Account] = {key.address: Account(balance=DEV_BALANCE) for key in dev_keys()}
    accounts[PROXY] = Account(nonce=1, code=PROXY_CODE)
    if genesis is None:
        return accounts
    try:
        for name, fields in shallow.loads(genesis.read_bytes()).items():
            storage = fields.get("storage", {}).items()
            accounts[address(name)] = Account(
                balance=number(fields.get("balance", 0), "balance"),
                nonce=number(fields.get("nonce", 0), "nonce"),
                code=octets(fields.get("code", "0x"), "code"),
                storage={number(slot, "slot"): number(value, "value") for slot, value in storage},
            )
    except (OSError, ValueError, AttributeError, RpcFault) as fault:
        hint = "a JSON object of accounts with balance, nonce, code and storage"
        raise Refused("bad_genesis", f"{genesis}: {fault}", hint) from None
    return accounts


class _Server:
    """JSON-RPC 2.0 over `Methods`, single and in batches."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._turn = trio.StrictFIFOLock()
        self._changed = trio.Event()

    async def answer(self, body: bytes) -> bytes:
        """The JSON to send back for the JSON that came."""
        try:
            request = shallow.loads(body)
        except ValueError:
            return _dump(_error(None, RpcFault(PARSE_ERROR, "invalid json")))
        if not isinstance(request, list):
            return _dump(await self._one(request))
        if not 0 < len(request) <= MAX_BATCH:
            return _dump(_error(None, RpcFault(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests")))
        return _dump([await self._one(one) for one in request])

    async def _one(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, RpcFault(INVALID_REQUEST, "invalid request"))
        name = request.get("id")
        params = request.get("params") or []
        if not isinstance(params, list):
            return _error(name, RpcFault(INVALID_REQUEST, "params is a list"))
        try:
            result = await self._call(request["method"], params)
        except RpcFault as fault:
            return _error(name, fault)
        return {"jsonrpc": "2.0", "id": name, "result": result}

    async def _call(self, method: str, params: list[Any]) -> Any:
        from channeld.chain.devchain.methods import LIGHT

        async with self._turn:
            if method not in LIGHT:
                return await trio.to_thread.run_sync(self._methods.call, method, params)
            before = self._methods.block_time
            result = self._methods.call(method, params)
            if self._methods.block_time != before:
                self._changed.set()
            return result

    async def mine_by_time(self) -> None:
        """A block every `block_time` seconds, whether or not transactions have made some in between."""
        while True:
            self._changed = trio.Event()
            wait = self._methods.block_time or float("inf")
            with trio.move_on_after(wait):
                await self._changed.wait()
                continue
            async with self._turn:
                await trio.to_thread.run_sync(self._methods.evm.mine)


def _error(name: Any, fault: RpcFault) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": name, "error": fault.as_json()}


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
