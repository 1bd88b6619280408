"""Graph → .pte, one file per backend. Nothing else in edgeprune imports executorch's compilers."""

from __future__ import annotations

from edgeprune.lowering.program import lower as lower
from edgeprune.lowering.program import lower_for_latency as lower_for_latency
from edgeprune.lowering.quantising import quantise as quantise

__all__ = ["lower", "lower_for_latency", "quantise"]
