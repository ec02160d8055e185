"""An invoice of ours as its row in the database says it, and the row of a payment that came without one."""

from __future__ import annotations

from dataclasses import dataclass, field

from channeld.base.units import Address, Amount, LockKey, Preimage, Seconds, Timestamp
from channeld.storage.store import Batch, Store, narrow, wide


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnInvoice:
    """`preimage`: empty while somebody else has it. `hold`: seconds for which it is held at least, 0 if it never is.
    `open`: nobody has paid it yet, and it may be paid. `unasked`: a keysend, which has no row before it is paid."""

    hash: LockKey
    preimage: Preimage = field(repr=False)
    secret: bytes = field(repr=False)
    token: Address
    amount: Amount | None
    expires: Timestamp
    hold: Seconds = Seconds(0)
    open: bool = True
    unasked: bool = False


def find(store: Store, hash_: LockKey) -> OwnInvoice | None:
    """Our invoice of that payment hash, as it is on disk."""
    rows = store.rows(
        "SELECT preimage, secret, token, amount, expires, hold, state FROM invoices WHERE hash = ?",
        hash_,
    )
    if not rows:
        return None
    preimage, secret, token, amount, expires, hold, state = rows[0]
    return OwnInvoice(
        hash=hash_,
        preimage=preimage,
        secret=secret,
        token=token,
        amount=None if amount is None else Amount(narrow(amount)),
        expires=expires,
        hold=hold,
        open=state == "open",
    )


def add_unasked(writes: Batch, came: OwnInvoice, now: Timestamp) -> None:
    """The row of a keysend, still open: whoever claims it says in the same batch that it is paid. Its text is empty."""
    writes.add(
        "INSERT OR IGNORE INTO invoices (hash, n, preimage, secret, text, token, amount, created, expires, state) "
        "VALUES (?, (SELECT coalesce(max(n), 0) + 1 FROM invoices), ?, ?, '', ?, ?, ?, ?, 'open')",
        *(came.hash, came.preimage, came.secret, came.token),
        *(None if came.amount is None else wide(came.amount), now, came.expires),
    )
