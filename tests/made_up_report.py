"""A small run with every part of a report in it; the numbers are made up."""

from __future__ import annotations

from pathlib import Path

from edgeprune.records import (
    Budget,
    Conditions,
    Layer,
    Measurement,
    Metric,
    Parity,
    Pinned,
    Report,
    Round,
    Side,
    Sparsity,
    Stage,
    Target,
)

CONDITIONS = Conditions(
    device="host",
    cpu="Example CPU @ 2.70GHz",
    runtime="executorch 1.5.1",
    backend="xnnpack",
    dtype="fp32",
    threads=1,
    governor=None,
    frequency_mhz=2700.0,
    temperature_c=None,
    load=0.25,
    date="2025-03-14T10:22:31+00:00",
)


def side(median: float, size: int, value: float) -> Side:
    samples = tuple(median * factor for factor in (0.98, 0.99, 1.0, 1.01, 1.02))
    latency = Measurement(
        path=Path("model.pte"),
        samples_ms=samples,
        cpu_ms=tuple(0.9 * sample for sample in samples),
        median_ms=median,
        p10_ms=samples[0],
        p90_ms=samples[-1],
        interval_ms=(samples[1], samples[3]),
        peak_rss_bytes=0,
        processes=5,
        conditions=CONDITIONS,
    )
    metric = Metric("accuracy", value)
    zeros = 0.0 if value > 98 else 0.5
    compressed = round(size * (0.92 - zeros / 2))
    return Side(latency, size, size // 4, 1_800_000_000, 2_408_448, metric, compressed, zeros)


def made_up_report() -> Report:
    return Report(
        model="torchvision:resnet18",
        target=Target("host", "this machine", "xnnpack", "local", "fp32", 1, "measured"),
        verdict="met",
        reasons=("the whole interval is below 17.50 ms",),
        budget=Budget(speedup=2.0, max_drop=1.0, size_bytes=30_000_000),
        baseline=side(35.0, 46_800_000, 98.25),
        final=side(16.0, 19_200_000, 97.5),
        speedup=2.19,
        speedup_interval=(2.15, 2.23),
        parity=Parity(3.1e-6, 4.4e-7, 64, 1.0),
        stages=(
            Stage("capture", 1.25),
            Stage("prune", 0.5, Metric("accuracy", 61.0)),
            Stage("fine-tune", 118.0, Metric("accuracy", 97.0), "3 epochs"),
        ),
        rounds=(
            Round(17.5, 17.0, 18.9, 21_800_000, "missed"),
            Round(17.5, 17.1, 16.0, 19_200_000, "met"),
        ),
        layers=(
            Layer("conv1", "conv2d", (3, 64), (3, 48), 1800.0, 1400.0),
            Layer("layer1.0.conv1", "conv2d", (64, 128), (48, 72), 2300.0, 1200.5),
            Layer("fc", "linear", (128, 10), (72, 10), 12.0, 8.0),
        ),
        pinned=(Pinned("output", 10, "aten.linear", "reaches the output", "net.py:12"),),
        artifacts={"program": "model.pte", "plan": "plan.json"},
        versions={"edgeprune": "0.1.0", "executorch": "1.5.1"},
        sparsity=Sparsity("magnitude", 0.5, "layer"),
        notes=("No weights were given: a baseline was trained first.",),
    )
