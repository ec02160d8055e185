# pragma version 0.4.3
# pragma evm-version cancun
"""
@title NastyToken
@license MIT
@notice An ERC-20 that misbehaves as it is told: for tests of payouts.
"""

PLAIN: constant(uint256) = 0
SILENT: constant(uint256) = 1  # moves, returns nothing (as USDT does)
DENIES: constant(uint256) = 2  # moves, returns false
LIES: constant(uint256) = 3  # returns true, moves nothing
TAKES: constant(uint256) = 4  # keeps a tenth of each transfer
BURNS: constant(uint256) = 5  # never comes back
BOMBS: constant(uint256) = 6  # moves, returns 4 KiB
PICKY: constant(uint256) = 7  # moves, if it is given all but 6,000 of 100,000 gas; asking it for a balance is dear
HALVES: constant(uint256) = 8  # moves half of what it was told

mode: public(uint256)
barred: public(HashMap[address, bool])
balances: HashMap[address, uint256]


@external
def set_mode(mode: uint256):
    """
    @notice Choose how to misbehave
    @param mode one of the constants above
    """
    self.mode = mode


@external
def bar(who: address, barred: bool):
    """
    @notice Refuse an address as a receiver, or no longer
    @param who the address
    @param barred whether it is refused
    """
    self.barred[who] = barred


@external
def mint(to: address, amount: uint256):
    """
    @notice Make new money
    @param to who gets it
    @param amount base units
    """
    self.balances[to] += amount


@external
@view
def balanceOf(who: address) -> uint256:
    """
    @notice What an address has
    @param who the address
    @return base units
    """
    if self.mode == PICKY:
        self._burn(200)
    return self.balances[who]


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


@internal
def _transfer(owner: address, to: address, amount: uint256) -> Bytes[4096]:
    assert not self.barred[to], "barred"
    if self.mode == BURNS:
        self._burn(1_000_000)
    if self.mode == PICKY:
        assert msg.gas > 93_000, "picky"
    if self.mode != LIES:
        leaves: uint256 = amount
        if self.mode == HALVES:
            leaves = amount // 2
        arrives: uint256 = leaves
        if self.mode == TAKES:
            arrives -= leaves // 10
        self.balances[owner] -= leaves
        self.balances[to] += arrives
    if self.mode == SILENT:
        return b""
    if self.mode == BOMBS:
        many: uint256[128] = empty(uint256[128])
        return abi_encode(many)
    return abi_encode(self.mode != DENIES)


@internal
@pure
def _burn(rounds: uint256):
    burnt: bytes32 = empty(bytes32)
    for i: uint256 in range(rounds, bound=1_000_000):
        burnt = keccak256(burnt)
