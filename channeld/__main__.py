"""`python -m channeld` is the command `channeld`."""

from __future__ import annotations

from channeld.cli.main import main

if __name__ == "__main__":
    main()
