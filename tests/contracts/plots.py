"""Plots: sequences of calls by honest, lying and colluding callers, led through the contracts and the model alike.

A plot is a list of steps, small values that Hypothesis can draw and shrink. `Player.step` does one to both and holds
them to each other: the same outcome or the same reason, and after it the same storage, payouts, debts and index; and to
the laws: what the manager holds is what it owes, to the unit. Each plot has two channels of its own between the same
two parties, one in coin and one in a token, on one chain that all plots share.

Whoever signs may be the right one, the other party, somebody else, or nobody; both parties sign any body, garbage
included, for the bodies and versions are drawn without regard to what came before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from channeld.base.digests import (
    ALL,
    Lock,
    close_digest,
    cooperate_digest,
    delegation_digest,
    pack_locks,
    state_digest,
)
from channeld.base.keys import compact, keccak
from channeld.base.units import NATIVE, Address, Digest, Seconds, Side, Timestamp, Version
from tests.contracts.model import (
    COIN,
    MANAGER,
    NOBODY,
    Evidence,
    ModelChannel,
    ModelManager,
    Outcome,
    Refusal,
    Signed,
    rest_hash,
)
from tests.contracts.world import (
    BEATEN,
    CLOSER_B,
    DEAD,
    DELEGATED,
    FINAL,
    NO_STATE,
    PERIOD,
    VOID,
    Body,
    Channel,
    Reverted,
    World,
    key_of,
    lock,
    secret_of,
    words_of,
)

Step = tuple[Any, ...]
PAYING: Final = ("cooperate", "finalize", "settle", "resolve", "withdraw")
TOKEN: Final = "token"
PARTIES: Final = ("payer", "payee")
SENDERS: Final = st.sampled_from(["payer", "payee", "anyone"])
SIGNERS: Final = st.sampled_from(["payer", "payee", "anyone", None])
RIGHT: Final = 3
"""How often, against once for anybody, the right one signs."""
WHICH: Final = st.sampled_from([0, 1])
SIDES: Final = st.sampled_from(Side)
VERSIONS: Final = st.one_of(st.integers(1, 8), st.sampled_from([0, 2**40 - 1, 2**40, 2**256 - 1]))
NETS: Final = st.one_of(st.integers(-150, 150), st.sampled_from([-(2**255), 2**255 - 1, 2**88]))
HELD: Final = st.one_of(st.integers(0, 80), st.sampled_from([2**88, 2**256 - 1]))
OUTS: Final = st.sampled_from([0, 10, 60, ALL])
BODIES: Final = st.tuples(NETS, HELD, HELD, st.integers(0, 3))
"""net, locked_ab, locked_ba, how many of the channel's three locks are listed"""
REVERTS: Final = bytes.fromhex("5f5ffd")


def _mostly(right: str) -> st.SearchStrategy[Signed]:
    return st.one_of(*[st.just(right)] * RIGHT, SIGNERS)


A_SIGNS, B_SIGNS = _mostly("payer"), _mostly("payee")
CHALLENGES: Final = st.tuples(
    WHICH,
    VERSIONS,
    BODIES,
    st.one_of(A_SIGNS, st.just(NOBODY)),
    st.one_of(B_SIGNS, st.just(NOBODY)),
    st.sampled_from([NOBODY, "tower", "tower"]),
    st.sampled_from([0, PERIOD // 2, 2**256 - 1]),
    st.one_of(A_SIGNS, B_SIGNS),
)
STEPS: Final[st.SearchStrategy[Step]] = st.one_of(
    st.tuples(st.just("deposit"), SENDERS, WHICH, st.sampled_from([0, 1, 1, 0, 2]), st.integers(0, 100), st.booleans()),
    st.tuples(
        st.just("deposit_many"),
        SENDERS,
        WHICH,
        st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 50)), max_size=3),
    ),
    st.tuples(
        st.just("cooperate"),
        SENDERS,
        WHICH,
        VERSIONS,
        NETS,
        st.tuples(OUTS, OUTS),
        st.sampled_from([PERIOD, PERIOD, 0, -1]),
        st.sampled_from(["both", "both", "other", "other", "own", "swapped", "one", "neither"]),
    ),
    st.tuples(
        st.just("close"),
        SENDERS,
        WHICH,
        SIDES,
        VERSIONS,
        BODIES,
        st.one_of(*[st.just("right")] * RIGHT, SIGNERS),
        st.one_of(*[st.just("other")] * RIGHT, st.just("own")),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from(
            [None, None, ("right", PERIOD), ("right", 0), ("right", -1), ("anyone", PERIOD), (None, PERIOD)]
        ),
    ),
    st.tuples(st.just("challenge"), SENDERS, CHALLENGES),
    st.tuples(st.just("challenge_many"), SENDERS, st.lists(CHALLENGES, max_size=3)),
    st.tuples(st.just("finalize"), WHICH, st.sampled_from(["right", "right", "other", "none"])),
    st.tuples(st.just("settle"), WHICH, st.sampled_from(["right", "right", "other", "none"])),
    st.tuples(
        st.just("resolve"),
        WHICH,
        st.sampled_from(["right", "right", "right", "all", "none", "chain", "tail", "zeros", "inside"]),
        st.lists(st.integers(0, 2), max_size=2),
        st.sampled_from(["", "", "right", "right", "other", "none"]),
    ),
    st.tuples(st.just("register"), st.lists(st.integers(0, 2), max_size=2)),
    st.tuples(st.just("withdraw"), SENDERS, WHICH, SIDES, st.sampled_from(["owner", "elsewhere"])),
    st.tuples(st.just("refuse"), WHICH, SIDES, st.booleans()),
    st.tuples(st.just("travel"), st.sampled_from([1, PERIOD // 2, PERIOD + 1, 3 * PERIOD])),
    st.tuples(st.just("edge"), WHICH, st.sampled_from(["deadline", "expiry"]), st.integers(0, 2), st.integers(-2, 1)),
)
MOST: Final = 30


def _begun(first: list[Step], state: Step, middle: list[Step], end: list[Step]) -> list[Step]:
    return [*first, state, *middle, *end]


def _deposits(which: int, a: int, b: int) -> list[Step]:
    return [("deposit", "payer", which, 0, a, False), ("deposit", "payee", which, 1, b, True)]


def _refused(which: int, side: Side) -> list[Step]:
    return [
        ("refuse", which, side, True),
        ("travel", PERIOD + 1),
        ("settle", which, "right"),
        ("withdraw", "anyone", which, side, "owner"),
        ("refuse", which, side, False),
        ("withdraw", "anyone", which, side, "owner"),
    ]


def _chained(which: int, after: list[Step]) -> list[Step]:
    """Settled, one lock resolved and the others chained; then anything."""
    begun: list[Step] = [
        ("travel", PERIOD + 1),
        ("resolve", which, "right", [0], "right"),
        ("resolve", which, "chain", []),
    ]
    return [*begun, ("resolve", which, "zeros", []), *after, ("resolve", which, "right", [])]


def _close(which: int, side: Side, version: int, body: Any) -> Step:
    return ("close", PARTIES[side], which, side, version, body, "right", "other", 0, None)


PLOTS: Final[st.SearchStrategy[list[Step]]] = st.one_of(
    st.lists(STEPS, max_size=MOST),
    # Most random plots end early: these begin where it gets interesting, and go on to the end.
    st.builds(
        _begun,
        st.builds(_deposits, WHICH, st.integers(1, 100), st.integers(1, 100)),
        st.builds(_close, WHICH, SIDES, st.integers(0, 3), BODIES),
        st.lists(STEPS, max_size=15),
        st.one_of(
            st.just(
                [("travel", PERIOD + 1), ("settle", 0, "right"), ("settle", 1, "right"), ("resolve", 0, "right", [])]
            ),
            st.just([("travel", PERIOD + 1), *(("resolve", which, "right", [0], "right") for which in (0, 1))]),
            st.builds(_chained, WHICH, st.lists(STEPS, max_size=6)),
            st.lists(STEPS, max_size=8),
            st.builds(_refused, WHICH, SIDES),
        ),
    ),
)


def _forged(what: str, locks: tuple[Lock, ...]) -> bytes:
    """Bytes that are no list, made of what everybody can see: a chain's preimage, and pieces of it."""
    packed = b"".join(one.packed() for one in locks)
    last = locks[-1].packed() if locks else bytes(57)
    match what:
        case "chain":
            return rest_hash(locks[:-1]) + last
        case "zeros":
            return bytes(32) + last
        case "inside":
            return (bytes(32) + last)[:57]
        case _:
            return packed + b"tail"


class Player:
    """Two channels and their model, on a chain that other plots have played on before."""

    def __init__(self, world: World) -> None:
        world.count += 1
        self.world = world
        number = world.count
        self.real: list[Channel] = [world.channel(NATIVE), world.channel(world.nasty)]
        self.names = [f"{kind} {number}" for kind in (COIN, TOKEN)]
        self.tower = Address(keccak(b"tower %d" % number)[:20])
        self.elsewhere = Address(keccak(b"elsewhere %d" % number)[:20])
        self.numbers = [number * 100 + at for at in range(3)]
        expiries = (world.now + PERIOD, world.now + 2 * PERIOD, world.now + 4 * PERIOD)
        self.locks: tuple[Lock, ...] = tuple(
            lock(at, side, 30, expiry)
            for at, side, expiry in zip(self.numbers, (Side.A, Side.B, Side.A), expiries, strict=True)
        )
        self.model = ModelManager(now=world.now, closings=int(world.ask(world.manager, "closings")))
        for name, one, kind in zip(self.names, self.real, (COIN, TOKEN), strict=True):
            payouts = (f"{name} a", f"{name} b")
            self.model.channels[name] = ModelChannel(
                token=kind, parties=PARTIES, payouts=payouts, period=PERIOD, bond=one.terms.close_bond
            )
        self.pool = {kind: world.balance(self.token(kind), world.manager) for kind in (COIN, TOKEN)}
        self.seen: list[str] = []
        """Of each step its outcome: "ok" or a reason."""

    # -- what names stand for

    def token(self, kind: str) -> Address:
        return NATIVE if kind == COIN else self.world.nasty

    def who(self, name: str) -> Address:
        if name in ("payer", "payee", "anyone"):
            return key_of(name).address
        if name == "tower":
            return self.tower
        if name == "elsewhere":
            return self.elsewhere
        for channel, known in zip(self.names, self.real, strict=True):
            for side in Side:
                if name == f"{channel} {'ab'[side]}":
                    return known.terms.payout(side)
        return NATIVE

    def signature(self, signer: Signed, digest: Digest) -> tuple[bytes, bytes]:
        """By whoever is named; empty for nobody's; of something else for None."""
        if signer == NOBODY:
            return compact(b"")
        if signer is None:
            return compact(key_of("payer").sign(Digest(keccak(digest))))
        return compact(key_of(signer).sign(digest))

    def outcome(self, drawn: tuple[int, int, int, int]) -> Outcome:
        net, ab, ba, count = drawn
        locks = tuple(sorted(self.locks[:count], key=lambda one: (one.sender, one.id)))
        return Outcome(net=net, locked_ab=ab, locked_ba=ba, locks=locks, stated=True)

    def body_hash(self, which: int, outcome: Outcome) -> Digest:
        if not outcome.stated:
            return Digest(bytes(32))
        return self._body(which, outcome).hash

    def _body(self, which: int, outcome: Outcome) -> Body:
        held = (outcome.locked_ab, outcome.locked_ba)
        return Body(net=outcome.net, locked=held, locks=outcome.locks, blind=bytes([which + 1]) * 32)

    # -- steps

    def step(self, name: str, *drawn: Any) -> str:
        """Do it to both and compare; its outcome."""
        if name == "travel":
            self.world.travel(self.world.now + drawn[0])
            return "ok"
        if name == "edge":
            return self._edge(*drawn)
        act: Callable[..., tuple[Callable[[], Any], Callable[[], Any]]] = getattr(self, f"_{name}")
        on_model, on_real = act(*drawn)
        refusal = reason = ""
        answers: list[Any] = [None, None]
        self.model.now = self.world.now + 1
        try:
            answers[0] = on_model()
        except Refusal as refused:
            refusal = str(refused)
        try:
            answers[1] = on_real()
        except Reverted as reverted:
            reason = reverted.reason
        if reason != refusal or answers[0] != answers[1]:
            raise AssertionError(f"{name} {drawn}: model {refusal or answers[0]!r}, contract {reason or answers[1]!r}")
        self.check(paid=name in PAYING)
        self.seen.append(f"{name}: {reason or 'ok'}")
        return reason or "ok"

    def _edge(self, which: int, what: str, place: int, offset: int) -> str:
        """Let the next call come within a second or two of a boundary, if that is not over."""
        edge = self.model.channels[self.names[which]].deadline if what == "deadline" else self.locks[place].expiry
        self.world.travel(edge + offset)
        return "ok"

    def _deposit(self, sender: str, which: int, side: int, amount: int, memo: bool) -> Any:
        channel, name = self.real[which], self.names[which]
        value = amount if channel.token == NATIVE else 0
        rest = (words_of(bytes([7]) * 192),) if memo else ()
        given = (channel.token, channel.terms.hash, side, amount, *rest)
        return (
            lambda: self.model.deposit(sender, name, side, amount),
            lambda: self._do(sender, "deposit", *given, value=value),
        )

    def _deposit_many(self, sender: str, which: int, many: list[tuple[int, int]]) -> Any:
        channel, name = self.real[which], self.names[which]
        given = [(channel.terms.hash, side, amount, words_of(bytes(192))) for side, amount in many]
        total = sum(amount for _, amount in many) if channel.token == NATIVE else 0
        kind = self.model.channels[name].token
        return (
            lambda: self.model.deposit_many(sender, kind, [(name, side, amount) for side, amount in many]),
            lambda: self._do(sender, "deposit_many", channel.token, given, value=total),
        )

    def _cooperate(
        self, sender: str, which: int, version: int, net: int, outs: tuple[int, int], later: int, signing: str
    ) -> Any:
        channel, name = self.real[which], self.names[which]
        until = max(0, self.world.now + 1 + later)
        other = PARTIES[1] if sender == PARTIES[0] else PARTIES[0]
        signers: dict[str, tuple[Signed, ...]] = {
            "both": PARTIES,
            "swapped": PARTIES[::-1],
            "other": (other,),
            "own": (sender,),
            "one": (PARTIES[0], None),
            "neither": (None,),
        }
        signed = signers[signing]
        digest = cooperate_digest(self.world.domain, channel.id, Version(version), net, *outs, Timestamp(until))
        given = (version, net, *outs, until, *(self.signature(one, digest) for one in signed))
        return (
            lambda: self.model.cooperate(sender, name, version, net, outs, until, *signed),
            lambda: self._do(sender, "cooperate", *channel.head, *given),
        )

    def _close(
        self,
        sender: str,
        which: int,
        side: Side,
        version: int,
        drawn: Any,
        signer: Signed,
        salt: str,
        over: int,
        order: tuple[Signed, int] | None,
    ) -> Any:
        channel, name = self.real[which], self.names[which]
        outcome = self.outcome(drawn) if version else Outcome()
        state = self.body_hash(which, outcome)
        signed = PARTIES[side.other] if signer == "right" else signer
        reveals = side.other if salt == "other" else side
        value = channel.terms.close_bond + over
        digest = state_digest(self.world.domain, channel.id, Version(version), state)
        given: list[Any] = [version, state, self.signature(signed, digest)]
        given += [channel.salts[reveals], keccak(channel.salts[reveals.other])]
        ordered: tuple[int, Signed] | None = None
        if order is not None:
            until, ordering = self.world.now + 1 + order[1], PARTIES[side] if order[0] == "right" else order[0]
            ordered = (until, ordering)
            asked = close_digest(self.world.domain, channel.id, Version(version), state, Timestamp(until))
            given.append((until, self.signature(ordering, asked)))
        return (
            lambda: self.model.close(sender, name, version, outcome, signed, reveals, value, ordered),
            lambda: self._do(sender, "close", *channel.head, *given, value=value),
        )

    def _evidence(self, drawn: Any) -> tuple[Evidence, tuple[Any, ...]]:
        which, version, body, signed_a, signed_b, payout, delay, delegated_by = drawn
        channel, outcome = self.real[which], self.outcome(body)
        state = self.body_hash(which, outcome)
        digest = state_digest(self.world.domain, channel.id, Version(version), state)
        payee = self.who(payout)
        delegated = delegation_digest(self.world.domain, channel.id, Version(version), payee, Seconds(delay))
        given = (
            *channel.head,
            version,
            state,
            self.signature(signed_a, digest),
            self.signature(signed_b, digest),
            payee,
            delay,
            self.signature(delegated_by, delegated),
        )
        evidence = Evidence(
            channel=self.names[which],
            version=version,
            outcome=outcome,
            signed_a=signed_a,
            signed_b=signed_b,
            payout=payout,
            delay=delay,
            delegated_by=delegated_by,
        )
        return evidence, given

    def _challenge(self, sender: str, drawn: Any) -> Any:
        evidence, given = self._evidence(drawn)
        return lambda: self.model.challenge(sender, evidence), lambda: self._do(sender, "challenge", given)

    def _challenge_many(self, sender: str, many: list[Any]) -> Any:
        every = [self._evidence(drawn) for drawn in many]
        return (
            lambda: self.model.challenge_many(sender, [evidence for evidence, _ in every]),
            lambda: self._counted(sender, [given for _, given in every]),
        )

    def _counted(self, sender: str, given: list[Any]) -> int:
        receipt = self.world.do(self.who(sender), self.world.manager, "challenge_many", given)
        return int.from_bytes(receipt.output, "big")

    def _named(self, which: int, what: str) -> Outcome:
        recorded = self.model.channels[self.names[which]].outcome
        if what == "right":
            return recorded
        return Outcome() if what == "none" else self.outcome((1, 2, 3, 1))

    def _finalize(self, which: int, what: str) -> Any:
        channel, name, named = self.real[which], self.names[which], self._named(which, what)
        given = (self.body_hash(which, named), self.who(named.bond_to))
        return (
            lambda: self.model.finalize(name, named),
            lambda: self._do("anyone", "finalize", *channel.head, *given),
        )

    def _settle(self, which: int, what: str) -> Any:
        channel, name, named = self.real[which], self.names[which], self._named(which, what)
        opened = self._body(which, named).opened() if named.stated else NO_STATE
        return (
            lambda: self.model.settle(name, named),
            lambda: self._do("anyone", "settle", *channel.head, opened, self.who(named.bond_to)),
        )

    def _resolve(self, which: int, what: str, secrets: list[int], opening: str = "") -> Any:
        """With an opening: settle too, and the locks are then those of the state that is opened."""
        channel, name = self.real[which], self.names[which]
        opened = self._named(which, opening) if opening else None
        rest: tuple[Any, ...] = ()
        if opened is not None:
            body = self._body(which, opened).opened() if opened.stated else NO_STATE
            rest = ((body, self.who(opened.bond_to)),)
        recorded = self.model.channels[name].outcome.locks
        lists: dict[str, tuple[Lock, ...]] = {"right": recorded, "all": self.locks, "none": ()}
        given, packed = lists.get(what), _forged(what, recorded)
        if given is not None:
            packed = b"".join(one.packed() for one in given)
        keys = [self.locks[place].key for place in secrets]
        revealed = [secret_of(self.numbers[place]) for place in secrets]
        return (
            lambda: self.model.resolve(name, given, keys, opened),
            lambda: self._do("anyone", "resolve_locks", *channel.head, packed, revealed, *rest),
        )

    def _register(self, secrets: list[int]) -> Any:
        return (
            lambda: self.model.register([self.locks[place].key for place in secrets]),
            lambda: self._reveal(secrets),
        )

    def _reveal(self, secrets: list[int]) -> None:
        self.world.reveal(*(secret_of(self.numbers[place]) for place in secrets))

    def _withdraw(self, sender: str, which: int, side: Side, to: str) -> Any:
        channel, name = self.real[which], self.names[which]
        owner, kind = f"{name} {'ab'[side]}", self.model.channels[name].token
        receiver = owner if to == "owner" else "elsewhere"
        given = (channel.token, self.who(owner), self.who(receiver))
        return (
            lambda: self.model.withdraw(sender, kind, owner, receiver),
            lambda: self._do(sender, "withdraw", *given),
        )

    def _refuse(self, which: int, side: Side, refuses: bool) -> Any:
        """A receiver stops taking money, or takes it again."""
        owner = f"{self.names[which]} {'ab'[side]}"
        place = self.who(owner)

        def on_model() -> None:
            for kind in (COIN, TOKEN):
                (self.model.refusing.add if refuses else self.model.refusing.discard)((kind, owner))

        def on_real() -> None:
            self.world.evm.become(place, REVERTS if refuses else b"")
            self.world.do(self.world.rich, self.world.nasty, "bar", place, refuses)

        return on_model, on_real

    def _do(self, sender: str, name: str, *arguments: Any, value: int = 0) -> None:
        self.world.do(self.who(sender), self.world.manager, name, *arguments, value=value)

    # -- comparing

    def check(self, *, paid: bool) -> None:
        """Storage and, if money may have left, payouts and debts are as modelled; nothing is made and nothing lost."""
        world, model = self.world, self.model
        for name, real in zip(self.names, self.real, strict=True):
            one = model.channels[name]
            flags = (
                CLOSER_B * (one.closer is Side.B)
                | BEATEN * one.beaten
                | DELEGATED * one.delegated
                | VOID * one.void
                | FINAL * one.final
                | DEAD * one.dead
            )
            expected = (one.deposit_a, one.deposit_b, one.version, one.deadline, flags, self.record(name))
            if real.stored() != expected:
                raise AssertionError(f"{name}: stored {real.stored()}, modelled {expected}")
            for owner in one.payouts if paid else ():
                self._compare(one.token, owner)
                self._compare(COIN, owner)
        if paid:
            self._compare(COIN, "tower")
            self._compare(COIN, "elsewhere")
            self._compare(TOKEN, "elsewhere")
        for kind in (COIN, TOKEN):
            held = world.balance(self.token(kind), world.manager) - self.pool[kind]
            if not held == model.balance(kind, MANAGER) == model.entitled(kind):
                raise AssertionError(f"{kind}: holds {held}, modelled {model.balance(kind, MANAGER)}")
        if int(world.ask(world.manager, "closings")) != model.closings:
            raise AssertionError("the closing index has a gap")

    def record(self, name: str) -> bytes:
        """The second word, as the model implies it."""
        one, which = self.model.channels[name], self.names.index(name)
        if not one.deadline:
            return bytes(32)
        if not one.dead:
            return keccak(self.body_hash(which, one.outcome) + bytes(12) + self.who(one.outcome.bond_to))
        if not one.outcome.locks:
            return bytes(32)
        return rest_hash(one.outcome.locks) if one.chained else keccak(pack_locks(one.outcome.locks))

    def _compare(self, kind: str, owner: str) -> None:
        place, token = self.who(owner), self.token(kind)
        have, owed = self.world.balance(token, place), self.world.owed(token, place)
        modelled = self.model.balance(kind, owner), self.model.owed.get((kind, owner), 0)
        if (have, owed) != modelled:
            raise AssertionError(f"{owner}: has {have} and is owed {owed} of {kind}, modelled {modelled}")
