"""edgeprune: prune a PyTorch model to a latency or size budget measured on the device it ships to.

The public names are imported when first used, so that `import edgeprune` (and `edgeprune --help`)
does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.channels import channel_groups as channel_groups
    from edgeprune.graph import capture as capture
    from edgeprune.lowering import lower as lower
    from edgeprune.measuring import measure as measure
    from edgeprune.measuring.kernels import profile as profile
    from edgeprune.pipeline import fit as fit
    from edgeprune.planning import plan as plan
    from edgeprune.recovery import finetune as finetune
    from edgeprune.scoring import score as score
    from edgeprune.sparsity import sparsify as sparsify
    from edgeprune.surgery import mask as mask
    from edgeprune.surgery import prune as prune
    from edgeprune.targets import load_target as load_target

_HOME = {
    "capture": "graph",
    "channel_groups": "channels",
    "score": "scoring",
    "profile": "measuring.kernels",
    "plan": "planning",
    "prune": "surgery",
    "mask": "surgery",
    "sparsify": "sparsity",
    "finetune": "recovery",
    "lower": "lowering",
    "measure": "measuring",
    "fit": "pipeline",
    "load_target": "targets",
}

__version__ = "0.1.0"
__all__ = [
    "capture",
    "channel_groups",
    "finetune",
    "fit",
    "load_target",
    "lower",
    "mask",
    "measure",
    "plan",
    "profile",
    "prune",
    "score",
    "sparsify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgeprune' has no attribute {name!r}")
    value = getattr(import_module(f"edgeprune.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
