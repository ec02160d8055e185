// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// The ghost ledger: what each channel must be by the specification, kept beside the contract and compared with it after
// every call. A call goes out through `_act` together with what it has to do; whatever else it does is a violation. The
// first violation is kept in words, for forge's invariant to read: a handler itself never reverts.

import {Terms, Body, IToken} from "./Chain.sol";
import {Signing} from "./Signing.sol";
import {Caller} from "./Others.sol";

/// A state both have signed, with the body opened.
struct State {
    uint256 version;
    Body body;
    bytes32 hash;
    bytes locks;
}

/// A channel as it must be.
struct Ghost {
    address token;
    Terms terms;
    bytes32 termsHash;
    bytes32 id;
    uint256 keyA;
    uint256 keyB;
    bytes32 saltA;
    bytes32 saltB;
    uint256 a;
    uint256 b;
    uint256 version;
    uint256 deadline;
    uint256 flags;
    bytes32 record;
    uint256 state; // index in states + 1 of what is recorded; 0 for none
    address bondTo;
    bytes rest; // unresolved locks
    uint256 chain; // 0: `rest` is the list as signed; else the record is a chain over it
    bool drained; // a cooperate took everything out of the open channel
    uint256 paidIn;
    uint256 paidOut;
}

/// What a call must do to a channel: the fields afterwards, and who gets what.
struct Effect {
    bool legit;
    uint256 a;
    uint256 b;
    uint256 version;
    uint256 deadline;
    uint256 flags;
    bytes32 record;
    uint256 paidA;
    uint256 paidB;
    address winner;
    uint256 bond;
    uint256 paidIn;
}

/// Money before and after a call, from every side: in hands plus owed.
struct Purse {
    uint256 held;
    uint256 coin;
    uint256 a;
    uint256 b;
    uint256 winner;
    uint256 owed; // of the channel's token, to both sides
    uint256 owedCoin; // to whoever gets the bond, if that is not in `owed`
}

abstract contract Book is Signing {
    address internal constant COIN = address(0);
    uint256 internal constant PAYER = 0xA11;
    uint256 internal constant PAYEE = 0xB22;
    uint256 internal constant OUTSIDER = 0xC33;
    uint256 internal constant TOWER = 0xD44;

    uint256 public clock = 1_900_000_000;
    string public violation;
    Ghost[] internal ghosts;
    mapping(uint256 => State[]) internal states;
    mapping(address => uint256) public held; // token -> in all channels
    mapping(address => uint256) public owing; // token -> to everybody
    uint256 public bonds; // posted and not paid yet
    uint256 public closes;
    address internal plain;
    address internal nasty;
    address internal outsider;
    address internal thief;
    address internal towerPurse;
    mapping(string => uint256) public count;
    string[] internal counted;
    uint256 private drawn;

    // ------------------------------------------------------------------------------------------ counting and chance

    function _count(string memory what) internal {
        if (count[what]++ == 0) counted.push(what);
    }

    function _wrong(string memory what) internal {
        if (bytes(violation).length == 0) violation = what;
    }

    function _hold(bool good, string memory what) internal {
        if (!good) _wrong(what);
    }

    // A new number from the fuzzer's seed each time.
    function _draw(uint256 seed) internal returns (uint256) {
        return uint256(keccak256(abi.encode(seed, ++drawn)));
    }

    function _draw(uint256 seed, uint256 below) internal returns (uint256) {
        return _draw(seed) % below;
    }

    // ------------------------------------------------------------------------------------------------------- money

    function _balance(address token, address who) internal view returns (uint256) {
        return token == COIN ? who.balance : IToken(token).balanceOf(who);
    }

    function _wealth(address token, address who) internal view returns (uint256) {
        return _balance(token, who) + manager.owed(token, who);
    }

    function _owedToSides(Ghost storage g) private view returns (uint256 sum) {
        sum = manager.owed(g.token, g.terms.payoutA);
        if (g.terms.payoutB != g.terms.payoutA) sum += manager.owed(g.token, g.terms.payoutB);
    }

    // Whether the bond's receiver is looked at apart from the two sides' money.
    function _apart(Ghost storage g, address winner) private view returns (bool) {
        if (winner == address(0)) return false;
        return g.token != COIN || (winner != g.terms.payoutA && winner != g.terms.payoutB);
    }

    function _purse(Ghost storage g, address winner) private view returns (Purse memory p) {
        p.held = _balance(g.token, address(manager));
        p.coin = address(manager).balance;
        p.a = _wealth(g.token, g.terms.payoutA);
        p.b = _wealth(g.token, g.terms.payoutB);
        if (winner != address(0)) p.winner = _wealth(COIN, winner);
        p.owed = _owedToSides(g);
        if (_apart(g, winner)) p.owedCoin = manager.owed(COIN, winner);
    }

    // What `who` must have got of `token` by the effect.
    function _due(Ghost storage g, Effect memory e, address token, address who) private view returns (uint256 sum) {
        if (token == g.token && who == g.terms.payoutA) sum += e.paidA;
        if (token == g.token && who == g.terms.payoutB) sum += e.paidB;
        if (token == COIN && who == e.winner) sum += e.bond;
    }

    // ------------------------------------------------------------------------------------------------------ acting

    // The effect of a call that changes nothing.
    function _same(uint256 c) internal view returns (Effect memory e) {
        Ghost storage g = ghosts[c];
        e.a = g.a;
        e.b = g.b;
        e.version = g.version;
        e.deadline = g.deadline;
        e.flags = g.flags;
        e.record = g.record;
    }

    // Sends a call about channel `c` and compares everything with what it must do. True iff it did something.
    function _act(uint256 c, address sender, uint256 value, bytes memory data, Effect memory e, string memory what)
        internal
        returns (bool done)
    {
        Ghost storage g = ghosts[c];
        Purse memory before = _purse(g, e.winner);
        bytes32 copied = _copied(g, sender, value, data, e.winner);
        if (value != 0) vm.deal(sender, value);
        vm.prank(sender);
        uint256 gas = gasleft();
        (done,) = address(manager).call{value: value}(data);
        gas -= gasleft();
        if (done != e.legit) _wrong(string.concat(what, e.legit ? ": refused" : ": not refused"));
        if (!done) {
            _count(string.concat(what, "-refused"));
            e = _same(c);
            value = 0;
        } else {
            _count(what);
        }
        _compare(c, e, what);
        _compareMoney(g, e, before, value, what);
        if (copied != 0 && done) _hold(copied == _print(g, e.winner), "I6: a copied call does something else");
        _gas(gas, what);
        _learn(g, e);
    }

    // I6: what the same call does when a stranger sends it first, as a fingerprint; zero if it may not.
    function _copied(Ghost storage g, address sender, uint256 value, bytes memory data, address winner)
        private
        returns (bytes32 print)
    {
        if (sender == thief || sender == outsider || _draw(uint256(g.id), 4) != 0) return 0;
        uint256 snapshot = vm.snapshotState();
        if (value != 0) vm.deal(thief, value);
        uint256 wealth = _wealth(COIN, thief) + (g.token == COIN ? 0 : _wealth(g.token, thief));
        vm.prank(thief);
        (bool done,) = address(manager).call{value: value}(data);
        if (done) print = _print(g, winner);
        bool richer = _wealth(COIN, thief) + (g.token == COIN ? 0 : _wealth(g.token, thief)) > wealth;
        vm.revertToState(snapshot);
        if (print != 0) _count("copied");
        if (richer) _wrong("I6: who copies a call is paid");
    }

    function _print(Ghost storage g, address winner) private view returns (bytes32) {
        (uint256 a, uint256 b, uint256 version, uint256 deadline, uint256 flags, bytes32 record) =
            manager.channel(g.id);
        Purse memory p = _purse(g, winner);
        return keccak256(
            abi.encode(a, b, version, deadline, flags, record, p.held, p.coin, p.a, p.b, p.winner, p.owed, p.owedCoin)
        );
    }

    // The stored word and record, and the rules that hold for every call whatever it is.
    function _compare(uint256 c, Effect memory e, string memory what) private {
        Ghost storage g = ghosts[c];
        (uint256 a, uint256 b, uint256 version, uint256 deadline, uint256 flags, bytes32 record) =
            manager.channel(g.id);
        flags &= 63; // in which form a record of locks is kept is for the record to show
        _hold(a == e.a && b == e.b, string.concat(what, ": deposits"));
        _hold(version == e.version, string.concat(what, ": version"));
        _hold(deadline == e.deadline, string.concat(what, ": deadline"));
        _hold(flags == e.flags, string.concat(what, ": flags"));
        _hold(record == e.record, string.concat(what, ": record"));
        _hold(version >= g.version, "I3: the version fell");
        _hold(g.flags & ~flags & (FINAL | DEAD | BEATEN | DELEGATED) & ~_loosened(g, version) == 0, "I3: a flag fell");
        _hold(g.deadline == 0 || deadline == g.deadline, "I7: the deadline moved");
        _hold(deadline <= clock + MAX_PERIOD, "I7: the deadline is too far");
        if (g.flags & DEAD != 0) {
            _hold(version == g.version && a <= g.a && b <= g.b, "I3: a dead channel changed");
        }
        _hold(g.deadline == 0 || e.paidIn == 0, "a closing channel took money");
    }

    // A newer state by a challenge without a delegation drops the old one's.
    function _loosened(Ghost storage g, uint256 version) private view returns (uint256) {
        return version > g.version ? DELEGATED : 0;
    }

    // I1, I2: nothing is made or lost, and everyone gets what is theirs, in hand or owed.
    function _compareMoney(Ghost storage g, Effect memory e, Purse memory before, uint256 value, string memory what)
        private
    {
        address token = g.token;
        Purse memory p = _purse(g, e.winner);
        bool posted = g.deadline == 0 && e.deadline != 0;
        owing[token] = owing[token] + p.owed - before.owed;
        owing[COIN] = owing[COIN] + p.owedCoin - before.owedCoin;
        bonds = bonds + (posted ? g.terms.bond : 0) - e.bond;
        held[token] = held[token] + e.a + e.b - g.a - g.b;
        _hold(g.a + g.b + e.paidIn == e.a + e.b + e.paidA + e.paidB, "I2: the effect itself does not balance");
        if (token != nasty) {
            bool right = p.a == before.a + _due(g, e, token, g.terms.payoutA);
            _hold(right || g.terms.payoutA == address(manager), string.concat(what, ": A's money"));
            right = p.b == before.b + _due(g, e, token, g.terms.payoutB);
            _hold(right || g.terms.payoutB == address(manager), string.concat(what, ": B's money"));
        }
        if (_apart(g, e.winner) && e.winner != address(manager)) {
            _hold(p.winner == before.winner + _due(g, e, COIN, e.winner), string.concat(what, ": the bond"));
        }
        uint256 paid = e.paidA + e.paidB;
        uint256 coinOut = e.bond + (token == COIN ? paid : 0);
        uint256 coinOwed = p.owedCoin - before.owedCoin + (token == COIN ? p.owed - before.owed : 0);
        _hold(p.coin + coinOut == before.coin + value + coinOwed, string.concat(what, ": coin is not conserved"));
        if (token != COIN) {
            bool kept = p.held + paid == before.held + e.paidIn + p.owed - before.owed;
            _hold(kept, string.concat(what, ": the token is not conserved"));
        }
        _hold(p.coin == held[COIN] + owing[COIN] + bonds, "I1: coin is not what is held and owed");
    }

    address[] internal people; // whoever may be owed something

    function _gas(uint256 gas, string memory what) private {
        bytes32 name = keccak256(bytes(what));
        // I9: no list is looked at, however many locks a state holds
        if (name == keccak256("close")) _hold(gas < 130_000, "I9: gas of close");
        if (name == keccak256("challenge")) _hold(gas < 110_000, "I9: gas of challenge");
    }

    function _learn(Ghost storage g, Effect memory e) private {
        g.a = e.a;
        g.b = e.b;
        g.version = e.version;
        g.deadline = e.deadline;
        g.flags = e.flags;
        g.record = e.record;
        g.paidIn += e.paidIn;
        g.paidOut += e.paidA + e.paidB;
    }

    // A call that must not do anything at all, said or unsaid.
    function _refused(uint256 c, address sender, uint256 value, bytes memory data, string memory what) internal {
        Effect memory e = _same(c);
        _act(c, sender, value, data, e, what);
    }

    // Everything of a channel against the contract, once more, and the sums.
    function check() external {
        uint256[3] memory sums;
        for (uint256 c; c < ghosts.length; ++c) {
            Ghost storage g = ghosts[c];
            (uint256 a, uint256 b, uint256 version, uint256 deadline, uint256 flags, bytes32 record) =
                manager.channel(g.id);
            bool same = a == g.a && b == g.b && version == g.version && deadline == g.deadline;
            _hold(same && flags & 63 == g.flags && record == g.record, "I3: another channel's call changed this one");
            _hold(g.paidIn == g.paidOut + g.a + g.b, "I2: in is not out and held");
            sums[g.token == COIN ? 0 : g.token == plain ? 1 : 2] += a + b;
        }
        for (uint256 i; i < people.length; ++i) {
            sums[0] += manager.owed(COIN, people[i]);
            sums[1] += manager.owed(plain, people[i]);
            sums[2] += manager.owed(nasty, people[i]);
            if (people[i].code.length > 0) _innocent(people[i]);
        }
        _hold(address(manager).balance == sums[0] + bonds, "I1: coin");
        _hold(IToken(plain).balanceOf(address(manager)) == sums[1] + stray, "I1: token");
        _hold(IToken(nasty).balanceOf(address(manager)) == sums[2], "I1: nasty token");
        _hold(manager.closings() == closes, "closings");
    }

    uint256 internal stray; // sent to the manager by mistake
    mapping(address => bool) internal caller;

    function _innocent(address who) private {
        if (caller[who]) _hold(!Caller(payable(who)).worked(), "the manager was entered again");
    }
}
