// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

// The campaign: forge calls the handlers in any order with any seed, and asks after each call whether the ghost ledger
// has found something. Each run ends with everybody taking their money out, and one more look at everything.

import {Code} from "./Code.sol";
import {Cheats} from "./Cheats.sol";

contract Invariants {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Cheats private handler;

    function setUp() external {
        handler = new Cheats(Code.plain(), Code.nasty());
    }

    function targetContracts() external view returns (address[] memory all) {
        all = new address[](1);
        all[0] = address(handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory all) {
        bytes4[] memory calls = new bytes4[](19);
        calls[0] = handler.deposit.selector;
        calls[1] = handler.depositMany.selector;
        calls[2] = handler.depositAuthorized.selector;
        calls[3] = handler.depositPermitted.selector;
        calls[4] = handler.cooperate.selector;
        calls[5] = handler.withdraw.selector;
        calls[6] = handler.close.selector;
        calls[7] = handler.challenge.selector;
        calls[8] = handler.challengeMany.selector;
        calls[9] = handler.finalize.selector;
        calls[10] = handler.settle.selector;
        calls[11] = handler.resolve.selector;
        calls[12] = handler.reveal.selector;
        calls[13] = handler.travel.selector;
        calls[14] = handler.advance.selector;
        calls[15] = handler.confuse.selector;
        calls[16] = handler.wrong.selector;
        calls[17] = handler.misname.selector;
        calls[18] = handler.mislist.selector;
        all = new FuzzSelector[](2);
        all[0] = FuzzSelector(address(handler), calls);
        calls = new bytes4[](2);
        calls[0] = handler.noise.selector;
        calls[1] = handler.settleResolve.selector;
        all[1] = FuzzSelector(address(handler), calls);
    }

    function invariant_nothing_is_wrong() external view {
        string memory found = handler.violation();
        require(bytes(found).length == 0, found);
    }

    function afterInvariant() external {
        handler.check();
        handler.drain();
        handler.check();
        handler.report("./counts.jsonl");
        string memory found = handler.violation();
        require(bytes(found).length == 0, found);
    }
}
