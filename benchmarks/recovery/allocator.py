"""What `fit` saves by keeping freed memory (edgeprune/cli/allocator.py): training in turns with and
without it, each time in a process of its own.

    python benchmarks/recovery/allocator.py [--batches 24] [--repeats 5]

The training is that of scaling.py: ResNet-20 with a teacher on noise of CIFAR's shape, one thread.
Prints seconds of CPU for a batch of 128, pages taken from the system and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from scaling import worker

from edgeprune.cli.allocator import keep_freed_memory

HERE = Path(__file__).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--worker", choices=("kept", "returned"), help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.worker:
        if words.worker == "kept" and not keep_freed_memory():
            sys.exit("not glibc, or its settings are the user's already")
        worker(words.batches, 128)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_minflt, used.ru_maxrss)
        return
    found: dict[str, list[list[float]]] = {"returned": [], "kept": []}
    for _ in range(words.repeats):
        for way, rows in found.items():
            command = [sys.executable, str(HERE), "--worker", way, "--batches", str(words.batches)]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append([float(word) for word in ended.stdout.split()[-4:]])
    print(f"torch {torch.__version__}, {words.repeats} runs of each in turns\n")
    print("| freed memory is | CPU s for a batch | pages, millions | peak, MB |\n|---|---|---|---|")
    for way, rows in found.items():
        cpu = sorted(row[1] / (words.batches - 1) for row in rows)
        pages, peak = (statistics.median(row[i] for row in rows) for i in (2, 3))
        print(
            f"| {way} | {statistics.median(cpu):.3f} ({cpu[0]:.3f}–{cpu[-1]:.3f}) "
            f"| {pages / 1e6:.2f} | {peak / 1024:.0f} |"
        )
    pairs = zip(found["returned"], found["kept"], strict=True)
    ratios = sorted(before[1] / after[1] for before, after in pairs)
    print(
        f"\nratio of CPU time, of runs beside one another: {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f}–{ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
