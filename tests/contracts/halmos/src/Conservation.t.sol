// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Terms, Signature, Body} from "./Chain.sol";
import {Ground, Word} from "./Ground.sol";

/// No call makes or loses money, whatever amounts both have signed.
contract Conservation is Ground {
    /// settle, by any body, of a channel with any flags: what is paid and what locks hold is what there was.
    function check_settle__conserves() external {
        _channel();
        Word memory w = _stored(_closing());
        Body memory body = _body();
        bool done = _call(address(0x5E4D), 0, abi.encodeCall(manager.settle, (COIN, terms, body, PURSE)));
        if (!done) return;
        Word memory v = _now();
        assert(_paid() + _owed() + v.a + v.b == w.a + w.b + terms.bond);
        assert(v.flags & 48 == 48);
    }

    /// cooperate, any net and outs, on an open channel.
    function check_cooperate__conserves() external {
        _channel();
        Word memory w = _stored(0);
        w.deadline = 0;
        _put(w);
        _agree(svm.createUint256("version"));
        Word memory v = _now();
        assert(_paid() + _owed() + v.a + v.b == w.a + w.b);
    }

    /// cooperate on a closing channel: the bond goes back at most once, to a closer that is not beaten.
    function check_cooperate__closing() external {
        _channel();
        Word memory w = _stored(svm.createUint(5, "flags"));
        cheats.assume(w.deadline != 0);
        _agree(svm.createUint256("version"));
        Word memory v = _now();
        uint256 out = _paid() + _owed() + v.a + v.b;
        bool forgiven = v.flags & 32 != 0 && w.flags & 16 == 0;
        assert(out == w.a + w.b + (forgiven ? terms.bond : 0));
        assert(!forgiven || w.flags & 2 == 0);
    }

    function _agree(uint256 version) private {
        bytes memory data = abi.encodeCall(
            manager.cooperate,
            (
                COIN,
                terms,
                version,
                svm.createInt256("net"),
                svm.createUint256("out_a"),
                svm.createUint256("out_b"),
                svm.createUint256("until"),
                _signature("signature"),
                _signature("signature_b")
            )
        );
        // by a stranger: in which ways both can agree is for Consent
        cheats.assume(terms.participantA != address(0x5E4D) && terms.participantB != address(0x5E4D));
        _call(address(0x5E4D), 0, data);
    }

    /// Settling by a body that opens the record works and pays the clamped amounts: nobody is locked out by what both
    /// have signed. In two halves, by the sign of net.
    function check_clamp__up() external {
        _clamp(true);
    }

    function check_clamp__down() external {
        _clamp(false);
    }

    function _clamp(bool up) private {
        _channel();
        Body memory body = _body();
        Word memory w = _stored(16);
        cheats.assume((body.net >= 0) == up);
        cheats.assume(w.deadline != 0);
        w.record = keccak256(abi.encode(_bodyHash(body), address(0)));
        _put(w);
        bytes memory data = abi.encodeCall(manager.settle, (COIN, terms, body, address(0)));
        if (!_works(address(0x5E4D), data)) return;
        int256 net = body.net;
        if (net > int256(w.a)) net = int256(w.a);
        if (net < -int256(w.b)) net = -int256(w.b);
        uint256 a = uint256(int256(w.a) - net);
        uint256 b = uint256(int256(w.b) + net);
        Word memory v = _now();
        bool locks = body.locksHash != 0 && body.locksHash != keccak256("");
        assert(v.a == (!locks ? 0 : body.lockedAB < a ? body.lockedAB : a));
        assert(v.b == (!locks ? 0 : body.lockedBA < b ? body.lockedBA : b));
        assert(PAYOUT_A.balance + v.a == a);
        assert(PAYOUT_B.balance + v.b == b);
    }
}
