"""`python -m edgeprune` is the command `edgeprune`."""

from __future__ import annotations

import sys

from edgeprune.cli import main

if __name__ == "__main__":
    sys.exit(main())
