"""Vela's cycles layer by layer beside its own summary: python benchmarks/ethos_u/run.py

Needs an environment of its own with `pip install -e '.[ethos-u]'`. Nothing is measured: the numbers
are the estimate of Arm's compiler for its Ethos-U NPUs.
"""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version

import torch
from torch import nn

from edgeprune import capture, load_target
from edgeprune.cli.profile_vela import vela_profile
from edgeprune.records import Graph

TARGETS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")
SHOWN = 20
"""Networks of so many layers at most are shown layer by layer."""


def small_cnn() -> Graph:
    """Three convolutions and a classifier on 32x32 images."""
    torch.manual_seed(0)
    layers = (
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )
    return capture(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 32, 32),))


def mobilenet_v2() -> Graph:
    """torchvision's, random weights: they do not change the cycles of dense layers by much."""
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    return capture(mobilenet_v2().eval(), (torch.randn(1, 3, 224, 224),))


MODELS = {"small CNN": small_cnn, "mobilenet_v2": mobilenet_v2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(MODELS), help="one model instead of all")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    print(
        f"Estimates by ethos-u-vela {version('ethos-u-vela')}, executorch {version('executorch')}, "
        f"torch {torch.__version__}, Python {platform.python_version()}; int8, batch 1\n"
    )
    print(
        "| model | target | layers | their cycles | Vela's summary | difference | ms | SRAM, kB |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    layers = []
    for name in [only] if only else MODELS:
        for target in TARGETS:
            found = vela_profile(MODELS[name](), load_target(target))
            print(
                f"| {name} | {target} | {len(found.layers)} | {found.layer_cycles} | "
                f"{found.cycles} | {found.layer_cycles / found.cycles - 1:+.2%} | "
                f"{found.ms:.3f} | {found.sram_bytes / 1000:.0f} |",
                flush=True,
            )
            if len(found.layers) <= SHOWN:
                layers.append((name, target, found))
    for name, target, found in layers:
        print(f"\n## {name} on {target}, layer by layer\n")
        print("| layer | op | cycles | MACs | MACs used |\n|---|---|--:|--:|--:|")
        for layer in found.layers:
            print(
                f"| {layer.name} | {layer.op} | {layer.cycles} | {layer.macs} | "
                f"{layer.utilisation:.0%} |"
            )
        print(f"| together | | {found.layer_cycles} | {sum(x.macs for x in found.layers)} | |")
        print(f"| Vela's summary | | {found.cycles} | | |")


if __name__ == "__main__":
    main()
