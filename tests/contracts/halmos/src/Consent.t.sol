// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Terms, Signature, Body, Challenge, Order} from "./Chain.sol";
import {Ground, Word} from "./Ground.sol";

/// Nothing about a channel changes against a party without its signature, and a signature means one thing.
contract Consent is Ground {
    function _sent(address sender, address who, bytes32 digest, Signature memory s) private pure returns (bool) {
        return sender == who || _by(who, digest, s);
    }

    /// A challenge that changes anything shows a state that both have signed (or sent).
    function check_consent__challenge() external {
        _channel();
        Word memory w = _stored(_closing());
        Challenge memory given = _challenge(svm.createUint256("new_version"), svm.createBytes32("body_hash"));
        address sender = svm.createAddress("sender");
        _call(sender, 0, abi.encodeCall(manager.challenge, (given)));
        if (_same(_now(), w)) return;
        bytes32 digest = _stateDigest(id, given.version, given.bodyHash);
        assert(_sent(sender, terms.participantA, digest, given.signatureA));
        assert(_sent(sender, terms.participantB, digest, given.signatureB));
    }

    /// A cooperate that changes anything is signed or sent by both. Pays out nothing here: that is for Conservation.
    function check_consent__cooperate() external {
        _channel();
        Word memory w = _stored(0);
        uint256 version = svm.createUint256("new_version");
        int256 net = svm.createInt256("net");
        uint256 until = svm.createUint256("until");
        Signature memory a = _signature("signature");
        Signature memory b = _signature("signature_b");
        address sender = svm.createAddress("sender");
        _call(sender, 0, abi.encodeCall(manager.cooperate, (COIN, terms, version, net, 0, 0, until, a, b)));
        if (_same(_now(), w)) return;
        bytes32 digest = _cooperateDigest(id, version, net, 0, 0, until);
        bool signedA = _sent(sender, terms.participantA, digest, a);
        bool signedB = _sent(sender, terms.participantB, digest, a) || _by(terms.participantB, digest, b);
        assert(signedA && signedB);
    }

    /// A close is a participant's, sent or ordered; it changes no deposit, and the other side has signed its state.
    function check_consent__close() external {
        _channel();
        Word memory w = _stored(0);
        uint256 version = svm.createUint256("new_version");
        bytes32 hash = svm.createBytes32("body_hash");
        Signature memory s = _signature("signature");
        Order memory order = Order(svm.createUint256("until"), _signature("order"));
        address sender = svm.createAddress("sender");
        bytes memory data = abi.encodeCall(
            manager.close,
            (COIN, terms, version, hash, s, svm.createBytes32("salt"), svm.createBytes32("salt_hash"), order)
        );
        _call(sender, terms.bond, data);
        Word memory v = _now();
        if (_same(v, w)) return;
        assert(v.a == w.a && v.b == w.b);
        bytes32 asked = _closeDigest(id, version, hash, order.validUntil);
        bytes32 digest = _stateDigest(id, version, hash);
        bool byA =
            order.validUntil == 0 ? sender == terms.participantA : _by(terms.participantA, asked, order.signature);
        bool byB =
            order.validUntil == 0 ? sender == terms.participantB : _by(terms.participantB, asked, order.signature);
        bool bare = version == 0 && hash == 0 && v.version == w.version;
        if (v.flags & 1 == 0) assert(byA && (bare || _by(terms.participantB, digest, s)));
        else assert(byB && (bare || _by(terms.participantA, digest, s)));
        assert(v.record == keccak256(abi.encode(hash, address(0))));
    }

    // That `who` has signed nothing but `made`: by `s` it signs no other digest.
    function _only(address who, Signature memory s, bytes32 made, bytes32 shown) private {
        cheats.assume(shown == made || !_by(who, shown, s));
    }

    /// Signatures of a Cooperate, shown as those of a State.
    function check_purpose__cooperate_as_state() external {
        _channel();
        Word memory w = _stored(_closing());
        uint256 version = svm.createUint256("new_version");
        bytes32 hash = svm.createBytes32("body_hash");
        Challenge memory given = _challenge(version, hash);
        bytes32 made = _cooperateDigest(
            id,
            svm.createUint(40, "v"),
            svm.createInt256("net"),
            svm.createUint256("out_a"),
            svm.createUint256("out_b"),
            svm.createUint256("until")
        );
        _only(terms.participantA, given.signatureA, made, _stateDigest(id, version, hash));
        cheats.assume(terms.participantA != address(0x7411EF));
        _call(address(0x7411EF), 0, abi.encodeCall(manager.challenge, (given)));
        assert(_same(_now(), w));
    }

    /// The signature of a Close, shown as that of a Delegation: as long, with a hash in the place of the address.
    function check_purpose__close_as_delegation() external {
        _channel();
        Word memory w = _stored(0);
        Challenge memory given = _challenge(svm.createUint256("new_version"), svm.createBytes32("body_hash"));
        given.payout = PURSE;
        given.delay = svm.createUint256("delay");
        given.delegation = _signature("delegation");
        bytes32 made = _closeDigest(id, svm.createUint256("v"), svm.createBytes32("hash"), svm.createUint256("until"));
        _only(terms.participantB, given.delegation, made, _delegationDigest(id, given.version, PURSE, given.delay));
        _call(address(0x7411EF), 0, abi.encodeCall(manager.challenge, (given)));
        assert(_same(_now(), w));
    }

    /// The signature of a State, shown as a closer's order.
    function check_purpose__state_as_close() external {
        _channel();
        Word memory w = _stored(0);
        uint256 version = svm.createUint256("new_version");
        bytes32 hash = svm.createBytes32("body_hash");
        Order memory order = Order(svm.createUint256("until"), _signature("order"));
        cheats.assume(order.validUntil != 0);
        bytes32 made = _stateDigest(id, svm.createUint256("v"), svm.createBytes32("hash"));
        bytes32 shown = _closeDigest(id, version, hash, order.validUntil);
        _only(terms.participantA, order.signature, made, shown);
        _only(terms.participantB, order.signature, made, shown);
        bytes memory data = abi.encodeCall(
            manager.close,
            (
                COIN,
                terms,
                version,
                hash,
                _signature("s"),
                svm.createBytes32("salt"),
                svm.createBytes32("salt_hash"),
                order
            )
        );
        _call(address(0x7411EF), terms.bond, data);
        assert(_same(_now(), w));
    }
}
