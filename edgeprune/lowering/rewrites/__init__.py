"""Exact rewrites before partitioning, so that more of the program runs on the delegate.

What falls out of a delegate runs on ExecuTorch's portable kernels, which can cost more than all
that pruning saves, and cuts the program into pieces that hand tensors to each other.
"""

from __future__ import annotations

from edgeprune.lowering.rewrites.core import rewritten as rewritten

__all__ = ["rewritten"]
