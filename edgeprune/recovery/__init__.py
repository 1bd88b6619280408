"""Getting the accuracy back after a cut, cheap before dear."""

from __future__ import annotations

from edgeprune.recovery.training import finetune as finetune

__all__ = ["finetune"]
