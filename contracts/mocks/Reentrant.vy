# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Reentrant
@license MIT
@notice A receiver of native coin that calls back into whoever pays it: for tests of the lock.
"""

target: public(address)
data: public(Bytes[4096])
worked: public(bool)
tried: public(uint256)


@external
def aim(target: address, data: Bytes[4096]):
    """
    @notice Choose what to call when paid
    @param target the contract
    @param data the call
    """
    self.target = target
    self.data = data


@external
@payable
def call(target: address, data: Bytes[4096]):
    """
    @notice Act as a participant
    @param target the contract
    @param data the call
    """
    raw_call(target, data, value=msg.value)


@external
@payable
def __default__():
    if self.target != empty(address):
        self.worked = raw_call(self.target, self.data, revert_on_failure=False)
        self.tried += 1
