"""The command line: a file per command, stdout in show.py, stderr in progress.py."""

from __future__ import annotations

from edgeprune.cli.app import main

__all__ = ["main"]
