"""R19: whose preimage is public already is not paid for: anybody on the way could take the lock and keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from channeld.base.errors import Refused
from channeld.node.loop import Actor
from tests.crash.scenarios import line, send_raw
from tests.crash.sim import Sim, contracts, simulate


def test_an_invoice_whose_secret_is_registered_is_not_paid(tmp_path: Path) -> None:
    async def program(sim: Sim) -> None:
        (payer, payee), _ = await line(sim, Actor, "payer", "payee")
        asked = await payee.invoice(7)
        ((secret,),) = payee.service.store.rows("SELECT preimage FROM invoices")
        send_raw(sim, payee.key, contracts().register([secret]))
        await payer.until(lambda: bool(payer.service.world.registered))
        with pytest.raises(Refused) as refused:
            await payer.ask(
                "pay_invoice", invoice=asked["invoice"], amount=None, max_fee=None, timeout=30, idempotency_key=None
            )
        assert refused.value.code == "invoice_paid"

    simulate(program, tmp_path)
