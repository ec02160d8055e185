# pragma version 0.4.3
# pragma evm-version cancun
"""
@title NastyToken
@license MIT
@notice An ERC-20 that misbehaves as it is told, with transfers by authorization (EIP-3009): for tests of payouts.
@dev    What it does to a transfer is its mode, one of the constants below; `only` bounds that to one receiver.
        Balances are kept as shares, of which one unit is worth scale / 10**18: `rebase` changes what everybody has.
        Whoever is hooked is called back as by an ERC-777; the token itself calls where `aim` told it in mode CALLS.
"""

PLAIN: constant(uint256) = 0
SILENT: constant(uint256) = 1  # moves, returns nothing (as USDT does)
DENIES: constant(uint256) = 2  # moves, returns false
LIES: constant(uint256) = 3  # returns true, moves nothing
TAKES: constant(uint256) = 4  # keeps a tenth of each transfer
BURNS: constant(uint256) = 5  # never comes back
BOMBS: constant(uint256) = 6  # moves, returns 4 KiB
PICKY: constant(uint256) = 7  # moves, if nearly all of 100,000 gas is there at first; asking it for a balance is dear
HALVES: constant(uint256) = 8  # moves half of what it was told
REFUSES: constant(uint256) = 9  # returns false, moves nothing
REASONS: constant(uint256) = 10  # reverts with 4 KiB
NONZERO: constant(uint256) = 11  # reverts on an amount of zero
PAUSED: constant(uint256) = 12  # reverts
SKIMS: constant(uint256) = 13  # takes a tenth on top from the owner
CALLS: constant(uint256) = 14  # calls where it was aimed, in the middle of a transfer
PEEKS: constant(uint256) = 15  # the same when asked for a balance, and raves if that call works
MUTE: constant(uint256) = 16  # reverts when asked for a balance
RAVES: constant(uint256) = 17  # says each time that the asked has more

ONE: constant(uint256) = 10**18
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
RECEIVE_TYPE: constant(bytes32) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)

mode: public(uint256)
only: public(address)
scale: public(uint256)
barred: public(HashMap[address, bool])
hooked: public(HashMap[address, bool])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])
target: address
data: Bytes[4096]
shares: HashMap[address, uint256]


@deploy
def __init__():
    self.scale = ONE


@external
def set_mode(mode: uint256, only: address = empty(address)):
    """
    @notice Choose how to misbehave
    @param mode one of the constants above
    @param only whose receiving is meant; zero for everybody's
    """
    self.mode = mode
    self.only = only


@external
def bar(who: address, barred: bool):
    """
    @notice Refuse an address as an owner and as a receiver, or no longer
    @param who the address
    @param barred whether it is refused
    """
    self.barred[who] = barred


@external
def hook(who: address, hooked: bool):
    """
    @notice Call an address back, before its money leaves and after money arrived, or no longer
    @param who the address
    @param hooked whether it is called
    """
    self.hooked[who] = hooked


@external
def aim(target: address, data: Bytes[4096]):
    """
    @notice Choose what to call in the modes CALLS and PEEKS
    @param target the contract; zero for none
    @param data the call
    """
    self.target = target
    self.data = data


@external
def rebase(scale: uint256):
    """
    @notice Change what all have
    @param scale what 10**18 shares are worth
    """
    self.scale = scale


@external
def mint(to: address, amount: uint256):
    """
    @notice Make new money
    @param to who gets it
    @param amount base units
    """
    self.shares[to] += amount * ONE // self.scale


@external
@view
def balanceOf(who: address) -> uint256:
    """
    @notice What an address has
    @param who the address
    @return base units, unless the mode says otherwise
    """
    if self.mode == PICKY:
        self._burn(200)
    assert self.mode != MUTE, "mute"
    if self.mode == RAVES:
        return max_value(uint256) - msg.gas
    if self.mode == PEEKS:
        if raw_call(self.target, self.data, is_static_call=True, revert_on_failure=False):
            return max_value(uint256) - msg.gas
    return self.shares[who] * self.scale // ONE


@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[4096]:
    """
    @notice Move own money, more or less
    @param to who gets it
    @param amount base units
    @return whatever the mode says
    """
    return self._transfer(msg.sender, to, amount)


@external
@raw_return
def transferFrom(owner: address, to: address, amount: uint256) -> Bytes[4096]:
    """
    @notice Move another's money, without asking
    @param owner whose money
    @param to who gets it
    @param amount base units
    @return whatever the mode says
    """
    return self._transfer(owner, to, amount)


@external
@raw_return
def receiveWithAuthorization(
    owner: address,
    to: address,
    amount: uint256,
    valid_after: uint256,
    valid_before: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
) -> Bytes[4096]:
    """
    @notice Move an owner's money to the caller, by the owner's signature
    @param owner whose money
    @param to who gets it: the caller
    @param amount base units
    @param valid_after block.timestamp after which this counts
    @param valid_before block.timestamp before which this counts
    @param nonce once for each owner
    @param v 27 or 28
    @param r of the signature
    @param s of the signature, in the lower half of the order
    @return nothing, unless the mode says otherwise
    """
    assert to == msg.sender, "not the receiver"
    assert block.timestamp > valid_after, "too early"
    assert block.timestamp < valid_before, "expired"
    assert not self.authorizationState[owner][nonce], "used"
    assert v == 27 or v == 28, "signature"
    assert convert(s, uint256) <= HALF_ORDER, "signature"
    struct_hash: bytes32 = keccak256(
        abi_encode(RECEIVE_TYPE, owner, to, amount, valid_after, valid_before, nonce)
    )
    signer: address = ecrecover(keccak256(concat(b"\x19\x01", self._domain(), struct_hash)), v, r, s)
    assert signer != empty(address) and signer == owner, "signature"
    self.authorizationState[owner][nonce] = True
    said: Bytes[4096] = self._transfer(owner, to, amount)
    if self.mode != BOMBS:
        return b""
    return said


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """
    @notice The domain of authorizations (EIP-712)
    @return its hash
    """
    return self._domain()


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPE, keccak256("Nasty"), keccak256("1"), chain.id, self))


@internal
def _transfer(owner: address, to: address, amount: uint256) -> Bytes[4096]:
    mode: uint256 = self.mode
    if mode == PICKY:  # whoever the receiver, so that the least gas is the same for each
        assert msg.gas > 97_300, "picky"
    only: address = self.only
    if only != empty(address) and only != to:
        mode = PLAIN
    assert not self.barred[owner] and not self.barred[to], "barred"
    if self.hooked[owner]:
        raw_call(owner, concat(method_id("tokensToSend(uint256)"), convert(amount, bytes32)))
    if mode == REASONS:
        raw_revert(self._much())
    assert mode != PAUSED, "paused"
    if mode == BURNS:
        self._burn(1_000_000)
    if mode == NONZERO:
        assert amount != 0, "zero"
    if mode != LIES and mode != REFUSES:
        self._move(mode, owner, to, amount)
    if self.hooked[to]:
        raw_call(to, concat(method_id("tokensReceived(uint256)"), convert(amount, bytes32)))
    if mode == SILENT:
        return b""
    if mode == BOMBS:
        return self._much()
    return abi_encode(mode != DENIES and mode != REFUSES)


@internal
def _move(mode: uint256, owner: address, to: address, amount: uint256):
    leaves: uint256 = amount
    if mode == HALVES:
        leaves = amount // 2
    arrives: uint256 = leaves
    if mode == TAKES:
        arrives -= leaves // 10
    if mode == SKIMS:
        leaves += leaves // 10
    self.shares[owner] -= leaves * ONE // self.scale
    if mode == CALLS:
        raw_call(self.target, self.data)
    self.shares[to] += arrives * ONE // self.scale


@internal
@pure
def _much() -> Bytes[4096]:
    many: uint256[128] = empty(uint256[128])
    return abi_encode(many)


@internal
@view
def _burn(rounds: uint256):
    burnt: bytes32 = empty(bytes32)
    for i: uint256 in range(rounds, bound=1_000_000):
        burnt = keccak256(burnt)
