// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Ids and digests by contracts/README.md, written down a third time (Vyper and Python are the others), and signatures
// with real keys in the compact form of EIP-2098.

import {Chain, Terms, Signature, Body} from "./Chain.sol";

abstract contract Signing is Chain {
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant STATE = keccak256("State(bytes32 channelId,uint40 version,bytes32 bodyHash)");
    bytes32 private constant COOPERATE =
        keccak256("Cooperate(bytes32 channelId,uint40 version,int128 net,uint128 outA,uint128 outB,uint64 validUntil)");
    bytes32 private constant CLOSE =
        keccak256("Close(bytes32 channelId,uint40 version,bytes32 bodyHash,uint64 validUntil)");
    bytes32 private constant DELEGATION =
        keccak256("Delegation(bytes32 channelId,uint40 version,address payout,uint32 delay)");
    bytes32 private constant RECEIVE = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,"
        "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 private constant WITNESS = keccak256("ChannelDeposit(bytes32 channelId,uint8 side,bytes32 memoHash)");

    function _id(address token, bytes32 termsHash) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(manager), token, termsHash));
    }

    function _bodyHash(Body memory body) internal pure returns (bytes32) {
        return keccak256(abi.encode(body.net, body.lockedAB, body.lockedBA, body.locksHash, body.blind));
    }

    function _typed(bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain =
            keccak256(abi.encode(DOMAIN, keccak256("channeld"), keccak256("1"), block.chainid, address(manager)));
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _stateDigest(bytes32 id, uint256 version, bytes32 bodyHash) internal view returns (bytes32) {
        return _typed(keccak256(abi.encode(STATE, id, version, bodyHash)));
    }

    function _cooperateDigest(bytes32 id, uint256 version, int256 net, uint256 outA, uint256 outB, uint256 until)
        internal
        view
        returns (bytes32)
    {
        return _typed(keccak256(abi.encode(COOPERATE, id, version, net, outA, outB, until)));
    }

    function _closeDigest(bytes32 id, uint256 version, bytes32 bodyHash, uint256 until)
        internal
        view
        returns (bytes32)
    {
        return _typed(keccak256(abi.encode(CLOSE, id, version, bodyHash, until)));
    }

    function _delegationDigest(bytes32 id, uint256 version, address payout, uint256 delay)
        internal
        view
        returns (bytes32)
    {
        return _typed(keccak256(abi.encode(DELEGATION, id, version, payout, delay)));
    }

    function _authorizationDigest(
        bytes32 tokenDomain,
        address owner,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce
    ) internal view returns (bytes32) {
        bytes32 inner = keccak256(abi.encode(RECEIVE, owner, address(manager), amount, validAfter, validBefore, nonce));
        return keccak256(abi.encodePacked(hex"1901", tokenDomain, inner));
    }

    function _witness(bytes32 id, uint256 side, bytes32[6] memory memo) internal pure returns (bytes32) {
        return keccak256(abi.encode(WITNESS, id, side, keccak256(abi.encode(memo))));
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return Signature(r, bytes32(uint256(s) | (uint256(v - 27) << 255)));
    }
}
