// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Base} from "./Base.sol";
import {Body, Challenge, Order, Signature, Terms} from "./Types.sol";

/// @title Disputes
/// @notice How a channel closes, is challenged, and what its outcome is. Moves no money.
abstract contract Disputes is Base {
    uint256 private constant LOCK_BYTES = 57;
    uint256 internal constant MAX_LOCK_LIST = 57 * 512;
    uint256 internal constant MAX_SECRETS = 128;
    bytes32 private constant NO_LOCKS = keccak256("");

    // The arguments of close that are not about the channel itself.
    struct Closing {
        uint256 version;
        bytes32 body_hash;
        Signature signature;
        bytes32 salt_other;
        bytes32 salt_own_hash;
    }

    // What going through a lock list adds up to.
    struct Tally {
        uint256 heldA;
        uint256 heldB;
        uint256 paidA;
        uint256 paidB;
        bytes32 seen;
        bytes32 rest;
        bool whole;
    }

    // What the end of a channel pays: each side's money, and the bond as long as it goes to its winner apart.
    struct Due {
        uint256 a;
        uint256 b;
        uint256 bond;
        address winner;
    }

    function _close(address token, Terms memory terms, Closing memory given, Order memory order) internal {
        bytes32 id = _channelId(token, keccak256(abi.encode(terms)));
        uint256 word = words[id];
        require(_deadline(word) == 0, "not open");
        require(msg.value == terms.close_bond, "bond");
        (address other, uint256 flags) = _closer(id, terms, given, order);

        uint256 known = _version(word);
        if (given.version == 0) {
            require(given.body_hash == 0, "no state");
        } else {
            require(given.version <= MASK40, "version");
            require(given.version > known, "old version");
            known = given.version;
            bytes32 state = _stateDigest(id, given.version, given.body_hash);
            require(_signed(other, state, given.signature), "signature");
        }

        uint256 deadline = block.timestamp + _period(terms.challenge_period);
        require(deadline <= MASK32, "too late");
        _closings += 1;
        word = ((word >> 80) << 80) | (known << 40) | (deadline << 8) | flags;
        words[id] = word;
        records[id] = keccak256(abi.encode(given.body_hash, address(0)));
        emit Closed(id, word, given.body_hash, given.salt_other, _closings);
    }

    // Who closes must be a participant and know the other's salt. Returns the other, and the flags of the word.
    function _closer(bytes32 id, Terms memory terms, Closing memory given, Order memory order)
        private
        view
        returns (address other, uint256 flags)
    {
        address closer = msg.sender;
        if (order.valid_until != 0) {
            require(block.timestamp <= order.valid_until, "expired");
            bytes32 hash = keccak256(abi.encode(CLOSE_TYPE, id, given.version, given.body_hash, order.valid_until));
            closer = _signer(_digest(hash), order.signature);
        }
        bytes32 shown = keccak256(abi.encode(given.salt_other));
        bytes32 commitment;
        other = terms.participant_b;
        if (closer == terms.participant_a) {
            commitment = keccak256(abi.encode(given.salt_own_hash, shown));
        } else {
            require(closer == terms.participant_b, "not a participant");
            flags = CLOSER_B;
            other = terms.participant_a;
            commitment = keccak256(abi.encode(shown, given.salt_own_hash));
        }
        require(closer != address(0), "not a participant");
        require(commitment == terms.salt_commitment, "salt");
    }

    // Records the state and returns "", or changes nothing and says why not.
    function _challenge(Challenge memory given) internal returns (string memory) {
        bytes32 id = _channelId(given.token, keccak256(abi.encode(given.terms)));
        uint256 word = words[id];
        if (_deadline(word) == 0) return "not closing";
        if (word & (FINAL | DEAD) != 0) return "final";
        if (given.version > MASK40) return "version";

        address bondTo;
        if (given.payout != address(0)) {
            if (!_delegated(id, word, given)) return "delegation";
            uint256 closedAt = _sub(_deadline(word), _period(given.terms.challenge_period));
            if (_sub(block.timestamp, closedAt) >= given.delay) bondTo = given.payout;
        }

        if (given.version == _version(word) && word & (BEATEN | DELEGATED | VOID) == BEATEN) {
            if (bondTo == address(0)) return "nothing new";
            if (records[id] != keccak256(abi.encode(given.body_hash, address(0)))) return "other body";
        } else if (given.version <= _version(word)) {
            return "old version";
        }
        bytes32 state = _stateDigest(id, given.version, given.body_hash);
        if (!_agrees(given.terms.participant_a, state, given.signature_a)) return "signature";
        if (!_agrees(given.terms.participant_b, state, given.signature_b)) return "signature";

        word = ((word >> 80) << 80) | (given.version << 40) | (_deadline(word) << 8) | (word & CLOSER_B) | BEATEN;
        if (bondTo != address(0)) word |= DELEGATED;
        words[id] = word;
        records[id] = keccak256(abi.encode(given.body_hash, bondTo));
        emit Challenged(id, word, given.body_hash, bondTo);
        return "";
    }

    function _delegated(bytes32 id, uint256 word, Challenge memory given) private view returns (bool) {
        address victim = word & CLOSER_B == 0 ? given.terms.participant_b : given.terms.participant_a;
        bytes32 hash = keccak256(abi.encode(DELEGATION_TYPE, id, given.version, given.payout, given.delay));
        return _signed(victim, _digest(hash), given.delegation);
    }

    // Sending is agreeing: a participant need not sign what it sends itself.
    function _agrees(address who, bytes32 digest, Signature memory signature) private view returns (bool) {
        if (signature.r == 0) return msg.sender == who;
        return _signed(who, digest, signature);
    }

    // Ends a channel by its recorded state.
    function _settle(bytes32 id, address token, Terms memory terms, Body memory body, address bondTo)
        internal
        returns (Due memory due)
    {
        uint256 word = words[id];
        require(_deadline(word) != 0, "not closing");
        require(word & DEAD == 0, "dead");
        if (word & (FINAL | VOID) != FINAL | VOID) _opens(records[id], body, bondTo);

        uint256 held;
        (due.a, due.b, held) = _outcome(word, body);
        bytes32 left = held == 0 ? bytes32(0) : body.locks_hash;
        uint256 later = held | (word & MASK80) | FINAL | DEAD;
        words[id] = later;
        records[id] = left;

        if (word & FINAL == 0) {
            require(block.timestamp > _deadline(word), "too early");
            due.winner = _winner(terms, word, bondTo);
            due.bond = terms.close_bond;
            emit Finalized(id, later, due.winner, due.bond);
        }
        emit Settled(id, later, due.a, due.b, left);
        if (token == address(0)) _joinBond(terms, due);
    }

    // Where the money is coin, a bond goes out with what its winner gets anyway: one push less.
    function _joinBond(Terms memory terms, Due memory due) private pure {
        if (due.winner == terms.payout_a) due.a = _add(due.a, due.bond);
        else if (due.winner == terms.payout_b) due.b = _add(due.b, due.bond);
        else return;
        due.bond = 0;
    }

    // Resolves the recorded locks and adds what they pay to what is due; another list changes nothing. Nor does what is
    // no list of whole locks: the 89 bytes that are hashed into a chain must not count as one.
    function _resolve(bytes32 id, bytes calldata locks, Due memory due) internal {
        if (locks.length % LOCK_BYTES != 0) return;
        bytes32 record = records[id];
        if (record == 0) return;
        uint256 word = words[id];
        Tally memory tally = _tally(locks, record, word);
        if (!tally.whole && tally.seen != record) return;
        if (tally.rest == 0 || tally.heldA + tally.heldB == 0) {
            tally.rest = 0;
            tally.paidA += tally.heldA;
            tally.paidB += tally.heldB;
            tally.heldA = 0;
            tally.heldB = 0;
        }
        word = (tally.heldA << 168) | (tally.heldB << 80) | (word & MASK80);
        words[id] = word;
        records[id] = tally.rest;
        emit LocksResolved(id, word, tally.paidA, tally.paidB, tally.rest);
        due.a = _add(due.a, tally.paidA);
        due.b = _add(due.b, tally.paidB);
    }

    // Reverts unless `body` is what the record says.
    function _opens(bytes32 record, Body memory body, address bondTo) private pure {
        if (record == keccak256(abi.encode(keccak256(abi.encode(body)), bondTo))) return;
        bool blank = body.net == 0 && body.locked_ab == 0 && body.locked_ba == 0 && body.locks_hash == 0
            && body.blind == 0;
        require(blank && record == keccak256(abi.encode(bytes32(0), bondTo)), "other outcome");
    }

    // What the sides get at once, and the deposit fields of a word that holds back the locks.
    function _outcome(uint256 word, Body memory body) private pure returns (uint256 paidA, uint256 paidB, uint256 held) {
        if (word & VOID != 0) return (_depositA(word), _depositB(word), 0);
        (paidA, paidB) = _split(word, body.net);
        if (body.locks_hash != NO_LOCKS && body.locks_hash != 0) {
            uint256 heldA = _min(body.locked_ab, paidA);
            uint256 heldB = _min(body.locked_ba, paidB);
            paidA -= heldA;
            paidB -= heldB;
            held = (heldA << 168) | (heldB << 80);
        }
    }

    // Balances after `net`, clamped to [-depositB, depositA].
    function _split(uint256 word, int256 net) internal pure returns (uint256, uint256) {
        uint256 a = _depositA(word);
        uint256 b = _depositB(word);
        if (net >= 0) {
            uint256 given = _min(uint256(net), a);
            return (a - given, b + given);
        }
        uint256 size;
        unchecked {
            size = 0 - uint256(net); // right for -2**255 too
        }
        uint256 taken = _min(size, b);
        return (a + taken, b - taken);
    }

    // Whose the bond is: the closer's if unbeaten, else the delegate's, else the victim's.
    function _winner(Terms memory terms, uint256 word, address bondTo) internal pure returns (address) {
        bool closerB = word & CLOSER_B != 0;
        bool beaten = word & BEATEN != 0;
        if (beaten && bondTo != address(0)) return bondTo;
        return closerB == beaten ? terms.payout_a : terms.payout_b;
    }

    function _tally(bytes calldata locks, bytes32 record, uint256 word) private view returns (Tally memory tally) {
        tally.heldA = _depositA(word);
        tally.heldB = _depositB(word);
        tally.whole = keccak256(locks) == record;
        for (uint256 at = 0; at + LOCK_BYTES <= locks.length; at += LOCK_BYTES) {
            bytes calldata entry = locks[at:at + LOCK_BYTES];
            if (!tally.whole) tally.seen = keccak256(abi.encodePacked(tally.seen, entry));
            _count(entry, tally);
        }
    }

    // One lock: id 8, direction 1, kind 1, amount 11, key 32, expiry 4.
    function _count(bytes calldata entry, Tally memory tally) private view {
        uint256 expiry = uint32(bytes4(entry[53:57]));
        bytes32 key = keccak256(abi.encode(uint256(uint8(entry[9])), bytes32(entry[21:53])));
        uint256 registered = REGISTRY.registered_at(key);
        bool inTime = registered != 0 && registered <= expiry;
        if (!inTime && block.timestamp <= expiry) {
            tally.rest = keccak256(abi.encodePacked(tally.rest, entry));
            return;
        }
        uint256 amount = uint88(bytes11(entry[10:21]));
        bool fromA = entry[8] == 0;
        if (fromA) {
            amount = _min(amount, tally.heldA);
            tally.heldA -= amount;
        } else {
            amount = _min(amount, tally.heldB);
            tally.heldB -= amount;
        }
        if (fromA != inTime) tally.paidA += amount;
        else tally.paidB += amount;
    }
}
