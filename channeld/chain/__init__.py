"""Floor 2: the chain as facts in and acts out.

`rpc` asks, `follower` tells blocks as facts and tells them again after a reorg, `sender` brings transactions in,
`bindings` translates by way of web3, `networks` says what is known of each chain, `devchain` is a chain to run on.
"""
