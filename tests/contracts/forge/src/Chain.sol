// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// What there is on the chain: the cheatcodes of forge that are used here, the contracts under test by their ABI, and
// how they get there. The bytes are those of contracts/artifacts, in Code.sol, which is written before each run.

import {Code} from "./Code.sol";

interface Vm {
    function warp(uint256 timestamp) external;
    function prank(address sender) external;
    function deal(address who, uint256 balance) external;
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function snapshotState() external returns (uint256);
    function revertToState(uint256 snapshot) external returns (bool);
    function writeLine(string calldata path, string calldata line) external;
    function toString(uint256 value) external pure returns (string memory);
}

struct Terms {
    address participantA;
    address participantB;
    address payoutA;
    address payoutB;
    uint256 period;
    bytes32 saltCommitment;
    uint256 bond;
    uint256 nonce;
}

struct Signature {
    bytes32 r;
    bytes32 vs;
}

struct Deposit {
    bytes32 termsHash;
    uint256 side;
    uint256 amount;
    bytes32[6] memo;
}

struct Order {
    uint256 validUntil;
    Signature signature;
}

struct Challenge {
    address token;
    Terms terms;
    uint256 version;
    bytes32 bodyHash;
    Signature signatureA;
    Signature signatureB;
    address payout;
    uint256 delay;
    Signature delegation;
}

struct Body {
    int256 net;
    uint256 lockedAB;
    uint256 lockedBA;
    bytes32 locksHash;
    bytes32 blind;
}

interface IManager {
    function deposit(address, bytes32, uint256, uint256, bytes32[6] calldata) external payable;
    function deposit_many(address, Deposit[] calldata) external payable;
    function deposit_with_authorization(
        address,
        bytes32,
        uint256,
        uint256,
        bytes32[6] calldata,
        address,
        uint256,
        uint256,
        bytes32,
        Signature calldata
    ) external;
    function deposit_with_permit2(
        address,
        bytes32,
        uint256,
        uint256,
        bytes32[6] calldata,
        address,
        uint256,
        uint256,
        Signature calldata
    ) external;
    function cooperate(
        address,
        Terms calldata,
        uint256,
        int256,
        uint256,
        uint256,
        uint256,
        Signature calldata,
        Signature calldata
    ) external;
    function close(address, Terms calldata, uint256, bytes32, Signature calldata, bytes32, bytes32, Order calldata)
        external
        payable;
    function challenge(Challenge calldata) external;
    function challenge_many(Challenge[] calldata) external returns (uint256);
    function finalize(address, Terms calldata, bytes32, address) external;
    function settle(address, Terms calldata, Body calldata, address) external;
    function resolve_locks(address, Terms calldata, bytes calldata, bytes32[] calldata) external;
    function withdraw(address, address, address) external returns (uint256);
    function channel(bytes32)
        external
        view
        returns (uint256 a, uint256 b, uint256 version, uint256 deadline, uint256 flags, bytes32 record);
    function owed(address, address) external view returns (uint256);
    function closings() external view returns (uint256);
}

struct Opening {
    Body body;
    address bondTo;
}

/// The overload with an opening, which settles first.
interface ISettling {
    function resolve_locks(address, Terms calldata, bytes calldata, bytes32[] calldata, Opening calldata) external;
}

interface IRegistry {
    function register(bytes32[] calldata) external;
    function register_points(uint256[] calldata) external;
    function registered_at(bytes32) external view returns (uint256);
}

interface IToken {
    function mint(address, uint256) external;
    function approve(address, uint256) external returns (bool);
    function transfer(address, uint256) external returns (bool);
    function transferFrom(address, address, uint256) external returns (bool);
    function balanceOf(address) external view returns (uint256);
    function set_mode(uint256) external;
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}

/// Deploys the contracts under test and speaks with them.
abstract contract Chain {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 internal constant MIN_PERIOD = 60;
    uint256 internal constant MAX_PERIOD = 30 days;
    uint256 internal constant CLOSER_B = 1;
    uint256 internal constant BEATEN = 2;
    uint256 internal constant DELEGATED = 4;
    uint256 internal constant VOID = 8;
    uint256 internal constant FINAL = 16;
    uint256 internal constant DEAD = 32;
    uint256 internal constant CHAINED = 64;

    IManager internal manager;
    IRegistry internal registry;

    function _create(bytes memory code) internal returns (address made) {
        assembly ("memory-safe") {
            made := create(0, add(code, 32), mload(code))
        }
        require(made != address(0), "not deployed");
    }

    function _deploy(address permit2) internal {
        registry = IRegistry(_create(Code.registry()));
        manager = IManager(_create(bytes.concat(Code.manager(), abi.encode(address(registry), permit2, MIN_PERIOD))));
    }

    // What a challenge period comes to.
    function _clamped(uint256 period) internal pure returns (uint256) {
        return period < MIN_PERIOD ? MIN_PERIOD : period > MAX_PERIOD ? MAX_PERIOD : period;
    }
}
