"""How much faster training is with two processes than with one, one thread each.

    python benchmarks/recovery/scaling.py [--batches 40] [--batch-size 128] [--processes 2]

Trains ResNet-20 with a teacher on noise of CIFAR's shape, in turns with one process and with
several on this machine (torchrun, gloo), and prints images per second and the efficiency: the
speed-up over the number of processes. Where other programs use the same cores, that tells little:
so it also prints the efficiency by CPU time, what one process spends over what all of them spend
together, which is the efficiency where every process has a core of its own and they end together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "architectures"))

from edgeprune import capture, ranks  # noqa: E402
from edgeprune.data import Data  # noqa: E402
from edgeprune.data.images import Loading, Look, kept_loader  # noqa: E402
from edgeprune.records import Recipe  # noqa: E402
from edgeprune.recovery.session import TrainingSession  # noqa: E402
from edgeprune.recovery.training import train  # noqa: E402


def worker(batches: int, batch_size: int) -> None:
    """Train; the first process prints the seconds that the batches after the first took."""
    import resnet_cifar

    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    generator = torch.Generator().manual_seed(0)
    count = batches * batch_size
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    look = Look((3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    how = Loading(look, batch_size, 0)
    loader = kept_loader(pixels, labels, True, how)
    few = kept_loader(pixels[:batch_size], labels[:batch_size], False, how)
    data = Data("noise", loader, few, few, None, 10, (3, 32, 32))
    torch.manual_seed(0)
    graph = capture(resnet_cifar.resnet20().eval(), (torch.zeros(1, 3, 32, 32),))
    times: list[tuple[float, float]] = []

    def tell(stage: str, done: int, total: int, note: str = "") -> None:
        times.append((time.perf_counter(), time.process_time()))

    session = TrainingSession(progress=tell)
    train(graph, data, Recipe(epochs=1), teacher=graph.module(), session=session)
    wall, cpu = (end - start for start, end in zip(times[0], times[batches - 1], strict=True))
    (cpu,) = ranks.added([cpu])
    if ranks.is_first():
        print(wall, cpu)
    if dist.is_initialized():
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.worker:
        worker(words.batches, words.batch_size)
        return
    seconds: dict[int, list[float]] = {1: [], words.processes: []}
    spent: dict[int, list[float]] = {1: [], words.processes: []}
    for _ in range(words.repeats):
        for processes, found in seconds.items():
            started = ["-m", "torch.distributed.run", "--standalone",
                       f"--nproc-per-node={processes}"]  # fmt: skip
            command = [sys.executable, *started, str(HERE), "--worker",
                       "--batches", str(words.batches),
                       "--batch-size", str(words.batch_size)]  # fmt: skip
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            ended = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
            wall, cpu = map(float, ended.stdout.split()[-2:])
            found.append(wall)
            spent[processes].append(cpu)
    images = (words.batches - 1) * words.batch_size
    for processes, found in seconds.items():
        rates = sorted(images / s for s in found)
        print(
            f"{processes} process(es): {statistics.median(rates):.0f} images/s "
            f"({rates[0]:.0f}–{rates[-1]:.0f}, {len(rates)} runs)"
        )
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[words.processes])
    by_cpu = statistics.median(spent[1]) / statistics.median(spent[words.processes])
    print(
        f"speed-up {ratio:.2f}, efficiency {ratio / words.processes:.0%} by the clock on the wall, "
        f"{by_cpu:.0%} by CPU time; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the "
        f"end, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
