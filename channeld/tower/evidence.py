"""From a sealed row and a close to something the contract accepts, or to nothing.

Anybody can put rows under a hint, and a client can seal what it likes, so nothing in a blob is believed: the terms
must hash to the channel that closes, both participants must have signed the state, and only a delegation by the
victim (the side that did not close) that names our payout counts as one. The predicate for signatures is the
contract's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from channeld.base.digests import Domain, Terms, body_hash, channel_id, delegation_digest, state_digest
from channeld.base.errors import Malformed
from channeld.base.keys import recover
from channeld.base.units import Address, ChannelId, Digest, NodeId, Preimage, Seconds, Side, Signature, Version
from channeld.chain.bindings import NO_ONE, Contracts
from channeld.chain.chain import Call, SeenClose
from channeld.core.watching import Evidence
from channeld.tower.store import Row
from channeld.wire import appointment
from channeld.wire.appointment import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A state of a closing channel that `challenge` accepts if it is newer. Every signature in it was checked."""

    channel_id: ChannelId
    token: Address
    terms: Terms
    version: Version
    body_hash: Digest
    signature_a: Signature
    signature_b: Signature
    delegation: bytes
    """The victim's, for our payout; empty if there is none that counts."""
    payout: Address
    delay: Seconds
    body: Body | None
    """The opened state, if the client lets us settle."""
    preimages: tuple[Preimage, ...]

    @property
    def evidence(self) -> Evidence:
        """What the judge is shown."""
        return Evidence(version=self.version, delegated=bool(self.delegation), delay=self.delay)

    @property
    def name(self) -> str:
        """Names the act of presenting this state, once for ever."""
        return f"{self.channel_id.hex()}:{self.version}"

    def challenge(self, contracts: Contracts) -> Call:
        return contracts.challenge(
            self.token,
            self.terms,
            version=self.version,
            body_hash=self.body_hash,
            signature_a=self.signature_a,
            signature_b=self.signature_b,
            payout=self.payout,
            delay=self.delay,
            delegation=self.delegation,
        )

    def settle(self, contracts: Contracts, bond_to: Address) -> Call | None:
        """Pay out both sides and the bond, if the body was entrusted to us."""
        if self.body is None:
            return None
        return contracts.settle(
            self.token,
            self.terms,
            net=self.body.net,
            locked_ab=self.body.locked_ab,
            locked_ba=self.body.locked_ba,
            locks_hash=self.body.locks_hash,
            blind=self.body.blind,
            bond_to=bond_to,
        )


def newer(held: Proof | None, found: Proof) -> Proof:
    """The one to present: the higher version; of two equals the one that pays us."""
    if held is None or (found.version, bool(found.delegation)) > (held.version, bool(held.delegation)):
        return found
    return held


def prove(row: Row, close: SeenClose, *, domain: Domain, tower: NodeId, payout: Address) -> Proof | None:
    """What `row` proves against `close`, which has revealed the salt; None for a row that proves nothing.

    Args:
        tower: our node id, to which the row's key is bound. payout: the address a delegation must name.
    """
    try:
        held = appointment.open_blob(row.blob, salt=close.salt, tower=tower, auth=row.auth, seq=row.seq)
    except Malformed:
        return None
    if channel_id(domain, held.token, held.terms.hash) != close.channel_id:
        return None
    state = state_digest(domain, close.channel_id, held.version, held.body_hash)
    signed = ((Side.A, held.signature_a), (Side.B, held.signature_b))
    if any(recover(state, signature) != held.terms.participant(side) for side, signature in signed):
        return None
    pays = _is_delegated(held, close, domain, payout)
    return Proof(
        channel_id=close.channel_id,
        token=held.token,
        terms=held.terms,
        version=held.version,
        body_hash=held.body_hash,
        signature_a=held.signature_a,
        signature_b=held.signature_b,
        delegation=held.delegation if pays else b"",
        payout=payout if pays else NO_ONE,
        delay=held.delay if pays else Seconds(0),
        body=held.body if _opens(held) else None,
        preimages=held.preimages,
    )


def _is_delegated(held: appointment.Evidence, close: SeenClose, domain: Domain, payout: Address) -> bool:
    if not held.delegation or held.payout != payout:
        return False
    digest = delegation_digest(domain, close.channel_id, held.version, held.payout, held.delay)
    return recover(digest, held.delegation) == held.terms.participant(close.closer.other)


def _opens(held: appointment.Evidence) -> bool:
    """Whether the body is that of the state."""
    body = held.body
    return body is not None and held.body_hash == body_hash(
        body.net, body.locked_ab, body.locked_ba, body.locks_hash, body.blind
    )
