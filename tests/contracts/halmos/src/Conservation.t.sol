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
    /// have signed. In four parts that leave nothing out: net up or down, within the deposit or beyond.
    function check_clamp__up() external {
        (Word memory w, Body memory body) = _final();
        cheats.assume(body.net >= 0 && uint256(body.net) <= w.a);
        _clamped(w, body, w.a - uint256(body.net), w.b + uint256(body.net));
    }

    function check_clamp__up_beyond() external {
        (Word memory w, Body memory body) = _final();
        cheats.assume(body.net > 0 && uint256(body.net) > w.a);
        _clamped(w, body, 0, w.b + w.a);
    }

    function check_clamp__down() external {
        (Word memory w, Body memory body) = _final();
        uint256 taken = svm.createUint(88, "taken");
        body.net = -int256(taken);
        cheats.assume(taken > 0 && taken <= w.b);
        _clamped(w, body, w.a + taken, w.b - taken);
    }

    function check_clamp__down_beyond() external {
        (Word memory w, Body memory body) = _final();
        cheats.assume(body.net < -int256(w.b));
        _clamped(w, body, w.a + w.b, 0);
    }

    function _final() private returns (Word memory w, Body memory body) {
        _channel();
        body = _body();
        w = _stored(16);
        cheats.assume(w.deadline != 0);
    }

    function _clamped(Word memory w, Body memory body, uint256 a, uint256 b) private {
        w.record = keccak256(abi.encode(_bodyHash(body), address(0)));
        _put(w);
        bytes memory data = abi.encodeCall(manager.settle, (COIN, terms, body, address(0)));
        if (!_works(address(0x5E4D), data)) return;
        Word memory v = _now();
        bool locks = body.locksHash != 0 && body.locksHash != keccak256("");
        assert(v.a == (!locks ? 0 : body.lockedAB < a ? body.lockedAB : a));
        assert(v.b == (!locks ? 0 : body.lockedBA < b ? body.lockedBA : b));
        assert(PAYOUT_A.balance + v.a == a);
        assert(PAYOUT_B.balance + v.b == b);
    }
}
