// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Calls that must get nothing: signatures of another purpose, channel or version, other people's money, wrong lists,
// early and late calls, and what is no call at all.

import {Terms, Body, Signature, Challenge, Order, IToken} from "./Chain.sol";
import {Ghost, State, Effect} from "./Book.sol";
import {Handler} from "./Handler.sol";
import {Locks} from "./Locks.sol";

contract Cheats is Locks {
    constructor(bytes memory plainCode, bytes memory nastyCode) Handler(plainCode, nastyCode) {}

    function _any(uint256 seed) private returns (uint256 c) {
        (c,) = _pick(seed, 31);
        if (dead.length != 0 && _draw(seed, 6) == 0) c = dead[_draw(seed, dead.length)];
    }

    /// A signature that was made for something else, shown as what it is not.
    function confuse(uint256 seed) external timed {
        uint256 c = _any(seed);
        Ghost storage g = ghosts[c];
        uint256 version = g.version + 1;
        bytes32 word = bytes32(_draw(seed));
        bytes32[5] memory digests = [
            _stateDigest(g.id, version, word),
            _cooperateDigest(g.id, version, int256(uint256(word)), MOST, 0, clock),
            _closeDigest(g.id, version, word, clock),
            _delegationDigest(g.id, version, thief, 0),
            _stateDigest(ghosts[(c + 1) % ghosts.length].id, version, word)
        ];
        uint256 made = _draw(seed, 5);
        (Signature memory a, Signature memory b) = _pair(c, digests[made]);
        uint256 shown = (made + 1 + _draw(seed, made == 4 ? 4 : 3)) % (made == 4 ? 5 : 4);
        if (shown == 0) {
            Challenge memory given = Challenge(g.token, g.terms, version, word, a, b, address(0), 0, Signature(0, 0));
            _refused(c, thief, 0, abi.encodeCall(manager.challenge, (given)), "confuse-state");
        } else if (shown == 1) {
            bytes memory data = abi.encodeCall(
                manager.cooperate, (g.token, g.terms, version, int256(uint256(word)), MOST, 0, clock, a, b)
            );
            _refused(c, thief, 0, data, "confuse-cooperate");
        } else if (shown == 2) {
            _close2(c, version, word, a, b);
        } else {
            Challenge memory given = _evidence(c, _newer(c, seed));
            given.payout = thief;
            given.delegation = _draw(seed, 2) == 0 ? a : b;
            _refused(c, thief, 0, abi.encodeCall(manager.challenge, (given)), "confuse-delegation");
        }
    }

    function _close2(uint256 c, uint256 version, bytes32 word, Signature memory a, Signature memory b) private {
        Ghost storage g = ghosts[c];
        bytes memory data = abi.encodeCall(
            manager.close,
            (g.token, g.terms, version, word, b, g.saltB, keccak256(abi.encode(g.saltA)), Order(clock, a))
        );
        _refused(c, thief, g.terms.bond, data, "confuse-close");
    }

    /// An own call with one thing wrong.
    function wrong(uint256 seed) external timed {
        uint256 c = _any(seed);
        Ghost storage g = ghosts[c];
        Challenge memory given = _evidence(c, _newer(c, seed));
        uint256 kind = _draw(seed, 5);
        if (kind == 0) given.signatureA = given.signatureB;
        if (kind == 1) given.bodyHash = bytes32(_draw(seed));
        if (kind == 2) given.version += 1 + _draw(seed, 3);
        if (kind == 3) given.signatureB = Signature(0, 0);
        if (kind == 4) given.signatureA = _flipped(given.signatureA);
        _refused(c, thief, 0, abi.encodeCall(manager.challenge, (given)), "wrong-challenge");
        given = _evidence(c, _newer(c, seed));
        bytes memory data = abi.encodeCall(
            manager.close,
            (
                g.token,
                g.terms,
                given.version,
                given.bodyHash,
                given.signatureB,
                g.saltB,
                keccak256(abi.encode(g.saltA)),
                Order(0, Signature(0, 0))
            )
        );
        _refused(c, thief, g.terms.bond, data, "wrong-close");
        _refused(c, g.terms.participantA, g.terms.bond + 1, data, "wrong-bond");
    }

    // The other s of the same signature: (r, n − s) with the other parity; it fits no compact form.
    function _flipped(Signature memory one) private pure returns (Signature memory) {
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        uint256 s = uint256(one.vs) & (type(uint256).max >> 1);
        uint256 v = (uint256(one.vs) >> 255) ^ 1;
        return Signature(one.r, bytes32((order - s) & (type(uint256).max >> 1) | (v << 255)));
    }

    /// Settling with another body, finalizing with another outcome.
    function misname(uint256 seed) external timed {
        uint256 c = _any(seed);
        Ghost storage g = ghosts[c];
        (bytes32 hash, Body memory body,) = _recorded(c);
        if (g.flags & (FINAL | VOID) == FINAL | VOID) return;
        uint256 kind = _draw(seed, 3);
        if (kind == 0) body.net += body.net > 0 ? int256(-1) : int256(1);
        if (kind == 1) body.lockedAB ^= 1;
        bytes memory data = abi.encodeCall(manager.settle, (g.token, g.terms, body, kind == 2 ? thief : g.bondTo));
        _refused(c, thief, 0, data, "wrong-body");
        data = abi.encodeCall(
            manager.finalize,
            (g.token, g.terms, kind == 0 ? bytes32(uint256(hash) ^ 1) : hash, kind == 0 ? g.bondTo : thief)
        );
        _refused(c, thief, 0, data, "wrong-outcome");
    }

    /// Lists of locks that are not the recorded one; they pay nothing and change nothing, and are no error.
    function mislist(uint256 seed) external timed {
        (uint256 c,) = _pick(seed, 16);
        Ghost storage g = ghosts[c];
        bytes memory list = g.rest;
        uint256 kind = _draw(seed, 4);
        if (g.record == 0 || list.length < LOCK) return;
        if (kind == 0) list[_draw(seed, list.length / LOCK * LOCK)] ^= 0x01;
        if (kind == 1) list = bytes.concat(_slice(list, 0), list);
        if (kind == 2) list = "";
        if (kind == 3) list = _preimage(list);
        Effect memory e = _same(c);
        e.legit = g.flags & DEAD != 0;
        bytes memory data = abi.encodeCall(manager.resolve_locks, (g.token, g.terms, list, new bytes32[](0)));
        _act(c, thief, 0, data, e, kind == 3 ? "wrong-list-preimage" : "wrong-list");
    }

    // The bytes that were hashed into the chain last: rest ‖ lock.
    function _preimage(bytes memory list) private pure returns (bytes memory) {
        bytes32 chain;
        uint256 last = (list.length / LOCK - 1) * LOCK;
        for (uint256 at; at < last; at += LOCK) {
            chain = keccak256(abi.encodePacked(chain, _slice(list, at)));
        }
        return abi.encodePacked(chain, _slice(list, last));
    }

    /// What is no call: coin without data, unknown selectors, cut and noisy calldata. And tokens sent by mistake.
    function noise(uint256 seed) external timed {
        uint256 c = _any(seed);
        uint256 kind = _draw(seed, 4);
        if (kind == 0) _refused(c, outsider, 1, "", "noise");
        if (kind == 1) _refused(c, outsider, 0, abi.encode(_draw(seed), _draw(seed)), "noise");
        if (kind == 2) _refused(c, outsider, 0, abi.encodePacked(manager.settle.selector, _draw(seed)), "noise");
        if (kind == 3) {
            vm.prank(outsider);
            IToken(plain).transfer(address(manager), 1);
            ++stray;
        }
    }

    /// At the end of a run everybody takes out what is theirs, with nobody's help: by closes without a state, by
    /// waiting, and by the calls that anyone may make. Nothing may be left but what lies about by mistake.
    function drain() external timed {
        uint256 all = ghosts.length;
        for (uint256 c; c < all; ++c) {
            Ghost storage g = ghosts[c];
            if (g.deadline == 0 && g.a + g.b != 0) _closeBy(c, c, 0);
        }
        for (uint256 c; c < all; ++c) {
            if (ghosts[c].deadline >= clock) clock = ghosts[c].deadline + 1;
        }
        vm.warp(clock);
        for (uint256 c; c < all; ++c) {
            if (ghosts[c].deadline != 0 && ghosts[c].flags & DEAD == 0) _settle(c, c);
        }
        clock = uint256(type(uint32).max) + 1;
        vm.warp(clock);
        uint256 lost;
        for (uint256 c; c < all; ++c) {
            if (ghosts[c].record != 0) _resolve(c, c);
            if (_lost(c)) lost += ghosts[c].a + ghosts[c].b;
            else _hold(ghosts[c].a + ghosts[c].b == 0, "I8: money is stuck");
        }
        IToken(nasty).set_mode(0);
        for (uint256 i; i < people.length; ++i) {
            if (people[i] == address(manager)) continue;
            for (uint256 k; k < 3; ++k) {
                _takeOut([COIN, plain, nasty][k], people[i]);
            }
        }
        _hold(bonds == 0 && held[COIN] + held[plain] + held[nasty] == lost, "I8: something is stuck");
    }

    function _takeOut(address token, address owner) private {
        uint256 amount = manager.owed(token, owner);
        if (amount == 0) return;
        vm.prank(owner);
        manager.withdraw(token, owner, address(0x51714));
        owing[token] -= amount;
    }

    /// What was counted in this run, a line of JSON.
    function report(string calldata path) external {
        string memory line = "";
        for (uint256 i; i < counted.length; ++i) {
            line = string.concat(line, i == 0 ? "" : ", ", '"', counted[i], '": ', vm.toString(count[counted[i]]));
        }
        vm.writeLine(path, string.concat("{", line, "}"));
    }
}
