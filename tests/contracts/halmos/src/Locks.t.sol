// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Terms} from "./Chain.sol";
import {Ground, Word} from "./Ground.sol";

/// Lists of one or two locks with any fields; longer ones run the same loop, and are for forge.
contract Locks is Ground {
    struct Lock {
        uint64 id;
        uint8 direction;
        uint8 kind;
        uint88 amount;
        bytes32 key;
        uint32 expiry;
    }

    function _lock(string memory name) private returns (Lock memory one, bytes memory raw) {
        one.id = uint64(svm.createUint(64, name));
        one.direction = uint8(svm.createUint(8, name));
        one.kind = uint8(svm.createUint(8, name));
        one.amount = uint88(svm.createUint(88, name));
        one.key = svm.createBytes32(name);
        one.expiry = uint32(svm.createUint(32, name));
        raw = abi.encodePacked(one.id, one.direction, one.kind, one.amount, one.key, one.expiry);
    }

    // Any time of registration, or none.
    function _registered(Lock memory one) private returns (uint256 time) {
        time = svm.createUint(32, "registered");
        cheats.assume(time <= block.timestamp);
        bytes32 key = keccak256(abi.encode(uint256(one.kind), one.key));
        cheats.store(address(registry), _slot(0, key), bytes32(time));
    }

    function _settled(bytes memory list) private returns (Word memory w) {
        w = _stored(48);
        cheats.assume(w.deadline != 0);
        w.record = keccak256(list);
        _put(w);
    }

    function _resolve(bytes memory list) private returns (bool) {
        return _works(address(0x5E4D), abi.encodeCall(manager.resolve_locks, (COIN, terms, list, new bytes32[](0))));
    }

    /// One lock: the receiver's iff registered by the expiry, the sender's iff not and the expiry is over, and until
    /// then nobody's. Every second of all three times.
    function check_claim__one_outcome() external {
        _channel();
        (Lock memory one, bytes memory raw) = _lock("lock");
        uint256 time = _registered(one);
        Word memory w = _settled(raw);
        if (!_resolve(raw)) return;
        Word memory v = _now();
        bool claimed = time != 0 && time <= one.expiry;
        bool waits = !claimed && block.timestamp <= one.expiry && w.a + w.b != 0;
        uint256 has = one.direction == 0 ? w.a : w.b;
        uint256 moved = claimed ? (one.amount < has ? one.amount : has) : 0;
        if (waits) {
            assert(v.a == w.a && v.b == w.b && _paid() == 0 && v.record != 0);
        } else {
            assert(v.a + v.b == 0 && v.record == 0);
            assert(PAYOUT_A.balance == (one.direction == 0 ? w.a - moved : w.a + moved));
            assert(PAYOUT_B.balance == (one.direction == 0 ? w.b + moved : w.b - moved));
        }
    }

    /// Two locks of one side, the first in any state and the second not registered: what is paid and what stays held is
    /// what was held.
    function check_resolve__from_a() external {
        _conserves(true);
    }

    function check_resolve__from_b() external {
        _conserves(false);
    }

    function _conserves(bool fromA) private {
        _channel();
        (Lock memory one, bytes memory first) = _lock("first");
        (Lock memory two, bytes memory second) = _lock("second");
        cheats.assume((one.direction == 0) == fromA && (two.direction == 0) == fromA);
        _registered(one);
        bytes memory list = bytes.concat(first, second);
        Word memory w = _settled(list);
        if (!_resolve(list)) return;
        Word memory v = _now();
        assert(_paid() + v.a + v.b == w.a + w.b);
    }

    /// A lock that waits, left over when another was resolved, is not touched by any list of 89 bytes: as many as are
    /// hashed into the record for it.
    function check_chain__is_no_list() external {
        _channel();
        (Lock memory one, bytes memory first) = _lock("first");
        (Lock memory two, bytes memory second) = _lock("second");
        cheats.assume(one.expiry < block.timestamp && two.expiry >= block.timestamp);
        cheats.assume(one.direction == 0 && one.kind == 1 && two.kind == 1 && two.direction == 0);
        bytes memory list = bytes.concat(first, second);
        _settled(list);
        if (!_resolve(list)) return;
        Word memory w = _now();
        _resolve(svm.createBytes(89, "list"));
        Word memory v = _now();
        assert(v.a == w.a && v.b == w.b && v.record == w.record);
    }
}
