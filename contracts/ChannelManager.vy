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
        Each event of a channel carries its new word: the logs alone give every channel's storage and every payout.
"""

from ethereum.ercs import IERC20
from interfaces import IERC3009
from interfaces import IPermit2
from interfaces import ISecretRegistry

struct Terms:
    participant_a: address  # signing keys of the two sides
    participant_b: address
    payout_a: address  # where their money goes, fixed for ever
    payout_b: address
    challenge_period: uint256  # seconds, clamped to [MIN_PERIOD, MAX_PERIOD]
    salt_commitment: bytes32  # keccak256(keccak256(salt_a) ‖ keccak256(salt_b))
    close_bond: uint256  # native wei
    nonce: uint256

struct Signature:
    r: bytes32
    vs: bytes32  # EIP-2098: s in the lower half of the order, with v - 27 in the highest bit

struct Deposit:
    terms_hash: bytes32
    side: uint256
    amount: uint256
    memo: bytes32[6]

struct Order:
    valid_until: uint256  # last block.timestamp at which it counts
    signature: Signature  # the closer's, of the Close

struct Challenge:
    token: address
    terms: Terms
    version: uint256
    body_hash: bytes32
    signature_a: Signature  # of the State; empty where a participant sends the call itself
    signature_b: Signature
    payout: address  # who gets the bond, as delegated; zero without a delegation
    delay: uint256  # seconds after the close before which the delegation does not count (the challenge does)
    delegation: Signature  # the victim's, of the Delegation

struct Body:
    net: int256  # what A gives B, may be negative; clamped to the deposits
    locked_ab: uint256  # what A's locks hold back; clamped to what A has
    locked_ba: uint256  # what B's locks hold back; clamped to what B has
    locks_hash: bytes32  # keccak256 of the packed lock list
    blind: bytes32

struct Opening:
    body: Body  # of the recorded state
    bond_to: address  # as in the newest Challenged event; zero if there is none

struct Due:
    a: uint256  # what A's payout address is to get now
    b: uint256
    bond: uint256  # what the winner is to get besides, in coin
    winner: address

event Deposited:
    channel_id: indexed(bytes32)
    word: uint256

event Memo:
    channel_id: indexed(bytes32)
    memo: bytes32[6]

event Cooperated:
    channel_id: indexed(bytes32)
    word: uint256
    paid_a: uint256
    paid_b: uint256

event Closed:
    channel_id: indexed(bytes32)
    word: uint256
    body_hash: bytes32
    salt: bytes32
    closing_index: uint256

event Challenged:
    channel_id: indexed(bytes32)
    word: uint256
    body_hash: bytes32
    bond_to: address

event Finalized:
    channel_id: indexed(bytes32)
    word: uint256
    bond_to: address
    bond: uint256

event Settled:
    channel_id: indexed(bytes32)
    word: uint256
    paid_a: uint256
    paid_b: uint256
    locks_hash: bytes32

event LocksResolved:
    channel_id: indexed(bytes32)
    word: uint256
    paid_a: uint256
    paid_b: uint256
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

MASK80: constant(uint256) = 2**80 - 1
MASK88: constant(uint256) = 2**88 - 1
MASK40: constant(uint256) = 2**40 - 1
MASK32: constant(uint256) = 2**32 - 1
MASK255: constant(uint256) = 2**255 - 1
MAX_PERIOD: constant(uint256) = 30 * 86400
# half the order of secp256k1 (EIP-2)
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

MAX_DEPOSITS: constant(uint256) = 64
MAX_CHALLENGES: constant(uint256) = 32
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
CLOSE_TYPE: constant(bytes32) = keccak256(
    "Close(bytes32 channelId,uint40 version,bytes32 bodyHash,uint64 validUntil)"
)
DELEGATION_TYPE: constant(bytes32) = keccak256(
    "Delegation(bytes32 channelId,uint40 version,address payout,uint32 delay)"
)
WITNESS_TYPE: constant(bytes32) = keccak256("ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)")
WITNESS_TEXT: constant(String[153]) = "ChannelDeposit witness)ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)TokenPermissions(address token,uint256 amount)"

REGISTRY: public(immutable(ISecretRegistry))
PERMIT2: public(immutable(IPermit2))
MIN_PERIOD: public(immutable(uint256))

words: HashMap[bytes32, uint256]
records: HashMap[bytes32, bytes32]
# what could not be pushed: token -> owner -> amount
owed: public(HashMap[address, HashMap[address, uint256]])
# how many closes there have been; the newest carries this number
closings: public(uint256)


@deploy
def __init__(registry: address, permit2: address, min_period: uint256):
    """
    @param registry the SecretRegistry whose times decide locks
    @param permit2 the Permit2 of this chain; deposits by Permit2 revert where there is none
    @param min_period lower bound of the challenge period, seconds
    """
    assert registry.is_contract, "registry"
    assert min_period != 0 and min_period <= MAX_PERIOD, "period"
    REGISTRY = ISecretRegistry(registry)
    PERMIT2 = IPermit2(permit2)
    MIN_PERIOD = min_period


# ---------------------------------------------------------------------------------------------- open and top up


@external
@payable
def deposit(
    token: address, terms_hash: bytes32, side: uint256, amount: uint256, memo: bytes32[6] = empty(bytes32[6])
):
    """
    @notice Open a channel or add to it, for either side. Credits what arrives.
    @dev Anyone may call. An ERC-20 is taken from the sender, by its allowance. Emits Deposited, and Memo before it
         if there is one.
         Reverts: value, token, transfer, side, nothing, not open, too much
    @param token ERC-20 contract, or zero for the native coin
    @param terms_hash keccak256(abi_encode(terms))
    @param side whose deposit grows: 0 for A, 1 for B
    @param amount base units; for the native coin exactly what is sent along
    @param memo any 192 bytes, only logged; none if the first word is zero
    """
    received: uint256 = amount
    if token == empty(address):
        assert msg.value == amount, "value"
    else:
        assert msg.value == 0, "value"
        received = self._pull(token, amount)
    if memo[0] != empty(bytes32):
        log Memo(channel_id=self._channel_id(token, terms_hash), memo=memo)
    self._credit(token, terms_hash, side, received)


@external
@payable
def deposit_many(token: address, deposits: DynArray[Deposit, MAX_DEPOSITS]):
    """
    @notice Deposit into many channels of one token at once. All or none; exactly the sum has to arrive.
    @dev Anyone may call. Emits what deposit emits, for each. Reverts: too much, value, token, transfer, and as deposit does
    @param token ERC-20 contract, or zero for the native coin
    @param deposits terms hash, side, amount and memo of each, as in deposit; at most 64
    """
    total: uint256 = 0
    for one: Deposit in deposits:
        assert one.amount <= MASK88, "too much"
        total += one.amount
    if token == empty(address):
        assert msg.value == total, "value"
    else:
        assert msg.value == 0, "value"
        assert self._pull(token, total) == total, "transfer"
    for one: Deposit in deposits:
        if one.memo[0] != empty(bytes32):
            log Memo(channel_id=self._channel_id(token, one.terms_hash), memo=one.memo)
        self._credit(token, one.terms_hash, one.side, one.amount)


@external
def deposit_with_authorization(
    token: address,
    terms_hash: bytes32,
    side: uint256,
    amount: uint256,
    memo: bytes32[6],
    owner: address,
    valid_after: uint256,
    valid_before: uint256,
    owner_nonce: bytes32,
    signature: Signature,
):
    """
    @notice Deposit an owner's money by its signed authorization (EIP-3009). The owner needs no coin and no allowance.
    @dev Anyone may call. The authorization is a receiveWithAuthorization to this contract whose nonce is
         keccak256(abi_encode(channel_id, side, keccak256(abi_encode(memo)), owner_nonce)), so a copied call does the
         same, and no other deposit can be made of it. Emits as deposit does.
         Reverts: token, as the token does, and as deposit does
    @param token ERC-20 contract with EIP-3009
    @param terms_hash keccak256(abi_encode(terms))
    @param side whose deposit grows: 0 for A, 1 for B
    @param amount base units
    @param memo as in deposit; signed along
    @param owner whose money
    @param valid_after block.timestamp after which the authorization counts
    @param valid_before block.timestamp before which it counts
    @param owner_nonce any 32 bytes the owner has not used for such a deposit yet
    @param signature the owner's, of the token's ReceiveWithAuthorization
    """
    channel_id: bytes32 = self._channel_id(token, terms_hash)
    nonce: bytes32 = keccak256(abi_encode(channel_id, side, keccak256(abi_encode(memo)), owner_nonce))
    v: uint8 = 27
    if convert(signature.vs, uint256) > MASK255:
        v = 28
    s: bytes32 = convert(convert(signature.vs, uint256) & MASK255, bytes32)
    before: uint256 = self._balance(token)
    extcall IERC3009(token).receiveWithAuthorization(
        owner, self, amount, valid_after, valid_before, nonce, v, signature.r, s
    )
    if memo[0] != empty(bytes32):
        log Memo(channel_id=channel_id, memo=memo)
    self._credit(token, terms_hash, side, self._balance(token) - before)


@external
def deposit_with_permit2(
    token: address,
    terms_hash: bytes32,
    side: uint256,
    amount: uint256,
    memo: bytes32[6],
    owner: address,
    nonce: uint256,
    deadline: uint256,
    signature: Signature,
):
    """
    @notice Deposit an owner's money by its signed permit of Permit2. The owner needs no coin.
    @dev Anyone may call. The permit is a PermitWitnessTransferFrom with this contract as the spender and the witness
         ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash), memoHash = keccak256(abi_encode(memo)), so a
         copied call does the same, and no other deposit can be made of it. Emits as deposit does.
         Reverts: token, as Permit2 and the token do, and as deposit does
    @param token ERC-20 contract of which Permit2 has the owner's allowance
    @param terms_hash keccak256(abi_encode(terms))
    @param side whose deposit grows: 0 for A, 1 for B
    @param amount base units
    @param memo as in deposit; signed along
    @param owner whose money
    @param nonce of the permit, any that the owner has not used yet
    @param deadline last block.timestamp at which the permit counts
    @param signature the owner's, of the PermitWitnessTransferFrom
    """
    channel_id: bytes32 = self._channel_id(token, terms_hash)
    witness: bytes32 = keccak256(abi_encode(WITNESS_TYPE, channel_id, side, keccak256(abi_encode(memo))))
    before: uint256 = self._balance(token)
    extcall PERMIT2.permitWitnessTransferFrom(
        IPermit2.PermitTransferFrom(
            permitted=IPermit2.TokenPermissions(token=token, amount=amount), nonce=nonce, deadline=deadline
        ),
        IPermit2.SignatureTransferDetails(to=self, requestedAmount=amount),
        owner,
        witness,
        WITNESS_TEXT,
        concat(signature.r, signature.vs),
    )
    if memo[0] != empty(bytes32):
        log Memo(channel_id=channel_id, memo=memo)
    self._credit(token, terms_hash, side, self._balance(token) - before)


# ------------------------------------------------------------------------------------------------- in agreement


@external
def cooperate(
    token: address,
    terms: Terms,
    version: uint256,
    net: int256,
    out_a: uint256,
    out_b: uint256,
    valid_until: uint256,
    signature: Signature,
    signature_b: Signature = empty(Signature),
):
    """
    @notice Apply a net transfer and pay out what both agreed; the rest stays deposited. Voids every older state.
    @dev Anyone with both signatures may call; a participant needs only the other's. Emits Cooperated.
         While closing it overtakes the recorded state. If nothing is left then, the channel is dead at once and an
         unbeaten closer gets the bond back (Finalized); else the close runs on, with nothing more to transfer.
         Reverts: dead, version, old version, expired, signature, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param version above the channel's, shared with states
    @param net what A gives B, may be negative; clamped to the deposits
    @param out_a what A takes out, at most what it has (2**88 - 1 for all)
    @param out_b what B takes out
    @param valid_until last block.timestamp at which this counts
    @param signature A's, of the Cooperate; the other side's where a participant sends this and signature_b is empty
    @param signature_b B's
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    assert word & DEAD == 0, "dead"
    assert version <= MASK40, "version"
    assert version > (word >> 40) & MASK40, "old version"
    assert block.timestamp <= valid_until, "expired"
    digest: bytes32 = self._digest(
        keccak256(abi_encode(COOPERATE_TYPE, channel_id, version, net, out_a, out_b, valid_until))
    )
    first: address = terms.participant_a
    if signature_b.r == empty(bytes32):
        if msg.sender == first:
            first = terms.participant_b
        else:
            assert msg.sender == terms.participant_b, "signature"
    else:
        assert self._signed(terms.participant_b, digest, signature_b), "signature"
    assert self._signed(first, digest, signature), "signature"

    paid_a: uint256 = 0
    paid_b: uint256 = 0
    paid_a, paid_b = self._split(word, net)
    left: uint256 = 0
    if paid_a > out_a:
        left = (paid_a - out_a) << 168
        paid_a = out_a
    if paid_b > out_b:
        left |= (paid_b - out_b) << 80
        paid_b = out_b
    after: uint256 = left | (version << 40) | (word & (2**40 - 1))
    forgiven: bool = False
    if (word >> 8) & MASK32 != 0:
        if left == 0 and word & (FINAL | BEATEN) != BEATEN:
            forgiven = word & FINAL == 0
            after |= FINAL | DEAD
            self.records[channel_id] = empty(bytes32)
        else:
            after |= VOID
    self.words[channel_id] = after
    log Cooperated(channel_id=channel_id, word=after, paid_a=paid_a, paid_b=paid_b)
    if forgiven:
        closer: address = self._winner(terms, word, empty(address))
        log Finalized(channel_id=channel_id, word=after, bond_to=closer, bond=terms.close_bond)
        self._push_coin(closer, terms.close_bond)
    self._pay(token, terms.payout_a, paid_a, terms.payout_b, paid_b)


# --------------------------------------------------------------------------------------------------- in dispute


@external
@payable
def close(
    token: address,
    terms: Terms,
    version: uint256,
    body_hash: bytes32,
    signature: Signature,
    salt_other: bytes32,
    salt_own_hash: bytes32,
    order: Order = empty(Order),
):
    """
    @notice Start to end a channel alone: by the newest state, or without any. Costs the bond, given back unless a newer
            state is shown.
    @dev A participant may call, and anyone with its signed Close. Reveals the other side's salt. Starts the one
         deadline, which nothing extends. Emits Closed.
         Reverts: not open, bond, expired, not a participant, salt, no state, version, old version, signature, too late
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param version of the state, above the channel's; 0 without a state
    @param body_hash of the state; zero without a state
    @param signature the other side's, of the State; empty without a state
    @param salt_other the other side's salt
    @param salt_own_hash keccak256 of the closer's own salt
    @param order the closer's signed Close, where somebody else sends this (and posts the bond)
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    word: uint256 = self.words[channel_id]
    assert (word >> 8) & MASK32 == 0, "not open"
    assert msg.value == terms.close_bond, "bond"
    closer: address = msg.sender
    if order.valid_until != 0:
        assert block.timestamp <= order.valid_until, "expired"
        closer = self._signer(
            self._digest(keccak256(abi_encode(CLOSE_TYPE, channel_id, version, body_hash, order.valid_until))),
            order.signature,
        )
    flags: uint256 = 0
    other: address = terms.participant_b
    commitment: bytes32 = empty(bytes32)
    if closer == terms.participant_a:
        commitment = keccak256(abi_encode(salt_own_hash, keccak256(salt_other)))
    else:
        assert closer == terms.participant_b, "not a participant"
        flags = CLOSER_B
        other = terms.participant_a
        commitment = keccak256(abi_encode(keccak256(salt_other), salt_own_hash))
    assert closer != empty(address), "not a participant"
    assert commitment == terms.salt_commitment, "salt"

    known: uint256 = (word >> 40) & MASK40
    if version == 0:
        assert body_hash == empty(bytes32), "no state"
    else:
        assert version <= MASK40, "version"
        assert version > known, "old version"
        known = version
        assert self._signed(other, self._state_digest(channel_id, version, body_hash), signature), "signature"

    deadline: uint256 = block.timestamp + self._period(terms.challenge_period)
    assert deadline <= MASK32, "too late"  # in 2106, where the word has no room for it
    index: uint256 = self.closings + 1
    self.closings = index
    word = ((word >> 80) << 80) | (known << 40) | (deadline << 8) | flags
    self.words[channel_id] = word
    self.records[channel_id] = keccak256(abi_encode(body_hash, empty(address)))
    log Closed(channel_id=channel_id, word=word, body_hash=body_hash, salt=salt_other, closing_index=index)


@external
def challenge(given: Challenge):
    """
    @notice Answer a close with a newer state. Extends nothing.
    @dev Anyone may call, until the outcome is final. The bond is lost to the closer. It goes to `payout` if the victim
         has delegated it, else to the victim. The version that is recorded is accepted once more iff it brings the
         delegation that was missing. Emits Challenged.
         Reverts: not closing, final, delegation, version, nothing new, other body, old version, signature
    @param given token, terms, state, and the delegation if there is one
    """
    refused: String[12] = self._challenge(given)
    assert len(refused) == 0, refused


@external
def challenge_many(given: DynArray[Challenge, MAX_CHALLENGES]) -> uint256:
    """
    @notice Challenge many closes at once. What challenge would refuse is left out; the others count.
    @dev Anyone may call. Emits Challenged for each that counts. Never reverts for what an item says.
    @param given at most 32, as in challenge
    @return bit i is set iff item i counted
    """
    counted: uint256 = 0
    bit: uint256 = 1
    for one: Challenge in given:
        if len(self._challenge(one)) == 0:
            counted |= bit
        bit <<= 1
    return counted


@external
def finalize(token: address, terms: Terms, body_hash: bytes32, bond_to: address):
    """
    @notice Fix the outcome after the deadline and pay the bond. Needs no knowledge of the body.
    @dev Anyone may call. Emits Finalized. Reverts: not closing, final, too early, other outcome, gas
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
    winner: address = self._winner(terms, word, bond_to)
    word |= FINAL
    self.words[channel_id] = word
    log Finalized(channel_id=channel_id, word=word, bond_to=winner, bond=terms.close_bond)
    self._push_coin(winner, terms.close_bond)


@external
def settle(token: address, terms: Terms, body: Body, bond_to: address):
    """
    @notice Open the final state's body and pay both sides, less what locks hold back. The id is dead from here on.
    @dev Anyone who can open the body may call. Finalizes first if that is still to do (Finalized). Emits Settled.
         A close without a state is opened by an empty body. If a cooperate has overtaken the state and the outcome is
         final, the body is not looked at.
         Reverts: not closing, dead, other outcome, too early, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param body of the recorded state
    @param bond_to as in the newest Challenged event; zero if there is none
    """
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    due: Due = self._settle(channel_id, token, terms, body, bond_to)
    if due.bond != 0:
        self._push_coin(due.winner, due.bond)
    self._pay(token, terms.payout_a, due.a, terms.payout_b, due.b)


@external
def resolve_locks(
    token: address,
    terms: Terms,
    locks: Bytes[MAX_LOCK_LIST],
    secrets: DynArray[bytes32, MAX_SECRETS],
    opening: Opening = empty(Opening),
):
    """
    @notice Pay the settled channel's locks: to the receiver if the secret was registered by the expiry, to the sender
            if not and the expiry is over; others stay listed. Registers the given secrets first.
    @dev Anyone may call. Emits LocksResolved; before it, with an opening, what settle emits.
         With an opening the channel is settled first, unless it has been meanwhile: then the opening is not looked at.
         If settling fails, so does all: near an expiry, register on its own.
         A list that is not (or no longer) the recorded one pays nothing and is no error, so that nobody can undo a
         registration by resolving a lock first. What is left when the list is exhausted returns to its sender.
         Locks that stay listed are recorded as a chain from zero, rest = keccak256(rest ‖ lock), in their order.
         Reverts: not settled, as settle does, gas
    @param token ERC-20 contract, or zero for the native coin
    @param terms the channel's terms
    @param locks the unresolved locks, 57 bytes each: id 8, direction 1, kind 1, amount 11, key 32, expiry 4
    @param secrets preimages to register, may be empty
    @param opening what settle takes, to settle and resolve at once; none if its locks_hash is zero
    """
    if len(secrets) != 0:
        extcall REGISTRY.register(secrets)
    channel_id: bytes32 = self._channel_id(token, keccak256(abi_encode(terms)))
    due: Due = empty(Due)
    if self.words[channel_id] & DEAD == 0:
        assert opening.body.locks_hash != empty(bytes32), "not settled"
        due = self._settle(channel_id, token, terms, opening.body, opening.bond_to)
    if self.records[channel_id] != empty(bytes32):
        due.a, due.b = self._resolve(channel_id, locks, due.a, due.b)
    if due.bond != 0:
        self._push_coin(due.winner, due.bond)
    self._pay(token, terms.payout_a, due.a, terms.payout_b, due.b)


@external
def withdraw(token: address, owner: address, to: address) -> uint256:
    """
    @notice Take out what could not be pushed.
    @dev The owner may call with any receiver, anyone with the owner as the receiver. Emits Withdrawn.
         Reverts: not the owner, nothing, transfer
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
        before: uint256 = self._balance(token)
        done: bool = raw_call(
            token,
            abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")),
            revert_on_failure=False,
        )
        moved = self._fallen(before, self._balance(token), amount)
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
    @dev Anyone may call. Never reverts, but while another call to this contract runs.
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
def _state_digest(channel_id: bytes32, version: uint256, body_hash: bytes32) -> bytes32:
    return self._digest(keccak256(abi_encode(STATE_TYPE, channel_id, version, body_hash)))


@internal
@pure
def _signer(digest: bytes32, signature: Signature) -> address:
    # One form for each signature: s in the lower half. Zero for anything else.
    s: uint256 = convert(signature.vs, uint256) & MASK255
    if s > HALF_ORDER:
        return empty(address)
    return ecrecover(digest, 27 + (convert(signature.vs, uint256) >> 255), convert(signature.r, uint256), s)


@internal
@pure
def _signed(who: address, digest: bytes32, signature: Signature) -> bool:
    return self._signer(digest, signature) == who and who != empty(address)


# --------------------------------------------------------------------------------------------------- the outcome


@internal
def _challenge(given: Challenge) -> String[12]:
    # Records the state, or changes nothing and says why not.
    channel_id: bytes32 = self._channel_id(given.token, keccak256(abi_encode(given.terms)))
    word: uint256 = self.words[channel_id]
    deadline: uint256 = (word >> 8) & MASK32
    if deadline == 0:
        return "not closing"
    if word & (FINAL | DEAD) != 0:
        return "final"
    if given.version > MASK40:
        return "version"

    bond_to: address = empty(address)
    if given.payout != empty(address):
        victim: address = given.terms.participant_b
        if word & CLOSER_B != 0:
            victim = given.terms.participant_a
        digest: bytes32 = self._digest(
            keccak256(abi_encode(DELEGATION_TYPE, channel_id, given.version, given.payout, given.delay))
        )
        if not self._signed(victim, digest, given.delegation):
            return "delegation"
        if block.timestamp - (deadline - self._period(given.terms.challenge_period)) >= given.delay:
            bond_to = given.payout

    known: uint256 = (word >> 40) & MASK40
    if given.version == known and word & (BEATEN | DELEGATED | VOID) == BEATEN:
        if bond_to == empty(address):
            return "nothing new"
        if self.records[channel_id] != keccak256(abi_encode(given.body_hash, empty(address))):
            return "other body"
    elif given.version <= known:
        return "old version"
    state: bytes32 = self._state_digest(channel_id, given.version, given.body_hash)
    if not self._agrees(given.terms.participant_a, state, given.signature_a):
        return "signature"
    if not self._agrees(given.terms.participant_b, state, given.signature_b):
        return "signature"

    after: uint256 = ((word >> 80) << 80) | (given.version << 40) | (deadline << 8) | (word & CLOSER_B) | BEATEN
    if bond_to != empty(address):
        after |= DELEGATED
    self.words[channel_id] = after
    self.records[channel_id] = keccak256(abi_encode(given.body_hash, bond_to))
    log Challenged(channel_id=channel_id, word=after, body_hash=given.body_hash, bond_to=bond_to)
    return ""


@internal
def _settle(channel_id: bytes32, token: address, terms: Terms, body: Body, bond_to: address) -> Due:
    # Ends the channel by its recorded state; the caller pays what is due.
    word: uint256 = self.words[channel_id]
    deadline: uint256 = (word >> 8) & MASK32
    assert deadline != 0, "not closing"
    assert word & DEAD == 0, "dead"
    if word & (FINAL | VOID) != FINAL | VOID:
        record: bytes32 = self.records[channel_id]
        if record != keccak256(abi_encode(keccak256(abi_encode(body)), bond_to)):
            assert body.net == 0 and body.locked_ab == 0 and body.locked_ba == 0, "other outcome"
            assert body.locks_hash == empty(bytes32) and body.blind == empty(bytes32), "other outcome"
            assert record == keccak256(abi_encode(empty(bytes32), bond_to)), "other outcome"

    due: Due = Due(a=word >> 168, b=(word >> 80) & MASK88, bond=0, winner=empty(address))
    held: uint256 = 0
    if word & VOID == 0:
        due.a, due.b = self._split(word, body.net)
        if body.locks_hash != NO_LOCKS and body.locks_hash != empty(bytes32):
            held_a: uint256 = min(body.locked_ab, due.a)
            held_b: uint256 = min(body.locked_ba, due.b)
            due.a -= held_a
            due.b -= held_b
            held = (held_a << 168) | (held_b << 80)
    left: bytes32 = empty(bytes32)
    if held != 0:
        left = body.locks_hash
    after: uint256 = held | (word & MASK80) | FINAL | DEAD
    self.words[channel_id] = after
    self.records[channel_id] = left

    if word & FINAL == 0:
        assert block.timestamp > deadline, "too early"
        due.bond = terms.close_bond
        due.winner = self._winner(terms, word, bond_to)
        log Finalized(channel_id=channel_id, word=after, bond_to=due.winner, bond=due.bond)
    log Settled(channel_id=channel_id, word=after, paid_a=due.a, paid_b=due.b, locks_hash=left)
    if token == empty(address) and due.bond != 0:
        # in coin a payout address gets it in one transfer
        if due.winner == terms.payout_a:
            due.a += due.bond
            due.bond = 0
        elif due.winner == terms.payout_b:
            due.b += due.bond
            due.bond = 0
    return due


@internal
def _resolve(channel_id: bytes32, locks: Bytes[MAX_LOCK_LIST], due_a: uint256, due_b: uint256) -> (uint256, uint256):
    # Resolves the recorded locks; what A and B are to get with it, on top of what is due. Another list does nothing.
    # A list is whole locks. That keeps the two kinds of record apart: what is hashed into a chain is 89 bytes, and must
    # never be taken for a list.
    if len(locks) % LOCK_BYTES != 0:
        return due_a, due_b
    word: uint256 = self.words[channel_id]
    record: bytes32 = self.records[channel_id]
    held_a: uint256 = word >> 168
    held_b: uint256 = (word >> 80) & MASK88
    paid_a: uint256 = 0
    paid_b: uint256 = 0
    seen: bytes32 = empty(bytes32)
    rest: bytes32 = empty(bytes32)
    whole: bool = keccak256(locks) == record
    for i: uint256 in range(len(locks) // LOCK_BYTES, bound=MAX_LOCKS):
        entry: Bytes[LOCK_BYTES] = slice(locks, i * LOCK_BYTES, LOCK_BYTES)
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
        return due_a, due_b
    if rest == empty(bytes32) or held_a + held_b == 0:
        rest = empty(bytes32)
        paid_a += held_a
        paid_b += held_b
        held_a = 0
        held_b = 0
    word = (held_a << 168) | (held_b << 80) | (word & MASK80)
    self.words[channel_id] = word
    self.records[channel_id] = rest
    log LocksResolved(channel_id=channel_id, word=word, paid_a=paid_a, paid_b=paid_b, locks_hash=rest)
    return due_a + paid_a, due_b + paid_b


@internal
@view
def _agrees(who: address, digest: bytes32, signature: Signature) -> bool:
    # Sending is agreeing: a participant need not sign what it sends itself.
    if signature.r == empty(bytes32):
        return msg.sender == who
    return self._signed(who, digest, signature)


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
def _credit(token: address, terms_hash: bytes32, side: uint256, received: uint256):
    assert side < 2, "side"
    assert received != 0, "nothing"
    channel_id: bytes32 = keccak256(abi_encode(chain.id, self, token, terms_hash))
    word: uint256 = self.words[channel_id]
    assert (word >> 8) & MASK32 == 0, "not open"
    assert received <= MASK88 - (word >> 168) - ((word >> 80) & MASK88), "too much"
    if side == 0:
        word += received << 168
    else:
        word += received << 80
    self.words[channel_id] = word
    log Deposited(channel_id=channel_id, word=word)


@internal
@view
def _balance(token: address) -> uint256:
    assert token.is_contract, "token"
    return staticcall IERC20(token).balanceOf(self)


@internal
def _pull(token: address, amount: uint256) -> uint256:
    # Takes from the sender; what counts is what arrives.
    assert token.is_contract, "token"
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(
        msg.sender, self, amount, default_return_value=True, skip_contract_check=True
    ), "transfer"
    return staticcall IERC20(token).balanceOf(self) - before


@internal
@pure
def _fallen(before: uint256, after: uint256, most: uint256) -> uint256:
    # What left this contract, whatever the token says about it.
    if after >= before:
        return 0
    return min(before - after, most)


@internal
def _pay(token: address, to_a: address, amount_a: uint256, to_b: address, amount_b: uint256):
    # Pays, or owes: the receiver can neither hold up the other side, nor can whoever sends too little gas make a
    # payout fail.
    if token == empty(address):
        self._push_coin(to_a, amount_a)
        self._push_coin(to_b, amount_b)
        return
    if amount_a | amount_b == 0:
        return
    held: uint256 = staticcall IERC20(token).balanceOf(self)
    if amount_a != 0:
        held = self._push_token(token, to_a, amount_a, held)
    if amount_b != 0:
        self._push_token(token, to_b, amount_b, held)


@internal
def _push_coin(to: address, amount: uint256):
    if amount == 0:
        return
    assert msg.gas > COIN_GAS_LEFT, "gas"
    if not raw_call(to, b"", value=amount, gas=COIN_GAS, revert_on_failure=False):
        self._owe(empty(address), to, amount)


@internal
def _push_token(token: address, to: address, amount: uint256, before: uint256) -> uint256:
    # `before`: our balance. Returns it as it is afterwards.
    assert msg.gas > TOKEN_GAS_LEFT, "gas"
    done: bool = raw_call(
        token,
        abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")),
        gas=TOKEN_GAS,
        revert_on_failure=False,
    )
    after: uint256 = staticcall IERC20(token).balanceOf(self)
    moved: uint256 = self._fallen(before, after, amount)
    if moved != amount:
        self._owe(token, to, amount - moved)
    return after


@internal
def _owe(token: address, owner: address, amount: uint256):
    self.owed[token][owner] += amount
    log Owed(token=token, owner=owner, amount=amount)
