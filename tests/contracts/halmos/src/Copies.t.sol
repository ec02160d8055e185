// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Terms, Signature, Body, Order, Challenge} from "./Chain.sol";
import {Ground, Word} from "./Ground.sol";

/// A call that a stranger may send does what it does whoever sends it, and pays the stranger nothing.
contract Copies is Ground {
    address private constant THIEF = address(0x7411EF);

    // Sends the same as a thief and then, from the same state, as anyone else.
    function _twice(Word memory w, uint256 value, bytes memory data) private {
        cheats.assume(terms.participantA != THIEF && terms.participantB != THIEF);
        uint256 pot = address(manager).balance;
        bool copied = _call(THIEF, value, data);
        assert(THIEF.balance == (copied ? 0 : value));
        if (!copied) return;
        Word memory v = _now();
        uint256 a = PAYOUT_A.balance;
        uint256 b = PAYOUT_B.balance;
        uint256 c = PURSE.balance;
        _put(w);
        vm.deal(address(manager), pot);
        vm.deal(PAYOUT_A, 0);
        vm.deal(PAYOUT_B, 0);
        vm.deal(PURSE, 0);
        address sender = svm.createAddress("sender");
        cheats.assume(sender != PAYOUT_A && sender != PAYOUT_B && sender != PURSE && sender != address(manager));
        if (!_call(sender, value, data)) return;
        assert(_same(_now(), v));
        assert(a == PAYOUT_A.balance && b == PAYOUT_B.balance && c == PURSE.balance);
    }

    function check_copy__finalize() external {
        _channel();
        Word memory w = _stored(_closing());
        _twice(w, 0, abi.encodeCall(manager.finalize, (COIN, terms, svm.createBytes32("hash"), PURSE)));
    }

    function check_copy__challenge() external {
        _channel();
        Word memory w = _stored(_closing());
        Challenge memory given = _challenge(svm.createUint256("new_version"), svm.createBytes32("body_hash"));
        given.payout = PURSE;
        given.delay = svm.createUint256("delay");
        given.delegation = _signature("delegation");
        _twice(w, 0, abi.encodeCall(manager.challenge, (given)));
    }

    function check_copy__close() external {
        _channel();
        Word memory w = _stored(0);
        Order memory order = Order(svm.createUint256("until"), _signature("order"));
        bytes memory data = abi.encodeCall(
            manager.close,
            (
                COIN,
                terms,
                svm.createUint256("new_version"),
                svm.createBytes32("body_hash"),
                _signature("s"),
                svm.createBytes32("salt"),
                svm.createBytes32("salt_hash"),
                order
            )
        );
        _twice(w, terms.bond, data);
    }
}
