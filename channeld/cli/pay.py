"""Invoices, payments over the network, and transfers to a neighbour."""

from __future__ import annotations

import time
from typing import Any

import click

from channeld.base.errors import Refused
from channeld.cli.amounts import address, parse, shown
from channeld.cli.channels import resolved
from channeld.cli.output import brief
from channeld.cli.session import session, shared


class _MakeByDefault(click.Group):
    """`invoice 1.5usdc` is `invoice make 1.5usdc`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["make", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_MakeByDefault)
@shared
def invoice() -> None:
    """Ask for a payment: `channeld invoice 1.5usdc`; decode, show, list, settle and cancel invoices."""


@invoice.command()
@shared
@click.argument("amount")
@click.option("--raw", is_flag=True, help="AMOUNT is base units, of --token.")
@click.option("--token", help="native, a symbol or an address; by default what AMOUNT says.")
@click.option("--description", "-d", default="", help="Shown to the payer.")
@click.option("--expiry", type=int, default=3_600, show_default=True, help="Seconds until it is void.")
@click.option("--payment-hash", help="Of a preimage that only you have: the payment is held until you settle it.")
@click.option("--hold-time", type=int, help="Seconds for which it can be held; by default an hour.")
@click.option("--idempotency-key", help="Said again with the same key, the same invoice is returned.")
def make(
    amount: str,
    raw: bool,
    token: str | None,
    description: str,
    expiry: int,
    payment_hash: str | None,
    hold_time: int | None,
    idempotency_key: str | None,
) -> None:
    """Ask for AMOUNT, such as 1.5usdc; `any` leaves it to the payer."""
    with session().connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        wanted = None if amount == "any" else parse(amount, tokens, raw=raw, token=token)
        said = daemon.make_invoice(
            token=wanted.token if wanted else token or "native",
            amount=wanted.units if wanted else None,
            description=description,
            expiry=expiry,
            idempotency_key=idempotency_key,
            payment_hash=payment_hash,
            hold_time=hold_time,
        )
    if session().out.as_json:
        session().out.value(said)
    else:
        session().out.text(said["invoice"])


@invoice.command()
@shared
@click.argument("text")
def decode(text: str) -> None:
    """What the invoice TEXT says; pays nothing."""
    with session().connect() as daemon:
        _show_invoice(daemon.decode_invoice(invoice=text), daemon.get_info()["tokens"])


@invoice.command()
@shared
@click.argument("payment_hash")
def show(payment_hash: str) -> None:
    """One of our invoices, and whether it was paid."""
    with session().connect() as daemon:
        _show_invoice(daemon.lookup_invoice(payment_hash=payment_hash), daemon.get_info()["tokens"])


@invoice.command()
@shared
@click.argument("preimage")
def settle(preimage: str) -> None:
    """Take the held payment of the invoice that PREIMAGE opens."""
    with session().connect() as daemon:
        _show_invoice(daemon.settle_invoice(preimage=preimage), daemon.get_info()["tokens"])


@invoice.command()
@shared
@click.argument("payment_hash")
def cancel(payment_hash: str) -> None:
    """Give a held payment back, or make an open invoice void."""
    with session().connect() as daemon:
        _show_invoice(daemon.cancel_invoice(payment_hash=payment_hash), daemon.get_info()["tokens"])


@invoice.command("list")
@shared
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="How many, newest first.")
@click.option("--cursor", help="`next` of the page before.")
def list_(limit: int, cursor: str | None) -> None:
    """Our invoices, newest first."""
    with session().connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        said = daemon.list_invoices(limit=limit, cursor=cursor)
    rows = [
        (
            _moment(one["created_at"]),
            shown(one["amount"], one["token"], tokens) or "any",
            one["state"],
            brief(one["payment_hash"]),
            one["description"],
        )
        for one in said["invoices"]
    ]
    heads = ("made", ">amount", "state", "payment hash", "description")
    session().out.table(said, heads, rows, "no invoices yet; channeld invoice AMOUNT")


def _show_invoice(said: Any, tokens: Any) -> None:
    got, by = said.get("received"), said.get("settle_by")
    session().out.show(
        said,
        [
            ("payment hash", said["payment_hash"]),
            ("payee", said["payee"]),
            ("amount", shown(said["amount"], said["token"], tokens) or f"any, in {said['symbol']}"),
            ("description", said["description"]),
            ("expires", _moment(said["expires_at"])),
            ("state", said["state"]),
            ("received", shown(got, said["token"], tokens) if got else ""),
            ("settle by", _moment(by) if by else ""),
        ],
    )


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


@click.command()
@shared
@click.argument("text", metavar="INVOICE")
@click.option("--amount", help="Only if the invoice leaves it open.")
@click.option("--max-fee", help="Most it may cost on top; the setting by default.")
@click.option("--raw", is_flag=True, help="Amounts are base units.")
@click.option("--timeout", type=int, default=60, show_default=True, help="Seconds to find a path that works.")
@click.option("--idempotency-key", help="Said again with the same key, the first outcome is told again.")
def pay(
    text: str, amount: str | None, max_fee: str | None, raw: bool, timeout: int, idempotency_key: str | None
) -> None:
    """Pay INVOICE."""
    here = session()
    with here.connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        units = fee = None
        if amount is not None or max_fee is not None:
            token = daemon.decode_invoice(invoice=text)["symbol"]
            units = parse(amount, tokens, raw=raw, token=token).units if amount is not None else None
            fee = parse(max_fee, tokens, raw=raw, token=token).units if max_fee is not None else None
        here.out.progress("looking for a path and paying")
        said = daemon.pay_invoice(
            invoice=text, amount=units, max_fee=fee, timeout=timeout, idempotency_key=idempotency_key
        )
    _show_payment(said, tokens)


def _show_payment(said: Any, tokens: Any) -> None:
    if said["state"] == "failed":
        raise Refused("payment_failed", said.get("error_text") or "the payment failed", "nothing was paid")
    session().out.show(
        said,
        [
            (said["state"], shown(said["amount"], said["token"], tokens)),
            ("fee", shown(said["fee"], said["token"], tokens)),
            ("hops", said.get("hops", 0) or ""),
            ("payment hash", said["id"]),
            ("preimage", said.get("preimage")),
        ],
    )


@click.command()
@shared
@click.argument("node_id", metavar="NODE")
@click.argument("amount")
@click.option("--raw", is_flag=True, help="Amounts are base units, of --token.")
@click.option("--token", help="native, a symbol or an address; by default what AMOUNT says.")
@click.option("--max-fee", help="Most it may cost on top; the setting by default.")
@click.option("--timeout", type=int, default=60, show_default=True, help="Seconds to find a path that works.")
@click.option("--idempotency-key", help="Said again with the same key, the first outcome is told again.")
def keysend(
    node_id: str,
    amount: str,
    raw: bool,
    token: str | None,
    max_fee: str | None,
    timeout: int,
    idempotency_key: str | None,
) -> None:
    """Pay AMOUNT to NODE, which has asked for nothing; it must take such payments (payments.accept_keysend)."""
    here = session()
    with here.connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        money = parse(amount, tokens, raw=raw, token=token)
        fee = None if max_fee is None else parse(max_fee, tokens, raw=raw, token=money.token).units
        here.out.progress("looking for a path and paying")
        said = daemon.pay_keysend(
            node_id=node_id,
            token=money.token,
            amount=money.units,
            max_fee=fee,
            timeout=timeout,
            idempotency_key=idempotency_key,
        )
    _show_payment(said, tokens)


@click.command()
@shared
@click.argument("text", metavar="INVOICE")
@click.option("--amount", help="Only if the invoice leaves it open.")
@click.option("--max-fee", help="Most it may cost on top; the setting by default.")
@click.option("--raw", is_flag=True, help="Amounts are base units.")
def route(text: str, amount: str | None, max_fee: str | None, raw: bool) -> None:
    """How a payment of INVOICE would go now: its parts, hops and fees, and how likely it arrives. Pays nothing."""
    here = session()
    with here.connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        asked = daemon.decode_invoice(invoice=text)
        token = asked["token"]
        units, fee = (
            None if one is None else parse(one, tokens, raw=raw, token=asked["symbol"]).units
            for one in (amount, max_fee)
        )
        said = daemon.find_route(invoice=text, amount=units, max_fee=fee)
    _show_plan(said, said, token, tokens)


@click.command()
@shared
@click.argument("node_id")
@click.argument("amount")
@click.option("--max-fee", help="Most it may cost on top; the setting by default.")
@click.option("--raw", is_flag=True, help="Amounts are base units, of --token.")
@click.option("--token", help="native, a symbol or an address; by default what AMOUNT says.")
def estimate(node_id: str, amount: str, max_fee: str | None, raw: bool, token: str | None) -> None:
    """How a payment of AMOUNT to the node NODE_ID would go now, without an invoice. Sends nothing."""
    here = session()
    with here.connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        pays = parse(amount, tokens, raw=raw, token=token)
        fee = None if max_fee is None else parse(max_fee, tokens, raw=raw, token=pays.token).units
        said = daemon.estimate(node_id=node_id, token=pays.token, amount=pays.units, max_fee=fee)
    _show_plan(said, said, address(pays.token, tokens), tokens)


@click.command()
@shared
@click.argument("node_id")
@click.argument("amount")
@click.option("--max-fee", help="Most the way may cost; the setting by default. Nothing is paid.")
@click.option("--raw", is_flag=True, help="Amounts are base units, of --token.")
@click.option("--token", help="native, a symbol or an address; by default what AMOUNT says.")
def probe(node_id: str, amount: str, max_fee: str | None, raw: bool, token: str | None) -> None:
    """See how far AMOUNT gets on its way to the node NODE_ID, by a lock that nobody can take and that comes back.

    The daemon's setting payments.probing must allow it.
    """
    here = session()
    with here.connect() as daemon:
        tokens = daemon.get_info()["tokens"]
        pays = parse(amount, tokens, raw=raw, token=token)
        fee = None if max_fee is None else parse(max_fee, tokens, raw=raw, token=pays.token).units
        here.out.progress("waiting for the lock to come back")
        said = daemon.probe(node_id=node_id, token=pays.token, amount=pays.units, max_fee=fee)
    if not here.out.as_json:
        where = f" over channel {brief(said['failed_channel'])}" if said["failed_channel"] else ""
        why = f": {said.get('error_text')}" if said.get("error_text") else ""
        here.out.text(f"{said['state']}{where}{why}")
    _show_plan(said["plan"], said, address(pays.token, tokens), tokens)


def _show_plan(plan: Any, said: Any, token: str, tokens: Any) -> None:
    """A plan, as it is for people; or `said` as JSON."""
    rows = [
        (
            number if hop is part["hops"][0] else "",
            brief(hop["channel_id"]),
            brief(hop["node_id"]),
            shown(hop["amount"], token, tokens),
            shown(hop["fee"], token, tokens) if int(hop["fee"]) else "",
        )
        for number, part in enumerate(plan["parts"], 1)
        for hop in part["hops"]
    ]
    here = session()
    if not here.out.as_json:
        here.out.text(
            f"{shown(plan['amount'], token, tokens)} for a fee of {shown(plan['fee'], token, tokens)}, "
            f"arrives at once with {plan['chance_ppm'] / 10_000:.1f} %"
        )
    here.out.table(said, (">part", "over channel", "to", ">amount", ">fee kept"), rows, "")


@click.command()
@shared
@click.argument("channel")
@click.argument("amounts", nargs=-1, required=True)
@click.option("--raw", is_flag=True, help="Amounts are base units of the channel's token.")
@click.option("--id", "ids", multiple=True, help="16 bytes in hex to name a transfer by; as many as amounts.")
@click.option("--wait/--no-wait", default=True, help="Wait for the peer to acknowledge.", show_default=True)
def transfer(channel: str, amounts: tuple[str, ...], raw: bool, ids: tuple[str, ...], wait: bool) -> None:
    """Pay the peer of CHANNEL directly: one transfer for each of AMOUNTS, signed together."""
    if ids and len(ids) != len(amounts):
        raise Refused("usage", f"{len(ids)} ids for {len(amounts)} amounts", "one --id for each amount, or none")
    here = session()
    with here.connect() as daemon:
        name = resolved(daemon, channel)
        found = daemon.list_channels(channel_id=name)["channels"]
        if not found:
            raise Refused("unknown_channel", f"no channel of ours has the id {name}", "channeld channels")
        tokens = daemon.get_info()["tokens"]
        token = found[0]["symbol"]
        each = [parse(one, tokens, raw=raw, token=token).units for one in amounts]
        transfers = [{"amount": units, **({"id": ids[place]} if ids else {})} for place, units in enumerate(each)]
        said = daemon.send_transfers(channel_id=name, transfers=transfers, wait=wait)
    total = shown(sum(each), found[0]["token"], tokens)
    here.out.show(said, [(said["state"], total), ("transfers", len(each)), ("ids", "  ".join(said["ids"][:8]))])
