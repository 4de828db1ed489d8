"""`python -m dealrec` is the command `dealrec`."""

from __future__ import annotations

import sys


def entry() -> None:
    """Run the console command."""
    from pipeline.cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    entry()
