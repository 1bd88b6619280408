"""Activations of many samples between two steps: in memory up to a limit, on disk beyond it."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from edgeprune.output import serialised


class Shelf:
    """Values by (piece of the samples, key). What does not fit into `limit_bytes` lies in files of
    the system's temporary directory, which go when the shelf is closed."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._values: dict[int, dict[Hashable, Any]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._values.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def pieces(self) -> tuple[int, ...]:
        """The pieces of which anything was put here."""
        return tuple(self._values)

    def take(self, piece: int) -> dict[Hashable, Any]:
        """Everything that is held of a piece; it stays on the shelf."""
        return {
            key: torch.load(value, weights_only=True) if isinstance(value, Path) else value
            for key, value in self._values[piece].items()
        }

    def put(self, piece: int, values: Mapping[Any, Any]) -> None:
        """Hold exactly these values of a piece. Tensors that are held already are not written
        again; the others are stored by themselves, without what they are views of."""
        before = self._values.get(piece, {})
        for key in before.keys() - values.keys():
            self._forget(before[key])
        held: dict[Hashable, Any] = {}
        for key, value in values.items():
            held[key] = before[key] if key in before else self._stored(value)
        self._values[piece] = held

    def _stored(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.clone(memory_format=torch.contiguous_format)
        size = value.numel() * value.element_size()
        if self.held_bytes + size <= self.limit_bytes:
            self.held_bytes += size
            return value
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="edgeprune-")
        self._files += 1
        path = Path(self._folder.name) / f"{self._files}.pt"
        path.write_bytes(serialised(torch.save, value))
        return path

    def _forget(self, value: Any) -> None:
        if isinstance(value, Path):
            value.unlink()
        elif isinstance(value, Tensor):
            self.held_bytes -= value.numel() * value.element_size()
