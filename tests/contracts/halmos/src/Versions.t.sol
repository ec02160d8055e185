// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Terms, Signature, Body, Order, Challenge} from "./Chain.sol";
import {Ground, Word} from "./Ground.sol";

/// The version only grows, what is dead stays dead, and the deadline stays where the close has put it.
contract Versions is Ground {
    // One call of `which` kind with any arguments, by anyone.
    function _any(uint256 which) private returns (bytes memory data, uint256 value) {
        uint256 version = svm.createUint256("new_version");
        bytes32 hash = svm.createBytes32("body_hash");
        if (which == 0) {
            value = svm.createUint(96, "amount");
            bytes32[6] memory memo;
            memo[0] = svm.createBytes32("memo");
            bytes32 termsHash = keccak256(abi.encode(terms));
            data = abi.encodeCall(manager.deposit, (COIN, termsHash, svm.createUint256("side"), value, memo));
        } else if (which == 1) {
            int256 net = svm.createInt256("net");
            uint256 until = svm.createUint256("until"); // pays out nothing: that is for Conservation
            Signature memory a = _signature("signature");
            Signature memory b = _signature("signature_b");
            data = abi.encodeCall(manager.cooperate, (COIN, terms, version, net, 0, 0, until, a, b));
        } else if (which == 2) {
            value = terms.bond;
            Order memory order = Order(svm.createUint256("until"), _signature("order"));
            bytes32 salt = svm.createBytes32("salt");
            bytes32 other = svm.createBytes32("salt_hash");
            data = abi.encodeCall(manager.close, (COIN, terms, version, hash, _signature("s"), salt, other, order));
        } else if (which == 3) {
            Challenge memory given = _challenge(version, hash);
            given.payout = svm.createAddress("payout");
            given.delay = svm.createUint256("delay");
            given.delegation = _signature("delegation");
            data = abi.encodeCall(manager.challenge, (given));
        } else if (which == 4) {
            data = abi.encodeCall(manager.finalize, (COIN, terms, hash, PURSE));
        } else {
            data = abi.encodeCall(manager.settle, (COIN, terms, _body(), PURSE));
        }
    }

    // From any state of a channel that is not dead.
    function _grows(uint256 which) private {
        _channel();
        Word memory w = _stored(svm.createUint(5, "flags"));
        (bytes memory data, uint256 value) = _any(which);
        _call(svm.createAddress("sender"), value, data);
        Word memory v = _now();
        assert(v.version >= w.version);
        assert(w.deadline == 0 || v.deadline == w.deadline);
        if (which == 1) assert(_same(v, w) || v.version > w.version);
        // the same version again only adds the delegation that was missing
        bool again = which == 3 && w.flags & 14 == 2 && v.flags & 6 == 6 && v.a == w.a && v.b == w.b;
        if (which == 3 && !again) assert(_same(v, w) || v.version > w.version);
        if (which > 3) assert(v.version == w.version);
    }

    function check_version__deposit() external {
        _grows(0);
    }

    function check_version__cooperate() external {
        _grows(1);
    }

    function check_version__close() external {
        _grows(2);
    }

    function check_version__challenge() external {
        _grows(3);
    }

    function check_version__finalize() external {
        _grows(4);
    }

    // A dead channel's word; a deadline it has, for only a closing channel dies.
    function _dead(uint256 which) private {
        _channel();
        Word memory w = _stored(48 + _closing());
        cheats.assume(w.deadline != 0);
        (bytes memory data, uint256 value) = _any(which);
        bool done = _call(svm.createAddress("sender"), value, data);
        assert(!done);
        assert(_same(_now(), w));
    }

    function check_dead__deposit() external {
        _dead(0);
    }

    function check_dead__cooperate() external {
        _dead(1);
    }

    function check_dead__close() external {
        _dead(2);
    }

    function check_dead__challenge() external {
        _dead(3);
    }

    function check_dead__finalize() external {
        _dead(4);
    }

    function check_dead__settle() external {
        _dead(5);
    }

    /// Nothing is final before the deadline is over.
    function check_deadline__finalize() external {
        _early(4);
    }

    function check_deadline__settle() external {
        _early(5);
    }

    function _early(uint256 which) private {
        _channel();
        Word memory w = _stored(_closing());
        cheats.assume(w.deadline >= block.timestamp);
        (bytes memory data,) = _any(which);
        assert(!_call(svm.createAddress("sender"), 0, data));
    }
}
