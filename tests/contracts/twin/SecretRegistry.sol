// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {ISecretRegistry} from "./Interfaces.sol";

/// @title SecretRegistry, the twin of contracts/SecretRegistry.vy
/// @notice The public clock of secrets: the first time each was shown to this chain.
/// @dev Same ABI, log and meaning as the Vyper contract; see there for the specification. It calls nothing but
///      precompiles, so there is nobody who could re-enter it, and no lock.
contract SecretRegistry is ISecretRegistry {
    event SecretRegistered(bytes32 indexed key, bytes32 secret);

    uint256 private constant KIND_HASH = 1;
    uint256 private constant KIND_POINT = 2;
    uint256 private constant MAX_SECRETS = 128;
    // secp256k1: the order of the group, and the abscissa of G, whose ordinate is even
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    uint256 private constant G_X = 0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798;

    mapping(bytes32 => uint256) private times;

    /// @notice Show preimages under SHA-256; those that are there already are skipped
    /// @param secrets at most 128
    function register(bytes32[] calldata secrets) external {
        if (secrets.length > MAX_SECRETS) revert();
        for (uint256 i = 0; i < secrets.length; i++) {
            _register(keccak256(abi.encode(KIND_HASH, sha256(abi.encode(secrets[i])))), secrets[i]);
        }
    }

    /// @notice Show discrete logarithms; those that are there already are skipped
    /// @param scalars at most 128, above zero and below the order of the group
    function register_points(uint256[] calldata scalars) external {
        if (scalars.length > MAX_SECRETS) revert();
        for (uint256 i = 0; i < scalars.length; i++) {
            uint256 scalar = scalars[i];
            require(scalar != 0 && scalar < ORDER, "scalar");
            address point = ecrecover(0, 27, bytes32(G_X), bytes32(mulmod(scalar, G_X, ORDER)));
            _register(keccak256(abi.encode(KIND_POINT, point)), bytes32(scalar));
        }
    }

    /// @notice When the secret behind a key was first registered, 0 for never
    /// @param key keccak256(abi.encode(kind, value))
    /// @return block.timestamp of the first registration
    function registered_at(bytes32 key) external view returns (uint256) {
        return times[key];
    }

    function _register(bytes32 key, bytes32 secret) private {
        if (times[key] == 0) {
            times[key] = block.timestamp;
            emit SecretRegistered(key, secret);
        }
    }
}
