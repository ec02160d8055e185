// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Makes channels and states, and moves time: what the calls in Calls.sol and Cheats.sol work with.

import {Terms, Body, Signature, IToken, Challenge} from "./Chain.sol";
import {Book, Ghost, State, Effect} from "./Book.sol";
import {Refuser, Burner, Bomber, Caller, Permit} from "./Others.sol";

abstract contract Handler is Book {
    uint256 internal constant LIVE = 5;
    uint256 internal constant SECRETS = 6;
    uint256 internal constant LOCK = 57;
    uint256 internal constant MASK40 = type(uint40).max;
    uint256 internal constant MOST = type(uint88).max;

    uint256[] internal live; // channels that are played with; the others are dead
    uint256[] internal dead;
    Permit internal permit2;
    address[] internal receivers;

    constructor(bytes memory plainCode, bytes memory nastyCode) {
        vm.warp(clock);
        permit2 = new Permit();
        _deploy(address(permit2));
        plain = _create(plainCode);
        nasty = _create(nastyCode);
        outsider = vm.addr(OUTSIDER);
        thief = address(0x7411EF);
        towerPurse = address(0x70733);
        people.push(towerPurse);
        _meet();
        address[5] memory rich = [vm.addr(PAYER), vm.addr(PAYEE), outsider, thief, address(this)];
        for (uint256 i; i < rich.length; ++i) {
            IToken(plain).mint(rich[i], 1 << 120);
            IToken(nasty).mint(rich[i], 1 << 120);
            vm.prank(rich[i]);
            IToken(plain).approve(address(manager), type(uint256).max);
        }
        for (uint256 i; i < LIVE; ++i) {
            live.push(_open(uint256(keccak256(abi.encode("first", i)))));
        }
    }

    // The addresses that get paid: plain ones and those that misbehave, the manager itself among them.
    function _meet() private {
        for (uint160 i; i < 4; ++i) {
            receivers.push(address(0xACC0 + i));
        }
        receivers.push(address(new Refuser()));
        receivers.push(address(new Burner()));
        receivers.push(address(new Bomber(false)));
        receivers.push(address(new Bomber(true)));
        Caller one = new Caller();
        one.aim(abi.encodeCall(manager.withdraw, (COIN, address(one), address(one))));
        Caller two = new Caller();
        two.aim(abi.encodeCall(manager.channel, (bytes32(0))));
        receivers.push(address(one));
        receivers.push(address(two));
        caller[address(one)] = caller[address(two)] = true;
        receivers.push(address(manager));
        for (uint256 i; i < receivers.length; ++i) {
            people.push(receivers[i]);
        }
    }

    modifier timed() {
        vm.warp(clock);
        _;
    }

    // ---------------------------------------------------------------------------------------------------- channels

    function _open(uint256 seed) internal returns (uint256 c) {
        c = ghosts.length;
        ghosts.push();
        Ghost storage g = ghosts[c];
        uint256 kind = _draw(seed, 4);
        g.token = kind < 2 ? COIN : kind == 2 ? plain : nasty;
        (g.keyA, g.keyB) = _draw(seed, 2) == 0 ? (PAYER, PAYEE) : (PAYEE, PAYER);
        g.saltA = bytes32(_draw(seed));
        g.saltB = bytes32(_draw(seed));
        uint256[6] memory periods = [uint256(0), 60, 61, 3600, 30 days, type(uint256).max];
        uint256[4] memory posts = [uint256(0), 1, 10 ** 15, 10 ** 24];
        g.terms = Terms({
            participantA: vm.addr(g.keyA),
            participantB: vm.addr(g.keyB),
            payoutA: receivers[_draw(seed, receivers.length)],
            payoutB: receivers[_draw(seed, receivers.length)],
            period: periods[_draw(seed, 6)],
            saltCommitment: keccak256(abi.encode(keccak256(abi.encode(g.saltA)), keccak256(abi.encode(g.saltB)))),
            bond: posts[_draw(seed, 4)],
            nonce: c
        });
        g.termsHash = keccak256(abi.encode(g.terms));
        g.id = _id(g.token, g.termsHash);
    }

    // A list that is not whole locks is none that can ever be resolved: who signs it leaves the money there.
    function _lost(uint256 c) internal view returns (bool) {
        return ghosts[c].record != 0 && ghosts[c].flags & DEAD != 0 && ghosts[c].rest.length % LOCK != 0;
    }

    // Dead ids out of which nothing can come any more make room for a new channel.
    function _bury(uint256 c) internal {
        Ghost storage g = ghosts[c];
        if (g.flags & DEAD == 0 || (g.a + g.b != 0 && !_lost(c))) return;
        for (uint256 i; i < live.length; ++i) {
            if (live[i] != c) continue;
            live[i] = _open(_draw(uint256(g.id)));
            dead.push(c);
            return;
        }
    }

    // A live channel in one of the phases: 1 open, 2 closing, 4 deadline over, 8 final, 16 dead. Any, if there is none.
    function _pick(uint256 seed, uint256 phases) internal returns (uint256 c, bool found) {
        uint256 start = _draw(seed, LIVE);
        for (uint256 i; i < LIVE; ++i) {
            c = live[(start + i) % LIVE];
            if (_phase(c) & phases != 0) return (c, true);
        }
        return (c, false);
    }

    function _phase(uint256 c) internal view returns (uint256) {
        Ghost storage g = ghosts[c];
        if (g.flags & DEAD != 0) return 16;
        if (g.flags & FINAL != 0) return 8;
        if (g.deadline == 0) return 1;
        return clock > g.deadline ? 4 : 2;
    }

    // ------------------------------------------------------------------------------------------------------ states

    function _secret(uint256 i) internal pure returns (bytes32) {
        return keccak256(abi.encode("secret", i));
    }

    function _scalar(uint256 i) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode("scalar", i))) >> 8;
    }

    // A new state of a channel, newer than all; honest or whatever two liars may sign together.
    function _newState(uint256 c, uint256 seed) internal returns (uint256) {
        Ghost storage g = ghosts[c];
        State[] storage all = states[c];
        uint256 newest = all.length == 0 ? 0 : all[all.length - 1].version;
        State storage s = all.push();
        s.version = (newest > g.version ? newest : g.version) + 1 + _draw(seed, 3);
        if (_draw(seed, 5) == 0) _garbage(s, seed);
        else _honest(g, s, seed);
        s.body.blind = bytes32(_draw(seed));
        s.body.locksHash = keccak256(s.locks);
        if (_draw(seed, 12) == 0) s.body.locksHash = 0;
        s.hash = _bodyHash(s.body);
        return all.length;
    }

    function _honest(Ghost storage g, State storage s, uint256 seed) private {
        int256 low = -int256(g.b);
        s.body.net = low + int256(_draw(seed, g.a + g.b + 1));
        uint256 a = uint256(int256(g.a) - s.body.net);
        uint256 b = uint256(int256(g.b) + s.body.net);
        uint256 many = _draw(seed, 4);
        for (uint256 i; i < many; ++i) {
            bool fromA = _draw(seed, 2) == 0;
            uint256 amount = _draw(seed, (fromA ? a : b) / 2 + 1);
            if (amount == 0) continue;
            if (fromA) (a, s.body.lockedAB) = (a - amount, s.body.lockedAB + amount);
            else (b, s.body.lockedBA) = (b - amount, s.body.lockedBA + amount);
            s.locks = bytes.concat(s.locks, _lock(seed, i + 1, fromA ? 0 : 1, amount));
        }
    }

    function _lock(uint256 seed, uint256 id, uint256 direction, uint256 amount) private returns (bytes memory) {
        uint256 which = _draw(seed, SECRETS);
        bool point = _draw(seed, 4) == 0;
        bytes32 key = point ? bytes32(uint256(uint160(vm.addr(_scalar(which))))) : sha256(abi.encode(_secret(which)));
        uint256 expiry = clock + _draw(seed, _draw(seed, 3) == 0 ? 60 days : 3 hours);
        uint8 kind = point ? 2 : 1;
        return abi.encodePacked(uint64(id), uint8(direction), kind, uint88(amount), key, uint32(expiry));
    }

    // I8: whatever amounts and bytes both have signed.
    function _garbage(State storage s, uint256 seed) private {
        uint256 kind = _draw(seed, 5);
        s.body.net =
            kind == 0 ? type(int256).min : kind == 1 ? type(int256).max : int256(_draw(seed)) >> _draw(seed, 256);
        s.body.lockedAB = _draw(seed) >> _draw(seed, 256);
        s.body.lockedBA = _draw(seed) >> _draw(seed, 256);
        uint256 many = _draw(seed, 4);
        for (uint256 i; i < many; ++i) {
            if (_draw(seed, 3) == 0) {
                s.locks = bytes.concat(s.locks, bytes32(_draw(seed)), bytes25(bytes32(_draw(seed))));
            } else {
                uint256 amount = _draw(seed) >> (168 + _draw(seed, 88));
                s.locks = bytes.concat(s.locks, _lock(seed, i, _draw(seed, 256), amount));
            }
        }
        if (_draw(seed, 2) == 0) s.locks = bytes.concat(s.locks, bytes7(bytes32(_draw(seed))));
        if (_draw(seed, 20) == 0) s.version = MASK40;
    }

    // A state of the channel that is newer than what is recorded, an existing one if there is.
    function _newer(uint256 c, uint256 seed) internal returns (uint256 index) {
        State[] storage all = states[c];
        uint256 start = all.length == 0 ? 0 : _draw(seed, all.length);
        for (uint256 i = start; i < all.length; ++i) {
            if (all[i].version > ghosts[c].version) return i + 1;
        }
        return _newState(c, seed);
    }

    function _pair(uint256 c, bytes32 digest) internal view returns (Signature memory a, Signature memory b) {
        a = _sign(ghosts[c].keyA, digest);
        b = _sign(ghosts[c].keyB, digest);
    }

    // The struct of a challenge with both signatures; without a delegation.
    function _evidence(uint256 c, uint256 index) internal view returns (Challenge memory given) {
        Ghost storage g = ghosts[c];
        State storage s = states[c][index - 1];
        given.token = g.token;
        given.terms = g.terms;
        given.version = s.version;
        given.bodyHash = s.hash;
        (given.signatureA, given.signatureB) = _pair(c, _stateDigest(g.id, s.version, s.hash));
    }

    // -------------------------------------------------------------------------------------------------------- time

    // Sometimes the token of the nasty channels misbehaves in a payout.
    function _mood(uint256 seed) internal {
        uint8[13] memory modes = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12];
        IToken(nasty).set_mode(modes[_draw(seed, 13)]);
    }

    /// Let time pass: a little, or to the second before, at or after something that is going to happen.
    function travel(uint256 seed) external timed {
        uint256 kind = _draw(seed, 6);
        (uint256 c,) = _pick(seed, kind < 3 ? 2 : 31);
        uint256 to = clock + _draw(seed, 600);
        if (kind == 3) to = clock + 1;
        if (kind < 3 && ghosts[c].deadline != 0) to = ghosts[c].deadline + _draw(seed, 3) - (kind == 0 ? 1 : 0);
        if (kind == 4) to = _expiry(c, seed) + _draw(seed, 3) - 1;
        if (to > clock && to < 2_100_000_000) clock = to;
        _count("travel");
    }

    // When a lock of the channel's newest state or of its unresolved list expires.
    function _expiry(uint256 c, uint256 seed) private returns (uint256) {
        bytes memory list = ghosts[c].rest;
        if (list.length < LOCK && states[c].length != 0) list = states[c][states[c].length - 1].locks;
        if (list.length < LOCK) return clock;
        uint256 at = _draw(seed, list.length / LOCK) * LOCK;
        uint32 expiry;
        assembly ("memory-safe") {
            expiry := shr(224, mload(add(add(list, 32), add(at, 53))))
        }
        return expiry == 0 ? 1 : expiry;
    }
}
