"""What a channel needs done on chain, as transactions: each act of `core.closing` becomes an intent of the sender.

An intent's name says what it does, so an act that is due again at the next look is the same intent and is sent once. A
secret belongs to one registration, until that one has failed.
"""

from __future__ import annotations

import logging
from typing import Final

from channeld.base.keys import keccak, sha256
from channeld.base.units import Address, LockKey, Side, Timestamp
from channeld.chain.bindings import Contracts
from channeld.chain.chain import Call
from channeld.chain.intents import Intent, Status
from channeld.chain.sender import Sender
from channeld.core import closing
from channeld.core.channel import Channel
from channeld.core.closing import Act
from channeld.node.world import World

log = logging.getLogger(__name__)
MAX_SECRETS: Final = 100
"""Secrets registered in one transaction."""


class Acts:
    """See the file's head. `us`: the account that sends."""

    def __init__(self, contracts: Contracts, sender: Sender, world: World, us: Address) -> None:
        self._contracts, self._sender, self._world, self._us = contracts, sender, world, us
        self._registering: dict[LockKey, str] = {}
        """The intent in which a secret is registered."""

    def registered(self, key: LockKey) -> None:
        """The chain's word on a registration has changed for good, or was taken back: a new one is a new intent."""
        self._registering.pop(key, None)

    async def take(self, channel: Channel, act: Act) -> None:
        """Hand it to the sender, unless it has been. Unreachable: the chain cannot be asked now."""
        contracts, token, terms = self._contracts, channel.token, channel.terms
        name = channel.id.hex()
        match act:
            case closing.CooperateAct():
                a, b = (b"", act.signature_theirs) if channel.we is Side.A else (act.signature_theirs, b"")
                call = contracts.cooperate(
                    token,
                    terms,
                    version=act.version,
                    net=act.net,
                    out_a=act.out_a,
                    out_b=act.out_b,
                    valid_until=act.valid_until,
                    signature_a=a,
                    signature_b=b,
                )
                await self._submit(f"cooperate:{name}:{act.version}", call, act.valid_until)
            case closing.CloseAct():
                call = contracts.close(
                    token,
                    terms,
                    version=act.version,
                    body_hash=act.body_hash,
                    signature=act.signature,
                    salt_other=act.salt_other,
                    salt_own_hash=keccak(channel.salt_ours),
                )
                await self._submit(f"close:{name}:{act.version}", call)
            case closing.ChallengeAct():
                call = contracts.challenge(
                    token,
                    terms,
                    version=act.version,
                    body_hash=act.body_hash,
                    signature_a=act.signature_a,
                    signature_b=act.signature_b,
                )
                in_time = self._world.chain_time <= act.before  # later it is still good, until `finalize`
                await self._submit(f"challenge:{name}:{act.version}", call, act.before if in_time else None)
            case closing.FinalizeAct():
                call = contracts.finalize(token, terms, body_hash=act.body_hash, bond_to=act.bond_to)
                await self._submit(f"finalize:{name}", call)
            case closing.SettleAct():
                call = contracts.settle(
                    token,
                    terms,
                    net=act.net,
                    locked_ab=act.locked_ab,
                    locked_ba=act.locked_ba,
                    locks_hash=act.locks_hash,
                    blind=act.blind,
                    bond_to=act.bond_to,
                )
                await self._submit(f"settle:{name}", call)
            case closing.ResolveAct():
                call = contracts.resolve_locks(token, terms, act.locks, act.secrets)
                await self._submit(f"resolve:{name}:{keccak(act.locks)[:16].hex()}", call)
            case closing.RegisterAct():
                await self._register(act)

    async def _register(self, act: closing.RegisterAct) -> None:
        """Each secret belongs to one transaction, until that one has failed."""
        wanted = []
        for secret in act.secrets:
            under = self._registering.get(LockKey(sha256(secret)))
            intent = await self._sender.find(under) if under else None
            if intent is None or intent.status in (Status.FAILED, Status.DROPPED):
                wanted.append(secret)
        for at in range(0, len(wanted), MAX_SECRETS):
            some = wanted[at : at + MAX_SECRETS]
            key = f"register:{keccak(b''.join(some)).hex()}"
            for secret in some:
                self._registering[LockKey(sha256(secret))] = key
            log.warning("registering %s secrets on chain, before %s", len(some), act.before)
            await self._submit(key, self._contracts.register(some), act.before)

    async def _submit(self, key: str, call: Call, deadline: Timestamp | None = None) -> None:
        await self._sender.submit(Intent.of(self._us, key, call, deadline=deadline))
