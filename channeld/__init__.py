"""channeld: a payment-channel network daemon for EVM chains. Importing it runs nothing."""

__version__ = "0.1.0"
