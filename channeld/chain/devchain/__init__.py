"""`channeld devchain`: a chain of one process for development, the demo and the tests, installed by pip alone.

An Ethereum (Prague rules) behind JSON-RPC over HTTP: `evm` keeps blocks, states and the pool on py-evm, the engine
of eth-tester; `methods` are the `eth_`, `evm_` and `anvil_` calls; `http` speaks HTTP/1.1 on trio by way of h11;
`serve` ties them together and mines. Its money is worthless and its keys are public: see `keys`.

py-evm is used without eth-tester's own layer, which has no fixed chain id, applies a transaction the moment it
arrives (so nothing waits and no fee can be raised), searches every block for a hash, and lacks logs by block hash.
"""

from __future__ import annotations

from channeld.chain.devchain.keys import DEV_BALANCE, DEV_CHAIN_ID, DEV_MNEMONIC, dev_keys
from channeld.chain.devchain.serve import DevChain, serve_devchain

__all__ = ["DEV_BALANCE", "DEV_CHAIN_ID", "DEV_MNEMONIC", "DevChain", "dev_keys", "serve_devchain"]
