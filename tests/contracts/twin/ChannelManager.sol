// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {Payouts} from "./Payouts.sol";
import {IERC3009, IPermit2, ISecretRegistry} from "./Interfaces.sol";
import {Body, Challenge, Deposit, Opening, Order, Signature, Terms} from "./Types.sol";

/// @title ChannelManager, the twin of contracts/ChannelManager.vy
/// @notice Holds the deposits of two-party payment channels and pays them out by the newest state both have signed.
/// @dev Same ABI, logs, reasons and words as the Vyper contract, written anew for another compiler: the tests run both
///      side by side, and it could be deployed should the other compiler turn out to be wrong. The specification is
///      contracts/README.md.
///
///      Vyper reverts without a word where arithmetic overflows and where a list is too long; so does this.
contract ChannelManager is Payouts {
    uint256 private constant MAX_DEPOSITS = 64;
    uint256 private constant MAX_CHALLENGES = 32;

    /// @param registry the SecretRegistry whose times decide locks
    /// @param permit2 the Permit2 of this chain
    /// @param min_period lower bound of the challenge period, seconds
    constructor(address registry, address permit2, uint256 min_period) Payouts(registry, permit2, min_period) {}

    // ---------------------------------------------------------------------------------------- open and top up

    /// @notice Open a channel or add to it, without a memo
    function deposit(address token, bytes32 terms_hash, uint256 side, uint256 amount) external payable alone {
        bytes32[6] memory memo;
        _deposit(token, terms_hash, side, amount, memo);
    }

    /// @notice Open a channel or add to it, for either side; credits what arrives
    function deposit(address token, bytes32 terms_hash, uint256 side, uint256 amount, bytes32[6] memory memo)
        external
        payable
        alone
    {
        _deposit(token, terms_hash, side, amount, memo);
    }

    /// @notice Deposit into many channels of one token, all or none; exactly the sum has to arrive
    function deposit_many(address token, Deposit[] memory deposits) external payable alone {
        if (deposits.length > MAX_DEPOSITS) revert();
        uint256 total = 0;
        for (uint256 i = 0; i < deposits.length; i++) {
            require(deposits[i].amount <= MASK88, "too much");
            total = _add(total, deposits[i].amount);
        }
        if (token == address(0)) {
            require(msg.value == total, "value");
        } else {
            require(msg.value == 0, "value");
            require(_pull(token, total) == total, "transfer");
        }
        for (uint256 i = 0; i < deposits.length; i++) {
            Deposit memory one = deposits[i];
            _credit(token, one.terms_hash, one.side, one.amount, one.memo);
        }
    }

    /// @notice Deposit an owner's money by its signed authorization (EIP-3009)
    function deposit_with_authorization(
        address token,
        bytes32 terms_hash,
        uint256 side,
        uint256 amount,
        bytes32[6] memory memo,
        address owner,
        uint256 valid_after,
        uint256 valid_before,
        bytes32 owner_nonce,
        Signature memory signature
    ) external alone {
        owner_nonce = keccak256(
            abi.encode(_channelId(token, terms_hash), side, keccak256(abi.encode(memo)), owner_nonce)
        );
        amount = _authorized(token, owner, amount, valid_after, valid_before, owner_nonce, signature);
        _credit(token, terms_hash, side, amount, memo);
    }

    /// @notice Deposit an owner's money by its signed permit of Permit2
    function deposit_with_permit2(
        address token,
        bytes32 terms_hash,
        uint256 side,
        uint256 amount,
        bytes32[6] memory memo,
        address owner,
        uint256 nonce,
        uint256 deadline,
        Signature memory signature
    ) external alone {
        bytes32 witness = keccak256(
            abi.encode(WITNESS_TYPE, _channelId(token, terms_hash), side, keccak256(abi.encode(memo)))
        );
        IPermit2.PermitTransferFrom memory permit;
        permit.permitted.token = token;
        permit.permitted.amount = amount;
        permit.nonce = nonce;
        permit.deadline = deadline;
        amount = _permitted(permit, owner, witness, signature);
        _credit(token, terms_hash, side, amount, memo);
    }

    function _deposit(address token, bytes32 terms_hash, uint256 side, uint256 amount, bytes32[6] memory memo) private {
        uint256 received = amount;
        if (token == address(0)) {
            require(msg.value == amount, "value");
        } else {
            require(msg.value == 0, "value");
            received = _pull(token, amount);
        }
        _credit(token, terms_hash, side, received, memo);
    }

    // Has an authorization carried out and returns what arrived.
    function _authorized(
        address token,
        address owner,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        Signature memory signature
    ) private returns (uint256) {
        uint256 before = _balance(token);
        uint8 v = 27;
        if (uint256(signature.vs) > MASK255) v = 28;
        bytes32 s = bytes32(uint256(signature.vs) & MASK255);
        IERC3009(token).receiveWithAuthorization(
            owner, address(this), amount, validAfter, validBefore, nonce, v, signature.r, s
        );
        return _sub(_balance(token), before);
    }

    // Has a permit carried out and returns what arrived.
    function _permitted(
        IPermit2.PermitTransferFrom memory permit, address owner, bytes32 witness, Signature memory signature
    ) private returns (uint256) {
        uint256 before = _balance(permit.permitted.token);
        PERMIT2.permitWitnessTransferFrom(
            permit,
            IPermit2.SignatureTransferDetails(address(this), permit.permitted.amount),
            owner,
            witness,
            WITNESS_TEXT,
            bytes.concat(signature.r, signature.vs)
        );
        return _sub(_balance(permit.permitted.token), before);
    }

    // ------------------------------------------------------------------------------------------- in agreement

    /// @notice Apply a net transfer and pay out what both agreed, sent by a participant
    function cooperate(
        address token,
        Terms memory terms,
        uint256 version,
        int256 net,
        uint256 out_a,
        uint256 out_b,
        uint256 valid_until,
        Signature memory signature
    ) external alone {
        Signature memory none;
        _cooperate(token, terms, Agreed(version, net, out_a, out_b, valid_until), signature, none);
    }

    /// @notice Apply a net transfer and pay out what both agreed; the rest stays deposited
    function cooperate(
        address token,
        Terms memory terms,
        uint256 version,
        int256 net,
        uint256 out_a,
        uint256 out_b,
        uint256 valid_until,
        Signature memory signature,
        Signature memory signature_b
    ) external alone {
        _cooperate(token, terms, Agreed(version, net, out_a, out_b, valid_until), signature, signature_b);
    }

    // ---------------------------------------------------------------------------------------------- in dispute

    /// @notice Start to end a channel alone, as a participant
    function close(
        address token,
        Terms memory terms,
        uint256 version,
        bytes32 body_hash,
        Signature memory signature,
        bytes32 salt_other,
        bytes32 salt_own_hash
    ) external payable alone {
        Order memory order;
        _close(token, terms, Closing(version, body_hash, signature, salt_other, salt_own_hash), order);
    }

    /// @notice Start to end a channel alone, with a participant's signed Close
    function close(
        address token,
        Terms memory terms,
        uint256 version,
        bytes32 body_hash,
        Signature memory signature,
        bytes32 salt_other,
        bytes32 salt_own_hash,
        Order memory order
    ) external payable alone {
        _close(token, terms, Closing(version, body_hash, signature, salt_other, salt_own_hash), order);
    }

    /// @notice Answer a close with a newer state
    function challenge(Challenge memory given) external alone {
        string memory refused = _challenge(given);
        require(bytes(refused).length == 0, refused);
    }

    /// @notice Challenge many closes at once; what challenge would refuse is left out
    /// @return counted bit i is set iff item i counted
    function challenge_many(Challenge[] memory given) external alone returns (uint256 counted) {
        if (given.length > MAX_CHALLENGES) revert();
        for (uint256 i = 0; i < given.length; i++) {
            if (bytes(_challenge(given[i])).length == 0) counted |= 1 << i;
        }
    }

    /// @notice Fix the outcome after the deadline and pay the bond
    function finalize(address token, Terms memory terms, bytes32 body_hash, address bond_to) external alone {
        bytes32 id = _channelId(token, keccak256(abi.encode(terms)));
        uint256 word = words[id];
        require(_deadline(word) != 0, "not closing");
        require(word & (FINAL | DEAD) == 0, "final");
        require(block.timestamp > _deadline(word), "too early");
        require(records[id] == keccak256(abi.encode(body_hash, bond_to)), "other outcome");
        address winner = _winner(terms, word, bond_to);
        word |= FINAL;
        words[id] = word;
        emit Finalized(id, word, winner, terms.close_bond);
        _pushCoin(winner, terms.close_bond);
    }

    /// @notice Open the final state's body and pay both sides, less what locks hold back
    function settle(address token, Terms memory terms, Body memory body, address bond_to) external alone {
        _payDue(token, terms, _settle(_channelId(token, keccak256(abi.encode(terms))), token, terms, body, bond_to));
    }

    /// @notice Pay the settled channel's locks
    function resolve_locks(address token, Terms memory terms, bytes calldata locks, bytes32[] calldata secrets)
        external
        alone
    {
        Opening memory none;
        _resolveLocks(token, terms, locks, secrets, none);
    }

    /// @notice Settle the channel, unless somebody has meanwhile, and pay its locks
    function resolve_locks(
        address token,
        Terms memory terms,
        bytes calldata locks,
        bytes32[] calldata secrets,
        Opening memory opening
    ) external alone {
        _resolveLocks(token, terms, locks, secrets, opening);
    }

    function _resolveLocks(
        address token,
        Terms memory terms,
        bytes calldata locks,
        bytes32[] calldata secrets,
        Opening memory opening
    ) private {
        if (locks.length > MAX_LOCK_LIST || secrets.length > MAX_SECRETS) revert();
        if (secrets.length != 0) REGISTRY.register(secrets);
        bytes32 id = _channelId(token, keccak256(abi.encode(terms)));
        Due memory due;
        if (words[id] & DEAD == 0) {
            require(opening.body.locks_hash != 0, "not settled");
            due = _settle(id, token, terms, opening.body, opening.bond_to);
        }
        _resolve(id, locks, due);
        _payDue(token, terms, due);
    }

    /// @notice Take out what could not be pushed
    /// @return moved what was paid; anything a token did not move stays owed
    function withdraw(address token, address owner, address to) external alone returns (uint256 moved) {
        require(msg.sender == owner || to == owner, "not the owner");
        uint256 amount = _owed[token][owner];
        require(amount != 0, "nothing");
        _owed[token][owner] = 0;
        moved = amount;
        if (token == address(0)) {
            require(_call(to, amount, gasleft(), ""), "transfer");
        } else {
            uint256 before = _balance(token);
            _call(token, 0, gasleft(), _transferTo(to, amount));
            moved = _fallen(before, _balance(token), amount);
            require(moved != 0, "transfer");
            if (moved != amount) _owed[token][owner] = amount - moved;
        }
        emit Withdrawn(token, owner, to, moved);
    }

    // ------------------------------------------------------------------------------------------------- to read

    /// @notice What is stored of a channel; all zero for one that never was
    /// @return deposit_a (once dead: what A's unresolved locks hold)
    /// @return deposit_b (likewise of B)
    /// @return version
    /// @return deadline, 0 while open
    /// @return flags
    /// @return record
    function channel(bytes32 channel_id)
        external
        view
        unlocked
        returns (uint256, uint256, uint256, uint256, uint256, bytes32)
    {
        uint256 word = words[channel_id];
        return (_depositA(word), _depositB(word), _version(word), _deadline(word), word & 255, records[channel_id]);
    }

    /// @notice What could not be pushed to an owner
    function owed(address token, address owner) external view unlocked returns (uint256) {
        return _owed[token][owner];
    }

    /// @notice How many closes there have been
    function closings() external view unlocked returns (uint256) {
        return _closings;
    }
}
