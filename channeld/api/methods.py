"""Who answers: the services behind the sockets, and `dispatch`, which brings a request to one and its answer back.

Arguments arrive checked and in the daemon's form (amounts as ints, hex as bytes, defaults filled in), always by
keyword and all of them. Answers are what `schema` says in JSON's form: amounts as decimal strings, bytes as 0x hex.
A service raises `Refused` (or another of `base.errors`) and nothing else on purpose.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from channeld import __version__
from channeld.api.kinds import Json
from channeld.api.schema import FAULTS, Number, Schema, number_of
from channeld.base.errors import ChanneldError, Malformed, PeerFault, Refused, Unreachable

log = logging.getLogger(__name__)


class Service(Protocol):
    """What every socket can be asked."""

    async def get_info(self) -> Json: ...
    async def stop(self) -> Json: ...


class TowerService(Service, Protocol):
    """The tower's own socket."""

    async def tower_status(self) -> Json: ...


class NodeService(Service, Protocol):
    """The node's socket; `schema.NODE` says what each answers."""

    async def get_balance(self) -> Json: ...
    async def connect_peer(self, *, uri: str) -> Json: ...
    async def list_peers(self) -> Json: ...
    async def open_channel(
        self,
        *,
        peer: str,
        token: str,
        amount: int,
        peer_amount: int,
        challenge_period: int | None,
        public: bool,
        idempotency_key: str | None,
    ) -> Json: ...
    async def list_channels(self, *, channel_id: bytes | None, closed: bool) -> Json: ...
    async def close_channel(self, *, channel_id: bytes, force: bool, timeout: int) -> Json: ...
    async def make_invoice(
        self,
        *,
        token: str,
        amount: int | None,
        description: str,
        expiry: int,
        idempotency_key: str | None,
        payment_hash: bytes | None,
        hold_time: int | None,
    ) -> Json: ...
    async def settle_invoice(self, *, preimage: bytes) -> Json: ...
    async def cancel_invoice(self, *, payment_hash: bytes) -> Json: ...
    async def decode_invoice(self, *, invoice: str) -> Json: ...
    async def lookup_invoice(self, *, payment_hash: bytes) -> Json: ...
    async def list_invoices(self, *, limit: int, cursor: str | None) -> Json: ...
    async def pay_invoice(
        self, *, invoice: str, amount: int | None, max_fee: int | None, timeout: int, idempotency_key: str | None
    ) -> Json: ...
    async def pay_keysend(
        self,
        *,
        node_id: bytes,
        token: str,
        amount: int,
        max_fee: int | None,
        timeout: int,
        idempotency_key: str | None,
    ) -> Json: ...
    async def find_route(self, *, invoice: str, amount: int | None, max_fee: int | None) -> Json: ...
    async def estimate(self, *, node_id: bytes, token: str, amount: int, max_fee: int | None) -> Json: ...
    async def probe(self, *, node_id: bytes, token: str, amount: int, max_fee: int | None) -> Json: ...
    async def rebalance(
        self,
        *,
        from_channel: bytes,
        to_channel: bytes,
        amount: int,
        max_fee: int | None,
        timeout: int,
        idempotency_key: str | None,
    ) -> Json: ...
    async def send_transfers(self, *, channel_id: bytes, transfers: Sequence[Mapping[str, Any]], wait: bool) -> Json:
        """`transfers`: each {"amount": int, "id": 16 bytes or None}."""

    async def export_liquidity(self, *, cursor: str | None, limit: int) -> Json: ...
    async def import_liquidity(self, *, version: int, channels: Sequence[Mapping[str, Any]], check: bool) -> Json:
        """`channels`: each {"channel_id": 32 bytes, "capacity": int, "least": int, "most": int, "at": int}."""

    async def lookup_payment(self, *, id: bytes) -> Json: ...
    async def list_payments(self, *, limit: int, cursor: str | None) -> Json: ...
    async def tower_add(self, *, uri: str) -> Json: ...
    async def tower_remove(self, *, node_id: bytes) -> Json: ...
    async def tower_list(self) -> Json: ...
    async def tower_status(self) -> Json: ...
    async def events(self, *, since: int | None, limit: int, wait: bool) -> Json:
        """{"events": [...], "cursor": int}. `since` None: no events, only the newest cursor. `subscribe` calls it."""


class CallError(Exception):
    """A request that has an error for an answer."""

    def __init__(self, number: Number, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.number, self.code, self.message, self.hint = number, code, message, hint

    def json(self) -> Json:
        """The `error` member of a JSON-RPC answer."""
        data = {"code": self.code} | ({"hint": self.hint} if self.hint else {})
        return {"code": int(self.number), "message": self.message, "data": data}


Own = Callable[[Json], Awaitable[Json]]
"""A method that the connection itself answers, such as `subscribe`."""

_NO_OWN: Final[Mapping[str, Own]] = {}
_ID_TYPES: Final = (str, int, float, type(None))
_MEMBERS: Final = {"jsonrpc", "id", "method", "params"}


async def dispatch(
    service: Service, request: object, *, schema: Schema, own: Mapping[str, Own] = _NO_OWN
) -> Json | None:
    """The JSON-RPC answer to one request, or None for a notification. Never raises what the request can cause."""
    try:
        method, params, answer_to, expects = _opened(request)
    except CallError as fault:
        return {"jsonrpc": "2.0", "id": _id_of(request), "error": fault.json()}
    try:
        result = await _call(service, method, params, schema, own)
    except CallError as fault:
        return {"jsonrpc": "2.0", "id": answer_to, "error": fault.json()} if expects else None
    return {"jsonrpc": "2.0", "id": answer_to, "result": result} if expects else None


def _id_of(request: object) -> object:
    found = request.get("id") if isinstance(request, dict) else None
    return found if isinstance(found, _ID_TYPES) and not isinstance(found, bool) else None


def _opened(request: object) -> tuple[str, Any, object, bool]:
    """Method, params, id and whether an answer is expected; CallError for what is no request."""
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not isinstance(request.get("method"), str):
        raise CallError(
            Number.REQUEST,
            "invalid_request",
            "not a JSON-RPC 2.0 request",
            'send {"jsonrpc": "2.0", "id": 1, "method": "get_info"} and a newline',
        )
    name = request.get("id")
    if not isinstance(name, _ID_TYPES) or isinstance(name, bool):
        raise CallError(Number.REQUEST, "invalid_request", "id must be a string, a number or null")
    if not request.keys() <= _MEMBERS:
        raise CallError(Number.REQUEST, "invalid_request", "a request has jsonrpc, id, method and params only")
    return request["method"], request.get("params", {}), name, "id" in request


async def _call(service: Service, name: str, params: Any, schema: Schema, own: Mapping[str, Own]) -> Json:
    if name == "rpc.discover":
        return schema.discover(__version__)
    method = schema.methods.get(name)
    if method is None:
        raise CallError(Number.METHOD, "unknown_method", f"there is no method {name[:80]!r}", "rpc.discover lists them")
    try:
        arguments = method.read(params)
    except Malformed as fault:
        raise CallError(Number.PARAMS, "invalid_params", f"{name}: {fault}", usage(schema, name)) from None
    try:
        if name in own:
            return await own[name](arguments)
        answer: Json = await getattr(service, name)(**arguments)
        return answer
    except (ChanneldError, CallError, ExceptionGroup) as fault:
        raise _told(schema, name, fault) from None
    except Exception:  # the edge: a fault of ours must not take the socket down, nor show itself to a client
        log.exception("call failed method=%s", name)
        raise CallError(Number.INTERNAL, "internal", FAULTS["internal"].meaning, "see the daemon's log") from None


def _told(schema: Schema, name: str, fault: Exception) -> CallError:
    """What a caller hears of a fault raised on purpose; anything else is logged and stays with us."""
    while isinstance(fault, ExceptionGroup) and len(fault.exceptions) == 1:
        fault = fault.exceptions[0]
    match fault:
        case CallError():
            return fault
        case Refused():
            return CallError(number_of(fault.code), fault.code, fault.text, fault.hint)
        case Malformed():
            return CallError(Number.PARAMS, "invalid_params", f"{name}: {fault}", usage(schema, name))
        case Unreachable():
            return CallError(Number.UNREACHABLE, "unreachable", str(fault), "try again; the daemon's log says more")
        case PeerFault():
            return CallError(Number.UNREACHABLE, "peer_fault", fault.text)
        case _:
            log.error("call failed method=%s", name, exc_info=fault)
            return CallError(Number.INTERNAL, "internal", FAULTS["internal"].meaning, "see the daemon's log")


def usage(schema: Schema, name: str) -> str:
    """One line: `make_invoice(token, amount?, description?)`."""
    fields = schema.methods[name].params
    return f"{name}({', '.join(field.name + ('' if field.required else '?') for field in fields)})"
