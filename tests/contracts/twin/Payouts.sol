// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Base} from "./Base.sol";
import {Disputes} from "./Disputes.sol";
import {IERC20} from "./Interfaces.sol";
import {Signature, Terms} from "./Types.sol";

/// @title Payouts
/// @notice Money in and out: credits, pushes with limited gas, debts, and the payout both sides agree on.
abstract contract Payouts is Disputes {
    // What a payout may burn, and what must be left so that it gets all of it.
    uint256 private constant COIN_GAS = 50_000;
    uint256 private constant COIN_GAS_LEFT = 90_000;
    uint256 private constant TOKEN_GAS = 100_000;
    uint256 private constant TOKEN_GAS_LEFT = 106_000;

    // The terms of a cooperate, in the order in which they are signed.
    struct Agreed {
        uint256 version;
        int256 net;
        uint256 outA;
        uint256 outB;
        uint256 validUntil;
    }

    constructor(address registry, address permit2, uint256 min_period) Base(registry, permit2, min_period) {}

    function _cooperate(
        address token,
        Terms memory terms,
        Agreed memory agreed,
        Signature memory signature,
        Signature memory signatureB
    ) internal {
        bytes32 id = _channelId(token, keccak256(abi.encode(terms)));
        uint256 word = words[id];
        require(word & DEAD == 0, "dead");
        require(agreed.version <= MASK40, "version");
        require(agreed.version > _version(word), "old version");
        require(block.timestamp <= agreed.validUntil, "expired");
        _bothAgree(id, terms, agreed, signature, signatureB);

        (uint256 paidA, uint256 paidB) = _split(word, agreed.net);
        uint256 later = (agreed.version << 40) | (word & MASK40);
        if (paidA > agreed.outA) {
            later |= (paidA - agreed.outA) << 168;
            paidA = agreed.outA;
        }
        if (paidB > agreed.outB) {
            later |= (paidB - agreed.outB) << 80;
            paidB = agreed.outB;
        }
        bool forgiven = false;
        if (_deadline(word) != 0) {
            if (later >> 80 == 0 && word & (FINAL | BEATEN) != BEATEN) {
                forgiven = word & FINAL == 0;
                later |= FINAL | DEAD;
                records[id] = 0;
            } else {
                later |= VOID;
            }
        }
        words[id] = later;
        emit Cooperated(id, later, paidA, paidB);
        if (forgiven) _forgive(id, terms, word, later);
        _pay(token, terms.payout_a, paidA, terms.payout_b, paidB);
    }

    function _bothAgree(
        bytes32 id,
        Terms memory terms,
        Agreed memory agreed,
        Signature memory signature,
        Signature memory signatureB
    ) private view {
        bytes32 digest = _digest(
            keccak256(
                abi.encode(
                    COOPERATE_TYPE, id, agreed.version, agreed.net, agreed.outA, agreed.outB, agreed.validUntil
                )
            )
        );
        address first = terms.participant_a;
        if (signatureB.r != 0) {
            require(_signed(terms.participant_b, digest, signatureB), "signature");
        } else if (msg.sender == first) {
            first = terms.participant_b;
        } else {
            require(msg.sender == terms.participant_b, "signature");
        }
        require(_signed(first, digest, signature), "signature");
    }

    // The unbeaten closer of a channel that both have emptied gets the bond back.
    function _forgive(bytes32 id, Terms memory terms, uint256 word, uint256 later) private {
        address closer = _winner(terms, word, address(0));
        emit Finalized(id, later, closer, terms.close_bond);
        _pushCoin(closer, terms.close_bond);
    }

    function _credit(address token, bytes32 termsHash, uint256 side, uint256 received, bytes32[6] memory memo) internal {
        bytes32 id = _channelId(token, termsHash);
        if (memo[0] != 0) emit Memo(id, memo);
        require(side < 2, "side");
        require(received != 0, "nothing");
        uint256 word = words[id];
        require(_deadline(word) == 0, "not open");
        require(received <= MASK88 - _depositA(word) - _depositB(word), "too much");
        word += received << (side == 0 ? 168 : 80);
        words[id] = word;
        emit Deposited(id, word);
    }

    function _balance(address token) internal view returns (uint256) {
        require(token.code.length != 0, "token");
        return _held(token);
    }

    function _held(address token) private view returns (uint256) {
        return IERC20(token).balanceOf(address(this));
    }

    // Takes from the sender; what counts is what arrives. A token may return nothing, or true.
    function _pull(address token, uint256 amount) internal returns (uint256) {
        uint256 before = _balance(token);
        bytes memory data = abi.encodeCall(IERC20.transferFrom, (msg.sender, address(this), amount));
        bool good = false;
        uint256 size = 0;
        uint256 first = 0;
        assembly ("memory-safe") {
            good := call(gas(), token, 0, add(data, 32), mload(data), 0, 32)
            size := returndatasize()
            if iszero(good) {
                // as it came, whatever it says
                let free := mload(64)
                returndatacopy(free, 0, size)
                revert(free, size)
            }
            first := mload(0)
        }
        if (size != 0) {
            if (size < 32 || first > 1) revert();
            require(first == 1, "transfer");
        }
        return _sub(_held(token), before);
    }

    // What left this contract, whatever the token says about it.
    function _fallen(uint256 before, uint256 later, uint256 most) internal pure returns (uint256) {
        if (later >= before) return 0;
        return _min(before - later, most);
    }

    // The bond first, if it is still apart, and then one push to each side.
    function _payDue(address token, Terms memory terms, Due memory due) internal {
        _pushCoin(due.winner, due.bond);
        _pay(token, terms.payout_a, due.a, terms.payout_b, due.b);
    }

    // Pays, or owes: no receiver can hold up the other side, nor too little gas make a payout fail.
    function _pay(address token, address toA, uint256 amountA, address toB, uint256 amountB) internal {
        if (token == address(0)) {
            _pushCoin(toA, amountA);
            _pushCoin(toB, amountB);
            return;
        }
        if (amountA | amountB == 0) return;
        uint256 held = _held(token);
        if (amountA != 0) held = _pushToken(token, toA, amountA, held);
        if (amountB != 0) _pushToken(token, toB, amountB, held);
    }

    function _pushCoin(address to, uint256 amount) internal {
        if (amount == 0) return;
        require(gasleft() > COIN_GAS_LEFT, "gas");
        if (!_call(to, amount, COIN_GAS, "")) _owe(address(0), to, amount);
    }

    function _pushToken(address token, address to, uint256 amount, uint256 before) private returns (uint256 later) {
        bytes memory data = _transferTo(to, amount);
        require(gasleft() > TOKEN_GAS_LEFT, "gas");
        _call(token, 0, TOKEN_GAS, data);
        later = _held(token);
        uint256 moved = _fallen(before, later, amount);
        if (moved != amount) _owe(token, to, amount - moved);
    }

    function _owe(address token, address owner, uint256 amount) private {
        _owed[token][owner] = _add(_owed[token][owner], amount);
        emit Owed(token, owner, amount);
    }

    function _transferTo(address to, uint256 amount) internal pure returns (bytes memory) {
        return abi.encodeCall(IERC20.transfer, (to, amount));
    }

    // Copies nothing of what comes back, which may be megabytes.
    function _call(address to, uint256 value, uint256 most, bytes memory data) internal returns (bool good) {
        assembly ("memory-safe") {
            good := call(most, to, value, add(data, 32), mload(data), 0, 0)
        }
    }
}
