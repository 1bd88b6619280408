"""Exact rewrites before partitioning, so that more of the program runs on the delegate.

What falls out of a delegate runs on ExecuTorch's portable kernels, which can cost more than all
that pruning saves, and cuts the program into pieces that hand tensors to each other.
"""

from __future__ import annotations

from edgeprune.rewrites.core import rewritten as rewritten
from edgeprune.rewrites.following import applies as applies
from edgeprune.rewrites.following import as_run as as_run
from edgeprune.rewrites.following import rewrites_of as rewrites_of

__all__ = ["applies", "as_run", "rewrites_of", "rewritten"]
