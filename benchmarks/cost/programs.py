"""The programs that predictions are compared with: ten networks, pruned at random widths.

A plan has a level, drawn from 25 to 100 %; every group keeps a share drawn from 25 points around
it. So the plans of one network differ widely in latency, and their groups from each other. Weights
are random and so are the channels kept: neither changes the time.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgeprune.channels import channel_groups
from edgeprune.graph import capture
from edgeprune.planning import plan
from edgeprune.planning.widths import families, nearest
from edgeprune.records import ChannelGroups, Graph, Scores

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "architectures"))

MODELS = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "resnet18",
    "resnet50",
    "densenet121",
    "shufflenet_v2_x1_0",
    "regnet_y_400mf",
    "squeezenet1_1",
    "resnet56",
)
_LOWEST, _AROUND = 0.25, 0.25
_FLOOR = 0.05


@dataclass(frozen=True)
class Subject:
    """A network that is ready to be pruned."""

    name: str
    graph: Graph
    groups: ChannelGroups


def subject(name: str) -> Subject:
    """One of MODELS (or any other of torchvision's classifiers), its weights random."""
    torch.manual_seed(0)
    if name == "resnet56":
        import resnet_cifar

        model, size = resnet_cifar.resnet56(), 32
    else:
        import torchvision

        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = getattr(torchvision.models, name)(weights=None, **extra)
        size = 299 if name == "inception_v3" else 224
    # As if trained: fresh biases and statistics are all alike, and alike ones are stored once.
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.dim() < 2:
                tensor.add_(0.1 * torch.rand_like(tensor))
    graph = capture(model.eval(), (torch.randn(1, 3, size, size),))
    return Subject(name, graph, channel_groups(graph))


def random_widths(groups: ChannelGroups, seed: int) -> dict[str, int]:
    """The widths of plan number `seed`."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(_LOWEST, 1)
    widths: dict[str, int] = {}
    for family in families(groups):
        wanted = {}
        for group in family:
            low, high = max(level - _AROUND, _FLOOR), min(level + _AROUND, 1)
            wanted[group.name] = rng.uniform(low, high) * group.size
        widths.update(nearest(family, groups.equal_counts, wanted))
    return widths


def pruned(what: Subject, widths: dict[str, int]) -> Graph:
    """The network at `widths`, which channels stay being random."""
    from edgeprune.surgery import prune

    rng = np.random.default_rng(0)
    scores = Scores("random", {g.name: rng.uniform(size=g.size) for g in what.groups.groups})
    return prune(what.graph, plan(what.graph, what.groups, scores, keep=widths))
