"""Vela's estimate of a convolution at many widths: python benchmarks/ethos_u/steps.py

Needs an environment of its own with `pip install -e '.[ethos-u]'`. Nothing is measured.
"""

from __future__ import annotations

from importlib.metadata import version

from edgeprune import load_target
from edgeprune.cost.sampler import Effort
from edgeprune.measuring.vela_kernels import VelaRuns
from edgeprune.records import KernelKey, silent

TARGETS = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")
CHANNELS = (4, 8, 9, 12, 16, 17, 20, 24, 25, 28, 32, 33, 36, 40, 41, 48, 49, 56, 57, 64)
FIXED, SIZE = 32, 14


def conv(c_in: int, c_out: int) -> KernelKey:
    """3x3 on 14x14."""
    attrs = {
        "dilation": (1, 1),
        "groups": 1,
        "kernel": (3, 3),
        "out_channels": c_out,
        "padding": (1, 1, 1, 1),
        "stride": (1, 1),
    }
    return KernelKey("conv", ((1, c_in, SIZE, SIZE),), tuple(sorted(attrs.items())))


def main() -> None:
    print(f"µs of a 3x3 convolution on 14x14, int8, by ethos-u-vela {version('ethos-u-vela')}\n")
    print(f"| | {' | '.join(map(str, CHANNELS))} |\n|---|{'--:|' * len(CHANNELS)}")
    for name in TARGETS:
        runs = VelaRuns(load_target(name))
        ways = {
            f"{FIXED} -> n": [conv(FIXED, n) for n in CHANNELS],
            f"n -> {FIXED}": [conv(n, FIXED) for n in CHANNELS],
        }
        for way, keys in ways.items():
            effort = Effort(seconds=1.0, rounds=1, batch_bytes=1)
            found = [us for _, (us,) in runs.sample(keys, effort, silent)]
            print(f"| {name}, {way} | {' | '.join(f'{us:.1f}' for us in found)} |")


if __name__ == "__main__":
    main()
