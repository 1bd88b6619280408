"""Zeros among the weights: unstructured masks, which shrink downloads and not latencies."""

from __future__ import annotations

from edgeprune.sparsity import magnitude as magnitude
from edgeprune.sparsity import repeated as repeated
from edgeprune.sparsity.core import check_sparsity as check_sparsity
from edgeprune.sparsity.core import hold as hold
from edgeprune.sparsity.core import masks as masks
from edgeprune.sparsity.core import sparsify as sparsify
from edgeprune.sparsity.core import zero_share as zero_share

__all__ = ["check_sparsity", "hold", "masks", "sparsify", "zero_share"]
