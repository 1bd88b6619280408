"""What reconstruction costs: wall and CPU seconds and peak memory, on seeded noise.

    python benchmarks/recovery/reconstruct_cost.py [NAME] [--samples 512] [--keep 0.5] [--threads 2]

NAME is a model of torchvision (resnet50 by default) at 224x224 with random weights, half of every
group cut. Accuracy means nothing here; time and memory do not depend on values. Prints one line.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgeprune import capture, channel_groups, plan, prune, score
from edgeprune.data import Data
from edgeprune.recovery.reconstruction import Effort, reconstruct
from edgeprune.surgery import kept_positions


class Noise(Dataset[tuple[Tensor, int]]):
    """Images of noise, made when they are asked for."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, 224, 224, generator=generator), 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="resnet50")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    torch.manual_seed(0)
    model = torchvision.models.get_model(words.name).eval()
    graph = capture(model, (torch.zeros(1, 3, 224, 224),), name=words.name)
    groups = channel_groups(graph)
    chosen = plan(graph, groups, score(graph, groups, "l2"), keep=words.keep)
    small = prune(graph, chosen)
    loader = DataLoader(Noise(words.samples), batch_size=32)
    data = Data("noise", loader, loader, loader, None, None, (3, 224, 224))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began, cpu = time.perf_counter(), time.process_time()
    found = reconstruct(
        graph, small, kept_positions(graph, chosen), data, Effort(samples=words.samples)
    )
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{words.name} at 224x224, {words.samples} samples, {words.keep:g} of the channels kept, "
        f"{words.threads} threads, torch {torch.__version__}: {len(found.layers)} layers in "
        f"{wall:.0f} s ({cpu:.0f} s of CPU), peak memory {peak:.2f} GB ({before:.2f} before)"
    )


if __name__ == "__main__":
    main()
