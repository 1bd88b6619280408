"""The staircase of a kernel's time over its output channels: measured, and drawn as SVG.

    python benchmarks/cost/staircase.py OUT.svg

A pointwise convolution (64 channels in, 14 × 14 pixels) and a depthwise 3 × 3 one, fp32, one
thread, 2 to 66 channels out; the lower quartile of 40 executions in two processes each.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from edgeprune.cost.sampler import Effort, sample
from edgeprune.cost.table import lower_quartile
from edgeprune.cost.tiles import probe, tile_of

CHANNELS = range(2, 67)
WIDTH, HEIGHT, EDGE = 640, 300, 44
COLOURS = {"convolution 1×1": "#1f6feb", "depthwise 3×3": "#d1570d"}


def measured() -> dict[str, list[tuple[int, float]]]:
    """(channels out, µs) of both kernels."""
    keys = {
        "convolution 1×1": {c: probe("conv", c) for c in CHANNELS},
        "depthwise 3×3": {c: probe("dwconv", c) for c in CHANNELS},
    }
    samples: dict[object, tuple[float, ...]] = defaultdict(tuple)
    for _ in range(2):
        everything = [key for line in keys.values() for key in line.values()]
        for key, us in sample(everything, 1, Effort(rounds=20, batch_bytes=2_000_000)):
            samples[key] += us
    for name, line in keys.items():
        times = {key: lower_quartile(samples[key]) for key in line.values()}
        print(f"{name}: steps of {tile_of(list(line.values()), times)} channels")
    return {
        name: [(c, lower_quartile(samples[key])) for c, key in line.items()]
        for name, line in keys.items()
    }


def drawn(lines: dict[str, list[tuple[int, float]]]) -> str:
    """One line per kernel, each as a share of its own largest time."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]

    def x(channels: int) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * channels / CHANNELS[-1]

    parts += [
        f'<line x1="{x(tick):.0f}" x2="{x(tick):.0f}" y1="{EDGE}" y2="{HEIGHT - EDGE}" '
        f'stroke="#ddd"/><text x="{x(tick):.0f}" y="{HEIGHT - EDGE + 16}" '
        f'text-anchor="middle">{tick}</text>'
        for tick in range(0, CHANNELS[-1], 16)
    ]
    for i, (name, line) in enumerate(lines.items()):
        most = max(us for _, us in line)
        points = " ".join(
            f"{x(c):.1f},{HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * us / most:.1f}" for c, us in line
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>'
            f'<text x="{EDGE + 8}" y="{20 + 16 * i}" fill="{COLOURS[name]}">{name}: up to '
            f"{most:.1f} µs</text>"
        )
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">channels out</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawn(measured()), encoding="utf-8")
