"""Graph → .pte, one file per backend. Nothing else in edgeprune imports executorch's compilers."""

from __future__ import annotations

from edgeprune.lowering.program import lower as lower
from edgeprune.lowering.program import lower_for_latency as lower_for_latency
from edgeprune.lowering.quantising import quantise as quantise
from edgeprune.lowering.quantising import quantised_before as quantised_before

__all__ = ["lower", "lower_for_latency", "quantise", "quantised_before"]
