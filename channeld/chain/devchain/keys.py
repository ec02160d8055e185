"""The funded accounts of the dev chain. DEVELOPMENT KEYS: everyone knows them; never send them anything of value.

They are the first accounts of the well-known test phrase (BIP-39, path m/44'/60'/0'/0/n), the same as those of
anvil and Hardhat, so that a program meant for one runs on the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from channeld.base.keys import Key

DEV_MNEMONIC: Final = "test test test test test test test test test test test junk"
DEV_CHAIN_ID: Final = 31337
DEV_BALANCE: Final = 10_000 * 10**18
"""Wei that each development account starts with."""


@lru_cache(maxsize=4)
def dev_keys(count: int = 10) -> tuple[Key, ...]:
    """The first `count` development keys; m/44'/60'/0'/0/0 comes first."""
    from eth_account.hdaccount.deterministic import HDPath
    from eth_account.hdaccount.mnemonic import Mnemonic

    seed = Mnemonic.to_seed(DEV_MNEMONIC)
    return tuple(Key(bytes(HDPath(f"m/44'/60'/0'/0/{number}").derive(seed))) for number in range(count))
