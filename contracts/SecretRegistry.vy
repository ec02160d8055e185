# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
"""
@title SecretRegistry
@license MIT
@notice The public clock of secrets: when was each first shown to this chain? A hash-lock pays its receiver
        iff its secret was registered by the lock's expiry, in every channel of a payment's path at once.
@dev    No owner, no money, no way to remove or change an entry. One per chain, shared by all managers.
        Key of an entry: keccak256(abi_encode(uint256 kind, bytes32 value)); kind 1 is SHA-256 of 32 bytes.
"""

KIND_HASH: constant(uint256) = 1
MAX_SECRETS: constant(uint256) = 128

event SecretRegistered:
    key: indexed(bytes32)
    secret: bytes32

# block.timestamp of the first registration, 0 for never
times: HashMap[bytes32, uint256]


@external
def register(secrets: DynArray[bytes32, MAX_SECRETS]):
    """
    @notice Show secrets to the chain. The first time counts; one that is there already is skipped, never refused.
    @param secrets 32 bytes each, preimages under SHA-256
    """
    for secret: bytes32 in secrets:
        key: bytes32 = keccak256(abi_encode(KIND_HASH, sha256(secret)))
        if self.times[key] == 0:
            self.times[key] = block.timestamp
            log SecretRegistered(key=key, secret=secret)


@external
@view
@reentrant
def registered_at(key: bytes32) -> uint256:
    """
    @notice When the secret behind a key was first registered
    @param key keccak256(abi_encode(kind, value))
    @return block.timestamp of the first registration, 0 if there is none
    """
    return self.times[key]
