// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Closing alone, challenging, finalizing, settling, and the locks that are left.

import {Terms, Body, Signature, Challenge, Order, IToken} from "./Chain.sol";
import {Ghost, State, Effect} from "./Book.sol";
import {Money} from "./Money.sol";

abstract contract Disputes is Money {
    // ------------------------------------------------------------------------------------------------------- close

    /// By the newest state, an old one or none; by the closer itself, or by a stranger with its order.
    function close(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, 1);
        if (!found) (c,) = _pick(seed, 31);
        _close(c, seed);
    }

    function _close(uint256 c, uint256 seed) internal {
        _closeBy(c, seed, _draw(seed, 4) == 0 ? 0 : _newer(c, seed));
    }

    function _closeBy(uint256 c, uint256 seed, uint256 index) internal {
        Ghost storage g = ghosts[c];
        uint256 side = _draw(seed, 2);
        uint256 version;
        bytes32 hash;
        Signature memory signature;
        if (index != 0) {
            version = states[c][index - 1].version;
            hash = states[c][index - 1].hash;
            signature = _sign(side == 0 ? g.keyB : g.keyA, _stateDigest(g.id, version, hash));
        }
        Effect memory e = _same(c);
        e.legit = g.deadline == 0 && (index == 0 || (version > g.version && version <= MASK40));
        if (e.legit) {
            if (index != 0) e.version = version;
            e.deadline = clock + _clamped(g.terms.period);
            e.flags = side == 1 ? CLOSER_B : 0;
            e.record = keccak256(abi.encode(hash, address(0)));
        }
        bytes memory data = _closing(g, seed, side, version, hash, signature);
        if (_act(c, sentBy, g.terms.bond, data, e, "close")) {
            ++closes;
            g.state = index;
            g.bondTo = address(0);
            if (index == 0) _count("close-without-state");
            if (sentBy == outsider) _count("close-by-order");
        }
    }

    address private sentBy;

    function _closing(
        Ghost storage g,
        uint256 seed,
        uint256 side,
        uint256 version,
        bytes32 hash,
        Signature memory signed
    ) private returns (bytes memory) {
        Order memory order;
        sentBy = side == 0 ? g.terms.participantA : g.terms.participantB;
        if (_draw(seed, 3) == 0) {
            order.validUntil = clock + _draw(seed, 10);
            order.signature = _sign(side == 0 ? g.keyA : g.keyB, _closeDigest(g.id, version, hash, order.validUntil));
            sentBy = outsider;
        }
        bytes32 other = side == 0 ? g.saltB : g.saltA;
        bytes32 own = keccak256(abi.encode(side == 0 ? g.saltA : g.saltB));
        return abi.encodeCall(manager.close, (g.token, g.terms, version, hash, signed, other, own, order));
    }

    // --------------------------------------------------------------------------------------------------- challenge

    /// By anyone, with a state that is newer or not, with a tower's delegation or without.
    function challenge(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, 6);
        if (!found) (c,) = _pick(seed, 31);
        (Challenge memory given, Effect memory e, uint256 index) = _challenging(c, seed);
        address sender = outsider;
        uint256 who = _draw(seed, 4);
        if (who == 1) (sender, given.signatureA) = (ghosts[c].terms.participantA, Signature(0, 0));
        if (who == 2) (sender, given.signatureB) = (ghosts[c].terms.participantB, Signature(0, 0));
        bytes memory data = abi.encodeCall(manager.challenge, (given));
        if (_act(c, sender, 0, data, e, "challenge")) _challenged(c, index, given, e);
    }

    function _challenged(uint256 c, uint256 index, Challenge memory given, Effect memory e) private {
        Ghost storage g = ghosts[c];
        if (e.flags & DELEGATED != 0) _count("challenge-delegated");
        if (clock > g.deadline) _count("challenge-late");
        g.state = index;
        g.bondTo = e.flags & DELEGATED != 0 ? given.payout : address(0);
    }

    // A challenge and what it must do.
    function _challenging(uint256 c, uint256 seed)
        private
        returns (Challenge memory given, Effect memory e, uint256 index)
    {
        Ghost storage g = ghosts[c];
        index = _newer(c, seed);
        // again what is recorded, as a tower whose call was copied without its delegation
        if (g.state != 0 && g.flags & BEATEN != 0 && _draw(seed, 2) == 0) index = g.state;
        if (_draw(seed, 8) == 0) index = 1;
        given = _evidence(c, index);
        e = _same(c);
        e.legit = g.deadline != 0 && g.flags & (FINAL | DEAD) == 0 && given.version <= MASK40;
        address bondTo;
        if (_draw(seed, 2) == 0) {
            given.payout = towerPurse;
            given.delay = _draw(seed, 3) == 0 ? _draw(seed, 4000) : 0;
            if (g.deadline != 0 && clock + _clamped(g.terms.period) >= g.deadline + given.delay) bondTo = towerPurse;
            uint256 victim = g.flags & CLOSER_B != 0 ? g.keyA : g.keyB;
            if (_draw(seed, 8) == 0) (victim, e.legit) = (OUTSIDER, false);
            given.delegation = _sign(victim, _delegationDigest(g.id, given.version, given.payout, given.delay));
        }
        bool again = given.version == g.version && g.flags & (BEATEN | DELEGATED | VOID) == BEATEN;
        bool recorded = g.record == keccak256(abi.encode(given.bodyHash, address(0)));
        if (again) e.legit = e.legit && bondTo != address(0) && recorded;
        else e.legit = e.legit && given.version > g.version;
        if (!e.legit) return (given, e, index);
        if (again) _count("challenge-again");
        e.version = given.version;
        e.flags = (g.flags & CLOSER_B) | BEATEN | (bondTo != address(0) ? DELEGATED : 0);
        e.record = keccak256(abi.encode(given.bodyHash, bondTo));
    }

    /// A batch of one channel's challenge, good or bad, between items that count for nothing.
    function challengeMany(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, 6);
        if (!found) (c,) = _pick(seed, 31);
        (Challenge memory given, Effect memory e, uint256 index) = _challenging(c, seed);
        Challenge[] memory list = new Challenge[](3);
        list[0] = _evidence(live[0], _newer(live[0], seed));
        list[0].signatureA.r = bytes32(_draw(seed));
        list[0].signatureB.vs = bytes32(_draw(seed));
        list[1] = given;
        list[2] = _copy(given);
        if (_draw(seed, 2) == 0) list[2].version = type(uint256).max - _draw(seed, 2);
        else list[2].terms.nonce = _draw(seed);
        bool counts = e.legit;
        e.legit = true;
        bytes memory data = abi.encodeCall(manager.challenge_many, (list));
        if (_act(c, outsider, 0, data, e, "challenge_many") && counts) _challenged(c, index, given, e);
    }

    function _copy(Challenge memory given) private pure returns (Challenge memory) {
        return abi.decode(abi.encode(given), (Challenge));
    }

    // -------------------------------------------------------------------------------------------------- the outcome

    function _winner(Ghost storage g) private view returns (address) {
        bool closerB = g.flags & CLOSER_B != 0;
        if (g.flags & BEATEN == 0) return closerB ? g.terms.payoutB : g.terms.payoutA;
        if (g.bondTo != address(0)) return g.bondTo;
        return closerB ? g.terms.payoutA : g.terms.payoutB;
    }

    function _recorded(uint256 c) internal view returns (bytes32 hash, Body memory body, bytes memory locks) {
        uint256 index = ghosts[c].state;
        if (index == 0) return (0, body, locks);
        State storage s = states[c][index - 1];
        return (s.hash, s.body, s.locks);
    }

    function finalize(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, 4);
        if (!found) (c,) = _pick(seed, 31);
        Ghost storage g = ghosts[c];
        (bytes32 hash,,) = _recorded(c);
        Effect memory e = _same(c);
        e.legit = g.deadline != 0 && g.flags & (FINAL | DEAD) == 0 && clock > g.deadline;
        if (e.legit) {
            e.flags |= FINAL;
            e.winner = _winner(g);
            e.bond = g.terms.bond;
        }
        _mood(seed);
        bytes memory data = abi.encodeCall(manager.finalize, (g.token, g.terms, hash, g.bondTo));
        _act(c, outsider, 0, data, e, "finalize");
    }

    function settle(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, 12);
        if (!found) (c,) = _pick(seed, 31);
        _settle(c, seed);
    }

    function _settle(uint256 c, uint256 seed) internal {
        Ghost storage g = ghosts[c];
        (, Body memory body, bytes memory locks) = _recorded(c);
        Effect memory e = _settled(c, body);
        _mood(seed);
        address[2] memory senders = [outsider, g.terms.participantA];
        bytes memory data = abi.encodeCall(manager.settle, (g.token, g.terms, body, g.bondTo));
        if (!_act(c, senders[_draw(seed, 2)], 0, data, e, "settle")) return;
        if (e.record != 0) {
            g.rest = locks;
            g.chain = 0;
            _count("settle-with-locks");
        }
        _bury(c);
    }

    function _settled(uint256 c, Body memory body) internal view returns (Effect memory e) {
        Ghost storage g = ghosts[c];
        e = _same(c);
        bool final_ = g.flags & FINAL != 0;
        e.legit = g.deadline != 0 && g.flags & DEAD == 0 && (final_ || clock > g.deadline);
        if (!e.legit) return e;
        bool void_ = g.flags & VOID != 0;
        (e.paidA, e.paidB) = void_ ? (g.a, g.b) : _split(g.a, g.b, body.net);
        e.a = 0;
        e.b = 0;
        if (!void_ && body.locksHash != 0 && body.locksHash != keccak256("")) {
            e.a = body.lockedAB < e.paidA ? body.lockedAB : e.paidA;
            e.b = body.lockedBA < e.paidB ? body.lockedBA : e.paidB;
        }
        e.paidA -= e.a;
        e.paidB -= e.b;
        e.record = e.a + e.b == 0 ? bytes32(0) : body.locksHash;
        e.flags |= FINAL | DEAD;
        if (!final_) {
            e.winner = _winner(g);
            e.bond = g.terms.bond;
        }
    }
}
