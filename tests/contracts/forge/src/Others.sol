// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// Other people's contracts that ours has to live with: receivers that misbehave, and Permit2 as far as ours uses it.

/// Takes no money.
contract Refuser {
    receive() external payable {
        revert("refused");
    }
}

/// Burns all the gas it is given.
contract Burner {
    receive() external payable {
        for (uint256 i;; ++i) {}
    }
}

/// Answers with as much as its gas allows, returned or as the reason of a revert.
contract Bomber {
    bool private immutable REVERTS;

    constructor(bool reverts) {
        REVERTS = reverts;
    }

    receive() external payable {
        bool reverts = REVERTS;
        assembly ("memory-safe") {
            if reverts { revert(0, 60000) }
            return(0, 60000)
        }
    }
}

/// Calls back whoever pays it, with a call it was given, and remembers whether that ever worked.
contract Caller {
    bytes public data;
    bool public worked;
    uint256 public tried;

    function aim(bytes calldata given) external {
        data = given;
    }

    receive() external payable {
        (bool done,) = msg.sender.call(data);
        if (done) worked = true;
        ++tried;
    }
}

/// One transfer by a signature that covers a witness: what of Permit2 the manager relies on.
contract Permit {
    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct SignatureTransferDetails {
        address to;
        uint256 requestedAmount;
    }

    bytes32 private constant TOKEN_PERMISSIONS = keccak256("TokenPermissions(address token,uint256 amount)");
    string private constant STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";

    mapping(address => mapping(uint256 => bool)) public used;

    function digest(PermitTransferFrom memory permit, address spender, bytes32 witness, string memory witnessType)
        public
        view
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                address(this)
            )
        );
        bytes32 inner = keccak256(
            abi.encode(
                keccak256(abi.encodePacked(STUB, witnessType)),
                keccak256(abi.encode(TOKEN_PERMISSIONS, permit.permitted.token, permit.permitted.amount)),
                spender,
                permit.nonce,
                permit.deadline,
                witness
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, inner));
    }

    function permitWitnessTransferFrom(
        PermitTransferFrom memory permit,
        SignatureTransferDetails calldata details,
        address owner,
        bytes32 witness,
        string calldata witnessType,
        bytes calldata signature
    ) external {
        require(block.timestamp <= permit.deadline && details.requestedAmount <= permit.permitted.amount, "permit");
        require(!used[owner][permit.nonce] && signature.length == 64, "nonce or signature");
        used[owner][permit.nonce] = true;
        (bytes32 r, bytes32 vs) = abi.decode(signature, (bytes32, bytes32));
        bytes32 s = bytes32(uint256(vs) & (type(uint256).max >> 1));
        address signer =
            ecrecover(digest(permit, msg.sender, witness, witnessType), uint8(uint256(vs) >> 255) + 27, r, s);
        require(signer == owner && owner != address(0), "signer");
        (bool done, bytes memory out) = permit.permitted.token
            .call(
                abi.encodeWithSignature(
                    "transferFrom(address,address,uint256)", owner, details.to, details.requestedAmount
                )
            );
        require(done && (out.length == 0 || abi.decode(out, (bool))), "transfer");
    }
}
