// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Money in by every kind of deposit, out by agreement and by withdrawal.

import {Terms, Body, Signature, Deposit, IToken} from "./Chain.sol";
import {Ghost, Effect} from "./Book.sol";
import {Handler} from "./Handler.sol";
import {Permit} from "./Others.sol";

abstract contract Money is Handler {
    string private constant WITNESS_TEXT =
        "ChannelDeposit witness)ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)"
        "TokenPermissions(address token,uint256 amount)";

    function _memo(uint256 seed) private returns (bytes32[6] memory memo) {
        if (_draw(seed, 2) == 0) memo[_draw(seed, 6)] = bytes32(_draw(seed));
    }

    // The effect of `received` for a side, by the specification.
    function _credited(uint256 c, uint256 side, uint256 received) private returns (Effect memory e) {
        Ghost storage g = ghosts[c];
        e = _same(c);
        e.legit = side < 2 && received != 0 && g.deadline == 0 && g.a + g.b + received <= MOST;
        if (!e.legit) return e;
        e.paidIn = received;
        if (side == 0) e.a += received;
        else e.b += received;
        if (g.drained) _count("refilled");
        g.drained = false;
    }

    function _amount(uint256 seed) private returns (uint256) {
        if (_draw(seed, 20) == 0) return MOST - _draw(seed, 3);
        if (_draw(seed, 20) == 0) return 0;
        return _draw(seed, 1000 ether) >> _draw(seed, 60);
    }

    /// For either side of a channel in any state, by either participant or anyone.
    function deposit(uint256 seed) external timed {
        (uint256 c,) = _pick(seed, _draw(seed, 12) == 0 ? 31 : 1);
        Ghost storage g = ghosts[c];
        uint256 amount = _amount(seed);
        uint256 side = _draw(seed, 30) == 0 ? 2 : _draw(seed, 2);
        uint256 received = amount;
        if (g.token == nasty) {
            uint256 mode = [uint256(0), 1, 4, 8, 3, 13][_draw(seed, 6)];
            IToken(nasty).set_mode(mode);
            if (mode == 4) received -= amount / 10;
            if (mode == 8) received = amount / 2;
            if (mode == 3) received = 0;
        }
        address[3] memory senders = [vm.addr(PAYER), vm.addr(PAYEE), outsider];
        bytes memory data = abi.encodeCall(manager.deposit, (g.token, g.termsHash, side, amount, _memo(seed)));
        Effect memory e = _credited(c, side, received);
        _act(c, senders[_draw(seed, 3)], g.token == COIN ? amount : 0, data, e, "deposit");
    }

    /// Into all live channels of one token at once; every one counts or none does.
    function depositMany(uint256 seed) external timed {
        (uint256 first,) = _pick(seed, 1);
        address token = ghosts[first].token;
        Deposit[] memory list = new Deposit[](2);
        uint256 side = _draw(seed, 2);
        uint256 each = _draw(seed, 10 ether) + 1;
        if (token == nasty) IToken(nasty).set_mode(_draw(seed, 2));
        for (uint256 i; i < 2; ++i) {
            list[i] = Deposit(ghosts[first].termsHash, i == 0 ? side : 1 - side, each + i, _memo(seed));
        }
        Effect memory e = _credited(first, side, each);
        if (e.legit) {
            if (side == 0) e.b += each + 1;
            else e.a += each + 1;
            e.paidIn += each + 1;
            e.legit = e.a + e.b <= MOST;
        }
        bytes memory data = abi.encodeCall(manager.deposit_many, (token, list));
        _act(first, outsider, token == COIN ? 2 * each + 1 : 0, data, e, "deposit_many");
    }

    struct Paper {
        uint256 amount;
        uint256 side;
        bytes32[6] memo;
        uint256 nonce;
        address owner;
        bytes32 id; // of the channel it was made for
        bool lie;
    }

    function _paper(uint256 c, uint256 seed, uint256 key) private returns (Paper memory p) {
        p.amount = _draw(seed, 100 ether);
        p.side = _draw(seed, 2);
        p.memo = _memo(seed);
        p.nonce = _draw(seed);
        p.owner = vm.addr(key);
        p.id = _draw(seed, 4) == 0 ? ghosts[_draw(seed, ghosts.length)].id : ghosts[c].id;
        p.lie = p.id != ghosts[c].id;
    }

    /// By an EIP-3009 authorization; sometimes one that was made for another channel or the other side.
    function depositAuthorized(uint256 seed) external timed {
        (uint256 c,) = _pick(seed, 1);
        if (ghosts[c].token != nasty) return;
        IToken(nasty).set_mode(0);
        Paper memory p = _paper(c, seed, ghosts[c].keyA);
        Signature memory signature = _authorized(p, ghosts[c].keyA);
        if (_draw(seed, 6) == 0) (p.side, p.lie) = (1 - p.side, true);
        Effect memory e = p.lie ? _same(c) : _credited(c, p.side, p.amount);
        bytes memory data = _withAuthorization(ghosts[c].termsHash, p, signature);
        if (_act(c, outsider, 0, data, e, "deposit_with_authorization")) {
            _refused(c, outsider, 0, data, "authorization-again");
        }
    }

    function _authorized(Paper memory p, uint256 key) private view returns (Signature memory) {
        bytes32 nonce = keccak256(abi.encode(p.id, p.side, keccak256(abi.encode(p.memo)), bytes32(p.nonce)));
        bytes32 domain = IToken(nasty).DOMAIN_SEPARATOR();
        return _sign(key, _authorizationDigest(domain, p.owner, p.amount, clock - 1, clock + 1, nonce));
    }

    function _withAuthorization(bytes32 termsHash, Paper memory p, Signature memory signature)
        private
        view
        returns (bytes memory)
    {
        bytes memory head = abi.encode(nasty, termsHash, p.side, p.amount, p.memo);
        bytes memory tail = abi.encode(p.owner, clock - 1, clock + 1, p.nonce, signature);
        return bytes.concat(manager.deposit_with_authorization.selector, head, tail);
    }

    /// By a permit of Permit2; sometimes one that was made for another channel.
    function depositPermitted(uint256 seed) external timed {
        (uint256 c,) = _pick(seed, 1);
        Ghost storage g = ghosts[c];
        if (g.token == COIN) return;
        Paper memory p = _paper(c, seed, g.keyB);
        vm.prank(p.owner);
        if (g.token == plain) IToken(plain).approve(address(permit2), type(uint256).max);
        else IToken(nasty).set_mode(0);
        bytes32 digest = permit2.digest(
            Permit.PermitTransferFrom(Permit.TokenPermissions(g.token, p.amount), p.nonce, clock),
            address(manager),
            _witness(p.id, p.side, p.memo),
            WITNESS_TEXT
        );
        bytes memory head = abi.encode(g.token, g.termsHash, p.side, p.amount, p.memo);
        bytes memory tail = abi.encode(p.owner, p.nonce, clock, _sign(g.keyB, digest));
        bytes memory data = bytes.concat(manager.deposit_with_permit2.selector, head, tail);
        Effect memory e = p.lie ? _same(c) : _credited(c, p.side, p.amount);
        if (_act(c, outsider, 0, data, e, "deposit_with_permit2")) _refused(c, outsider, 0, data, "permit-again");
    }

    // --------------------------------------------------------------------------------------------------- agreement

    struct Deal {
        uint256 version;
        int256 net;
        uint256 outA;
        uint256 outB;
        uint256 until;
    }

    /// Both agree to pay out; honest or garbage, by a participant or by a stranger with both signatures.
    function cooperate(uint256 seed) external timed {
        (uint256 c,) = _pick(seed, _draw(seed, 3) == 0 ? 31 : 1);
        Ghost storage g = ghosts[c];
        Deal memory d = Deal(g.version + _draw(seed, 4), 0, MOST, MOST, clock + _draw(seed, 5));
        if (_draw(seed, 20) == 0) d.until = clock - 1;
        if (g.flags & DEAD != 0 && _draw(seed, 2) == 0) d.version = g.version + 1;
        d.net = int256(_draw(seed)) >> (150 + _draw(seed, 106));
        if (_draw(seed, 2) == 0) {
            d.outA = _draw(seed) >> (160 + _draw(seed, 96));
            d.outB = _draw(seed) >> (160 + _draw(seed, 96));
        }
        Effect memory e = _agreed(c, d);
        (Signature memory a, Signature memory b) =
            _pair(c, _cooperateDigest(g.id, d.version, d.net, d.outA, d.outB, d.until));
        address sender = outsider;
        uint256 who = _draw(seed, 3);
        if (who == 1) (sender, a) = (g.terms.participantA, b);
        if (who == 2) sender = g.terms.participantB;
        if (who != 0) b = Signature(0, 0);
        bytes memory data =
            abi.encodeCall(manager.cooperate, (g.token, g.terms, d.version, d.net, d.outA, d.outB, d.until, a, b));
        uint256 phase = _phase(c);
        _mood(seed);
        if (_act(c, sender, 0, data, e, "cooperate")) {
            if (phase != 1) _count("cooperate-closing");
            g.drained = e.a + e.b == 0 && phase == 1;
            if (e.flags & DEAD != 0) {
                g.rest = "";
                _bury(c);
            }
        }
    }

    function _agreed(uint256 c, Deal memory d) private view returns (Effect memory e) {
        Ghost storage g = ghosts[c];
        e = _same(c);
        e.legit = g.flags & DEAD == 0 && d.version <= MASK40 && d.version > g.version && clock <= d.until;
        if (!e.legit) return e;
        (uint256 a, uint256 b) = _split(g.a, g.b, d.net);
        e.paidA = a < d.outA ? a : d.outA;
        e.paidB = b < d.outB ? b : d.outB;
        e.a = a - e.paidA;
        e.b = b - e.paidB;
        e.version = d.version;
        if (g.deadline == 0) return e;
        bool final_ = g.flags & FINAL != 0;
        if (e.a + e.b == 0 && (final_ || g.flags & BEATEN == 0)) {
            e.flags |= FINAL | DEAD;
            e.record = 0;
            if (!final_) {
                e.winner = g.flags & CLOSER_B != 0 ? g.terms.payoutB : g.terms.payoutA;
                e.bond = g.terms.bond;
            }
        } else {
            e.flags |= VOID;
        }
    }

    // What each has after a net transfer, clamped to what there is.
    function _split(uint256 a, uint256 b, int256 net) internal pure returns (uint256, uint256) {
        if (net > int256(a)) net = int256(a);
        if (net < -int256(b)) net = -int256(b);
        return (uint256(int256(a) - net), uint256(int256(b) + net));
    }

    // -------------------------------------------------------------------------------------------------- withdrawal

    /// What is owed, by the owner to anywhere or by a stranger to the owner; never by a stranger to itself.
    function withdraw(uint256 seed) external timed {
        address token = [COIN, plain, nasty][_draw(seed, 3)];
        address owner = people[_draw(seed, people.length)];
        for (uint256 i; i < people.length && manager.owed(token, owner) == 0; ++i) {
            owner = people[i];
        }
        uint256 amount = manager.owed(token, owner);
        if (token == nasty) IToken(nasty).set_mode([uint256(0), 1, 3, 8][_draw(seed, 4)]);
        uint256 who = _draw(seed, 3);
        address to = who == 0 ? owner : who == 1 ? address(0x51714) : thief;
        address sender = who == 1 ? owner : outsider;
        uint256 before = _balance(token, address(manager));
        vm.prank(sender);
        (bool done,) = address(manager).call{gas: 2_000_000}(abi.encodeCall(manager.withdraw, (token, owner, to)));
        uint256 fallen = before - _balance(token, address(manager));
        _count(done ? "withdraw" : "withdraw-refused");
        if (who == 2) _hold(!done, "a stranger withdrew to itself");
        if (who == 1 && token != nasty && owner != address(manager)) {
            _hold(done == (amount != 0), "I5b: an owner cannot withdraw");
        }
        _hold(manager.owed(token, owner) + fallen == amount, "withdraw: not conserved");
        owing[token] -= fallen;
    }
}
