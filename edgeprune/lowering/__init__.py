"""Graph → .pte, one file per backend. Nothing else in edgeprune imports executorch's compilers."""

from __future__ import annotations

from edgeprune.lowering.backends import ready_backend as ready_backend
from edgeprune.lowering.backends import runs_here as runs_here
from edgeprune.lowering.backends import without_int8 as without_int8
from edgeprune.lowering.program import lower as lower
from edgeprune.lowering.program import lower_for_latency as lower_for_latency
from edgeprune.lowering.program import on_noise as on_noise
from edgeprune.lowering.quantising import quantise as quantise
from edgeprune.lowering.quantising import quantised_before as quantised_before

__all__ = [
    "lower",
    "lower_for_latency",
    "on_noise",
    "quantise",
    "quantised_before",
    "ready_backend",
    "runs_here",
    "without_int8",
]
