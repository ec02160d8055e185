# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# pragma nonreentrancy on
"""
@title SecretRegistry
@license MIT
@notice The public clock of secrets: when was each first shown to this chain? A lock pays its receiver iff its secret
        was registered by the lock's expiry, in every channel of a payment's path at once.
@dev    No owner, no money, no way to remove or change an entry. One per chain, shared by all managers.
        Key of an entry: keccak256(abi_encode(uint256 kind, bytes32 value)). Kind 1: value is the SHA-256 of a secret of
        32 bytes. Kind 2: value is the address, left-padded, of the point scalar * G of secp256k1.
"""

from interfaces import ISecretRegistry

implements: ISecretRegistry

KIND_HASH: constant(uint256) = 1
KIND_POINT: constant(uint256) = 2
MAX_SECRETS: constant(uint256) = 128
# secp256k1: the order of the group, and the abscissa of G, whose ordinate is even
ORDER: constant(uint256) = 115792089237316195423570985008687907852837564279074904382605163141518161494337
G_X: constant(uint256) = 55066263022277343669578718895168534326250603453777594175500187360389116729240

# block.timestamp of the first registration, 0 for never
times: HashMap[bytes32, uint256]


@external
def register(secrets: DynArray[bytes32, MAX_SECRETS]):
    """
    @notice Show secrets to the chain. The first time counts; one that is there already is skipped, never refused.
    @dev Anyone may call. Emits SecretRegistered for each that is new. Never reverts.
    @param secrets 32 bytes each, preimages under SHA-256
    """
    for secret: bytes32 in secrets:
        self._register(keccak256(abi_encode(KIND_HASH, sha256(secret))), secret)


@external
def register_points(scalars: DynArray[uint256, MAX_SECRETS]):
    """
    @notice Show discrete logarithms to the chain, for locks on points. The first time counts, as with secrets.
    @dev Anyone may call. Emits SecretRegistered for each that is new.
         ecrecover of hash 0 with r = G.x and s = scalar * r gives the address of scalar * G.
         Reverts: scalar
    @param scalars above zero and below the order of secp256k1
    """
    for scalar: uint256 in scalars:
        assert scalar != 0 and scalar < ORDER, "scalar"
        point: address = ecrecover(empty(bytes32), 27, G_X, uint256_mulmod(scalar, G_X, ORDER))
        self._register(keccak256(abi_encode(KIND_POINT, point)), convert(scalar, bytes32))


@external
@view
@reentrant
def registered_at(key: bytes32) -> uint256:
    """
    @notice When the secret behind a key was first registered
    @dev Anyone may call, also while another call runs. Never reverts.
    @param key keccak256(abi_encode(kind, value))
    @return block.timestamp of the first registration, 0 if there is none
    """
    return self.times[key]


@internal
def _register(key: bytes32, secret: bytes32):
    if self.times[key] == 0:
        self.times[key] = block.timestamp
        log ISecretRegistry.SecretRegistered(key=key, secret=secret)
