"""What the search minimises, in one unit: 10**-12 of a base unit, so that nothing is rounded.

The cost of a hop is its fee, the risk of money that stays locked, and the doubt whether it has the amount. All three
grow with the amount or stay, which is what makes bounds at a smaller amount bounds.
"""

from __future__ import annotations

from typing import Final

UNIT: Final = 10**12
"""Cost units in one base unit of the token."""
RISK: Final = 25
"""Cost units for each base unit locked for a second: LND's 15e-9 per block of 600 s."""
HOP: Final = 100 * UNIT // 10**6
"""Cost units for each base unit that a hop of others carries: each may be away. Electrum's 100 ppm."""
WEIGHT: Final = 5_000 * UNIT // 10**6
"""Cost units for each base unit and each nat of improbability: half a per cent more is paid to succeed e times as
often. """
