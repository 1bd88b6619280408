"""How long stages tell how far they are."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """How a long stage tells the outside how far it is. The library itself never prints."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None: ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that says nothing."""
