"""Graph → .pte, one file per backend. Nothing else in edgeprune imports executorch's compilers."""

from __future__ import annotations

from edgeprune.lowering.program import lower as lower

__all__ = ["lower"]
