// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

// What the manager calls, as in contracts/interfaces.

interface IERC20 {
    function balanceOf(address who) external view returns (uint256);
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address owner, address to, uint256 amount) external returns (bool);
}

interface IERC3009 {
    function receiveWithAuthorization(
        address owner,
        address to,
        uint256 amount,
        uint256 valid_after,
        uint256 valid_before,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;
}

interface IPermit2 {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    function permitWitnessTransferFrom(
        PermitTransferFrom memory permit,
        SignatureTransferDetails memory details,
        address owner,
        bytes32 witness,
        string memory witness_type,
        bytes memory signature
    ) external;
}

interface ISecretRegistry {
    function register(bytes32[] calldata secrets) external;
    function register_points(uint256[] calldata scalars) external;
    function registered_at(bytes32 key) external view returns (uint256);
}
