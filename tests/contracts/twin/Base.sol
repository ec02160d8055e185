// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IPermit2, ISecretRegistry} from "./Interfaces.sol";
import {Signature} from "./Types.sol";

/// @title Base
/// @notice The manager's storage, logs, constants and lock, and what is hashed and signed.
abstract contract Base {
    event Deposited(bytes32 indexed channel_id, uint256 word);
    event Memo(bytes32 indexed channel_id, bytes32[6] memo);
    event Cooperated(bytes32 indexed channel_id, uint256 word, uint256 paid_a, uint256 paid_b);
    event Closed(bytes32 indexed channel_id, uint256 word, bytes32 body_hash, bytes32 salt, uint256 closing_index);
    event Challenged(bytes32 indexed channel_id, uint256 word, bytes32 body_hash, address bond_to);
    event Finalized(bytes32 indexed channel_id, uint256 word, address bond_to, uint256 bond);
    event Settled(bytes32 indexed channel_id, uint256 word, uint256 paid_a, uint256 paid_b, bytes32 locks_hash);
    event LocksResolved(bytes32 indexed channel_id, uint256 word, uint256 paid_a, uint256 paid_b, bytes32 locks_hash);
    event Owed(address indexed token, address indexed owner, uint256 amount);
    event Withdrawn(address indexed token, address indexed owner, address to, uint256 amount);

    uint256 internal constant CLOSER_B = 1;
    uint256 internal constant BEATEN = 2;
    uint256 internal constant DELEGATED = 4;
    uint256 internal constant VOID = 8;
    uint256 internal constant FINAL = 16;
    uint256 internal constant DEAD = 32;

    uint256 internal constant MASK32 = type(uint32).max;
    uint256 internal constant MASK40 = type(uint40).max;
    uint256 internal constant MASK80 = type(uint80).max;
    uint256 internal constant MASK88 = type(uint88).max;
    uint256 internal constant MASK255 = type(uint256).max >> 1;
    uint256 internal constant MAX_PERIOD = 30 days;
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant DOMAIN_NAME = keccak256("channeld");
    bytes32 private constant DOMAIN_VERSION = keccak256("1");
    bytes32 internal constant STATE_TYPE = keccak256("State(bytes32 channelId,uint40 version,bytes32 bodyHash)");
    bytes32 internal constant COOPERATE_TYPE = keccak256(
        "Cooperate(bytes32 channelId,uint40 version,int128 net,uint128 outA,uint128 outB,uint64 validUntil)"
    );
    bytes32 internal constant CLOSE_TYPE =
        keccak256("Close(bytes32 channelId,uint40 version,bytes32 bodyHash,uint64 validUntil)");
    bytes32 internal constant DELEGATION_TYPE =
        keccak256("Delegation(bytes32 channelId,uint40 version,address payout,uint32 delay)");
    bytes32 internal constant WITNESS_TYPE =
        keccak256("ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)");
    string internal constant WITNESS_TEXT = "ChannelDeposit witness)ChannelDeposit(bytes32 channelId,uint8 side,"
        "bytes32 memoHash)TokenPermissions(address token,uint256 amount)";

    ISecretRegistry public immutable REGISTRY;
    IPermit2 public immutable PERMIT2;
    uint256 public immutable MIN_PERIOD;

    mapping(bytes32 => uint256) internal words;
    mapping(bytes32 => bytes32) internal records;
    mapping(address => mapping(address => uint256)) internal _owed;
    uint256 internal _closings;
    // In transient storage (EIP-1153): gone with the transaction, whatever happens in it.
    bool private transient entered;

    /// @dev For what changes something: no call while another runs.
    modifier alone() {
        if (entered) revert();
        entered = true;
        _;
        entered = false;
    }

    /// @dev For views: what is half done is not shown.
    modifier unlocked() {
        if (entered) revert();
        _;
    }

    constructor(address registry, address permit2, uint256 min_period) {
        require(registry.code.length != 0, "registry");
        require(min_period != 0 && min_period <= MAX_PERIOD, "period");
        REGISTRY = ISecretRegistry(registry);
        PERMIT2 = IPermit2(permit2);
        MIN_PERIOD = min_period;
    }

    // word: deposit_a 88 | deposit_b 88 | version 40 | deadline 32 | flags 8

    function _depositA(uint256 word) internal pure returns (uint256) {
        return word >> 168;
    }

    function _depositB(uint256 word) internal pure returns (uint256) {
        return (word >> 80) & MASK88;
    }

    function _version(uint256 word) internal pure returns (uint256) {
        return (word >> 40) & MASK40;
    }

    function _deadline(uint256 word) internal pure returns (uint256) {
        return (word >> 8) & MASK32;
    }

    function _period(uint256 asked) internal view returns (uint256) {
        return _max(MIN_PERIOD, _min(asked, MAX_PERIOD));
    }

    function _channelId(address token, bytes32 termsHash) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), token, termsHash));
    }

    function _digest(bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN_TYPE, DOMAIN_NAME, DOMAIN_VERSION, block.chainid, address(this)));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _stateDigest(bytes32 id, uint256 version, bytes32 bodyHash) internal view returns (bytes32) {
        return _digest(keccak256(abi.encode(STATE_TYPE, id, version, bodyHash)));
    }

    function _signer(bytes32 digest, Signature memory signature) internal pure returns (address) {
        uint256 s = uint256(signature.vs) & MASK255;
        if (s > HALF_ORDER) return address(0);
        return ecrecover(digest, uint8(27 + (uint256(signature.vs) >> 255)), signature.r, bytes32(s));
    }

    function _signed(address who, bytes32 digest, Signature memory signature) internal pure returns (bool) {
        return _signer(digest, signature) == who && who != address(0);
    }

    function _min(uint256 one, uint256 other) internal pure returns (uint256) {
        return one < other ? one : other;
    }

    function _max(uint256 one, uint256 other) internal pure returns (uint256) {
        return one > other ? one : other;
    }

    // Sums and differences that revert without data, as those of Vyper do.

    function _add(uint256 one, uint256 other) internal pure returns (uint256 sum) {
        unchecked {
            sum = one + other;
        }
        if (sum < one) revert();
    }

    function _sub(uint256 one, uint256 other) internal pure returns (uint256) {
        if (other > one) revert();
        unchecked {
            return one - other;
        }
    }
}
