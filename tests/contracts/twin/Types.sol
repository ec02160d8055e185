// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

// The structs of the ABI, in the order of contracts/ChannelManager.vy, where their fields are explained.

struct Terms {
    address participant_a;
    address participant_b;
    address payout_a;
    address payout_b;
    uint256 challenge_period;
    bytes32 salt_commitment;
    uint256 close_bond;
    uint256 nonce;
}

struct Signature {
    bytes32 r;
    bytes32 vs;
}

struct Deposit {
    bytes32 terms_hash;
    uint256 side;
    uint256 amount;
    bytes32[6] memo;
}

struct Order {
    uint256 valid_until;
    Signature signature;
}

struct Challenge {
    address token;
    Terms terms;
    uint256 version;
    bytes32 body_hash;
    Signature signature_a;
    Signature signature_b;
    address payout;
    uint256 delay;
    Signature delegation;
}

struct Body {
    int256 net;
    uint256 locked_ab;
    uint256 locked_ba;
    bytes32 locks_hash;
    bytes32 blind;
}

struct Opening {
    Body body;
    address bond_to;
}
