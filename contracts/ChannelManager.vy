# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
"""
@title ChannelManager
@license MIT
@notice Holds the deposits of two-party payment channels and pays them out by the newest state both have signed.
@dev    A singleton without owner or upgrade. A channel is one storage word while open and two while it closes; its
        terms are hashed into its id and handed in again when needed. The specification is contracts/README.md.

        word    deposit_a 88 | deposit_b 88 | version 40 | deadline 32 | flags 8, deposit_a in the highest bits
        record  keccak256(abi_encode(body_hash, bond_to)) while closing; later the hash of the unresolved locks

        deadline 0 means open. Once dead, the two deposit fields hold what unresolved locks still hold back.
"""

from ethereum.ercs import IERC20

interface ISecretRegistry:
    def register(secrets: DynArray[bytes32, 128]): nonpayable
    def registered_at(key: bytes32) -> uint256: view

struct Terms:
    participant_a: address  # signing keys of the two sides
    participant_b: address
    payout_a: address  # where their money goes, fixed for ever
    payout_b: address
    challenge_period: uint256  # seconds, clamped to [MIN_PERIOD, MAX_PERIOD]
    salt_commitment: bytes32  # keccak256(keccak256(salt_a) ‖ keccak256(salt_b))
    close_bond: uint256  # native wei
    nonce: uint256

event Deposited:
    channel_id: indexed(bytes32)
    token: address
    terms_hash: bytes32
    side: uint256
    amount: uint256
    deposit_a: uint256
    deposit_b: uint256
    memo: Bytes[192]

event Cooperated:
    channel_id: indexed(bytes32)
    version: uint256
    net: int128
    paid_a: uint256
    paid_b: uint256
    deposit_a: uint256
    deposit_b: uint256

event Closed:
    channel_id: indexed(bytes32)
    closer_side: uint256
    version: uint256
    body_hash: bytes32
    deadline: uint256
    salt: bytes32
    closing_index: uint256

event Challenged:
    channel_id: indexed(bytes32)
    version: uint256
    body_hash: bytes32
    bond_to: address

event Finalized:
    channel_id: indexed(bytes32)
    version: uint256
    bond_to: address
    bond: uint256

event Settled:
    channel_id: indexed(bytes32)
    version: uint256
    paid_a: uint256
    paid_b: uint256
    locked_ab: uint256
    locked_ba: uint256
    locks_hash: bytes32

event LocksResolved:
    channel_id: indexed(bytes32)
    paid_a: uint256
    paid_b: uint256
    locked_ab: uint256
    locked_ba: uint256
    locks_hash: bytes32

event Owed:
    token: indexed(address)
    owner: indexed(address)
    amount: uint256

event Withdrawn:
    token: indexed(address)
    owner: indexed(address)
    to: address
    amount: uint256

CLOSER_B: constant(uint256) = 1  # side B closed; else side A did
BEATEN: constant(uint256) = 2  # a challenge has replaced what the closer presented
DELEGATED: constant(uint256) = 4  # that challenge brought a delegation: bond_to is named
VOID: constant(uint256) = 8  # a cooperate has overtaken the recorded state: it pays out nothing more
FINAL: constant(uint256) = 16  # the outcome is fixed and the bond paid
DEAD: constant(uint256) = 32  # settled; nothing can be deposited, closed or settled again

MASK88: constant(uint256) = 2**88 - 1
MASK40: constant(uint256) = 2**40 - 1
MASK32: constant(uint256) = 2**32 - 1
MAX_PERIOD: constant(uint256) = 30 * 86400
# half the order of secp256k1 (EIP-2)
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

LOCK_BYTES: constant(uint256) = 57
MAX_LOCKS: constant(uint256) = 512
MAX_LOCK_LIST: constant(uint256) = 29184  # LOCK_BYTES * MAX_LOCKS
MAX_SECRETS: constant(uint256) = 128
NO_LOCKS: constant(bytes32) = keccak256(b"")

# What a payout may burn, and what must be left so that it gets all of it: that * 64 / 63 (EIP-150) and the call itself,
# which for native coin costs 36,600 if the account is cold and new.
COIN_GAS: constant(uint256) = 50_000
COIN_GAS_LEFT: constant(uint256) = 90_000
TOKEN_GAS: constant(uint256) = 100_000
TOKEN_GAS_LEFT: constant(uint256) = 106_000

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
DOMAIN_NAME: constant(bytes32) = keccak256("channeld")
DOMAIN_VERSION: constant(bytes32) = keccak256("1")
STATE_TYPE: constant(bytes32) = keccak256("State(bytes32 channelId,uint40 version,bytes32 bodyHash)")
COOPERATE_TYPE: constant(bytes32) = keccak256(
    "Cooperate(bytes32 channelId,uint40 version,int128 net,uint128 outA,uint128 outB,uint64 validUntil)"
)
DELEGATION_TYPE: constant(bytes32) = keccak256(
    "Delegation(bytes32 channelId,uint40 version,address payout,uint32 delay)"
)

REGISTRY: public(immutable(ISecretRegistry))
MIN_PERIOD: public(immutable(uint256))

words: HashMap[bytes32, uint256]
records: HashMap[bytes32, bytes32]
# what could not be pushed: token -> owner -> amount
owed: public(HashMap[address, HashMap[address, uint256]])
# how many closes there have been; the newest carries this number
closings: public(uint256)


@deploy
def __init__(registry: address, min_period: uint256):
    """
    @param registry the SecretRegistry whose times decide locks
    @param min_period lower bound of the challenge period, seconds
    """
    assert registry.is_contract, "registry"
    assert min_period > 0 and min_period <= MAX_PERIOD, "period"
    REGISTRY = ISecretRegistry(registry)
    MIN_PERIOD = min_period


# ---------------------------------------------------------------------------------------------- open and top up


@external
@payable
def deposit(token: address, terms_hash: bytes32, side: uint256, amount: uint256, memo: Bytes[192] = b""):
    """
    @notice Open a channel or add to it, for either side. Credits what arrives.
    @dev Reverts: side, value, transfer, nothing, not open, too much
    @param token ERC-20 contract, or zero for the native coin
    @param terms_hash keccak256(abi_encode(terms))
    @param side whose deposit grows: 0 for A, 1 for B
    @param amount base units; for the native coin exactly what is sent along
    @param memo any bytes, only logged
    """
    assert side < 2, "side"
    channel_id: bytes32 = self._channel_id(token, terms_hash)
    word: uint256 = self.words[channel_id]
    assert (word >> 8) & MASK32 == 0, "not open"
    received: uint256 = amount
    if token == empty(address):
        assert msg.value == amount, "value"
    else:
        assert msg.value == 0, "value"
        received = self._pull(token, amount)
    assert received != 0, "nothing"
    deposit_a: uint256 = word >> 168
    deposit_b: uint256 = (word >> 80) & MASK88
    if side == 0:
        deposit_a += received
    else:
        deposit_b += received
    assert deposit_a + deposit_b <= MASK88, "too much"
    self.words[channel_id] = (deposit_a << 168) | (deposit_b << 80) | (word & (2**80 - 1))
    log Deposited(
        channel_id=channel_id,
        token=token,
        terms_hash=terms_hash,
        side=side,
        amount=received,
        deposit_a=deposit_a,
        deposit_b=deposit_b,
        memo=memo,
    )


# ------------------------------------------------------------------------------------------------- in agreement


@external
def cooperate(
    token: address,
    terms: Terms,
    version: uint40,
    net: int128,
    out_a: uint128,
    out_b: uint128,
    valid_until: uint64,
    signature_a: Bytes[65],
    signature_b: Bytes[65],
):
    """
    @notice Apply a net transfer and pay out what both agreed; the rest stays deposited. Voids every older state.
    @dev While closing it overtakes the recorded state. If nothing is left then, the channel is dead at once and an
         unbeaten closer gets the bond back; else the close runs on, with nothing more to transfer.
         Reverts: dead, old version, expired, signature, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param version above the channel's, shared with states
    @param net what A gives B, may be negative; clamped to the deposits
    @param out_a what A takes out, at most what it has (2**128 - 1 for all)
    @param out_b what B takes out
    @param valid_until last block.timestamp at which this counts
    @param signature_a A's signature of the Cooperate; empty if A sends this
    @param signature_b B's signature; empty if B sends this
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    flags: uint256 = word & 255
    assert flags & DEAD == 0, "dead"
    assert convert(version, uint256) > (word >> 40) & MASK40, "old version"
    assert block.timestamp <= convert(valid_until, uint256), "expired"
    digest: bytes32 = self._digest(
        keccak256(abi_encode(COOPERATE_TYPE, channel_id, version, net, out_a, out_b, valid_until))
    )
    self._agrees(terms.participant_a, digest, signature_a)
    self._agrees(terms.participant_b, digest, signature_b)

    left_a: uint256 = 0
    left_b: uint256 = 0
    left_a, left_b = self._split(word, convert(net, int256))
    paid_a: uint256 = min(left_a, convert(out_a, uint256))
    paid_b: uint256 = min(left_b, convert(out_b, uint256))
    left_a -= paid_a
    left_b -= paid_b
    deadline: uint256 = (word >> 8) & MASK32
    forgiven: bool = False
    if deadline != 0:
        if left_a + left_b == 0 and (flags & FINAL != 0 or flags & BEATEN == 0):
            forgiven = flags & FINAL == 0
            flags |= FINAL | DEAD
            self.records[channel_id] = empty(bytes32)
        else:
            flags |= VOID
    self.words[channel_id] = (
        (left_a << 168) | (left_b << 80) | (convert(version, uint256) << 40) | (deadline << 8) | flags
    )
    log Cooperated(
        channel_id=channel_id,
        version=convert(version, uint256),
        net=net,
        paid_a=paid_a,
        paid_b=paid_b,
        deposit_a=left_a,
        deposit_b=left_b,
    )
    if forgiven:
        closer: address = terms.payout_a
        if flags & CLOSER_B != 0:
            closer = terms.payout_b
        log Finalized(channel_id=channel_id, version=convert(version, uint256), bond_to=closer, bond=terms.close_bond)
        self._push(empty(address), closer, terms.close_bond)
    self._push(token, terms.payout_a, paid_a)
    self._push(token, terms.payout_b, paid_b)


# --------------------------------------------------------------------------------------------------- in dispute


@external
@payable
def close(
    token: address,
    terms: Terms,
    version: uint40,
    body_hash: bytes32,
    signature: Bytes[65],
    salt_other: bytes32,
    salt_own_hash: bytes32,
):
    """
    @notice Start to end a channel alone: by the newest state, or (no signature) without any. Costs the bond, given
            back unless a newer state is shown.
    @dev For participants. Reveals the other side's salt. Starts the one deadline, which nothing extends.
         Reverts: not open, not a participant, bond, salt, old version, no state, signature
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param version of the state, above the channel's; 0 without a state
    @param body_hash of the state; zero without a state
    @param signature the other side's, of the State; empty without a state
    @param salt_other the other side's salt
    @param salt_own_hash keccak256 of the closer's own salt
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    assert (word >> 8) & MASK32 == 0, "not open"
    assert msg.value == terms.close_bond, "bond"
    flags: uint256 = 0
    other: address = terms.participant_b
    commitment: bytes32 = empty(bytes32)
    if msg.sender == terms.participant_a:
        commitment = keccak256(abi_encode(salt_own_hash, keccak256(salt_other)))
    else:
        assert msg.sender == terms.participant_b, "not a participant"
        flags = CLOSER_B
        other = terms.participant_a
        commitment = keccak256(abi_encode(keccak256(salt_other), salt_own_hash))
    assert commitment == terms.salt_commitment, "salt"

    newest: uint256 = (word >> 40) & MASK40
    if len(signature) == 0:
        assert version == 0 and body_hash == empty(bytes32), "no state"
    else:
        assert convert(version, uint256) > newest, "old version"
        newest = convert(version, uint256)
        self._signed(other, self._state_digest(channel_id, version, body_hash), signature)

    deadline: uint256 = block.timestamp + self._period(terms.challenge_period)
    index: uint256 = self.closings + 1
    self.closings = index
    self.words[channel_id] = ((word >> 80) << 80) | (newest << 40) | (deadline << 8) | flags
    self.records[channel_id] = keccak256(abi_encode(body_hash, empty(address)))
    log Closed(
        channel_id=channel_id,
        closer_side=flags,
        version=newest,
        body_hash=body_hash,
        deadline=deadline,
        salt=salt_other,
        closing_index=index,
    )


@external
def challenge(
    token: address,
    terms: Terms,
    version: uint40,
    body_hash: bytes32,
    signature_a: Bytes[65],
    signature_b: Bytes[65],
    payout: address,
    delay: uint32,
    delegation: Bytes[65],
):
    """
    @notice Answer a close with a newer state. Open to anyone until the outcome is final; extends nothing.
    @dev The bond is lost to the closer. It goes to `payout` if the victim has delegated it, else to the victim.
         The version that is recorded is accepted once more iff it brings the delegation that was missing.
         Reverts: not closing, final, payout, signature, old version, nothing new, other body
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param version of the state, above the channel's
    @param body_hash of the state
    @param signature_a A's signature of the State; empty if A sends this
    @param signature_b B's signature of the State; empty if B sends this
    @param payout who gets the bond, as delegated
    @param delay seconds after the close before which the delegation does not count (the challenge does)
    @param delegation the victim's signature of the Delegation; empty for none
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    deadline: uint256 = (word >> 8) & MASK32
    flags: uint256 = word & 255
    assert deadline != 0, "not closing"
    assert flags & (FINAL | DEAD) == 0, "final"

    bond_to: address = empty(address)
    if len(delegation) != 0:
        assert payout != empty(address), "payout"
        victim: address = terms.participant_b
        if flags & CLOSER_B != 0:
            victim = terms.participant_a
        digest: bytes32 = self._digest(keccak256(abi_encode(DELEGATION_TYPE, channel_id, version, payout, delay)))
        self._signed(victim, digest, delegation)
        closed_at: uint256 = deadline - self._period(terms.challenge_period)
        if block.timestamp >= closed_at + convert(delay, uint256):
            bond_to = payout

    known: uint256 = (word >> 40) & MASK40
    if convert(version, uint256) == known and flags & (BEATEN | DELEGATED | VOID) == BEATEN:
        assert bond_to != empty(address), "nothing new"
        assert self.records[channel_id] == keccak256(abi_encode(body_hash, empty(address))), "other body"
    else:
        assert convert(version, uint256) > known, "old version"
    state: bytes32 = self._state_digest(channel_id, version, body_hash)
    self._agrees(terms.participant_a, state, signature_a)
    self._agrees(terms.participant_b, state, signature_b)

    flags = (flags & CLOSER_B) | BEATEN
    if bond_to != empty(address):
        flags |= DELEGATED
    self.words[channel_id] = (
        ((word >> 80) << 80) | (convert(version, uint256) << 40) | (deadline << 8) | flags
    )
    self.records[channel_id] = keccak256(abi_encode(body_hash, bond_to))
    log Challenged(channel_id=channel_id, version=convert(version, uint256), body_hash=body_hash, bond_to=bond_to)


@external
def finalize(token: address, terms: Terms, body_hash: bytes32, bond_to: address):
    """
    @notice Fix the outcome after the deadline and pay the bond. Open to anyone; needs no knowledge of the body.
    @dev Reverts: not closing, final, too early, other outcome, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param body_hash as in the newest Closed or Challenged event
    @param bond_to as in the newest Challenged event; zero if there is none
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    assert (word >> 8) & MASK32 != 0, "not closing"
    assert word & (FINAL | DEAD) == 0, "final"
    assert block.timestamp > (word >> 8) & MASK32, "too early"
    assert self.records[channel_id] == keccak256(abi_encode(body_hash, bond_to)), "other outcome"
    self.words[channel_id] = word | FINAL
    winner: address = self._winner(terms, word, bond_to)
    log Finalized(
        channel_id=channel_id, version=(word >> 40) & MASK40, bond_to=winner, bond=terms.close_bond
    )
    self._push(empty(address), winner, terms.close_bond)


@external
def settle(
    token: address,
    terms: Terms,
    net: int256,
    locked_ab: uint256,
    locked_ba: uint256,
    locks_hash: bytes32,
    blind: bytes32,
    bond_to: address,
):
    """
    @notice Open the final state's body and pay both sides, less what locks hold back. The id is dead from here on.
    @dev Finalizes first if that is still to do. A close without a state is opened by five zeros. If a cooperate has
         overtaken the state and the outcome is final, the body is not looked at.
         Reverts: not closing, dead, too early, other outcome, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param net what A gives B, may be negative; clamped to the deposits
    @param locked_ab what A's locks hold back; clamped to what A has
    @param locked_ba what B's locks hold back; clamped to what B has
    @param locks_hash keccak256 of the packed lock list
    @param blind the body's blind
    @param bond_to as in the newest Challenged event; zero if there is none
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    flags: uint256 = word & 255
    deadline: uint256 = (word >> 8) & MASK32
    assert deadline != 0, "not closing"
    assert flags & DEAD == 0, "dead"
    if flags & (FINAL | VOID) != FINAL | VOID:
        record: bytes32 = self.records[channel_id]
        body_hash: bytes32 = keccak256(abi_encode(net, locked_ab, locked_ba, locks_hash, blind))
        if record != keccak256(abi_encode(body_hash, bond_to)):
            assert net == 0 and locked_ab == 0 and locked_ba == 0, "other outcome"
            assert locks_hash == empty(bytes32) and blind == empty(bytes32), "other outcome"
            assert record == keccak256(abi_encode(empty(bytes32), bond_to)), "other outcome"

    paid_a: uint256 = word >> 168
    paid_b: uint256 = (word >> 80) & MASK88
    held_a: uint256 = 0
    held_b: uint256 = 0
    left: bytes32 = empty(bytes32)
    if flags & VOID == 0:
        paid_a, paid_b = self._split(word, net)
        if locks_hash != NO_LOCKS and locks_hash != empty(bytes32):
            held_a = min(locked_ab, paid_a)
            held_b = min(locked_ba, paid_b)
            if held_a + held_b != 0:
                left = locks_hash
            paid_a -= held_a
            paid_b -= held_b
    self.words[channel_id] = (
        (held_a << 168) | (held_b << 80) | (word & (MASK40 << 40)) | (deadline << 8) | flags | FINAL | DEAD
    )
    self.records[channel_id] = left

    push_a: uint256 = paid_a
    push_b: uint256 = paid_b
    if flags & FINAL == 0:
        assert block.timestamp > deadline, "too early"
        winner: address = self._winner(terms, word, bond_to)
        log Finalized(
            channel_id=channel_id, version=(word >> 40) & MASK40, bond_to=winner, bond=terms.close_bond
        )
        if token == empty(address) and winner == terms.payout_a:
            push_a += terms.close_bond
        elif token == empty(address) and winner == terms.payout_b:
            push_b += terms.close_bond
        else:
            self._push(empty(address), winner, terms.close_bond)
    log Settled(
        channel_id=channel_id,
        version=(word >> 40) & MASK40,
        paid_a=paid_a,
        paid_b=paid_b,
        locked_ab=held_a,
        locked_ba=held_b,
        locks_hash=left,
    )
    self._push(token, terms.payout_a, push_a)
    self._push(token, terms.payout_b, push_b)


@external
def resolve_locks(
    token: address,
    terms: Terms,
    locks: Bytes[MAX_LOCK_LIST],
    secrets: DynArray[bytes32, MAX_SECRETS],
):
    """
    @notice Pay the settled channel's locks: to the receiver if the secret was registered by the expiry, to the sender
            if not and the expiry is over; others stay listed. Registers the given secrets first.
    @dev A list that is not (or no longer) the recorded one pays nothing and is no error, so that nobody can undo a
         registration by resolving a lock first. What is left when the list is exhausted returns to its sender.
         Locks that stay listed are recorded as a chain from zero, rest = keccak256(rest ‖ lock), in their order.
         Reverts: not settled, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param locks the unresolved locks, 57 bytes each: id 8, direction 1, kind 1, amount 11, key 32, expiry 4
    @param secrets preimages to register, may be empty
    """
    if len(secrets) != 0:
        extcall REGISTRY.register(secrets)
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    assert word & DEAD != 0, "not settled"
    record: bytes32 = self.records[channel_id]
    if record == empty(bytes32):
        return
    held_a: uint256 = word >> 168
    held_b: uint256 = (word >> 80) & MASK88
    paid_a: uint256 = 0
    paid_b: uint256 = 0
    seen: bytes32 = empty(bytes32)
    rest: bytes32 = empty(bytes32)
    entries: Bytes[MAX_LOCK_LIST] = locks
    whole: bool = keccak256(entries) == record
    for i: uint256 in range(len(entries) // LOCK_BYTES, bound=MAX_LOCKS):
        entry: Bytes[LOCK_BYTES] = slice(entries, i * LOCK_BYTES, LOCK_BYTES)
        if not whole:
            seen = keccak256(concat(seen, entry))
        head: uint256 = convert(extract32(entry, 0), uint256)
        key: bytes32 = extract32(entry, 21)
        expiry: uint256 = convert(extract32(entry, 25), uint256) & MASK32
        kind: uint256 = (head >> 176) & 255
        registered: uint256 = staticcall REGISTRY.registered_at(keccak256(abi_encode(kind, key)))
        in_time: bool = registered != 0 and registered <= expiry
        if not in_time and block.timestamp <= expiry:
            rest = keccak256(concat(rest, entry))
        elif (head >> 184) & 255 == 0:
            amount: uint256 = min((head >> 88) & MASK88, held_a)
            held_a -= amount
            if in_time:
                paid_b += amount
            else:
                paid_a += amount
        else:
            amount: uint256 = min((head >> 88) & MASK88, held_b)
            held_b -= amount
            if in_time:
                paid_a += amount
            else:
                paid_b += amount

    if not whole and seen != record:
        return
    if rest == empty(bytes32) or held_a + held_b == 0:
        rest = empty(bytes32)
        paid_a += held_a
        paid_b += held_b
        held_a = 0
        held_b = 0
    self.words[channel_id] = (held_a << 168) | (held_b << 80) | (word & (2**80 - 1))
    self.records[channel_id] = rest
    log LocksResolved(
        channel_id=channel_id, paid_a=paid_a, paid_b=paid_b, locked_ab=held_a, locked_ba=held_b, locks_hash=rest
    )
    self._push(token, terms.payout_a, paid_a)
    self._push(token, terms.payout_b, paid_b)


@external
def withdraw(token: address, owner: address, to: address) -> uint256:
    """
    @notice Take out what could not be pushed: the owner to any address, anyone to the owner.
    @dev Reverts: not the owner, nothing, transfer
    @param token ERC-20 contract, or zero for the native coin
    @param owner whose credit
    @param to where it goes
    @return what was paid; anything a token did not move stays owed
    """
    assert msg.sender == owner or to == owner, "not the owner"
    amount: uint256 = self.owed[token][owner]
    assert amount != 0, "nothing"
    self.owed[token][owner] = 0
    moved: uint256 = amount
    if token == empty(address):
        assert raw_call(to, b"", value=amount, revert_on_failure=False), "transfer"
    else:
        moved = min(amount, self._move(token, to, amount, msg.gas, 0))
        assert moved != 0, "transfer"
        if moved != amount:
            self.owed[token][owner] = amount - moved
    log Withdrawn(token=token, owner=owner, to=to, amount=moved)
    return moved


@external
@view
def channel(channel_id: bytes32) -> (uint256, uint256, uint256, uint256, uint256, bytes32):
    """
    @notice What is stored of a channel; all zero for one that never was
    @param channel_id keccak256(abi_encode(chain id, this contract, token, terms hash))
    @return deposit_a, deposit_b (once dead: what A's and B's unresolved locks hold), version, deadline (0 while open),
            flags (1 closer is B, 2 beaten, 4 delegated, 8 void, 16 final, 32 dead), record
    """
    word: uint256 = self.words[channel_id]
    return (
        word >> 168,
        (word >> 80) & MASK88,
        (word >> 40) & MASK40,
        (word >> 8) & MASK32,
        word & 255,
        self.records[channel_id],
    )


# ------------------------------------------------------------------------------------------------ ids and digests


@internal
@view
def _channel_id(token: address, terms_hash: bytes32) -> bytes32:
    return keccak256(abi_encode(chain.id, self, token, terms_hash))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    # EIP-712, with the domain of the chain we are on now
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, chain.id, self))
    return keccak256(concat(b"\x19\x01", domain, struct_hash))


@internal
@view
def _state_digest(channel_id: bytes32, version: uint40, body_hash: bytes32) -> bytes32:
    return self._digest(keccak256(abi_encode(STATE_TYPE, channel_id, version, body_hash)))


@internal
@pure
def _signer(digest: bytes32, signature: Bytes[65]) -> address:
    # One form for each signature: 65 bytes, s in the lower half, v 27 or 28. Zero for anything else.
    if len(signature) != 65:
        return empty(address)
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s > HALF_ORDER or (v != 27 and v != 28):
        return empty(address)
    return ecrecover(digest, v, convert(extract32(signature, 0), uint256), s)


@internal
@pure
def _signed(who: address, digest: bytes32, signature: Bytes[65]):
    signer: address = self._signer(digest, signature)
    assert signer != empty(address) and signer == who, "signature"


@internal
@view
def _agrees(who: address, digest: bytes32, signature: Bytes[65]):
    # Sending is agreeing: a participant need not sign what it sends itself.
    if len(signature) == 0 and msg.sender == who:
        return
    self._signed(who, digest, signature)


# --------------------------------------------------------------------------------------------------- the outcome


@internal
@view
def _period(asked: uint256) -> uint256:
    return max(MIN_PERIOD, min(asked, MAX_PERIOD))


@internal
@pure
def _split(word: uint256, net: int256) -> (uint256, uint256):
    # Balances after `net`, clamped to [-deposit_b, deposit_a].
    a: uint256 = word >> 168
    b: uint256 = (word >> 80) & MASK88
    if net >= 0:
        given: uint256 = min(convert(net, uint256), a)
        return a - given, b + given
    taken: uint256 = min(convert(-(net + 1), uint256), MASK88) + 1  # -net, without overflow
    taken = min(taken, b)
    return a + taken, b - taken


@internal
@pure
def _winner(terms: Terms, word: uint256, bond_to: address) -> address:
    # Whose the bond is: the closer's if unbeaten, else the delegate's, else the victim's.
    if word & BEATEN == 0:
        if word & CLOSER_B != 0:
            return terms.payout_b
        return terms.payout_a
    if bond_to != empty(address):
        return bond_to
    if word & CLOSER_B != 0:
        return terms.payout_a
    return terms.payout_b


# --------------------------------------------------------------------------------------------------------- money


@internal
def _pull(token: address, amount: uint256) -> uint256:
    # Takes from the sender; what counts is what arrives.
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(msg.sender, self, amount, default_return_value=True), "transfer"
    return (staticcall IERC20(token).balanceOf(self)) - before


@internal
def _move(token: address, to: address, amount: uint256, limit: uint256, least: uint256) -> uint256:
    # What left this contract, whatever the token says about it. `least`: gas that must be left for the transfer.
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert msg.gas > least, "gas"
    done: bool = raw_call(
        token,
        abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")),
        gas=limit,
        revert_on_failure=False,
    )
    after: uint256 = staticcall IERC20(token).balanceOf(self)
    if after >= before:
        return 0
    return before - after


@internal
def _push(token: address, to: address, amount: uint256):
    # Pays, or owes: the receiver can neither hold up the other side, nor can whoever sends too little gas make a
    # payout fail.
    if amount == 0:
        return
    moved: uint256 = 0
    if token == empty(address):
        assert msg.gas > COIN_GAS_LEFT, "gas"
        if raw_call(to, b"", value=amount, gas=COIN_GAS, revert_on_failure=False):
            moved = amount
    else:
        moved = self._move(token, to, amount, TOKEN_GAS, TOKEN_GAS_LEFT)
    if moved < amount:
        self.owed[token][to] += amount - moved
        log Owed(token=token, owner=to, amount=amount - moved)
