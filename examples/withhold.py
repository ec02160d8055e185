"""A payee that takes the promise of money and never shows its preimage: the node, with that one act left out.

    python examples/withhold.py run --data-dir merchant --passphrase-file FILE

Nobody loses by it: the payment hangs until its lock expires and the payer has its money back.
"""

from __future__ import annotations

from typing import Any

from channeld.cli.main import main
from channeld.node.forwarding import Desk


def _keep_quiet(*_: Any) -> None:
    """Instead of releasing the preimage."""


RELEASES = ("at_once", "_release")
"""In the turn that brings the lock, and afterwards."""

if __name__ == "__main__":
    for name in RELEASES:
        setattr(Desk, name, _keep_quiet)
    main()
