# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Reentrant
@license MIT
@notice A receiver that calls back into whoever pays it, or refuses, as it is told: for tests of payouts.
"""

target: public(address)
data: public(Bytes[4096])
refusing: public(bool)
worked: public(bool)
tried: public(uint256)


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
    assert not self.refusing, "refused"
    if self.target != empty(address):
        self.worked = raw_call(self.target, self.data, revert_on_failure=False)
        self.tried += 1
