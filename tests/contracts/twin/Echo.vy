# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Echo
@license MIT
@notice A receiver that calls back into whoever pays it, or refuses, as it is told; counts what came of its calls.
@dev    Two compilers burn different gas before they refuse a call from inside, so whether it can take its money must
        not depend on what its call burns: it decides before it calls, and keeps back what it needs afterwards.
"""

KEPT: constant(uint256) = 12_000  # pays for the count, and for what stands between looking at the gas and the call

target: address
refusing: bool
# calls that worked in the upper half, others in the lower; never zero, for a first write of a slot is dear
counted: public(uint256)
data: Bytes[4096]


@deploy
def __init__():
    self.counted = 1


@external
def aim(target: address, data: Bytes[4096]):
    """
    @notice Choose what to call when paid
    @param target the contract; zero for none
    @param data the call
    """
    self.target = target
    self.data = data


@external
def refuse(refusing: bool):
    """
    @notice Take no money, or do again
    @param refusing whether whatever pays is refused
    """
    self.refusing = refusing


@external
@payable
def __default__():
    assert not self.refusing, "refused"
    if self.target != empty(address):
        data: Bytes[4096] = self.data
        given: uint256 = msg.gas
        assert given > 2 * KEPT, "little gas"
        if raw_call(self.target, data, gas=given - KEPT, revert_on_failure=False):
            self.counted += 2**128
        else:
            self.counted += 1
