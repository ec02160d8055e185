"""`shop`: a small HTTP service that sells a line of text, and knows only the client of its own node.

    GET /joke                                          402, an invoice in the body and in WWW-Authenticate
    GET /joke   Authorization: Channeld HASH:PREIMAGE  200 and the line, once per paid invoice

The preimage is the receipt: it is known to whoever has paid. What was sold is kept in memory, at most `OFFERS` of it,
so an invoice of an earlier run buys nothing, and none buys twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from channeld.base.errors import Refused
from channeld.base.settings import endpoint, endpoint_text
from channeld.cli.amounts import Money, parse
from channeld.cli.output import Output
from channeld.cli.session import session, shared
from channeld.client import ApiError, Unreachable, connect

if TYPE_CHECKING:
    import h11
    import trio

    from channeld.client import Client

OFFERS: Final = 10_000
IDLE_SECONDS: Final = 60.0
MAX_HEADER: Final = 16 * 1024
RECEIPT: Final = re.compile(r"Channeld (0x[0-9a-f]{64}):(0x[0-9a-f]{64})")
JOKES: Final = (
    "Two generals walk into a bar. One of them may have ordered.",
    "A payment channel is a bar tab that the barman cannot rewrite.",
    "There are two hard problems in computing: naming, expiry and off-by-one errors.",
    "I would tell you a joke about finality, but somebody could still challenge it.",
    "The cheat closed with an old state. It was not his to keep.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one request gets. `challenge` goes into WWW-Authenticate."""

    status: int
    body: dict[str, Any]
    challenge: str = ""


class Shop:
    """Offers and receipts. `price` is asked for each call."""

    def __init__(self, socket: Path, price: Money) -> None:
        self._socket, self._price = socket, price
        self._offers: OrderedDict[str, None] = OrderedDict()
        self._sold = 0

    async def answer(self, method: str, path: str, authorization: str) -> Answer:
        """One request; 503 while the node does not answer."""
        if path != "/joke":
            return Answer(status=404, body={"error": "not_found", "hint": "GET /joke"})
        if method != "GET":
            return Answer(status=405, body={"error": "method", "hint": "GET /joke"})
        receipt = RECEIPT.fullmatch(authorization)
        try:
            async with connect(self._socket) as node:
                if receipt is not None and await self._paid(node, receipt[1], receipt[2]):
                    self._sold += 1
                    return Answer(status=200, body={"joke": JOKES[self._sold % len(JOKES)], "number": self._sold})
                return await self._offer(node)
        except (Unreachable, ApiError):
            return Answer(status=503, body={"error": "closed", "hint": "the shop's node is asleep; try later"})

    async def _paid(self, node: Client, payment_hash: str, preimage: str) -> bool:
        """Whether this receipt is for an offer of ours that nobody has redeemed; it is redeemed from now on."""
        known = hashlib.sha256(bytes.fromhex(preimage[2:])).hexdigest() == payment_hash[2:]
        if not known or payment_hash not in self._offers:
            return False
        told = await node.lookup_invoice(payment_hash=payment_hash)
        if told["state"] != "paid" or payment_hash not in self._offers:
            return False
        del self._offers[payment_hash]
        return True

    async def _offer(self, node: Client) -> Answer:
        made = await node.make_invoice(
            token=self._price.token, amount=self._price.units, description="one joke", expiry=600
        )
        self._offers[made["payment_hash"]] = None
        while len(self._offers) > OFFERS:
            self._offers.popitem(last=False)
        shown = {name: made[name] for name in ("invoice", "payment_hash", "amount", "symbol", "expires_at")}
        return Answer(
            status=402, body={"error": "payment_required"} | shown, challenge=f'Channeld invoice="{made["invoice"]}"'
        )


@click.command()
@shared
@click.option("--listen", default="127.0.0.1:8402", show_default=True, metavar="HOST:PORT", help="Port 0 for any.")
@click.option("--price", default="0.10DemoUSD", show_default=True, metavar="AMOUNT", help="Of one call.")
def shop(listen: str, price: str) -> None:
    """Sell a line of text over HTTP, paid to this node: the demo's merchant. Try it: curl -i URL."""
    import trio

    try:
        where = endpoint(listen)
    except ValueError as fault:
        raise Refused("usage", f"--listen {fault}", "like 127.0.0.1:8402") from None
    here = session()
    with here.connect() as node:
        money = parse(price, node.get_info()["tokens"])
    trio.run(partial(_serve, Shop(here.place().socket, money), where, here.out))


async def _serve(made: Shop, where: tuple[str, int], out: Output) -> None:
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            listeners: list[trio.SocketListener] = await nursery.start(
                partial(trio.serve_tcp, partial(_talk, made), where[1], host=where[0])
            )
            listen = endpoint_text((where[0], listeners[0].socket.getsockname()[1]))
            ready = {
                "ready": True,
                "role": "shop",
                "listen": listen,
                "url": f"http://{listen}/joke",
                "pid": os.getpid(),
            }
            out.show(ready, [("ready", ready["url"])])
            await _signalled(signals)
            nursery.cancel_scope.cancel()


async def _signalled(signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        return


async def _talk(made: Shop, stream: trio.SocketStream) -> None:
    """HTTP/1.1 by h11: requests on one connection, one after another."""
    import h11
    import trio

    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
    try:
        async with stream:
            while True:
                with trio.move_on_after(IDLE_SECONDS):
                    request = await _request(stream, http)
                    if request is None:
                        return
                    head = {name: value.decode("latin-1") for name, value in request.headers}
                    target = request.target.decode("latin-1").partition("?")[0]
                    answer = await made.answer(request.method.decode(), target, head.get(b"authorization", ""))
                    await stream.send_all(_response(http, answer))
                    if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                        return
                    http.start_next_cycle()
                    continue
                return
    except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
        return


async def _request(stream: trio.SocketStream, http: h11.Connection) -> h11.Request | None:
    """The next request, its body passed over; None when the other side has gone."""
    import h11

    found: h11.Request | None = None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(65_536)))
        elif isinstance(event, h11.Request):
            found = event
        elif isinstance(event, h11.EndOfMessage):
            return found
        elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
            return None


def _response(http: h11.Connection, answer: Answer) -> bytes:
    import h11

    body = json.dumps(answer.body).encode() + b"\n"
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    if answer.challenge:
        headers.append(("www-authenticate", answer.challenge))
    out = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
    return out + (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b"")
