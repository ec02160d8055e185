// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// What every lemma stands on: the deployed bytecode, one coin channel whose terms, word and record are symbolic, and
// the ways to look at it. Payouts go to three accounts without code, so that a payment is a change of balances and nothing
// else; that receivers cannot do harm is for the forge invariants. Hashes and signature recovery are uninterpreted
// functions in halmos (hashes injective), so a lemma holds whatever the signatures are. Times end with the year 2105: a
// deadline has 32 bits, and nothing in the contract looks whether it fits.

import {Chain, Terms, Signature, Body, Challenge} from "./Chain.sol";
import {Signing} from "./Signing.sol";
import {Code} from "./Code.sol";

interface Svm {
    function createUint(uint256 bits, string calldata name) external returns (uint256);
    function createUint256(string calldata name) external returns (uint256);
    function createBytes32(string calldata name) external returns (bytes32);
    function createAddress(string calldata name) external returns (address);
    function createBytes(uint256 size, string calldata name) external returns (bytes memory);
    function createInt256(string calldata name) external returns (int256);
}

interface Cheats {
    function assume(bool) external;
    function store(address, bytes32, bytes32) external;
    function load(address, bytes32) external view returns (bytes32);
}

struct Word {
    uint256 a;
    uint256 b;
    uint256 version;
    uint256 deadline;
    uint256 flags;
    bytes32 record;
}

abstract contract Ground is Signing {
    Svm internal constant svm = Svm(0xF3993A62377BCd56AE39D773740A5390411E8BC9);
    Cheats internal constant cheats = Cheats(address(uint160(uint256(keccak256("hevm cheat code")))));
    address internal constant COIN = address(0);
    address internal constant PAYOUT_A = address(0xAAAA);
    address internal constant PAYOUT_B = address(0xBBBB);
    address internal constant PURSE = address(0xCCCC);
    uint256 internal constant LAST = (1 << 32) - MAX_PERIOD;
    uint256 internal constant MASK40 = type(uint40).max;

    Terms internal terms;
    bytes32 internal id;

    function setUp() public {
        _deploy(address(0x2222));
    }

    // A channel with any participants and terms, at any time.
    function _channel() internal {
        terms.participantA = svm.createAddress("participant_a");
        terms.participantB = svm.createAddress("participant_b");
        terms.payoutA = PAYOUT_A;
        terms.payoutB = PAYOUT_B;
        terms.period = svm.createUint256("period");
        terms.saltCommitment = svm.createBytes32("salt_commitment");
        terms.bond = svm.createUint(96, "bond");
        terms.nonce = svm.createUint256("nonce");
        id = _id(COIN, keccak256(abi.encode(terms)));
        uint256 time = svm.createUint(32, "now");
        cheats.assume(time < LAST);
        vm.warp(time);
    }

    function _slot(uint256 map, bytes32 key) internal pure returns (bytes32) {
        return keccak256(abi.encode(map, key)); // Vyper: slot first
    }

    // Any word and record with these flags in storage, and in the pot at least what they and a bond come to (I1).
    function _stored(uint256 flags) internal returns (Word memory w) {
        w.a = svm.createUint(88, "deposit_a");
        w.b = svm.createUint(88, "deposit_b");
        w.version = svm.createUint(40, "version");
        w.deadline = svm.createUint(32, "deadline");
        w.flags = flags;
        w.record = svm.createBytes32("record");
        cheats.assume(w.a + w.b < 1 << 88);
        uint256 pot = svm.createUint(100, "pot");
        cheats.assume(pot >= w.a + w.b + terms.bond);
        vm.deal(address(manager), pot);
        _put(w);
    }

    // Any of the closing channel's flags, not final and not dead.
    function _closing() internal returns (uint256 flags) {
        flags = svm.createUint(4, "flags");
    }

    function _put(Word memory w) internal {
        // joined as bytes, not by shifts: a part that is shifted out again is then the part itself, without a proof
        bytes memory word =
            abi.encodePacked(uint88(w.a), uint88(w.b), uint40(w.version), uint32(w.deadline), uint8(w.flags));
        cheats.store(address(manager), _slot(0, id), bytes32(word));
        cheats.store(address(manager), _slot(1, id), w.record);
    }

    function _now() internal view returns (Word memory w) {
        uint256 word = uint256(cheats.load(address(manager), _slot(0, id)));
        w.a = word >> 168;
        w.b = (word >> 80) & type(uint88).max;
        w.version = (word >> 40) & MASK40;
        w.deadline = (word >> 8) & type(uint32).max;
        w.flags = word & 255;
        w.record = cheats.load(address(manager), _slot(1, id));
    }

    function _signature(string memory name) internal returns (Signature memory) {
        return Signature(svm.createBytes32(name), svm.createBytes32(name));
    }

    function _body() internal returns (Body memory body) {
        body.net = svm.createInt256("net");
        body.lockedAB = svm.createUint256("locked_ab");
        body.lockedBA = svm.createUint256("locked_ba");
        body.locksHash = svm.createBytes32("locks_hash");
        body.blind = svm.createBytes32("blind");
    }

    // Sends a call; true iff it did not revert.
    function _call(address sender, uint256 value, bytes memory data) internal returns (bool done) {
        if (value != 0) vm.deal(sender, value);
        vm.prank(sender);
        (done,) = address(manager).call{value: value}(data);
    }

    // The same for a call that has to work: it may be refused for want of gas, with that reason, and for nothing else.
    // An arithmetic error has no reason.
    function _works(address sender, bytes memory data) internal returns (bool done) {
        bytes memory out;
        vm.prank(sender);
        (done, out) = address(manager).call(data);
        if (!done) {
            assert(out.length == 100);
            bytes32 text;
            assembly ("memory-safe") {
                text := mload(add(out, 100))
            }
            assert(bytes3(text) == "gas");
        }
    }

    function _same(Word memory v, Word memory w) internal pure returns (bool) {
        return v.a == w.a && v.b == w.b && v.version == w.version && v.deadline == w.deadline && v.flags == w.flags
            && v.record == w.record;
    }

    function _paid() internal view returns (uint256) {
        return PAYOUT_A.balance + PAYOUT_B.balance + PURSE.balance;
    }

    function _owed() internal view returns (uint256) {
        return manager.owed(COIN, PAYOUT_A) + manager.owed(COIN, PAYOUT_B) + manager.owed(COIN, PURSE);
    }

    function _challenge(uint256 version, bytes32 bodyHash) internal returns (Challenge memory given) {
        given.token = COIN;
        given.terms = terms;
        given.version = version;
        given.bodyHash = bodyHash;
        given.signatureA = _signature("signature_a");
        given.signatureB = _signature("signature_b");
    }

    // Whether `who` signed `digest` by this signature, as the specification says it.
    function _by(address who, bytes32 digest, Signature memory s) internal pure returns (bool) {
        uint256 low = uint256(s.vs) & (type(uint256).max >> 1);
        if (low > 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0) return false;
        address found = ecrecover(digest, uint8(27 + (uint256(s.vs) >> 255)), s.r, bytes32(low));
        return found == who && who != address(0);
    }
}
