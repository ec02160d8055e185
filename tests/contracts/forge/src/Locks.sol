// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// What is left after a settlement: locks, and the registry that decides them.

import {Body, Opening, ISettling} from "./Chain.sol";
import {Ghost, Effect} from "./Book.sol";
import {Disputes} from "./Disputes.sol";

abstract contract Locks is Disputes {
    mapping(bytes32 => uint256) private fate; // I4: keccak(channel, place in the list) -> 1 claimed, 2 refunded

    /// Show a few secrets or scalars; the first time stays.
    function reveal(uint256 seed) external timed {
        uint256 i = _draw(seed, SECRETS);
        bytes32[] memory secrets = new bytes32[](1);
        uint256[] memory scalars = new uint256[](1);
        secrets[0] = _secret(i);
        scalars[0] = _scalar(i);
        bool point = _draw(seed, 2) == 0;
        bytes32 value = point ? bytes32(uint256(uint160(vm.addr(scalars[0])))) : sha256(abi.encode(secrets[0]));
        bytes32 key = keccak256(abi.encode(point ? 2 : 1, value));
        uint256 before = registry.registered_at(key);
        vm.prank(outsider);
        if (point) registry.register_points(scalars);
        else registry.register(secrets);
        _hold(registry.registered_at(key) == (before == 0 ? clock : before), "the first registration did not stay");
        _count("reveal");
    }

    function resolve(uint256 seed) external timed {
        (uint256 c,) = _pick(seed, 16);
        _resolve(c, seed);
    }

    struct Entry {
        uint256 direction;
        uint256 kind;
        uint256 amount;
        bytes32 key;
        uint256 expiry;
        bool pays;
        bool waits;
    }

    function _entry(bytes memory list, uint256 at, bytes32 given) private view returns (Entry memory one) {
        uint256 head;
        bytes32 key;
        uint256 expiry;
        assembly ("memory-safe") {
            let start := add(add(list, 32), at)
            head := mload(start)
            key := mload(add(start, 21))
            expiry := shr(224, mload(add(start, 53)))
        }
        one.direction = (head >> 184) & 255;
        one.kind = (head >> 176) & 255;
        one.amount = (head >> 88) & MOST;
        one.key = key;
        one.expiry = expiry;
        uint256 time = registry.registered_at(keccak256(abi.encode(one.kind, key)));
        // a secret that is given along counts as registered now
        if (time == 0 && one.kind == 1 && given != 0 && key == sha256(abi.encode(given))) time = block.timestamp;
        one.pays = time != 0 && time <= expiry;
        one.waits = !one.pays && block.timestamp <= expiry;
    }

    function _resolve(uint256 c, uint256 seed) internal {
        Ghost storage g = ghosts[c];
        bytes32[] memory secrets = new bytes32[](_draw(seed, 2));
        if (secrets.length == 1) secrets[0] = _secret(_draw(seed, SECRETS));
        bytes memory list = g.rest;
        Effect memory e = _same(c);
        e.legit = g.flags & DEAD != 0;
        bytes memory rest;
        bool pending = g.record != 0 && !_lost(c);
        if (e.legit && pending) rest = _resolved(c, list, secrets.length == 1 ? secrets[0] : bytes32(0), e);
        _mood(seed);
        bytes memory data = abi.encodeCall(manager.resolve_locks, (g.token, g.terms, list, secrets));
        if (!_act(c, outsider, 0, data, e, "resolve_locks")) return;
        if (pending) _count(e.record == 0 ? "resolve-all" : "resolve-part");
        if (pending) g.rest = rest;
        if (pending) g.chain = 1;
        _bury(c);
    }

    /// Settle and resolve in one call; without a list of locks there is nothing to do both for.
    function settleResolve(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, 12);
        if (!found) (c,) = _pick(seed, 31);
        Ghost storage g = ghosts[c];
        if (g.flags & DEAD != 0) return;
        (, Body memory body, bytes memory locks) = _recorded(c);
        bytes32[] memory secrets = new bytes32[](1);
        secrets[0] = _secret(_draw(seed, SECRETS));
        Effect memory e = _settled(c, body);
        if (body.locksHash == 0) e = _same(c);
        bool left = e.legit && e.record != 0 && locks.length % LOCK == 0;
        bool lost = e.legit && e.record != 0 && !left;
        bytes memory rest = left ? _resolved(c, locks, secrets[0], e) : bytes("");
        _mood(seed);
        bytes memory data =
            abi.encodeCall(ISettling.resolve_locks, (g.token, g.terms, locks, secrets, Opening(body, g.bondTo)));
        if (!_act(c, outsider, 0, data, e, "settle-and-resolve")) return;
        if (left) _count(e.record == 0 ? "at-once-all" : "at-once-part");
        g.rest = lost ? locks : rest;
        g.chain = lost ? 0 : 1;
        _bury(c);
    }

    // Fills in what resolving must do and returns the locks that stay.
    function _resolved(uint256 c, bytes memory list, bytes32 given, Effect memory e)
        private
        returns (bytes memory rest)
    {
        bytes32 chain;
        for (uint256 at; at + LOCK <= list.length; at += LOCK) {
            Entry memory one = _entry(list, at, given);
            if (one.waits) {
                bytes memory raw = _slice(list, at);
                rest = bytes.concat(rest, raw);
                chain = keccak256(abi.encodePacked(chain, raw));
                continue;
            }
            bool fromA = one.direction == 0;
            uint256 has = fromA ? e.a : e.b;
            uint256 amount = one.amount < has ? one.amount : has;
            if (fromA) e.a -= amount;
            else e.b -= amount;
            if (fromA == one.pays) e.paidB += amount;
            else e.paidA += amount;
            _fated(c, _slice(list, at), one.pays);
        }
        if (rest.length == 0 || e.a + e.b == 0) {
            e.paidA += e.a;
            e.paidB += e.b;
            (e.a, e.b, chain) = (0, 0, 0);
            rest = "";
        }
        e.record = chain;
    }

    // I4: one lock, one outcome. Locks of the same bytes in one list count as one here, so they agree.
    function _fated(uint256 c, bytes memory raw, bool pays) private {
        bytes32 name = keccak256(abi.encode(c, raw));
        uint256 now_ = pays ? 1 : 2;
        _hold(fate[name] == 0 || fate[name] == now_, "I4: claimed and refunded");
        fate[name] = now_;
        _count(pays ? "lock-claimed" : "lock-refunded");
    }

    function _slice(bytes memory list, uint256 at) internal pure returns (bytes memory raw) {
        raw = new bytes(LOCK);
        for (uint256 i; i < LOCK; ++i) {
            raw[i] = list[at + i];
        }
    }

    /// Whatever comes next in the life of a channel: so that many get to their end.
    function advance(uint256 seed) external timed {
        (uint256 c, bool found) = _pick(seed, [uint256(28), 4, 16, 2][_draw(seed, 4)]);
        if (!found) (c,) = _pick(seed, 31);
        uint256 phase = _phase(c);
        if (phase == 1 && ghosts[c].a + ghosts[c].b != 0) _close(c, seed);
        else if (phase == 2) clock = ghosts[c].deadline + 1;
        else if (phase == 4 || phase == 8) _settle(c, seed);
        else if (phase == 16) _resolve(c, seed);
        _count("advance");
    }
}
